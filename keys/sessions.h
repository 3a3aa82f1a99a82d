/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/attestation.h"

/*
 * The attested sessions with the broker, one per address. One thread makes them one after the
 * other, because a TD makes about one quote per second. For the address in use, the thread makes a
 * session at once and renews it before it ends. For any other address, it makes one when a call
 * wants it. Calls wait for their session, or get the error of the failed attestation. Thread-safe.
 */
struct sessions;

/* How long the thread waits after a failure: the time doubles from first_ms to limit_ms. */
enum setback {
    SETBACK_UNREACHABLE, /* the broker did not answer: most often no quote was made */
    SETBACK_SOON,        /* calls wait for the next attempt */
    SETBACK_REFUSED,
    SETBACK_COUNT
};
struct session_pace {
    uint64_t interval_ms; /* least time after a success, even when the session is lost */
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
    size_t waiting_max; /* calls that wait at the same time; further calls are told to retry */
    struct metrics *metrics;
};

struct session {
    uint64_t number; /* never 0 */
    uint8_t broker_key_sha256[KEY_SHA256_LEN];
};

/* What the options point to must outlive the sessions. */
MUST_USE bool sessions_new(const struct session_options *options, struct sessions **out,
                           struct error *err);
MUST_USE bool sessions_start(struct sessions *sessions, struct error *err);
/* From then on no new session is made, and no call waits. */
void sessions_end(struct sessions *sessions);
/* As sessions_end(), and waits for an attestation that is under way. */
void sessions_stop(struct sessions *sessions);
void sessions_free(struct sessions *sessions); /* stops them; NULL is allowed */

/* Gets a session with routes[i], which is the address in use from then on. Waits until until_ms at
 * most. Fails at once when the last attestation failed and the next one is not near, or when
 * waiting_max calls wait already. UNAVAILABLE when there is no session yet. */
MUST_USE bool sessions_get(struct sessions *sessions, size_t i, uint64_t until_ms,
                           struct session *out, struct error *err);

/* Tells that the broker no longer knows that session, and why. When several calls tell it of the
 * same session, only one new session is made. */
void sessions_lost(struct sessions *sessions, size_t i, uint64_t number, const struct error *why);
