/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store_proof.h"

#include <pthread.h>
#include <sqlite3.h>

/*
 * What the two halves of the SQLite store share: store_sqlite.c opens the database and keeps single
 * values, store_sqlite_records.c keeps records and wrapped keys, store_sqlite_ring.c the ring.
 */
enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    GET,
    INSERT,
    UPDATE,
    PUT_KEY,
    GET_KEY,
    DROP_KEY,
    POSITION,
    LIST,
    EACH,
    COUNT,
    PUT_MARK,
    GET_MARK,
    DROP_MARKS,
    RAISE,
    PUT_STATE,
    GET_STATE,
    EACH_MARK,
    EACH_HIGHEST,
    NEXT,
    REKEY,
    USERS,
    EACH_RETAINED,
    STATEMENT_COUNT
};

/* A database gets this version, and a table for the ring, with its first ring: a broker that knows no
 * rings must not open it. */
#define SCHEMA_WITH_RING 3

/* The columns of a record, in the order in which INSERT and UPDATE number them from 1. */
#define RECORD_COLUMNS                                                       \
    "tenant, driver, volume_id, record_id, version, phase, kind, location, " \
    "source_volume_id, key_id, generation, packed, proof"

struct sqlite_store {
    struct store store;
    pthread_mutex_t lock;
    sqlite3 *db;
    sqlite3_stmt *statements[STATEMENT_COUNT];
    int lock_fd;
    bool must_checkpoint; /* a destroyed key may still be in the write-ahead log */
    struct secret key;    /* of all proofs; empty until the store is unlocked */
    struct proof_sum sum; /* of the records in the database */
    struct store_head head;
    bool has_ring; /* the database has a table for it */
    uint64_t ring_version;
};

static inline struct sqlite_store *sqlite_lock(struct store *store)
{
    struct sqlite_store *s = (struct sqlite_store *)(void *)store;

    pthread_mutex_lock(&s->lock);
    return s;
}

static inline void sqlite_unlock(struct sqlite_store **s)
{
    pthread_mutex_unlock(&(*s)->lock);
}
#define auto_unlock CLEANUP(sqlite_unlock)

static inline void sqlite_reset(sqlite3_stmt **statement)
{
    sqlite3_reset(*statement);
    sqlite3_clear_bindings(*statement);
}
#define auto_reset CLEANUP(sqlite_reset)

static inline void bind_text(sqlite3_stmt *st, int at, const char *text)
{
    sqlite3_bind_text(st, at, text, -1, SQLITE_STATIC);
}

static inline void bind_blob(sqlite3_stmt *st, int at, const void *bytes, size_t len)
{
    sqlite3_bind_blob(st, at, bytes, (int)len, SQLITE_STATIC);
}

/* Sets err from SQLite's last error. */
bool sqlite_failed(struct sqlite_store *s, const char *what, struct error *err);

/* Runs a statement that gives no rows. */
MUST_USE bool sqlite_run(struct sqlite_store *s, enum statement which, struct error *err);

/* *found: there is a row. Having none is no error. The second one copies a value of len bytes. */
MUST_USE bool sqlite_read(struct sqlite_store *s, sqlite3_stmt *st, bool *found, struct error *err);
MUST_USE bool sqlite_read_blob(struct sqlite_store *s, sqlite3_stmt *st, uint8_t *out, size_t len,
                               bool *found, struct error *err);

/* UNAVAILABLE before the store is unlocked. */
MUST_USE bool sqlite_check_unlocked(const struct sqlite_store *s, struct error *err);

/* Writes sum, and the later one of both heads; *out is that head. Part of the transaction. */
MUST_USE bool sqlite_put_state(struct sqlite_store *s, const struct proof_sum *sum,
                               const struct store_head *head, struct store_head *out,
                               struct error *err);

/* Moves the write-ahead log into the database, where freed bytes are zero, and empties the log. */
MUST_USE bool sqlite_checkpoint(struct sqlite_store *s, struct error *err);

/* The operations on records; see store/store.h. */
bool sqlite_get(struct store *store, const struct store_name *name, struct record *out,
                struct error *err);
bool sqlite_swap(struct store *store, const struct store_change *change, struct error *err);
bool sqlite_list(struct store *store, const struct store_filter *filter,
                 bool (*visit)(void *cookie, const struct record *r), void *cookie,
                 struct error *err);
bool sqlite_count(struct store *store, const char *tenant, uint64_t *out, struct error *err);
bool sqlite_find_remains(struct store *store, const struct record_key *key,
                         struct store_remains *out, struct error *err);
bool sqlite_each_retained(struct store *store,
                          bool (*visit)(void *cookie, const struct store_retained *r), void *cookie,
                          struct error *err);
bool sqlite_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                    struct error *err);

bool sqlite_walk(struct store *store, const struct store_name *after, struct record *out,
                 bool *found, struct error *err);
bool sqlite_rekey(struct store *store, const struct store_key *from,
                  const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err);
bool sqlite_get_ring(struct store *store, struct store_ring *out, struct error *err);
bool sqlite_put_ring(struct store *store, const struct store_ring *next, uint64_t expected,
                     struct error *err);

/* Reads the ring's version, when the database is opened. */
MUST_USE bool sqlite_load_ring(struct sqlite_store *s, struct error *err);

/* SQLite's durability: NORMAL syncs with the next checkpoint or FULL commit. */
MUST_USE bool sqlite_set_sync(struct sqlite_store *s, const char *sql, struct error *err);
#define SYNC_NORMAL "PRAGMA synchronous = NORMAL"
#define SYNC_FULL   "PRAGMA synchronous = FULL"

bool sqlite_export(struct store *store, const struct store_visitor *visitor, struct error *err);

/* Checks every record, and computes the sum of the good ones. */
MUST_USE bool sqlite_check_records(struct sqlite_store *s, struct proof_sum *sum,
                                   struct store_check *out, struct error *err);
