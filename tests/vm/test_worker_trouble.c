/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "record/layout.h"
#include "tests/vm/steps.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

/* Which requests are refused, what works without the broker, and what the watcher reports. */

/* Waits for the event and skips others. */
static void expect_event(int fd, enum block_event_kind kind)
{
    for (int i = 0; i < 200; i++) {
        assert_true(front_receive(&front, fd, 20000));
        assert_int_equal(BLOCK_EVENT, front.last.kind);
        assert_string_equal("a", front.last.volume_id);
        if (front.last.event == kind)
            return;
    }
    fail();
}

static void the_watcher_tells_of_damage(void **state)
{
    (void)state;
    static struct block_result result;
    stage_with_file("a", INTEGRITY_AEGIS128);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);

    /* One bit is flipped in every 4 KiB of the data area. */
    int fd = open(front_path(&front, "local/a.img"), O_RDWR | O_CLOEXEC);
    off_t size = lseek(fd, 0, SEEK_END);
    must(stage_request("a"), NULL);
    for (off_t at = 24 * (off_t)MIB; at < size; at += 4096) {
        unsigned char byte = 0;

        assert_int_equal(1, pread(fd, &byte, 1, at));
        byte ^= 1;
        assert_int_equal(1, pwrite(fd, &byte, 1, at));
    }
    close(fd);
    const char *argv[] = { "dd", "if=/dev/mapper/control", NULL, NULL, NULL };
    char input[128];
    struct process_result dd;
    struct error err = ERROR_INIT;
    must(stage_request("a"), &result);
    (void)snprintf(input, sizeof(input), "if=%s", device_of("a").path);
    argv[1] = input;
    argv[2] = "of=/dev/null";
    argv[3] = "bs=1M";
    assert_true(process_run(argv, 60000, &dd, &err));
    assert_int_not_equal(0, dd.exit_code);
    expect_event(watch, BLOCK_EVENT_INTEGRITY_ERROR);
    assert_true(front.last.count > 0);
    close_at(&watch);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* XFS and ext4 have the same call. */
#define SHUTDOWN        _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_LOG 2u

static void the_watcher_tells_of_a_file_system_that_shut_down(void **state)
{
    (void)state;
    uint32_t how = SHUTDOWN_NO_LOG;
    create("a", INTEGRITY_NONE, "xfs", 320 * MIB);
    must(stage_request("a"), NULL);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    usleep(500000);
    int fd = open(front_path(&front, "mnt/stage-a"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(0, ioctl(fd, SHUTDOWN, &how));
    close(fd);
    expect_event(watch, BLOCK_EVENT_SHUT_DOWN);
    close_at(&watch);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* The volume is larger than the disk that its file is on. */
static void the_watcher_tells_of_writes_that_failed(void **state)
{
    (void)state;
    static char block[MIB];
    char local[128];
    (void)snprintf(local, sizeof(local), "%s", front_path(&front, "local"));
    struct error err = ERROR_INIT;
    assert_true(file_make_dirs(local, 0700, &err)); /* tdvol-blockd may not have made it yet */
    assert_int_equal(0, mount("small", local, "tmpfs", 0, "size=16m,mode=700"));
    create("a", INTEGRITY_NONE, "", 64 * MIB);
    must(stage_request("a"), NULL);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    usleep(500000);
    int fd = open(device_of("a").path, O_RDWR | O_CLOEXEC);
    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = 'x';
    for (off_t at = 0; at < 64 * (off_t)MIB; at += (off_t)sizeof(block))
        assert_int_equal(sizeof(block), pwrite(fd, block, sizeof(block), at));
    assert_int_equal(-1, fsync(fd));
    close(fd);
    expect_event(watch, BLOCK_EVENT_WRITE_FAILED);
    close_at(&watch);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    for (int i = 0; i < 100 && umount(local) != 0; i++)
        usleep(50000); /* the loop device goes a moment after its last user */
}

/* Puts another target in the place of a layer. */
static void replace_layer(const char *suffix, const char *target)
{
    char load[400];
    const struct volume_device device = device_of("a");

    (void)snprintf(load, sizeof(load),
                   "d=%s%s; dmsetup load $d --table \"0 $(blockdev --getsz $d) %s\" && "
                   "dmsetup resume --noflush $d",
                   device.path, suffix, target);
    const char *argv[] = { "sh", "-c", load, NULL };
    struct error err = ERROR_INIT;
    if (!process_must(argv, 20000, 0, &err))
        fail_msg("%s", err.text);
}

static void a_broken_map_ends_in_errors_and_never_in_zeros(void **state)
{
    (void)state;
    static struct block_result result;
    char text[16];
    create("a", INTEGRITY_AEGIS128, "", 64 * MIB);
    front_record(&front, "a")->spec.provisioning = PROVISIONING_THIN;
    must(stage_request("a"), &result);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    auto_close int fd = open(device_of("a").path, O_RDWR | O_CLOEXEC);
    assert_int_equal(5, pwrite(fd, "hello", 5, 40 * MIB));
    assert_int_equal(0, fsync(fd));
    replace_layer("-map", "error"); /* as a disk that fails */
    for (int i = 0; i < 8; i++) {
        ssize_t unused = pwrite(fd, "later", 5, (off_t)(8 + i) * (off_t)MIB);

        (void)!unused;
        (void)!fsync(fd);
    }
    expect_event(watch, BLOCK_EVENT_FAILED);
    must(front_request(BLOCK_INSPECT, "a"), &result);
    assert_true(result.status.map_failed);
    assert_int_equal(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
    assert_int_equal(-1, pread(fd, text, 5, 40 * MIB));
    close_at(&fd);
    close_at(&watch);
    refused(publish_request("a", "mnt/device"), ERROR_FAILED_PRECONDITION);
    must(stage_request("a"), &result);
    assert_false(result.already);
    must(publish_request("a", "mnt/device"), NULL);
    simple(BLOCK_UNPUBLISH, "a", "mnt/device");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

#define BLOCK_BYTES 4096

/* Reads past the page cache. 0: an error, 'z': zeros. */
static char first_byte(int fd, off_t offset)
{
    static _Alignas(BLOCK_BYTES) char block[BLOCK_BYTES];

    if (pread(fd, block, sizeof(block), offset) != BLOCK_BYTES)
        return 0;
    if (block[0] == 0)
        return 'z';
    return block[0];
}

static bool is_soon(char wanted, int fd, off_t offset)
{
    for (int i = 0; i < 1000; i++) {
        if (first_byte(fd, offset) == wanted)
            return true;
        usleep(10 * 1000);
    }
    return false;
}

/* The map can still be read. So the pool goes back to its last good map, in which blocks are missing
 * that were written since, and shows zeros there until the watcher puts the error target in place. */
static void the_watcher_fails_a_volume_whose_map_takes_no_writes(void **state)
{
    (void)state;
    static _Alignas(BLOCK_BYTES) char block[BLOCK_BYTES] = "x";
    const off_t safe = 40 * (off_t)MIB, unsafe = 20 * (off_t)MIB;
    create("a", INTEGRITY_AEGIS128, "", 64 * MIB);
    must(stage_request("a"), NULL);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    auto_close int fd = open(device_of("a").path, O_RDWR | O_DIRECT | O_CLOEXEC);
    assert_int_equal(BLOCK_BYTES, pwrite(fd, block, BLOCK_BYTES, safe));
    assert_int_equal(0, fsync(fd));
    char map[160];
    (void)snprintf(map, sizeof(map), "flakey %s-crypt %u 0 1000 1 error_writes",
                   device_of("a").path, LAYOUT_RESERVED_BYTES / SECTOR_BYTES);
    replace_layer("-map", map);
    pid_t watcher = front_worker(&front);
    assert_true(watcher > 0 && kill(watcher, SIGSTOP) == 0);
    assert_int_equal(BLOCK_BYTES, pwrite(fd, block, BLOCK_BYTES, unsafe));
    assert_int_equal('x', first_byte(fd, unsafe));
    /* Without the watcher there are zeros. */
    assert_true(is_soon('z', fd, unsafe));
    assert_int_equal(0, kill(watcher, SIGCONT));
    expect_event(watch, BLOCK_EVENT_FAILED);
    assert_int_equal(0, first_byte(fd, unsafe));
    assert_int_equal(0, first_byte(fd, safe));
    /* Another worker was changing the layer at the same moment, and its table became live last. */
    replace_layer("", "zero");
    assert_true(is_soon(0, fd, unsafe));
    close_at(&fd);
    close_at(&watch);
    must(unstage_request("a"), NULL);
    must(stage_request("a"), NULL);
    fd = open(device_of("a").path, O_RDWR | O_DIRECT | O_CLOEXEC);
    assert_int_equal('x', first_byte(fd, safe));
    close_at(&fd);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void what_is_not_ours_is_refused(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_NONE);
    assert_int_equal(0, symlink("/tmp", front_path(&front, "mnt/link")));
    const char *const bad[] = { "local/x", "mnt/../x", "mnt/link/x", "mnt/./x", "mnt" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(publish_request("a", bad[i]), ERROR_INVALID_ARGUMENT);
        refused(with_path(front_request(BLOCK_UNPUBLISH, "a"), bad[i]), ERROR_INVALID_ARGUMENT);
        refused(with_path(front_request(BLOCK_UNLINK, "a"), bad[i]), ERROR_INVALID_ARGUMENT);
        refused(with_path(front_request(BLOCK_SOCKET, "a"), bad[i]), ERROR_INVALID_ARGUMENT);
        refused(with_path(front_request(BLOCK_STATS, "a"), bad[i]), ERROR_NOT_FOUND);
    }
    refused(publish_request("a", "mnt/stage-a/file"), ERROR_INVALID_ARGUMENT);
    refused(with_path(front_request(BLOCK_UNPUBLISH, "a"), "mnt/stage-a/file"),
            ERROR_INVALID_ARGUMENT);
    refused(with_path(front_request(BLOCK_UNLINK, "a"), "mnt/stage-a/file"),
            ERROR_INVALID_ARGUMENT);
    expect_text("mnt/stage-a/file", "hello");
    refused(with_path(front_request(BLOCK_SOCKET, "a"), "mnt/other.sock"),
            ERROR_INVALID_ARGUMENT); /* not one that this tdvol-blockd was started with */

    create("b", INTEGRITY_NONE, "ext4", 32 * MIB);
    refused(publish_request("b", "mnt/target"), ERROR_FAILED_PRECONDITION);
    refused(with_path(stage_request("b"), "mnt/stage-a/../x"), ERROR_INVALID_ARGUMENT);
    struct block_request *stage = stage_request("b");
    (void)snprintf(stage->mount_flags, sizeof(stage->mount_flags), "logdev=/dev/loop0");
    refused(stage, ERROR_INVALID_ARGUMENT);
    (void)snprintf(stage->fs_type, sizeof(stage->fs_type), "vfat");
    refused(stage, ERROR_INVALID_ARGUMENT);
    (void)snprintf(stage->fs_type, sizeof(stage->fs_type), "xfs");
    stage->mount_flags[0] = 0;
    refused(stage, ERROR_FAILED_PRECONDITION);
    /* The worker refuses the id even when the broker has such a volume. */
    front_add(&front, "../a", INTEGRITY_NONE, "", 32 * MIB);
    refused(front_request(BLOCK_STAGE, "../a"), ERROR_INVALID_ARGUMENT);
    refused(front_request(BLOCK_STAGE, ""), ERROR_INVALID_ARGUMENT);
    refused(front_request(BLOCK_STAGE, "unknown"), ERROR_NOT_FOUND);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void without_the_broker_nothing_opens_and_everything_closes(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    create("b", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    front.broker_down = true;
    refused(stage_request("b"), ERROR_UNAVAILABLE);
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    assert_int_equal(0, count_in("/dev/mapper", "tdvol-"));
    front.broker_down = false;
    assert_false(front_record(&front, "a")->is_closed);
    must(unstage_request("a"), NULL); /* the broker is told now */
    assert_true(front_record(&front, "a")->is_closed && front_record(&front, "a")->has_clean_hash);
    expect_nothing_left();
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
}

static const char *missing(void)
{
    static struct block_result result;

    must(front_request(BLOCK_PROBE, ""), &result);
    return result.probe.missing;
}

static void run_shell(const char *script)
{
    const char *argv[] = { "sh", "-c", script, NULL };
    struct error err = ERROR_INIT;

    if (!process_must(argv, 20000, 0, &err))
        fail_msg("%s", err.text);
}

/* Not on the machine of whoever runs these tests without a test kernel. */
static void need_own_kernel(void)
{
    if (access("/run/vm/task", F_OK) != 0)
        skip();
}

static void a_missing_control_node_is_made(void **state)
{
    (void)state;
    need_own_kernel();
    run_shell("rm -r /dev/mapper");
    assert_null(strstr(missing(), "device-mapper"));
    run_shell("test -c /dev/mapper/control");
    run_shell("rm -r /dev/mapper");
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    assert_false(front_receive(&front, watch, 2000)); /* it watches */
    run_shell("test -c /dev/mapper/control");
}

/* Runs first: later, this process itself has /dev/mapper/control open. */
static void a_kernel_without_device_mapper_is_told_in_one_sentence(void **state)
{
    (void)state;
    need_own_kernel();
    assert_int_equal(0, front_stop(&front));
    run_shell("modprobe -r dm-log-writes dm-clone dm-zero dm-snapshot dm-flakey dm-dust dm-delay "
              "dm-thin-pool dm-verity dm-crypt dm-integrity dm-mod");
    front_start_again(&front);
    assert_non_null(strstr(missing(), "modprobe dm-mod"));
    assert_null(strstr(missing(), "aegis128"));
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    assert_true(front_receive(&front, watch, 20000));
    assert_int_equal(BLOCK_DONE, front.last.kind);
    assert_non_null(strstr(front.last.err.text, "modprobe dm-mod"));
    run_shell("modprobe -a dm-mod dm-crypt dm-integrity dm-snapshot dm-thin-pool");
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_kernel_without_device_mapper_is_told_in_one_sentence,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(what_is_not_ours_is_refused, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(without_the_broker_nothing_opens_and_everything_closes,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(the_watcher_tells_of_damage, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(the_watcher_tells_of_a_file_system_that_shut_down,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(the_watcher_tells_of_writes_that_failed, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_broken_map_ends_in_errors_and_never_in_zeros, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(the_watcher_fails_a_volume_whose_map_takes_no_writes,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_missing_control_node_is_made, steps_start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
