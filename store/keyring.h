/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/ring.h"

/*
 * The store's ring of keys (store/ring.h) as a running broker uses it. Thread-safe.
 *
 * Over etcd all brokers use one ring, and each may change it. Whoever changes a record must know the
 * newest one: the store sees to that, and hands each new ring over before the change. So, once a ring
 * with a new wrapping is stored, no secret is wrapped with the former one any more.
 *
 * The change of the master key:
 *   1. A broker that was started with both keys wraps the ring under both. Brokers that know one of them
 *      go on, so they are started anew with both, one after the other.
 *   2. keyring_rotate() drops the old master key and makes a new wrapping. The new ring is wrapped under
 *      the new master key alone.
 *   3. All secrets are wrapped anew (broker/rewrap.h), then the former wrapping is dropped.
 */
struct keyring;

/* Reads the store's ring. The masters are copied; old may be NULL: it is for a change of the master key.
 * FAILED_PRECONDITION when the store has another master key. The store must not be used any more when
 * the keyring is freed, unless keyring_open failed. */
MUST_USE bool keyring_open(struct store *store, const struct secret *master,
                           const struct secret *old, struct keyring **out, struct error *err);
void keyring_free(struct keyring **keyring);

/* Opens it, and gives the store its key. out: of store->ops->unlock. */
MUST_USE bool keyring_unlock_store(struct store *store, const struct secret *master,
                                   const struct secret *old, struct keyring **keyring,
                                   struct store_check *out, struct error *err);

/* For a new store without a ring: from now on it is of this master key. FAILED_PRECONDITION when it is of
 * another one. */
#define KEYRING_MASTER_MARK "master-key" /* of remember: the mark of that master key */
MUST_USE bool keyring_claim(struct store *store, const struct secret *master, struct error *err);

/* Copies of keys of the ring. */
MUST_USE bool keyring_store_key(struct keyring *k, struct secret *out, struct error *err);
MUST_USE bool keyring_audit_head_key(struct keyring *k, struct secret *out, struct error *err);

/* A copy of the master key that this broker was started with, for another broker. UNAVAILABLE when it is
 * not the store's any more. */
MUST_USE bool keyring_master(struct keyring *k, struct secret *out, struct error *err);

/* Step 1, when there is something to do. The store must be unlocked. */
MUST_USE bool keyring_take_master(struct keyring *k, struct error *err);

/* A new wrapping. drops_master: step 2. FAILED_PRECONDITION says what must come first. */
MUST_USE bool keyring_rotate(struct keyring *k, bool drops_master, struct error *err);

/* Step 3, the last part. version: of the ring when all secrets were looked at. ABORTED: there is another
 * one by now. */
MUST_USE bool keyring_drop_former(struct keyring *k, uint64_t version, struct error *err);

/* Looks for a ring that another broker has put. */
MUST_USE bool keyring_refresh(struct keyring *k, struct error *err);

/* Makes a random secret and wraps it. *ring: which ring the change that stores it relies on
 * (store_change.ring). */
MUST_USE bool keyring_make(struct keyring *k, const char *tenant, const struct record_key *key,
                           struct store_key *out, uint64_t *ring, struct error *err);

/* DATA_LOSS when no wrapping of the ring, and of one that came meanwhile, opens it. */
MUST_USE bool keyring_unwrap(struct keyring *k, const char *tenant, const struct store_key *key,
                             struct secret *out, struct error *err);

/* The secret of the record's key, from the store. NOT_FOUND: it was destroyed. */
MUST_USE bool keyring_secret_of(struct keyring *k, const struct record *r, struct secret *out,
                                struct error *err);

/* Wraps anew what is wrapped with the former wrapping; *changed: it was. */
MUST_USE bool keyring_rewrap(struct keyring *k, const char *tenant, const struct store_key *key,
                             uint8_t out[static STORE_WRAPPED_LEN], bool *changed,
                             struct error *err);

/* The same for the key of a record in the store. A record that gets the key of another one does this
 * first: otherwise a walk over all records could miss a key that moves from one to the other. A key that
 * was destroyed is no error. */
MUST_USE bool keyring_rewrap_key(struct keyring *k, const struct record *r, bool *changed,
                                 struct error *err);

struct keyring_state {
    uint64_t version;    /* of the ring; 0: not stored, all comes from the master key */
    uint64_t generation; /* number of the wrapping that is in use */
    bool has_former;     /* secrets may be wrapped with the one before, too */
    bool has_old_master; /* the ring is wrapped under the former master key, too */
    char master[17];     /* tells master keys apart: hex of the start of the newest one's mark */
};
void keyring_state(struct keyring *k, struct keyring_state *out);

/* UNAVAILABLE after a ring came that this broker cannot open. */
MUST_USE bool keyring_check(struct keyring *k, struct error *err);
