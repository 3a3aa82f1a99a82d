/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "tests/vm/steps.h"

#include <fcntl.h>
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

static void live_after_a_shutdown(const char *fs_type)
{
    create("a", INTEGRITY_NONE, fs_type, XFS_BYTES);
    must(stage_request("a"), NULL);
    must(publish_request("a", "mnt/target"), NULL);
    write_text("mnt/target/file", "hello");
    sync();
    shut_down("mnt/target");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    simple(BLOCK_UNPUBLISH, "a", "mnt/target");
    assert_int_not_equal(0, access(front_path(&front, "mnt/target"), F_OK));
    must(unstage_request("a"), NULL);
    expect_nothing_left();
    must(stage_request("a"), NULL);
    expect_text("mnt/stage-a/file", "hello");
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

#define POD_A "mnt/pods/a/volumes/kubernetes.io~csi/pv/mount"
#define POD_B "mnt/pods/b/volumes/kubernetes.io~csi/pv/mount"

static void a_single_writer_may_have_sub_paths(void **state)
{
    (void)state;
    static struct block_result result;
    static const char sub[] = "mnt/pods/a/volume-subpaths/pv/app/0";
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

#define DEVICES "mnt/plugins/kubernetes.io/csi/volumeDevices/"

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

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_xfs_that_shut_down_is_unpublished_and_unstaged,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(an_ext4_that_shut_down_is_unpublished_and_unstaged,
                                        steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_device_whose_mapping_is_gone_is_unpublished, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_volume_whose_folder_is_gone_is_unstaged, steps_start,
                                        steps_end),
        cmocka_unit_test_setup_teardown(a_single_writer_may_have_sub_paths, steps_start, steps_end),
        cmocka_unit_test_setup_teardown(a_single_writer_may_have_a_device_bound_by_kubelet,
                                        steps_start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
