/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include <string.h>

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

bool etcd_store_remember(struct store *store, const char *name,
                         const uint8_t mark[static STORE_MARK_LEN],
                         uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_txn txn = { .arena = &arena };
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_result result;
    struct etcd_pair pair;
    struct etcd_key key;

    if (!make_key("mark", name, &key, err) || !etcd_check_ready(s, until_ms, err))
        return false;
    etcd_guard(s, &txn);
    etcd_if_revision(&txn, &key, 0);
    etcd_then_put(&txn, &key, mark, STORE_MARK_LEN);
    etcd_else_get(&txn, &key);
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    if (result.succeeded) {
        memcpy(out, mark, STORE_MARK_LEN);
        return true;
    }
    if (!etcd_guard_holds(s, &result, err) ||
        !etcd_result_get(&result, ETCD_GUARD_GETS, &key, &pair, err))
        return false;
    if (pair.value.len != STORE_MARK_LEN)
        return damaged(name, err);
    memcpy(out, pair.value.bytes, STORE_MARK_LEN);
    return true;
}

bool etcd_store_forget(struct store *store, const char *prefix, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_txn txn = { .arena = &arena };
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_result result;
    struct etcd_key key;

    if (!make_key("mark", prefix, &key, err) || !etcd_check_ready(s, until_ms, err))
        return false;
    etcd_guard(s, &txn);
    etcd_then_delete_all(&txn, &key);
    return etcd_txn_ask(s->client, &txn, until_ms, &result, err) &&
           (result.succeeded || etcd_guard_holds(s, &result, err));
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
    while (!done)
        if (!try_raise(s, &key, name, value, until_ms, &highest, &done, err))
            return false;
    *out = highest;
    return true;
}
