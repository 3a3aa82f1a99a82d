/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/lease_keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A broker that is silent keeps each thread for a while, and the other leases must go on. */
#define THREADS     4u
#define WAITING     512u /* the watcher names again what finds no place */
#define PATIENCE_MS 20000u

enum keeper_state { IDLE = 0, WAITS, RUNS };

struct due {
    enum keeper_state state;
    uint64_t turn; /* of a volume that waits */
    char volume_id[VOLUME_ID_MAX + 1];
};

struct lease_keeper {
    const struct plugin *plugin;
    pthread_t threads[THREADS];
    size_t n_threads;
    atomic_bool is_ending;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint64_t next_turn;
    struct due due[WAITING];
};

static bool is_ending(void *cookie)
{
    const struct lease_keeper *keeper = cookie;

    return atomic_load(&keeper->is_ending);
}

static void tell(const struct lease_keeper *keeper, const char *id, bool done,
                 const struct error *err)
{
    struct health *health = keeper->plugin->health;

    if (done) {
        health_clear(health, id, HEALTH_LEASE_LOST);
        return;
    }
    log_warning("the lease of a volume is not renewed; it is tried again", TEXT("volume", id),
                ERROR_FIELDS(err));
    if (strcmp(err->reason, LEASE_LOST_REASON) == 0)
        health_note(health, id, HEALTH_LEASE_LOST, err->text);
}

static void renew(struct lease_keeper *keeper, const char *id)
{
    const struct workers *workers = &keeper->plugin->workers;
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct worker_answers answers = {
        .keys = keeper->plugin->keys, .operation = "RenewLease", .volume_id = id, .renews = true
    };
    struct block_request *request = block_request_new(&arena, BLOCK_RENEW, id);
    const struct block_run run = { .operation = "RenewLease",
                                   .request = request,
                                   .hooks = &worker_answers_hooks,
                                   .hook_cookie = &answers,
                                   .is_cancelled = is_ending,
                                   .cancel_cookie = keeper };
    struct block_result result = { .already = false };
    struct error err = ERROR_INIT;
    bool done = false;

    if (request) {
        request->deadline_ms = clock_now_ms() + PATIENCE_MS;
        done = workers->run(workers->cookie, &run, &result, &err);
    } else {
        (void)arena_exhausted(&err);
    }
    if (done && !result.already)
        log_info("the volume has its lease back, and goes on", TEXT("volume", id));
    tell(keeper, id, done, &err);
}

/* The one that came first: volumes whose disks hang come again and again. The caller holds the lock. */
static struct due *find(struct lease_keeper *keeper, enum keeper_state state)
{
    struct due *first = NULL;

    for (size_t i = 0; i < WAITING; i++) {
        struct due *due = &keeper->due[i];

        if (due->state == state && (!first || due->turn < first->turn))
            first = due;
    }
    return first;
}

static void *work(void *cookie)
{
    struct lease_keeper *keeper = cookie;

    pthread_mutex_lock(&keeper->lock);
    while (!atomic_load(&keeper->is_ending)) {
        struct due *due = find(keeper, WAITS);

        if (!due) {
            condition_wait_until(&keeper->wake, &keeper->lock, UINT64_MAX);
            continue;
        }
        due->state = RUNS;
        pthread_mutex_unlock(&keeper->lock);
        renew(keeper, due->volume_id);
        pthread_mutex_lock(&keeper->lock);
        due->state = IDLE;
    }
    pthread_mutex_unlock(&keeper->lock);
    return NULL;
}

void lease_keeper_due(struct lease_keeper *keeper, const char *volume_id)
{
    bool is_known = false;

    pthread_mutex_lock(&keeper->lock);
    for (size_t i = 0; i < WAITING && !is_known; i++)
        is_known = keeper->due[i].state != IDLE && strcmp(keeper->due[i].volume_id, volume_id) == 0;
    struct due *place = is_known ? NULL : find(keeper, IDLE);
    if (place) {
        place->state = WAITS;
        place->turn = keeper->next_turn++;
        (void)snprintf(place->volume_id, sizeof(place->volume_id), "%s", volume_id);
        pthread_cond_signal(&keeper->wake);
    }
    pthread_mutex_unlock(&keeper->lock);
}

/* --- life --- */

void lease_keeper_stop(struct lease_keeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    atomic_store(&keeper->is_ending, true);
    pthread_cond_broadcast(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    for (size_t i = 0; i < keeper->n_threads; i++)
        (void)pthread_join(keeper->threads[i], NULL);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    free(keeper);
}

bool lease_keeper_start(const struct plugin *plugin, struct lease_keeper **out, struct error *err)
{
    struct lease_keeper *keeper = calloc(1, sizeof(*keeper));

    if (!keeper)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to renew leases");
    keeper->plugin = plugin;
    pthread_mutex_init(&keeper->lock, NULL);
    condition_init(&keeper->wake);
    for (; keeper->n_threads < THREADS; keeper->n_threads++) {
        if (!thread_start(&keeper->threads[keeper->n_threads], "lease-keeper", work, keeper, err)) {
            lease_keeper_stop(keeper);
            return false;
        }
    }
    *out = keeper;
    return true;
}
