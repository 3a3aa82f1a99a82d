/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/rewrap.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/thread.h"
#include "store/keyring.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_MS     2000u  /* how often it looks for a new ring */
#define PATIENCE_MS 10000u /* with another broker that makes no progress */
#define RETRY_MS    5000u  /* after a walk that failed */
#define BEAT_MS     1000u  /* how often a walk shows the others that it goes on */
#define PAUSE_MS    1u     /* per record: calls come first */
#define SWAP_TRIES  8
#define BEATS       "rewrapping" /* a mark of raise, which walks count up */

struct rewrap {
    struct broker *broker;
    struct audit *audit;
    struct stoppable loop;
    bool begins; /* under its lock, and the state */
    struct rewrap_state state;
    /* Of the thread alone. */
    struct record record; /* large */
    uint64_t beats,
        beat_ms; /* the others' sign of life, and since when it is the same; or the own last one */
    uint64_t version; /* of the ring that is waited for */
};

/* --- one record --- */

static bool rewrap_rotation(struct rewrap *w, const struct record *r, uint64_t version, bool *done,
                            struct error *err)
{
    struct store *store = w->broker->store;
    struct store_key key = { .key = r->rotation.key };
    uint8_t wrapped[STORE_WRAPPED_LEN];
    bool changed = false;

    *done = true;
    if (r->rotation.key.generation == 0 || r->rotation.secret_len != STORE_WRAPPED_LEN)
        return true;
    memcpy(key.wrapped, r->rotation.secret, STORE_WRAPPED_LEN);
    if (!keyring_rewrap(w->broker->keyring, r->tenant, &key, wrapped, &changed, err))
        return false;
    if (!changed)
        return true;
    w->record.version++;
    memcpy(w->record.rotation.secret, wrapped, STORE_WRAPPED_LEN);
    const struct store_change change = { .next = &w->record,
                                         .expected_version = w->record.version - 1,
                                         .ring = &version };

    *done = store->ops->swap(store, &change, err);
    FAULT_POINT("broker.rewrap.record");
    return *done || err->code == ERROR_ABORTED;
}

/* First the next secret: when ROTATED comes between the two, the store has it as the record's key, in the
 * form that the record had. */
static bool rewrap_record(struct rewrap *w, uint64_t version, struct error *err)
{
    const struct store_name name = { w->record.tenant, w->record.driver, w->record.volume_id };
    struct store *store = w->broker->store;
    bool done = false, changed = false;

    for (int i = 0; i < SWAP_TRIES && !done; i++) {
        if (i > 0 && !store->ops->get(store, &name, &w->record, err))
            return false;
        *err = (struct error)ERROR_INIT;
        if (!rewrap_rotation(w, &w->record, version, &done, err))
            return false;
    }
    if (!done || !keyring_rewrap_key(w->broker->keyring, &w->record, &changed, err))
        return error_wrap(err, "volume %s", w->record.volume_id);
    if (changed)
        FAULT_POINT("broker.rewrap.key");
    return true;
}

/* --- all records --- */

/* True: the thread shall end. */
static bool pause_until(struct rewrap *w, uint64_t until_ms, bool may_begin)
{
    pthread_mutex_lock(&w->loop.lock);
    while (!w->loop.is_ending && !(may_begin && w->begins) && clock_now_ms() < until_ms)
        condition_wait_until(&w->loop.changed, &w->loop.lock, until_ms);
    bool ends = w->loop.is_ending;

    pthread_mutex_unlock(&w->loop.lock);
    return ends;
}

static bool beat(struct rewrap *w, struct error *err)
{
    struct store *store = w->broker->store;
    uint64_t now_ms = clock_now_ms();

    if (now_ms - w->beat_ms < BEAT_MS)
        return true;
    w->beat_ms = now_ms;
    return store->ops->raise(store, BEATS, w->beats + 1, &w->beats, err);
}

static void count(struct rewrap *w, uint64_t records)
{
    pthread_mutex_lock(&w->loop.lock);
    w->state.records = records;
    pthread_mutex_unlock(&w->loop.lock);
}

/* *found: the walk has gone one record on. */
static bool step(struct rewrap *w, uint64_t version, bool *found, struct error *err)
{
    const struct store_name after = { w->record.tenant, w->record.driver, w->record.volume_id };
    struct store *store = w->broker->store;
    struct record *next = calloc(1, sizeof(*next));

    if (!next)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    bool ok = store->ops->walk(store, &after, next, found, err);

    if (ok && *found)
        w->record = *next;
    free(next);
    return ok && (!*found || rewrap_record(w, version, err));
}

/* *ended: all records were looked at. */
static bool walk(struct rewrap *w, uint64_t version, bool *ended, struct error *err)
{
    uint64_t records = 0;
    bool found = true;

    *ended = false;
    w->record = (struct record){ .version = 0 };
    count(w, 0);
    while (!pause_until(w, clock_now_ms() + PAUSE_MS, false)) {
        if (!beat(w, err) || !step(w, version, &found, err))
            return false;
        *ended = !found;
        if (*ended)
            return true;
        count(w, ++records);
    }
    return true;
}

/* The line comes first: what is dropped is in the log. */
static bool finish(struct rewrap *w, const struct keyring_state *ring, struct error *err)
{
    const struct log_field fields[] = {
        TEXT("event", "wrapped-anew"),
        TEXT("note", "all secrets are wrapped with this generation; the former one is destroyed"),
        NUMBER("generation", ring->generation),
    };

    FAULT_POINT("broker.rewrap.walked");
    if (!audit_write(w->audit, fields, ARRAY_LEN(fields), NULL, err) ||
        !keyring_drop_former(w->broker->keyring, ring->version, err))
        return false;
    log_info("all secrets are wrapped anew", NUMBER("generation", ring->generation));
    return true;
}

static void rewrap_all(struct rewrap *w, const struct keyring_state *ring)
{
    struct error err = ERROR_INIT;
    bool ended = false;

    bool ok = walk(w, ring->version, &ended, &err) && (!ended || finish(w, ring, &err));

    if (!ok && err.code != ERROR_ABORTED) /* otherwise another broker was faster */
        log_warning("secrets are not wrapped anew yet: it is tried again", ERROR_FIELDS(&err));
    pthread_mutex_lock(&w->loop.lock);
    w->state.problem = ok || err.code == ERROR_ABORTED ? (struct error)ERROR_INIT : err;
    pthread_mutex_unlock(&w->loop.lock);
    w->beat_ms = clock_now_ms();
}

/* --- whether to work --- */

/* Another broker works as long as the mark changes. */
static bool is_due(struct rewrap *w, const struct keyring_state *ring)
{
    struct store *store = w->broker->store;
    uint64_t beats = 0, now_ms = clock_now_ms();
    struct error ignored = ERROR_INIT;

    pthread_mutex_lock(&w->loop.lock);
    bool begins = w->begins;

    w->begins = false;
    pthread_mutex_unlock(&w->loop.lock);
    if (begins || !store->ops->is_shared)
        return true;
    if (!store->ops->raise(store, BEATS, 0, &beats, &ignored))
        return false;
    if (w->version != ring->version || beats != w->beats) {
        w->version = ring->version;
        w->beats = beats;
        w->beat_ms = now_ms;
    }
    return now_ms - w->beat_ms >= PATIENCE_MS;
}

static void look(struct rewrap *w)
{
    struct error ignored = ERROR_INIT; /* the keyring keeps what matters */
    struct keyring_state ring;

    if (!keyring_refresh(w->broker->keyring, &ignored))
        return;
    keyring_state(w->broker->keyring, &ring);
    if (ring.has_former && is_due(w, &ring))
        rewrap_all(w, &ring);
    if (!ring.has_former) { /* another broker may have ended it */
        pthread_mutex_lock(&w->loop.lock);
        w->state.problem = (struct error)ERROR_INIT;
        pthread_mutex_unlock(&w->loop.lock);
    }
}

static void *work(void *cookie)
{
    struct rewrap *w = cookie;

    do {
        look(w);
    } while (!pause_until(
        w, clock_now_ms() + (w->state.problem.code == ERROR_NONE ? LOOK_MS : RETRY_MS), true));
    return NULL;
}

bool rewrap_start(struct broker *broker, struct audit *audit, struct rewrap **out,
                  struct error *err)
{
    struct rewrap *w = calloc(1, sizeof(*w));

    if (!w)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    w->broker = broker;
    w->audit = audit;
    if (!stoppable_start(&w->loop, "rewrap", work, w, err)) {
        rewrap_stop(&w);
        return false;
    }
    *out = w;
    return true;
}

void rewrap_stop(struct rewrap **rewrap)
{
    struct rewrap *w = *rewrap;

    if (!w)
        return;
    stoppable_stop(&w->loop);
    free(w);
    *rewrap = NULL;
}

void rewrap_begin(struct rewrap *rewrap)
{
    pthread_mutex_lock(&rewrap->loop.lock);
    rewrap->begins = true;
    pthread_cond_broadcast(&rewrap->loop.changed);
    pthread_mutex_unlock(&rewrap->loop.lock);
}

void rewrap_state(struct rewrap *rewrap, struct rewrap_state *out)
{
    pthread_mutex_lock(&rewrap->loop.lock);
    *out = rewrap->state;
    pthread_mutex_unlock(&rewrap->loop.lock);
}
