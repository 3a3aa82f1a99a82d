/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "broker/backup.h"
#include "master/key.h"
#include "store/backup_file.h"
#include "store/keyring.h"
#include "tests/unit/broker/fixture.h"
#include "transfer/marks.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keybroker.pb-c.h"

/* Whole calls: who has backups made, and what becomes of them. */

#define M(name)     Tdvol__Keybroker__V1__##name
#define STATE(name) TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_##name

static struct fixture f;
static struct arena arena;
static struct error err;
static char folder[128];

/* A store that gives one record, when it may. */
static struct store_ops exporting;
static unsigned too_late;  /* how often what it gives is too old */
static unsigned rotations; /* how often its keys change while it is read */
static unsigned rotated;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static bool export(struct store *store, const struct store_visitor *v, struct error *e)
{
    struct record r = fixture_record(RECORD_READY);
    const struct store_key key = { .key = r.key };

    (void)store;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    if (!v->record(v->cookie, &r, &key, e))
        return false;
    if (rotations > 0) {
        rotations--;
        assert_ok(keyring_rotate(f.broker.keyring, false, e));
        assert_ok(keyring_drop_former(f.broker.keyring, 2 * ++rotated - 1, e));
    }
    return too_late == 0 || (too_late--, error_set(e, ERROR_ABORTED, "compacted"));
}

static int setup(void **state UNUSED)
{
    fixture_start(&f);
    arena_init(&arena, 16 << 20);
    exporting = *f.broker.store->ops;
    exporting.export = export;
    f.broker.store->ops = &exporting;
    too_late = rotations = rotated = 0;
    (void)snprintf(folder, sizeof(folder), "%s/backups", f.dir);
    const struct backups_options options = { .broker = &f.broker,
                                             .folder = folder,
                                             .replica = "a" };

    assert_ok(backups_new(&options, &f.broker.backups, &err));
    return 0;
}

static int teardown(void **state UNUSED)
{
    auto_dir DIR *files = opendir(folder);
    struct dirent *file = NULL;

    backups_free(&f.broker.backups);
    while (files && (file = readdir(files))) {
        char path[512];

        (void)snprintf(path, sizeof(path), "%s/%s", folder, file->d_name);
        unlink(path);
    }
    rmdir(folder);
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static unsigned files_in_folder(void)
{
    auto_dir DIR *files = opendir(folder);
    struct dirent *file = NULL;
    unsigned n = 0;

    while (files && (file = readdir(files)))
        n += file->d_name[0] != '.';
    return n;
}

static const M(BackupResponse) * ask(const char *client, bool start)
{
    M(BackupRequest) request = TDVOL__KEYBROKER__V1__BACKUP_REQUEST__INIT;

    request.start = start;
    err = (struct error)ERROR_INIT;
    return fixture_call(&f, &arena, client, "Backup", &request.base, &err);
}

static const M(BackupResponse) * wait(void)
{
    const M(BackupResponse) *answer = ask("saver", false);

    while (answer && answer->state == STATE(RUNNING)) {
        usleep(1000);
        answer = ask("saver", false);
    }
    assert_non_null(answer);
    return answer;
}

static void it_takes_the_permission(void **state UNUSED)
{
    static const char *const others[] = { "node",   "controller", "rotator", "admin",
                                          "keeper", "few",        "self" };

    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        assert_null(ask(others[i], true));
        assert_null(ask(others[i], false));
    }
    assert_int_equal(ask("saver", false)->state, STATE(UNSPECIFIED));
    assert_int_equal(files_in_folder(), 0);
}

static void a_backup_is_in_the_folder_and_in_the_audit_log(void **state UNUSED)
{
    auto_backup_reader struct backup_reader *reader = NULL;
    uint64_t lines = fixture_audit_lines(&f), last = 0;
    struct backup_counts counts;
    struct backup_head head;

    const M(BackupResponse) *started = ask("saver", true);

    assert_non_null(started);
    const M(BackupResponse) *done = wait();

    assert_int_equal(done->state, STATE(DONE));
    assert_memory_equal(done->backup_id.data, started->backup_id.data, BACKUP_ID_LEN);
    assert_int_equal(done->records, 1);
    assert_ok(backup_reader_new(done->path, &f.master, &reader, &err));
    assert_ok(backup_visit(reader, NULL, &head, &counts, &err));
    assert_memory_equal(head.id, done->backup_id.data, BACKUP_ID_LEN);
    assert_int_equal(head.created_ms, NOW);
    assert_string_equal(head.replica, "a");
    assert_int_equal(counts.bytes, done->bytes);
    assert_memory_equal(done->mac.data, backup_mac(reader), BACKUP_MAC_LEN);
    assert_int_equal(head.audit_seq, lines + 1); /* after the line of the call */
    assert_int_equal(fixture_audit_lines(&f), lines + 2);
    assert_int_equal(files_in_folder(), 1);
    assert_ok(f.broker.store->ops->raise(f.broker.store, BACKUP_MARK, 0, &last, &err));
    assert_int_equal(last, NOW);
    assert_int_equal(f.broker.backup_ms, NOW);
    f.broker.backup_ms = 0;
    assert_ok(backups_read_time(&f.broker, &err));
    assert_int_equal(f.broker.backup_ms, NOW);
}

static struct backup_head read_head(const char *path)
{
    auto_backup_reader struct backup_reader *reader = NULL;
    struct backup_counts counts;
    struct backup_head head;

    assert_ok(backup_reader_new(path, &f.master, &reader, &err));
    assert_ok(backup_visit(reader, NULL, &head, &counts, &err));
    return head;
}

static void it_has_the_keys_of_its_moment(void **state UNUSED)
{
    auto_ring struct ring ring = { .version = 0 };
    struct store_ring stored;

    assert_non_null(ask("saver", true));
    struct backup_head head = read_head(wait()->path);

    assert_int_equal(head.ring_version, 0);
    rotations = 2; /* two tries meet other keys at their end than at their begin */
    fixture_now_ms++;
    assert_non_null(ask("saver", true));
    head = read_head(wait()->path);
    assert_int_equal(rotations, 0);
    assert_int_equal(head.ring_version, 4);
    assert_int_equal(wait()->records, 1);
    backup_get_ring(&head, &stored);
    assert_ok(ring_decode(&stored, &f.master, &ring, &err));
    assert_int_equal(ring.wrappings[0].number, 3);
    rotations = 1000;
    fixture_now_ms++;
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(FAILED));
    assert_contains(wait()->problem, "change too fast");
    assert_int_equal(files_in_folder(), 2);
}

/* Another broker ended a change of the master key, and this one has the former alone. */
static void a_former_master_key_writes_no_backup(void **state UNUSED)
{
    auto_secret struct secret next = SECRET_INIT;
    auto_ring struct ring ring = { .version = 0 };
    const struct secret *const masters[] = { &next };
    struct store_ring stored;

    assert_ok(secret_random(&next, MASTER_KEY_LEN, &err));
    assert_ok(ring_of_master(&next, &ring, &err));
    ring.version = 1;
    assert_ok(ring_encode(&ring, masters, 1, &stored, &err));
    assert_ok(f.broker.store->ops->put_ring(f.broker.store, &stored, 0, &err));
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(FAILED));
    assert_contains(wait()->problem, "another master key");
    assert_int_equal(files_in_folder(), 0);
}

static void one_is_made_at_a_time(void **state UNUSED)
{
    pthread_mutex_lock(&gate);
    const M(BackupResponse) *first = ask("saver", true), *second = ask("saver", true);

    assert_int_equal(first->state, STATE(RUNNING));
    assert_int_equal(second->state, STATE(RUNNING));
    assert_memory_equal(first->backup_id.data, second->backup_id.data, BACKUP_ID_LEN);
    pthread_mutex_unlock(&gate);
    assert_int_equal(wait()->state, STATE(DONE));
    fixture_now_ms++;
    const M(BackupResponse) *third = ask("saver", true);

    assert_memory_not_equal(first->backup_id.data, third->backup_id.data, BACKUP_ID_LEN);
    assert_int_equal(wait()->state, STATE(DONE));
    assert_int_equal(files_in_folder(), 2);
}

static void two_of_one_moment_do_not_replace_each_other(void **state UNUSED)
{
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(DONE));
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(FAILED));
    assert_contains(wait()->problem, "exists already");
    assert_int_equal(files_in_folder(), 1);
}

static void a_moment_that_etcd_forgot_is_tried_again(void **state UNUSED)
{
    too_late = 3;
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(DONE));
    assert_int_equal(wait()->records, 1);
    fixture_now_ms++;
    too_late = 1000;
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(FAILED));
    assert_contains(wait()->problem, "change too fast");
    assert_int_equal(files_in_folder(), 1);
}

static void a_folder_that_cannot_be_made_is_told(void **state UNUSED)
{
    FILE *file = fopen(folder, "we");

    assert_non_null(file);
    (void)fclose(file);
    assert_non_null(ask("saver", true));
    assert_int_equal(wait()->state, STATE(FAILED));
    assert_contains(wait()->problem, folder);
    unlink(folder);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(it_takes_the_permission),
        CASE(a_backup_is_in_the_folder_and_in_the_audit_log),
        CASE(it_has_the_keys_of_its_moment),
        CASE(a_former_master_key_writes_no_backup),
        CASE(one_is_made_at_a_time),
        CASE(two_of_one_moment_do_not_replace_each_other),
        CASE(a_moment_that_etcd_forgot_is_tried_again),
        CASE(a_folder_that_cannot_be_made_is_told),
    };

    return RUN_TESTS(tests);
}
