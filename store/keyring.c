/* SPDX-License-Identifier: Apache-2.0 */
#include "store/keyring.h"

#include "base/fault.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define REKEY_TRIES 8

struct keyring {
    struct store *store;
    struct secret master, old; /* old may be empty */
    pthread_mutex_t changing;  /* held by who puts a ring */
    pthread_rwlock_t lock;     /* for all below */
    bool is_loaded;
    struct ring ring;
    struct error problem; /* with a ring that another broker has put */
};

static void unlock(pthread_rwlock_t **lock)
{
    pthread_rwlock_unlock(*lock);
}
#define auto_rwlocked CLEANUP(unlock)

static void end_change(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}
#define auto_changing CLEANUP(end_change)

static bool copy_secret(const struct secret *from, struct secret *out, struct error *err)
{
    if (!from || !from->bytes)
        return true;
    if (!secret_alloc(out, from->len, err))
        return false;
    memcpy(out->bytes, from->bytes, from->len);
    return true;
}

/* --- rings from the store --- */

static bool decode(struct keyring *k, const struct store_ring *stored, struct ring *out,
                   struct error *err)
{
    struct error ignored = ERROR_INIT;

    if (ring_decode(stored, &k->master, out, err))
        return true;
    if (err->code != ERROR_FAILED_PRECONDITION || !k->old.bytes ||
        !ring_decode(stored, &k->old, out, &ignored))
        return false;
    *err = (struct error)ERROR_INIT;
    return true;
}

/* The caller holds the lock. */
static void install(struct keyring *k, struct ring *ring)
{
    ring_wipe(&k->ring);
    k->ring = *ring;
    *ring = (struct ring){ .version = 0 };
    if (!k->is_loaded) /* written while the keyring is opened, by one thread */
        k->is_loaded = true;
    k->problem = (struct error)ERROR_INIT;
}

static bool refuse(struct keyring *k, struct error *err)
{
    err->code = ERROR_UNAVAILABLE;
    (void)error_wrap(err, "another broker has changed the store's keys");
    k->problem = *err;
    return false;
}

/* For the store (store.take_ring), and for rings that were asked for. */
static bool take(void *cookie, const struct store_ring *stored, struct error *err)
{
    struct keyring *k = cookie;
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;
    auto_ring struct ring ring = { .version = 0 };

    pthread_rwlock_wrlock(lock);
    if (k->is_loaded && stored->version == k->ring.version) {
        k->problem = (struct error)ERROR_INIT;
        return true;
    }
    if (k->is_loaded && stored->version < k->ring.version) {
        (void)error_set(err, ERROR_UNAVAILABLE,
                        "an older ring of keys was put back: restore the store from a backup, or "
                        "restart the broker if that has happened");
        return refuse(k, err);
    }
    if (!decode(k, stored, &ring, err))
        return k->is_loaded ? refuse(k, err) : false;
    install(k, &ring);
    return true;
}

static bool of_another_master(struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "the store was made with another master key: start the broker with that key");
}

/* A store without a ring: its mark says which master key it has. */
static bool load_first(struct keyring *k, struct error *err)
{
    uint8_t mark[STORE_MARK_LEN], old_mark[STORE_MARK_LEN], known[STORE_MARK_LEN];
    auto_ring struct ring ring = { .version = 0 };

    if (!seal_mark(&k->master, mark, err) ||
        !k->store->ops->remember(k->store, KEYRING_MASTER_MARK, mark, known, err))
        return false;
    bool is_master = bytes_are_equal(mark, known, STORE_MARK_LEN);

    if (!is_master && k->old.bytes && !seal_mark(&k->old, old_mark, err))
        return false;
    if (!is_master && !(k->old.bytes && bytes_are_equal(old_mark, known, STORE_MARK_LEN)))
        return of_another_master(err);
    if (!ring_of_master(is_master ? &k->master : &k->old, &ring, err))
        return false;
    pthread_rwlock_wrlock(&k->lock);
    if (!k->is_loaded)
        install(k, &ring);
    pthread_rwlock_unlock(&k->lock);
    return true;
}

static bool lost_ring(struct keyring *k, struct error *err)
{
    pthread_rwlock_wrlock(&k->lock);
    bool is_lost = k->is_loaded && k->ring.version > 0;

    if (is_lost) {
        (void)error_set(err, ERROR_UNAVAILABLE,
                        "the store's ring of keys is gone: restore the store from a backup");
        (void)refuse(k, err);
    }
    pthread_rwlock_unlock(&k->lock);
    return is_lost;
}

bool keyring_refresh(struct keyring *k, struct error *err)
{
    struct store_ring stored;

    if (!k->store->ops->get_ring(k->store, &stored, err))
        return false;
    if (stored.version > 0)
        return take(k, &stored, err);
    return !lost_ring(k, err) && (k->is_loaded || load_first(k, err));
}

bool keyring_open(struct store *store, const struct secret *master, const struct secret *old,
                  struct keyring **out, struct error *err)
{
    struct keyring *k = calloc(1, sizeof(*k));

    if (!k)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    k->store = store;
    (void)pthread_mutex_init(&k->changing, NULL);
    (void)pthread_rwlock_init(&k->lock, NULL);
    store_set_taker(store, take, k);
    if (!copy_secret(master, &k->master, err) || !copy_secret(old, &k->old, err) ||
        !keyring_refresh(k, err)) {
        store_set_taker(store, NULL, NULL);
        keyring_free(&k);
        return false;
    }
    *out = k;
    return true;
}

void keyring_free(struct keyring **keyring)
{
    struct keyring *k = *keyring;

    if (!k)
        return;
    secret_wipe(&k->master);
    secret_wipe(&k->old);
    ring_wipe(&k->ring);
    (void)pthread_rwlock_destroy(&k->lock);
    (void)pthread_mutex_destroy(&k->changing);
    free(k);
    *keyring = NULL;
}

bool keyring_store_key(struct keyring *k, struct secret *out, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    return copy_secret(&k->ring.records, out, err);
}

bool keyring_unlock_store(struct store *store, const struct secret *master,
                          const struct secret *old, struct keyring **keyring,
                          struct store_check *out, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;

    if (!keyring_open(store, master, old, keyring, err))
        return false;
    if (keyring_store_key(*keyring, &key, err) && store->ops->unlock(store, &key, out, err))
        return true;
    store_set_taker(store, NULL, NULL);
    keyring_free(keyring);
    return false;
}

bool keyring_claim(struct store *store, const struct secret *master, struct error *err)
{
    uint8_t mark[STORE_MARK_LEN], known[STORE_MARK_LEN];

    if (!seal_mark(master, mark, err) ||
        !store->ops->remember(store, KEYRING_MASTER_MARK, mark, known, err))
        return false;
    return bytes_are_equal(mark, known, STORE_MARK_LEN) || of_another_master(err);
}

bool keyring_audit_head_key(struct keyring *k, struct secret *out, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    return copy_secret(&k->ring.audit_head, out, err);
}

void keyring_state(struct keyring *k, struct keyring_state *out)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    *out = (struct keyring_state){ .version = k->ring.version,
                                   .generation = k->ring.wrappings[0].number,
                                   .has_former = k->ring.n_wrappings > 1,
                                   .has_old_master = k->ring.n_masters > 1 };
    hex_encode(k->ring.marks[0], sizeof(out->master) / 2, out->master);
}

bool keyring_check(struct keyring *k, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    if (k->problem.code == ERROR_NONE)
        return true;
    *err = k->problem;
    return false;
}

bool keyring_master(struct keyring *k, struct secret *out, struct error *err)
{
    return keyring_check(k, err) && copy_secret(&k->master, out, err);
}

/* --- changing the ring --- */

/* A copy of the ring, to be changed. */
static bool begin(struct keyring *k, struct ring *out, struct error *err)
{
    if (!keyring_refresh(k, err))
        return false;
    pthread_rwlock_rdlock(&k->lock);
    bool ok = ring_copy(&k->ring, out, err);

    pthread_rwlock_unlock(&k->lock);
    return ok;
}

/* Its version is still the one that it was copied from. After an error it may have been stored. */
static bool put(struct keyring *k, struct ring *ring, struct error *err)
{
    const struct secret *const masters[] = { &k->master, &k->old };
    struct error ignored = ERROR_INIT;
    struct store_ring stored;

    ring->version++;
    if (!ring_encode(ring, masters, ARRAY_LEN(masters), &stored, err))
        return false;
    FAULT_POINT("broker.keyring.before-put");
    if (!k->store->ops->put_ring(k->store, &stored, ring->version - 1, err)) {
        if (!keyring_refresh(k, &ignored))
            log_warning("the store's keys are not known", ERROR_FIELDS(&ignored));
        return false;
    }
    FAULT_POINT("broker.keyring.after-put");
    return take(k, &stored, err);
}

static void drop_last(struct ring *ring)
{
    secret_wipe(&ring->wrappings[ring->n_wrappings - 1].key);
    ring->wrappings[--ring->n_wrappings].number = 0;
}

bool keyring_take_master(struct keyring *k, struct error *err)
{
    auto_changing pthread_mutex_t *changing = &k->changing;
    auto_ring struct ring next = { .version = 0 };
    uint8_t mark[STORE_MARK_LEN];

    (void)pthread_mutex_lock(changing);
    if (!begin(k, &next, err) || !seal_mark(&k->master, mark, err))
        return false;
    if (ring_knows(&next, mark))
        return true;
    if (next.n_masters > 1)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "another change of the master key has not ended: end it first, with "
                         "\"tdvolctl broker rotate-master\"");
    memcpy(next.marks[1], next.marks[0], STORE_MARK_LEN);
    memcpy(next.marks[0], mark, STORE_MARK_LEN);
    next.n_masters = 2;
    return put(k, &next, err);
}

static bool check_rotation(struct keyring *k, const struct ring *ring, bool drops_master,
                           struct error *err)
{
    uint8_t mark[STORE_MARK_LEN];

    if (ring->n_wrappings > 1)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "secrets are still being wrapped with generation %llu: wait until that "
                         "has ended",
                         (unsigned long long)ring->wrappings[0].number);
    if (!drops_master && ring->n_masters > 1)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the master key is being changed: end that first, with \"tdvolctl broker "
                         "rotate-master\"");
    if (drops_master && ring->n_masters == 1)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the master key is not being changed: start all brokers with the new one "
                         "as --master-key and the present one as --old-master-key first");
    if (!seal_mark(&k->master, mark, err))
        return false;
    return bytes_are_equal(ring->marks[0], mark, STORE_MARK_LEN) ||
           error_set(
               err, ERROR_FAILED_PRECONDITION,
               "this broker has the former master key alone: start it with the new one first");
}

bool keyring_rotate(struct keyring *k, bool drops_master, struct error *err)
{
    auto_changing pthread_mutex_t *changing = &k->changing;
    auto_ring struct ring next = { .version = 0 };

    (void)pthread_mutex_lock(changing);
    if (!begin(k, &next, err) || !check_rotation(k, &next, drops_master, err))
        return false;
    if (drops_master)
        next.n_masters = 1;
    next.wrappings[1] = next.wrappings[0];
    next.wrappings[0] = (struct ring_wrapping){ .number = next.wrappings[1].number + 1 };
    next.n_wrappings = 2;
    return secret_random(&next.wrappings[0].key, SEAL_KEY_LEN, err) && put(k, &next, err);
}

bool keyring_drop_former(struct keyring *k, uint64_t version, struct error *err)
{
    auto_changing pthread_mutex_t *changing = &k->changing;
    auto_ring struct ring next = { .version = 0 };

    (void)pthread_mutex_lock(changing);
    if (!begin(k, &next, err))
        return false;
    if (next.version != version || next.n_wrappings == 1)
        return store_ring_changed(err);
    drop_last(&next);
    return put(k, &next, err);
}

/* --- secrets of volumes --- */

bool keyring_make(struct keyring *k, const char *tenant, const struct record_key *key,
                  struct store_key *out, uint64_t *ring, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    *ring = k->ring.version;
    return seal_make(&k->ring.wrappings[0].key, tenant, key, out, err);
}

/* DATA_LOSS: none opens it. *version: of the ring that was tried. */
static bool open_with_ring(struct keyring *k, const char *tenant, const struct store_key *key,
                           struct secret *out, uint64_t *version, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;

    pthread_rwlock_rdlock(lock);
    *version = k->ring.version;
    for (size_t i = 0; i < k->ring.n_wrappings; i++) {
        if (seal_unwrap(&k->ring.wrappings[i].key, tenant, key, out, err)) {
            *err = (struct error)ERROR_INIT; /* another one did not open it */
            return true;
        }
        if (err->code != ERROR_DATA_LOSS)
            return false;
    }
    return false;
}

/* True, once: there is another ring than the one of this version. */
static bool has_newer(struct keyring *k, uint64_t version)
{
    struct error ignored = ERROR_INIT;
    struct keyring_state state;

    if (!keyring_refresh(k, &ignored))
        return false;
    keyring_state(k, &state);
    return state.version != version;
}

bool keyring_unwrap(struct keyring *k, const char *tenant, const struct store_key *key,
                    struct secret *out, struct error *err)
{
    uint64_t version = 0;

    if (open_with_ring(k, tenant, key, out, &version, err))
        return true;
    return err->code == ERROR_DATA_LOSS && has_newer(k, version) &&
           open_with_ring(k, tenant, key, out, &version, err);
}

bool keyring_secret_of(struct keyring *k, const struct record *r, struct secret *out,
                       struct error *err)
{
    struct store_key wrapped, again;
    struct store *store = k->store;

    if (!store->ops->get_key(store, &r->key, &wrapped, err))
        return false;
    if (keyring_unwrap(k, r->tenant, &wrapped, out, err))
        return true;
    /* It may have been wrapped anew, and the former wrapping dropped, since it was read. */
    return err->code == ERROR_DATA_LOSS && store->ops->get_key(store, &r->key, &again, err) &&
           keyring_unwrap(k, r->tenant, &again, out, err);
}

bool keyring_rewrap(struct keyring *k, const char *tenant, const struct store_key *key,
                    uint8_t out[static STORE_WRAPPED_LEN], bool *changed, struct error *err)
{
    auto_rwlocked pthread_rwlock_t *lock = &k->lock;
    auto_secret struct secret plain = SECRET_INIT;
    const struct ring *ring = &k->ring;

    pthread_rwlock_rdlock(lock);
    *changed = false;
    if (seal_unwrap(&ring->wrappings[0].key, tenant, key, &plain, err))
        return true;
    if (err->code != ERROR_DATA_LOSS || ring->n_wrappings == 1)
        return false;
    *err = (struct error)ERROR_INIT;
    *changed = true;
    return seal_unwrap(&ring->wrappings[1].key, tenant, key, &plain, err) &&
           seal_again(&ring->wrappings[0].key, tenant, &key->key, &plain, out, err);
}

/* *done: false when the store had another key or ring by then. */
static bool rewrap_once(struct keyring *k, const struct record *r, bool *changed, bool *done,
                        struct error *err)
{
    struct store *store = k->store;
    uint8_t wrapped[STORE_WRAPPED_LEN];
    struct keyring_state state;
    struct store_key key;

    *changed = false;
    *done = true;
    keyring_state(k, &state);
    if (!store->ops->get_key(store, &r->key, &key, err))
        return err->code == ERROR_NOT_FOUND;
    if (!keyring_rewrap(k, r->tenant, &key, wrapped, changed, err)) {
        *done = false;
        return err->code == ERROR_DATA_LOSS && has_newer(k, state.version);
    }
    if (!*changed || store->ops->rekey(store, &key, wrapped, err))
        return true;
    *done = false;
    return err->code == ERROR_ABORTED;
}

bool keyring_rewrap_key(struct keyring *k, const struct record *r, bool *changed, struct error *err)
{
    struct keyring_state state;
    bool done = false;

    *changed = false;
    keyring_state(k, &state);
    if (!state.has_former || r->key.generation == 0)
        return true;
    for (int i = 0; i < REKEY_TRIES && !done; i++) {
        if (!rewrap_once(k, r, changed, &done, err))
            return false;
        if (done)
            *err = (struct error)ERROR_INIT;
    }
    return done;
}
