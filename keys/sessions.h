/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/attestation.h"

/*
 * The attested sessions with the broker, one per address. One thread makes them, one after the
 * other, since a TD makes about one quote per second: at once for the address in use, ahead of
 * their end, and for any other address when a call wants it. Calls wait for it, or are told why it
 * failed. Thread-safe.
 */
struct sessions;

/* How long it is left alone after a failure: doubles from first to limit. */
enum setback {
    SETBACK_UNREACHABLE, /* no quote was made for it */
    SETBACK_SOON,        /* calls wait while it is tried again */
    SETBACK_REFUSED,
    SETBACK_COUNT
};
struct session_pace {
    uint64_t interval_ms; /* after a success, whatever happens to the session */
    struct {
        uint64_t first_ms, limit_ms;
    } setbacks[SETBACK_COUNT];
};
extern const struct session_pace session_pace_default;

struct session_options {
    const struct attestation *attestation;
    const struct broker_route *routes;
    size_t n;
    const struct session_pace *pace;
    size_t waiting_max; /* calls at a time; the others are told to retry */
    struct metrics *metrics;
};

struct session {
    uint64_t number; /* never 0 */
    uint8_t broker_key_sha256[KEY_SHA256_LEN];
};

/* What the options point to must outlive it. */
MUST_USE bool sessions_new(const struct session_options *options, struct sessions **out,
                           struct error *err);
MUST_USE bool sessions_start(struct sessions *sessions, struct error *err);
void sessions_end(struct sessions *sessions);  /* no new one from then on: nobody waits any more */
void sessions_stop(struct sessions *sessions); /* waits for an attestation that is under way, too */
void sessions_free(struct sessions *sessions); /* stopped, or never started; NULL is allowed */

/* A session with routes[i], which is in use from now on. Waits until until_ms at most, and fails at
 * once while nothing new is to be expected, or enough others wait; UNAVAILABLE when it is not there
 * yet. */
MUST_USE bool sessions_get(struct sessions *sessions, size_t i, uint64_t until_ms,
                           struct session *out, struct error *err);

/* The broker no longer knows that session, and said why. All who find out cause one new one. */
void sessions_lost(struct sessions *sessions, size_t i, uint64_t number, const struct error *why);
