/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/store_etcd_client.h"
#include "store/store_etcd_value.h"

#include <etcd.pb-c.h>

/*
 * One request to etcd as it is built, and its checked answer. All memory is the arena's. When the
 * arena or a list is full, the request is not sent: RESOURCE_EXHAUSTED.
 */
#define ETCD_COMPARES_MAX 16
#define ETCD_OPS_MAX      16

struct etcd_txn {
    struct arena *arena;
    Etcdserverpb__Compare *compares[ETCD_COMPARES_MAX];
    Etcdserverpb__RequestOp *success[ETCD_OPS_MAX], *failure[ETCD_OPS_MAX];
    size_t n_compares, n_success, n_failure;
    bool is_full;
};

/* A key and its value; revision 0: there is none. They point into the arena. */
struct etcd_pair {
    struct etcd_bytes key, value;
    int64_t revision; /* of the last change */
};

/* What a Txn answered. */
struct etcd_result {
    bool succeeded;
    int64_t revision; /* of the store */
    Etcdserverpb__TxnResponse *response;
};

void etcd_if_revision(struct etcd_txn *txn, const struct etcd_key *key, int64_t revision);
void etcd_if_value(struct etcd_txn *txn, const struct etcd_key *key, const void *value, size_t len);
/* Copies the value. */
void etcd_then_put(struct etcd_txn *txn, const struct etcd_key *key, const void *value, size_t len);
void etcd_then_delete(struct etcd_txn *txn, const struct etcd_key *key);
void etcd_then_delete_all(struct etcd_txn *txn, const struct etcd_key *start);
void etcd_then_get(struct etcd_txn *txn, const struct etcd_key *key);
/* As it was at that revision of the store. */
void etcd_then_get_at(struct etcd_txn *txn, const struct etcd_key *key, int64_t revision);
void etcd_else_get(struct etcd_txn *txn, const struct etcd_key *key);

/* Like etcd_ask() and etcd_ask_once(). */
MUST_USE bool etcd_txn_ask(struct etcd_client *client, struct etcd_txn *txn, uint64_t until_ms,
                           struct etcd_result *out, struct error *err);
MUST_USE bool etcd_txn_ask_once(struct etcd_client *client, struct etcd_txn *txn, uint64_t until_ms,
                                struct etcd_result *out, struct error *err);

/* The answer to the get with this number among the operations that were applied. INTERNAL when it
 * is not about the key. */
MUST_USE bool etcd_result_get(const struct etcd_result *result, size_t i,
                              const struct etcd_key *key, struct etcd_pair *out, struct error *err);

/* The keys of one range. */
struct etcd_page {
    Etcdserverpb__RangeResponse *response;
    int64_t revision; /* of the store when they were read */
    size_t n;
    bool more;
};

/* From the first key up to before end. All keys begin with start. */
struct etcd_range {
    const struct etcd_key *start, *from, *end; /* from NULL: start; end NULL: all that begin so */
    int64_t limit, revision;                   /* 0: none, and the newest */
    bool keys_only;
};
/* INTERNAL when the answer is no part of the range, in order. */
MUST_USE bool etcd_range_ask(struct etcd_client *client, const struct etcd_range *range,
                             struct arena *arena, uint64_t until_ms, struct etcd_page *out,
                             struct error *err);
struct etcd_pair etcd_page_at(const struct etcd_page *page, size_t i);
/* Where the next page begins. */
MUST_USE bool etcd_page_next(const struct etcd_page *page, struct etcd_key *out, struct error *err);

/* The newest revision. */
MUST_USE bool etcd_find_revision(struct etcd_client *client, int64_t *out, struct error *err);
/* Calls visit with each pair of the range, page by page. Each page has its own time. A question costs etcd a
 * walk over all keys, so the limit of the range should be large. */
MUST_USE bool etcd_each_pair(struct etcd_client *client, const struct etcd_range *range,
                             bool (*visit)(void *cookie, const struct etcd_pair *pair,
                                           struct error *err),
                             void *cookie, struct error *err);

/* Reads one key. */
MUST_USE bool etcd_get(struct etcd_client *client, const struct etcd_key *key, struct arena *arena,
                       uint64_t until_ms, struct etcd_pair *out, struct error *err);
