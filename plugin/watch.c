/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/watch.h"

#include "base/log.h"
#include "plugin/lease_keeper.h"

#include <stdlib.h>

struct watch {
    const struct plugin *plugin;
    struct lease_keeper *leases;
    struct background *background;
};

static const struct event_note {
    enum health_reason reason;
    const char *message;
} events[BLOCK_EVENT_END] = {
    [BLOCK_EVENT_FAILED] = { HEALTH_MAP_FAILED,
                             "the map of written blocks could not be written: all I/O fails until "
                             "the volume is staged again" },
    [BLOCK_EVENT_DEVICE_GONE] = { HEALTH_DEVICE_GONE,
                                  "the volume's device has left this node, and all I/O fails: end "
                                  "the pods that use the volume, then it is attached and staged "
                                  "again" },
    [BLOCK_EVENT_LEASE_OVER] = { HEALTH_LEASE_LOST,
                                 "the lease could not be renewed in time: the volume is suspended, and "
                                 "goes on when this node has the lease again; end the pods that use "
                                 "it if another node shall have it" },
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
    const struct watch *watch = cookie;
    struct health *health = watch->plugin->health;
    const char *id = message->volume_id;

    if (message->event == BLOCK_EVENT_LEASE_DUE) {
        lease_keeper_due(watch->leases, id);
    } else if (message->event == BLOCK_EVENT_INTEGRITY_ERROR) {
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

bool watch_start(const struct plugin *plugin, struct watch **out, struct error *err)
{
    static const struct block_hooks hooks = { .event = handle_event };
    struct watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to watch volumes");
    watch->plugin = plugin;
    const struct background_options options = { .plugin = plugin,
                                                .operation = BLOCK_WATCH,
                                                .thread = "watcher",
                                                .name = "Watch",
                                                .hooks = &hooks,
                                                .cookie = watch };
    if (!lease_keeper_start(plugin, &watch->leases, err) ||
        !background_start(&options, &watch->background, err)) {
        watch_stop(watch);
        return false;
    }
    *out = watch;
    return true;
}

/* The events end before what they wake. */
void watch_stop(struct watch *watch)
{
    if (!watch)
        return;
    background_stop(watch->background);
    lease_keeper_stop(watch->leases);
    free(watch);
}
