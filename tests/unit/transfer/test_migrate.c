/* SPDX-License-Identifier: Apache-2.0 */
#include "master/key.h"
#include "store/keyring.h"
#include "tests/unit/store/etcd_place.h"
#include "transfer/migrate.h"

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

/* From a SQLite store into etcd. */

struct scene {
    struct store_place *place; /* the source; closed */
    struct secret master;
    struct store_migration migration;
    char from[96], to[256];
};

static struct scene scene;

/* A store that is used without its ring. */
static void unlock(struct store *store)
{
    struct keyring *keyring = NULL;
    struct store_check check;
    struct error err = ERROR_INIT;

    assert_ok(keyring_unlock_store(store, &scene.master, NULL, &keyring, &check, &err));
    store_set_taker(store, NULL, NULL);
    keyring_free(&keyring);
}

static struct store *open_source(void)
{
    struct store *store = NULL;
    struct error err = ERROR_INIT;

    assert_ok(store_sqlite_open(scene.place->dir, &store, &err));
    unlock(store);
    return store;
}

/* Records of two tenants; a copy with its source's key, and an erased one; marks; an audit head. */
static void fill(struct store *store)
{
    const struct store_head head = { .seq = 77, .len = 3, .bytes = { 1, 2, 3 } };
    const uint8_t mark[STORE_MARK_LEN] = { 5 };
    uint8_t out[STORE_MARK_LEN];
    uint64_t highest = 0;
    struct record r = store_place_record("t", "d", "v"),
                  copy = store_place_record("t", "d", "copy"),
                  gone = store_place_record("u", "d", "gone");
    struct error err = ERROR_INIT;

    assert_ok(store_place_swap(store, &r, true, &err));
    assert_ok(store_place_swap(store, &copy, false, &err));
    assert_ok(store_place_swap(store, &copy, false, &err));
    gone.key.id[0] ^= 1;
    assert_ok(store_place_swap(store, &gone, true, &err));
    gone.phase = RECORD_ERASED;
    gone.key = (struct record_key){ .generation = 0 };
    assert_ok(store_place_swap(store, &gone, false, &err));
    assert_ok(store->ops->remember(store, "copy:1:2", mark, out, &err));
    assert_ok(store->ops->raise(store, "clock", 1234, &highest, &err));
    assert_ok(store->ops->put_head(store, &head, &err));
}

static int set_up(void **state)
{
    struct store *store = NULL;
    void *target = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    scene = (struct scene){ .place = NULL };
    (void)store_place_sqlite((void **)&scene.place);
    store_close(&scene.place->store);
    assert_ok(secret_alloc(&scene.master, MASTER_KEY_LEN, &err));
    /* The place has unlocked it with another key, but stored nothing. */
    store = open_source();
    fill(store);
    store_close(&store);
    (void)etcd_place_empty(&target);
    (void)snprintf(scene.from, sizeof(scene.from), "sqlite:%s", scene.place->dir);
    scene.migration = (struct store_migration){ .from = { .spec = scene.from },
                                                .to = etcd_place_options("a", NULL, scene.to),
                                                .master = &scene.master };
    return 0;
}

static int tear_down(void **state)
{
    void *place = scene.place;

    (void)state;
    secret_wipe(&scene.master);
    return store_place_remove(&place);
}

static struct store *open_target(void)
{
    struct store *store = etcd_place_other("a", false);
    struct broker broker = { .store = store };
    struct error err = ERROR_INIT;

    assert_ok(broker_unlock(&broker, &scene.master, NULL, &err));
    assert_false(broker.check.is_changed);
    assert_int_equal(broker.check.damaged, 0);
    store_set_taker(store, NULL, NULL);
    keyring_free(&broker.keyring);
    return store;
}

static void all_is_there_afterwards(void **state)
{
    struct migration_report report;
    struct store_head head;
    struct store_key key;
    struct record r;
    uint64_t n = 0;
    uint8_t out[STORE_MARK_LEN];
    const uint8_t other[STORE_MARK_LEN] = { 6 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(migrate(&scene.migration, &report, &err));
    assert_int_equal(report.records, 3);
    assert_int_equal(report.copied, 3);
    auto_store struct store *target = open_target();

    assert_ok(store_place_get(target, "copy", &r, &err));
    assert_int_equal(r.version, 2);
    assert_ok(target->ops->get_key(target, &r.key, &key, &err));
    assert_int_equal(key.wrapped[0], 0xa0);
    assert_ok(target->ops->count(target, "t", &n, &err));
    assert_int_equal(n, 2);
    assert_ok(target->ops->count(target, "u", &n, &err));
    assert_int_equal(n, 0);
    assert_ok(target->ops->remember(target, "copy:1:2", other, out, &err));
    assert_int_equal(out[0], 5);
    assert_ok(target->ops->raise(target, "clock", 0, &n, &err));
    assert_int_equal(n, 1234);
    assert_ok(target->ops->get_head(target, &head, &err));
    assert_int_equal(head.seq, 77);
    /* The key has two users: it lives until the second one is erased. */
    const struct record_key shared = r.key;

    r.phase = RECORD_ERASED;
    r.key.generation = 0;
    assert_ok(store_place_swap(target, &r, false, &err));
    assert_ok(target->ops->get_key(target, &shared, &key, &err));
    assert_ok(store_place_get(target, "v", &r, &err));
    r.phase = RECORD_ERASED;
    r.key.generation = 0;
    assert_ok(store_place_swap(target, &r, false, &err));
    assert_refused(ERROR_NOT_FOUND, target->ops->get_key(target, &shared, &key, &err));
}

static void the_source_is_closed_to_brokers_afterwards(void **state)
{
    struct migration_report report;
    struct store *source = NULL;
    struct broker broker = { .store = NULL };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(migrate(&scene.migration, &report, &err));
    assert_ok(store_sqlite_open(scene.place->dir, &source, &err));
    broker.store = source;
    assert_refused(ERROR_FAILED_PRECONDITION, broker_unlock(&broker, &scene.master, NULL, &err));
    assert_contains(err.text, "was migrated");
    store_close(&source);
    assert_refused(ERROR_FAILED_PRECONDITION, migrate(&scene.migration, &report, &err));
    assert_contains(err.text, "already holds a broker's store");
}

/* The target has a part, and the source went on meanwhile: its broker was started once more. */
static void a_migration_that_was_interrupted_goes_on(void **state)
{
    struct migration_report report;
    struct store *store = NULL, *target = etcd_place_other("a", true);
    struct record r, back;
    struct store_key key;
    uint8_t out[STORE_MARK_LEN];
    const uint8_t old[STORE_MARK_LEN] = { 1 };
    struct error err = ERROR_INIT;

    (void)state;
    unlock(target);
    r = store_place_record("t", "d", "v");
    assert_ok(store_place_swap(target, &r, true, &err)); /* as it is in the source */
    assert_ok(target->ops->remember(target, "copy:1:2", old, out, &err));
    store_close(&target);
    store = open_source();
    assert_ok(store_place_swap(store, &r, false, &err));
    store_close(&store);
    assert_ok(migrate(&scene.migration, &report, &err));
    assert_int_equal(report.copied, 3);
    target = open_target();
    assert_ok(store_place_get(target, "v", &back, &err));
    assert_int_equal(back.version, 2);
    assert_ok(target->ops->get_key(target, &back.key, &key, &err));
    assert_ok(target->ops->remember(target, "copy:1:2", old, out, &err));
    assert_int_equal(out[0], 5);
    store_close(&target);
}

/* Killed between the two halves of the hand-over: neither store can be used, and a repetition ends it. */
static void between_both_stores_neither_is_in_use(void **state)
{
    static struct etcd_kept format;
    struct migration_report report;
    struct store *source = NULL, *target = etcd_place_other("a", true);
    struct broker broker = { .store = NULL };
    struct etcd_key key;
    struct error err = ERROR_INIT;

    (void)state;
    unlock(target);
    store_close(&target);
    etcd_key_format(&key);
    etcd_place_keep(&key, &format);
    assert_ok(migrate(&scene.migration, &report, &err));
    etcd_place_put_back(&format); /* as if the last Txn had not come */
    assert_ok(store_sqlite_open(scene.place->dir, &source, &err));
    broker.store = source;
    assert_refused(ERROR_FAILED_PRECONDITION, broker_unlock(&broker, &scene.master, NULL, &err));
    store_close(&source);
    assert_ok(migrate(&scene.migration, &report, &err));
    target = open_target(); /* it has not taken over the mark */
    store_close(&target);
}

/* Weeks later, by mistake: the target is empty, and would be a second store in use, of old records. */
static void a_store_that_was_moved_is_not_moved_to_another_place(void **state)
{
    struct migration_report report;
    void *other = NULL;
    struct error err = ERROR_INIT;

    assert_ok(migrate(&scene.migration, &report, &err));
    (void)etcd_place_empty(&other);
    for (int i = 0; i < 2; i++) { /* the second time the target is an unfinished migration */
        assert_refused(ERROR_FAILED_PRECONDITION, migrate(&scene.migration, &report, &err));
        assert_contains(err.text, "source: it was migrated to another store, which is in use");
    }
    struct store *target = etcd_place_other("b", false);
    struct broker broker = { .store = target };

    assert_refused(ERROR_FAILED_PRECONDITION, broker_unlock(&broker, &scene.master, NULL, &err));
    store_close(&target);
    (void)state;
}

/* Whoever has the target's master key has all of its keys; and the source's may have been changed since. */
static void the_ring_of_keys_goes_along(void **state)
{
    struct migration_report report;
    struct store *store = open_source();
    struct store_ring source, target;
    struct keyring *keyring = NULL;
    struct keyring_state ring;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(keyring_open(store, &scene.master, NULL, &keyring, &err));
    assert_ok(keyring_rotate(keyring, false, &err));
    assert_ok(store->ops->get_ring(store, &source, &err));
    store_close(&store);
    keyring_free(&keyring);
    assert_ok(migrate(&scene.migration, &report, &err));
    store = open_target();
    assert_ok(store->ops->get_ring(store, &target, &err));
    assert_int_equal(target.version, 1);
    assert_int_equal(target.len, source.len);
    assert_memory_equal(target.bytes, source.bytes, source.len);
    assert_ok(keyring_open(store, &scene.master, NULL, &keyring, &err));
    keyring_state(keyring, &ring);
    assert_true(ring.has_former);
    assert_int_equal(ring.generation, 2);
    store_close(&store);
    keyring_free(&keyring);
}

static void edit_source(const char *sql)
{
    sqlite3 *db = NULL;
    char path[96];

    (void)snprintf(path, sizeof(path), "%s/broker.db", scene.place->dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void assert_refused_migration(enum error_code code, const char *wanted)
{
    struct migration_report report;
    struct error err = ERROR_INIT;

    assert_refused(code, migrate(&scene.migration, &report, &err));
    assert_contains(err.text, wanted);
}

static void sources_that_are_not_good_are_refused(void **state)
{
    struct store *source = open_source();
    const char *from = scene.migration.from.spec;
    auto_secret struct secret other = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "another broker already uses the store");
    store_close(&source);
    assert_ok(secret_random(&other, MASTER_KEY_LEN, &err));
    scene.migration.master = &other;
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "another master key");
    scene.migration.master = &scene.master;
    scene.migration.from = scene.migration.to;
    assert_refused_migration(ERROR_UNIMPLEMENTED, "kind etcd is not migrated");
    scene.migration.from = (struct store_options){ .spec = from };
    edit_source("UPDATE record SET proof = zeroblob(32) WHERE volume_id = 'v'");
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "record of volume v is damaged");
    edit_source("DELETE FROM record WHERE volume_id = 'v'");
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "changed by something else");
}

static void targets_with_other_content_are_refused(void **state)
{
    struct store *target = etcd_place_other("a", true);
    struct record other = store_place_record("t", "d", "stranger");
    struct etcd_key key;
    const struct store_name name = { "t", "d", "stranger" };
    struct error err = ERROR_INIT;

    (void)state;
    unlock(target);
    assert_ok(store_place_swap(target, &other, true, &err)); /* the source has no such record */
    store_close(&target);
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "the target has 4 records, the source 3");
    assert_true(etcd_key_record(&name, &key));
    etcd_place_put(&key, "x", 1);
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "something else than the migration wrote");
    scene.migration.to = (struct store_options){ .spec = scene.migration.from.spec };
    assert_refused_migration(ERROR_FAILED_PRECONDITION, "another broker already uses the store");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(all_is_there_afterwards),
        CASE(the_source_is_closed_to_brokers_afterwards),
        CASE(the_ring_of_keys_goes_along),
        CASE(a_migration_that_was_interrupted_goes_on),
        CASE(a_store_that_was_moved_is_not_moved_to_another_place),
        CASE(between_both_stores_neither_is_in_use),
        CASE(sources_that_are_not_good_are_refused),
        CASE(targets_with_other_content_are_refused),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), ARRAY_LEN(tests));
}
