/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/*
 * Between a client and a server on 127.0.0.1: passes bytes on until it is told otherwise. Frozen, it
 * accepts and then is silent, as a machine does whose processes are stopped.
 */
struct relay;

struct relay *relay_start(uint16_t to_port);
uint16_t relay_port(const struct relay *relay);
unsigned relay_accepted(struct relay *relay); /* connections so far */
void relay_freeze(struct relay *relay, int is_frozen);
/* Muted, it passes on what clients say, and throws away what the server answers. */
void relay_mute(struct relay *relay, int is_muted);
void relay_cut(struct relay *relay); /* closes all connections */
void relay_stop(struct relay *relay);
