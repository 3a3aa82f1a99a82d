/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "broker/entry.h"

#include "keybroker.pb-c.h"

/*
 * Between the broker's structs and protobuf: for the answers, and for the packed form in the store.
 * What comes from a request is checked against the limits of record.h: INVALID_ARGUMENT.
 */

/* NULL when the arena is exhausted. now_ms: for what remains until the format deadline. */
Tdvol__Keybroker__V1__Record *record_to_message(const struct record *r, uint64_t now_ms,
                                                struct arena *arena);

MUST_USE bool record_spec_from_message(const Tdvol__Keybroker__V1__VolumeSpec *in,
                                       struct record_spec *out, struct error *err);

/* node, boot_id and the one change; holder and now_ms are the caller's to set. */
MUST_USE bool record_change_from_message(const Tdvol__Keybroker__V1__ChangeRecordRequest *in,
                                         struct record_change *out, struct error *err);

/* The packed form lies in the arena. */
MUST_USE bool record_pack(const struct record *r, struct arena *arena, uint8_t **out,
                          size_t *out_len, struct error *err);
/* FAILED_PRECONDITION for a record_version not known here; INTERNAL for a damaged one. */
MUST_USE bool record_unpack(const uint8_t *bytes, size_t len, struct record *out,
                            struct error *err);
