/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/broker.h"

#include "store/keyring.h"
#include "transfer/marks.h"

#define PCK_CACHE_ENTRIES 1024
#define MASTER_TRIES      4

static bool make_tables(struct broker *broker, struct error *err)
{
    return pck_cache_new(PCK_CACHE_ENTRIES, &broker->pck_cache, err) &&
           challenges_new(CHALLENGE_USED_MAX, broker->steady_ms, &broker->challenges, err) &&
           attested_sessions_new(ATTESTED_SESSIONS_MAX, broker->steady_ms, &broker->attestations,
                                 err) &&
           sightings_new(broker->steady_ms, &broker->formats, err) &&
           rates_new(broker->steady_ms, &broker->peers, err) &&
           rates_new(broker->steady_ms, &broker->refused, err) &&
           rates_new(broker->steady_ms, &broker->tenants, err) &&
           sightings_new(broker->steady_ms, &broker->leases, err);
}

bool broker_init(struct broker *broker, struct error *err)
{
    pthread_rwlockattr_t attributes;

    /* Prefer writers: otherwise a stream of calls would block a reload forever. */
    if (pthread_rwlockattr_init(&attributes) != 0)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    int code = pthread_rwlock_init(&broker->policy_lock, &attributes);

    pthread_rwlockattr_destroy(&attributes);
    if (code != 0)
        return error_set_errno(err, code, "policy lock");
    (void)pthread_mutex_init(&broker->sealed_lock, NULL);
    broker_say_sealed(broker, "it starts");
    if (make_tables(broker, err))
        return true;
    broker_done(broker);
    return false;
}

void broker_done(struct broker *broker)
{
    pck_cache_free(broker->pck_cache);
    broker->pck_cache = NULL;
    challenges_free(&broker->challenges);
    attested_sessions_free(&broker->attestations);
    sightings_free(&broker->formats);
    rates_free(&broker->peers);
    rates_free(&broker->refused);
    rates_free(&broker->tenants);
    sightings_free(&broker->leases);
    policy_free(&broker->policy);
    broker_signer_free(&broker->signer);
    keyring_free(&broker->keyring);
    pthread_rwlock_destroy(&broker->policy_lock);
    (void)pthread_mutex_destroy(&broker->sealed_lock);
}

void broker_set_policy(struct broker *broker, struct policy **policy)
{
    auto_policy struct policy *old = NULL;

    pthread_rwlock_wrlock(&broker->policy_lock);
    old = broker->policy;
    broker->policy = TAKE_PTR(*policy);
    pthread_rwlock_unlock(&broker->policy_lock);
}

void broker_set_signer(struct broker *broker, struct broker_signer **signer)
{
    auto_broker_signer struct broker_signer *old = NULL;

    pthread_rwlock_wrlock(&broker->policy_lock);
    old = broker->signer;
    broker->signer = TAKE_PTR(*signer);
    pthread_rwlock_unlock(&broker->policy_lock);
}

/* Another replica may begin the same change at the same time. */
static bool take_master(struct keyring *keyring, struct error *err)
{
    for (int i = 0; i < MASTER_TRIES; i++) {
        *err = (struct error)ERROR_INIT;
        if (keyring_take_master(keyring, err))
            return true;
        if (err->code != ERROR_ABORTED)
            break;
    }
    return false;
}

static bool check_store(struct broker *broker, struct keyring *keyring, struct error *err)
{
    struct store *store = broker->store;
    uint64_t moved = 0;

    if (!store->ops->raise(store, MIGRATED_MARK, 0, &moved, err) ||
        !marks_read_restored(store, &broker->restored_ms, err))
        return false;
    if (moved != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the store was migrated to another one, which is in use since: start the "
                         "broker with that --store");
    return take_master(keyring, err);
}

bool broker_unlock(struct broker *broker, const struct secret *master,
                   const struct secret *old_master, struct error *err)
{
    struct keyring *keyring = NULL;

    store_set_taker(broker->store, NULL, NULL); /* of an earlier try: only the store uses it yet */
    keyring_free(&broker->keyring);
    if (!keyring_unlock_store(broker->store, master, old_master, &keyring, &broker->check, err))
        return false;
    if (!check_store(broker, keyring, err)) {
        store_set_taker(broker->store, NULL, NULL);
        keyring_free(&keyring);
        return false;
    }
    broker->keyring = keyring;
    return true;
}

/* Each call holds the lock: it sees the broker sealed from its begin to its end, or open. */
void broker_open(struct broker *broker, struct audit *audit)
{
    pthread_rwlock_wrlock(&broker->policy_lock);
    broker->audit = audit;
    atomic_store(&broker->is_open, true);
    pthread_rwlock_unlock(&broker->policy_lock);
}

bool broker_is_open(const struct broker *broker)
{
    return atomic_load(&broker->is_open);
}

void broker_say_sealed(struct broker *broker, const char *why)
{
    (void)pthread_mutex_lock(&broker->sealed_lock);
    (void)error_set(&broker->sealed, ERROR_UNAVAILABLE, "the broker is sealed: %s", why);
    (void)pthread_mutex_unlock(&broker->sealed_lock);
}

void broker_refuse_key(struct broker *broker, const struct error *why)
{
    (void)pthread_mutex_lock(&broker->sealed_lock);
    broker->last_refusal = *why;
    broker->keys_refused++;
    (void)pthread_mutex_unlock(&broker->sealed_lock);
}

uint64_t broker_keys_refused(struct broker *broker, struct error *last)
{
    (void)pthread_mutex_lock(&broker->sealed_lock);
    uint64_t n = broker->keys_refused;
    *last = broker->last_refusal;
    (void)pthread_mutex_unlock(&broker->sealed_lock);
    return n;
}

bool broker_check_open(struct broker *broker, struct error *err)
{
    if (broker_is_open(broker))
        return true;
    (void)pthread_mutex_lock(&broker->sealed_lock);
    *err = broker->sealed;
    (void)pthread_mutex_unlock(&broker->sealed_lock);
    return false;
}
