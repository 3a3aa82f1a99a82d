/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/file.h"
#include "broker/lifecycle.h"
#include "broker/store.h"
#include "record/check.h"
#include "record/encoding.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define PATH_BYTES     4096

/* Each field that is searched for has a column. packed holds the whole record. An ERASED record
 * has no key. */
static const char schema_sql[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE mark (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE highest (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE key (key_id BLOB, generation INTEGER, wrapped BLOB NOT NULL,"
    " PRIMARY KEY (key_id, generation)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE record (tenant TEXT, driver TEXT, volume_id TEXT, record_id BLOB UNIQUE,"
    " version INTEGER NOT NULL, phase INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " location TEXT NOT NULL, source_volume_id TEXT NOT NULL, key_id BLOB, generation INTEGER,"
    " packed BLOB NOT NULL, PRIMARY KEY (tenant, driver, volume_id),"
    " FOREIGN KEY (key_id, generation) REFERENCES key (key_id, generation)) STRICT;"
    "CREATE INDEX record_of_key ON record (key_id, generation);"
    "PRAGMA user_version = 1;"
    "COMMIT;";

/* One connection for the life of the process. No other process may read: a reader could delay
 * the checkpoint after an erasure. */
static const char setup_sql[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                "PRAGMA journal_mode = WAL;"
                                "PRAGMA synchronous = FULL;"
                                "PRAGMA secure_delete = ON;"
                                "PRAGMA foreign_keys = ON;"
                                "PRAGMA trusted_schema = OFF;"
                                "PRAGMA temp_store = MEMORY;";

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    GET,
    GET_STATE,
    INSERT,
    UPDATE,
    PUT_KEY,
    GET_KEY,
    DROP_KEY,
    POSITION,
    LIST,
    COUNT,
    PUT_MARK,
    GET_MARK,
    RAISE,
    STATEMENT_COUNT
};

#define WHERE_NAME "tenant = ?1 AND driver = ?2 AND volume_id = ?3"

static const char *const statement_sql[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [GET] = "SELECT packed FROM record WHERE " WHERE_NAME,
    [GET_STATE] = "SELECT version, key_id, generation FROM record WHERE " WHERE_NAME,
    [INSERT] = "INSERT INTO record (tenant, driver, volume_id, record_id, version, phase, kind,"
               " location, source_volume_id, key_id, generation, packed)"
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [UPDATE] = "UPDATE record SET record_id = ?4, version = ?5, phase = ?6, kind = ?7,"
               " location = ?8, source_volume_id = ?9, key_id = ?10, generation = ?11,"
               " packed = ?12 WHERE " WHERE_NAME,
    [PUT_KEY] = "INSERT INTO key (key_id, generation, wrapped) VALUES (?1, ?2, ?3)",
    [GET_KEY] = "SELECT wrapped FROM key WHERE key_id = ?1 AND generation = ?2",
    [DROP_KEY] = "DELETE FROM key WHERE key_id = ?1 AND generation = ?2 AND NOT EXISTS"
                 " (SELECT 1 FROM record WHERE key_id = ?1 AND generation = ?2)",
    [POSITION] = "SELECT driver, volume_id FROM record WHERE tenant = ?1 AND record_id = ?2",
    [LIST] = "SELECT packed FROM record WHERE tenant = ?1 AND phase != 5"
             " AND (?2 = '' OR driver = ?2) AND (?3 = '' OR location = ?3)"
             " AND (?4 = '' OR source_volume_id = ?4) AND (?5 = 0 OR kind = ?5)"
             " AND (driver, volume_id) > (?6, ?7) ORDER BY driver, volume_id",
    [COUNT] = "SELECT count(*) FROM record WHERE tenant = ?1 AND phase != 5",
    [PUT_MARK] = "INSERT INTO mark (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    [GET_MARK] = "SELECT value FROM mark WHERE name = ?1",
    [RAISE] = "INSERT INTO highest (name, value) VALUES (?1, ?2) ON CONFLICT (name)"
              " DO UPDATE SET value = max(value, excluded.value) RETURNING value",
};

struct sqlite_store {
    struct store store;
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    int lock_fd;
    bool must_checkpoint; /* a destroyed key may still be in the write-ahead log */
};

static struct sqlite_store *locked(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)(void *)store;

    pthread_mutex_lock(&s->lock);
    return s;
}

static void unlock(struct sqlite_store **s)
{
    pthread_mutex_unlock(&(*s)->lock);
}
#define auto_unlock CLEANUP(unlock)

static bool failed(struct sqlite_store *s, const char *what, struct error *err)
{
    int code = sqlite3_errcode(s->db) & 0xff;
    enum error_code mapped = ERROR_INTERNAL;

    if (code == SQLITE_FULL || code == SQLITE_NOMEM)
        mapped = ERROR_RESOURCE_EXHAUSTED;
    else if (code == SQLITE_IOERR || code == SQLITE_BUSY || code == SQLITE_CANTOPEN)
        mapped = ERROR_UNAVAILABLE;
    return error_set(err, mapped, "store: %s: %s", what, sqlite3_errmsg(s->db));
}

static void reset(sqlite3_stmt **statement)
{
    sqlite3_reset(*statement);
    sqlite3_clear_bindings(*statement);
}
#define auto_reset CLEANUP(reset)

static void bind_text(sqlite3_stmt *st, int at, const char *text)
{
    sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}

static void bind_blob(sqlite3_stmt *st, int at, const void *bytes, size_t len)
{
    sqlite3_bind_blob(st, at, bytes, (int)len, SQLITE_STATIC);
}

static void bind_name(sqlite3_stmt *st, const char *tenant, const char *driver,
                      const char *volume_id)
{
    bind_text(st, 1, tenant);
    bind_text(st, 2, driver);
    bind_text(st, 3, volume_id);
}

/* Runs a statement that gives no rows. */
static bool run(struct sqlite_store *s, enum statement which, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[which];

    return sqlite3_step(st) == SQLITE_DONE || failed(s, sqlite3_sql(st), err);
}

/* *found: there is a row. Having none is no error. */
static bool step(struct sqlite_store *s, sqlite3_stmt *st, bool *found, struct error *err)
{
    int code = sqlite3_step(st);

    *found = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE || failed(s, "read", err);
}

static bool unpack_column(sqlite3_stmt *st, int column, struct record *out, struct error *err)
{
    const void *bytes = sqlite3_column_blob(st, column);
    size_t len = (size_t)sqlite3_column_bytes(st, column);

    if (record_decode(bytes, len, out, err) && record_check(out, err))
        return true;
    if (err->code == ERROR_FAILED_PRECONDITION)
        return error_wrap(err, "a stored record");
    err->code = ERROR_INTERNAL;
    return error_wrap(err, "a stored record is damaged");
}

static bool sqlite_get(struct store *store, const struct store_name *name, struct record *out,
                       struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[GET];
    bool found = false;

    bind_name(st, name->tenant, name->driver, name->volume_id);
    if (!step(s, st, &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         name->volume_id);
    return unpack_column(st, 0, out, err);
}

struct state {
    uint64_t version; /* 0: there is none */
    struct record_key key;
};

static bool get_state(struct sqlite_store *s, const struct record *r, struct state *out,
                      struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[GET_STATE];
    bool found = false;

    *out = (struct state){ .version = 0 };
    bind_name(st, r->tenant, r->driver, r->volume_id);
    if (!step(s, st, &found, err))
        return false;
    if (!found)
        return true;
    out->version = (uint64_t)sqlite3_column_int64(st, 0);
    if (sqlite3_column_bytes(st, 1) == RECORD_ID_LEN) {
        memcpy(out->key.id, sqlite3_column_blob(st, 1), RECORD_ID_LEN);
        out->key.generation = (uint32_t)sqlite3_column_int64(st, 2);
    }
    return true;
}

static bool check_version(struct sqlite_store *s, const struct record *r, uint64_t expected,
                          struct state *out, struct error *err)
{
    if (!get_state(s, r, out, err))
        return false;
    if (out->version != expected)
        return error_set(err, ERROR_ABORTED, "%s was changed by another call: try again",
                         r->volume_id);
    return true;
}

static bool put_record(struct sqlite_store *s, const struct record *r, enum statement which,
                       struct error *err)
{
    sqlite3_stmt *st = s->statements[which];
    struct encoded encoded;

    record_encode(r, &encoded);
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
    return run(s, which, err);
}

static bool put_key(struct sqlite_store *s, const struct store_key *key, struct error *err)
{
    sqlite3_stmt *st = s->statements[PUT_KEY];

    bind_blob(st, 1, key->key.id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, key->key.generation);
    bind_blob(st, 3, key->wrapped, sizeof(key->wrapped));
    return run(s, PUT_KEY, err);
}

/* Destroys the key that the record dropped, unless another record still uses it. */
static bool drop_key(struct sqlite_store *s, const struct record_key *old,
                     const struct record_key *next, struct error *err)
{
    sqlite3_stmt *st = s->statements[DROP_KEY];

    if (old->generation == 0 ||
        (old->generation == next->generation && memcmp(old->id, next->id, RECORD_ID_LEN) == 0))
        return true;
    bind_blob(st, 1, old->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, old->generation);
    if (!run(s, DROP_KEY, err))
        return false;
    if (sqlite3_changes(s->db) > 0)
        s->must_checkpoint = true;
    return true;
}

static bool write_change(struct sqlite_store *s, const struct store_change *change,
                         struct error *err)
{
    const struct record *other = change->must_still_be;
    struct state old, other_state;

    if (other && !check_version(s, other, other->version, &other_state, err))
        return false;
    if (!check_version(s, change->next, change->expected_version, &old, err))
        return false;
    if (change->new_key && !put_key(s, change->new_key, err))
        return false;
    if (!put_record(s, change->next, change->expected_version == 0 ? INSERT : UPDATE, err))
        return false;
    return drop_key(s, &old.key, &change->next->key, err);
}

/* Moves the log into the database, where freed bytes are zero, and empties the log. */
static bool checkpoint(struct sqlite_store *s, struct error *err)
{
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
        return failed(s, "checkpoint", err);
    s->must_checkpoint = false;
    return true;
}

static bool sqlite_swap(struct store *store, const struct store_change *change, struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    struct error ignored = ERROR_INIT;

    if (!run(s, BEGIN, err))
        return false;
    if (!write_change(s, change, err) || !run(s, COMMIT, err)) {
        s->must_checkpoint = true; /* after any error: it is cheap, and no key stays in the log */
        if (!sqlite3_get_autocommit(s->db) && !run(s, ROLLBACK, &ignored))
            return error_wrap(err, "%s", ignored.text);
        return false;
    }
    return !s->must_checkpoint || checkpoint(s, err);
}

/* The names of the record after which the page starts. */
static bool find_position(struct sqlite_store *s, const struct store_filter *filter,
                          struct record *out, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[POSITION];
    bool found = false;

    bind_text(st, 1, filter->tenant);
    bind_blob(st, 2, filter->after, RECORD_ID_LEN);
    if (!step(s, st, &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_ABORTED, "page_token is not known: start the list again");
    return record_text(out->driver, sizeof(out->driver), "driver",
                       (const char *)sqlite3_column_text(st, 0), err) &&
           record_text(out->volume_id, sizeof(out->volume_id), "volume_id",
                       (const char *)sqlite3_column_text(st, 1), err);
}

static bool sqlite_list(struct store *store, const struct store_filter *filter,
                        bool (*visit)(void *cookie, const struct record *r), void *cookie,
                        struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[LIST];
    struct record after = { .version = 0 }, r;
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
    for (;;) {
        if (!step(s, st, &found, err))
            return false;
        if (!found)
            return true;
        if (!unpack_column(st, 0, &r, err))
            return false;
        if (!visit(cookie, &r))
            return true;
    }
}

static bool sqlite_count(struct store *store, const char *tenant, uint64_t *out, struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[COUNT];
    bool found = false;

    bind_text(st, 1, tenant);
    if (!step(s, st, &found, err))
        return false;
    *out = (uint64_t)sqlite3_column_int64(st, 0);
    return true;
}

/* *found: there is a row. Having none is no error. */
static bool read_blob(struct sqlite_store *s, sqlite3_stmt *st, uint8_t *out, size_t len,
                      bool *found, struct error *err)
{
    if (!step(s, st, found, err))
        return false;
    if (*found && (size_t)sqlite3_column_bytes(st, 0) != len)
        return error_set(err, ERROR_INTERNAL,
                         "store: a stored value is damaged: it has the wrong length");
    if (*found)
        memcpy(out, sqlite3_column_blob(st, 0), len);
    return true;
}

static bool sqlite_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                           struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[GET_KEY];
    struct store_key result = { .key = *key };
    bool found = false;

    bind_blob(st, 1, key->id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, key->generation);
    if (!read_blob(s, st, result.wrapped, sizeof(result.wrapped), &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "the key was destroyed");
    *out = result;
    return true;
}

static bool sqlite_remember(struct store *store, const char *name,
                            const uint8_t mark[static STORE_MARK_LEN],
                            uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[GET_MARK];
    bool found = false;

    bind_text(s->statements[PUT_MARK], 1, name);
    bind_blob(s->statements[PUT_MARK], 2, mark, STORE_MARK_LEN);
    if (!run(s, PUT_MARK, err))
        return false;
    bind_text(st, 1, name);
    if (!read_blob(s, st, out, STORE_MARK_LEN, &found, err))
        return false;
    return found || error_set(err, ERROR_INTERNAL, "store: mark %s is missing", name);
}

static bool sqlite_raise(struct store *store, const char *name, uint64_t value, uint64_t *out,
                         struct error *err)
{
    auto_unlock struct sqlite_store *s = locked(store);
    auto_reset sqlite3_stmt *st = s->statements[RAISE];
    bool found = false, more = false;

    if (value > STORE_MARK_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "store: mark %s is too large", name);
    bind_text(st, 1, name);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)value);
    if (!step(s, st, &found, err))
        return false;
    uint64_t highest = (uint64_t)sqlite3_column_int64(st, 0);
    /* The change is durable when the statement has ended, not at its first row. */
    if (!step(s, st, &more, err))
        return false;
    if (!found || more)
        return error_set(err, ERROR_INTERNAL, "store: mark %s is missing", name);
    *out = highest;
    return true;
}

static void sqlite_store_free(struct sqlite_store *s)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    close_at(&s->lock_fd);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void sqlite_close(struct store *store)
{
    sqlite_store_free((struct sqlite_store *)(void *)store);
}

static const struct store_ops sqlite_ops = {
    .name = "sqlite",
    .get = sqlite_get,
    .swap = sqlite_swap,
    .list = sqlite_list,
    .count = sqlite_count,
    .get_key = sqlite_get_key,
    .remember = sqlite_remember,
    .raise = sqlite_raise,
    .close = sqlite_close,
};

/* "DIR/name" */
static bool join(const char *dir, const char *name, char out[static PATH_BYTES], struct error *err)
{
    int len = snprintf(out, PATH_BYTES, "%s/%s", dir, name);

    return (len > 0 && len < PATH_BYTES) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "state folder: the path is too long");
}

static bool take_lock(struct sqlite_store *s, const char *dir, struct error *err)
{
    char path[PATH_BYTES];

    if (!file_make_dirs(dir, 0700, err) || !join(dir, "lock", path, err))
        return error_wrap(err, "state folder %s", dir);
    if (file_lock(path, false, &s->lock_fd, err))
        return true;
    if (err->code == ERROR_ABORTED)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "another broker already uses the store in %s", dir);
    return false;
}

static bool check_schema(struct sqlite_store *s, const char *path, struct error *err)
{
    sqlite3_stmt *st = NULL;
    int version = -1;

    if (sqlite3_exec(s->db, setup_sql, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &st, NULL) != SQLITE_OK)
        return failed(s, path, err);
    if (sqlite3_step(st) == SQLITE_ROW)
        version = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    if (version == 0)
        return sqlite3_exec(s->db, schema_sql, NULL, NULL, NULL) == SQLITE_OK ||
               failed(s, "create the schema", err);
    if (version != SCHEMA_VERSION)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s has schema version %d: this broker knows version %d", path, version,
                         SCHEMA_VERSION);
    return true;
}

static bool open_database(struct sqlite_store *s, const char *dir, struct error *err)
{
    char path[PATH_BYTES];

    if (!take_lock(s, dir, err) || !join(dir, "broker.db", path, err))
        return false;
    if (sqlite3_open_v2(path, &s->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                            SQLITE_OPEN_NOFOLLOW,
                        NULL) != SQLITE_OK)
        return s->db ? failed(s, path, err)
                     : error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    if (!check_schema(s, path, err))
        return false;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &s->statements[i], NULL) != SQLITE_OK)
            return failed(s, statement_sql[i], err);
    /* A crash between an erasure and its checkpoint leaves the key in the log. */
    return checkpoint(s, err);
}

bool store_sqlite_open(const char *dir, struct store **out, struct error *err)
{
    struct sqlite_store *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    s->store.ops = &sqlite_ops;
    s->lock_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    if (!open_database(s, dir, err)) {
        sqlite_store_free(s);
        return false;
    }
    *out = &s->store;
    return true;
}
