/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Where records and wrapped keys are stored. Every change is one compare-and-swap on a record's
 * version. The new key, if any, is stored in the same transaction. So the same handlers work with
 * SQLite and, later, etcd. Thread-safe. A change is durable when swap returns.
 */

#define STORE_WRAPPED_LEN 60 /* nonce 12, ciphertext 32, tag 16 */
#define STORE_MARK_LEN    32
#define STORE_MARK_MAX    INT64_MAX /* the largest value for raise */

struct store_key {
    struct record_key key;
    uint8_t wrapped[STORE_WRAPPED_LEN];
};

struct store_name {
    const char *tenant, *driver, *volume_id;
};

struct store_change {
    const struct record *next;       /* its version is expected_version + 1 */
    uint64_t expected_version;       /* of the stored record; 0: there is none */
    const struct store_key *new_key; /* to store with next; NULL: none */
    const struct record
        *must_still_be; /* another record that must still have this version; or NULL */
};

struct store_filter {
    const char *tenant;
    const char *driver; /* here and below: "" for all */
    const char *location;
    const char *source_volume_id;
    enum record_kind kind; /* 0: all */
    const uint8_t *after;  /* id of the last record seen; NULL: from the start */
};

struct store;

struct store_ops {
    const char *name;

    /* NOT_FOUND when no record was ever stored under these names. ERASED records are found. */
    MUST_USE bool (*get)(struct store *store, const struct store_name *name, struct record *out,
                         struct error *err);

    /* ABORTED when the stored version differs. A key that no record uses any more is destroyed in
     * the same transaction: when swap returns, no file holds any part of it. */
    MUST_USE bool (*swap)(struct store *store, const struct store_change *change,
                          struct error *err);

    /* Calls visit for each record that is not ERASED, in the order of driver and volume id, until
     * visit returns false. The store is locked meanwhile. ABORTED when after is not known. */
    MUST_USE bool (*list)(struct store *store, const struct store_filter *filter,
                          bool (*visit)(void *cookie, const struct record *r), void *cookie,
                          struct error *err);

    /* How many records a tenant has that are not ERASED. */
    MUST_USE bool (*count)(struct store *store, const char *tenant, uint64_t *out,
                           struct error *err);

    MUST_USE bool (*get_key)(struct store *store, const struct record_key *key,
                             struct store_key *out, struct error *err);

    /* Stores mark under name unless there is a mark already. *out is the stored mark. */
    MUST_USE bool (*remember)(struct store *store, const char *name,
                              const uint8_t mark[static STORE_MARK_LEN],
                              uint8_t out[static STORE_MARK_LEN], struct error *err);

    /* Stores the highest value ever raised under name. *out is the stored value, so the caller sees
     * when its own is lower. Values up to STORE_MARK_MAX. The names of remember are separate. */
    MUST_USE bool (*raise)(struct store *store, const char *name, uint64_t value, uint64_t *out,
                           struct error *err);

    void (*close)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

/* spec is KIND:WHERE; "sqlite:FOLDER" is the only kind so far. INVALID_ARGUMENT names the kinds. */
MUST_USE bool store_open(const char *spec, struct store **out, struct error *err);

/* Opens or creates FOLDER/broker.db. FAILED_PRECONDITION when another broker has it open, or when
 * this broker does not know its schema. */
MUST_USE bool store_sqlite_open(const char *folder, struct store **out, struct error *err);

static inline void store_close(struct store **store)
{
    if (*store)
        (*store)->ops->close(*store);
    *store = NULL;
}
#define auto_store CLEANUP(store_close)
