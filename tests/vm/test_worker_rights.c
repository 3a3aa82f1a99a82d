/* SPDX-License-Identifier: Apache-2.0 */
#include "base/capabilities.h"
#include "base/file.h"
#include "base/process.h"
#include "blockd/filesystem.h"
#include "blockd/loop.h"
#include "tests/vm/steps.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* What workers, and the programs that look at disks for them, may do. */

static uint64_t read_set(pid_t pid, const char *name)
{
    char path[64];
    auto_free char *status = NULL;
    size_t len = 0;
    unsigned long long set = 0;
    struct error err = ERROR_INIT;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    assert_true(file_read(path, MIB, &status, &len, &err));
    const char *at = strstr(status, name);
    assert_non_null(at);
    assert_int_equal(1, sscanf(at + strlen(name), ":\t%llx", &set));
    return set;
}

/* Starts an operation, looks at its worker when it asks for the first time, and ends it. */
static void expect_capabilities(const struct block_request *request, uint32_t question,
                                uint64_t wanted)
{
    auto_close int fd = front_send(&front, request);

    do
        assert_true(front_receive(&front, fd, 60000));
    while (front.last.kind != question);
    pid_t pid = front_worker(&front);
    assert_true(pid > 0);
    assert_int_equal(wanted, read_set(pid, "CapPrm"));
    assert_int_equal(wanted, read_set(pid, "CapEff"));
    assert_int_equal(wanted, read_set(pid, "CapBnd"));
    assert_int_equal(0, read_set(pid, "CapInh"));
    assert_int_equal(0, read_set(pid, "CapAmb"));
    close_at(&fd);
    wait_for_workers();
}

#define FILES    (CAPABILITY(DAC_OVERRIDE) | CAPABILITY(FOWNER))
#define DEVICES  (FILES | CAPABILITY(SYS_ADMIN) | CAPABILITY(MKNOD))
#define CHILDREN (CAPABILITY(SETUID) | CAPABILITY(SETGID) | CAPABILITY(CHOWN) | CAPABILITY(KILL))

static void a_worker_keeps_what_its_operation_needs(void **state)
{
    (void)state;
    const uint64_t devices = DEVICES | CAPABILITY(IPC_LOCK);
    const uint64_t opens = devices | CHILDREN | CAPABILITY(SYS_RESOURCE);
    create("a", INTEGRITY_NONE, "ext4", 32 * MIB);
    expect_capabilities(stage_request("a"), BLOCK_ASK_OPEN, opens);
    must(stage_request("a"), NULL);
    expect_capabilities(front_request(BLOCK_EXPAND, "a"), BLOCK_ASK_RECORD, opens);
    expect_capabilities(unstage_request("a"), BLOCK_ASK_CHANGE, devices);
    must(unstage_request("a"), NULL);
    expect_nothing_left();
}

#define DISK_BYTES (64 * MIB)

static void make_disk(struct loop_device *out, int *out_fd)
{
    struct error err = ERROR_INIT;
    auto_close int file = memfd_create("disk", MFD_CLOEXEC);

    assert_true(file >= 0 && ftruncate(file, (off_t)DISK_BYTES) == 0);
    if (!loop_attach(file, false, out, &err))
        fail_msg("%s", err.text);
    *out_fd = open(out->path, O_RDWR | O_CLOEXEC);
    assert_true(*out_fd >= 0);
}

/* Whatever the disk holds, the answer is a file system that is well, or an error; nothing is left. */
static void a_hostile_ext4_is_repaired_or_refused(void **state)
{
    (void)state;
    auto_loop struct loop_device disk = LOOP_DEVICE_INIT;
    auto_close int disk_fd = -1;
    unsigned refused_disks = 0;
    make_disk(&disk, &disk_fd);
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct error err = ERROR_INIT;
        uint8_t noise[512];
        uint32_t random = seed;

        if (!filesystem_make("ext4", disk.path, 60000, &err))
            fail_msg("%s", err.text);
        for (size_t i = 0; i < sizeof(noise); i++)
            noise[i] = (uint8_t)((random = random * 1664525 + 1013904223) >> 24);
        /* The superblock keeps its magic number; then group descriptors, bitmaps and inodes. */
        off_t at = seed % 2 ? 1024 + 64 : (off_t)(4096u * seed);
        assert_true(fd_pwrite_all(disk_fd, noise, seed % 2 ? 64 : sizeof(noise), at, &err));
        if (filesystem_repair("ext4", disk.path, true, 60000, &err))
            continue;
        refused_disks++;
        assert_string_equal("FileSystemDamaged", err.reason);
        assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    }
    print_message("# %u of 12 disks were refused\n", refused_disks);
    assert_true(refused_disks > 0);
    assert_int_equal(0, count_in("/dev", ".tdvol"));
}

/* e2fsck must be able to write. */
static void an_unclean_ext4_is_repaired_by_a_child_without_rights(void **state)
{
    (void)state;
    auto_loop struct loop_device disk = LOOP_DEVICE_INIT;
    auto_close int disk_fd = -1;
    uint8_t now = 0xff;
    struct error err = ERROR_INIT;
    make_disk(&disk, &disk_fd);
    assert_true(filesystem_make("ext4", disk.path, 60000, &err));
    const char *argv[] = { "debugfs", "-w", "-R", "ssv state 0", disk.path, NULL };
    assert_true(process_must(argv, 20000, 0, &err)); /* as if it was not unmounted */
    if (!filesystem_repair("ext4", disk.path, false, 60000, &err))
        fail_msg("%s", err.text);
    assert_true(fd_pread_all(disk_fd, &now, 1, 1024 + 0x3a, &err));
    assert_int_equal(1, now); /* s_state */
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_worker_keeps_what_its_operation_needs, steps_start,
                                        steps_end),
        cmocka_unit_test(a_hostile_ext4_is_repaired_or_refused),
        cmocka_unit_test(an_unclean_ext4_is_repaired_by_a_child_without_rights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
