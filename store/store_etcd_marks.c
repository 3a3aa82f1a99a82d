/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include <string.h>

enum { SLOTS_OF_PAGE = 1000 };

#define RING_TRIES 4 /* rings come one after the other, and hours apart */

/* --- the audit log's head --- */

bool etcd_store_get_head(struct store *store, struct store_head *out, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    auto_etcd_locked pthread_mutex_t *lock = &s->lock;

    pthread_mutex_lock(lock);
    if (!atomic_load(&s->is_unlocked))
        return error_set(err, ERROR_UNAVAILABLE, "store: locked: no master key");
    *out = s->head;
    return true;
}

bool etcd_store_put_head(struct store *store, const struct store_head *head, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_commit commit = { .head = head, .until_ms = etcd_until(s->client) };

    return etcd_commit(s, &commit, err);
}

/* The slots of one replica lie beside each other. */
struct heads {
    struct etcd_store *s;
    bool (*visit)(void *cookie, const char *replica, const struct store_head *head);
    void *cookie;
    struct etcd_slot_value slot;
    char replica[ETCD_REPLICA_MAX + 1]; /* "": none yet */
    struct store_head head;
    bool has_own, is_ended;
};

/* This process knows its own head better than an etcd that was put back. */
static bool tell_head(struct heads *h, struct error *err)
{
    struct store_head own;

    if (h->replica[0] == '\0' || h->is_ended)
        return true;
    if (strcmp(h->replica, h->s->replica) == 0) {
        h->has_own = true;
        if (!etcd_store_get_head(&h->s->store, &own, err))
            return false;
        if (own.seq > h->head.seq)
            h->head = own;
    }
    h->is_ended = !h->visit(h->cookie, h->replica, &h->head);
    return true;
}

static bool add_slot(void *cookie, const struct etcd_pair *pair, struct error *err)
{
    struct heads *h = cookie;
    char replica[ETCD_REPLICA_MAX + 1];
    bool is_good = false;
    size_t number = 0;

    if (!etcd_slot_read(&pair->key, replica, &number))
        return error_set(err, ERROR_DATA_LOSS, "store: etcd has a slot without a replica's name");
    if (!etcd_slot_value_read(&h->s->key, &pair->key, &pair->value, &h->slot, &is_good, err))
        return false;
    if (!is_good)
        return error_set(err, ERROR_DATA_LOSS,
                         "store: slot %zu of replica %s is not what the broker wrote", number,
                         replica);
    if (strcmp(replica, h->replica) != 0) {
        if (!tell_head(h, err))
            return false;
        memcpy(h->replica, replica, sizeof(replica));
        h->head = (struct store_head){ .seq = 0 };
    }
    if (h->slot.head.seq > h->head.seq)
        h->head = h->slot.head;
    return true;
}

static bool read_slots(struct heads *h, struct error *err)
{
    struct etcd_key slots;
    const struct etcd_range range = { .start = &slots, .limit = SLOTS_OF_PAGE };

    etcd_key_slots(&slots);
    return etcd_each_pair(h->s->client, &range, add_slot, h, err) && tell_head(h, err);
}

bool etcd_store_each_head(struct store *store,
                          bool (*visit)(void *cookie, const char *replica,
                                        const struct store_head *head),
                          void *cookie, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct heads h = { .s = s, .visit = visit, .cookie = cookie };

    if (!etcd_check_unlocked(s, etcd_until(s->client), err) || !read_slots(&h, err))
        return false;
    if (h.has_own || h.is_ended)
        return true;
    memcpy(h.replica, s->replica, sizeof(h.replica)); /* etcd has lost all slots of this one */
    h.head = (struct store_head){ .seq = 0 };
    return tell_head(&h, err);
}

/* --- marks --- */

static bool make_key(const char *kind, const char *name, struct etcd_key *out, struct error *err)
{
    return (name[0] != '\0' && etcd_key_text(kind, name, out)) ||
           error_set(err, ERROR_INTERNAL, "store: \"%s\" is no name of a mark", name);
}

static bool damaged(const char *name, struct error *err)
{
    return error_set(err, ERROR_INTERNAL,
                     "store: mark %s is damaged: it has the wrong length or value", name);
}

static bool remember_once(struct etcd_store *s, const char *name, const struct etcd_key *key,
                          const uint8_t mark[static STORE_MARK_LEN],
                          uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_result result;
    struct etcd_pair pair;

    if (!etcd_check_ready(s, until_ms, err))
        return false;
    etcd_guard(s, &txn);
    etcd_if_revision(&txn, key, 0);
    etcd_then_put(&txn, key, mark, STORE_MARK_LEN);
    etcd_else_get(&txn, key);
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    if (result.succeeded) {
        memcpy(out, mark, STORE_MARK_LEN);
        return true;
    }
    if (!etcd_guard_holds(s, &result, err) ||
        !etcd_result_get(&result, ETCD_GUARD_GETS, key, &pair, err))
        return false;
    if (pair.value.len != STORE_MARK_LEN)
        return damaged(name, err);
    memcpy(out, pair.value.bytes, STORE_MARK_LEN);
    return true;
}

/* ABORTED: a ring came, which marks do not rely on. */
static bool start_over(int tries, struct error *err)
{
    if (err->code != ERROR_ABORTED || tries >= RING_TRIES)
        return false;
    *err = (struct error)ERROR_INIT;
    return true;
}

bool etcd_store_remember(struct store *store, const char *name,
                         const uint8_t mark[static STORE_MARK_LEN],
                         uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_key key;

    if (!make_key("mark", name, &key, err))
        return false;
    for (int tries = 0;; tries++)
        if (remember_once(s, name, &key, mark, out, err))
            return true;
        else if (!start_over(tries, err))
            return false;
}

static bool forget_once(struct etcd_store *s, const struct etcd_key *prefix, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_result result;

    if (!etcd_check_ready(s, until_ms, err))
        return false;
    etcd_guard(s, &txn);
    etcd_then_delete_all(&txn, prefix);
    return etcd_txn_ask(s->client, &txn, until_ms, &result, err) &&
           (result.succeeded || etcd_guard_holds(s, &result, err));
}

bool etcd_store_forget(struct store *store, const char *prefix, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_key key;

    if (!make_key("mark", prefix, &key, err))
        return false;
    for (int tries = 0;; tries++)
        if (forget_once(s, &key, err))
            return true;
        else if (!start_over(tries, err))
            return false;
}

/* *done: the stored value is *out. */
static bool try_raise(struct etcd_store *s, const struct etcd_key *key, const char *name,
                      uint64_t value, uint64_t until_ms, uint64_t *out, bool *done,
                      struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_result result;
    struct etcd_pair pair;
    uint8_t bytes[8];

    if (!etcd_get(s->client, key, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision > 0 && !etcd_number_read(&pair.value, out))
        return damaged(name, err);
    *done = pair.revision > 0 && *out >= value;
    if (*done)
        return true;
    etcd_number_write(value, bytes);
    etcd_guard(s, &txn);
    etcd_if_revision(&txn, key, pair.revision);
    etcd_then_put(&txn, key, bytes, sizeof(bytes));
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    *out = value;
    *done = result.succeeded;
    return *done || etcd_guard_holds(s, &result, err);
}

bool etcd_store_raise(struct store *store, const char *name, uint64_t value, uint64_t *out,
                      struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    uint64_t until_ms = etcd_until(s->client), highest = 0;
    struct etcd_key key;
    bool done = false;

    if (value > STORE_MARK_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "store: mark %s is too large", name);
    if (!make_key("highest", name, &key, err) || !etcd_check_ready(s, until_ms, err))
        return false;
    for (int tries = 0; !done;)
        if (!try_raise(s, &key, name, value, until_ms, &highest, &done, err) &&
            !start_over(tries++, err))
            return false;
    *out = highest;
    return true;
}
