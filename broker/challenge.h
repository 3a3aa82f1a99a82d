/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Nonces for attestation. Nothing is kept for one that was given out, since anybody may ask:
 * it carries its time and a MAC over that and the TLS client key it was made for. Only those that
 * came back are remembered, as long as they would be good. The MAC's key dies with the process, so
 * that a restart makes all of them strangers. Thread-safe.
 */
#define CHALLENGE_LEN      32 /* time 8, random 8, MAC 16 bytes */
#define CHALLENGE_KEY_LEN  32 /* SHA-256 of the client key's SubjectPublicKeyInfo */
#define CHALLENGE_MS       60000u
#define CHALLENGE_USED_MAX 65536u

struct challenges;

/* now_ms: any clock that never goes back, and runs while the machine sleeps. */
MUST_USE bool challenges_new(size_t used_max, uint64_t (*now_ms)(void), struct challenges **out,
                             struct error *err);
void challenges_free(struct challenges **challenges);
#define auto_challenges CLEANUP(challenges_free)

MUST_USE bool challenge_make(struct challenges *challenges,
                             const uint8_t client_key[static CHALLENGE_KEY_LEN],
                             uint8_t out[static CHALLENGE_LEN], struct error *err);

/* Whether challenge_use would take it now: the peer has paid for it when it was made. */
bool challenge_is_open(struct challenges *challenges,
                       const uint8_t client_key[static CHALLENGE_KEY_LEN],
                       const uint8_t nonce[static CHALLENGE_LEN]);

/* Uses it up: true once, for the client it was made for. UNAUTHENTICATED: NonceUnknown, NonceExpired,
 * NonceUsed; RESOURCE_EXHAUSTED when too many were used within their time. */
MUST_USE bool challenge_use(struct challenges *challenges,
                            const uint8_t client_key[static CHALLENGE_KEY_LEN],
                            const uint8_t nonce[static CHALLENGE_LEN], struct error *err);
