/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "broker/store.h"

/*
 * How the store keeps secrets: wrapped with the master key (AES-256-GCM, bound to key id and
 * generation). For how secrets travel to a node, see record/sealing.h.
 */

#define SEAL_MASTER_LEN      ((size_t)32) /* bytes; 64 hex digits as text */
#define SEAL_MASTER_TEXT_MAX 66           /* digits, and a line end */

/* Reads 64 hex digits; a line end may follow. INVALID_ARGUMENT says how to make a master key. */
MUST_USE bool seal_parse_master(const struct secret *text, struct secret *out, struct error *err);

/* The mark differs between master keys and reveals nothing else about them. */
MUST_USE bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN],
                        struct error *err);

/* Makes a random secret and wraps it. The caller owns key. */
MUST_USE bool seal_make(const struct secret *master, const struct record_key *key,
                        struct store_key *out, struct error *err);

/* INTERNAL when the secret was not wrapped with this master key, key id and generation. */
MUST_USE bool seal_unwrap(const struct secret *master, const struct store_key *key,
                          struct secret *out, struct error *err);
