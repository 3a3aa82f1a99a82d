/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/scsi.h"

#include "base/file.h"
#include "base/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TARGET "/sys/kernel/config/target"
#define HOST   TARGET "/loopback/naa.6001405000000001"
#define GROUP  HOST "/tpgt_1"

static char address[32]; /* HOST:CHANNEL:TARGET of our SCSI host */
static unsigned next_unit;

static void put(const char *path, const char *text)
{
    auto_close int fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        fail_msg("write %s to %s: %s", text, path, strerrordesc_np(errno));
}

static void make(const char *path)
{
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        fail_msg("mkdir %s: %s", path, strerrordesc_np(errno));
}

/* Text such as "PREFIX/iblock_3" in a small ring. */
static const char *text_of(const char *format, unsigned number)
{
    static char texts[8][192];
    static unsigned next;
    char *text = texts[next++ % ARRAY_LEN(texts)];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(text, sizeof(texts[0]), format, number);
#pragma GCC diagnostic pop
    return text;
}

static const char *sysfs(const struct scsi_disk *disk, const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];

    (void)snprintf(path, sizeof(paths[0]), "/sys/bus/scsi/devices/%s:%u/%s", address, disk->unit,
                   name);
    return path;
}

void scsi_start(void)
{
    const char *modules[] = { "modprobe",           "-a",       "loop", "sd_mod", "target_core_mod",
                              "target_core_iblock", "tcm_loop", NULL };
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    size_t len = 0;

    if (!process_must(modules, 60000, 0, &err))
        fail_msg("%s", err.text);
    make(TARGET "/core");
    make(TARGET "/loopback");
    make(HOST);
    make(GROUP);
    put(GROUP "/nexus", "naa.6001405100000001");
    assert_true(file_read(GROUP "/address", 64, &text, &len, &err));
    (void)snprintf(address, sizeof(address), "%.*s", (int)strcspn(text, "\n"), text);
}

void scsi_end(void)
{
    put(GROUP "/nexus", "NULL");
    assert_int_equal(0, rmdir(GROUP));
    assert_int_equal(0, rmdir(HOST));
}

static bool find_node(struct scsi_disk *disk)
{
    DIR *folder = opendir(sysfs(disk, "block"));
    struct stat st;

    disk->path[0] = 0;
    for (const struct dirent *e; folder && (e = readdir(folder));) {
        if (e->d_name[0] != '.')
            (void)snprintf(disk->path, sizeof(disk->path), "/dev/%.20s", e->d_name);
    }
    if (folder)
        closedir(folder);
    if (!disk->path[0] || stat(disk->path, &st) != 0)
        return false;
    disk->number = st.st_rdev;
    return true;
}

static void make_loop(struct scsi_disk *disk, const char *file, uint64_t size_bytes, bool read_only)
{
    struct error err = ERROR_INIT;
    auto_close int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    if (size_bytes > 0)
        assert_int_equal(0, ftruncate(fd, (off_t)size_bytes));
    disk->loop = (struct loop_device)LOOP_DEVICE_INIT;
    if (!loop_attach(fd, read_only, &disk->loop, &err))
        fail_msg("%s", err.text);
    assert_int_equal(0, ioctl(disk->loop.fd, LOOP_SET_BLOCK_SIZE, 512ul));
}

/* The kernel makes the node before the disk can be opened. */
static bool opens(const char *path)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);

    return fd >= 0;
}

void scsi_attach(struct scsi_disk *disk, const char *file, uint64_t size_bytes, bool read_only)
{
    char control[96];
    unsigned unit = next_unit++;

    disk->unit = unit;
    make_loop(disk, file, size_bytes, read_only);
    make(text_of(TARGET "/core/iblock_%u", unit));
    make(text_of(TARGET "/core/iblock_%u/disk", unit));
    put(text_of(TARGET "/core/iblock_%u/disk/wwn/vpd_unit_serial", unit), text_of("disk%u", unit));
    (void)snprintf(control, sizeof(control), "udev_path=%s,readonly=%d", disk->loop.path,
                   read_only);
    put(text_of(TARGET "/core/iblock_%u/disk/control", unit), control);
    put(text_of(TARGET "/core/iblock_%u/disk/enable", unit), "1");
    make(text_of(GROUP "/lun/lun_%u", unit));
    assert_int_equal(0, symlink(text_of(TARGET "/core/iblock_%u/disk", unit),
                                text_of(GROUP "/lun/lun_%u/store", unit)));
    for (int i = 0; !find_node(disk) || !opens(disk->path); i++) {
        assert_true(i < 1000);
        usleep(10000);
    }
}

void scsi_detach(struct scsi_disk *disk)
{
    unsigned unit = disk->unit;

    assert_int_equal(0, unlink(text_of(GROUP "/lun/lun_%u/store", unit)));
    assert_int_equal(0, rmdir(text_of(GROUP "/lun/lun_%u", unit)));
    assert_int_equal(0, rmdir(text_of(TARGET "/core/iblock_%u/disk", unit)));
    assert_int_equal(0, rmdir(text_of(TARGET "/core/iblock_%u", unit)));
    loop_release(&disk->loop);
}

void scsi_grow(const struct scsi_disk *disk, const char *file, uint64_t size_bytes)
{
    assert_int_equal(0, truncate(file, (off_t)size_bytes));
    assert_int_equal(0, ioctl(disk->loop.fd, LOOP_SET_CAPACITY, 0));
}

void scsi_rescan(const struct scsi_disk *disk)
{
    put(sysfs(disk, "rescan"), "1");
}

void scsi_set_state(const struct scsi_disk *disk, const char *state)
{
    char line[32];

    (void)snprintf(line, sizeof(line), "%s\n", state);
    put(sysfs(disk, "state"), line);
}
