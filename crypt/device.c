/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/device.h"

#include "base/file.h"
#include "base/secret.h"
#include "record/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
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

bool device_size(dev_t number, uint64_t *out_bytes, struct error *err)
{
    char path[64];
    auto_free char *text = NULL;
    size_t len = 0;
    uint64_t sectors = 0;

    (void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", major(number), minor(number));
    if (!file_read(path, 64, &text, &len, err))
        return false;
    if (sscanf(text, "%" SCNu64, &sectors) != 1)
        return error_set(err, ERROR_INTERNAL, "%s holds no number", path);
    *out_bytes = sectors * SECTOR_BYTES;
    return true;
}
