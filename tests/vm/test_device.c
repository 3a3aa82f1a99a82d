/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/process.h"
#include "blockd/place.h"
#include "crypt/layer.h"
#include "record/layout.h"
#include "tests/vm/scsi.h"
#include "tests/vm/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
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

/* Volumes whose raw space is a block device that another driver has published at its place. The tests
 * play that driver; the disks are real SCSI disks. */

#define SIZE      (32 * MIB)
#define GONE_MS   12000u /* the watcher looks every five seconds */
#define DISKS_MAX 4

static struct scsi_disk disks[DISKS_MAX];
static size_t n_disks;

/* --- the other driver --- */

static const char *file_of(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];
    const char *folder = getenv("TDVOL_VM_SCRATCH");

    (void)snprintf(path, PATH_MAX, "%s/%s.disk", folder ? folder : "/tmp", name);
    return path;
}

static struct volume_name name_of(const char *volume_id)
{
    struct volume_name name;
    struct error err = ERROR_INIT;

    assert_true(volume_name_make("test.tdvol", volume_id, &name, &err));
    return name;
}

static struct device_place place_of_volume(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct device_place place;
    struct error err = ERROR_INIT;

    assert_true(place_of(front_path(&front, "upstream"), &name, &place, &err));
    return place;
}

static void publish_node(const char *volume_id, const char *node)
{
    const struct device_place place = place_of_volume(volume_id);
    struct error err = ERROR_INIT;

    must(front_request(BLOCK_PLACE, volume_id), NULL);
    assert_true(file_write(place.device, 0600, "", 0, &err));
    assert_int_equal(0, mount(node, place.device, NULL, MS_BIND, NULL));
}

static void unpublish_node(const char *volume_id)
{
    const struct device_place place = place_of_volume(volume_id);

    assert_int_equal(0, umount2(place.device, MNT_DETACH));
    assert_int_equal(0, unlink(place.device));
    must(front_request(BLOCK_UNPLACE, volume_id), NULL);
}

static struct scsi_disk *attach(const char *name, uint64_t size_bytes)
{
    struct scsi_disk *disk = &disks[n_disks++];

    assert_true(n_disks <= DISKS_MAX);
    scsi_attach(disk, file_of(name), size_bytes, false);
    return disk;
}

/* The newest disk. */
static void detach(void)
{
    scsi_detach(&disks[--n_disks]);
}

/* A record of a volume of the other driver. */
static void add(const char *volume_id, enum integrity integrity, const char *fs_type)
{
    front_add(&front, volume_id, integrity, fs_type, SIZE);
    front_record(&front, volume_id)->spec.backing = BACKING_DEVICE;
}

static uint64_t device_bytes(const char *volume_id)
{
    return front_record(&front, volume_id)->spec.device_bytes;
}

static void sha256_of_file(const char *path, uint8_t out[static SHA256_LEN])
{
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    sync();
    if (!file_read(path, 256 * MIB, &bytes, &len, &err) || !sha256(bytes, len, out, &err))
        fail_msg("%s", err.text);
}

/* Attached, published, staged, with "hello" in its file system. */
static struct scsi_disk *live_volume(enum integrity integrity)
{
    add("a", integrity, "ext4");
    struct scsi_disk *disk = attach("a", device_bytes("a"));
    publish_node("a", disk->path);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    return disk;
}

static void end_volume_and_disk(void)
{
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    detach();
}

static int start(void **state)
{
    n_disks = 0;
    return steps_start(state);
}

static int end(void **state)
{
    while (n_disks > 0)
        detach();
    unlink(file_of("a"));
    unlink(file_of("b"));
    return steps_end(state);
}

/* Refused, with these words in the error. */
static void refused_with(const struct block_request *request, enum error_code code,
                         const char *words)
{
    struct error err = ERROR_INIT;
    bool done = front_call(&front, request, NULL, &err);

    if (done || err.code != code || !strstr(err.text, words))
        fail_msg("%s: %s, not \"%s\"", done ? "done" : error_code_name(err.code), err.text, words);
}

/* --- staging --- */

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

/* --- the device goes away --- */

static void expect_gone(int watch)
{
    uint64_t until_ms = clock_now_ms() + GONE_MS;

    do {
        assert_true(clock_now_ms() < until_ms);
        assert_true(front_receive(&front, watch, GONE_MS));
        assert_int_equal(BLOCK_EVENT, front.last.kind);
        assert_string_equal("a", front.last.volume_id);
        assert_int_not_equal(BLOCK_EVENT_FAILED, front.last.event);
    } while (front.last.event != BLOCK_EVENT_DEVICE_GONE);
}

/* No layer has the key any more, and nothing holds the disk. */
static void expect_let_go(dev_t number)
{
    const struct volume_name name = name_of("a");
    struct table_target crypt;
    struct error err = ERROR_INIT;
    bool exists = false;
    char path[64];

    assert_true(layer_find_status(&name, LAYER_CRYPT, &exists, &crypt, &err));
    assert_true(exists);
    assert_string_equal("error", crypt.type);
    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(number),
                   minor(number));
    assert_int_equal(0, count_in(path, "dm-"));
}

static void expect_errors(void)
{
    auto_close int fd = open(device_of("a").path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    static _Alignas(4096) char block[4096];

    assert_int_equal(-1, pread(fd, block, sizeof(block), 0));
}

/* Writes all the time, until it gets an error. */
static pid_t start_writer(void)
{
    char path[256];
    pid_t child;

    (void)snprintf(path, sizeof(path), "%s", front_path(&front, "mnt/stage-a/busy"));
    child = fork();
    if (child != 0)
        return child;
    static char block[65536];
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (off_t at = 0;; at = (at + (off_t)sizeof(block)) % (8 * (off_t)MIB))
        if (pwrite(fd, block, sizeof(block), at) < 0 || fsync(fd) != 0)
            _exit(0);
}

static void stop_writer(pid_t writer)
{
    for (int i = 0; i < 500 && waitpid(writer, NULL, WNOHANG) == 0; i++)
        usleep(20000);
    assert_int_equal(-1, kill(writer, 0));
}

/* The controller has taken the volume away from this node. */
static void take_lease(void)
{
    front_record(&front, "a")->lease = (struct record_lease){ .opened_ms = 0 };
}

/* As after a forced detach. The pods end, the volume is unstaged, and comes back. */
static void a_disk_that_vanishes_is_let_go_and_comes_back(void **state)
{
    (void)state;
    static const enum integrity modes[] = { INTEGRITY_AEGIS128, INTEGRITY_NONE };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        dev_t number = live_volume(modes[i])->number;
        sync();
        must(publish_request("a", "mnt/target"), NULL);
        auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
        usleep(300000);
        pid_t writer = start_writer();
        usleep(300000);
        detach();
        expect_gone(watch);
        stop_writer(writer);
        expect_let_go(number);
        expect_errors();
        refused_with(stage_request("a"), ERROR_FAILED_PRECONDITION, "has left this node");
        const struct scsi_disk *other = attach("b", device_bytes("a"));
        assert_int_equal(number, other->number); /* the number is free */
        take_lease();
        simple(BLOCK_UNPUBLISH, "a", "mnt/target");
        must(unstage_request("a"), NULL);
        unpublish_node("a");
        close_at(&watch);
        detach();
        expect_nothing_left();

        publish_node("a", attach("a", 0)->path);
        must(stage_request("a"), NULL);
        expect_text("mnt/stage-a/file", "hello");
        end_volume_and_disk();
        expect_nothing_left();
        front.n_volumes = 0;
        unlink(file_of("a"));
    }
}

/* The node keeps how the volume ended, which the broker does not want to know any more: an older copy
 * of the disk must not come back. */
static void a_volume_that_was_taken_away_is_closed_all_the_same(void **state)
{
    (void)state;
    (void)live_volume(INTEGRITY_AEGIS128);
    take_lease();
    end_volume_and_disk();
    assert_false(front_record(&front, "a")->is_closed);
    assert_int_equal(2, count_in(front_path(&front, "state"), "tdvol-")); /* and a lock */
    publish_node("a", attach("a", 0)->path);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    end_volume_and_disk();
    assert_true(front_record(&front, "a")->is_closed);
    expect_nothing_left();
}

/* Nobody unstaged the volume; its pods are gone. */
static void a_disk_that_is_back_is_staged_anew(void **state)
{
    (void)state;
    static struct block_result result;
    (void)live_volume(INTEGRITY_AEGIS128);
    sync();
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    usleep(300000);
    detach();
    expect_gone(watch);
    const struct device_place place = place_of_volume("a");
    assert_int_equal(0, umount2(place.device, MNT_DETACH));
    publish_node("a", attach("a", 0)->path);
    must(stage_request("a"), &result);
    assert_false(result.already);
    expect_text("mnt/stage-a/file", "hello");
    close_at(&watch);
    end_volume_and_disk();
    expect_nothing_left();
}

static void a_volume_that_is_open_read_only_is_let_go_too(void **state)
{
    (void)state;
    (void)live_volume(INTEGRITY_AEGIS128);
    end_volume_and_disk();
    const struct scsi_disk *disk = attach("a", 0);
    dev_t number = disk->number;
    publish_node("a", disk->path);
    struct block_request *request = stage_request("a");
    request->read_only = true;
    front.opens_read_only = true;
    must(request, NULL);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    usleep(300000);
    detach();
    expect_gone(watch);
    expect_let_go(number);
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    close_at(&watch);
    expect_nothing_left();
}

static void a_disk_that_the_kernel_has_given_up_is_gone(void **state)
{
    (void)state;
    const struct scsi_disk *disk = live_volume(INTEGRITY_AEGIS128);
    sync();
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    usleep(300000);
    scsi_set_state(disk, "offline");
    expect_gone(watch);
    expect_let_go(disk->number);
    close_at(&watch);
    scsi_set_state(disk, "running");
    must(unstage_request("a"), NULL);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    end_volume_and_disk();
    expect_nothing_left();
}

/* It went away while tdvol-blockd was down. */
static void a_disk_that_went_away_meanwhile_is_let_go_at_the_start(void **state)
{
    (void)state;
    dev_t number = live_volume(INTEGRITY_AEGIS128)->number;
    sync();
    assert_int_equal(0, front_stop(&front));
    detach();
    front_start_again(&front);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    expect_gone(watch);
    expect_let_go(number);
    close_at(&watch);
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    expect_nothing_left();
}

static void unstaging_does_not_wait_for_the_watcher(void **state)
{
    (void)state;
    (void)live_volume(INTEGRITY_AEGIS128);
    sync();
    pid_t writer = start_writer();
    usleep(300000);
    detach();
    stop_writer(writer);
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    expect_nothing_left();
}

/* A volume that is well is left alone, whatever happens to the number of its disk. */
static void the_watcher_leaves_healthy_volumes_alone(void **state)
{
    (void)state;
    (void)live_volume(INTEGRITY_AEGIS128);
    auto_close int watch = front_send(&front, front_request(BLOCK_WATCH, ""));
    for (int i = 0; i < 4; i++) {
        must(unstage_request("a"), NULL);
        unpublish_node("a");
        detach();
        publish_node("a", attach("a", 0)->path);
        must(stage_request("a"), NULL);
        assert_false(front_receive(&front, watch, 3000));
    }
    write_text("mnt/stage-a/file", "well");
    close_at(&watch);
    end_volume_and_disk();
    expect_nothing_left();
}

/* --- workers that die --- */

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
        cmocka_unit_test_setup_teardown(a_volume_lives_on_whatever_number_its_disk_has, start, end),
        cmocka_unit_test_setup_teardown(what_is_no_device_is_refused, start, end),
        cmocka_unit_test_setup_teardown(a_device_in_use_is_named, start, end),
        cmocka_unit_test_setup_teardown(the_device_may_be_a_mapping_itself, start, end),
        cmocka_unit_test_setup_teardown(a_disk_that_is_too_small_is_refused, start, end),
        cmocka_unit_test_setup_teardown(the_disk_of_another_volume_stays_as_it_is, start, end),
        cmocka_unit_test_setup_teardown(a_read_only_open_changes_nothing, start, end),
        cmocka_unit_test_setup_teardown(a_disk_grows_in_use, start, end),
        cmocka_unit_test_setup_teardown(a_disk_that_vanishes_is_let_go_and_comes_back, start, end),
        cmocka_unit_test_setup_teardown(a_volume_that_was_taken_away_is_closed_all_the_same, start,
                                        end),
        cmocka_unit_test_setup_teardown(a_disk_that_is_back_is_staged_anew, start, end),
        cmocka_unit_test_setup_teardown(a_volume_that_is_open_read_only_is_let_go_too, start, end),
        cmocka_unit_test_setup_teardown(a_disk_that_the_kernel_has_given_up_is_gone, start, end),
        cmocka_unit_test_setup_teardown(a_disk_that_went_away_meanwhile_is_let_go_at_the_start,
                                        start, end),
        cmocka_unit_test_setup_teardown(unstaging_does_not_wait_for_the_watcher, start, end),
        cmocka_unit_test_setup_teardown(the_watcher_leaves_healthy_volumes_alone, start, end),
        cmocka_unit_test_setup_teardown(workers_that_die_leave_nothing, start, end),
    };

    setenv("TDVOL_FAULT", "@" STEPS_FAULT_FILE, 1);
    steps_set_fault(NULL);
    scsi_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scsi_end();
    return failed;
}
