/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "record/layout.h"
#include "tests/vm/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

/* Lives of volumes through tdvol-blockd on a real kernel. tests/vm/run runs them. */

static void run_life(enum integrity integrity, const char *fs_type, uint64_t size_bytes)
{
    static struct block_result result;

    create("a", integrity, fs_type, size_bytes);
    struct block_request *stage = stage_request("a");
    must(stage, &result);
    assert_false(result.already);
    must(stage, &result);
    assert_true(result.already);

    struct block_request *publish = publish_request("a", "mnt/target");
    must(publish, &result);
    assert_false(result.already);
    must(publish, &result);
    assert_true(result.already);
    write_text("mnt/target/file", "hello");
    expect_text("mnt/stage-a/file", "hello");

    struct block_request *stats = with_path(front_request(BLOCK_STATS, "a"), "mnt/target");
    must(stats, &result);
    assert_false(result.stats.is_block);
    assert_true(result.stats.total_bytes > 0 && result.stats.total_inodes > 0);

    struct block_request *delete = front_request(BLOCK_DELETE, "a");
    refused(delete, ERROR_FAILED_PRECONDITION);
    struct block_request *unstage = unstage_request("a");
    refused(unstage, ERROR_FAILED_PRECONDITION);

    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    assert_int_not_equal(0, access(front_path(&front, "mnt/target"), F_OK));
    must(unstage, NULL);
    must(unstage, &result);
    assert_true(result.already);
    assert_int_equal(integrity != INTEGRITY_NONE, front_record(&front, "a")->has_clean_hash);
    expect_nothing_left();

    must(stage, NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage, NULL);
    must(delete, NULL);
    must(delete, &result);
    assert_true(result.already);
    assert_int_equal(0, count_in(front_path(&front, "local"), ""));
    expect_nothing_left();
}

static void an_authenticated_ext4_volume_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_AEGIS128, "ext4", 64 * MIB);
}

static void an_xfs_volume_with_hmac_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_HMAC_SHA256, "xfs", 320 * MIB);
}

static void an_ext4_volume_without_integrity_lives(void **state)
{
    (void)state;
    run_life(INTEGRITY_NONE, "ext4", 64 * MIB);
}

static void a_raw_block_volume_is_published_as_a_device(void **state)
{
    (void)state;
    static struct block_result result;
    struct stat st;
    create("a", INTEGRITY_AEGIS128, "", 16 * MIB);
    must(stage_request("a"), &result);
    assert_int_equal(16 * MIB, device_of("a").size_bytes);
    struct block_request *publish = publish_request("a", "mnt/device");
    must(publish, NULL);
    must(publish, &result);
    assert_true(result.already);
    assert_int_equal(0, stat(front_path(&front, "mnt/device"), &st));
    assert_true(S_ISBLK(st.st_mode));
    must(with_path(front_request(BLOCK_STATS, "a"), "mnt/device"), &result);
    assert_true(result.stats.is_block);
    assert_int_equal(16 * MIB, result.stats.total_bytes);
    refused(unstage_request("a"), ERROR_FAILED_PRECONDITION);

    int fd = open(front_path(&front, "mnt/device"), O_RDWR | O_CLOEXEC);
    assert_int_equal(5, pwrite(fd, "hello", 5, MIB));
    assert_int_equal(0, fsync(fd));
    refused(unstage_request("a"), ERROR_FAILED_PRECONDITION);
    close(fd);
    publish->read_only = true;
    refused(publish, ERROR_ALREADY_EXISTS);
    simple(BLOCK_UNPUBLISH, "a", "mnt/device");
    must(unstage_request("a"), NULL);

    must(stage_request("a"), NULL);
    must(publish_request("a", "mnt/device"), NULL);
    char text[6] = "";
    fd = open(front_path(&front, "mnt/device"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(5, pread(fd, text, 5, MIB));
    assert_string_equal("hello", text);
    close(fd);
    simple(BLOCK_UNPUBLISH, "a", "mnt/device");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_device_is_published_for_writing_and_for_reading(void **state)
{
    (void)state;
    static struct block_result result;
    struct statvfs st = { .f_flag = 0 };
    create("a", INTEGRITY_AEGIS128, "", 16 * MIB);
    must(stage_request("a"), NULL);
    must(publish_request("a", "mnt/device"), NULL);
    struct block_request *reader = publish_request("a", "mnt/reader");
    reader->read_only = true;
    must(reader, NULL);
    must(reader, &result);
    assert_true(result.already);
    assert_int_equal(0, statvfs(front_path(&front, "mnt/reader"), &st));
    assert_true(st.f_flag & ST_RDONLY);
    assert_int_equal(0, statvfs(front_path(&front, "mnt/device"), &st));
    assert_false(st.f_flag & ST_RDONLY);
    reader->read_only = false;
    refused(reader, ERROR_ALREADY_EXISTS);
    simple(BLOCK_UNPUBLISH, "a", "mnt/reader");
    simple(BLOCK_UNPUBLISH, "a", "mnt/device");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_read_only_stage_shows_data_and_writes_nothing(void **state)
{
    (void)state;
    static struct block_result result;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    uint64_t version = front_record(&front, "a")->version;
    struct block_request *stage = stage_request("a");
    stage->read_only = true;
    must(stage, NULL);
    must(stage, &result);
    assert_true(result.already);
    expect_text("mnt/stage-a/file", "hello");
    assert_int_equal(
        -1, open(front_path(&front, "mnt/stage-a/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(EROFS, errno);
    refused(stage_request("a"), ERROR_ALREADY_EXISTS);
    must(publish_request("a", "mnt/target"), NULL);
    assert_int_equal(
        -1, open(front_path(&front, "mnt/target/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    must(unstage_request("a"), NULL);
    assert_int_equal(version, front_record(&front, "a")->version);
    expect_nothing_left();
}

static void a_read_only_publish_of_a_writable_stage_is_read_only(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_NONE);
    struct block_request *publish = publish_request("a", "mnt/target");
    publish->read_only = true;
    must(publish, NULL);
    assert_int_equal(
        -1, open(front_path(&front, "mnt/target/new"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_int_equal(EROFS, errno);
    write_text("mnt/stage-a/new", "x");
    publish->read_only = false;
    refused(publish, ERROR_ALREADY_EXISTS);

    struct block_request *second = publish_request("a", "mnt/second");
    second->exclusive = true;
    refused(second, ERROR_FAILED_PRECONDITION);
    second->exclusive = false;
    must(second, NULL);
    simple(BLOCK_UNPUBLISH, "a", "mnt/second");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void mount_options_reach_the_file_system(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_free char *mounts = NULL;
    size_t len = 0;
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    struct block_request *stage = stage_request("a");
    (void)snprintf(stage->mount_flags, sizeof(stage->mount_flags),
                   "noatime,nosuid,commit=7,_netdev");
    must(stage, NULL);
    refused(stage_request("a"), ERROR_ALREADY_EXISTS);
    assert_true(file_read("/proc/self/mounts", MIB, &mounts, &len, &err));
    const char *line = strstr(mounts, front_path(&front, "mnt/stage-a"));
    assert_non_null(line);
    assert_non_null(strstr(line, "nosuid,noatime,commit=7"));
    must(unstage_request("a"), NULL);
    (void)snprintf(stage->mount_flags, sizeof(stage->mount_flags), "commit=x");
    refused(stage, ERROR_INVALID_ARGUMENT);
    expect_nothing_left();
}

static void copies_hold_what_was_synced(void **state)
{
    (void)state;
    static struct block_result result;
    stage_with_file("a", INTEGRITY_AEGIS128);
    struct block_request *copy = front_request(BLOCK_COPY, "a");
    (void)snprintf(copy->copy_id, sizeof(copy->copy_id), "live");
    front_add_copy(&front, "live", "a");
    must(copy, &result);
    assert_false(result.already);
    must(copy, &result);
    assert_true(result.already);
    write_text("mnt/stage-a/file", "later");
    must(unstage_request("a"), NULL);
    front_add_copy(&front, "idle", "a");
    (void)snprintf(copy->copy_id, sizeof(copy->copy_id), "idle");
    must(copy, NULL);
    must(stage_request("a"), NULL);
    must(stage_request("live"), NULL);
    must(stage_request("idle"), NULL);
    expect_text("mnt/stage-a/file", "later");
    expect_text("mnt/stage-live/file", "hello");
    expect_text("mnt/stage-idle/file", "later");
    must(unstage_request("live"), NULL);
    must(unstage_request("idle"), NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    struct block_request *missing = front_request(BLOCK_COPY, "none");
    (void)snprintf(missing->copy_id, sizeof(missing->copy_id), "x");
    refused(missing, ERROR_NOT_FOUND);
    assert_int_equal(3, count_in(front_path(&front, "local"), ""));
}

static void a_volume_grows_in_use(void **state)
{
    (void)state;
    static struct block_result result;
    struct error err = ERROR_INIT;
    stage_with_file("a", INTEGRITY_HMAC_SHA256);
    struct record *record = front_record(&front, "a");
    assert_true(layout_plan_growth(&record->spec, 96 * MIB, &err));
    struct block_request *resize = front_request(BLOCK_RESIZE, "a");
    resize->size_bytes = record->spec.device_bytes;
    must(resize, &result);
    assert_int_equal(record->spec.device_bytes, result.size_bytes);
    must(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), &result);
    assert_int_equal(96 * MIB, result.size_bytes);
    must(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), &result);
    must(with_path(front_request(BLOCK_STATS, "a"), "mnt/stage-a"), &result);
    assert_true(result.stats.total_bytes > 80 * MIB);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    refused(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), ERROR_NOT_FOUND);
    expect_nothing_left();
}

static void files_are_made_whole_or_not_at_all(void **state)
{
    (void)state;
    static struct block_result result;
    struct block_request *make = front_request(BLOCK_CREATE, "a");
    make->size_bytes = 8 * MIB;
    make->reserve = true;
    must(make, NULL);
    must(make, &result);
    assert_true(result.already);
    make->size_bytes = 9 * MIB;
    refused(make, ERROR_ALREADY_EXISTS);
    must(front_request(BLOCK_CAPACITY, ""), &result);
    struct block_request *huge = front_request(BLOCK_CREATE, "huge");
    huge->size_bytes = result.size_bytes * 4;
    huge->reserve = true;
    refused(huge, ERROR_RESOURCE_EXHAUSTED);
    refused(front_request(BLOCK_CREATE, "UPPER"), ERROR_INVALID_ARGUMENT);
    assert_int_equal(1, count_in(front_path(&front, "local"), ""));
    must(front_request(BLOCK_DELETE, "a"), NULL);
    must(front_request(BLOCK_DELETE, "../../x"), &result);
    assert_true(result.already);
    expect_nothing_left();
}

static void a_kernel_with_everything_passes_the_probe(void **state)
{
    (void)state;
    static struct block_result result;
    must(front_request(BLOCK_PROBE, ""), &result);
    assert_string_equal("", result.probe.missing);
    assert_true(result.probe.aegis128 && result.probe.hmac_sha256 && result.probe.thin);
}

static const char *const ids[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

/* Sends one packet to each worker in turn, so that all workers run at once. */
static void run_all(enum block_operation operation)
{
    struct pollfd fds[ARRAY_LEN(ids)];
    size_t n = ARRAY_LEN(ids), left = n;

    for (size_t i = 0; i < n; i++) {
        struct block_request *request =
            operation == BLOCK_STAGE ? stage_request(ids[i]) : unstage_request(ids[i]);

        fds[i] = (struct pollfd){ .fd = front_send(&front, request), .events = POLLIN };
    }
    while (left > 0) {
        assert_true(poll(fds, n, 60000) > 0);
        for (size_t i = 0; i < n; i++) {
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            assert_true(front_receive(&front, fds[i].fd, 1000));
            if (front.last.kind != BLOCK_DONE) {
                front_answer(&front, fds[i].fd, ids[i]);
                continue;
            }
            if (!front.last.ok)
                fail_msg("%s: %s", ids[i], front.last.err.text);
            close_at(&fds[i].fd);
            left--;
        }
    }
}

static void many_volumes_are_staged_at_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        create(ids[i], INTEGRITY_AEGIS128, "ext4", 16 * MIB);
    run_all(BLOCK_STAGE);
    run_all(BLOCK_STAGE);
    run_all(BLOCK_UNSTAGE);
    expect_nothing_left();
}

static void a_copy_of_an_xfs_in_use_is_shown_beside_it(void **state)
{
    (void)state;
    create("a", INTEGRITY_AEGIS128, "xfs", 320 * MIB);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    struct block_request *copy = front_request(BLOCK_COPY, "a");
    (void)snprintf(copy->copy_id, sizeof(copy->copy_id), "b");
    front_add_copy(&front, "b", "a");
    must(copy, NULL);
    struct block_request *stage = stage_request("b");
    stage->read_only = true;
    must(stage, NULL);
    expect_text("mnt/stage-b/file", "hello");
    must(unstage_request("b"), NULL);
    stage->read_only = false;
    must(stage, NULL);
    expect_text("mnt/stage-b/file", "hello");
    must(unstage_request("b"), NULL);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void expect_status(const char *status, const char *line)
{
    if (!strstr(status, line))
        fail_msg("no \"%s\" in %s", line, status);
}

static void the_helper_gave_up_what_it_does_not_need(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_free char *status = NULL;
    size_t len = 0;
    char path[64];
    simple(BLOCK_CAPACITY, "", "mnt"); /* blockd is up */
    (void)snprintf(path, sizeof(path), "/proc/%d/status", front.blockd);
    assert_true(file_read(path, MIB, &status, &len, &err));
    expect_status(status, "NoNewPrivs:\t1\n");
    expect_status(status, "Seccomp:\t2\n");
    /* CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, SETPCAP, IPC_LOCK, SYS_ADMIN, SYS_RESOURCE, MKNOD, SYSLOG */
    expect_status(status, "CapEff:\t00000004092041eb\n");
    expect_status(status, "CapBnd:\t00000004092041eb\n");
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_authenticated_ext4_volume_lives, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_xfs_volume_with_hmac_lives, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_volume_without_integrity_lives, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_raw_block_volume_is_published_as_a_device, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_device_is_published_for_writing_and_for_reading,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_read_only_stage_shows_data_and_writes_nothing,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_read_only_publish_of_a_writable_stage_is_read_only,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(mount_options_reach_the_file_system, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(copies_hold_what_was_synced, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_volume_grows_in_use, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(files_are_made_whole_or_not_at_all, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_kernel_with_everything_passes_the_probe, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(many_volumes_are_staged_at_once, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_copy_of_an_xfs_in_use_is_shown_beside_it, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(the_helper_gave_up_what_it_does_not_need, steps_start,
                                        steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
