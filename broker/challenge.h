/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * Nonces for attestation. Any client may ask for a nonce, so the broker keeps no state for a nonce
 * that it gave out. A nonce carries its time and a MAC over this time and the TLS client key that
 * it was made for. Only used nonces are remembered, until they would have expired. The MAC's key
 * lives as long as the process: after a restart every older nonce is unknown. Thread-safe.
 */
#define CHALLENGE_LEN      32 /* time 8, random 8, MAC 16 bytes */
#define CHALLENGE_KEY_LEN  32 /* SHA-256 of the client key's SubjectPublicKeyInfo */
#define CHALLENGE_MS       60000u
#define CHALLENGE_USED_MAX 65536u

struct challenges;

/* now_ms: a clock that never goes back and runs on while the machine sleeps. */
MUST_USE bool challenges_new(size_t used_max, uint64_t (*now_ms)(void), struct challenges **out,
                             struct error *err);
void challenges_free(struct challenges **challenges);
#define auto_challenges CLEANUP(challenges_free)

MUST_USE bool challenge_make(struct challenges *challenges,
                             const uint8_t client_key[static CHALLENGE_KEY_LEN],
                             uint8_t out[static CHALLENGE_LEN], struct error *err);

/* Whether challenge_use would accept the nonce now. Making the nonce has charged the peer's
 * rate. */
bool challenge_is_open(struct challenges *challenges,
                       const uint8_t client_key[static CHALLENGE_KEY_LEN],
                       const uint8_t nonce[static CHALLENGE_LEN]);

/* Uses the nonce up: true only once, and only for the client it was made for. UNAUTHENTICATED:
 * NonceUnknown, NonceExpired, NonceUsed. RESOURCE_EXHAUSTED when too many nonces were used within
 * CHALLENGE_MS. */
MUST_USE bool challenge_use(struct challenges *challenges,
                            const uint8_t client_key[static CHALLENGE_KEY_LEN],
                            const uint8_t nonce[static CHALLENGE_LEN], struct error *err);
