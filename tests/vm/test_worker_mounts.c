/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "crypt/table.h"
#include "tests/vm/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* Mounts that are not as the worker left them: file systems that failed, and other users. */

/* XFS and ext4 have the same call. Nothing reaches the disk any more. */
#define SHUTDOWN        _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_LOG 2u
#define XFS_BYTES       (320 * MIB)

static void shut_down(const char *path)
{
    uint32_t how = SHUTDOWN_NO_LOG;
    int fd = open(front_path(&front, path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(0, ioctl(fd, SHUTDOWN, &how));
    close(fd);
}

static void refused_for(const struct block_request *request, const char *reason, const char *word)
{
    struct error err = ERROR_INIT;
    bool done = front_call(&front, request, NULL, &err);

    if (done || strcmp(err.reason, reason) != 0 || !strstr(err.text, word))
        fail_msg("operation %u: %s %s: %s", request->operation, error_code_name(err.code),
                 err.reason, err.text);
}

static void expect_refusals(const char *reason)
{
    refused_for(publish_request("a", "mnt/target"), reason, "the pods");
    refused_for(publish_request("a", "mnt/other"), reason, "the pods");
    refused_for(stage_request("a"), reason, "the pods");
    must(with_path(front_request(BLOCK_STATS, "a"), "mnt/target"), NULL);
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    assert_int_not_equal(0, access(front_path(&front, "mnt/target"), F_OK));
}

static void live_after_a_shutdown(const char *fs_type)
{
    static struct block_result result;

    create("a", INTEGRITY_NONE, fs_type, XFS_BYTES);
    must(stage_request("a"), NULL);
    must(publish_request("a", "mnt/target"), NULL);
    write_text("mnt/target/file", "hello");
    sync();
    shut_down("mnt/target");
    expect_refusals("FileSystemShutDown");
    must(publish_request("a", "mnt/other"), NULL); /* mounts it again */
    expect_text("mnt/other/file", "hello");
    write_text("mnt/other/file", "again");
    simple(BLOCK_UNPUBLISH, "a", "mnt/other");

    shut_down("mnt/stage-a");
    must(stage_request("a"), &result);
    assert_true(result.already);
    expect_text("mnt/stage-a/file", "again");
    shut_down("mnt/stage-a");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "again");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void an_xfs_that_shut_down_is_unpublished_and_unstaged(void **state)
{
    (void)state;
    live_after_a_shutdown("xfs");
}

static void an_ext4_that_shut_down_is_unpublished_and_unstaged(void **state)
{
    (void)state;
    live_after_a_shutdown("ext4");
}

/* What the kernel does to an ext4 after an error. */
static void make_read_only(const char *path)
{
    assert_int_equal(0, mount(NULL, front_path(&front, path), NULL, MS_REMOUNT | MS_RDONLY, NULL));
}

static void an_ext4_that_became_read_only_is_mounted_again(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(publish_request("a", "mnt/target"), NULL);
    make_read_only("mnt/stage-a");
    expect_refusals("FileSystemReadOnly");
    must(publish_request("a", "mnt/target"), NULL);
    write_text("mnt/target/file", "again");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    make_read_only("mnt/stage-a");
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "more");
    must(unstage_request("a"), NULL);
    expect_nothing_left();

    struct block_request *stage = stage_request("a");
    stage->read_only = true;
    must(stage, NULL);
    must(stage, NULL);
    must(publish_request("a", "mnt/target"), NULL);
    expect_text("mnt/target/file", "more");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_volume_that_somebody_unmounted_is_mounted_again(void **state)
{
    (void)state;
    static struct block_result result;
    stage_with_file("a", INTEGRITY_AEGIS128);
    uint64_t version = front_record(&front, "a")->version;
    assert_int_equal(0, umount(front_path(&front, "mnt/stage-a")));
    must(publish_request("a", "mnt/target"), NULL);
    expect_text("mnt/target/file", "hello");
    assert_int_equal(0, umount(front_path(&front, "mnt/stage-a")));
    assert_int_equal(0, rmdir(front_path(&front, "mnt/stage-a")));
    must(stage_request("a"), &result); /* although it is published */
    assert_true(result.already);
    expect_text("mnt/stage-a/file", "hello");
    assert_int_equal(version, front_record(&front, "a")->version);
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* What somebody sees who has its own mount namespace. */
static int open_as(pid_t agent, const char *path, int flags)
{
    char there[PATH_MAX];

    (void)snprintf(there, sizeof(there), "/proc/%d/root%s", agent, front_path(&front, path));
    return open(there, flags | O_CLOEXEC);
}

static void write_as(pid_t agent, const char *path, const char *text)
{
    struct error err = ERROR_INIT;
    auto_close int fd = open_as(agent, path, O_WRONLY | O_TRUNC);

    assert_true(fd >= 0 && fd_write_all(fd, text, strlen(text), &err));
}

static void expect_cut_off(pid_t agent, const char *path)
{
    auto_close int fd = open_as(agent, path, O_WRONLY);

    if (fd < 0 || write(fd, "lost?", 5) < 0)
        return;
    assert_int_equal(-1, fsync(fd));
    assert_int_equal(EIO, errno);
}

static bool count_left(void *cookie, const char *name UNUSED, uint32_t events UNUSED,
                       struct error *err UNUSED)
{
    (*(unsigned *)cookie)++;
    return true;
}

/* Devices that were left behind. The kernel removes one a moment after the end of its last user. */
static void expect_left(unsigned count)
{
    struct error err = ERROR_INIT;
    unsigned n = count + 1;

    for (int i = 0; i < 100 && n != count; i++) {
        n = 0;
        assert_true(table_each("left-tdvol-", count_left, &n, &err));
        usleep(20000);
    }
    assert_int_equal(count, n);
}

static void expect_clean_close(void)
{
    expect_nothing_left();
    assert_true(front_record(&front, "a")->is_closed);
    assert_false(front_record(&front, "a")->lease.holder.node[0]);
}

static void live_with_agents(enum integrity integrity, const char *fs_type)
{
    static struct block_result result;
    char holder[64];

    create("a", integrity, fs_type, XFS_BYTES);
    must(stage_request("a"), NULL);
    write_text("mnt/stage-a/file", "hello");
    pid_t first = start_agent();
    write_as(first, "mnt/stage-a/file", "written by the first");
    must(unstage_request("a"), &result);
    (void)snprintf(holder, sizeof(holder), "process %d (test_worker_mou", first);
    assert_true(strstr(result.holder, holder));
    expect_clean_close();
    expect_left(1);
    expect_cut_off(first, "mnt/stage-a/file");

    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "written by the first");
    pid_t second = start_agent();
    write_as(second, "mnt/stage-a/file", "written by the second");
    must(unstage_request("a"), NULL);
    expect_clean_close();
    expect_left(2);
    end_agent(second);
    expect_left(1);

    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "written by the second");
    end_agent(first);
    expect_left(0);
    write_text("mnt/stage-a/file", "and on");
    must(unstage_request("a"), &result);
    assert_string_equal("", result.holder);
    expect_clean_close();
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "and on");
    must(unstage_request("a"), NULL);
    must(front_request(BLOCK_DELETE, "a"), NULL);
    front.n_volumes = 0;
}

static void a_volume_that_an_agent_holds_is_closed_all_the_same(void **state)
{
    (void)state;
    live_with_agents(INTEGRITY_AEGIS128, "ext4");
    live_with_agents(INTEGRITY_AEGIS128, "xfs");
    live_with_agents(INTEGRITY_NONE, "ext4");
    live_with_agents(INTEGRITY_NONE, "xfs");
}

/* As a container: it has the volume at a place of its own, and does not see kubelet's folder. */
static bool has_it_as_data(void)
{
    char from[PATH_MAX], at[PATH_MAX];

    (void)snprintf(from, sizeof(from), "%s", front_path(&front, "mnt/stage-a"));
    (void)snprintf(at, sizeof(at), "%s", front_path(&front, "mnt/data"));
    return mkdir(at, 0700) == 0 && mount(from, at, NULL, MS_BIND, NULL) == 0 && umount(from) == 0;
}

static void a_volume_that_a_pod_still_has_stays_open(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    pid_t agent = start_agent();
    pid_t pod = start_agent_that(has_it_as_data);
    refused(unstage_request("a"), ERROR_ABORTED);
    expect_left(0);
    write_as(pod, "mnt/data/file", "it goes on");
    end_agent(pod);
    must(unstage_request("a"), NULL);
    expect_clean_close();
    expect_left(1);
    end_agent(agent);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "it goes on");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* Somebody makes a snapshot, say. Since Linux 6.8 the kernel itself can freeze what is frozen. */
static void a_volume_that_an_agent_has_frozen_is_closed_or_stays_as_it_is(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    stage_with_file("a", INTEGRITY_AEGIS128);
    pid_t agent = start_agent();
    auto_close int fd = open_as(agent, "mnt/stage-a", O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(0, ioctl(fd, FIFREEZE, 0));
    if (front_call(&front, unstage_request("a"), NULL, &err)) {
        expect_clean_close();
        expect_left(1);
        (void)ioctl(fd, FITHAW, 0);
        close_at(&fd);
        end_agent(agent);
        must(stage_request("a"), NULL);
        expect_text("mnt/stage-a/file", "hello");
        must(unstage_request("a"), NULL);
        expect_nothing_left();
        return;
    }
    assert_int_equal(ERROR_ABORTED, err.code);
    expect_left(0);
    assert_int_equal(0, loaded_layers("a"));
    must(stage_request("a"), NULL);
    assert_int_equal(0, ioctl(fd, FITHAW, 0));
    write_text("mnt/stage-a/file", "thawed");
    close_at(&fd);
    must(unstage_request("a"), NULL);
    expect_clean_close();
    end_agent(agent);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "thawed");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_read_only_volume_that_an_agent_holds_is_closed(void **state)
{
    (void)state;
    stage_with_file("a", INTEGRITY_AEGIS128);
    must(unstage_request("a"), NULL);
    struct block_request *stage = stage_request("a");
    stage->read_only = true;
    must(stage, NULL);
    pid_t agent = start_agent();
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    expect_left(1);
    end_agent(agent);
    expect_left(0);
}

static void a_raw_device_that_somebody_holds_stays_open(void **state)
{
    (void)state;
    create("a", INTEGRITY_NONE, "", 16 * MIB);
    must(stage_request("a"), NULL);
    auto_close int fd = open(device_of("a").path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    refused(unstage_request("a"), ERROR_ABORTED);
    refused_for(unstage_request("a"), "", "or its node open");
    expect_left(0);
    assert_int_equal(4, write(fd, "data", 4));
    assert_int_equal(0, fsync(fd));
    close_at(&fd);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

/* A file system that failed cannot be mounted again beside itself. */
static void a_failed_file_system_that_an_agent_holds_is_named(void **state)
{
    (void)state;
    char holder[64];
    stage_with_file("a", INTEGRITY_AEGIS128);
    pid_t agent = start_agent();
    (void)snprintf(holder, sizeof(holder), "process %d (test_worker_mou", agent);
    sync();
    shut_down("mnt/stage-a");
    refused_for(stage_request("a"), "FileSystemShutDown", holder);
    must(unstage_request("a"), NULL); /* nothing can be saved of it any more */
    expect_nothing_left();
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    end_agent(agent);
    expect_left(0);
}

/* The superblock and its checksum are good, the first group descriptor is not: ext4 refuses to mount
 * that, and e2fsck mends it. */
static void an_ext4_that_only_looks_clean_is_repaired_and_mounted(void **state)
{
    (void)state;
    static const off_t first_group_checksum = 4096 + 0x1e;
    struct error err = ERROR_INIT;
    stage_with_file("a", INTEGRITY_AEGIS128);
    assert_int_equal(0, umount(front_path(&front, "mnt/stage-a")));
    auto_close int fd = open(device_of("a").path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fd_pwrite_all(fd, "\xa5\x5a", 2, first_group_checksum, &err));
    assert_int_equal(0, fsync(fd));
    close_at(&fd);
    must(stage_request("a"), NULL); /* mounts again what somebody unmounted */
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_device_whose_mapping_is_gone_is_unpublished(void **state)
{
    (void)state;
    create("a", INTEGRITY_NONE, "", 16 * MIB);
    must(stage_request("a"), NULL);
    must(publish_request("a", "mnt/device"), NULL);
    const struct volume_device device = device_of("a");
    const char *argv[] = { "dmsetup", "remove", device.path, NULL };
    struct error err = ERROR_INIT;
    assert_true(process_must(argv, 20000, 0, &err));
    (void)unlink(device.path); /* dmsetup leaves it to udev, which does not run here */
    simple(BLOCK_UNPUBLISH, "a", "mnt/device");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void a_volume_whose_folder_is_gone_is_unstaged(void **state)
{
    (void)state;
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    assert_int_equal(0, mkdir(front_path(&front, "mnt/pv"), 0700));
    must(with_path(stage_request("a"), "mnt/pv/stage"), NULL);
    assert_int_equal(0, umount(front_path(&front, "mnt/pv/stage")));
    assert_int_equal(0, rmdir(front_path(&front, "mnt/pv/stage")));
    assert_int_equal(0, rmdir(front_path(&front, "mnt/pv")));
    assert_true(front_record(&front, "a")->lease.holder.node[0]);
    must(with_path(unstage_request("a"), "mnt/pv/stage"), NULL);
    expect_nothing_left();
    assert_true(front_record(&front, "a")->has_clean_hash);
    assert_false(front_record(&front, "a")->lease.holder.node[0]);
}

/* What kubelet does for a subPath, and for a raw device. */
static void bind_at(const char *source, const char *path, bool as_file)
{
    struct error err = ERROR_INIT;
    char folder[128], from[128];

    (void)snprintf(from, sizeof(from), "%s", front_path(&front, source));
    (void)snprintf(folder, sizeof(folder), "%s", front_path(&front, path));
    if (as_file)
        *strrchr(folder, '/') = 0;
    assert_true(file_make_dirs(folder, 0700, &err));
    if (as_file)
        write_text(path, "");
    assert_int_equal(0, mount(from, front_path(&front, path), NULL, MS_BIND, NULL));
}

static void unbind(const char *path)
{
    assert_int_equal(0, umount(front_path(&front, path)));
}

static struct block_request *exclusive(const char *path)
{
    struct block_request *request = publish_request("a", path);
    char folder[128];
    struct error err = ERROR_INIT;

    (void)snprintf(folder, sizeof(folder), "%s", front_path(&front, path));
    *strrchr(folder, '/') = 0;
    assert_true(file_make_dirs(folder, 0700, &err));
    request->exclusive = true;
    return request;
}

#define POD_A "kubelet/pods/a/volumes/kubernetes.io~csi/pv/mount"
#define POD_B "kubelet/pods/b/volumes/kubernetes.io~csi/pv/mount"

static void a_single_writer_may_have_sub_paths(void **state)
{
    (void)state;
    static struct block_result result;
    static const char sub[] = "kubelet/pods/a/volume-subpaths/pv/app/0";
    stage_with_file("a", INTEGRITY_NONE);
    must(exclusive(POD_A), NULL);
    bind_at(POD_A, sub, false);
    must(exclusive(POD_A), &result); /* kubelet was started again */
    assert_true(result.already);
    refused(exclusive(POD_B), ERROR_FAILED_PRECONDITION);
    simple(BLOCK_UNPUBLISH, "a", POD_A);
    refused(exclusive(POD_B), ERROR_FAILED_PRECONDITION);
    refused(unstage_request("a"), ERROR_FAILED_PRECONDITION);
    must(exclusive(POD_A), NULL);
    unbind(sub);
    simple(BLOCK_UNPUBLISH, "a", POD_A);
    must(exclusive(POD_B), NULL);
    simple(BLOCK_UNPUBLISH, "a", POD_B);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

#define DEVICES "kubelet/plugins/kubernetes.io/csi/volumeDevices/"

static void a_single_writer_may_have_a_device_bound_by_kubelet(void **state)
{
    (void)state;
    static struct block_result result;
    static const char bound[] = DEVICES "pv/dev/a";
    create("a", INTEGRITY_NONE, "", 16 * MIB);
    must(stage_request("a"), NULL);
    must(exclusive(DEVICES "publish/pv/a"), NULL);
    bind_at(DEVICES "publish/pv/a", bound, true);
    must(exclusive(DEVICES "publish/pv/a"), &result);
    assert_true(result.already);
    refused(exclusive(DEVICES "publish/pv/b"), ERROR_FAILED_PRECONDITION);
    unbind(bound);
    simple(BLOCK_UNPUBLISH, "a", DEVICES "publish/pv/a");
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

static void stage_with_flags(const char *fs_type, const char *flags)
{
    struct error err = ERROR_INIT;

    create("a", INTEGRITY_NONE, fs_type, XFS_BYTES);
    struct block_request *stage = stage_request("a");
    (void)snprintf(stage->fs_type, sizeof(stage->fs_type), "%s", fs_type);
    (void)snprintf(stage->mount_flags, sizeof(stage->mount_flags), "%s", flags);
    bool done = front_call(&front, stage, NULL, &err);
    if (done || err.code != ERROR_INVALID_ARGUMENT || strstr(err.text, ": e "))
        fail_msg("%s: %s: %s", flags, error_code_name(err.code), err.text);
    print_message("# %s\n", err.text);
    expect_nothing_left();
    must(front_request(BLOCK_DELETE, "a"), NULL);
    front.n_volumes = 0;
}

static void options_that_the_file_system_refuses_are_invalid(void **state)
{
    (void)state;
    stage_with_flags("ext4", "nonsense");
    stage_with_flags("ext4", "commit=soon");
    stage_with_flags("ext4", "dax");
    stage_with_flags("xfs", "swidth=8");
    stage_with_flags("xfs", "noatime,logbsize=12345");
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_xfs_that_shut_down_is_unpublished_and_unstaged,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_that_shut_down_is_unpublished_and_unstaged,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_that_only_looks_clean_is_repaired_and_mounted,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_that_became_read_only_is_mounted_again, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_volume_that_somebody_unmounted_is_mounted_again,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_volume_that_an_agent_holds_is_closed_all_the_same,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_volume_that_a_pod_still_has_stays_open, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(
            a_volume_that_an_agent_has_frozen_is_closed_or_stays_as_it_is, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_read_only_volume_that_an_agent_holds_is_closed,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_raw_device_that_somebody_holds_stays_open, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_failed_file_system_that_an_agent_holds_is_named,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_device_whose_mapping_is_gone_is_unpublished, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_volume_whose_folder_is_gone_is_unstaged, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_single_writer_may_have_sub_paths, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_single_writer_may_have_a_device_bound_by_kubelet,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(options_that_the_file_system_refuses_are_invalid,
                                        steps_start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
