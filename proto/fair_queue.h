/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * Calls that wait for a worker, in one lane for each client. The lanes take turns, so that a client
 * with thousands of calls delays another by one call at most. A client that does not read its
 * answers gets no turn until it has read some. Thread-safe.
 */
#define FAIR_QUEUE_MAX   2048 /* items */
#define FAIR_QUEUE_BYTES ((size_t)8 * 1024 * 1024)
#define FAIR_LANE_MAX    512
#define FAIR_LANE_BYTES  ((size_t)4 * 1024 * 1024)
/* Bytes of answers above which no more calls are taken. The calls that workers have then, and one
 * for each lane that owes nothing, come on top. */
#define FAIR_LANE_OWED_BYTES ((size_t)1024 * 1024)
#define FAIR_ALL_OWED_BYTES  ((size_t)8 * 1024 * 1024)
#define FAIR_KEY_LEN         32

struct fair_queue;
struct fair_lane;

/* What waits. Its owner embeds it and sets lane and bytes. */
struct fair_item {
    TAILQ_ENTRY(fair_item) link;
    struct fair_lane *lane;
    size_t bytes;
    bool is_waiting;
};

MUST_USE bool fair_queue_new(struct fair_queue **out, struct error *err);
void fair_queue_free(struct fair_queue *queue); /* all lanes have been left; NULL is allowed */

/* The lane of this client. Each join needs a leave. */
MUST_USE bool fair_queue_join(struct fair_queue *queue, const uint8_t key[static FAIR_KEY_LEN],
                              struct fair_lane **out, struct error *err);
void fair_queue_hold(struct fair_queue *queue, struct fair_lane *lane); /* as another join */
void fair_queue_leave(struct fair_queue *queue, struct fair_lane *lane);

/* Puts the item at its lane's end. False: the lane, or the queue, has no room. A full queue makes
 * room when another lane has more than this one: it takes off that lane's newest item, which the
 * caller owns then. */
MUST_USE bool fair_queue_put(struct fair_queue *queue, struct fair_item *item,
                             struct fair_item **out_displaced);

/* Takes the item off. False: a worker has it already. */
bool fair_queue_withdraw(struct fair_queue *queue, struct fair_item *item);

/* The next item; waits for it. NULL when the queue has ended and is empty. */
struct fair_item *fair_queue_take(struct fair_queue *queue);
void fair_queue_end(struct fair_queue *queue);

/* An answer waits for being read; it has been read, or thrown away. */
void fair_queue_owe(struct fair_queue *queue, struct fair_lane *lane, size_t bytes);
void fair_queue_settle(struct fair_queue *queue, struct fair_lane *lane, size_t bytes);
