/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * The one encoding of records, specs and changes: what the store keeps, what messages carry, and what
 * passes between the processes of a node. It is the protobuf wire format (messages Record,
 * VolumeSpec and Change of proto/keybroker.proto) in its canonical form, so that equal structs give
 * equal bytes: fields in the order of their numbers, numbers as short as possible, nothing that has
 * its default value, nothing unknown. The decoder accepts this form alone and writes into structs of
 * fixed size: it may run as root.
 */
#define RECORD_ENCODED_MAX 8192u /* more than any struct record needs */

struct encoded {
    size_t len;
    uint8_t bytes[RECORD_ENCODED_MAX];
};

void record_encode(const struct record *record, struct encoded *out);
void volume_spec_encode(const struct volume_spec *spec, struct encoded *out);
void record_change_encode(const struct record_change *change, struct encoded *out);

/* INVALID_ARGUMENT names the field that is wrong; FAILED_PRECONDITION for a record of another
 * version. The struct is as it was encoded, but what it says is not checked: see record/check.h. */
MUST_USE bool record_decode(const uint8_t *bytes, size_t len, struct record *out,
                            struct error *err);
MUST_USE bool volume_spec_decode(const uint8_t *bytes, size_t len, struct volume_spec *out,
                                 struct error *err);
MUST_USE bool record_change_decode(const uint8_t *bytes, size_t len, struct record_change *out,
                                   struct error *err);
