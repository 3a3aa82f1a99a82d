/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "broker/store.h"

/*
 * How secrets rest: wrapped under the master key in the store (AES-256-GCM, bound to key id and
 * generation). How they travel is in record/sealing.h.
 */

#define SEAL_MASTER_LEN      ((size_t)32) /* bytes; 64 hex digits as text */
#define SEAL_MASTER_TEXT_MAX 66           /* digits, and a line end */

/* 64 hex digits, perhaps with a line end. INVALID_ARGUMENT says how to make one. */
MUST_USE bool seal_parse_master(const struct secret *text, struct secret *out, struct error *err);

/* What tells one master key from another and nothing else about it. */
MUST_USE bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN],
                        struct error *err);

/* Makes a random secret and wraps it. key is the caller's. */
MUST_USE bool seal_make(const struct secret *master, const struct record_key *key,
                        struct store_key *out, struct error *err);

/* INTERNAL when it was not wrapped under this master key, id and generation. */
MUST_USE bool seal_unwrap(const struct secret *master, const struct store_key *key,
                          struct secret *out, struct error *err);
