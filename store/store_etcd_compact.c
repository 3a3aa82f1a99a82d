/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/store_etcd.h"

/*
 * etcd keeps the old value of each key until it is told to compact. One compaction walks over all
 * keys of etcd, so there is at most one in compact_age_ms, however many keys are destroyed. And a
 * broker that starts reads all records as they were at one moment, which a compaction to a later one
 * ends: so what is compacted is as old as that, and the other broker has that long.
 */
#define COMPACT_AGE_MS 60000u

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
static void compact_to(struct etcd_store *s, int64_t revision)
{
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
    int64_t revision = 0; /* the next one; 0: none */
    uint64_t since_ms = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->is_ending) {
        if (revision == 0 && s->compact_at > s->compacted_at) {
            revision = s->compact_at;
            since_ms = clock_now_ms();
        }
        uint64_t due_ms = revision > 0 ? since_ms + s->compact_age_ms : UINT64_MAX;

        if (clock_now_ms() < due_ms) {
            condition_wait_until(&s->changed, &s->lock, due_ms);
        } else {
            compact_to(s, revision);
            revision = 0;
        }
    }
    if (s->compact_at > s->compacted_at)
        compact_to(s, s->compact_at);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool etcd_compactor_start(struct etcd_store *s, struct error *err)
{
    if (s->compact_age_ms == 0)
        s->compact_age_ms = COMPACT_AGE_MS;
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
