/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/device.h"

#include "base/file.h"
#include "base/secret.h"
#include "record/layout.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ZEROS_BYTES (1u << 20)

bool device_open(const char *path, bool write, int *out_fd, uint64_t *out_bytes, struct error *err)
{
    auto_close int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set_errno(err, errno, "open %s", path);
    if (!S_ISBLK(st.st_mode))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not a block device", path);
    uint64_t bytes = 0;
    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
        return error_set_errno(err, errno, "size of %s", path);
    *out_fd = TAKE_FD(fd);
    *out_bytes = bytes;
    return true;
}

bool device_buffer(size_t len, uint8_t **out, struct error *err)
{
    void *buffer = aligned_alloc(DEVICE_BLOCK_BYTES, len);

    if (!buffer)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a buffer of %zu bytes", len);
    bytes_wipe(buffer, len);
    *out = buffer;
    return true;
}

bool device_write_zeros(int fd, uint64_t offset, uint64_t len, struct error *err)
{
    size_t step = len < ZEROS_BYTES ? (size_t)len : ZEROS_BYTES;
    auto_free uint8_t *zeros = NULL;

    if (!device_buffer(step, &zeros, err))
        return false;
    for (uint64_t done = 0; done < len; done += step) {
        if (step > len - done)
            step = (size_t)(len - done);
        if (!fd_pwrite_all(fd, zeros, step, (off_t)(offset + done), err))
            return error_wrap(err, "write zeros");
    }
    return true;
}

bool device_flush(int fd, struct error *err)
{
    if (fdatasync(fd) < 0)
        return error_set_errno(err, errno, "flush");
    return true;
}

static bool read_attribute(dev_t number, const char *name, char **out, struct error *err)
{
    char path[64];
    size_t len = 0;

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(number), minor(number),
                   name);
    return file_read(path, 64, out, &len, err);
}

bool device_size(dev_t number, uint64_t *out_bytes, struct error *err)
{
    auto_free char *text = NULL;
    uint64_t sectors = 0;

    if (!read_attribute(number, "size", &text, err))
        return false;
    if (sscanf(text, "%" SCNu64, &sectors) != 1)
        return error_set(err, ERROR_INTERNAL, "the size of device %u:%u is no number",
                         major(number), minor(number));
    *out_bytes = sectors * SECTOR_BYTES;
    return true;
}

/* The states of SCSI disks (scsi_sysfs.c) and of NVMe controllers (nvme/host/core.c) after which
 * nothing reaches the disk any more. */
static bool is_given_up(dev_t number)
{
    static const char *const lost[] = {
        "offline", "transport-offline", "cancel", "deleted", "dead", "deleting", "deleting (no IO)"
    };
    auto_free char *state = NULL;
    struct error none = ERROR_INIT;

    if (!read_attribute(number, "device/state", &state, &none))
        return false;
    state[strcspn(state, "\n")] = 0;
    for (size_t i = 0; i < ARRAY_LEN(lost); i++)
        if (strcmp(state, lost[i]) == 0)
            return true;
    return false;
}

bool device_is_gone(dev_t number)
{
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;

    if (!device_size(number, &bytes, &err))
        return err.code == ERROR_NOT_FOUND;
    return bytes == 0 || is_given_up(number);
}

bool device_is_held(dev_t disk, dev_t mapping)
{
    char path[96];

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders/dm-%u", major(disk),
                   minor(disk), minor(mapping));
    return access(path, F_OK) == 0;
}

/* The kernel's name, such as "dm-3". */
static bool find_holder(const char *disk, char holder[static NAME_MAX + 1])
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "/sys/%s/holders", disk);
    auto_dir DIR *folder = opendir(path);
    for (const struct dirent *e; folder && (e = readdir(folder));) {
        if (strncmp(e->d_name, "dm-", 3) != 0)
            continue;
        (void)snprintf(holder, NAME_MAX + 1, "%s", e->d_name);
        return true;
    }
    return false;
}

bool device_mapping_name(const char *disk, char name[static DEVICE_MAPPING_LEN])
{
    char path[PATH_MAX];
    auto_free char *text = NULL;
    size_t len = 0;
    struct error ignored = ERROR_INIT;

    (void)snprintf(path, sizeof(path), "/sys/%s/dm/name", disk);
    if (!file_read(path, 256, &text, &len, &ignored))
        return false;
    (void)snprintf(name, DEVICE_MAPPING_LEN, "%.*s", (int)strcspn(text, "\n"), text);
    return true;
}

bool device_find_mapping_over(const char *disk, char name[static DEVICE_MAPPING_LEN])
{
    char holder[NAME_MAX + 1], upper[NAME_MAX + 16];

    if (!find_holder(disk, holder))
        return false;
    (void)snprintf(upper, sizeof(upper), "block/%s", holder);
    return device_mapping_name(upper, name);
}
