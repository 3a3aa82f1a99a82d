/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "record/check.h"
#include "store/store_sqlite.h"

#include <stdlib.h>
#include <string.h>

static void bind_name(sqlite3_stmt *st, const char *tenant, const char *driver,
                      const char *volume_id)
{
    bind_text(st, 1, tenant);
    bind_text(st, 2, driver);
    bind_text(st, 3, volume_id);
}

/* --- rows --- */

static bool text_is(sqlite3_stmt *st, int column, const char *text)
{
    size_t len = strlen(text);
    const unsigned char *stored = sqlite3_column_text(st, column);

    return stored && (size_t)sqlite3_column_bytes(st, column) == len &&
           memcmp(stored, text, len) == 0;
}

static bool bytes_are(sqlite3_stmt *st, int column, const void *bytes, size_t len)
{
    return (size_t)sqlite3_column_bytes(st, column) == len &&
           (len == 0 || memcmp(sqlite3_column_blob(st, column), bytes, len) == 0);
}

/* The columns that SQLite searches must say what the record says. */
static bool columns_fit(sqlite3_stmt *st, const struct record *r)
{
    return text_is(st, 0, r->tenant) && text_is(st, 1, r->driver) && text_is(st, 2, r->volume_id) &&
           bytes_are(st, 3, r->id, RECORD_ID_LEN) &&
           sqlite3_column_int64(st, 4) == (sqlite3_int64)r->version &&
           sqlite3_column_int64(st, 5) == (sqlite3_int64)r->phase &&
           sqlite3_column_int64(st, 6) == (sqlite3_int64)r->kind &&
           text_is(st, 7, r->spec.location) && text_is(st, 8, r->source_volume_id) &&
           bytes_are(st, 9, r->key.id, r->key.generation != 0 ? RECORD_ID_LEN : 0) &&
           sqlite3_column_int64(st, 10) == r->key.generation;
}

/* The record's bytes, in the row. */
struct packed {
    const uint8_t *bytes;
    size_t len;
};

static bool refuse(struct sqlite_store *s, sqlite3_stmt *st, struct error *err)
{
    const unsigned char *volume_id = sqlite3_column_text(st, 2);

    return store_refuse(&s->store, volume_id ? (const char *)volume_id : "", "record", err);
}

/* The proof first: nothing is read from bytes that the broker did not write. */
static bool unpack(struct sqlite_store *s, sqlite3_stmt *st, struct record *out,
                   struct packed *packed, struct error *err)
{
    uint8_t proof[STORE_PROOF_LEN];

    *packed = (struct packed){ sqlite3_column_blob(st, 11), (size_t)sqlite3_column_bytes(st, 11) };
    if (!sqlite_check_unlocked(s, err) ||
        !proof_of_record(&s->key, packed->bytes, packed->len, proof, err))
        return false;
    if (sqlite3_column_bytes(st, 12) != STORE_PROOF_LEN ||
        !bytes_are_equal(proof, sqlite3_column_blob(st, 12), STORE_PROOF_LEN))
        return refuse(s, st, err);
    if (!record_decode(packed->bytes, packed->len, out, err) || !record_check(out, err)) {
        if (err->code == ERROR_FAILED_PRECONDITION)
            return error_wrap(err, "a stored record");
        err->code = ERROR_INTERNAL;
        return error_wrap(err, "a stored record is damaged");
    }
    return columns_fit(st, out) || refuse(s, st, err);
}

bool sqlite_get(struct store *store, const struct store_name *name, struct record *out,
                struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[GET];
    struct packed packed;
    bool found = false;

    bind_name(st, name->tenant, name->driver, name->volume_id);
    if (!sqlite_read(s, st, &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         name->volume_id);
    return unpack(s, st, out, &packed, err);
}

bool sqlite_check_records(struct sqlite_store *s, struct proof_sum *sum, struct store_check *out,
                          struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[EACH];
    struct record *r = malloc(sizeof(*r));
    bool found = false, ok = r || error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    struct packed packed;

    *sum = (struct proof_sum){ .bytes = { 0 } };
    while (ok && (ok = sqlite_read(s, st, &found, err)) && found) {
        struct error damage = ERROR_INIT;

        out->records++;
        if (unpack(s, st, r, &packed, &damage)) {
            ok = proof_add(&s->key, sum, packed.bytes, packed.len, err);
        } else if (out->damaged++ == 0) {
            out->first_damage = damage;
        }
    }
    free(r);
    return ok;
}

/* --- changes --- */

struct state {
    uint64_t version; /* 0: there is none */
    struct record_key key;
};

/* sum: NULL, or the record's part is taken out of it. */
static bool get_state(struct sqlite_store *s, const struct record *r, struct proof_sum *sum,
                      struct state *out, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[GET];
    struct record old;
    struct packed packed;
    bool found = false;

    *out = (struct state){ .version = 0 };
    bind_name(st, r->tenant, r->driver, r->volume_id);
    if (!sqlite_read(s, st, &found, err))
        return false;
    if (!found)
        return true;
    if (!unpack(s, st, &old, &packed, err))
        return false;
    *out = (struct state){ old.version, old.key };
    return !sum || proof_subtract(&s->key, sum, packed.bytes, packed.len, err);
}

static bool check_version(struct sqlite_store *s, const struct record *r, uint64_t expected,
                          struct proof_sum *sum, struct state *out, struct error *err)
{
    if (!get_state(s, r, sum, out, err))
        return false;
    if (out->version != expected)
        return error_set(err, ERROR_ABORTED, "%s was changed by another call: try again",
                         r->volume_id);
    return true;
}

static bool put_record(struct sqlite_store *s, const struct record *r, enum statement which,
                       struct proof_sum *sum, struct error *err)
{
    sqlite3_stmt *st = s->statements[which];
    uint8_t proof[STORE_PROOF_LEN];
    struct encoded encoded;

    record_encode(r, &encoded);
    if (!proof_of_record(&s->key, encoded.bytes, encoded.len, proof, err) ||
        !proof_add(&s->key, sum, encoded.bytes, encoded.len, err))
        return false;
    bind_name(st, r->tenant, r->driver, r->volume_id);
    bind_blob(st, 4, r->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 5, (sqlite3_int64)r->version);
    sqlite3_bind_int(st, 6, (int)r->phase);
    sqlite3_bind_int(st, 7, (int)r->kind);
    bind_text(st, 8, r->spec.location);
    bind_text(st, 9, r->source_volume_id);
    if (r->key.generation != 0) {
        bind_blob(st, 10, r->key.id, RECORD_ID_LEN);
        sqlite3_bind_int64(st, 11, r->key.generation);
    }
    bind_blob(st, 12, encoded.bytes, encoded.len);
    bind_blob(st, 13, proof, sizeof(proof));
    return sqlite_run(s, which, err);
}

static bool put_key(struct sqlite_store *s, const struct store_key *key, struct error *err)
{
    sqlite3_stmt *st = s->statements[PUT_KEY];

    bind_blob(st, 1, key->key.id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, key->key.generation);
    bind_blob(st, 3, key->wrapped, sizeof(key->wrapped));
    return sqlite_run(s, PUT_KEY, err);
}

/* Destroys the key that the record dropped, unless another record still uses it. */
static bool drop_key(struct sqlite_store *s, const struct record_key *old,
                     const struct record_key *next, bool *destroys, struct error *err)
{
    sqlite3_stmt *st = s->statements[DROP_KEY];

    if (old->generation == 0 ||
        (old->generation == next->generation && memcmp(old->id, next->id, RECORD_ID_LEN) == 0))
        return true;
    bind_blob(st, 1, old->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, old->generation);
    if (!sqlite_run(s, DROP_KEY, err))
        return false;
    *destroys = *destroys || sqlite3_changes(s->db) > 0;
    return true;
}

/* What a change leaves in memory, when it is made. */
struct outcome {
    struct proof_sum sum;
    struct store_head head;
    bool destroys; /* a secret, which the write-ahead log still has */
};

static bool write_change(struct sqlite_store *s, const struct store_change *change,
                         struct outcome *out, struct error *err)
{
    const struct record *other = change->must_still_be;
    struct state old, other_state;

    if (other && !check_version(s, other, other->version, NULL, &other_state, err))
        return false;
    if (!check_version(s, change->next, change->expected_version, &out->sum, &old, err))
        return false;
    if (change->new_key && !put_key(s, change->new_key, err))
        return false;
    /* The former record may hold a next secret, which no key in the store is yet. */
    out->destroys = change->next->phase == RECORD_ERASED;
    return put_record(s, change->next, change->expected_version == 0 ? INSERT : UPDATE, &out->sum,
                      err) &&
           drop_key(s, &old.key, &change->next->key, &out->destroys, err) &&
           sqlite_put_state(s, &out->sum, change->head, &out->head, err);
}

/* After the commit: the change is made, whatever becomes of the log. Only who destroys a secret must
 * know that it is not gone yet; he tries again, which writes a head, which tries this again. */
static bool empty_log(struct sqlite_store *s, bool destroys, struct error *err)
{
    struct error problem = ERROR_INIT;

    s->must_checkpoint = s->must_checkpoint || destroys;
    if (!s->must_checkpoint || sqlite_checkpoint(s, &problem))
        return true;
    if (destroys)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the change is made, but the destroyed key may still be in a file: %s",
                         problem.text);
    log_warning("the store's log is not empty yet: the next change tries again",
                ERROR_FIELDS(&problem));
    return true;
}

bool sqlite_swap(struct store *store, const struct store_change *change, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    struct outcome outcome = { .sum = s->sum };
    struct error ignored = ERROR_INIT;

    if (!sqlite_check_unlocked(s, err))
        return false;
    if (change->ring && *change->ring != s->ring_version)
        return store_ring_changed(err);
    if (!sqlite_run(s, BEGIN, err))
        return false;
    if (!write_change(s, change, &outcome, err) || !sqlite_run(s, COMMIT, err)) {
        s->must_checkpoint = true; /* after any error: it is cheap, and no key stays in the log */
        if (!sqlite3_get_autocommit(s->db) && !sqlite_run(s, ROLLBACK, &ignored))
            return error_wrap(err, "%s", ignored.text);
        return false;
    }
    s->sum = outcome.sum;
    s->head = outcome.head;
    return empty_log(s, outcome.destroys, err);
}

/* --- lists and keys --- */

/* The names of the record after which the page starts. */
static bool find_position(struct sqlite_store *s, const struct store_filter *filter,
                          struct record *out, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[POSITION];
    bool found = false;

    bind_text(st, 1, filter->tenant);
    bind_blob(st, 2, filter->after, RECORD_ID_LEN);
    if (!sqlite_read(s, st, &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_ABORTED, "page_token is not known: start the list again");
    return record_text(out->driver, sizeof(out->driver), "driver",
                       (const char *)sqlite3_column_text(st, 0), err) &&
           record_text(out->volume_id, sizeof(out->volume_id), "volume_id",
                       (const char *)sqlite3_column_text(st, 1), err);
}

bool sqlite_list(struct store *store, const struct store_filter *filter,
                 bool (*visit)(void *cookie, const struct record *r), void *cookie,
                 struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[LIST];
    struct record after = { .version = 0 }, r;
    struct packed packed;
    bool found = false;

    if (filter->after && !find_position(s, filter, &after, err))
        return false;
    bind_text(st, 1, filter->tenant);
    bind_text(st, 2, filter->driver);
    bind_text(st, 3, filter->location);
    bind_text(st, 4, filter->source_volume_id);
    sqlite3_bind_int(st, 5, (int)filter->kind);
    bind_text(st, 6, after.driver);
    bind_text(st, 7, after.volume_id);
    sqlite3_bind_int(st, 8, filter->is_gone);
    for (;;) {
        if (!store_check_wanted(filter, err) || !sqlite_read(s, st, &found, err))
            return false;
        if (!found)
            return true;
        struct error damage = ERROR_INIT;

        if (!unpack(s, st, &r, &packed, &damage)) {
            if (damage.code != ERROR_DATA_LOSS) {
                *err = damage;
                return false;
            }
            log_error("a list leaves out a damaged record", ERROR_FIELDS(&damage));
            continue; /* a list is for all the others */
        }
        if (!visit(cookie, &r))
            return true;
    }
}

bool sqlite_count(struct store *store, const char *tenant, uint64_t *out, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[COUNT];
    bool found = false;

    bind_text(st, 1, tenant);
    if (!sqlite_read(s, st, &found, err))
        return false;
    *out = (uint64_t)sqlite3_column_int64(st, 0);
    return true;
}

static bool get_key(struct sqlite_store *s, const struct record_key *key, struct store_key *out,
                    struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[GET_KEY];
    struct store_key result = { .key = *key };
    bool found = false;

    bind_blob(st, 1, key->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, key->generation);
    if (!sqlite_read_blob(s, st, result.wrapped, sizeof(result.wrapped), &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "the key was destroyed");
    *out = result;
    return true;
}

bool sqlite_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                    struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);

    return get_key(s, key, out, err);
}

/* Free pages hold nothing of it: secure_delete. */
bool sqlite_find_remains(struct store *store, const struct record_key *key,
                         struct store_remains *out, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[USERS];
    bool found = false;

    bind_blob(st, 1, key->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, key->generation);
    if (!sqlite_read(s, st, &found, err))
        return false;
    const uint64_t users = (uint64_t)sqlite3_column_int64(st, 0);

    *out = (struct store_remains){ .users = users, .in_past = users == 0 && s->must_checkpoint };
    return true;
}

bool sqlite_each_retained(struct store *store,
                          bool (*visit)(void *cookie, const struct store_retained *r), void *cookie,
                          struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[EACH_RETAINED];
    struct packed packed;
    bool found = false;
    struct record r;

    for (;;) {
        struct error damage = ERROR_INIT;

        if (!sqlite_read(s, st, &found, err))
            return false;
        if (!found)
            return true;
        if (!unpack(s, st, &r, &packed, &damage)) {
            if (damage.code != ERROR_DATA_LOSS) {
                *err = damage;
                return false;
            }
            continue; /* its key stays, and the others' time is over all the same */
        }
        const struct store_retained out = store_retained_of(&r);

        if (!visit(cookie, &out))
            return true;
    }
}

bool sqlite_walk(struct store *store, const struct store_name *after, struct record *out,
                 bool *found, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[NEXT];
    struct packed packed;

    bind_name(st, after->tenant, after->driver, after->volume_id);
    return sqlite_read(s, st, found, err) && (!*found || unpack(s, st, out, &packed, err));
}

/* --- export --- */

static bool export_records(struct sqlite_store *s, const struct store_visitor *v, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[EACH];
    struct record r = { .version = 0 };
    struct store_key key;
    struct packed packed;
    bool found = false;

    for (;;) {
        if (!sqlite_read(s, st, &found, err))
            return false;
        if (!found)
            return true;
        if (!unpack(s, st, &r, &packed, err))
            return false;
        bool has_key = r.key.generation != 0;

        if ((has_key && !get_key(s, &r.key, &key, err)) ||
            !v->record(v->cookie, &r, has_key ? &key : NULL, err))
            return false;
    }
}

static bool export_marks(struct sqlite_store *s, const struct store_visitor *v, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[EACH_MARK];
    bool found = false;

    for (;;) {
        if (!sqlite_read(s, st, &found, err))
            return false;
        if (!found)
            return true;
        const char *name = (const char *)sqlite3_column_text(st, 0);

        if (!name || sqlite3_column_bytes(st, 1) != STORE_MARK_LEN)
            return error_set(err, ERROR_DATA_LOSS, "store: mark %s is damaged", name ? name : "");
        if (!v->mark(v->cookie, name, sqlite3_column_blob(st, 1), err))
            return false;
    }
}

static bool export_highest(struct sqlite_store *s, const struct store_visitor *v, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[EACH_HIGHEST];
    bool found = false;

    for (;;) {
        if (!sqlite_read(s, st, &found, err))
            return false;
        if (!found)
            return true;
        const char *name = (const char *)sqlite3_column_text(st, 0);
        sqlite3_int64 value = sqlite3_column_int64(st, 1);

        if (!name || value < 0)
            return error_set(err, ERROR_DATA_LOSS, "store: mark %s is damaged", name ? name : "");
        if (!v->highest(v->cookie, name, (uint64_t)value, err))
            return false;
    }
}

bool sqlite_export(struct store *store, const struct store_visitor *visitor, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);

    return sqlite_check_unlocked(s, err) && export_records(s, visitor, err) &&
           export_marks(s, visitor, err) && export_highest(s, visitor, err);
}
