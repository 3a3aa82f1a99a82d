/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "master/key.h"
#include "store/backup_form.h"
#include "tests/unit/store/etcd_place.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file of a backup, over each kind of store. */

enum { MANY = 40 }; /* more than etcd is asked for at once */

static char dir[64], partial[96], path[96];
static struct secret master;

static const struct backup_head head = { .id = { 1, 2 },
                                         .created_ms = 1234,
                                         .version = "0.9",
                                         .store = "sqlite",
                                         .replica = "a",
                                         .audit_seq = 77,
                                         .audit_len = 3,
                                         .audit_head = { 7, 8, 9 },
                                         .ring_version = 3,
                                         .ring_len = STORE_RING_MAX,
                                         .ring = { 4, [STORE_RING_MAX - 1] = 5 } };

static int set_up(void)
{
    struct error err = ERROR_INIT;

    memcpy(dir, "/tmp/tdvol-backup-XXXXXX", sizeof("/tmp/tdvol-backup-XXXXXX"));
    assert_non_null(mkdtemp(dir));
    (void)snprintf(partial, sizeof(partial), "%s/partial", dir);
    (void)snprintf(path, sizeof(path), "%s/one", dir);
    assert_ok(secret_alloc(&master, MASTER_KEY_LEN, &err));
    return 0;
}

static int tear_down(void)
{
    secret_wipe(&master);
    unlink(path);
    assert_int_not_equal(access(partial, F_OK), 0);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

/* --- what a backup has in it --- */

struct found {
    unsigned records, keys, copies, erased, marks, highest;
    uint64_t clock;
};

static bool count_record(void *cookie, const struct record *r, const struct store_key *key,
                         struct error *err UNUSED)
{
    struct found *f = cookie;

    f->records++;
    f->keys += key != NULL;
    f->copies += strcmp(r->volume_id, "copy") == 0 && key && key->wrapped[0] == 0xa0;
    f->erased += r->phase == RECORD_ERASED && !key;
    return true;
}

static bool count_mark(void *cookie, const char *name, const uint8_t mark[static STORE_MARK_LEN],
                       struct error *err UNUSED)
{
    struct found *f = cookie;

    f->marks += strcmp(name, "copy:1:2") == 0 && mark[0] == 5;
    return true;
}

static bool count_highest(void *cookie, const char *name, uint64_t value, struct error *err UNUSED)
{
    struct found *f = cookie;

    f->highest++;
    if (strcmp(name, "clock") == 0)
        f->clock = value;
    return true;
}

static struct store_visitor counting(struct found *f)
{
    return (struct store_visitor){ count_record, count_mark, count_highest, f };
}

static void fill(struct store *store)
{
    const uint8_t mark[STORE_MARK_LEN] = { 5 };
    uint8_t out[STORE_MARK_LEN];
    uint64_t highest = 0;
    struct record gone = store_place_record("u", "d", "gone"), copy;
    struct error err = ERROR_INIT;

    for (unsigned i = 0; i < MANY; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "v%u", i);
        struct record r = store_place_record("t", "d", name);

        r.key.id[3] = (uint8_t)i;
        assert_ok(store_place_swap(store, &r, true, &err));
    }
    copy = store_place_record("t", "d", "copy");
    assert_ok(store_place_swap(store, &copy, false, &err)); /* with the key of v0 */
    gone.key.id[0] ^= 1;
    assert_ok(store_place_swap(store, &gone, true, &err));
    gone.phase = RECORD_ERASED;
    gone.key = (struct record_key){ .generation = 0 };
    assert_ok(store_place_swap(store, &gone, false, &err));
    assert_ok(store->ops->remember(store, "copy:1:2", mark, out, &err));
    assert_ok(store->ops->raise(store, "clock", 1234, &highest, &err));
}

static struct backup_counts write_backup(struct store *store)
{
    auto_backup_writer struct backup_writer *w = NULL;
    struct backup_counts counts;
    uint8_t mac[BACKUP_MAC_LEN];
    struct error err = ERROR_INIT;

    assert_ok(backup_writer_new(dir, &master, &w, &err));
    const struct store_visitor visitor = backup_visitor(w);

    assert_ok(backup_begin(w, &head, &err));
    assert_ok(visitor.highest(visitor.cookie, "of a try that ended early", 1, &err));
    assert_ok(backup_begin(w, &head, &err));
    assert_ok(store->ops->export(store, &visitor, &err));
    assert_ok(backup_end(w, &counts, mac, &err));
    assert_int_not_equal(access(path, F_OK), 0);
    assert_ok(backup_name(w, path, &err));
    return counts;
}

static void all_that_a_store_holds_is_in_the_backup(void **state)
{
    struct store_place *place = *state;
    struct found found = { .records = 0 };
    const struct store_visitor visitor = counting(&found);
    struct backup_counts counts;
    struct backup_head back;
    struct stat st;
    struct error err = ERROR_INIT;

    set_up();
    fill(place->store);
    counts = write_backup(place->store);
    assert_int_equal(counts.records, MANY + 2);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, counts.bytes);
    auto_backup_reader struct backup_reader *r = NULL;

    assert_ok(backup_reader_new(path, &master, &r, &err));
    for (int i = 0; i < 2; i++) { /* as often as one likes */
        found = (struct found){ .records = 0 };
        assert_ok(backup_visit(r, &visitor, &back, &counts, &err));
        assert_int_equal(found.records, MANY + 2);
        assert_int_equal(found.keys, MANY + 1);
        assert_int_equal(found.copies, 1);
        assert_int_equal(found.erased, 1);
        assert_int_equal(found.marks, 1);
        assert_int_equal(found.highest, counts.highest);
        assert_int_equal(found.clock, 1234);
        assert_memory_equal(&back, &head, sizeof(head));
    }
    tear_down();
}

static void a_changed_record_stops_the_backup(void **state)
{
    struct store_place *place = *state;
    auto_backup_writer struct backup_writer *w = NULL;
    const uint8_t nonsense[100] = { 1 };
    struct etcd_key key;
    struct error err = ERROR_INIT;

    set_up();
    fill(place->store);
    assert_ok(backup_writer_new(dir, &master, &w, &err));
    const struct store_visitor visitor = backup_visitor(w);

    assert_ok(backup_begin(w, &head, &err));
    etcd_place_record_key("v7", &key);
    etcd_place_put(&key, nonsense, sizeof(nonsense));
    assert_refused(ERROR_DATA_LOSS, place->store->ops->export(place->store, &visitor, &err));
    assert_contains(err.text, "v7");
    backup_writer_free(&w);
    tear_down();
}

/* --- the file --- */

static struct record sample(void)
{
    return store_place_record("t", "d", "v");
}

/* One record, one mark of each kind. */
static void write_small(void)
{
    auto_backup_writer struct backup_writer *w = NULL;
    struct backup_counts counts;
    const struct record stored = sample();
    struct record r = stored;
    const struct store_key key = { .key = r.key, .wrapped = { 3 } };
    const uint8_t mark[STORE_MARK_LEN] = { 5 };
    uint8_t mac[BACKUP_MAC_LEN];
    struct error err = ERROR_INIT;

    r.version = 1;
    assert_ok(backup_writer_new(dir, &master, &w, &err));
    const struct store_visitor v = backup_visitor(w);

    assert_ok(backup_begin(w, &head, &err));
    assert_ok(v.record(v.cookie, &r, &key, &err));
    assert_ok(v.mark(v.cookie, "copy:1:2", mark, &err));
    assert_ok(v.highest(v.cookie, "clock", 1234, &err));
    assert_ok(backup_end(w, &counts, mac, &err));
    assert_ok(backup_name(w, path, &err));
}

static bool read_all(const struct secret *key, struct found *found, struct error *err)
{
    auto_backup_reader struct backup_reader *r = NULL;
    const struct store_visitor visitor = counting(found);
    struct backup_counts counts;
    struct backup_head back;

    return backup_reader_new(path, key, &r, err) && backup_visit(r, &visitor, &back, &counts, err);
}

static void rewrite(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;

    assert_ok(file_write(path, 0600, bytes, len, &err));
}

static void no_changed_byte_is_believed(void **state UNUSED)
{
    struct found found = { .records = 0 };
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    set_up();
    write_small();
    assert_ok(read_all(&master, &found, &err));
    assert_ok(file_read(path, 1 << 20, &bytes, &len, &err));
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (char)(bytes[i] ^ 0x20);
        rewrite((uint8_t *)bytes, len);
        found = (struct found){ .records = 0 };
        err = (struct error)ERROR_INIT;
        assert_false(read_all(&master, &found, &err));
        assert_int_equal(err.code,
                         i < BACKUP_START_LEN ? ERROR_FAILED_PRECONDITION : ERROR_DATA_LOSS);
        assert_int_equal(found.records + found.marks + found.highest, 0);
        bytes[i] = (char)(bytes[i] ^ 0x20);
    }
    tear_down();
}

static void no_cut_or_longer_file_is_believed(void **state UNUSED)
{
    struct found found = { .records = 0 };
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    set_up();
    write_small();
    assert_ok(file_read(path, 1 << 20, &bytes, &len, &err));
    for (size_t i = 0; i < len; i++) {
        rewrite((uint8_t *)bytes, i);
        assert_false(read_all(&master, &found, &err));
    }
    auto_free char *longer = calloc(1, len + 1);

    assert_non_null(longer);
    memcpy(longer, bytes, len);
    rewrite((uint8_t *)longer, len + 1);
    assert_refused(ERROR_DATA_LOSS, read_all(&master, &found, &err));
    assert_int_equal(found.records, 0);
    tear_down();
}

static void another_master_key_and_version_are_named(void **state UNUSED)
{
    auto_secret struct secret other = SECRET_INIT;
    struct found found = { .records = 0 };
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    set_up();
    write_small();
    assert_ok(secret_random(&other, MASTER_KEY_LEN, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, read_all(&other, &found, &err));
    assert_contains(err.text, "another master key");
    assert_ok(file_read(path, 1 << 20, &bytes, &len, &err));
    bytes[BACKUP_MAGIC_LEN - 2] = '2';
    rewrite((uint8_t *)bytes, len);
    assert_refused(ERROR_FAILED_PRECONDITION, read_all(&master, &found, &err));
    assert_contains(err.text, "another version");
    bytes[0] = 'x';
    rewrite((uint8_t *)bytes, len);
    assert_refused(ERROR_FAILED_PRECONDITION, read_all(&master, &found, &err));
    assert_contains(err.text, "no backup");
    unlink(path);
    assert_false(read_all(&master, &found, &err));
    assert_contains(err.text, path);
    tear_down();
}

/* Exchanged between the check and the use. */
static void a_file_that_changes_while_it_is_read_is_noticed(void **state UNUSED)
{
    auto_backup_reader struct backup_reader *r = NULL;
    struct found found = { .records = 0 };
    const struct store_visitor visitor = counting(&found);
    struct backup_counts counts;
    struct backup_head back;
    struct error err = ERROR_INIT;

    set_up();
    write_small();
    assert_ok(backup_reader_new(path, &master, &r, &err));
    auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    /* A byte of the wrapped key: the form stays good. */
    off_t at = BACKUP_START_LEN;

    for (; at < (off_t)BACKUP_START_LEN + 1000; at++) {
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        if (byte == 'R') {
            at += BACKUP_ENTRY_START + 1;
            break;
        }
    }
    byte = 0x55;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    assert_refused(ERROR_DATA_LOSS, backup_visit(r, &visitor, &back, &counts, &err));
    assert_int_equal(ftruncate(fd, at), 0);
    assert_false(backup_visit(r, &visitor, &back, &counts, &err));
    tear_down();
}

static void no_file_is_written_over(void **state UNUSED)
{
    auto_backup_writer struct backup_writer *w = NULL;
    auto_free char *bytes = NULL;
    struct backup_counts counts;
    uint8_t mac[BACKUP_MAC_LEN];
    size_t len = 0;
    struct error err = ERROR_INIT;

    set_up();
    assert_ok(file_write(path, 0600, "mine", 4, &err));
    assert_int_equal(symlink(path, partial), 0); /* nor through a link */
    assert_ok(backup_writer_new(dir, &master, &w, &err));
    assert_ok(backup_begin(w, &head, &err));
    assert_ok(backup_end(w, &counts, mac, &err));
    assert_refused(ERROR_ALREADY_EXISTS, backup_name(w, path, &err));
    backup_writer_free(&w);
    assert_ok(file_read(path, 100, &bytes, &len, &err));
    assert_string_equal(bytes, "mine");
    tear_down();
}

#define SQLITE(f) cmocka_unit_test_setup_teardown(f, store_place_sqlite, store_place_remove)
#define ETCD(f)   cmocka_unit_test_setup_teardown(f, etcd_place_open, etcd_place_close)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        SQLITE(all_that_a_store_holds_is_in_the_backup),
        cmocka_unit_test(no_changed_byte_is_believed),
        cmocka_unit_test(no_cut_or_longer_file_is_believed),
        cmocka_unit_test(another_master_key_and_version_are_named),
        cmocka_unit_test(a_file_that_changes_while_it_is_read_is_noticed),
        cmocka_unit_test(no_file_is_written_over),
        ETCD(all_that_a_store_holds_is_in_the_backup),
        ETCD(a_changed_record_stops_the_backup),
    };

    return etcd_place_run(tests, ARRAY_LEN(tests), 2);
}
