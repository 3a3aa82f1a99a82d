/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/loop.h"

#include "base/file.h"
#include "base/option.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define LOOP_SECTOR_BYTES 4096u
#define ATTEMPTS_MAX      32
/* The kernel may release an autoclear device a short time after its last user has closed it. */
#define RELEASE_WAIT_MS 2000
#define RELEASE_STEP_MS 20

static void wait_ms(long ms)
{
    const struct timespec step = { .tv_nsec = ms * 1000000 };

    nanosleep(&step, NULL);
}

static bool is_behind(int loop_fd, const struct stat *file)
{
    struct loop_info64 info = { 0 };

    return ioctl(loop_fd, LOOP_GET_STATUS64, &info) == 0 && info.lo_device == file->st_dev &&
           info.lo_inode == file->st_ino;
}

/* /dev may be static in containers, so make the node when it is missing. */
static int open_loop(unsigned number, int flags, char path[static LOOP_PATH_LEN])
{
    (void)snprintf(path, LOOP_PATH_LEN, "/dev/loop%u", number);
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && mknod(path, S_IFBLK | 0600, makedev(7, number)) == 0)
        fd = open(path, flags | O_CLOEXEC);
    return fd;
}

static bool find_once(const struct stat *file, bool *found, char path[static LOOP_PATH_LEN],
                      struct error *err)
{
    auto_dir DIR *folder = opendir("/sys/block");

    if (!folder)
        return error_set_errno(err, errno, "/sys/block");
    *found = false;
    for (const struct dirent *e; !*found && (e = readdir(folder));) {
        uint64_t number = 0;
        char bound[64];
        if (strncmp(e->d_name, "loop", 4) != 0 || !parse_u64(e->d_name + 4, &number) ||
            number > INT_MAX)
            continue;
        (void)snprintf(bound, sizeof(bound), "/sys/block/loop%u/loop", (unsigned)number);
        if (access(bound, F_OK) != 0)
            continue;
        auto_close int fd = open_loop((unsigned)number, O_RDONLY, path);
        *found = fd >= 0 && is_behind(fd, file);
    }
    return true;
}

bool loop_find(const struct stat *file, bool *found, char path[static LOOP_PATH_LEN],
               struct error *err)
{
    return find_once(file, found, path, err);
}

static bool wait_free(const struct stat *file, struct error *err)
{
    char path[LOOP_PATH_LEN];
    bool found = true;

    for (long waited = 0; found; waited += RELEASE_STEP_MS) {
        if (!find_once(file, &found, path, err))
            return false;
        if (found && waited >= RELEASE_WAIT_MS)
            return error_set(err, ERROR_FAILED_PRECONDITION, "the backing file is in use by %s",
                             path);
        if (found)
            wait_ms(RELEASE_STEP_MS);
    }
    return true;
}

bool loop_attach(int file_fd, bool read_only, struct loop_device *out, struct error *err)
{
    struct stat file;

    if (fstat(file_fd, &file) != 0)
        return error_set_errno(err, errno, "backing file");
    if (!wait_free(&file, err))
        return false;
    auto_close int control_fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    if (control_fd < 0)
        return error_set_errno(err, errno, "/dev/loop-control");

    struct loop_config config = { .fd = (uint32_t)file_fd, .block_size = LOOP_SECTOR_BYTES };
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (read_only)
        config.info.lo_flags |= LO_FLAGS_READ_ONLY;
    for (int i = 0; i < ATTEMPTS_MAX; i++) {
        int number = ioctl(control_fd, LOOP_CTL_GET_FREE);

        if (number < 0)
            return error_set_errno(err, errno, "find a free loop device");
        struct loop_device loop = LOOP_DEVICE_INIT;
        loop.fd = open_loop((unsigned)number, read_only ? O_RDONLY : O_RDWR, loop.path);
        if (loop.fd < 0)
            return error_set_errno(err, errno, "%s", loop.path);
        if (ioctl(loop.fd, LOOP_CONFIGURE, &config) == 0) {
            *out = loop;
            return true;
        }
        int code = errno;
        loop_release(&loop);
        if (code != EBUSY) /* another process was faster */
            return error_set_errno(err, code, "attach backing file to %s", loop.path);
    }
    return error_set(err, ERROR_ABORTED, "no free loop device in %d attempts: try again",
                     ATTEMPTS_MAX);
}

bool loop_attach_memory(uint64_t bytes, struct loop_device *out, struct error *err)
{
    auto_close int file = memfd_create("tdvol-overlay", MFD_CLOEXEC);

    if (file < 0 || ftruncate(file, (off_t)bytes) < 0)
        return error_set_errno(err, errno, "memory for the overlay");
    return loop_attach(file, false, out, err);
}

void loop_release(struct loop_device *loop)
{
    close_at(&loop->fd);
}

bool loop_refresh(const struct stat *file, struct error *err)
{
    char path[LOOP_PATH_LEN];
    bool found = false;

    if (!find_once(file, &found, path, err) || !found)
        return !found;
    auto_close int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || ioctl(fd, LOOP_SET_CAPACITY, 0) != 0)
        return error_set_errno(err, errno, "grow %s", path);
    return true;
}
