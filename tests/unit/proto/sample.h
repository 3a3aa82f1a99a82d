/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <protobuf-c/protobuf-c.h>

/* Encoded messages written by hand, so that they may be wrong in any way. */
struct wire {
    size_t len;
    uint8_t *bytes; /* owned, may be larger than len */
};
void wire_free(struct wire *w);
#define auto_wire CLEANUP(wire_free)

void wire_raw(struct wire *w, const void *bytes, size_t len);

void wire_tag(struct wire *w, unsigned field, unsigned wire_type);
void wire_varint(struct wire *w, uint64_t value);
void wire_bytes(struct wire *w, unsigned field, const void *bytes, size_t len);
void wire_text(struct wire *w, unsigned field, const char *text);
void wire_long(struct wire *w, unsigned field, size_t len); /* a text of that many bytes */
void wire_entry(struct wire *w, unsigned field, const char *key, const char *value); /* of a map */

char *sample_text(size_t len); /* the caller frees it */

/* A valid message of the type with every field set, lists and maps with two elements. */
void wire_sample(struct wire *w, const ProtobufCMessageDescriptor *type);

/* All services that we know. */
#define SAMPLE_SERVICES 7
extern const ProtobufCServiceDescriptor *const sample_services[SAMPLE_SERVICES];
