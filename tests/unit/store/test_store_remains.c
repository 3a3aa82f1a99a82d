/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_place.h"
#include "tests/unit/store/etcd_place.h"

#include <stdio.h>

/* What each store says of a key that records have, or had. */

static void erase(struct store *store, struct record *r)
{
    struct error err = ERROR_INIT;

    r->phase = RECORD_ERASED;
    r->key = (struct record_key){ .generation = 0 };
    assert_ok(store_place_swap(store, r, false, &err));
}

static void a_store_knows_how_many_records_have_a_key(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v"),
                  copy = store_place_record("t", "d", "copy");
    const struct record_key key = r.key;
    struct store_remains remains;
    struct error err = ERROR_INIT;

    assert_ok(place->store->ops->find_remains(place->store, &key, &remains, &err));
    assert_int_equal(remains.users, 0);
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_swap(place->store, &copy, false, &err));
    assert_ok(place->store->ops->find_remains(place->store, &key, &remains, &err));
    assert_true(remains.users == 2 && !remains.in_past);
    erase(place->store, &r);
    assert_ok(place->store->ops->find_remains(place->store, &key, &remains, &err));
    assert_true(remains.users == 1 && !remains.in_past);
    erase(place->store, &copy);
    assert_ok(place->store->ops->find_remains(place->store, &key, &remains, &err));
    assert_int_equal(remains.users, 0);
    if (strcmp(place->store->ops->name, "etcd") != 0)
        assert_false(remains.in_past);
}

static bool add(void *cookie, const struct record *r)
{
    char *ids = cookie;

    (void)snprintf(ids + strlen(ids), 64 - strlen(ids), "%s ", r->volume_id);
    return true;
}

static bool add_retained(void *cookie, const struct store_retained *r)
{
    char *ids = cookie;

    (void)snprintf(ids + strlen(ids), 64 - strlen(ids), "%s/%s/%s %u %u ", r->tenant, r->driver,
                   r->volume_id, (unsigned)r->deleted_ms, (unsigned)r->due_ms);
    return true;
}

static void a_store_lists_those_whose_keys_are_kept(void **state)
{
    const struct store_place *place = *state;
    const struct record_retained kept = { .deleted_ms = 5, .due_ms = 9, .by = "admin" };
    struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = ""
    };
    struct record r = store_place_record("t", "d", "v"), other = store_place_record("u", "d", "w");
    struct error err = ERROR_INIT;
    char found[64] = "", gone[64] = "";
    uint64_t n = 9;

    other.key.id[5] = 1;
    assert_ok(store_place_swap(place->store, &r, true, &err));
    assert_ok(store_place_swap(place->store, &other, true, &err));
    r.phase = RECORD_RETAINED;
    r.retained = kept;
    assert_ok(store_place_swap(place->store, &r, false, &err));
    assert_ok(place->store->ops->each_retained(place->store, add_retained, found, &err));
    assert_string_equal(found, "t/d/v 5 9 ");
    filter.is_gone = true;
    assert_ok(place->store->ops->list(place->store, &filter, add, gone, &err));
    assert_string_equal(gone, "v ");
    assert_ok(place->store->ops->count(place->store, "t", &n, &err));
    assert_int_equal(n, 0);
    r.phase = RECORD_READY; /* it is brought back */
    r.retained = (struct record_retained){ .due_ms = 0 };
    assert_ok(store_place_swap(place->store, &r, false, &err));
    found[0] = '\0';
    assert_ok(place->store->ops->each_retained(place->store, add_retained, found, &err));
    assert_string_equal(found, "");
    assert_ok(place->store->ops->count(place->store, "t", &n, &err));
    assert_int_equal(n, 1);
}

static void lists_have_either_the_erased_ones_or_the_others(void **state)
{
    const struct store_place *place = *state;
    struct store_filter filter = {
        .tenant = "t", .driver = "", .location = "", .source_volume_id = ""
    };
    struct error err = ERROR_INIT;
    char gone[64] = "", there[64] = "";

    for (char id[] = "a"; id[0] <= 'd'; id[0]++) {
        struct record r = store_place_record("t", "d", id);

        r.key.id[5] = (uint8_t)id[0];
        assert_ok(store_place_swap(place->store, &r, true, &err));
        if (id[0] % 2 == 0)
            erase(place->store, &r);
    }
    assert_ok(place->store->ops->list(place->store, &filter, add, there, &err));
    filter.is_gone = true;
    assert_ok(place->store->ops->list(place->store, &filter, add, gone, &err));
    assert_string_equal(there, "a c ");
    assert_string_equal(gone, "b d ");
}

#define CASES(store, open, close)                                                           \
    { store ": kept keys", a_store_lists_those_whose_keys_are_kept, open, close, NULL },    \
        { store ": users", a_store_knows_how_many_records_have_a_key, open, close, NULL },  \
    {                                                                                       \
        store ": lists", lists_have_either_the_erased_ones_or_the_others, open, close, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASES("memory", store_place_memory, store_place_remove),
        CASES("sqlite", store_place_sqlite, store_place_remove),
#define ETCD_CASES 3 /* the last ones, which need a server */
        CASES("etcd", etcd_place_open, etcd_place_close),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ETCD_CASES);
}
