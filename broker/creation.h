/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/hpke.h"
#include "broker/judged_call.h"

/*
 * A volume gets another secret (record/record.h, struct record_rotation). The record itself keeps the next
 * secret, wrapped with the master key as all are, until the worker has the new header on the disk: so one
 * compare-and-swap stores it as a key, makes it the record's, and drops the former one.
 */

/* The next secret of a record with a rotation. */
MUST_USE bool rotation_secret(const struct judged_call *s, const struct record *r,
                              struct secret *out, struct error *err);

/* Puts the next secret into an answer to OpenVolume, sealed to the worker's key; for a record without
 * rotation it does nothing. */
MUST_USE bool rotation_seal(const struct judged_call *s, const struct record *r,
                            const uint8_t public_key[static HPKE_PUBLIC_LEN], struct record *told,
                            struct error *err);

/* The key to store with ROTATED, in the call's arena. r: before the change. NULL when it has no rotation:
 * then the change has happened already, or is refused. */
MUST_USE bool rotation_key(const struct judged_call *s, const struct record *r,
                           const struct store_key **out, struct error *err);
