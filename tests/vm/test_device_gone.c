/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "crypt/layer.h"
#include "tests/vm/driver_below.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The device of a volume leaves the node while the volume is staged. */

#define GONE_MS 12000u /* the watcher looks every five seconds */

/* Requests may fail before the disk is gone for the kernel: then the map has failed before. */
static void expect_gone(int watch)
{
    uint64_t until_ms = clock_now_ms() + GONE_MS;

    do {
        assert_true(clock_now_ms() < until_ms);
        assert_true(front_receive(&front, watch, GONE_MS));
        assert_int_equal(BLOCK_EVENT, front.last.kind);
        assert_string_equal("a", front.last.volume_id);
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
    static _Alignas(4096) char block[4096];
    auto_close int fd = open(device_of("a").path, O_RDONLY | O_DIRECT | O_CLOEXEC);

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

/* Nobody watches, and the file system is still in use: the key goes all the same. */
static void unstaging_does_not_wait_for_the_watcher(void **state)
{
    (void)state;
    dev_t number = live_volume(INTEGRITY_AEGIS128)->number;
    auto_close int fd = open(front_path(&front, "mnt/stage-a/file"), O_RDONLY | O_CLOEXEC);
    sync();
    pid_t writer = start_writer();
    usleep(300000);
    detach();
    stop_writer(writer);
    refused(unstage_request("a"), ERROR_ABORTED);
    expect_let_go(number);
    close_at(&fd);
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    expect_nothing_left();
}

static void an_agent_does_not_keep_a_device_that_is_gone(void **state)
{
    (void)state;
    (void)live_volume(INTEGRITY_AEGIS128);
    pid_t agent = start_agent();
    sync();
    detach();
    must(unstage_request("a"), NULL);
    unpublish_node("a");
    expect_nothing_left();
    end_agent(agent);
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

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_disk_that_vanishes_is_let_go_and_comes_back, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_volume_that_was_taken_away_is_closed_all_the_same,
                                        driver_start, driver_end),
        cmocka_unit_test_setup_teardown(a_disk_that_is_back_is_staged_anew, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_volume_that_is_open_read_only_is_let_go_too, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_disk_that_the_kernel_has_given_up_is_gone, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(a_disk_that_went_away_meanwhile_is_let_go_at_the_start,
                                        driver_start, driver_end),
        cmocka_unit_test_setup_teardown(an_agent_does_not_keep_a_device_that_is_gone, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(unstaging_does_not_wait_for_the_watcher, driver_start,
                                        driver_end),
        cmocka_unit_test_setup_teardown(the_watcher_leaves_healthy_volumes_alone, driver_start,
                                        driver_end),
    };

    scsi_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    scsi_end();
    return failed;
}
