/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/broker_signature.h"
#include "audit/audit.h"
#include "broker/caller.h"
#include "broker/challenge.h"
#include "broker/rate.h"
#include "broker/sightings.h"
#include "collateral/collaterals.h"
#include "master/source.h"
#include "policy/policy.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>

/* The broker as the RPC handlers see it. The caller owns everything that it points to, and frees it
 * after the broker. */
struct broker {
    struct store *store;
    const char *replica; /* its name among those that share the store; NULL: it has none */
    struct audit *audit; /* NULL: sealed. Set once, by broker_open */
    const struct claim_source_binding *sources;
    size_t n_sources;
    struct keyring *keyring;     /* NULL until it is unlocked; the broker's own */
    struct rewrap *rewrap;       /* NULL: nothing wraps secrets anew */
    struct sweep *sweep;         /* NULL: nothing destroys kept keys */
    uint64_t format_ms;          /* how long one attempt to format may take */
    uint64_t (*now_ms)(void);    /* since 1970 */
    uint64_t (*steady_ms)(void); /* never goes back */
    bool shares_store;           /* with other brokers */

    uint64_t session_ms;                  /* how long an attested session lasts */
    uint8_t key_sha256[ATTESTED_KEY_LEN]; /* of the broker's own certificate's key, at its start */
    struct collaterals *collaterals;      /* NULL: evidence cannot be verified */
    unsigned verifications_max;           /* at the same time */
    uint32_t attest_rate;                 /* calls to attest per second and address */

    const char *tsm_root, *event_log; /* for quotes of the broker itself; see attester_options */
    atomic_bool is_quoting;           /* one is being made */

    struct store_check check; /* of the store, when it was unlocked */
    atomic_ullong backup_ms;  /* when the last backup was made, since 1970; 0: none was */
    uint64_t restored_ms;     /* when the store was restored from a backup; 0: it was not */

    atomic_llong
        certificate_until; /* when the broker's own expires, since 1970; 0: there is none */
    atomic_bool certificate_failed; /* changed files were not good: the old ones are in use */

    /* broker_init sets the rest */
    atomic_uint verifications; /* running now */
    struct pck_cache *pck_cache;
    struct challenges *challenges;
    struct attested_sessions *attestations;
    struct sightings *formats; /* the attempts to format that this broker has seen */
    struct rates *peers;       /* how often an address attests */
    struct rates *refused;     /* how often a client is refused, with a line in the audit log */
    atomic_ulong unwritten;    /* refusals without a line */
    struct rates *tenants;     /* how often a tenant opens */
    struct sightings *leases;  /* the marks of contested leases, likewise */

    pthread_rwlock_t policy_lock; /* each call holds it for reading */
    struct policy *policy;
    struct broker_signer *signer; /* of answers to workers; NULL: none are signed */

    struct backups *backups; /* NULL: none are written */
    struct master_source
        *unsealing; /* takes the master key from administrators; NULL: nothing does */
    atomic_bool is_open;
    pthread_mutex_t sealed_lock;
    struct error sealed;       /* why; under the lock */
    struct error last_refusal; /* of a master key; under the lock */
    uint64_t keys_refused;     /* under the lock */
};

/* Makes the lock and the tables; the caller has set both clocks. */
MUST_USE bool broker_init(struct broker *broker, struct error *err);
void broker_done(
    struct broker *broker); /* frees what broker_init made, the policy and the signer */

/* Takes ownership of *policy. Running calls keep the old policy until they end. */
void broker_set_policy(struct broker *broker, struct policy **policy);

/* Takes ownership of *signer. Its key must be the one that TLS clients see. */
void broker_set_signer(struct broker *broker, struct broker_signer **signer);

/* Gives the store its key, which the ring of keys has (store/keyring.h), and keeps what the store found
 * in its records. old_master: NULL, or the one that master shall replace. FAILED_PRECONDITION when the
 * store has another master key, or was migrated. */
MUST_USE bool broker_unlock(struct broker *broker, const struct secret *master,
                            const struct secret *old_master, struct error *err);

/* From sealed to open, while calls run. The broker is unlocked; audit must outlive it. */
void broker_open(struct broker *broker, struct audit *audit);
bool broker_is_open(const struct broker *broker);

/* What clients of a sealed broker are told from now on. */
void broker_say_sealed(struct broker *broker, const char *why);
/* A master key was not taken. */
void broker_refuse_key(struct broker *broker, const struct error *why);
/* How often that was, and why the last time. */
uint64_t broker_keys_refused(struct broker *broker, struct error *last);
/* UNAVAILABLE, with why, when it is sealed. */
MUST_USE bool broker_check_open(struct broker *broker, struct error *err);
