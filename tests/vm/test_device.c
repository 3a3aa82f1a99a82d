/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "base/process.h"
#include "crypt/table.h"
#include "record/layout.h"
#include "tests/vm/driver_below.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Volumes whose raw space is a block device that another driver has published at its place. */

#define SIZE (32 * MIB) /* of every volume */

static void sha256_of_file(const char *path, uint8_t out[static SHA256_LEN])
{
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    sync();
    if (!file_read(path, 256 * MIB, &bytes, &len, &err) || !sha256(bytes, len, out, &err))
        fail_msg("%s", err.text);
}

static void a_volume_lives_on_whatever_number_its_disk_has(void **state)
{
    (void)state;
    static struct block_result result;
    for (int with_tags = 0; with_tags < 2; with_tags++) {
        dev_t first = live_volume(with_tags ? INTEGRITY_AEGIS128 : INTEGRITY_NONE)->number;

        must(stage_request("a"), &result);
        assert_true(result.already);
        must(front_request(BLOCK_INSPECT, "a"), &result);
        assert_true(result.status.is_active && result.has_place);
        must(unstage_request("a"), &result);
        assert_true(result.has_place);
        assert_true(front_record(&front, "a")->is_closed);
        unpublish_node("a");
        must(unstage_request("a"), &result);
        assert_true(result.already);
        assert_false(result.has_place);
        detach();
        (void)attach("b", 8 * MIB); /* takes the number */
        const struct scsi_disk *again = attach("a", 0);
        assert_true(again->number != first);
        publish_node("a", again->path);
        must(stage_request("a"), NULL);
        expect_text("mnt/stage-a/file", "hello");
        end_volume_and_disk();
        detach();
        expect_nothing_left();
        front.n_volumes = 0;
        assert_int_equal(0, unlink(file_of("a")));
    }
}

/* The worker looks only at what is at the place, and follows no link. */
static void what_is_no_device_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    add("a", INTEGRITY_AEGIS128, "ext4");
    const struct device_place place = place_of_volume("a");
    refused(stage_request("a"), ERROR_NOT_FOUND); /* no place */
    must(front_request(BLOCK_PLACE, "a"), NULL);
    refused(stage_request("a"), ERROR_NOT_FOUND); /* no device */
    assert_true(file_write(place.device, 0600, "", 0, &err));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is no block device");
    assert_int_equal(0, unlink(place.device));
    assert_int_equal(0, mkdir(place.device, 0700));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is no block device");
    assert_int_equal(0, rmdir(place.device));
    assert_int_equal(0, mknod(place.device, S_IFCHR | 0600, makedev(1, 5)));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is no block device");
    assert_int_equal(0, unlink(place.device));
    assert_int_equal(0, mkfifo(place.device, 0600));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is no block device");
    assert_int_equal(0, unlink(place.device));
    const struct scsi_disk *disk = attach("a", device_bytes("a"));
    assert_int_equal(0, symlink(disk->path, place.device));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is no block device");
    assert_int_equal(0, unlink(place.device));
    /* A number that no disk has. */
    assert_int_equal(0, mknod(place.device, S_IFBLK | 0600, makedev(8, 250)));
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "has left this node");
    assert_int_equal(0, unlink(place.device));
    /* A node that the other driver has made itself. */
    assert_int_equal(0, mknod(place.device, S_IFBLK | 0600, disk->number));
    must(stage_request("a"), NULL);
    must(unstage_request("a"), NULL);
    assert_int_equal(0, unlink(place.device));
    must(front_request(BLOCK_UNPLACE, "a"), NULL);
    detach();
    expect_nothing_left();
}

/* The worker refuses before it asks the other driver, which this tdvol-blockd does not have. */
static void a_front_takes_no_device_from_an_open_volume(void **state)
{
    (void)state;
    static const uint32_t methods[] = { BLOCK_NODE_UNPUBLISH, BLOCK_NODE_UNSTAGE };

    live_volume(INTEGRITY_AEGIS128);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct block_request *request = front_request(BLOCK_UPSTREAM_CALL, "a");

        request->upstream.method = methods[i];
        refused_with(request, ERROR_FAILED_PRECONDITION, "the volume is open");
    }
    must(unstage_request("a"), NULL);
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        struct block_request *request = front_request(BLOCK_UPSTREAM_CALL, "a");

        request->upstream.method = methods[i];
        refused_with(request, ERROR_FAILED_PRECONDITION, "there is no other driver");
    }
    unpublish_node("a");
    detach();
    expect_nothing_left();
}

/* Makes a mapping that is not of ours. */
static void map_over(const struct scsi_disk *disk, uint64_t bytes)
{
    auto_free struct table *table = NULL;
    struct error err = ERROR_INIT;

    if (!table_new(&table, &err) ||
        !table_add(table, bytes / SECTOR_BYTES, &err, "linear", "%u:%u 0", major(disk->number),
                   minor(disk->number)) ||
        !table_create("not-ours", table, false, &err))
        fail_msg("%s", err.text);
}

static void a_device_in_use_is_named(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    char elsewhere[PATH_MAX], words[PATH_MAX + 32];
    add("a", INTEGRITY_AEGIS128, "ext4");
    const struct scsi_disk *disk = attach("a", device_bytes("a"));
    publish_node("a", disk->path);
    auto_close int fd = open(disk->path, O_RDONLY | O_EXCL | O_CLOEXEC);
    assert_true(fd >= 0);
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is in use by another program");
    close_at(&fd);

    map_over(disk, MIB);
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is in use by mapping not-ours");
    assert_true(table_remove("not-ours", &err));

    const char *mkfs[] = { "mkfs.ext4", "-q", disk->path, NULL };
    assert_true(process_must(mkfs, 60000, 0, &err));
    (void)snprintf(elsewhere, sizeof(elsewhere), "%s", front_path(&front, "mnt/elsewhere"));
    assert_true(file_make_dirs(elsewhere, 0700, &err));
    assert_int_equal(0, mount(disk->path, elsewhere, "ext4", 0, NULL));
    (void)snprintf(words, sizeof(words), "is mounted at %s", elsewhere);
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, words);
    assert_int_equal(0, umount(elsewhere));

    /* It holds something, and the volume is new. */
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "ext4");
    unpublish_node("a");
    detach();
    expect_nothing_left();
}

/* Such as a logical volume. */
static void the_device_may_be_a_mapping_itself(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    add("a", INTEGRITY_AEGIS128, "ext4");
    const struct scsi_disk *disk = attach("a", device_bytes("a"));
    map_over(disk, device_bytes("a"));
    publish_node("a", "/dev/mapper/not-ours");
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    assert_false(front_receive(&front, watch, 6000));
    must(unstage_request("a"), NULL);
    close_at(&watch);
    unpublish_node("a");
    assert_true(table_remove("not-ours", &err));
    detach();
    expect_nothing_left();
}

static void a_disk_that_is_too_small_is_refused(void **state)
{
    (void)state;
    char words[96];
    add("a", INTEGRITY_AEGIS128, "ext4");
    (void)snprintf(words, sizeof(words), "has %llu bytes, the volume needs %llu",
                   (unsigned long long)(device_bytes("a") - MIB),
                   (unsigned long long)device_bytes("a"));
    publish_node("a", attach("a", device_bytes("a") - MIB)->path);
    refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, words);
    unpublish_node("a");
    detach();
    expect_nothing_left();
}

/* The driver published the disk of another volume. Nothing is written to it. */
static void the_disk_of_another_volume_stays_as_it_is(void **state)
{
    (void)state;
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    (void)live_volume(INTEGRITY_AEGIS128);
    end_volume_and_disk();
    add("b", INTEGRITY_AEGIS128, "ext4");
    publish_node("b", attach("b", device_bytes("b"))->path);
    must(stage_request("b"), NULL);
    must(unstage_request("b"), NULL);
    unpublish_node("b");
    detach();

    sha256_of_file(file_of("b"), before);
    publish_node("a", attach("b", 0)->path);
    refused(stage_request("a"), ERROR_DATA_LOSS); /* a READY volume */
    unpublish_node("a");
    add("c", INTEGRITY_AEGIS128, "ext4");
    publish_node("c", disks[0].path);
    refused(stage_request("c"), ERROR_FAILED_PRECONDITION); /* a new one */
    unpublish_node("c");
    detach();
    sha256_of_file(file_of("b"), after);
    assert_memory_equal(before, after, SHA256_LEN);
    expect_nothing_left();
}

static void a_read_only_open_changes_nothing(void **state)
{
    (void)state;
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    static struct block_result result;
    for (int read_only_disk = 0; read_only_disk < 2; read_only_disk++) {
        (void)live_volume(INTEGRITY_AEGIS128);
        end_volume_and_disk();
        sha256_of_file(file_of("a"), before);
        scsi_attach(&disks[n_disks++], file_of("a"), 0, read_only_disk);
        publish_node("a", disks[0].path);
        if (read_only_disk)
            refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "is read-only");
        struct block_request *request = stage_request("a");
        request->read_only = true;
        front.opens_read_only = true;
        must(request, NULL);
        must(front_request(BLOCK_INSPECT, "a"), &result);
        assert_true(result.status.is_read_only);
        expect_text("mnt/stage-a/file", "hello");
        end_volume_and_disk();
        front.opens_read_only = false;
        sha256_of_file(file_of("a"), after);
        assert_memory_equal(before, after, SHA256_LEN);
        expect_nothing_left();
        front.n_volumes = 0;
        unlink(file_of("a"));
    }
}

static void a_disk_grows_in_use(void **state)
{
    (void)state;
    static struct block_result result;
    struct error err = ERROR_INIT;
    const struct scsi_disk *disk = live_volume(INTEGRITY_AEGIS128);
    struct block_request *expand = with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a");
    assert_true(layout_plan_growth(&front_record(&front, "a")->spec, 2 * SIZE, &err));
    refused_with(expand, ERROR_FAILED_PRECONDITION, "the volume needs");
    scsi_grow(disk, file_of("a"), device_bytes("a"));
    /* The kernel sees the new size while the worker waits. */
    pid_t child = fork();
    if (child == 0) {
        usleep(1500000);
        scsi_rescan(disk);
        _exit(0);
    }
    must(with_path(front_request(BLOCK_EXPAND, "a"), "mnt/stage-a"), &result);
    assert_int_equal(child, waitpid(child, NULL, 0));
    assert_int_equal(2 * SIZE, result.size_bytes);
    assert_int_equal(2 * SIZE, device_of("a").size_bytes);
    expect_text("mnt/stage-a/file", "hello");
    end_volume_and_disk();
    expect_nothing_left();
}

/* Repeats the operation when the worker died, as a CO does. */
static bool retried(const struct block_request *request)
{
    static struct block_request kept;
    struct error err = ERROR_INIT;
    bool died = false;

    kept = *request;
    for (int i = 0; i < 100; i++) {
        if (front_call(&front, &kept, NULL, &err))
            return died;
        if (err.code != ERROR_CANCELLED && err.code != ERROR_ABORTED)
            break;
        died = died || err.code == ERROR_CANCELLED;
        usleep(50000);
    }
    fail_msg("operation %u: %s: %s", kept.operation, error_code_name(err.code), err.text);
    return false;
}

/* One life on a disk. True when a worker died. */
static bool live_once(void)
{
    struct error err = ERROR_INIT;
    const struct device_place place = place_of_volume("a");
    bool died = false;

    add("a", INTEGRITY_AEGIS128, "ext4");
    const struct scsi_disk *disk = attach("a", device_bytes("a"));
    for (int i = 0; i < 2; i++) {
        died |= retried(front_request(BLOCK_PLACE, "a"));
        assert_true(file_write(place.device, 0600, "", 0, &err));
        assert_int_equal(0, mount(disk->path, place.device, NULL, MS_BIND, NULL));
        died |= retried(stage_request("a"));
        if (i == 0)
            write_text("mnt/stage-a/file", "hello");
        expect_text("mnt/stage-a/file", "hello");
        died |= retried(unstage_request("a"));
        assert_int_equal(0, umount(place.device));
        died |= retried(front_request(BLOCK_UNPLACE, "a"));
    }
    assert_true(front_record(&front, "a")->is_closed);
    detach();
    expect_nothing_left();
    assert_int_equal(0, count_in(front_path(&front, "upstream"), "tdvol-"));
    front.n_volumes = 0;
    unlink(file_of("a"));
    return died;
}

static void workers_that_die_leave_nothing(void **state)
{
    (void)state;
    static const char *const points[] = { "worker.place.folder",   "worker.unplace.device",
                                          "worker.unplace.stage",  "worker.device.published",
                                          "worker.stage.attached", "worker.stage.activated",
                                          "worker.unstage.kept",   "worker.unstage.deactivated" };
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        char rule[96];

        (void)snprintf(rule, sizeof(rule), "%s:kill", points[i]);
        steps_set_fault(rule);
        assert_true(live_once());
    }
    steps_set_fault(NULL);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_volume_lives_on_whatever_number_its_disk_has,
                                        driver_start, driver_end),
        cmocka_unit_test_setup_teardown(what_is_no_device_is_refused, driver_start, driver_end),
        cmocka_unit_test_setup_teardown(a_front_takes_no_device_from_an_open_volume, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_device_in_use_is_named, driver_start, driver_end),
        cmocka_unit_test_setup_teardown(the_device_may_be_a_mapping_itself, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_disk_that_is_too_small_is_refused, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(the_disk_of_another_volume_stays_as_it_is, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_read_only_open_changes_nothing, driver_start, driver_end),
        cmocka_unit_test_setup_teardown(a_disk_grows_in_use, driver_start, driver_end),
        cmocka_unit_test_setup_teardown(workers_that_die_leave_nothing, driver_start, driver_end),
    };

    setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1);
    steps_set_fault(NULL);
    scsi_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scsi_end();
    return failed;
}
