/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_place.h"
#include "tests/unit/store/etcd_place.h"

#include <dirent.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* The ring, the walk and wrapping anew, in each kind of store: store_sqlite_ring.c, store_etcd_ring.c. */

static struct error err;

static struct store_ring ring_of(uint64_t version, const char *text)
{
    struct store_ring ring = { .version = version, .len = strlen(text) };

    memcpy(ring.bytes, text, ring.len);
    return ring;
}

static void put(struct store *store, uint64_t version, const char *text)
{
    const struct store_ring ring = ring_of(version, text);

    assert_ok(store->ops->put_ring(store, &ring, version - 1, &err));
}

static void assert_ring(struct store *store, uint64_t version, const char *text)
{
    struct store_ring ring;

    assert_ok(store->ops->get_ring(store, &ring, &err));
    assert_int_equal(ring.version, version);
    assert_int_equal(ring.len, strlen(text));
    assert_memory_equal(ring.bytes, text, ring.len);
}

static void rings_follow_each_other(void **state)
{
    const struct store_place *place = *state;
    struct store_ring late = ring_of(2, "late");

    assert_ring(place->store, 0, "");
    put(place->store, 1, "first");
    assert_ring(place->store, 1, "first");
    assert_refused(ERROR_ABORTED, place->store->ops->put_ring(place->store, &late, 0, &err));
    assert_refused(ERROR_ABORTED, place->store->ops->put_ring(place->store, &late, 2, &err));
    assert_ring(place->store, 1, "first");
    put(place->store, 2, "second one");
    assert_ring(place->store, 2, "second one");
}

static void a_ring_is_there_after_a_restart(void **state)
{
    struct store_place *place = *state;

    put(place->store, 1, "first");
    (void)store_place_reopen(place);
    assert_ring(place->store, 1, "first");
    put(place->store, 2, "second");
}

static bool swap_with_ring(struct store *store, struct record *r, uint64_t ring)
{
    struct record next = *r;
    struct store_key key = { .key = r->key };
    const struct store_change change = { .next = &next,
                                         .expected_version = r->version,
                                         .new_key = r->version == 0 ? &key : NULL,
                                         .ring = &ring };

    next.version++;
    if (!store->ops->swap(store, &change, &err))
        return false;
    *r = next;
    return true;
}

static void a_change_that_relies_on_another_ring_is_aborted(void **state)
{
    const struct store_place *place = *state;
    struct record r = store_place_record("t", "d", "v");

    assert_refused(ERROR_ABORTED, swap_with_ring(place->store, &r, 1));
    assert_ok(swap_with_ring(place->store, &r, 0));
    put(place->store, 1, "first");
    assert_refused(ERROR_ABORTED, swap_with_ring(place->store, &r, 0));
    assert_ok(swap_with_ring(place->store, &r, 1));
    assert_ok(store_place_swap(place->store, &r, false, &err)); /* it relies on none */
}

static void a_walk_sees_all_records_of_all_tenants(void **state)
{
    static const char *const names[][3] = {
        { "t", "a", "z" },  { "t", "d", "v" }, { "t", "d", "v2" },
        { "tt", "a", "a" }, { "u", "d", "v" },
    };
    const struct store_place *place = *state;
    struct record r, found = { .version = 0 };
    bool has_one = true;

    for (size_t i = ARRAY_LEN(names); i-- > 0;) {
        r = store_place_record(names[i][0], names[i][1], names[i][2]);
        r.id[RECORD_ID_LEN - 1] = r.key.id[1] = (uint8_t)i;
        assert_ok(store_place_swap(place->store, &r, true, &err));
    }
    r.phase = RECORD_ERASED;
    r.key.generation = 0;
    assert_ok(store_place_swap(place->store, &r, false, &err));
    for (size_t i = 0; i <= ARRAY_LEN(names); i++) {
        const struct store_name after = { found.tenant, found.driver, found.volume_id };

        assert_ok(place->store->ops->walk(place->store, &after, &r, &has_one, &err));
        assert_int_equal(has_one, i < ARRAY_LEN(names));
        if (!has_one)
            break;
        found = r;
        assert_string_equal(found.tenant, names[i][0]);
        assert_string_equal(found.volume_id, names[i][2]);
    }
}

static void a_key_is_replaced_once(void **state)
{
    const struct store_place *place = *state;
    struct store *store = place->store;
    const uint8_t wrapped[STORE_WRAPPED_LEN] = "anew";
    struct record r = store_place_record("t", "d", "v");
    struct store_key before, after;

    assert_ok(store_place_swap(store, &r, true, &err));
    assert_ok(store->ops->get_key(store, &r.key, &before, &err));
    assert_ok(store->ops->rekey(store, &before, wrapped, &err));
    assert_ok(store->ops->get_key(store, &r.key, &after, &err));
    assert_memory_equal(after.wrapped, wrapped, STORE_WRAPPED_LEN);
    assert_refused(ERROR_ABORTED, store->ops->rekey(store, &before, wrapped, &err));
    r.phase = RECORD_ERASED;
    r.key.generation = 0;
    assert_ok(store_place_swap(store, &r, false, &err));
    assert_refused(ERROR_ABORTED, store->ops->rekey(store, &after, wrapped, &err));
    assert_refused(ERROR_NOT_FOUND, store->ops->get_key(store, &before.key, &after, &err));
}

/* --- SQLite --- */

static bool is_in_file(const char *path, const char *text)
{
    static char bytes[65536];
    FILE *file = fopen(path, "rbe");
    bool found = false;

    if (!file)
        return false;
    for (size_t n = 0; !found && (n = fread(bytes, 1, sizeof(bytes), file)) > 0;)
        found = memmem(bytes, n, text, strlen(text)) != NULL;
    (void)fclose(file);
    return found;
}

static bool is_in_files(const struct store_place *place, const char *text)
{
    char path[2][96];

    (void)snprintf(path[0], sizeof(path[0]), "%s/broker.db", place->dir);
    (void)snprintf(path[1], sizeof(path[1]), "%s/broker.db-wal", place->dir);
    return is_in_file(path[0], text) || is_in_file(path[1], text);
}

static void of_former_rings_and_keys_nothing_is_left_in_any_file(void **state)
{
    const struct store_place *place = *state;
    struct store *store = place->store;
    const uint8_t anew[STORE_WRAPPED_LEN] = "wrapped anew";
    struct store_key key;
    struct record r = store_place_record("t", "d", "v");
    char before[9] = "";

    assert_ok(store_place_swap(store, &r, true, &err));
    assert_ok(store->ops->get_key(store, &r.key, &key, &err));
    memcpy(before, key.wrapped, 8);
    put(store, 1, "the former ring");
    assert_true(is_in_files(place, "the former ring"));
    assert_true(is_in_files(place, before));
    assert_ok(store->ops->rekey(store, &key, anew, &err));
    put(store, 2, "the new ring");
    assert_true(is_in_files(place, "the new ring"));
    assert_true(is_in_files(place, "wrapped anew"));
    assert_false(is_in_files(place, "the former ring"));
    assert_false(is_in_files(place, before));
}

static void run_sql(const struct store_place *place, const char *sql)
{
    sqlite3 *db = NULL;
    char path[96];

    (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

/* Brokers that know no rings refuse version 3. */
static void the_first_ring_changes_the_schema_version(void **state)
{
    struct store_place *place = *state;
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    char path[96];

    for (int version = 2; version <= 3; version++) {
        store_close(&place->store);
        (void)snprintf(path, sizeof(path), "%s/broker.db", place->dir);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(st), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(st, 0), version);
        sqlite3_finalize(st);
        sqlite3_close(db);
        assert_ok(store_sqlite_open(place->dir, &place->store, &err));
        (void)store_place_unlock(place->store, 1);
        if (version == 2)
            put(place->store, 1, "first");
    }
}

static void a_ring_that_was_taken_away_is_noticed(void **state)
{
    struct store_place *place = *state;

    put(place->store, 1, "first");
    store_close(&place->store);
    run_sql(place, "DELETE FROM ring");
    assert_refused(ERROR_DATA_LOSS, store_sqlite_open(place->dir, &place->store, &err));
    assert_contains(err.text, "restore the store");
}

/* --- who takes a ring --- */

static atomic_bool is_inside;

static bool take_slowly(void *cookie UNUSED, const struct store_ring *ring UNUSED,
                        struct error *e UNUSED)
{
    atomic_store(&is_inside, true);
    (void)usleep(50000);
    atomic_store(&is_inside, false);
    return true;
}

static void *meet(void *store)
{
    const struct store_ring ring = ring_of(1, "first");
    struct error e = ERROR_INIT;

    return store_meet_ring(store, &ring, &e) ? store : NULL;
}

/* The broker frees the keyring that takes rings. */
static void nobody_takes_a_ring_after_he_was_dismissed(void **state UNUSED)
{
    struct store store = { .ops = NULL };
    pthread_t thread;
    void *met = NULL;

    store_set_taker(&store, take_slowly, NULL);
    assert_int_equal(pthread_create(&thread, NULL, meet, &store), 0);
    while (!atomic_load(&is_inside))
        (void)usleep(100);
    store_set_taker(&store, NULL, NULL);
    assert_false(atomic_load(&is_inside));
    assert_int_equal(pthread_join(thread, &met), 0);
    assert_non_null(met);
    assert_non_null(meet(&store));
}

/* --- etcd --- */

static unsigned taken;
static bool takes;

static bool take(void *cookie, const struct store_ring *ring, struct error *e)
{
    assert_ptr_equal(cookie, &taken);
    assert_true(ring->version > 0);
    taken++;
    return takes || error_set(e, ERROR_UNAVAILABLE, "no such master key");
}

static struct store *other(void)
{
    struct store *store = etcd_place_other("b", false);

    taken = 0;
    takes = true;
    store_set_taker(store, take, &taken);
    (void)store_place_unlock(store, 1);
    return store;
}

/* A secret that the other broker has wrapped by the former ring must not get into the store. */
static void another_broker_takes_a_new_ring_before_it_changes_anything(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = other();
    struct record r = store_place_record("t", "d", "v"), s = store_place_record("t", "d", "w");
    uint64_t highest = 0;

    assert_ok(swap_with_ring(b, &r, 0));
    put(place->store, 1, "first");
    assert_refused(ERROR_ABORTED, swap_with_ring(b, &r, 0));
    assert_int_equal(taken, 1);
    assert_ok(swap_with_ring(b, &r, 1));
    put(place->store, 2, "second");
    s.key.id[0] ^= 1;
    assert_ok(store_place_swap(b, &s, true, &err)); /* relies on no ring: made at once */
    assert_int_equal(taken, 2);
    put(place->store, 3, "third");
    assert_ok(b->ops->raise(b, "clock", 5, &highest, &err)); /* marks, too */
    assert_int_equal(taken, 3);
    assert_ring(b, 3, "third");
    assert_int_equal(taken, 3);
}

static void a_broker_that_cannot_take_the_ring_changes_nothing(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = other();
    struct record r = store_place_record("t", "d", "v");

    put(place->store, 1, "first");
    takes = false;
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(b, &r, true, &err));
    assert_contains(err.text, "no such master key");
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(b, &r, true, &err));
    assert_refused(ERROR_NOT_FOUND, store_place_get(place->store, "v", &r, &err));
    takes = true;
    r = store_place_record("t", "d", "v");
    assert_ok(store_place_swap(b, &r, true, &err));
}

static void of_two_brokers_who_put_a_ring_one_does(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = other();
    const struct store_ring late = ring_of(1, "late");

    put(place->store, 1, "first");
    assert_refused(ERROR_ABORTED, b->ops->put_ring(b, &late, 0, &err));
    assert_ring(b, 1, "first");
}

/* Whoever writes to etcd puts it back, or takes it away. */
static void an_older_ring_is_no_new_one(void **state)
{
    const struct store_place *place = *state;
    auto_store struct store *b = other();
    struct etcd_key ring, format;
    struct etcd_kept kept[2];
    struct record r = store_place_record("t", "d", "v");

    etcd_key_ring(&ring);
    etcd_key_format(&format);
    put(place->store, 1, "first");
    etcd_place_keep(&ring, &kept[0]);
    etcd_place_keep(&format, &kept[1]);
    put(place->store, 2, "second");
    assert_ring(b, 2, "second");
    etcd_place_put_back(&kept[0]);
    etcd_place_put_back(&kept[1]);
    assert_refused(ERROR_UNAVAILABLE, store_place_swap(b, &r, true, &err));
    assert_contains(err.text, "was replaced");
    etcd_place_delete(&ring);
    assert_refused(ERROR_DATA_LOSS, store_place_swap(b, &r, true, &err));
    assert_contains(err.text, "tdvol/ring in etcd is missing");
    etcd_place_put(&ring, "short", 5);
    assert_refused(ERROR_DATA_LOSS, store_place_swap(b, &r, true, &err));
}

static void brokers_without_rings_refuse_the_format(void **state)
{
    const struct store_place *place = *state;
    const uint8_t *value = NULL;
    struct etcd_key format;

    etcd_key_format(&format);
    assert_int_equal(etcd_place_get(&format, &value), 7);
    assert_memory_equal(value, "1 ready", 7);
    put(place->store, 1, "first");
    assert_int_equal(etcd_place_get(&format, &value), 7);
    assert_memory_equal(value, "2 ready", 7);
}

#define BOTH(name)                                                            \
    { "memory: " #name, name, store_place_memory, store_place_remove, NULL }, \
    {                                                                         \
        "sqlite: " #name, name, store_place_sqlite, store_place_remove, NULL  \
    }
#define ETCD(name)                                                    \
    {                                                                 \
        "etcd: " #name, name, etcd_place_open, etcd_place_close, NULL \
    }
#define SQLITE(name) cmocka_unit_test_setup_teardown(name, store_place_sqlite, store_place_remove)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        BOTH(rings_follow_each_other),
        SQLITE(a_ring_is_there_after_a_restart),
        BOTH(a_change_that_relies_on_another_ring_is_aborted),
        BOTH(a_walk_sees_all_records_of_all_tenants),
        BOTH(a_key_is_replaced_once),
        SQLITE(of_former_rings_and_keys_nothing_is_left_in_any_file),
        SQLITE(the_first_ring_changes_the_schema_version),
        SQLITE(a_ring_that_was_taken_away_is_noticed),
        cmocka_unit_test(nobody_takes_a_ring_after_he_was_dismissed),
#define ETCD_CASES 10 /* the last ones, which need a server */
        ETCD(rings_follow_each_other),
        ETCD(a_ring_is_there_after_a_restart),
        ETCD(a_change_that_relies_on_another_ring_is_aborted),
        ETCD(a_walk_sees_all_records_of_all_tenants),
        ETCD(a_key_is_replaced_once),
        ETCD(another_broker_takes_a_new_ring_before_it_changes_anything),
        ETCD(a_broker_that_cannot_take_the_ring_changes_nothing),
        ETCD(of_two_brokers_who_put_a_ring_one_does),
        ETCD(an_older_ring_is_no_new_one),
        ETCD(brokers_without_rings_refuse_the_format),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ETCD_CASES);
}
