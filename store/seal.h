/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "store/store.h"

/*
 * What comes from the master key. How the store keeps secrets: wrapped (AES-256-GCM), and bound to
 * lineage, generation and tenant, so that they open for nothing else. For how secrets travel to a
 * node, see record/sealing.h.
 */

#define SEAL_KEY_LEN     ((size_t)32) /* bytes, of each key that is derived or wrapped */
#define SEAL_WRAPPED_LEN 60           /* nonce 12, ciphertext 32, tag 16 */

/* The mark differs between master keys and reveals nothing else about them. */
MUST_USE bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN],
                        struct error *err);

/* One key per purpose (HKDF-SHA256). */
#define SEAL_STORE_RECORDS "tdvol v1 store records" /* store/store_proof.h */
#define SEAL_AUDIT_ROOT    "tdvol v1 audit root"    /* broker/audit_line.h; may be of another key */
#define SEAL_AUDIT_HEAD    "tdvol v1 audit head"    /* wraps the key of the next line */
#define SEAL_WRAPPING      "tdvol v1 wrap"          /* wraps secrets of volumes */
#define SEAL_RING          "tdvol v1 key ring"      /* wraps the ring, see store/ring.h */
MUST_USE bool seal_derive(const struct secret *master, const char *purpose, struct secret *out,
                          struct error *err);

/* Wraps a key of SEAL_KEY_LEN bytes. To open it takes the same key and associated data: otherwise
 * DATA_LOSS. */
MUST_USE bool seal_wrap(const struct secret *key, const struct byte_range *aad,
                        const struct secret *plain, uint8_t out[static SEAL_WRAPPED_LEN],
                        struct error *err);
MUST_USE bool seal_open(const struct secret *key, const struct byte_range *aad,
                        const uint8_t in[static SEAL_WRAPPED_LEN], struct secret *out,
                        struct error *err);

/* Makes a random secret and wraps it with a wrapping key. The caller owns key. */
MUST_USE bool seal_make(const struct secret *wrapping, const char *tenant,
                        const struct record_key *key, struct store_key *out, struct error *err);

/* DATA_LOSS when the secret was not wrapped with this wrapping key, key id, generation and tenant. */
MUST_USE bool seal_unwrap(const struct secret *wrapping, const char *tenant,
                          const struct store_key *key, struct secret *out, struct error *err);

/* Wraps a secret for the same key, generation and tenant again, with another wrapping key. */
MUST_USE bool seal_again(const struct secret *wrapping, const char *tenant,
                         const struct record_key *key, const struct secret *plain,
                         uint8_t out[static STORE_WRAPPED_LEN], struct error *err);
