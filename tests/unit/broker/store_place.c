/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_place.h"

#include "tests/unit/broker/store_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Gives the store the key of its proofs; returns what it found. */
struct store_check store_place_unlock(struct store *store, uint8_t first)
{
    struct secret key = SECRET_INIT;
    struct store_check check;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&key, 32, &err));
    key.bytes[0] = first;
    assert_ok(store->ops->unlock(store, &key, &check, &err));
    assert_null(key.bytes);
    return check;
}

struct store_check store_place_reopen(struct store_place *place)
{
    struct error err = ERROR_INIT;

    store_close(&place->store);
    assert_ok(place->open(place, &err));
    return store_place_unlock(place->store, 1);
}

static bool open_sqlite(struct store_place *place, struct error *err)
{
    return store_sqlite_open(place->dir, &place->store, err);
}

int store_place_memory(void **state)
{
    static struct store_place place;
    struct error err = ERROR_INIT;

    place = (struct store_place){ .store = NULL };
    assert_ok(store_memory_open(&place.store, &err));
    (void)store_place_unlock(place.store, 1);
    *state = &place;
    return 0;
}

int store_place_sqlite(void **state)
{
    static struct store_place place;
    struct error err = ERROR_INIT;

    place = (struct store_place){ .dir = "/tmp/tdvol-store-XXXXXX", .open = open_sqlite };
    assert_non_null(mkdtemp(place.dir));
    assert_ok(store_sqlite_open(place.dir, &place.store, &err));
    (void)store_place_unlock(place.store, 1);
    *state = &place;
    return 0;
}

int store_place_remove(void **state)
{
    static const char *const names[] = { "broker.db", "broker.db-wal", "broker.db-shm", "lock" };
    struct store_place *place = *state;
    char path[96];

    store_close(&place->store);
    for (size_t i = 0; place->dir[0] && i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", place->dir, names[i]);
        unlink(path);
    }
    return place->dir[0] ? rmdir(place->dir) : 0;
}

struct record store_place_record(const char *tenant, const char *driver, const char *volume_id)
{
    struct record r = fixture_record(RECORD_READY);

    (void)snprintf(r.tenant, sizeof(r.tenant), "%s", tenant);
    (void)snprintf(r.driver, sizeof(r.driver), "%s", driver);
    (void)snprintf(r.volume_id, sizeof(r.volume_id), "%s", volume_id);
    (void)snprintf((char *)r.id, sizeof(r.id), "%s", volume_id);
    r.version = 0;
    return r;
}

/* Stores the next version of r, with a key when it is the first of its lineage. */
bool store_place_swap(struct store *store, struct record *r, bool with_key, struct error *err)
{
    struct record next = *r;
    struct store_key key = { .key = r->key };
    struct store_change change = { .next = &next,
                                   .expected_version = r->version,
                                   .new_key = with_key ? &key : NULL };

    for (size_t i = 0; i < sizeof(key.wrapped); i++)
        key.wrapped[i] = (uint8_t)(0xa0 + i);
    next.version++;
    if (!store->ops->swap(store, &change, err))
        return false;
    *r = next;
    return true;
}

bool store_place_get(struct store *store, const char *volume_id, struct record *out,
                     struct error *err)
{
    const struct store_name name = { "t", "d", volume_id };

    return store->ops->get(store, &name, out, err);
}
