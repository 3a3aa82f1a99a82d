/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include <string.h>

/* One change of a record: the names of all keys, and what the last try has read. */
struct swap {
    const struct store_change *change;
    struct etcd_key record, other, sum, count, old_users, new_users;
    struct etcd_place place;
    uint64_t seen;     /* of the shard's changes, before the sum was read */
    struct record old; /* version 0: there is none */
    uint64_t n_live, n_old_users, n_new_users;
    int64_t old_users_revision, new_users_revision;
    bool destroys; /* a key, or the old passphrase in a record */
};

static bool key_is_equal(const struct record_key *a, const struct record_key *b)
{
    return a->generation == b->generation && memcmp(a->id, b->id, RECORD_ID_LEN) == 0;
}

static bool is_live(const struct record *r)
{
    return !record_is_gone(r);
}

static bool make_record_key(const struct record *r, struct etcd_key *out, struct error *err)
{
    const struct store_name name = { r->tenant, r->driver, r->volume_id };

    return etcd_key_record(&name, out) ||
           error_set(err, ERROR_INTERNAL, "store: the names of record %s are too long",
                     r->volume_id);
}

static bool prepare(struct swap *w, struct error *err)
{
    const struct record *next = w->change->next, *other = w->change->must_still_be;

    if (!make_record_key(next, &w->record, err) ||
        (other && !make_record_key(other, &w->other, err)) ||
        !etcd_place_of(&w->record, &w->place, err))
        return false;
    etcd_key_sum(w->place.shard, &w->sum);
    return etcd_key_count(next->tenant, w->place.shard, &w->count) ||
           error_set(err, ERROR_INTERNAL, "store: the tenant's name is too long");
}

/* --- reading --- */

static bool changed_meanwhile(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_ABORTED, "%s was changed by another call: try again", r->volume_id);
}

static bool read_record(struct etcd_store *s, const struct etcd_pair *pair, uint64_t expected,
                        const struct record *wanted, struct record *out, struct etcd_bytes *packed,
                        struct error *err)
{
    *packed = (struct etcd_bytes){ NULL, 0 };
    out->version = 0;
    out->key.generation = 0;
    if (pair->revision > 0 && !etcd_unpack(s, pair, out, packed, err))
        return false;
    return out->version == expected || changed_meanwhile(wanted, err);
}

/* A sum that was wrong when this broker started is replaced: its broker has told it. */
static bool read_sum(struct etcd_store *s, const struct swap *w, const struct etcd_pair *pair,
                     struct etcd_sum *out, struct error *err)
{
    const struct etcd_found *found = &s->found[w->place.shard];
    const struct etcd_bytes key = etcd_key_bytes(&w->sum);
    bool is_good = false;

    if (found->is_wrong && found->revision == pair->revision) {
        *out = found->sum;
        return true;
    }
    *out = (struct etcd_sum){ .changes = 0 };
    if (pair->revision > 0 && !etcd_sum_read(&s->key, &key, &pair->value, out, &is_good, err))
        return false;
    if ((pair->revision == 0 || is_good) && out->changes >= w->seen)
        return true;
    return error_set(err, ERROR_DATA_LOSS,
                     "the broker's store: the sum over records was changed by something else than "
                     "the broker while it ran: restart the broker, which checks all records");
}

/* Number of records with a key. */
static bool read_users(const struct etcd_result *result, size_t i, const struct etcd_key *key,
                       uint64_t *out, int64_t *revision, struct error *err)
{
    struct etcd_pair pair;

    *out = 0;
    if (!etcd_result_get(result, i, key, &pair, err))
        return false;
    *revision = pair.revision;
    return pair.revision == 0 || etcd_number_read(&pair.value, out) ||
           error_set(err, ERROR_INTERNAL, "store: the number of users of a key is damaged");
}

static bool read_key_users(struct etcd_store *s, struct swap *w, struct arena *arena,
                           uint64_t until_ms, struct error *err)
{
    struct etcd_txn txn = { .arena = arena };
    struct etcd_result result;

    etcd_key_of_key("users", &w->old.key, &w->old_users);
    etcd_key_of_key("users", &w->change->next->key, &w->new_users);
    etcd_then_get(&txn, &w->old_users);
    etcd_then_get(&txn, &w->new_users);
    return etcd_txn_ask(s->client, &txn, until_ms, &result, err) &&
           read_users(&result, 0, &w->old_users, &w->n_old_users, &w->old_users_revision, err) &&
           read_users(&result, 1, &w->new_users, &w->n_new_users, &w->new_users_revision, err);
}

/* --- what the Txn changes --- */

static bool put_record(struct etcd_store *s, struct swap *w, struct etcd_txn *txn,
                       struct etcd_sum *sum, struct error *err)
{
    uint8_t value[ETCD_RECORD_MAX];
    struct encoded encoded;

    record_encode(w->change->next, &encoded);
    if (!proof_of_record(&s->key, encoded.bytes, encoded.len, value, err) ||
        !proof_add(&s->key, &sum->sum, encoded.bytes, encoded.len, err))
        return false;
    memcpy(value + STORE_PROOF_LEN, encoded.bytes, encoded.len);
    etcd_then_put(txn, &w->record, value, STORE_PROOF_LEN + encoded.len);
    return true;
}

/* Where a list goes on after this record. */
static bool put_id(const struct swap *w, struct etcd_txn *txn, struct error *err)
{
    const struct record *next = w->change->next, *old = &w->old;
    uint8_t names[sizeof(struct etcd_names)];
    struct etcd_key key;

    if (old->version == 0 && w->place.begins_page && etcd_key_page(&w->record, &key))
        etcd_then_put(txn, &key, "", 0);
    if (old->version > 0 && memcmp(old->id, next->id, RECORD_ID_LEN) == 0)
        return true;
    if (old->version > 0 && etcd_key_id(old->tenant, old->id, &key))
        etcd_then_delete(txn, &key);
    if (!etcd_key_id(next->tenant, next->id, &key))
        return error_set(err, ERROR_INTERNAL, "store: the tenant's name is too long");
    etcd_then_put(txn, &key, names, etcd_names_write(next, names));
    return true;
}

static bool put_retained(const struct swap *w, struct etcd_txn *txn, struct error *err)
{
    bool was = w->old.version > 0 && w->old.phase == RECORD_RETAINED;
    bool will = w->change->next->phase == RECORD_RETAINED;
    uint8_t value[ETCD_RETAINED_BYTES];
    struct etcd_key key;

    if (!was && !will)
        return true;
    if (!etcd_key_retained(&w->record, &key))
        return error_set(err, ERROR_INTERNAL, "store: the names of a record are too long");
    etcd_retained_write(w->change->next, value);
    if (will)
        etcd_then_put(txn, &key, value, sizeof(value));
    else
        etcd_then_delete(txn, &key);
    return true;
}

/* The sum's revision, which the Txn compares, guards the count, too: both change together. */
static void put_count(struct swap *w, struct etcd_txn *txn)
{
    bool was_live = is_live(&w->old), will_live = is_live(w->change->next);
    uint8_t bytes[8];

    if (was_live == will_live)
        return;
    if (will_live)
        w->n_live++;
    else if (w->n_live > 0)
        w->n_live--;
    etcd_number_write(w->n_live, bytes);
    etcd_then_put(txn, &w->count, bytes, sizeof(bytes));
}

static void put_users(struct etcd_txn *txn, const struct etcd_key *key, uint64_t n)
{
    uint8_t bytes[8];

    etcd_number_write(n, bytes);
    etcd_then_put(txn, key, bytes, sizeof(bytes));
}

/* Destroys the key that the record dropped, unless another record still uses it. */
static bool drop_key(struct swap *w, struct etcd_txn *txn, struct error *err)
{
    struct etcd_key key;

    if (w->old.key.generation == 0)
        return true;
    if (w->n_old_users == 0)
        return error_set(err, ERROR_DATA_LOSS,
                         "the broker's store: the number of users of the key of volume %s is lost: "
                         "restore the store from a backup",
                         w->old.volume_id);
    etcd_if_revision(txn, &w->old_users, w->old_users_revision);
    put_users(txn, &w->old_users, w->n_old_users - 1);
    if (w->n_old_users > 1)
        return true;
    etcd_key_of_key("key", &w->old.key, &key);
    etcd_then_delete(txn, &key);
    w->destroys = true;
    return true;
}

static bool take_key(const struct swap *w, struct etcd_txn *txn, struct error *err)
{
    const struct store_key *new_key = w->change->new_key;
    const struct record *next = w->change->next;
    struct etcd_key key;

    if (new_key) {
        etcd_key_of_key("key", &new_key->key, &key);
        etcd_if_revision(txn, &key, 0);
        etcd_then_put(txn, &key, new_key->wrapped, sizeof(new_key->wrapped));
    }
    if (next->key.generation == 0)
        return true;
    if (w->n_new_users == 0 && !(new_key && key_is_equal(&new_key->key, &next->key)))
        return error_set(err, ERROR_ABORTED, "the key of %s was destroyed meanwhile: try again",
                         next->volume_id);
    if (w->n_new_users > 0 && new_key)
        return error_set(err, ERROR_INTERNAL, "store: the new key of %s is not new",
                         next->volume_id);
    etcd_if_revision(txn, &w->new_users, w->new_users_revision);
    put_users(txn, &w->new_users, w->n_new_users + 1);
    return true;
}

static bool change_keys(struct etcd_store *s, struct swap *w, struct etcd_txn *txn,
                        uint64_t until_ms, struct error *err)
{
    const struct record *next = w->change->next;
    bool drops_old_key = w->old.old_key.is_set && !next->old_key.is_set;
    bool drops_next_secret = w->old.rotation.secret_len > 0 && next->phase == RECORD_ERASED;

    w->destroys = w->old.version > 0 && (drops_old_key || drops_next_secret);
    if (!w->change->new_key &&
        (key_is_equal(&w->old.key, &w->change->next->key) ||
         (w->old.key.generation == 0 && w->change->next->key.generation == 0)))
        return true;
    return read_key_users(s, w, txn->arena, until_ms, err) && drop_key(w, txn, err) &&
           take_key(w, txn, err);
}

/* --- one try --- */

enum reading { RECORD, SUM, COUNT, OTHER };

static bool check_other(struct etcd_store *s, const struct swap *w,
                        const struct etcd_result *result, struct etcd_txn *txn, struct error *err)
{
    const struct record *other = w->change->must_still_be;
    struct etcd_bytes packed;
    struct etcd_pair pair;
    struct record now;

    if (!other)
        return true;
    if (!etcd_result_get(result, OTHER, &w->other, &pair, err) ||
        !read_record(s, &pair, other->version, other, &now, &packed, err))
        return false;
    etcd_if_revision(txn, &w->other, pair.revision);
    return true;
}

static bool ask_all(struct etcd_store *s, struct swap *w, struct arena *arena, uint64_t until_ms,
                    struct etcd_result *out, struct error *err)
{
    struct etcd_txn reading = { .arena = arena };

    pthread_mutex_lock(&s->lock);
    w->seen = s->seen[w->place.shard];
    pthread_mutex_unlock(&s->lock);
    etcd_then_get(&reading, &w->record);
    etcd_then_get(&reading, &w->sum);
    etcd_then_get(&reading, &w->count);
    if (w->change->must_still_be)
        etcd_then_get(&reading, &w->other);
    return etcd_txn_ask(s->client, &reading, until_ms, out, err);
}

static bool read_count(struct swap *w, const struct etcd_result *result, struct error *err)
{
    struct etcd_pair pair;

    w->n_live = 0;
    if (!etcd_result_get(result, COUNT, &w->count, &pair, err))
        return false;
    return pair.revision == 0 || etcd_number_read(&pair.value, &w->n_live) ||
           error_set(err, ERROR_INTERNAL, "store: the count of records is damaged");
}

static bool put_sum(struct etcd_store *s, struct swap *w, struct etcd_commit *commit,
                    struct etcd_txn *txn, struct etcd_sum *sum, struct error *err)
{
    uint8_t bytes[ETCD_SUM_BYTES];

    sum->changes++;
    if (!etcd_sum_write(&s->key, &w->sum, sum, bytes, err))
        return false;
    etcd_then_put(txn, &w->sum, bytes, sizeof(bytes));
    commit->has_shard = true;
    commit->shard = w->place.shard;
    commit->shard_changes = sum->changes;
    return true;
}

/* After etcd_guard() has chosen the format's revision: a ring that comes now makes the Txn fail. */
static bool check_ring(struct etcd_store *s, const uint64_t *ring, struct error *err)
{
    if (!ring)
        return true;
    pthread_mutex_lock(&s->lock);
    bool is_same = *ring == s->ring_version;

    pthread_mutex_unlock(&s->lock);
    return is_same || store_ring_changed(err);
}

static bool fill(struct etcd_store *s, struct etcd_commit *commit, struct etcd_txn *txn,
                 struct error *err)
{
    struct swap *w = commit->cookie;
    struct etcd_pair record, sum_pair;
    struct etcd_bytes packed;
    struct etcd_result result;
    struct etcd_sum sum;

    if (!check_ring(s, w->change->ring, err) ||
        !ask_all(s, w, txn->arena, commit->until_ms, &result, err) ||
        !check_other(s, w, &result, txn, err) ||
        !etcd_result_get(&result, RECORD, &w->record, &record, err) ||
        !read_record(s, &record, w->change->expected_version, w->change->next, &w->old, &packed,
                     err) ||
        !etcd_result_get(&result, SUM, &w->sum, &sum_pair, err) ||
        !read_sum(s, w, &sum_pair, &sum, err) || !read_count(w, &result, err))
        return false;
    if (packed.bytes && !proof_subtract(&s->key, &sum.sum, packed.bytes, packed.len, err))
        return false;
    etcd_if_revision(txn, &w->record, record.revision);
    etcd_if_revision(txn, &w->sum, sum_pair.revision);
    put_count(w, txn);
    return put_record(s, w, txn, &sum, err) && put_id(w, txn, err) && put_retained(w, txn, err) &&
           change_keys(s, w, txn, commit->until_ms, err) && put_sum(s, w, commit, txn, &sum, err);
}

bool etcd_store_swap(struct store *store, const struct store_change *change, struct error *err)
{
    struct etcd_store *s = etcd_store_of(store);
    struct swap w = { .change = change };
    struct etcd_commit commit = {
        .fill = fill, .cookie = &w, .head = change->head, .until_ms = etcd_until(s->client)
    };

    if (!prepare(&w, err) || !etcd_commit(s, &commit, err))
        return false;
    if (w.destroys)
        etcd_compact_soon(s, commit.revision);
    return true;
}
