/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"

/*
 * Wraps all secrets of the store anew after a new wrapping was made (store/keyring.h), then has the
 * former one dropped. A thread of its own, which the broker's calls need not wait for. It may be killed at
 * any moment: what was wrapped anew stays so, and the next walk begins at the first record. Of several
 * brokers one works; another one takes over when it has made no progress for a while. Should two work at
 * the same time, they do no harm.
 */
struct rewrap;

/* The broker is unlocked; audit is its log. Both outlive the thread. */
MUST_USE bool rewrap_start(struct broker *broker, struct audit *audit, struct rewrap **out,
                           struct error *err);
void rewrap_stop(struct rewrap **rewrap);

/* This broker has made the new wrapping, so it begins at once. */
void rewrap_begin(struct rewrap *rewrap);

struct rewrap_state {
    uint64_t records;     /* that this broker has looked at since the last walk began */
    struct error problem; /* of the last walk; it is repeated */
};
void rewrap_state(struct rewrap *rewrap, struct rewrap_state *out);
