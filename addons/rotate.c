/* SPDX-License-Identifier: Apache-2.0 */
#include "addons/rotate.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"

#include <pthread.h>
#include <string.h>

/*
 * A volume that is in use gets its next secret. Nobody tells a node that a volume was marked: it looks
 * itself. kubelet asks for the statistics of each volume about once a minute, so that is when; the broker
 * is asked less often.
 */
#define LOOK_EVERY_MS (UINT64_C(10) * 60 * 1000)
#define SLOTS         1024u

/* When a volume was looked at last. Two volumes that share a slot are looked at more often, not less. */
struct slot {
    uint8_t digest[SHA256_LEN]; /* of the id */
    uint64_t next_ms;           /* monotonic; 0: the slot is free */
};

static struct slot slots[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_due(const char *id)
{
    uint8_t digest[SHA256_LEN];
    struct error ignored = ERROR_INIT;

    if (!sha256(id, strlen(id), digest, &ignored))
        return false;
    struct slot *slot = &slots[((unsigned)digest[0] << 8 | digest[1]) % SLOTS];
    uint64_t now_ms = clock_now_ms();

    pthread_mutex_lock(&lock);
    bool due = memcmp(slot->digest, digest, SHA256_LEN) != 0 || now_ms >= slot->next_ms;
    if (due) {
        memcpy(slot->digest, digest, SHA256_LEN);
        slot->next_ms = now_ms + LOOK_EVERY_MS;
    }
    pthread_mutex_unlock(&lock);
    return due;
}

bool rotate_is_possible(const struct record *record)
{
    return record->phase == RECORD_READY && record->lease.holder.node[0] != '\0';
}

bool rotate_open_volume(struct plugin *plugin, struct rpc_call *call, const char *id,
                        struct error *err)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    struct block_request *request = block_request_new(call->arena, BLOCK_ROTATE, id);
    struct worker_answers answers = { .keys = plugin->keys,
                                      .operation = plugin_operation(call),
                                      .volume_id = id };
    struct block_result result = { .already = false };

    if (!request)
        return arena_exhausted(err);
    return plugin_take(plugin, call, id, &hold, err) &&
           plugin_run(plugin, call, request, PLUGIN_CALL, &answers, &result, err);
}

/* While the broker is away the first question waits for it, and then nobody asks for a while: statistics
 * need no broker, and calls that close volumes need a free worker. */
static bool ask_broker(struct plugin *plugin, struct rpc_call *call, const char *id,
                       struct record *out)
{
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t quiet_until_ms;
    struct error err = ERROR_INIT;
    bool told = false;

    if (pthread_mutex_trylock(&one_at_a_time) != 0)
        return false;
    if (clock_now_ms() >= quiet_until_ms && is_due(id)) {
        told = plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, out, &err);
        if (err.code == ERROR_UNAVAILABLE)
            quiet_until_ms = clock_now_ms() + LOOK_EVERY_MS;
    }
    pthread_mutex_unlock(&one_at_a_time);
    return told;
}

void rotate_if_due(struct plugin *plugin, struct rpc_call *call, const char *id)
{
    struct record *record = arena_alloc(call->arena, sizeof(*record));
    struct error err = ERROR_INIT;

    if (!record || !ask_broker(plugin, call, id, record) || record->rotation.key.generation == 0 ||
        !rotate_is_possible(record))
        return;
    if (rotate_open_volume(plugin, call, id, &err))
        log_info("the volume has another secret", TEXT("volume", id));
    else
        log_warning(
            "the volume's secret is not changed; the next try is in ten minutes, or when it "
            "is staged next",
            TEXT("volume", id), ERROR_FIELDS(&err));
}
