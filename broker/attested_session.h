/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * The attested sessions: what each TLS client key has proven, until the session expires. A session
 * belongs to a key, not to a connection: every connection with that key has its attested claims.
 * The table is bounded, thread-safe and only in memory: after a restart all clients attest again.
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

/* steady_ms: a clock that never goes back. A session also ends by this clock, so that setting the
 * wall clock back does not make it last longer. */
MUST_USE bool attested_sessions_new(size_t max, uint64_t (*steady_ms)(void),
                                    struct attested_sessions **out, struct error *err);
void attested_sessions_free(struct attested_sessions **all);
#define auto_attested_sessions CLEANUP(attested_sessions_free)

/* Replaces an earlier session of the same key. RESOURCE_EXHAUSTED when too many sessions have not
 * expired yet. */
MUST_USE bool attested_sessions_put(struct attested_sessions *all,
                                    const struct attested_session *attestation, uint64_t now_ms,
                                    struct error *err);

enum attested_session_state {
    ATTESTED_SESSION_NONE,
    ATTESTED_SESSION_EXPIRED,
    ATTESTED_SESSION_GOOD
};

/* Copies the session to out when it is valid. An expired session is removed. */
enum attested_session_state attested_sessions_find(struct attested_sessions *all,
                                                   const uint8_t key[static ATTESTED_KEY_LEN],
                                                   uint64_t now_ms, struct attested_session *out);

/* Also counts expired sessions that were not removed yet. */
size_t attested_sessions_count(struct attested_sessions *all);
