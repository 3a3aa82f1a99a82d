/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/thread.h"
#include "store/store_etcd.h"

#include <string.h>
#include <time.h>

enum {
    TRIES_MAX = 64,
    HEADS_PER_COMPACTION = 4096, /* until then etcd has the audit log's earlier heads, too */
    PAUSE_US = 2000,             /* times a small random number, when other changes came first */
    RETRY_PAUSE_US = 50000,      /* after no answer */
};

/* One change on its way. */
struct attempt {
    struct etcd_slot *slot;
    size_t number; /* of the slot */
    struct etcd_key name;
    /* Of the Txns that had no answer: one of them may have been applied, or be so yet. */
    uint8_t unclear[TRIES_MAX][ETCD_ID_LEN];
    size_t n_unclear;
};

/* --- what all Txns compare --- */

void etcd_guard(struct etcd_store *s, struct etcd_txn *txn)
{
    struct etcd_key format, replica;

    pthread_mutex_lock(&s->lock);
    int64_t revision = s->format_revision;
    pthread_mutex_unlock(&s->lock);
    etcd_key_format(&format);
    etcd_key_replica(s->replica, &replica);
    etcd_if_revision(txn, &format, revision);
    if (atomic_load(&s->is_unlocked))
        etcd_if_value(txn, &replica, s->process, sizeof(s->process));
    etcd_else_get(txn, &format);
    etcd_else_get(txn, &replica);
}

bool etcd_guard_holds(struct etcd_store *s, const struct etcd_result *result, struct error *err)
{
    struct etcd_key format, replica;
    struct etcd_pair format_pair, replica_pair;

    etcd_key_format(&format);
    etcd_key_replica(s->replica, &replica);
    if (!etcd_result_get(result, 0, &format, &format_pair, err) ||
        !etcd_result_get(result, 1, &replica, &replica_pair, err))
        return false;
    pthread_mutex_lock(&s->lock);
    bool is_same = format_pair.revision == s->format_revision;
    pthread_mutex_unlock(&s->lock);
    if (!is_same) /* a new ring; or etcd's data was replaced */
        return etcd_take_format(s, etcd_until(s->client), NULL, err) && store_ring_changed(err);
    if (atomic_load(&s->is_unlocked) &&
        (replica_pair.value.len != sizeof(s->process) ||
         memcmp(replica_pair.value.bytes, s->process, sizeof(s->process)) != 0)) {
        atomic_store(&s->is_fenced, true);
        return etcd_check_fence(s, err);
    }
    return true;
}

/* --- slots --- */

static size_t find_free(const struct etcd_store *s)
{
    size_t i = 0;

    while (i < ETCD_SLOTS && s->slots[i].is_busy)
        i++;
    return i;
}

static bool take_slot(struct etcd_store *s, uint64_t until_ms, struct attempt *out,
                      struct error *err)
{
    auto_etcd_locked pthread_mutex_t *lock = &s->lock;

    pthread_mutex_lock(lock);
    while ((out->number = find_free(s)) == ETCD_SLOTS) {
        if (clock_now_ms() >= until_ms)
            return error_set(err, ERROR_UNAVAILABLE, "store: etcd: too many changes are waiting");
        condition_wait_until(&s->changed, lock, until_ms);
    }
    out->slot = &s->slots[out->number];
    out->slot->is_busy = true;
    etcd_key_slot(s->replica, out->number, &out->name);
    return true;
}

static void leave_slot(struct etcd_store *s, struct attempt *a)
{
    pthread_mutex_lock(&s->lock);
    a->slot->is_busy = false;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void etcd_learn(struct etcd_store *s, const struct etcd_slot_value *value)
{
    auto_etcd_locked pthread_mutex_t *lock = &s->lock;

    pthread_mutex_lock(lock);
    if (value->head.seq > s->head.seq)
        s->head = value->head;
    for (size_t i = 0; i < ETCD_SHARDS; i++)
        if (value->seen[i] > s->seen[i])
            s->seen[i] = value->seen[i];
}

static bool is_unclear(const struct attempt *a, const uint8_t id[static ETCD_ID_LEN])
{
    for (size_t i = 0; i < a->n_unclear; i++)
        if (memcmp(a->unclear[i], id, ETCD_ID_LEN) == 0)
            return true;
    return false;
}

/* *applied: the slot's last change is one of ours, of which we had no answer. A value that no broker
 * wrote is replaced by the next change. */
static bool read_slot(struct etcd_store *s, struct attempt *a, struct etcd_commit *c, bool *applied,
                      struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_slot_value value;
    struct etcd_pair pair;
    bool is_good = false;

    *applied = false;
    if (!etcd_get(s->client, &a->name, &arena, c->until_ms, &pair, err))
        return false;
    if (pair.revision > 0 &&
        !etcd_slot_value_read(&s->key, &pair.key, &pair.value, &value, &is_good, err))
        return false;
    a->slot->revision = pair.revision;
    a->slot->is_known = true;
    if (!is_good)
        return true;
    etcd_learn(s, &value);
    *applied = is_unclear(a, value.id);
    if (*applied)
        c->revision = pair.revision;
    return true;
}

/* --- one try --- */

static bool make_value(struct etcd_store *s, const struct etcd_commit *c,
                       struct etcd_slot_value *out, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    out->head = s->head;
    memcpy(out->seen, s->seen, sizeof(out->seen));
    pthread_mutex_unlock(&s->lock);
    if (c->head && c->head->seq > out->head.seq)
        out->head = *c->head;
    if (c->has_shard)
        out->seen[c->shard] = c->shard_changes;
    return random_bytes(out->id, sizeof(out->id), err);
}

static bool build(struct etcd_store *s, const struct attempt *a, struct etcd_commit *c,
                  struct etcd_txn *txn, struct etcd_slot_value *value, struct error *err)
{
    uint8_t bytes[ETCD_SLOT_BYTES];

    etcd_guard(s, txn);
    etcd_else_get(txn, &a->name);
    etcd_if_revision(txn, &a->name, a->slot->revision);
    c->has_shard = false;
    if ((c->fill && !c->fill(s, c, txn, err)) || !make_value(s, c, value, err) ||
        !etcd_slot_value_write(&s->key, &a->name, value, bytes, err))
        return false;
    etcd_then_put(txn, &a->name, bytes, sizeof(bytes));
    return true;
}

static void pause_for_us(long us)
{
    const struct timespec time = { .tv_nsec = us * 1000 };

    (void)nanosleep(&time, NULL);
}

/* Other changes came first: they may be waiting for each other. */
static void pause_shortly(void)
{
    struct error ignored = ERROR_INIT;
    uint8_t random = 1;

    if (random_bytes(&random, 1, &ignored))
        random %= 8;
    pause_for_us(PAUSE_US * random);
}

/* A clean refusal: etcd has not applied it and never will. */
static bool learn_why(struct etcd_store *s, const struct attempt *a,
                      const struct etcd_result *result, struct error *err)
{
    struct etcd_pair pair;

    if (!etcd_guard_holds(s, result, err)) {
        if (err->code != ERROR_ABORTED)
            return false;
        *err = (struct error)ERROR_INIT;
        return true;
    }
    if (!etcd_result_get(result, ETCD_GUARD_GETS, &a->name, &pair, err))
        return false;
    if (pair.revision != a->slot->revision)
        a->slot->is_known = false; /* a Txn without an answer was applied after all */
    pause_shortly();
    return true;
}

/* Not each line's head is stored: a swap that fails leaves one out. So what counts is the last one that
 * was compacted for. */
static void forget_heads(struct etcd_store *s, uint64_t seq, int64_t revision)
{
    pthread_mutex_lock(&s->lock);
    bool is_due = seq / HEADS_PER_COMPACTION > s->compacted_heads;

    if (is_due)
        s->compacted_heads = seq / HEADS_PER_COMPACTION;
    pthread_mutex_unlock(&s->lock);
    if (is_due)
        etcd_compact_soon(s, revision);
}

/* *done: it was applied. False ends the change; true without *done: try again. */
static bool try_once(struct etcd_store *s, struct attempt *a, struct etcd_commit *c, bool *done,
                     struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_slot_value value;
    struct etcd_result result;

    if (!build(s, a, c, &txn, &value, err))
        return false;
    if (!etcd_txn_ask_once(s->client, &txn, c->until_ms, &result, err)) {
        a->slot->is_known = false;
        memcpy(a->unclear[a->n_unclear++], value.id, ETCD_ID_LEN);
        pause_for_us(RETRY_PAUSE_US); /* a member that is full or busy refuses at once */
        return etcd_is_passing(err, a->n_unclear);
    }
    *done = result.succeeded;
    if (!*done)
        return learn_why(s, a, &result, err);
    c->revision = a->slot->revision = result.revision;
    etcd_learn(s, &value);
    forget_heads(s, value.head.seq, c->revision);
    return true;
}

static bool is_over(const struct attempt *a, const struct etcd_commit *c)
{
    return a->n_unclear == TRIES_MAX || clock_now_ms() >= c->until_ms;
}

/* An error of fill may come from a change of ours that was applied late. */
static bool was_applied(struct etcd_store *s, struct attempt *a, struct etcd_commit *c)
{
    struct error ignored = ERROR_INIT;
    bool applied = false;

    return a->n_unclear > 0 && read_slot(s, a, c, &applied, &ignored) && applied;
}

static bool give_up(const struct attempt *a, struct error *err)
{
    if (a->n_unclear > 0) /* err says why the last one had no answer */
        return false;
    return error_set(err, ERROR_UNAVAILABLE, "store: etcd: others change the same: try again");
}

/* A Txn without an answer may yet be applied, so what ended the change has decided nothing. Only after
 * ABORTED it cannot: it compares with what others have changed. */
static bool leave_open(struct error *err)
{
    if (err->code == ERROR_ABORTED)
        return false;
    err->code = ERROR_UNAVAILABLE;
    return error_wrap(err, "no answer to a change: it may have been made, or not");
}

static bool go_on(struct etcd_store *s, struct attempt *a, struct etcd_commit *c, struct error *err)
{
    bool done = false;

    while (!done) {
        if (!a->slot->is_known) {
            if (!read_slot(s, a, c, &done, err))
                return false;
            if (done)
                return true;
        }
        if (is_over(a, c))
            return give_up(a, err);
        if (!try_once(s, a, c, &done, err))
            return was_applied(s, a, c);
    }
    return true;
}

bool etcd_commit(struct etcd_store *s, struct etcd_commit *commit, struct error *err)
{
    struct attempt a = { .n_unclear = 0 };

    if (!etcd_check_unlocked(s, commit->until_ms, err) || !take_slot(s, commit->until_ms, &a, err))
        return false;
    bool ok = go_on(s, &a, commit, err);

    leave_slot(s, &a);
    return ok || (a.n_unclear > 0 && leave_open(err));
}
