/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * The attested sessions: what was proven of each TLS client key, until it expires. A session is
 * the key, not a connection: whoever speaks with it has what it attested. Bounded, thread-safe, in
 * memory alone: after a restart everybody attests again.
 */
#define ATTESTED_KEY_LEN      32 /* SHA-256 of the client key's SubjectPublicKeyInfo */
#define ATTESTED_SESSIONS_MAX 10000u

struct attested_session {
    uint8_t client_key_sha256[ATTESTED_KEY_LEN];
    uint8_t sealing_key_sha256[32]; /* the one key that secrets are sealed to */
    struct tee_claims tee;
    bool has_token, has_owner;
    struct token_claims token;
    struct owner_claims owner;
    uint64_t since_ms, until_ms; /* since 1970 */
};

struct attested_sessions;

/* steady_ms: a clock that never goes back. A session ends by it as well: what sets the other clock
 * back does not make it last. */
MUST_USE bool attested_sessions_new(size_t max, uint64_t (*steady_ms)(void),
                                    struct attested_sessions **out, struct error *err);
void attested_sessions_free(struct attested_sessions **all);
#define auto_attested_sessions CLEANUP(attested_sessions_free)

/* In place of an earlier one of the same key. RESOURCE_EXHAUSTED when there are too many that have
 * not expired. */
MUST_USE bool attested_sessions_put(struct attested_sessions *all,
                                    const struct attested_session *attestation, uint64_t now_ms,
                                    struct error *err);

enum attested_session_state {
    ATTESTED_SESSION_NONE,
    ATTESTED_SESSION_EXPIRED,
    ATTESTED_SESSION_GOOD
};

/* Copies it to out when it is good. One that has expired is forgotten. */
enum attested_session_state attested_sessions_find(struct attested_sessions *all,
                                                   const uint8_t key[static ATTESTED_KEY_LEN],
                                                   uint64_t now_ms, struct attested_session *out);

size_t attested_sessions_count(struct attested_sessions *all); /* with those that expired unseen */
