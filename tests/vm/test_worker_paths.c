/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "tests/vm/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A front that was taken over names paths that are not its own. Below kubelet's folder it reaches
 * kubelet's places for volumes of this driver, and nothing else. */

#define DRIVER     "test.tdvol"
#define CSI        "kubelet/plugins/kubernetes.io/csi/"
#define POD        "kubelet/pods/5c3f/volumes/kubernetes.io~csi/pv"
#define TARGET     POD "/mount"
#define RAW_TARGET CSI "volumeDevices/publish/pv/5c3f"

static void make_folder(const char *path)
{
    struct error err = ERROR_INIT;

    assert_true(file_make_dirs(front_path(&front, path), 0700, &err));
}

/* Where kubelet has this volume staged by that driver. */
static const char *staging_of(const char *driver, const char *volume_id)
{
    static char path[4][256];
    static unsigned next;
    char *out = path[next++ % 4], hash[2 * SHA256_LEN + 1];
    uint8_t digest[SHA256_LEN];
    struct error err = ERROR_INIT;

    assert_true(sha256(volume_id, strlen(volume_id), digest, &err));
    hex_encode(digest, sizeof(digest), hash);
    (void)snprintf(out, 256, CSI "%s/%s", driver, hash);
    make_folder(out);
    (void)snprintf(out, 256, CSI "%s/%s/globalmount", driver, hash);
    return out;
}

static struct block_request *stage_at(const char *volume_id, const char *path)
{
    return with_path(stage_request(volume_id), path);
}

static struct block_request *publish_at(const char *volume_id, const char *staging,
                                        const char *path)
{
    struct block_request *request = publish_request(volume_id, path);

    (void)snprintf(request->path2, sizeof(request->path2), "%s", front_path(&front, staging));
    return request;
}

static struct block_request *unpublish_at(const char *volume_id, const char *path)
{
    return with_path(front_request(BLOCK_UNPUBLISH, volume_id), path);
}

/* Nothing is mounted below kubelet's folder. */
static void expect_no_mounts(void)
{
    auto_free char *text = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;

    assert_true(file_read("/proc/self/mountinfo", 1u << 20, &text, &len, &err));
    if (strstr(text, front_path(&front, "kubelet/")))
        fail_msg("%s", text);
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(front_path(&front, path), &st) == 0;
}

static int start(void **state)
{
    (void)steps_start(state);
    make_folder("kubelet/pki");
    write_text("kubelet/pki/kubelet.key", "not ours");
    write_text("kubelet/config.yaml", "kind: KubeletConfiguration");
    write_text("kubelet/empty.yaml", "");
    make_folder("kubelet/empty");
    make_folder(POD);
    make_folder(CSI "volumeDevices/publish/pv");
    return 0;
}

static void volumes_live_at_kubelets_places(void **state)
{
    (void)state;
    static struct block_result result;
    const char *staging = staging_of(DRIVER, "a");
    create("a", INTEGRITY_AEGIS128, "ext4", 32 * MIB);
    must(stage_at("a", staging), NULL);
    must(stage_at("a", staging), &result);
    assert_true(result.already);
    must(publish_at("a", staging, TARGET), NULL);
    must(publish_at("a", staging, TARGET), &result);
    assert_true(result.already);
    write_text(TARGET "/file", "hello");
    must(with_path(front_request(BLOCK_STATS, "a"), TARGET), NULL);
    must(with_path(front_request(BLOCK_STATS, "a"), staging), NULL);
    must(unpublish_at("a", TARGET), NULL);
    must(unpublish_at("a", TARGET), NULL);
    assert_false(exists(TARGET));
    must(with_path(unstage_request("a"), staging), NULL);
    expect_nothing_left();

    create("b", INTEGRITY_AEGIS128, "", 16 * MIB);
    must(stage_at("b", CSI "volumeDevices/staging/pv"), NULL);
    must(publish_request("b", RAW_TARGET), NULL);
    must(unpublish_at("b", RAW_TARGET), NULL);
    assert_false(exists(RAW_TARGET));
    must(with_path(unstage_request("b"), CSI "volumeDevices/staging/pv"), NULL);
    expect_nothing_left();
    expect_no_mounts();
}

static const char *const foreign[] = {
    "kubelet/pki",
    "kubelet/empty",
    "kubelet/empty.yaml",
    "kubelet/config.yaml",
    "kubelet/new",
    "kubelet/pods/5c3f",
    "kubelet/pods/5c3f/volumes/kubernetes.io~secret/token/mount",
    "kubelet/plugins/kubernetes.io/csi/other.csi/globalmount",
    "kubelet/pods/5c3f/volumes/kubernetes.io~csi/pv",
    "kubelet/pods/5c3f/volumes/kubernetes.io~csi/pv/mount/inner",
    "kubelet/pods/5c3f/volumes/kubernetes.io~csi/../pv/mount",
};

static void nothing_is_mounted_at_foreign_places(void **state)
{
    (void)state;
    const char *staging = staging_of(DRIVER, "a");
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    create("b", INTEGRITY_NONE, "", 16 * MIB);
    make_folder("kubelet/pods/5c3f/volumes/kubernetes.io~secret/token");
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        refused(stage_at("a", foreign[i]), ERROR_INVALID_ARGUMENT);
    /* Another driver's folder for this volume, and ours for another volume. */
    refused(stage_at("a", staging_of("other.csi", "a")), ERROR_INVALID_ARGUMENT);
    refused(stage_at("a", staging_of(DRIVER, "b")), ERROR_INVALID_ARGUMENT);
    refused(stage_at("a", TARGET), ERROR_INVALID_ARGUMENT);
    expect_nothing_left();

    must(stage_at("a", staging), NULL);
    must(stage_at("b", CSI "volumeDevices/staging/pv"), NULL);
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
        refused(publish_at("a", staging, foreign[i]), ERROR_INVALID_ARGUMENT);
        refused(publish_request("b", foreign[i]), ERROR_INVALID_ARGUMENT);
        refused(unpublish_at("a", foreign[i]), ERROR_INVALID_ARGUMENT);
        refused(with_path(front_request(BLOCK_STATS, "a"), foreign[i]), ERROR_NOT_FOUND);
    }
    refused(publish_at("a", staging, RAW_TARGET), ERROR_INVALID_ARGUMENT);
    refused(publish_request("b", TARGET), ERROR_INVALID_ARGUMENT);
    expect_text("kubelet/pki/kubelet.key", "not ours");
    expect_text("kubelet/config.yaml", "kind: KubeletConfiguration");
    expect_text("kubelet/empty.yaml", "");
    assert_true(exists("kubelet/empty"));
    assert_false(exists("kubelet/new"));
    must(with_path(unstage_request("a"), staging), NULL);
    must(with_path(unstage_request("b"), CSI "volumeDevices/staging/pv"), NULL);
    expect_nothing_left();
    expect_no_mounts();
}

/* The place is right, but it is not empty. */
static void what_is_not_empty_is_not_hidden(void **state)
{
    (void)state;
    const char *staging = staging_of(DRIVER, "a");
    char inner[300];
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    create("b", INTEGRITY_NONE, "", 16 * MIB);
    make_folder(staging);
    (void)snprintf(inner, sizeof(inner), "%s/file", staging);
    write_text(inner, "somebody's");
    refused(stage_at("a", staging), ERROR_FAILED_PRECONDITION);
    expect_text(inner, "somebody's");
    assert_int_equal(0, unlink(front_path(&front, inner)));
    must(stage_at("a", staging), NULL);
    make_folder(TARGET);
    write_text(TARGET "/file", "somebody's");
    refused(publish_at("a", staging, TARGET), ERROR_FAILED_PRECONDITION);
    refused(unpublish_at("a", TARGET), ERROR_FAILED_PRECONDITION);
    expect_text(TARGET "/file", "somebody's");
    must(stage_at("b", CSI "volumeDevices/staging/pv"), NULL);
    write_text(RAW_TARGET, "somebody's");
    refused(publish_request("b", RAW_TARGET), ERROR_FAILED_PRECONDITION);
    refused(unpublish_at("b", RAW_TARGET), ERROR_FAILED_PRECONDITION);
    expect_text(RAW_TARGET, "somebody's");
    must(with_path(unstage_request("a"), staging), NULL);
    must(with_path(unstage_request("b"), CSI "volumeDevices/staging/pv"), NULL);
    expect_nothing_left();
}

static void mount_tmpfs(const char *path)
{
    make_folder(path);
    assert_int_equal(0, mount("tmpfs", front_path(&front, path), "tmpfs", 0, NULL));
}

static void unmount(const char *path)
{
    assert_int_equal(0, umount(front_path(&front, path)));
}

static void mounts_of_others_are_neither_crossed_nor_covered_nor_removed(void **state)
{
    (void)state;
    const char *staging = staging_of(DRIVER, "a");
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    mount_tmpfs(staging);
    refused(stage_at("a", staging), ERROR_FAILED_PRECONDITION);
    expect_nothing_left();
    unmount(staging);
    must(stage_at("a", staging), NULL);

    mount_tmpfs(TARGET); /* another driver's volume */
    refused(publish_at("a", staging, TARGET), ERROR_FAILED_PRECONDITION);
    refused(unpublish_at("a", TARGET), ERROR_FAILED_PRECONDITION);
    unmount(TARGET);
    mount_tmpfs("kubelet/pods/5c3f");
    make_folder(POD);
    refused(publish_at("a", staging, TARGET), ERROR_INVALID_ARGUMENT);
    refused(unpublish_at("a", TARGET), ERROR_INVALID_ARGUMENT);
    unmount("kubelet/pods/5c3f");

    /* Ours lies on top of somebody else's: only ours is removed. */
    mount_tmpfs(TARGET);
    assert_int_equal(
        0, mount(front_path(&front, staging), front_path(&front, TARGET), NULL, MS_BIND, NULL));
    refused(unpublish_at("a", TARGET), ERROR_FAILED_PRECONDITION);
    unmount(TARGET); /* the tmpfs is still there */
    must(unpublish_at("a", TARGET), NULL);
    must(with_path(unstage_request("a"), staging), NULL);
    expect_nothing_left();
    expect_no_mounts();
}

static void links_at_the_right_place_lead_nowhere(void **state)
{
    (void)state;
    const char *staging = staging_of(DRIVER, "a");
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    assert_int_equal(0, symlink("../../../../../empty", front_path(&front, staging)));
    refused(stage_at("a", staging), ERROR_FAILED_PRECONDITION);
    expect_nothing_left();
    assert_int_equal(0, unlink(front_path(&front, staging)));
    must(stage_at("a", staging), NULL);
    assert_int_equal(0, symlink(front_path(&front, "kubelet/empty"), front_path(&front, TARGET)));
    refused(publish_at("a", staging, TARGET), ERROR_FAILED_PRECONDITION);
    refused(unpublish_at("a", TARGET), ERROR_FAILED_PRECONDITION);
    assert_true(exists(TARGET));
    assert_int_equal(0, unlink(front_path(&front, TARGET)));
    assert_int_equal(0, rmdir(front_path(&front, POD)));
    assert_int_equal(0, symlink("/tmp", front_path(&front, POD)));
    refused(publish_at("a", staging, TARGET), ERROR_INVALID_ARGUMENT);
    must(with_path(unstage_request("a"), staging), NULL);
    expect_nothing_left();
    expect_no_mounts();
}

/* kubelet's own empty folders, while another driver works on them. */
static void a_stranger_removes_nothing(void **state)
{
    (void)state;
    make_folder(TARGET);
    must(unpublish_at("nobody", TARGET), NULL);
    assert_true(exists(TARGET));
    write_text(RAW_TARGET, "");
    must(unpublish_at("nobody", RAW_TARGET), NULL);
    assert_true(exists(RAW_TARGET));
    refused(unpublish_at("nobody", "kubelet/empty"), ERROR_INVALID_ARGUMENT);
    assert_true(exists("kubelet/empty"));
}

static int listen_at(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", front_path(&front, path));
    assert_int_equal(0, bind(fd, (const struct sockaddr *)&address, sizeof(address)));
    assert_int_equal(0, listen(fd, 4));
    return fd;
}

static struct block_request *unlink_at(const char *path)
{
    return with_path(front_request(BLOCK_UNLINK, ""), path);
}

/* Another process listens at the path. */
static pid_t start_listener(const char *path)
{
    int ready[2];
    char byte = 0;

    assert_int_equal(0, pipe2(ready, O_CLOEXEC));
    pid_t pid = fork();
    if (pid == 0) {
        (void)listen_at(path);
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(1, read(ready[0], &byte, 1));
    close(ready[0]);
    return pid;
}

static void only_the_fronts_own_sockets_are_removed(void **state)
{
    (void)state;
    static struct block_result result;
    int other = listen_at("kubelet/kubelet.sock");
    refused(unlink_at("kubelet/kubelet.sock"), ERROR_INVALID_ARGUMENT);
    refused(unlink_at("mnt/../kubelet/kubelet.sock"), ERROR_INVALID_ARGUMENT);
    refused(unlink_at("mnt/other.sock"), ERROR_INVALID_ARGUMENT);
    assert_true(exists("kubelet/kubelet.sock"));
    close(other);

    must(unlink_at("mnt/own.sock"), &result);
    assert_true(result.already);
    int own = listen_at("mnt/own.sock");
    must(unlink_at("mnt/own.sock"), NULL); /* in use by us */
    assert_false(exists("mnt/own.sock"));
    close(own);
    close(listen_at("mnt/own.sock"));
    must(unlink_at("mnt/own.sock"), NULL); /* left over */
    assert_false(exists("mnt/own.sock"));

    write_text("mnt/own.sock", "no socket");
    refused(unlink_at("mnt/own.sock"), ERROR_FAILED_PRECONDITION);
    assert_int_equal(0, unlink(front_path(&front, "mnt/own.sock")));
    assert_int_equal(0, symlink("../kubelet/kubelet.sock", front_path(&front, "mnt/own.sock")));
    refused(unlink_at("mnt/own.sock"), ERROR_FAILED_PRECONDITION);
    assert_int_equal(0, unlink(front_path(&front, "mnt/own.sock")));
    pid_t pid = start_listener("mnt/own.sock");
    refused(unlink_at("mnt/own.sock"), ERROR_FAILED_PRECONDITION);
    assert_true(exists("mnt/own.sock"));
    assert_int_equal(0, kill(pid, SIGKILL));
    assert_int_equal(pid, waitpid(pid, NULL, 0));
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(volumes_live_at_kubelets_places, start, steps_end),
        cmocka_unit_test_setup_teardown(nothing_is_mounted_at_foreign_places, start, steps_end),
        cmocka_unit_test_setup_teardown(what_is_not_empty_is_not_hidden, start, steps_end),
        cmocka_unit_test_setup_teardown(
            mounts_of_others_are_neither_crossed_nor_covered_nor_removed, start, steps_end),
        cmocka_unit_test_setup_teardown(links_at_the_right_place_lead_nowhere, start, steps_end),
        cmocka_unit_test_setup_teardown(a_stranger_removes_nothing, start, steps_end),
        cmocka_unit_test_setup_teardown(only_the_fronts_own_sockets_are_removed, start, steps_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
