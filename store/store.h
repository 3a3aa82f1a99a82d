/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/record.h"

#include <stdatomic.h>

/*
 * Where records and wrapped keys are stored. Every change is one compare-and-swap on a record's
 * version. The new key, if any, is stored in the same transaction. So the same handlers work with
 * SQLite and etcd. Thread-safe. A change is durable when swap returns.
 *
 * A store that cannot be reached is UNAVAILABLE. Then a change may have been made, or not: whoever
 * tries again sees it.
 *
 * Whoever can write to the store's files is not trusted: see store/store_proof.h. A record that
 * the broker did not write is refused with DATA_LOSS, and nothing of it is used.
 */

#define STORE_WRAPPED_LEN 60 /* nonce 12, ciphertext 32, tag 16 */
#define STORE_MARK_LEN    32
#define STORE_MARK_MAX    INT64_MAX /* the largest value for raise */
#define STORE_HEAD_MAX    160
#define STORE_RING_MAX    512

struct store_key {
    struct record_key key;
    uint8_t wrapped[STORE_WRAPPED_LEN];
};

struct store_name {
    const char *tenant, *driver, *volume_id;
};

/* Where the audit log ends (audit/audit.h). The store keeps the one with the highest number. */
struct store_head {
    uint64_t seq; /* of the last line; 0: there is none */
    size_t len;
    uint8_t bytes[STORE_HEAD_MAX];
};

/* The keys that all else is wrapped and proven with, themselves wrapped (store/ring.h). The store does
 * not look into the bytes. */
struct store_ring {
    uint64_t version; /* 0: the store has none, and all comes from the master key */
    size_t len;
    uint8_t bytes[STORE_RING_MAX];
};

/* What a check of all records found. */
struct store_check {
    uint64_t records, damaged;
    bool is_changed;           /* the set of records is not the one that the broker left */
    struct error first_damage; /* names a damaged record */
};

/* What a store has of a key. */
struct store_remains {
    uint64_t users; /* records that have the key; 0: it is destroyed */
    bool
        in_past; /* it is destroyed, and the store can still be asked, or read, for how it was before */
    /* etcd forgets the key when its history is compacted to this revision; 0: not known, or another store. */
    uint64_t revision;
};

/* A RETAINED record, of which the store keeps a list. Over etcd the times are a hint, without a proof: the record
 * has them, too. */
struct store_retained {
    char tenant[RECORD_TENANT_MAX + 1], driver[RECORD_DRIVER_MAX + 1];
    char volume_id[VOLUME_ID_MAX + 1];
    uint64_t deleted_ms, due_ms; /* as in struct record_retained */
};

struct store_change {
    const struct record *next;       /* its version is expected_version + 1 */
    uint64_t expected_version;       /* of the stored record; 0: there is none */
    const struct store_key *new_key; /* to store with next; NULL: none */
    const struct record
        *must_still_be;            /* another record that must still have this version; or NULL */
    const struct store_head *head; /* to store with next; NULL: none */
    /* The version of the ring that the change relies on: new secrets are wrapped by it. NULL: none. */
    const uint64_t *ring;
};

struct store_filter {
    const char *tenant;
    const char *driver; /* here and below: "" for all */
    const char *location;
    const char *source_volume_id;
    enum record_kind kind; /* 0: all */
    bool is_gone;          /* those that list leaves out otherwise */
    const uint8_t *after;  /* id of the last record seen; NULL: from the start */
    uint32_t wanted;       /* how many records the caller takes at most; 0: unknown */
    /* Asked now and then: whoever wants the list does not wait for it any more. Then the list ends with
     * CANCELLED. NULL: somebody waits. */
    bool (*has_gone)(void *cookie);
    void *cookie;
};

struct store;

/* What export calls for each thing that a store holds, apart from the audit log's head. A visit that
 * fails ends the export. It may not use the store. */
struct store_visitor {
    /* ERASED records, too. key: of the record; NULL: destroyed. */
    bool (*record)(void *cookie, const struct record *r, const struct store_key *key,
                   struct error *err);
    bool (*mark)(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                 struct error *err);
    bool (*highest)(void *cookie, const char *name, uint64_t value, struct error *err);
    void *cookie;
};

struct store_ops {
    const char *name;
    bool is_shared; /* several brokers may use it at the same time */

    /* Takes over the key that records are MACed with (seal_store_key). Without it the store has no
     * record to give and takes none: UNAVAILABLE. Checks all records; damaged ones are no error. */
    MUST_USE bool (*unlock)(struct store *store, struct secret *key, struct store_check *out,
                            struct error *err);

    /* *out: the head stored last; seq is 0 when there is none. */
    MUST_USE bool (*get_head)(struct store *store, struct store_head *out, struct error *err);

    /* Calls visit with the head of each broker that uses the store, this one's included, until visit
     * returns false. visit may not use the store. NULL: this kind of store has one broker. */
    MUST_USE bool (*each_head)(struct store *store,
                               bool (*visit)(void *cookie, const char *replica,
                                             const struct store_head *head),
                               void *cookie, struct error *err);

    /* Stores a head without a record. It survives the end of the process; in SQLite a power cut may
     * undo it until the next swap. */
    MUST_USE bool (*put_head)(struct store *store, const struct store_head *head,
                              struct error *err);

    /* NOT_FOUND when no record was ever stored under these names. ERASED records are found. */
    MUST_USE bool (*get)(struct store *store, const struct store_name *name, struct record *out,
                         struct error *err);

    /* ABORTED when the stored version differs, or the ring is not the one that the change relies on. A
     * key that no record uses any more is destroyed in
     * the same transaction: when swap returns, no file of SQLite holds any part of it. etcd is
     * told to forget it soon; THREATS.md says what that means. */
    MUST_USE bool (*swap)(struct store *store, const struct store_change *change,
                          struct error *err);

    /* Calls visit for each record that is not ERASED and not RETAINED, or with is_gone for each that is, in the order of driver and volume id, until
     * visit returns false. SQLite is locked meanwhile. ABORTED when after is not known. */
    MUST_USE bool (*list)(struct store *store, const struct store_filter *filter,
                          bool (*visit)(void *cookie, const struct record *r), void *cookie,
                          struct error *err);

    /* How many records a tenant has that are neither ERASED nor RETAINED. */
    MUST_USE bool (*count)(struct store *store, const char *tenant, uint64_t *out,
                           struct error *err);

    MUST_USE bool (*get_key)(struct store *store, const struct record_key *key,
                             struct store_key *out, struct error *err);

    /* in_past of SQLite: the write-ahead log is not empty yet; of etcd: the history is not compacted. What
     * lies in free parts of files, below a store, it cannot say: see lifecycle/remains.h. */
    MUST_USE bool (*find_remains)(struct store *store, const struct record_key *key,
                                  struct store_remains *out, struct error *err);

    /* Calls visit for each RETAINED record of all tenants, until visit returns false. visit may not use the
     * store. */
    MUST_USE bool (*each_retained)(struct store *store,
                                   bool (*visit)(void *cookie, const struct store_retained *r),
                                   void *cookie, struct error *err);

    /* The first record, ERASED or not, after these names, in the order of tenant, driver and volume id;
     * "" for all three: the first one. DATA_LOSS: it is damaged. */
    MUST_USE bool (*walk)(struct store *store, const struct store_name *after, struct record *out,
                          bool *found, struct error *err);

    /* Puts the same key, wrapped anew, into the place of from. ABORTED when the store has another one
     * or none by now. A power cut may undo it until the next put_ring. */
    MUST_USE bool (*rekey)(struct store *store, const struct store_key *from,
                           const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err);

    /* Works before unlock, too. */
    MUST_USE bool (*get_ring)(struct store *store, struct store_ring *out, struct error *err);

    /* ABORTED unless the stored one has the version expected. When put_ring returns, no file of SQLite
     * holds any part of the former ring or of what rekey replaced; etcd is told to forget them soon.
     * From then on brokers that know no rings refuse the store, and those of them that run over the
     * same etcd can change nothing any more. */
    MUST_USE bool (*put_ring)(struct store *store, const struct store_ring *next, uint64_t expected,
                              struct error *err);

    /* Stores mark under name unless there is a mark already. *out is the stored mark. */
    MUST_USE bool (*remember)(struct store *store, const char *name,
                              const uint8_t mark[static STORE_MARK_LEN],
                              uint8_t out[static STORE_MARK_LEN], struct error *err);

    /* Forgets the marks of remember whose names begin with prefix, which is not "". A power cut may
     * undo it. */
    MUST_USE bool (*forget)(struct store *store, const char *prefix, struct error *err);

    /* Stores the highest value ever raised under name. *out is the stored value, so the caller sees
     * when its own is lower. Values up to STORE_MARK_MAX. The names of remember are separate. */
    MUST_USE bool (*raise)(struct store *store, const char *name, uint64_t value, uint64_t *out,
                           struct error *err);

    /* Visits all that the store holds at one moment. DATA_LOSS when something was not written by the
     * broker. SQLite is locked meanwhile. ABORTED: the moment is too long ago for etcd: what was
     * visited does not count, and another try may succeed. */
    MUST_USE bool (*export)(struct store *store, const struct store_visitor *visitor,
                            struct error *err);

    void (*close)(struct store *store);
};

struct store {
    const struct store_ops *ops;
    atomic_ulong refused; /* how often a record or key was refused that the broker did not write */

    /* Set by store_set_taker() alone. */
    bool (*take_ring)(void *cookie, const struct store_ring *ring, struct error *err);
    void *take_cookie;
};

/* take is called when the store meets a ring that another broker has put, before any change is made under
 * it. An error keeps this broker from all changes. NULL: nobody asks. It waits until a call of the former
 * one has ended, so its cookie may go then; take itself may not use the store. */
void store_set_taker(struct store *store,
                     bool (*take)(void *cookie, const struct store_ring *ring, struct error *err),
                     void *cookie);

/* For stores: asks it. */
MUST_USE bool store_meet_ring(struct store *store, const struct store_ring *ring,
                              struct error *err);

/* What the list has of a record. */
struct store_retained store_retained_of(const struct record *r);

MUST_USE bool store_check_wanted(const struct store_filter *filter, struct error *err);

/* ABORTED: the ring is another one than the change relies on. */
bool store_ring_changed(struct error *err);

/* DATA_LOSS for a record or a key that the broker did not write, and how to recover; counts it. */
bool store_refuse(struct store *store, const char *volume_id, const char *what, struct error *err);

struct store_options {
    const char *spec; /* KIND:WHERE: "sqlite:FOLDER" or "etcd:https://HOST:PORT,..." */
    /* Only for etcd, which needs all of them. */
    const char *ca, *certificate, *key; /* PEM files: whom to trust, and who we are */
    const char *replica;                /* the name of this broker among those of the store */
    bool is_migration;                  /* see store_etcd_end_migration() */
};

/* INVALID_ARGUMENT names the known kinds. Starts no thread. */
MUST_USE bool store_open(const struct store_options *options, struct store **out,
                         struct error *err);
/* The folder that the store writes to; NULL: none, or no known kind. */
const char *store_folder(const char *spec);

/* Opens or creates FOLDER/broker.db. FAILED_PRECONDITION when another broker has it open, or when
 * this broker does not know its schema. */
MUST_USE bool store_sqlite_open(const char *folder, struct store **out, struct error *err);

/* Does not connect yet. Any number of brokers may use the store at the same time, each with a
 * replica name of its own: unlock takes the name, and the process that had it before can change
 * nothing any more (UNAVAILABLE). The first operation of the first broker makes the store. */
MUST_USE bool store_etcd_open(const char *members, const struct store_options *options,
                              struct store **out, struct error *err);

/* A store that was opened with is_migration is made as unfinished, and only a migration opens it
 * again; until this call, which must be its last. */
MUST_USE bool store_etcd_end_migration(struct store *store, struct error *err);

static inline void store_close(struct store **store)
{
    if (*store)
        (*store)->ops->close(*store);
    *store = NULL;
}
#define auto_store CLEANUP(store_close)
