/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * The one encoding of records, specs and changes: in the store, in messages, and between the
 * processes of a node. It is the protobuf wire format (messages Record, VolumeSpec and Change of
 * proto/keybroker.proto) in a canonical form, so that equal structs give equal bytes. Canonical
 * means: fields in the order of their numbers, numbers as short as possible, no field that has its
 * default value, no unknown field. The decoder may run as root. It accepts only this form, and
 * writes into structs of fixed size.
 */
#define RECORD_ENCODED_MAX 8064u /* more than any struct record needs */

struct encoded {
    size_t len;
    uint8_t bytes[RECORD_ENCODED_MAX];
};

void record_encode(const struct record *record, struct encoded *out);
bool record_is_equal(const struct record *a, const struct record *b); /* in all that is encoded */
void volume_spec_encode(const struct volume_spec *spec, struct encoded *out);
void record_change_encode(const struct record_change *change, struct encoded *out);

/* INVALID_ARGUMENT names the wrong field. FAILED_PRECONDITION means a record of another version.
 * These functions check the encoding alone: record/check.h checks what the fields say. */
MUST_USE bool record_decode(const uint8_t *bytes, size_t len, struct record *out,
                            struct error *err);
MUST_USE bool volume_spec_decode(const uint8_t *bytes, size_t len, struct volume_spec *out,
                                 struct error *err);
MUST_USE bool record_change_decode(const uint8_t *bytes, size_t len, struct record_change *out,
                                   struct error *err);
