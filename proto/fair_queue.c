/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/fair_queue.h"

#include "base/secret.h"
#include "base/thread.h"

#include <stdlib.h>
#include <string.h>

struct fair_lane {
    LIST_ENTRY(fair_lane) link;
    TAILQ_ENTRY(fair_lane) turn; /* in the queue's turns, while items wait */
    uint8_t key[FAIR_KEY_LEN];
    size_t holders;
    TAILQ_HEAD(fair_item_list, fair_item) items;
    size_t n, bytes; /* that wait */
    size_t owed;     /* bytes of answers */
};

struct fair_queue {
    pthread_mutex_t lock; /* protects all members, all lanes, and the items' is_waiting */
    pthread_cond_t work;
    LIST_HEAD(fair_lane_list, fair_lane) lanes;
    TAILQ_HEAD(fair_turns, fair_lane) turns; /* lanes with items; the next one first */
    size_t n, bytes, owed;
    bool is_ending;
};

bool fair_queue_new(struct fair_queue **out, struct error *err)
{
    struct fair_queue *queue = calloc(1, sizeof(*queue));

    if (!queue)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the queue of calls");
    LIST_INIT(&queue->lanes);
    TAILQ_INIT(&queue->turns);
    (void)pthread_mutex_init(&queue->lock, NULL);
    condition_init(&queue->work);
    *out = queue;
    return true;
}

void fair_queue_free(struct fair_queue *queue)
{
    if (!queue)
        return;
    (void)pthread_cond_destroy(&queue->work);
    (void)pthread_mutex_destroy(&queue->lock);
    free(queue);
}

/* --- Lanes --- */

static struct fair_lane *find(const struct fair_queue *queue, const uint8_t *key)
{
    struct fair_lane *lane = NULL;

    LIST_FOREACH(lane, &queue->lanes, link)
        if (bytes_are_equal(lane->key, key, FAIR_KEY_LEN))
            return lane;
    return NULL;
}

static struct fair_lane *add(struct fair_queue *queue, const uint8_t *key)
{
    struct fair_lane *lane = calloc(1, sizeof(*lane));

    if (!lane)
        return NULL;
    memcpy(lane->key, key, FAIR_KEY_LEN);
    TAILQ_INIT(&lane->items);
    LIST_INSERT_HEAD(&queue->lanes, lane, link);
    return lane;
}

bool fair_queue_join(struct fair_queue *queue, const uint8_t key[static FAIR_KEY_LEN],
                     struct fair_lane **out, struct error *err)
{
    struct fair_lane *lane = NULL;

    (void)pthread_mutex_lock(&queue->lock);
    lane = find(queue, key);
    if (!lane)
        lane = add(queue, key);
    if (lane)
        lane->holders++;
    (void)pthread_mutex_unlock(&queue->lock);
    if (!lane)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a client");
    *out = lane;
    return true;
}

void fair_queue_hold(struct fair_queue *queue, struct fair_lane *lane)
{
    (void)pthread_mutex_lock(&queue->lock);
    lane->holders++;
    (void)pthread_mutex_unlock(&queue->lock);
}

void fair_queue_leave(struct fair_queue *queue, struct fair_lane *lane)
{
    (void)pthread_mutex_lock(&queue->lock);
    if (--lane->holders == 0) {
        LIST_REMOVE(lane, link);
        free(lane);
    }
    (void)pthread_mutex_unlock(&queue->lock);
}

/* --- Items --- */

static void take_off(struct fair_queue *queue, struct fair_item *item)
{
    struct fair_lane *lane = item->lane;

    TAILQ_REMOVE(&lane->items, item, link);
    item->is_waiting = false;
    lane->n--;
    lane->bytes -= item->bytes;
    queue->n--;
    queue->bytes -= item->bytes;
    if (lane->n == 0)
        TAILQ_REMOVE(&queue->turns, lane, turn);
}

static bool lane_has_room(const struct fair_lane *lane, size_t bytes)
{
    return lane->n < FAIR_LANE_MAX && bytes <= FAIR_LANE_BYTES &&
           lane->bytes <= FAIR_LANE_BYTES - bytes;
}

static bool queue_has_room(const struct fair_queue *queue, size_t bytes)
{
    return queue->n < FAIR_QUEUE_MAX && queue->bytes <= FAIR_QUEUE_BYTES - bytes;
}

static bool makes_room(const struct fair_queue *queue, const struct fair_item *displaced,
                       size_t bytes)
{
    return queue->bytes - displaced->bytes <= FAIR_QUEUE_BYTES - bytes;
}

/* What a lane holds: items count as well as bytes. */
static size_t weight(const struct fair_lane *lane)
{
    return lane->n * (FAIR_LANE_BYTES / FAIR_LANE_MAX) + lane->bytes;
}

/* NULL when no other lane holds more than this one will. */
static struct fair_item *find_displaced(const struct fair_queue *queue,
                                        const struct fair_item *item)
{
    size_t most = weight(item->lane) + FAIR_LANE_BYTES / FAIR_LANE_MAX + item->bytes;
    struct fair_lane *lane = NULL, *found = NULL;

    TAILQ_FOREACH(lane, &queue->turns, turn) {
        if (lane == item->lane || weight(lane) <= most)
            continue;
        most = weight(lane);
        found = lane;
    }
    return found ? TAILQ_LAST(&found->items, fair_item_list) : NULL;
}

static void append(struct fair_queue *queue, struct fair_item *item)
{
    struct fair_lane *lane = item->lane;

    if (lane->n == 0)
        TAILQ_INSERT_TAIL(&queue->turns, lane, turn);
    TAILQ_INSERT_TAIL(&lane->items, item, link);
    item->is_waiting = true;
    lane->n++;
    lane->bytes += item->bytes;
    queue->n++;
    queue->bytes += item->bytes;
    (void)pthread_cond_signal(&queue->work);
}

bool fair_queue_put(struct fair_queue *queue, struct fair_item *item,
                    struct fair_item **out_displaced)
{
    struct fair_item *displaced = NULL;
    bool has_room = false;

    (void)pthread_mutex_lock(&queue->lock);
    has_room = lane_has_room(item->lane, item->bytes);
    if (has_room && !queue_has_room(queue, item->bytes)) {
        displaced = find_displaced(queue, item);
        has_room = displaced && makes_room(queue, displaced, item->bytes);
        if (has_room)
            take_off(queue, displaced);
        else
            displaced = NULL;
    }
    if (has_room)
        append(queue, item);
    (void)pthread_mutex_unlock(&queue->lock);
    *out_displaced = displaced;
    return has_room;
}

bool fair_queue_withdraw(struct fair_queue *queue, struct fair_item *item)
{
    bool was_waiting = false;

    (void)pthread_mutex_lock(&queue->lock);
    was_waiting = item->is_waiting;
    if (was_waiting)
        take_off(queue, item);
    (void)pthread_mutex_unlock(&queue->lock);
    return was_waiting;
}

/* A lane that owes nothing always may: otherwise clients that do not read would shut out all
 * others. */
static bool may_take_a_turn(const struct fair_queue *queue, const struct fair_lane *lane)
{
    if (queue->is_ending || lane->owed == 0)
        return true;
    return lane->owed < FAIR_LANE_OWED_BYTES && queue->owed < FAIR_ALL_OWED_BYTES;
}

/* The lane whose turn it is goes to the end. NULL: nobody may. */
static struct fair_item *next(struct fair_queue *queue)
{
    struct fair_lane *lane = NULL;

    TAILQ_FOREACH(lane, &queue->turns, turn) {
        struct fair_item *item = TAILQ_FIRST(&lane->items);

        if (!may_take_a_turn(queue, lane))
            continue;
        TAILQ_REMOVE(&queue->turns, lane, turn);
        TAILQ_INSERT_TAIL(&queue->turns, lane, turn);
        take_off(queue, item);
        return item;
    }
    return NULL;
}

struct fair_item *fair_queue_take(struct fair_queue *queue)
{
    struct fair_item *item = NULL;

    (void)pthread_mutex_lock(&queue->lock);
    while (!(item = next(queue)) && !(queue->is_ending && queue->n == 0))
        (void)pthread_cond_wait(&queue->work, &queue->lock);
    (void)pthread_mutex_unlock(&queue->lock);
    return item;
}

void fair_queue_end(struct fair_queue *queue)
{
    (void)pthread_mutex_lock(&queue->lock);
    queue->is_ending = true;
    (void)pthread_cond_broadcast(&queue->work);
    (void)pthread_mutex_unlock(&queue->lock);
}

/* --- Answers --- */

void fair_queue_owe(struct fair_queue *queue, struct fair_lane *lane, size_t bytes)
{
    (void)pthread_mutex_lock(&queue->lock);
    lane->owed += bytes;
    queue->owed += bytes;
    (void)pthread_mutex_unlock(&queue->lock);
}

void fair_queue_settle(struct fair_queue *queue, struct fair_lane *lane, size_t bytes)
{
    (void)pthread_mutex_lock(&queue->lock);
    bool was_full = lane->owed >= FAIR_LANE_OWED_BYTES || queue->owed >= FAIR_ALL_OWED_BYTES;

    lane->owed -= bytes;
    queue->owed -= bytes;
    if (was_full)
        (void)pthread_cond_broadcast(&queue->work);
    (void)pthread_mutex_unlock(&queue->lock);
}
