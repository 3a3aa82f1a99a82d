/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/store_etcd.h"

/*
 * etcd keeps the old value of each key until it is told to compact. One compaction walks over all
 * keys of etcd, so there is at most one in ten seconds, however many keys are destroyed.
 */
#define COMPACT_PAUSE_MS 10000u

static bool compact(struct etcd_store *s, int64_t revision, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    const struct etcd_call call = { "Compact", &request.base, &arena };
    ProtobufCMessage *ignored = NULL;

    request.revision = revision;
    /* OUT_OF_RANGE: somebody has compacted to a later revision. */
    return etcd_ask_once(s->client, &call, clock_now_ms() + ETCD_TRY_MS, &ignored, err) ||
           err->code == ERROR_OUT_OF_RANGE;
}

/* The caller holds the lock, which is free during the call. */
static void compact_due(struct etcd_store *s)
{
    int64_t revision = s->compact_at;
    struct error err = ERROR_INIT;

    pthread_mutex_unlock(&s->lock);
    bool ok = compact(s, revision, &err);

    if (!ok)
        log_warning("etcd does not compact: destroyed keys stay in its history until it does",
                    ERROR_FIELDS(&err));
    pthread_mutex_lock(&s->lock);
    if (ok)
        s->compacted_at = revision;
}

static void *work(void *cookie)
{
    struct etcd_store *s = cookie;
    uint64_t not_before_ms = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->is_ending || s->compact_at > s->compacted_at) {
        bool is_due = s->compact_at > s->compacted_at;

        if (is_due && (s->is_ending || clock_now_ms() >= not_before_ms)) {
            compact_due(s);
            not_before_ms = clock_now_ms() + COMPACT_PAUSE_MS;
            if (s->is_ending)
                break;
        } else {
            condition_wait_until(&s->changed, &s->lock, is_due ? not_before_ms : UINT64_MAX);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool etcd_compactor_start(struct etcd_store *s, struct error *err)
{
    if (!s->has_compactor)
        s->has_compactor = thread_start(&s->compactor, "compact", work, s, err);
    return s->has_compactor;
}

void etcd_compact_soon(struct etcd_store *s, int64_t revision)
{
    pthread_mutex_lock(&s->lock);
    if (revision > s->compact_at)
        s->compact_at = revision;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void etcd_compactor_stop(struct etcd_store *s)
{
    if (!s->has_compactor)
        return;
    pthread_mutex_lock(&s->lock);
    s->is_ending = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    (void)pthread_join(s->compactor, NULL);
    s->has_compactor = false;
}
