/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store_etcd_txn.h"

#include <pthread.h>
#include <stdatomic.h>

/*
 * What the parts of the etcd store share. store_etcd.c opens it; store_etcd_check.c takes the
 * replica's name and reads all records; store_etcd_commit.c sends changes, and finds out what became
 * of those without an answer; store_etcd_swap.c changes records and store_etcd_records.c reads
 * them; store_etcd_marks.c keeps single values, store_etcd_ring.c the ring; store_etcd_export.c gives
 * all of them for a backup; store_etcd_compact.c has etcd forget destroyed keys.
 *
 * Replicas share nothing but etcd. Each change is one Txn that compares the revision of all that it
 * is based on. It also compares that this process still is its replica: two processes with one name
 * would write one audit chain twice.
 */

struct etcd_slot {
    bool is_busy;
    bool is_known; /* revision is that of etcd */
    int64_t revision;
};

/* What the check of all records found in a shard that is not what a broker left. */
struct etcd_found {
    bool is_wrong;
    int64_t revision;    /* of the wrong sum; 0: there is none */
    struct etcd_sum sum; /* to go on from */
};

struct etcd_store {
    struct store store;
    struct etcd_client *client;
    char replica[ETCD_REPLICA_MAX + 1];
    bool is_migration;
    struct secret key;            /* of all proofs */
    uint8_t process[ETCD_ID_LEN]; /* what this process writes under its replica's name */
    atomic_bool is_unlocked;      /* it has written that, and the key is there to stay */
    atomic_bool is_fenced;        /* another process has taken the name */
    struct etcd_found found[ETCD_SHARDS];
    struct store_check check; /* likewise */

    pthread_mutex_t lock; /* for all below */
    pthread_cond_t changed;
    int64_t format_revision; /* 0: not read yet */
    uint64_t ring_version;   /* read with it */
    struct etcd_slot slots[ETCD_SLOTS];
    struct store_head head;
    uint64_t seen[ETCD_SHARDS]; /* see struct etcd_slot_value */

    pthread_t compactor;
    bool has_compactor, is_ending;
    int64_t compact_at, compacted_at; /* revisions */
    uint64_t compact_age_ms;          /* of what is compacted */
    uint64_t compacted_heads;         /* how many times 4096 lines of the audit log */
};

static inline struct etcd_store *etcd_store_of(struct store *store)
{
    return (struct etcd_store *)(void *)store;
}

static inline void etcd_mutex_unlock(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}
#define auto_etcd_locked CLEANUP(etcd_mutex_unlock)

/* The format of what etcd holds is known, and the store may be used. Each operation begins so. */
MUST_USE bool etcd_check_ready(struct etcd_store *s, uint64_t until_ms, struct error *err);
/* The same, and the store is unlocked and this process is its replica. */
MUST_USE bool etcd_check_unlocked(struct etcd_store *s, uint64_t until_ms, struct error *err);
/* UNAVAILABLE when another process has taken the replica's name. */
MUST_USE bool etcd_check_fence(struct etcd_store *s, struct error *err);

/* Adds what each Txn compares: the store's format and, once it is unlocked, the replica's process. */
void etcd_guard(struct etcd_store *s, struct etcd_txn *txn);
/* Reads the answer of a guarded Txn that did not succeed; its first operations are those of
 * etcd_guard(). False with UNAVAILABLE: the store must not be used any more. False with ABORTED: another
 * broker has put a ring, which this one has taken: try again. */
MUST_USE bool etcd_guard_holds(struct etcd_store *s, const struct etcd_result *result,
                               struct error *err);
/* How many operations etcd_guard() adds to the failure branch. */
#define ETCD_GUARD_GETS 2

/* --- the format and the ring --- */

/* Reads both, and takes them over: at the start, and when another broker has put a ring. ring may be
 * NULL. UNAVAILABLE: etcd's data was replaced. */
MUST_USE bool etcd_take_format(struct etcd_store *s, uint64_t until_ms, struct store_ring *ring,
                               struct error *err);
/* What tdvol/format says for a store in this state. */
const char *etcd_format_text(bool is_migration, bool has_ring);
/* FAILED_PRECONDITION when it is none, or not for this store. */
MUST_USE bool etcd_judge_format(const struct etcd_store *s, const struct etcd_bytes *value,
                                bool has_ring, struct error *err);

bool etcd_store_get_ring(struct store *store, struct store_ring *out, struct error *err);
bool etcd_store_put_ring(struct store *store, const struct store_ring *next, uint64_t expected,
                         struct error *err);
bool etcd_store_rekey(struct store *store, const struct store_key *from,
                      const uint8_t wrapped[static STORE_WRAPPED_LEN], struct error *err);

/* --- commit --- */

struct etcd_commit {
    /* Reads what the change is based on, and adds compares and operations. Called again when another
     * call came first. ABORTED and other errors end the change. */
    bool (*fill)(struct etcd_store *s, struct etcd_commit *commit, struct etcd_txn *txn,
                 struct error *err);
    void *cookie;
    const struct store_head *head; /* NULL: none */
    uint64_t until_ms;
    /* fill says which shard it changes, and to what. */
    bool has_shard;
    size_t shard;
    uint64_t shard_changes;
    int64_t revision; /* out: at which it was applied */
};

/* Applies the change in one Txn, exactly once, or fails. UNAVAILABLE after a long silence: then
 * nobody knows yet whether it was applied. */
MUST_USE bool etcd_commit(struct etcd_store *s, struct etcd_commit *commit, struct error *err);

/* Takes over what a slot of this replica says. */
void etcd_learn(struct etcd_store *s, const struct etcd_slot_value *value);

/* --- records --- */

/* The proof first: nothing is read from bytes that the broker did not write. *packed: the record's
 * bytes within the pair. */
MUST_USE bool etcd_unpack(struct etcd_store *s, const struct etcd_pair *pair, struct record *out,
                          struct etcd_bytes *packed, struct error *err);

bool etcd_store_get(struct store *store, const struct store_name *name, struct record *out,
                    struct error *err);
bool etcd_store_swap(struct store *store, const struct store_change *change, struct error *err);
bool etcd_store_list(struct store *store, const struct store_filter *filter,
                     bool (*visit)(void *cookie, const struct record *r), void *cookie,
                     struct error *err);
bool etcd_store_count(struct store *store, const char *tenant, uint64_t *out, struct error *err);
bool etcd_store_walk(struct store *store, const struct store_name *after, struct record *out,
                     bool *found, struct error *err);
bool etcd_store_find_remains(struct store *store, const struct record_key *key,
                             struct store_remains *out, struct error *err);
bool etcd_store_each_retained(struct store *store,
                              bool (*visit)(void *cookie, const struct store_retained *r),
                              void *cookie, struct error *err);
bool etcd_store_get_key(struct store *store, const struct record_key *key, struct store_key *out,
                        struct error *err);

/* --- single values, see store/store.h --- */

bool etcd_store_get_head(struct store *store, struct store_head *out, struct error *err);
bool etcd_store_each_head(struct store *store,
                          bool (*visit)(void *cookie, const char *replica,
                                        const struct store_head *head),
                          void *cookie, struct error *err);
bool etcd_store_put_head(struct store *store, const struct store_head *head, struct error *err);
bool etcd_store_remember(struct store *store, const char *name,
                         const uint8_t mark[static STORE_MARK_LEN],
                         uint8_t out[static STORE_MARK_LEN], struct error *err);
bool etcd_store_forget(struct store *store, const char *prefix, struct error *err);
bool etcd_store_raise(struct store *store, const char *name, uint64_t value, uint64_t *out,
                      struct error *err);

bool etcd_store_unlock(struct store *store, struct secret *key, struct store_check *out,
                       struct error *err);

bool etcd_store_export(struct store *store, const struct store_visitor *visitor, struct error *err);

/* --- compaction --- */

MUST_USE bool etcd_compactor_start(struct etcd_store *s, struct error *err);
/* Has etcd forget what was replaced before the revision, soon. */
void etcd_compact_soon(struct etcd_store *s, int64_t revision);
void etcd_compactor_stop(struct etcd_store *s);
