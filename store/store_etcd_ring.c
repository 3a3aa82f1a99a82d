/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "store/store_etcd.h"

#include <string.h>

/*
 * The ring, and keys that are wrapped anew. A Txn that puts a ring puts the format, too, whose revision
 * each Txn of each broker compares: so no change is made by a broker that does not know the newest ring.
 */

bool etcd_store_get_ring(struct store *store, struct store_ring *out, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);

    return etcd_check_fence(s, err) && etcd_take_format(s, etcd_until(s->client), out, err);
}

static void keep(struct etcd_store *s, uint64_t version, int64_t revision)
{
    pthread_mutex_lock(&s->lock);
    if (revision > s->format_revision) {
        s->format_revision = revision;
        s->ring_version = version;
    }
    pthread_mutex_unlock(&s->lock);
    etcd_compact_soon(s, revision); /* the former ring */
}

/* The answer to an earlier try of ours may have been lost. */
static bool find_put(struct etcd_store *s, const struct store_ring *next,
                     const struct etcd_result *result, const struct etcd_key *key, bool *out,
                     struct error *err)
{
    struct store_ring stored;
    struct etcd_pair pair;

    if (!etcd_result_get(result, ETCD_GUARD_GETS, key, &pair, err))
        return false;
    *out = pair.revision > 0 && etcd_ring_read(&pair.value, &stored) &&
           stored.version == next->version && stored.len == next->len &&
           memcmp(stored.bytes, next->bytes, next->len) == 0;
    if (*out)
        keep(s, next->version, pair.revision);
    return true;
}

bool etcd_store_put_ring(struct store *store, const struct store_ring *next, uint64_t expected,
                         struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_txn txn = { .arena = &arena };
    const char *text = etcd_format_text(s->is_migration, true);
    uint64_t until_ms = etcd_until(s->client);
    uint8_t value[ETCD_RING_BYTES];
    struct etcd_key format, ring;
    struct etcd_result result;
    bool ours = false;

    if (!etcd_check_unlocked(s, until_ms, err))
        return false;
    etcd_key_format(&format);
    etcd_key_ring(&ring);
    etcd_guard(s, &txn);
    pthread_mutex_lock(&s->lock);
    bool is_expected = s->ring_version == expected;

    pthread_mutex_unlock(&s->lock);
    if (!is_expected)
        return store_ring_changed(err);
    etcd_then_put(&txn, &ring, value, etcd_ring_write(next, value));
    etcd_then_put(&txn, &format, text, strlen(text));
    etcd_else_get(&txn, &ring);
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    FAULT_POINT("store.etcd.ring-put");
    if (result.succeeded) {
        keep(s, next->version, result.revision);
        return true;
    }
    if (!find_put(s, next, &result, &ring, &ours, err))
        return false;
    return ours || (etcd_guard_holds(s, &result, err) && store_ring_changed(err));
}

bool etcd_store_rekey(struct store *store, const struct store_key *from,
                      const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_txn txn = { .arena = &arena };
    uint64_t until_ms = etcd_until(s->client);
    struct etcd_result result;
    struct etcd_key key;

    if (!etcd_check_unlocked(s, until_ms, err))
        return false;
    etcd_key_of_key("key", &from->key, &key);
    etcd_guard(s, &txn);
    etcd_if_value(&txn, &key, from->wrapped, STORE_WRAPPED_LEN);
    etcd_then_put(&txn, &key, wrapped, STORE_WRAPPED_LEN);
    return etcd_txn_ask(s->client, &txn, until_ms, &result, err) &&
           (result.succeeded || (etcd_guard_holds(s, &result, err) && store_ring_changed(err)));
}
