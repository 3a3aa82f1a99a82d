/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "store/store_etcd.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_RECORDS = 2000, /* each question costs etcd a walk over all keys */
    WALKS_MAX = 10,      /* another replica's compaction ends a walk */
};

/* All records as they were at one moment. */
struct walk {
    struct etcd_store *s;
    int64_t revision;
    struct record record; /* large */
    struct store_check check;
    struct etcd_sum real[ETCD_SHARDS]; /* of the good records */
    uint64_t seen[ETCD_SHARDS];        /* the last change that any replica knows of */
    struct etcd_slot_value slot;
    bool has_bad_slot;
};

/* At the walk's revision. */
static bool each_pair(struct walk *w, const struct etcd_key *start,
                      bool (*visit)(void *cookie, const struct etcd_pair *pair, struct error *err),
                      struct error *err)
{
    const struct etcd_range range = { .start = start,
                                      .limit = PAGE_RECORDS,
                                      .revision = w->revision };

    return etcd_each_pair(w->s->client, &range, visit, w, err);
}

static bool visit_record(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct walk *w = cookie;
    struct error damage = ERROR_INIT;
    struct etcd_bytes packed;
    struct etcd_key key;
    struct etcd_place place;

    w->check.records++;
    if (!etcd_unpack(w->s, pair, &w->record, &packed, &damage)) {
        if (w->check.damaged++ == 0)
            w->check.first_damage = damage;
        return true;
    }
    memcpy(key.bytes, pair->key.bytes, pair->key.len); /* etcd_unpack() has compared it */
    key.len = pair->key.len;
    return etcd_place_of(&key, &place, err) &&
           proof_add(&w->s->key, &w->real[place.shard].sum, packed.bytes, packed.len, err);
}

/* What the slots of all replicas have seen; and this replica's audit head. */
static bool visit_slot(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct walk *w = cookie;
    char replica[ETCD_REPLICA_MAX + 1];
    bool is_good = false;
    size_t number = 0;

    if (etcd_slot_read(&pair->key, replica, &number) &&
        !etcd_slot_value_read(&w->s->key, &pair->key, &pair->value, &w->slot, &is_good, err))
        return false;
    if (!is_good) {
        w->has_bad_slot = true;
        return true;
    }
    for (size_t i = 0; i < ETCD_SHARDS; i++)
        if (w->slot.seen[i] > w->seen[i])
            w->seen[i] = w->slot.seen[i];
    if (strcmp(replica, w->s->replica) == 0)
        etcd_learn(w->s, &w->slot);
    return true;
}

static bool visit_sum(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct walk *w = cookie;
    struct etcd_sum stored;
    bool is_good = false;
    size_t shard = 0;

    if (!etcd_shard_read(&pair->key, &shard)) {
        w->check.is_changed = true;
        return true;
    }
    struct etcd_found *found = &w->s->found[shard];

    if (!etcd_sum_read(&w->s->key, &pair->key, &pair->value, &stored, &is_good, err))
        return false;
    found->revision = pair->revision;
    found->is_wrong = !is_good || stored.changes != w->seen[shard] ||
                      !bytes_are_equal(stored.sum.bytes, w->real[shard].sum.bytes, STORE_PROOF_LEN);
    if (is_good && stored.changes > w->seen[shard])
        found->sum.changes = stored.changes;
    return true;
}

/* Shards without a sum are right when nothing was ever in them. */
static void judge_shards(struct walk *w)
{
    static const struct proof_sum nothing = { .bytes = { 0 } };

    for (size_t i = 0; i < ETCD_SHARDS; i++) {
        struct etcd_found *found = &w->s->found[i];

        if (found->revision == 0)
            found->is_wrong = w->seen[i] > 0 || !bytes_are_equal(w->real[i].sum.bytes,
                                                                 nothing.bytes, STORE_PROOF_LEN);
        found->sum.sum = w->real[i].sum;
        if (w->seen[i] > found->sum.changes)
            found->sum.changes = w->seen[i];
        w->check.is_changed |= found->is_wrong;
    }
    w->check.is_changed |= w->has_bad_slot;
}

static bool walk_once(struct walk *w, struct error *err)
{
    struct etcd_key records, slots, sums;

    etcd_key_records(&records);
    etcd_key_slots(&slots);
    etcd_key_sums(&sums);
    for (size_t i = 0; i < ETCD_SHARDS; i++)
        w->s->found[i] = (struct etcd_found){ .revision = 0 };
    if (!etcd_find_revision(w->s->client, &w->revision, err) ||
        !each_pair(w, &slots, visit_slot, err) || !each_pair(w, &records, visit_record, err) ||
        !each_pair(w, &sums, visit_sum, err))
        return false;
    judge_shards(w);
    return true;
}

static bool check_records(struct etcd_store *s, struct store_check *out, int64_t *revision,
                          struct error *err)
{
    auto_free struct walk *w = NULL;

    for (unsigned i = 0; i < WALKS_MAX; i++) {
        free_at(&w);
        w = calloc(1, sizeof(*w));
        if (!w)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
        w->s = s;
        if (walk_once(w, err)) {
            *out = w->check;
            *revision = w->revision;
            return true;
        }
        if (err->code != ERROR_OUT_OF_RANGE)
            return false;
    }
    err->code = ERROR_UNAVAILABLE;
    return error_wrap(err, "the records change too fast to be checked: start the broker again");
}

/* From now on this process is the replica. Another one that was it can change nothing any more. */
static bool take_name(struct etcd_store *s, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_key format, replica;
    struct etcd_result result;
    uint64_t until_ms = etcd_until(s->client);

    if (!etcd_check_ready(s, until_ms, err))
        return false;
    etcd_key_format(&format);
    etcd_key_replica(s->replica, &replica);
    etcd_if_revision(&txn, &format, s->format_revision);
    etcd_then_put(&txn, &replica, s->process, sizeof(s->process));
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    if (result.succeeded)
        return true;
    return etcd_take_format(s, until_ms, NULL, err) &&
           error_set(err, ERROR_UNAVAILABLE, "store: the keys are being changed: try again");
}

/* What was found when it was unlocked is what its broker must tell. */
static bool check_again(struct etcd_store *s, struct store_check *out, struct error *err)
{
    *out = s->check;
    return etcd_check_ready(s, etcd_until(s->client), err);
}

bool etcd_store_unlock(struct store *store, struct secret *key, struct store_check *out,
                       struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    int64_t revision = 0;

    /* A broker that could not open for another reason tries again: others may use the key. */
    if (atomic_load(&s->is_unlocked)) {
        secret_wipe(key);
        return check_again(s, out, err);
    }
    if (!take_name(s, err))
        return false;
    s->key = secret_take(key);
    if (!check_records(s, out, &revision, err) || !etcd_compactor_start(s, err)) {
        secret_wipe(&s->key);
        return false;
    }
    s->check = *out;
    atomic_store(&s->is_unlocked, true);
    /* A process that was killed may have destroyed a key, and not told etcd to forget it. */
    etcd_compact_soon(s, revision);
    return true;
}
