/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/certificate.h"

/*
 * A cache of verified PCK chains. All quotes of a platform have the same chain, so the second quote
 * costs two signatures and no path validation. The key is the SHA-256 of the chain's PEM together
 * with the collateral's generation. The size is fixed, and the oldest entry is replaced.
 * Thread-safe.
 */
struct pck_entry {
    EVP_PKEY *key; /* of the leaf */
    struct pck_platform platform;
    struct validity validity;
};

struct pck_cache;
MUST_USE bool pck_cache_new(size_t entries, struct pck_cache **out, struct error *err);
void pck_cache_free(struct pck_cache *cache);

/* On a hit *out owns a reference to the key. */
bool pck_cache_find(struct pck_cache *cache, const uint8_t digest[static 32], uint64_t generation,
                    struct pck_entry *out);
void pck_cache_add(struct pck_cache *cache, const uint8_t digest[static 32], uint64_t generation,
                   const struct pck_entry *entry);
