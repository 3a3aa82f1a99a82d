/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "store/store_sqlite.h"

#include <assert.h>
#include <string.h>

/* The ring, and keys that are wrapped anew. Rings change a few times a year: their statements are not
 * kept, because the table is missing before the first one. */

static const char read_sql[] = "SELECT version, value FROM ring WHERE id = 1";

static const char make_sql[] =
    "CREATE TABLE IF NOT EXISTS ring (id INTEGER PRIMARY KEY CHECK (id = 1),"
    " version INTEGER NOT NULL, value BLOB NOT NULL) STRICT;"
    "PRAGMA user_version = 3;";

static const char put_sql[] = "INSERT INTO ring (id, version, value) VALUES (1, ?1, ?2)"
                              " ON CONFLICT (id) DO UPDATE SET version = excluded.version,"
                              " value = excluded.value";

static_assert(SCHEMA_WITH_RING == 3, "make_sql says so");

static void finalize(sqlite3_stmt **st)
{
    sqlite3_finalize(*st);
}
#define auto_statement CLEANUP(finalize)

static bool prepare(struct sqlite_store *s, const char *sql, sqlite3_stmt **out, struct error *err)
{
    return sqlite3_prepare_v2(s->db, sql, -1, out, NULL) == SQLITE_OK ||
           sqlite_failed(s, "ring", err);
}

static bool lost(struct error *err)
{
    return error_set(err, ERROR_DATA_LOSS,
                     "the broker's store has lost its ring of keys: restore the store from a "
                     "backup");
}

static bool read_ring(struct sqlite_store *s, struct store_ring *out, struct error *err)
{
    auto_statement sqlite3_stmt *st = NULL;
    bool found = false;

    *out = (struct store_ring){ .version = 0 };
    if (!s->has_ring)
        return true;
    if (!prepare(s, read_sql, &st, err) || !sqlite_read(s, st, &found, err))
        return false;
    sqlite3_int64 version = found ? sqlite3_column_int64(st, 0) : 0;
    size_t len = found ? (size_t)sqlite3_column_bytes(st, 1) : 0;

    if (version <= 0 || len == 0 || len > STORE_RING_MAX)
        return lost(err);
    out->version = (uint64_t)version;
    out->len = len;
    memcpy(out->bytes, sqlite3_column_blob(st, 1), len);
    return true;
}

bool sqlite_load_ring(struct sqlite_store *s, struct error *err)
{
    struct store_ring ring;

    if (!read_ring(s, &ring, err))
        return false;
    s->ring_version = ring.version;
    return true;
}

bool sqlite_get_ring(struct store *store, struct store_ring *out, struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);

    return read_ring(s, out, err);
}

static bool write_ring(struct sqlite_store *s, const struct store_ring *next, struct error *err)
{
    auto_statement sqlite3_stmt *st = NULL;

    if (sqlite3_exec(s->db, make_sql, NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_failed(s, "make the ring", err);
    if (!prepare(s, put_sql, &st, err))
        return false;
    sqlite3_bind_int64(st, 1, (sqlite3_int64)next->version);
    bind_blob(st, 2, next->bytes, next->len);
    return sqlite3_step(st) == SQLITE_DONE || sqlite_failed(s, "put the ring", err);
}

bool sqlite_put_ring(struct store *store, const struct store_ring *next, uint64_t expected,
                     struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    struct error ignored = ERROR_INIT;

    if (!sqlite_check_unlocked(s, err))
        return false;
    if (s->ring_version != expected)
        return store_ring_changed(err);
    if (!sqlite_run(s, BEGIN, err))
        return false;
    if (!write_ring(s, next, err) || !sqlite_run(s, COMMIT, err)) {
        s->must_checkpoint = true;
        if (!sqlite3_get_autocommit(s->db) && !sqlite_run(s, ROLLBACK, &ignored))
            return error_wrap(err, "%s", ignored.text);
        return false;
    }
    s->has_ring = true;
    s->ring_version = next->version;
    s->must_checkpoint = true;
    FAULT_POINT("store.sqlite.ring-put");
    return sqlite_checkpoint(s, err);
}

bool sqlite_rekey(struct store *store, const struct store_key *from,
                  const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err)
{
    auto_unlock struct sqlite_store *s = sqlite_lock(store);
    auto_reset sqlite3_stmt *st = s->statements[REKEY];

    if (!sqlite_check_unlocked(s, err) || !sqlite_set_sync(s, SYNC_NORMAL, err))
        return false;
    bind_blob(st, 1, from->key.id, RECORD_ID_LEN);
    sqlite3_bind_int64(st, 2, from->key.generation);
    bind_blob(st, 3, from->wrapped, STORE_WRAPPED_LEN);
    bind_blob(st, 4, wrapped, STORE_WRAPPED_LEN);
    bool ok = sqlite3_step(st) == SQLITE_DONE || sqlite_failed(s, "wrap a key anew", err);
    bool changed = ok && sqlite3_changes(s->db) == 1;

    if (!sqlite_set_sync(s, SYNC_FULL, err) || !ok)
        return false;
    return changed || store_ring_changed(err);
}
