/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"
#include "master/key.h"
#include "store/backup_file.h"
#include "store/keyring.h"
#include "tests/unit/broker/store_place.h"
#include "transfer/marks.h"
#include "transfer/restore.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* A SQLite store out of a backup. For etcd, and for a kill at each point: tests/integration/native. */

#define EPOCH 1800000000000ull /* ms */

static struct secret master, next_master;
static char dir[64], target[96], spec[112], file[96], other[96];
static struct restoration restoration;
static struct error err;

static struct record record_of(const char *volume_id)
{
    struct record r = store_place_record("t", "d", volume_id);

    r.version = 3;
    r.lease.holder = fixture_holder("n1", "b1");
    return r;
}

/* The ring of the backup, and the secrets that were wrapped with it: of "new" and of "old" with the former
 * wrapping. version 0: the store has none. */
static struct ring ring;
static struct store_ring stored_ring;
static struct secret new_secret, old_secret;

static void write_wrapped(const struct store_visitor *v, const struct secret *wrapping,
                          const char *volume_id, struct secret *secret)
{
    struct record r = record_of(volume_id);
    struct store_key key;

    (void)snprintf((char *)r.key.id, sizeof(r.key.id), "%s", volume_id);
    assert_ok(seal_make(wrapping, r.tenant, &r.key, &key, &err));
    secret_wipe(secret);
    assert_ok(seal_unwrap(wrapping, r.tenant, &key, secret, &err));
    assert_ok(v->record(v->cookie, &r, &key, &err));
}

/* Two records with one key, an erased one, and marks. */
static void write_backup(const char *path, uint64_t created_ms)
{
    auto_backup_writer struct backup_writer *w = NULL;
    struct backup_head head = { .created_ms = created_ms,
                                .store = "sqlite",
                                .audit_seq = 77,
                                .audit_len = 3,
                                .audit_head = { 1, 2, 3 } };
    const uint8_t mark[STORE_MARK_LEN] = { 5 };
    struct record one = record_of("v"), copy = record_of("copy"), gone = record_of("gone");
    const struct store_key key = { .key = one.key, .wrapped = { 0xa0 } };
    struct backup_counts counts;
    uint8_t mac[BACKUP_MAC_LEN];

    gone.phase = RECORD_ERASED;
    gone.key = (struct record_key){ .generation = 0 };
    assert_ok(backup_writer_new(dir, &master, &w, &err));
    const struct store_visitor v = backup_visitor(w);

    backup_set_ring(&head, &stored_ring);
    assert_ok(backup_begin(w, &head, &err));
    if (ring.n_wrappings > 0)
        write_wrapped(&v, &ring.wrappings[0].key, "new", &new_secret);
    if (ring.n_wrappings > 1)
        write_wrapped(&v, &ring.wrappings[1].key, "old", &old_secret);
    assert_ok(v.record(v.cookie, &one, &key, &err));
    assert_ok(v.record(v.cookie, &copy, &key, &err));
    assert_ok(v.record(v.cookie, &gone, NULL, &err));
    assert_ok(v.mark(v.cookie, "copy:1:2", mark, &err));
    assert_ok(v.mark(v.cookie, "other", mark, &err));
    assert_ok(v.highest(v.cookie, "clock", 1234, &err));
    assert_ok(v.highest(v.cookie, MIGRATED_MARK, 1, &err));
    assert_ok(v.highest(v.cookie, RESTORED_MARK, 99, &err));
    assert_ok(backup_end(w, &counts, mac, &err));
    assert_ok(backup_name(w, path, &err));
}

static int set_up(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    memcpy(dir, "/tmp/tdvol-restore-XXXXXX", sizeof("/tmp/tdvol-restore-XXXXXX"));
    assert_non_null(mkdtemp(dir));
    (void)snprintf(target, sizeof(target), "%s/store", dir);
    (void)snprintf(spec, sizeof(spec), "sqlite:%s", target);
    (void)snprintf(file, sizeof(file), "%s/one", dir);
    (void)snprintf(other, sizeof(other), "%s/other", dir);
    assert_ok(secret_alloc(&master, MASTER_KEY_LEN, &err));
    assert_ok(secret_alloc(&next_master, MASTER_KEY_LEN, &err));
    next_master.bytes[0] = 1;
    stored_ring.version = 0;
    write_backup(file, 1000);
    restoration = (struct restoration){
        .path = file, .to = { .spec = spec }, .master = &master, .now_ms = EPOCH
    };
    return 0;
}

static int tear_down(void **state UNUSED)
{
    static const char *const names[] = { "broker.db", "broker.db-wal", "broker.db-shm", "lock" };
    char path[160];

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", target, names[i]);
        unlink(path);
    }
    rmdir(target);
    unlink(file);
    unlink(other);
    secret_wipe(&master);
    secret_wipe(&next_master);
    secret_wipe(&new_secret);
    secret_wipe(&old_secret);
    ring_wipe(&ring);
    return rmdir(dir);
}

static struct store *open_store(void)
{
    struct store *store = NULL;

    assert_ok(store_sqlite_open(target, &store, &err));
    return store;
}

/* As a broker with this key and this former key does. */
static bool unlock_with(struct store *store, const struct secret *key, const struct secret *old,
                        struct keyring **out, uint64_t *restored_ms)
{
    struct store_check check;

    return keyring_unlock_store(store, key, old, out, &check, &err) && !check.is_changed &&
           check.damaged == 0 && marks_read_restored(store, restored_ms, &err);
}

static void forget_keys(struct store *store, struct keyring **keyring)
{
    store_set_taker(store, NULL, NULL);
    keyring_free(keyring);
}

static bool unlock(struct store *store, uint64_t *restored_ms)
{
    struct keyring *keyring = NULL;
    bool ok = unlock_with(store, &master, NULL, &keyring, restored_ms);

    forget_keys(store, &keyring);
    return ok;
}

static struct record get(struct store *store, const char *volume_id)
{
    struct record r;

    assert_ok(store_place_get(store, volume_id, &r, &err));
    return r;
}

static void all_is_there_and_waits(void **state UNUSED)
{
    struct restoration_report report;
    struct store_head head;
    struct store_key key;
    struct record r;
    const uint8_t mark[STORE_MARK_LEN] = { 6 };
    uint8_t stored[STORE_MARK_LEN];
    uint64_t value = 0, restored_ms = 0;

    assert_ok(restore(&restoration, &report, &err));
    assert_int_equal(report.records, 3);
    assert_int_equal(report.written, 3);
    auto_store struct store *store = open_store();

    assert_ok(unlock(store, &restored_ms));
    assert_true(restored_ms == EPOCH);
    r = get(store, "copy");
    assert_refused(ERROR_FAILED_PRECONDITION, record_check_adopted(&r, &err));
    assert_string_equal(r.lease.holder.node, "");
    assert_ok(store->ops->get_key(store, &r.key, &key, &err));
    assert_int_equal(key.wrapped[0], 0xa0);
    r = get(store, "gone");
    assert_int_equal(r.phase, RECORD_ERASED);
    assert_ok(store->ops->get_head(store, &head, &err));
    assert_int_equal(head.seq, 77);
    assert_ok(store->ops->raise(store, "clock", 0, &value, &err));
    assert_int_equal(value, 1234);
    assert_ok(store->ops->raise(store, BACKUP_MARK, 0, &value, &err));
    assert_int_equal(value, 1000);
    assert_ok(store->ops->remember(store, "other", mark, stored, &err));
    assert_int_equal(stored[0], 5);
    assert_ok(store->ops->remember(store, "copy:1:2", mark, stored, &err));
    assert_int_equal(stored[0], 6); /* a copy that was under way is begun again */
}

static void a_store_that_is_not_empty_is_refused(void **state UNUSED)
{
    struct restoration_report report;
    struct store *store = open_store();
    struct record r = store_place_record("t", "d", "mine");
    uint64_t ignored = 0, restored_ms = 0;

    assert_ok(unlock(store, &restored_ms));
    assert_ok(store->ops->raise(store, "clock", 1, &ignored, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "another broker already uses the store");
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "not empty");
    store = open_store();
    assert_ok(unlock(store, &restored_ms));
    assert_ok(store_place_swap(store, &r, true, &err));
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "not empty");
    store = open_store();
    assert_ok(unlock(store, &restored_ms));
    r = get(store, "mine");
    assert_int_equal(restored_ms, 0);
    store_close(&store);
}

static void a_second_restore_changes_nothing(void **state UNUSED)
{
    struct restoration_report report;

    assert_ok(restore(&restoration, &report, &err));
    restoration.now_ms++;
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "restored into the store already");
}

static void a_clock_before_the_backup_is_refused_before_anything_is_written(void **state UNUSED)
{
    struct restoration_report report;

    restoration.now_ms = 1000;
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "clock");
    restoration.now_ms = EPOCH;
    assert_ok(restore(&restoration, &report, &err));
}

/* Killed in the middle: some of it is there, and the store belongs to this backup. */
static void one_that_was_interrupted_goes_on_with_its_own_epoch(void **state UNUSED)
{
    auto_backup_reader struct backup_reader *reader = NULL;
    struct restoration_report report;
    struct store *store = open_store();
    struct record r = record_of("v");
    struct store_key key = { .key = r.key, .wrapped = { 0xa0 } };
    uint8_t stored[STORE_MARK_LEN];
    uint64_t ignored = 0, restored_ms = 0;

    assert_ok(backup_reader_new(file, &master, &reader, &err));
    assert_ok(unlock(store, &restored_ms));
    assert_ok(store->ops->remember(store, "restore-source", backup_mac(reader), stored, &err));
    assert_ok(store->ops->raise(store, RESTORING_MARK, EPOCH - 5, &ignored, &err));
    assert_ok(record_restore(&r, EPOCH - 5, &err));
    const struct store_change change = { .next = &r, .new_key = &key };

    assert_ok(store->ops->swap(store, &change, &err));
    store_close(&store);
    store = open_store();
    assert_refused(ERROR_FAILED_PRECONDITION, unlock(store, &restored_ms));
    assert_contains(err.text, "not all of it is there");
    store_close(&store);
    write_backup(other, 1001);
    restoration.path = other;
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "another backup");
    restoration.path = file;
    assert_ok(restore(&restoration, &report, &err));
    assert_int_equal(report.written, 2);
    store = open_store();
    assert_ok(unlock(store, &restored_ms));
    assert_true(restored_ms == EPOCH - 5);
    store_close(&store);
}

/* What lies in the store under the name of a record is not what this restore writes. */
static void a_record_of_somebody_else_is_not_written_over(void **state UNUSED)
{
    auto_backup_reader struct backup_reader *reader = NULL;
    struct restoration_report report;
    struct store *store = open_store();
    struct record r = store_place_record("t", "d", "v");
    uint8_t stored[STORE_MARK_LEN];
    uint64_t ignored = 0, restored_ms = 0;

    assert_ok(backup_reader_new(file, &master, &reader, &err));
    assert_ok(unlock(store, &restored_ms));
    assert_ok(store->ops->remember(store, "restore-source", backup_mac(reader), stored, &err));
    assert_ok(store->ops->raise(store, RESTORING_MARK, EPOCH, &ignored, &err));
    assert_ok(store_place_swap(store, &r, true, &err));
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "empty it, and start again");
}

/* --- with a ring of keys --- */

/* What a store has while secrets are wrapped anew. The backup is under master. */
static void write_backup_with_ring(const struct secret *other_master)
{
    const struct secret *const masters[] = { &master, other_master };

    assert_ok(ring_of_master(&next_master, &ring, &err)); /* the first one: all else came later */
    ring.version = 3;
    assert_ok(seal_mark(&master, ring.marks[0], &err));
    if (other_master) {
        assert_ok(seal_mark(other_master, ring.marks[1], &err));
        ring.n_masters = 2;
    }
    ring.wrappings[1] = ring.wrappings[0];
    ring.wrappings[0] = (struct ring_wrapping){ .number = 2 };
    ring.n_wrappings = 2;
    assert_ok(secret_random(&ring.wrappings[0].key, SEAL_KEY_LEN, &err));
    assert_ok(ring_encode(&ring, masters, other_master ? 2 : 1, &stored_ring, &err));
    unlink(file);
    write_backup(file, 1000);
}

static void assert_secret(struct keyring *keyring, struct store *store, const char *volume_id,
                          const struct secret *expected)
{
    auto_secret struct secret secret = SECRET_INIT;
    struct record r = get(store, volume_id);

    assert_ok(keyring_secret_of(keyring, &r, &secret, &err));
    assert_int_equal(secret.len, expected->len);
    assert_memory_equal(secret.bytes, expected->bytes, secret.len);
}

static void all_keys_come_with_it(void **state UNUSED)
{
    struct restoration_report report;
    struct keyring *keyring = NULL;
    struct keyring_state keys;
    uint64_t restored_ms = 0;
    bool changed = false;

    write_backup_with_ring(NULL);
    assert_ok(restore(&restoration, &report, &err));
    assert_int_equal(report.records, 5);
    struct store *store = open_store();

    assert_ok(unlock_with(store, &master, NULL, &keyring, &restored_ms));
    assert_true(restored_ms == EPOCH);
    keyring_state(keyring, &keys);
    assert_true(keys.version == 3 && keys.generation == 2 && keys.has_former);
    assert_secret(keyring, store, "new", &new_secret);
    assert_secret(keyring, store, "old", &old_secret);
    struct record r = get(store, "old"); /* what was under way goes on, and can be done again */

    assert_ok(keyring_rewrap_key(keyring, &r, &changed, &err));
    assert_true(changed);
    assert_ok(keyring_drop_former(keyring, 3, &err));
    assert_ok(keyring_rotate(keyring, false, &err));
    forget_keys(store, &keyring);
    store_close(&store);
    store = open_store();
    assert_ok(unlock_with(store, &master, NULL, &keyring, &restored_ms));
    assert_secret(keyring, store, "new", &new_secret);
    assert_secret(keyring, store, "old", &old_secret);
    forget_keys(store, &keyring);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   unlock_with(store, &next_master, NULL, &keyring, &restored_ms));
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "other keys than the backup"); /* not over the newer ring */
}

/* Then brokers with one of both keys open the store. */
static void a_master_key_that_is_being_changed_stays_so(void **state UNUSED)
{
    auto_secret struct secret old = SECRET_INIT;
    const struct secret *const keys[] = { &master, &old };
    struct restoration_report report;
    struct keyring *keyring = NULL;
    uint64_t restored_ms = 0;

    assert_ok(secret_alloc(&old, MASTER_KEY_LEN, &err));
    old.bytes[0] = 2;
    write_backup_with_ring(&old);
    assert_ok(restore(&restoration, &report, &err));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct store *store = open_store();

        assert_ok(unlock_with(store, keys[i], NULL, &keyring, &restored_ms));
        assert_secret(keyring, store, "old", &old_secret);
        forget_keys(store, &keyring);
        store_close(&store);
    }
    struct store *store = open_store();

    assert_ok(unlock_with(store, &master, &old, &keyring, &restored_ms));
    assert_ok(keyring_take_master(keyring, &err));
    forget_keys(store, &keyring);
    store_close(&store);
}

/* No broker writes it. */
static void a_ring_that_the_master_key_does_not_open_is_refused(void **state UNUSED)
{
    struct restoration_report report;
    struct store_ring there;

    write_backup_with_ring(NULL);
    stored_ring.bytes[stored_ring.len - 1] ^= 1;
    unlink(file);
    write_backup(file, 1000);
    assert_refused(ERROR_DATA_LOSS, restore(&restoration, &report, &err));
    assert_contains(err.text, "ring of keys is damaged");
    assert_int_not_equal(access(target, F_OK), 0);
    write_backup_with_ring(NULL);
    assert_ok(restore(&restoration, &report, &err));
    auto_store struct store *store = open_store();

    assert_ok(store->ops->get_ring(store, &there, &err));
    assert_int_equal(there.version, 3);
}

/* Its secrets are wrapped by its own ring, or by its master key. */
static void no_ring_is_put_over_what_is_there(void **state UNUSED)
{
    struct restoration_report report;
    struct store *store = open_store();
    struct record r = store_place_record("t", "d", "mine");
    struct keyring *keyring = NULL;
    struct store_ring there;
    uint64_t restored_ms = 0;

    assert_ok(ring_of_master(&master, &ring, &err));
    ring.version = 9; /* newer, with the same key of records */
    const struct secret *const masters[] = { &master };

    assert_ok(ring_encode(&ring, masters, 1, &stored_ring, &err));
    unlink(file);
    write_backup(file, 1000);
    assert_ok(unlock(store, &restored_ms));
    assert_ok(store_place_swap(store, &r, true, &err));
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "not empty");
    store = open_store();
    assert_ok(store->ops->get_ring(store, &there, &err));
    assert_int_equal(there.version, 0);
    assert_ok(unlock_with(store, &master, NULL, &keyring, &restored_ms));
    assert_ok(keyring_rotate(keyring, false, &err));
    forget_keys(store, &keyring);
    store_close(&store);
    assert_refused(ERROR_FAILED_PRECONDITION, restore(&restoration, &report, &err));
    assert_contains(err.text, "other keys than the backup");
    store = open_store();
    assert_ok(store->ops->get_ring(store, &there, &err));
    assert_int_equal(there.version, 1);
    store_close(&store);
}

/* Killed after the keys: nothing says yet whose the store is. */
static void keys_that_are_there_already_are_no_obstacle(void **state UNUSED)
{
    struct restoration_report report;
    struct store *store = open_store();
    struct store_check check;
    struct keyring *keyring = NULL;
    uint64_t restored_ms = 0;

    write_backup_with_ring(NULL);
    auto_ring struct ring copy = { .version = 0 };

    assert_ok(ring_copy(&ring, &copy, &err));
    assert_ok(store->ops->unlock(store, &copy.records, &check, &err));
    assert_ok(store->ops->put_ring(store, &stored_ring, 0, &err));
    store_close(&store);
    assert_ok(restore(&restoration, &report, &err));
    store = open_store();
    assert_ok(unlock_with(store, &master, NULL, &keyring, &restored_ms));
    assert_secret(keyring, store, "old", &old_secret);
    forget_keys(store, &keyring);
    store_close(&store);
}

/* Otherwise the first broker would make its own master key that of the store. */
static void without_a_ring_the_store_is_of_the_backups_master_key(void **state UNUSED)
{
    struct restoration_report report;
    struct keyring *keyring = NULL;
    uint64_t restored_ms = 0;

    assert_ok(restore(&restoration, &report, &err));
    auto_store struct store *store = open_store();

    assert_refused(ERROR_FAILED_PRECONDITION,
                   unlock_with(store, &next_master, NULL, &keyring, &restored_ms));
    assert_contains(err.text, "another master key");
    assert_ok(unlock(store, &restored_ms));
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(all_is_there_and_waits),
        CASE(a_store_that_is_not_empty_is_refused),
        CASE(a_second_restore_changes_nothing),
        CASE(a_clock_before_the_backup_is_refused_before_anything_is_written),
        CASE(one_that_was_interrupted_goes_on_with_its_own_epoch),
        CASE(a_record_of_somebody_else_is_not_written_over),
        CASE(all_keys_come_with_it),
        CASE(a_master_key_that_is_being_changed_stays_so),
        CASE(a_ring_that_the_master_key_does_not_open_is_refused),
        CASE(no_ring_is_put_over_what_is_there),
        CASE(keys_that_are_there_already_are_no_obstacle),
        CASE(without_a_ring_the_store_is_of_the_backups_master_key),
    };

    return RUN_TESTS(tests);
}
