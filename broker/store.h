/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Where records and wrapped keys live. Every change is one compare-and-swap on a record's version,
 * in one transaction with the key it brings, so that the same handlers work over SQLite and,
 * later, etcd. Thread-safe. Durable when swap returns.
 */

#define STORE_WRAPPED_LEN 60 /* nonce 12, ciphertext 32, tag 16 */
#define STORE_MARK_LEN    32
#define STORE_MARK_MAX    INT64_MAX /* of what raise takes */

struct store_key {
    struct record_key key;
    uint8_t wrapped[STORE_WRAPPED_LEN];
};

struct store_name {
    const char *tenant, *driver, *volume_id;
};

struct store_change {
    const struct record *next;       /* its version is expected_version + 1 */
    uint64_t expected_version;       /* of what is there; 0: nothing */
    const struct store_key *new_key; /* to be stored with it; NULL: none */
    const struct record
        *must_still_be; /* another record whose version may not have changed; or NULL */
};

struct store_filter {
    const char *tenant;
    const char *driver; /* "" for all, here and below */
    const char *location;
    const char *source_volume_id;
    enum record_kind kind; /* 0: all */
    const uint8_t *after;  /* record id of the last one seen; NULL: from the start */
};

struct store;

struct store_ops {
    const char *name;

    /* NOT_FOUND when nothing was ever stored under these names. ERASED records are found. */
    MUST_USE bool (*get)(struct store *store, const struct store_name *name, struct record *out,
                         struct error *err);

    /* ABORTED when the version is another one. A key that no record refers to any more is destroyed
     * in the same transaction: nothing of it is left in any file when this returns. */
    MUST_USE bool (*swap)(struct store *store, const struct store_change *change,
                          struct error *err);

    /* Calls visit for each record in the order of driver and volume id, none that is ERASED,
     * until it says false. The store is locked meanwhile. ABORTED when after is not known. */
    MUST_USE bool (*list)(struct store *store, const struct store_filter *filter,
                          bool (*visit)(void *cookie, const struct record *r), void *cookie,
                          struct error *err);

    /* How many records a tenant has that are not ERASED. */
    MUST_USE bool (*count)(struct store *store, const char *tenant, uint64_t *out,
                           struct error *err);

    MUST_USE bool (*get_key)(struct store *store, const struct record_key *key,
                             struct store_key *out, struct error *err);

    /* Remembers mark under name if nothing is there yet; *out is what is remembered then. */
    MUST_USE bool (*remember)(struct store *store, const char *name,
                              const uint8_t mark[static STORE_MARK_LEN],
                              uint8_t out[static STORE_MARK_LEN], struct error *err);

    /* Remembers the highest value ever raised under name; *out is it, so that the caller sees when
     * its own is lower. Up to STORE_MARK_MAX; names are others than those of remember. */
    MUST_USE bool (*raise)(struct store *store, const char *name, uint64_t value, uint64_t *out,
                           struct error *err);

    void (*close)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

/* KIND:WHERE; "sqlite:FOLDER" is the only kind yet. INVALID_ARGUMENT names those there are. */
MUST_USE bool store_open(const char *spec, struct store **out, struct error *err);

/* Opens or creates FOLDER/broker.db. FAILED_PRECONDITION when another broker has it open, or when its
 * schema is not known here. */
MUST_USE bool store_sqlite_open(const char *folder, struct store **out, struct error *err);

static inline void store_close(struct store **store)
{
    if (*store)
        (*store)->ops->close(*store);
    *store = NULL;
}
#define auto_store CLEANUP(store_close)
