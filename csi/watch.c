/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_MIN_MS 1000u
#define RETRY_MAX_MS 60000u
#define FINISH_MS    (5u * 60 * 1000)

/* A volume whose initialisation is complete, but not finished by a worker yet. */
struct task {
    struct task *next;
    char volume_id[VOLUME_ID_MAX + 1];
    uint64_t at_ms, delay_ms;
};

/* Whether a volume is initialised only as it is written. Its progress is then not reported. */
struct thin {
    struct thin *next;
    bool is_thin;
    char volume_id[VOLUME_ID_MAX + 1];
};

struct watch {
    const struct plugin *plugin;
    pthread_t watcher, finisher;
    atomic_bool is_ending;
    pthread_mutex_t lock; /* guards tasks */
    pthread_cond_t work;
    struct task *tasks;
    struct thin *known; /* only the watcher uses it */
};

static bool is_ending(void *cookie)
{
    const struct watch *watch = cookie;

    return atomic_load(&watch->is_ending);
}

/* Waits until at_ms, or until there is work, or until the end. */
static void wait_until(struct watch *watch, uint64_t at_ms)
{
    if (!atomic_load(&watch->is_ending))
        condition_wait_until(&watch->work, &watch->lock, at_ms);
}

/* --- finishing --- */

static void add_task(struct watch *watch, const char *volume_id)
{
    struct task *task = NULL;

    pthread_mutex_lock(&watch->lock);
    for (task = watch->tasks; task; task = task->next)
        if (strcmp(task->volume_id, volume_id) == 0)
            break;
    if (!task && (task = calloc(1, sizeof(*task)))) {
        (void)snprintf(task->volume_id, sizeof(task->volume_id), "%s", volume_id);
        task->delay_ms = RETRY_MIN_MS;
        task->next = watch->tasks;
        watch->tasks = task;
    }
    pthread_cond_broadcast(&watch->work);
    pthread_mutex_unlock(&watch->lock);
}

static bool finish(const struct plugin *plugin, const char *volume_id, struct error *err)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct block_request *request = block_request_new(&arena, BLOCK_FINISH, volume_id);
    struct worker_answers answers = { .keys = plugin->keys,
                                      .operation = "Finish",
                                      .volume_id = volume_id };
    const struct block_run run = { .operation = "Finish",
                                   .request = request,
                                   .hooks = &worker_answers_hooks,
                                   .hook_cookie = &answers };
    struct block_result result = { .already = false };

    if (!request)
        return arena_exhausted(err);
    if (!inflight_take_background(plugin->inflight, volume_id, "Finish", &hold, err))
        return false;
    request->deadline_ms = clock_now_ms() + FINISH_MS;
    if (!plugin->workers.run(plugin->workers.cookie, &run, &result, err))
        return err->code == ERROR_NOT_FOUND; /* unstaged meanwhile: the next stage finishes it */
    if (!result.status.is_initialising) {
        health_clear(plugin->health, volume_id, HEALTH_INITIALISING);
        log_info("volume is initialised", TEXT("volume", volume_id));
    }
    return true;
}

static void remove_task(struct watch *watch, struct task *task)
{
    struct task **link = &watch->tasks;

    while (*link != task)
        link = &(*link)->next;
    *link = task->next;
    free(task);
}

static struct task *due_task(const struct watch *watch, uint64_t now_ms, uint64_t *next_ms)
{
    *next_ms = now_ms + RETRY_MAX_MS;
    for (struct task *task = watch->tasks; task; task = task->next) {
        if (task->at_ms <= now_ms)
            return task;
        if (task->at_ms < *next_ms)
            *next_ms = task->at_ms;
    }
    return NULL;
}

/* Only this thread removes tasks, so its task stays valid while it does not hold the lock. */
static void *run_finisher(void *cookie)
{
    struct watch *watch = cookie;

    pthread_mutex_lock(&watch->lock);
    while (!atomic_load(&watch->is_ending)) {
        uint64_t next_ms = 0;
        struct task *task = due_task(watch, clock_now_ms(), &next_ms);
        struct error err = ERROR_INIT;

        if (!task) {
            wait_until(watch, next_ms);
            continue;
        }
        pthread_mutex_unlock(&watch->lock);
        bool done = finish(watch->plugin, task->volume_id, &err);
        if (!done && err.code != ERROR_ABORTED)
            log_warning("cannot finish the initialisation yet", TEXT("volume", task->volume_id),
                        ERROR_FIELDS(&err));
        pthread_mutex_lock(&watch->lock);
        if (done) {
            remove_task(watch, task);
            continue;
        }
        task->at_ms = clock_now_ms() + task->delay_ms;
        if (err.code != ERROR_ABORTED && task->delay_ms < RETRY_MAX_MS)
            task->delay_ms *= 2;
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

/* --- watching --- */

/* True as long as the broker has not answered. */
static bool is_thin(struct watch *watch, const char *volume_id)
{
    struct record record;
    struct error ignored = ERROR_INIT;

    for (const struct thin *thin = watch->known; thin; thin = thin->next)
        if (strcmp(thin->volume_id, volume_id) == 0)
            return thin->is_thin;
    if (!watch->plugin->keys->ops->get(watch->plugin->keys, "Watch", volume_id, &record, &ignored))
        return true;
    struct thin *thin = calloc(1, sizeof(*thin));
    bool found = record.spec.initialisation == INITIALISATION_ON_WRITE;

    if (thin) {
        thin->is_thin = found;
        (void)snprintf(thin->volume_id, sizeof(thin->volume_id), "%s", volume_id);
        thin->next = watch->known;
        watch->known = thin;
    }
    return found;
}

static void forget_known(struct watch *watch)
{
    while (watch->known) {
        struct thin *thin = watch->known;

        watch->known = thin->next;
        free(thin);
    }
}

static void handle_event(void *cookie, const struct block_message *message)
{
    struct watch *watch = cookie;
    struct health *health = watch->plugin->health;
    const char *id = message->volume_id;

    switch ((enum block_event_kind)message->event) {
    case BLOCK_EVENT_STAGED:
        break;
    case BLOCK_EVENT_HYDRATED:
        add_task(watch, id);
        break;
    case BLOCK_EVENT_PROGRESS:
        if (!is_thin(watch, id))
            health_initialising(health, id, message->done, message->total);
        break;
    case BLOCK_EVENT_FAILED:
        log_error("the initialisation map failed; the volume gives I/O errors now",
                  TEXT("volume", id));
        health_clear(health, id, HEALTH_INITIALISING);
        health_note(health, id, HEALTH_MAP_FAILED,
                    "the initialisation map could not be written: all I/O fails until the volume "
                    "is staged again");
        break;
    case BLOCK_EVENT_INTEGRITY_ERROR:
        log_error("reads failed their authentication", TEXT("volume", id),
                  NUMBER("count", message->done));
        health_integrity_errors(health, id, message->done);
        break;
    case BLOCK_EVENT_OVERFLOW:
        log_error("the overlay of a read-only volume is full", TEXT("volume", id));
        health_note(health, id, HEALTH_OVERLAY_FULL,
                    "the overlay in memory is full: reads fail until the volume is staged again");
        break;
    default:
        break;
    }
}

static void *run_watcher(void *cookie)
{
    static const struct block_hooks hooks = { .event = handle_event };
    struct watch *watch = cookie;
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, BLOCK_WATCH, "");
    const struct block_run run = { .operation = "Watch",
                                   .request = request,
                                   .hooks = &hooks,
                                   .hook_cookie = watch,
                                   .is_cancelled = is_ending,
                                   .cancel_cookie = watch };
    struct block_result result;

    while (request && !atomic_load(&watch->is_ending)) {
        struct error err = ERROR_INIT;

        if (!watch->plugin->workers.run(watch->plugin->workers.cookie, &run, &result, &err) &&
            err.code != ERROR_CANCELLED)
            log_error("the watcher ended; starting it again", ERROR_FIELDS(&err));
        forget_known(watch);
        pthread_mutex_lock(&watch->lock);
        wait_until(watch, clock_now_ms() + RETRY_MIN_MS);
        pthread_mutex_unlock(&watch->lock);
    }
    return NULL;
}

/* --- life --- */

static void watch_free(struct watch *watch)
{
    while (watch->tasks)
        remove_task(watch, watch->tasks);
    forget_known(watch);
    pthread_cond_destroy(&watch->work);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

static void end(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    atomic_store(&watch->is_ending, true);
    pthread_cond_broadcast(&watch->work);
    pthread_mutex_unlock(&watch->lock);
}

bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err)
{
    struct watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the watcher");
    watch->plugin = plugin;
    pthread_mutex_init(&watch->lock, NULL);
    condition_init(&watch->work);
    if (!thread_start(&watch->finisher, "finisher", run_finisher, watch, err)) {
        watch_free(watch);
        return false;
    }
    if (!thread_start(&watch->watcher, "watcher", run_watcher, watch, err)) {
        end(watch);
        (void)pthread_join(watch->finisher, NULL);
        watch_free(watch);
        return false;
    }
    *out = watch;
    return true;
}

void watch_stop(struct watch *watch)
{
    if (!watch)
        return;
    end(watch);
    (void)pthread_join(watch->watcher, NULL);
    (void)pthread_join(watch->finisher, NULL);
    watch_free(watch);
}
