/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/watch.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* A watcher that fails at once is started again after a time that doubles up to the limit. */
#define RETRY_MS       1000u
#define RETRY_LIMIT_MS 60000u

struct watch {
    const struct plugin *plugin;
    pthread_t watcher;
    atomic_bool is_ending;
    pthread_mutex_t lock;
    pthread_cond_t wake;
};

static bool is_ending(void *cookie)
{
    const struct watch *watch = cookie;

    return atomic_load(&watch->is_ending);
}

static const struct event_note {
    enum health_reason reason;
    const char *message;
} events[BLOCK_EVENT_END] = {
    [BLOCK_EVENT_FAILED] = { HEALTH_MAP_FAILED,
                             "the map of written blocks could not be written: all I/O fails until "
                             "the volume is staged again" },
    [BLOCK_EVENT_OVERFLOW] = { HEALTH_OVERLAY_FULL,
                               "the overlay in memory is full: reads fail until the volume is "
                               "staged again" },
    [BLOCK_EVENT_SHUT_DOWN] = { HEALTH_FILE_SYSTEM_SHUT_DOWN,
                                "the file system shut down after an error, see the kernel's log: "
                                "end the pods that use it, then it is mounted again" },
    [BLOCK_EVENT_READ_ONLY] = { HEALTH_FILE_SYSTEM_READ_ONLY,
                                "the kernel made the file system read-only after an error, see its "
                                "log: end the pods that use it, then it is repaired and mounted "
                                "again" },
    [BLOCK_EVENT_WRITE_FAILED] = { HEALTH_WRITES_FAILED,
                                   "writes did not reach the disk, see the kernel's log; is the "
                                   "disk below full? What was written and not synced may be lost" },
};

static void handle_event(void *cookie, const struct block_message *message)
{
    struct watch *watch = cookie;
    struct health *health = watch->plugin->health;
    const char *id = message->volume_id;

    if (message->event == BLOCK_EVENT_INTEGRITY_ERROR) {
        log_error("reads failed their authentication", TEXT("volume", id),
                  NUMBER("count", message->count));
        health_integrity_errors(health, id, message->count);
    } else if (message->event < BLOCK_EVENT_END && events[message->event].message) {
        const struct event_note *event = &events[message->event];

        log_error(event->message, TEXT("volume", id),
                  TEXT("reason", health_reason_name(event->reason)));
        health_note(health, id, event->reason, event->message);
    }
}

uint64_t watch_retry_ms(uint64_t last_ms, uint64_t lived_ms)
{
    if (last_ms == 0 || lived_ms >= RETRY_LIMIT_MS)
        return RETRY_MS;
    return 2 * last_ms < RETRY_LIMIT_MS ? 2 * last_ms : RETRY_LIMIT_MS;
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
    uint64_t retry_ms = 0;

    while (request && !atomic_load(&watch->is_ending)) {
        struct error err = ERROR_INIT;
        uint64_t began_ms = clock_now_ms();
        bool ended = watch->plugin->workers.run(watch->plugin->workers.cookie, &run, &result, &err);

        retry_ms = watch_retry_ms(retry_ms, clock_now_ms() - began_ms);
        if (!ended && err.code != ERROR_CANCELLED)
            log_error("the watcher ended; it is started again", NUMBER("after_ms", retry_ms),
                      ERROR_FIELDS(&err));
        pthread_mutex_lock(&watch->lock);
        if (!atomic_load(&watch->is_ending))
            condition_wait_until(&watch->wake, &watch->lock, clock_now_ms() + retry_ms);
        pthread_mutex_unlock(&watch->lock);
    }
    return NULL;
}

/* --- life --- */

static void watch_free(struct watch *watch)
{
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
}

static void end(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    atomic_store(&watch->is_ending, true);
    pthread_cond_broadcast(&watch->wake);
    pthread_mutex_unlock(&watch->lock);
}

bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err)
{
    struct watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the watcher");
    watch->plugin = plugin;
    pthread_mutex_init(&watch->lock, NULL);
    condition_init(&watch->wake);
    if (!thread_start(&watch->watcher, "watcher", run_watcher, watch, err)) {
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
    watch_free(watch);
}
