/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/audit.h"
#include "broker/policy.h"
#include "broker/store.h"

#include <pthread.h>

/* The broker as the RPC handlers see it. Everything is the caller's and outlives it. */
struct broker {
    struct store *store;
    struct audit *audit;
    const struct claim_source_binding *sources;
    size_t n_sources;
    const struct secret *master; /* NULL: sealed */
    uint64_t format_ms;          /* how long one attempt to format may take */
    uint64_t (*now_ms)(void);    /* since 1970 */

    pthread_rwlock_t policy_lock; /* held for reading through each call */
    struct policy *policy;
};

MUST_USE bool broker_init(struct broker *broker, struct error *err); /* the lock */
void broker_done(struct broker *broker);                             /* lock and policy */

/* Takes *policy over; calls that run keep the old one to their end. */
void broker_set_policy(struct broker *broker, struct policy **policy);

/* FAILED_PRECONDITION when the store was made under another master key. */
MUST_USE bool broker_check_master(struct broker *broker, struct error *err);

extern const struct rpc_service broker_service; /* of a struct broker */
