/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/secret.h"
#include "record/encoding.h"
#include "store/store.h"

/*
 * What shows that a store holds what the broker wrote. The key comes from the master key, which
 * lies outside of the store.
 *
 * Each record has a MAC over its canonical bytes, which name its id, version, tenant, lineage and
 * key. Whoever writes to the store's files can neither make nor change a record.
 *
 * An old record that is put back has a good MAC. So the set of records has a sum: a second MAC of
 * each record, which no file holds, added modulo 2^256. A change adds one and subtracts one. The
 * store keeps a MAC over the sum, together with the audit log's head. A store that was put back as
 * a whole has a good proof; then the audit log is ahead of its head.
 */
#define STORE_PROOF_LEN 32

struct proof_sum {
    uint8_t bytes[STORE_PROOF_LEN];
};

MUST_USE bool proof_of_record(const struct secret *key, const uint8_t *record, size_t len,
                              uint8_t out[static STORE_PROOF_LEN], struct error *err);

MUST_USE bool proof_add(const struct secret *key, struct proof_sum *sum, const uint8_t *record,
                        size_t len, struct error *err);
MUST_USE bool proof_subtract(const struct secret *key, struct proof_sum *sum, const uint8_t *record,
                             size_t len, struct error *err);

MUST_USE bool proof_of_set(const struct secret *key, const struct proof_sum *sum,
                           const struct store_head *head, uint8_t out[static STORE_PROOF_LEN],
                           struct error *err);

/* A proof that names the value's place, too: no value is good elsewhere. For stores without one
 * sum (store/store_etcd_value.h). */
MUST_USE bool proof_of_value(const struct secret *key, const struct byte_range *name,
                             const struct byte_range *value, uint8_t out[static STORE_PROOF_LEN],
                             struct error *err);
