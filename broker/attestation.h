/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * The attested sessions: what was proven of each TLS client key, until it expires. A session is
 * the key, not a connection: whoever speaks with it has what it attested. Bounded, thread-safe, in
 * memory alone: after a restart everybody attests again.
 */
#define ATTESTATION_KEY_LEN 32 /* SHA-256 of the client key's SubjectPublicKeyInfo */
#define ATTESTATIONS_MAX    10000u

struct attestation {
    uint8_t client_key_sha256[ATTESTATION_KEY_LEN];
    uint8_t sealing_key_sha256[32]; /* the one key that secrets are sealed to */
    struct td_claims td;
    bool has_token, has_owner;
    struct token_claims token;
    struct owner_claims owner;
    uint64_t since_ms, until_ms; /* since 1970 */
};

struct attestations;

/* steady_ms: a clock that never goes back. A session ends by it as well: what sets the other clock
 * back does not make it last. */
MUST_USE bool attestations_new(size_t max, uint64_t (*steady_ms)(void), struct attestations **out,
                               struct error *err);
void attestations_free(struct attestations **all);
#define auto_attestations CLEANUP(attestations_free)

/* In place of an earlier one of the same key. RESOURCE_EXHAUSTED when there are too many that have
 * not expired. */
MUST_USE bool attestation_put(struct attestations *all, const struct attestation *attestation,
                              uint64_t now_ms, struct error *err);

enum attestation_state { ATTESTATION_NONE, ATTESTATION_EXPIRED, ATTESTATION_GOOD };

/* Copies it to out when it is good. One that has expired is forgotten. */
enum attestation_state attestation_find(struct attestations *all,
                                        const uint8_t key[static ATTESTATION_KEY_LEN],
                                        uint64_t now_ms, struct attestation *out);

size_t attestation_count(struct attestations *all); /* with those that expired unseen */
