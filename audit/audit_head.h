/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_line.h"
#include "store/store.h"

/*
 * Where a log ends, as the broker's store keeps it: the number and the hash of the last line, the
 * chain, and the key of the next line. The key is wrapped, and bound to all the rest: who writes to
 * the store cannot make another head. key: SEAL_AUDIT_HEAD of the store's ring of keys.
 */

MUST_USE bool audit_head_make(const struct secret *key, const struct audit_chain *chain,
                              struct store_head *out, struct error *err);

/* *found: there is a head, and the broker has made it. */
MUST_USE bool audit_head_open(const struct secret *key, const struct store_head *head,
                              struct audit_chain *out, bool *found, struct error *err);

/* Calls visit for the head of each broker that uses the store, until visit returns false. replica:
 * its name; "" where a store has only one broker. DATA_LOSS names a replica whose head the broker
 * did not make. */
struct audit_head_visitor {
    bool (*visit)(void *cookie, const char *replica, const struct audit_chain *head);
    void *cookie;
};
MUST_USE bool audit_heads_each(struct store *store, const struct secret *key,
                               const struct audit_head_visitor *visitor, struct error *err);
