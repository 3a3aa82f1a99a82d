/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdatomic.h>
#include <sys/socket.h>

/* The parts of door_check(): what the poller shows of itself, and the look from outside. */
#define DOOR_PULSE_MS 5000u /* without a beat: dead */
#define DOOR_CHECK_MS 4000u /* for the connection of a check */

struct door_pulse {
    atomic_uint_fast64_t beat_ms, accepted;
};
void door_pulse_beat(struct door_pulse *pulse);
void door_pulse_accepted(struct door_pulse *pulse);

/* Where this machine itself reaches a listening socket. */
MUST_USE bool door_check_find(int listening, struct sockaddr_storage *out);

/* See door_check(). */
MUST_USE bool door_check_address(const struct door_pulse *pulse,
                                 const struct sockaddr_storage *address, struct error *err);
