/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_sqlite.h"

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 2 /* of a new database */
#define PATH_BYTES     4096

/* A checkpoint wipes the write-ahead log. Until then it holds the audit log's earlier heads. */
#define HEADS_PER_CHECKPOINT 256

/* Each field that is searched for has a column. packed holds the whole record, and is what counts.
 * An ERASED record has no key. Records lie in the order of their names, as lists want them; those of
 * databases of before lie in the order in which they were made, and their lists are slower. */
static const char schema_sql[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE mark (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE highest (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE TABLE key (key_id BLOB, generation INTEGER, wrapped BLOB NOT NULL,"
    " PRIMARY KEY (key_id, generation)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE record (tenant TEXT, driver TEXT, volume_id TEXT, record_id BLOB UNIQUE,"
    " version INTEGER NOT NULL, phase INTEGER NOT NULL, kind INTEGER NOT NULL,"
    " location TEXT NOT NULL, source_volume_id TEXT NOT NULL, key_id BLOB, generation INTEGER,"
    " packed BLOB NOT NULL, proof BLOB NOT NULL, PRIMARY KEY (tenant, driver, volume_id),"
    " FOREIGN KEY (key_id, generation) REFERENCES key (key_id, generation)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX record_of_key ON record (key_id, generation);"
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER NOT NULL,"
    " head BLOB NOT NULL, proof BLOB NOT NULL) STRICT;"
    "PRAGMA user_version = 2;"
    "COMMIT;";

/* Of RETAINED records. Databases of before have none; brokers of before keep it up all the same. */
static const char index_sql[] =
    "CREATE INDEX IF NOT EXISTS record_retained ON record (phase) WHERE phase = 6";

/* One connection for the life of the process. No other process may read: a reader could delay
 * the checkpoint after an erasure. The cache, in KiB, holds 100,000 records with their keys; it
 * takes memory only as it fills. */
static const char setup_sql[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                "PRAGMA journal_mode = WAL;"
                                "PRAGMA synchronous = FULL;"
                                "PRAGMA secure_delete = ON;"
                                "PRAGMA foreign_keys = ON;"
                                "PRAGMA trusted_schema = OFF;"
                                "PRAGMA temp_store = MEMORY;"
                                "PRAGMA cache_size = -65536;";

#define WHERE_NAME "tenant = ?1 AND driver = ?2 AND volume_id = ?3"

static const char *const statement_sql[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [GET] = "SELECT " RECORD_COLUMNS " FROM record WHERE " WHERE_NAME,
    [INSERT] = "INSERT INTO record (" RECORD_COLUMNS ")"
               " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    [UPDATE] = "UPDATE record SET record_id = ?4, version = ?5, phase = ?6, kind = ?7,"
               " location = ?8, source_volume_id = ?9, key_id = ?10, generation = ?11,"
               " packed = ?12, proof = ?13 WHERE " WHERE_NAME,
    [PUT_KEY] = "INSERT INTO key (key_id, generation, wrapped) VALUES (?1, ?2, ?3)",
    [GET_KEY] = "SELECT wrapped FROM key WHERE key_id = ?1 AND generation = ?2",
    [DROP_KEY] = "DELETE FROM key WHERE key_id = ?1 AND generation = ?2 AND NOT EXISTS"
                 " (SELECT 1 FROM record WHERE key_id = ?1 AND generation = ?2)",
    [POSITION] = "SELECT driver, volume_id FROM record WHERE tenant = ?1 AND record_id = ?2",
    [LIST] = "SELECT " RECORD_COLUMNS " FROM record WHERE tenant = ?1 AND (phase >= 5) = ?8"
             " AND (?2 = '' OR driver = ?2) AND (?3 = '' OR location = ?3)"
             " AND (?4 = '' OR source_volume_id = ?4) AND (?5 = 0 OR kind = ?5)"
             " AND (driver, volume_id) > (?6, ?7) ORDER BY driver, volume_id",
    [EACH] = "SELECT " RECORD_COLUMNS " FROM record",
    [COUNT] = "SELECT count(*) FROM record WHERE tenant = ?1 AND phase < 5",
    [PUT_MARK] = "INSERT INTO mark (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
    [GET_MARK] = "SELECT value FROM mark WHERE name = ?1",
    /* Names are ASCII, and none has a character above "~". */
    [DROP_MARKS] = "DELETE FROM mark WHERE name BETWEEN ?1 AND ?1 || '~'",
    [RAISE] = "INSERT INTO highest (name, value) VALUES (?1, ?2) ON CONFLICT (name)"
              " DO UPDATE SET value = max(value, excluded.value) RETURNING value",
    [PUT_STATE] = "INSERT INTO state (id, seq, head, proof) VALUES (1, ?1, ?2, ?3)"
                  " ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, head = excluded.head,"
                  " proof = excluded.proof",
    [GET_STATE] = "SELECT seq, head, proof FROM state",
    [EACH_MARK] = "SELECT name, value FROM mark",
    [EACH_HIGHEST] = "SELECT name, value FROM highest",
    [NEXT] = "SELECT " RECORD_COLUMNS " FROM record"
             " WHERE (tenant, driver, volume_id) > (?1, ?2, ?3)"
             " ORDER BY tenant, driver, volume_id LIMIT 1",
    [USERS] = "SELECT count(*) FROM record WHERE key_id = ?1 AND generation = ?2",
    [EACH_RETAINED] = "SELECT " RECORD_COLUMNS " FROM record WHERE phase = 6",
    [REKEY] = "UPDATE key SET wrapped = ?4 WHERE key_id = ?1 AND generation = ?2 AND wrapped = ?3",
};

bool sqlite_failed(struct sqlite_store *s, const char *what, struct error *err)
{
    int code = sqlite3_errcode(s->db) & 0xff;
    enum error_code mapped = ERROR_INTERNAL;

    /* A full disk, too: it is the broker's, and says nothing about the caller's volume. */
    if (code == SQLITE_FULL || code == SQLITE_NOMEM || code == SQLITE_IOERR ||
        code == SQLITE_BUSY || code == SQLITE_CANTOPEN)
        mapped = ERROR_UNAVAILABLE;
    return error_set(err, mapped, "store: %s: %s", what, sqlite3_errmsg(s->db));
}

bool sqlite_run(struct sqlite_store *s, enum statement which, struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[which];

    return sqlite3_step(st) == SQLITE_DONE || sqlite_failed(s, sqlite3_sql(st), err);
}

bool sqlite_read(struct sqlite_store *s, sqlite3_stmt *st, bool *found, struct error *err)
{
    int code = sqlite3_step(st);

    *found = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE || sqlite_failed(s, "read", err);
}

bool sqlite_read_blob(struct sqlite_store *s, sqlite3_stmt *st, uint8_t *out, size_t len,
                      bool *found, struct error *err)
{
    if (!sqlite_read(s, st, found, err))
        return false;
    if (*found && (size_t)sqlite3_column_bytes(st, 0) != len)
        return error_set(err, ERROR_INTERNAL,
                         "store: a stored value is damaged: it has the wrong length");
    if (*found)
        memcpy(out, sqlite3_column_blob(st, 0), len);
    return true;
}

bool sqlite_checkpoint(struct sqlite_store *s, struct error *err)
{
    if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
        return sqlite_failed(s, "checkpoint", err);
    s->must_checkpoint = false;
    return true;
}

/* --- the proof of all records, and the audit log's head --- */

bool sqlite_check_unlocked(const struct sqlite_store *s, struct error *err)
{
    return s->key.bytes || error_set(err, ERROR_UNAVAILABLE, "store: locked: no master key");
}

bool sqlite_put_state(struct sqlite_store *s, const struct proof_sum *sum,
                      const struct store_head *head, struct store_head *out, struct error *err)
{
    sqlite3_stmt *st = s->statements[PUT_STATE];
    const struct store_head *last = head && head->seq > s->head.seq ? head : &s->head;
    uint8_t proof[STORE_PROOF_LEN];

    if (!proof_of_set(&s->key, sum, last, proof, err))
        return false;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)last->seq);
    bind_blob(st, 2, last->bytes, last->len);
    bind_blob(st, 3, proof, sizeof(proof));
    if (!sqlite_run(s, PUT_STATE, err))
        return false;
    if (last->seq / HEADS_PER_CHECKPOINT != s->head.seq / HEADS_PER_CHECKPOINT)
        s->must_checkpoint = true;
    *out = *last;
    return true;
}

/* *is_good: the database has a state, and the proof is that of these records and this head. */
static bool read_state(struct sqlite_store *s, const struct proof_sum *sum, bool *is_good,
                       struct error *err)
{
    auto_reset sqlite3_stmt *st = s->statements[GET_STATE];
    struct store_head head = { .seq = 0 };
    uint8_t proof[STORE_PROOF_LEN];
    bool found = false;

    *is_good = false;
    if (!sqlite_read(s, st, &found, err))
        return false;
    if (!found || sqlite3_column_bytes(st, 1) > STORE_HEAD_MAX ||
        sqlite3_column_bytes(st, 2) != STORE_PROOF_LEN)
        return true;
    head.seq = (uint64_t)sqlite3_column_int64(st, 0);
    head.len = (size_t)sqlite3_column_bytes(st, 1);
    if (head.len > 0)
        memcpy(head.bytes, sqlite3_column_blob(st, 1), head.len);
    if (!proof_of_set(&s->key, sum, &head, proof, err))
        return false;
    *is_good = bytes_are_equal(proof, sqlite3_column_blob(st, 2), STORE_PROOF_LEN);
    s->head = head;
    return true;
}

static bool sqlite_unlock_records(struct store *store, struct secret *key, struct store_check *out,
                                  struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    bool is_good = false;

    *out = (struct store_check){ .records = 0 };
    secret_wipe(&s->key); /* of a broker that could not open for another reason */
    s->key = secret_take(key);
    if (!sqlite_check_records(s, &s->sum, out, err) || !read_state(s, &s->sum, &is_good, err)) {
        secret_wipe(&s->key);
        return false;
    }
    out->is_changed = !is_good && (out->records > 0 || s->head.seq > 0);
    return true;
}

static bool sqlite_get_head(struct store *store, struct store_head *out, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);

    if (!sqlite_check_unlocked(s, err))
        return false;
    *out = s->head;
    return true;
}

bool sqlite_set_sync(struct sqlite_store *s, const char *sql, struct error *err)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || sqlite_failed(s, sql, err);
}

static bool sqlite_put_head(struct store *store, const struct store_head *head, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    struct store_head last;

    if (!sqlite_check_unlocked(s, err) || !sqlite_set_sync(s, SYNC_NORMAL, err))
        return false;
    bool ok = sqlite_put_state(s, &s->sum, head, &last, err);

    if (!sqlite_set_sync(s, SYNC_FULL, err) || !ok)
        return false;
    s->head = last;
    return !s->must_checkpoint || sqlite_checkpoint(s, err);
}

/* --- marks --- */

static bool sqlite_remember(struct store *store, const char *name,
                            const uint8_t mark[static STORE_MARK_LEN],
                            uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[GET_MARK];
    bool found = false;

    bind_text(s->statements[PUT_MARK], 1, name);
    bind_blob(s->statements[PUT_MARK], 2, mark, STORE_MARK_LEN);
    if (!sqlite_run(s, PUT_MARK, err))
        return false;
    bind_text(st, 1, name);
    if (!sqlite_read_blob(s, st, out, STORE_MARK_LEN, &found, err))
        return false;
    return found || error_set(err, ERROR_INTERNAL, "store: mark %s is missing", name);
}

static bool sqlite_forget(struct store *store, const char *prefix, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);

    if (!sqlite_set_sync(s, SYNC_NORMAL, err))
        return false;
    bind_text(s->statements[DROP_MARKS], 1, prefix);
    bool ok = sqlite_run(s, DROP_MARKS, err);

    return sqlite_set_sync(s, SYNC_FULL, err) && ok;
}

static bool sqlite_raise(struct store *store, const char *name, uint64_t value, uint64_t *out,
                         struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[RAISE];
    bool found = false, more = false;

    if (value > STORE_MARK_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "store: mark %s is too large", name);
    bind_text(st, 1, name);
    sqlite3_bind_int64(st, 2, (sqlite3_int64)value);
    if (!sqlite_read(s, st, &found, err))
        return false;
    uint64_t highest = (uint64_t)sqlite3_column_int64(st, 0);
    /* The change is durable when the statement has ended, not at its first row. */
    if (!sqlite_read(s, st, &more, err))
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
    secret_wipe(&s->key);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static void sqlite_close(struct store *store)
{
    sqlite_store_free((struct sqlite_store *)(void *)store);
}

static const struct store_ops sqlite_ops = {
    .name = "sqlite",
    .unlock = sqlite_unlock_records,
    .get_head = sqlite_get_head,
    .put_head = sqlite_put_head,
    .get = sqlite_get,
    .swap = sqlite_swap,
    .list = sqlite_list,
    .count = sqlite_count,
    .get_key = sqlite_get_key,
    .find_remains = sqlite_find_remains,
    .each_retained = sqlite_each_retained,
    .remember = sqlite_remember,
    .forget = sqlite_forget,
    .raise = sqlite_raise,
    .walk = sqlite_walk,
    .rekey = sqlite_rekey,
    .get_ring = sqlite_get_ring,
    .put_ring = sqlite_put_ring,
    .export = sqlite_export,
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
        return sqlite_failed(s, path, err);
    if (sqlite3_step(st) == SQLITE_ROW)
        version = sqlite3_column_int(st, 0);
    sqlite3_finalize(st);
    if (version == 0)
        return sqlite3_exec(s->db, schema_sql, NULL, NULL, NULL) == SQLITE_OK ||
               sqlite_failed(s, "create the schema", err);
    if (version != SCHEMA_VERSION && version != SCHEMA_WITH_RING)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s has schema version %d: this broker knows versions %d and %d: use the "
                         "version of tdvol that wrote it",
                         path, version, SCHEMA_VERSION, SCHEMA_WITH_RING);
    s->has_ring = version == SCHEMA_WITH_RING;
    return sqlite_load_ring(s, err);
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
        return s->db ? sqlite_failed(s, path, err)
                     : error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    if (!check_schema(s, path, err))
        return false;
    if (sqlite3_exec(s->db, index_sql, NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_failed(s, "create an index", err);
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, statement_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &s->statements[i], NULL) != SQLITE_OK)
            return sqlite_failed(s, statement_sql[i], err);
    /* A crash between an erasure and its checkpoint leaves the key in the log. */
    return sqlite_checkpoint(s, err);
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
