/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/filesystem.h"

#include "base/capabilities.h"
#include "base/confine.h"
#include "blockd/ext4.h"
#include "record/fs_type.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGUMENTS_MAX 12
#define E2FSCK_FIXED  1

/* These words in an argument list are replaced by the device and the mount point. */
static const char device_word[] = "<device>";
static const char mount_word[] = "<mount>";

static const struct programs {
    const char *mount_flags;
    const char *make[ARGUMENTS_MAX];
    bool (*is_clean)(const char *device_path); /* then it needs no repair */
    const char *repair[ARGUMENTS_MAX];         /* empty: mounting replays the journal */
    const char *thorough[ARGUMENTS_MAX];       /* the same, without trust in is_clean() */
    const char *grow[ARGUMENTS_MAX];
    uint64_t growing; /* the capability that the kernel asks for */
} filesystems[FS_TYPE_COUNT] = {
    [FS_EXT4] = {
        .mount_flags = "",
        /* nodiscard: the layers below refuse discards, and each one would log an error in the
         * kernel. Lazy init: unwritten sectors read as zeros, so nothing must be zeroed before the
         * first use. Without it mkfs would write 16 GiB of inode tables on 1 TiB. -m 0: no blocks
         * only for root. */
        .make = { "mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-E",
                  "nodiscard,lazy_itable_init=1,lazy_journal_init=1", device_word },
        .is_clean = ext4_is_clean,
        .repair = { "e2fsck", "-p", device_word },
        .thorough = { "e2fsck", "-f", "-p", device_word },
        .grow = { "resize2fs", device_word },
        .growing = CAPABILITY(SYS_RESOURCE),
    },
    [FS_XFS] = {
        /* A copy has the UUID of its source, and both may be mounted on one node. */
        .mount_flags = "nouuid",
        .make = { "mkfs.xfs", "-q", "-f", "-K", "-b", "size=4096", "-s", "size=4096", device_word },
        .grow = { "xfs_growfs", "-d", mount_word },
        .growing = CAPABILITY(SYS_ADMIN),
    },
};

static const struct programs *find(const char *fs_type)
{
    enum fs_type type = FS_TYPE_COUNT;

    return fs_type_find(fs_type, &type) ? &filesystems[type] : NULL;
}

bool filesystem_check_type(const char *fs_type, struct error *err)
{
    if (find(fs_type))
        return true;
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "file system \"%s\" is not supported: only " FS_TYPE_CHOICES, fs_type);
}

static void fill(const char *const list[ARGUMENTS_MAX], const char *mount_path,
                 const char *argv[ARGUMENTS_MAX + 1])
{
    for (size_t i = 0; i <= ARGUMENTS_MAX; i++) {
        argv[i] = i < ARGUMENTS_MAX ? list[i] : NULL;
        if (argv[i] == device_word)
            argv[i] = CONFINE_DEVICE;
        else if (argv[i] == mount_word)
            argv[i] = mount_path;
    }
}

static bool flush(const char *device_path, struct error *err)
{
    auto_close int fd = open(device_path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        return error_set_errno(err, errno, "flush %s", device_path);
    return true;
}

bool filesystem_make(const char *fs_type, const char *device_path, uint32_t timeout_ms,
                     struct error *err)
{
    const struct programs *fs = find(fs_type);

    if (!fs)
        return filesystem_check_type(fs_type, err);
    const char *argv[ARGUMENTS_MAX + 1];
    fill(fs->make, "", argv);
    const struct confinement how = { .device_path = device_path };
    return confine_must(argv, &how, timeout_ms, 0, err) && flush(device_path, err);
}

bool filesystem_needs_repair(const char *fs_type, const char *device_path)
{
    const struct programs *fs = find(fs_type);

    return fs && fs->repair[0] && !fs->is_clean(device_path);
}

bool filesystem_repair(const char *fs_type, const char *device_path, bool thoroughly,
                       uint32_t timeout_ms, struct error *err)
{
    const struct programs *fs = find(fs_type);

    if (!fs)
        return filesystem_check_type(fs_type, err);
    if (!fs->repair[0])
        return true;
    const char *argv[ARGUMENTS_MAX + 1];
    fill(thoroughly ? fs->thorough : fs->repair, "", argv);
    const struct confinement how = { .device_path = device_path };
    if (confine_must(argv, &how, timeout_ms, E2FSCK_FIXED, err))
        return true;
    if (err->code == ERROR_INTERNAL) {
        err->code = ERROR_FAILED_PRECONDITION;
        error_reason(err, "FileSystemDamaged");
    }
    return false;
}

bool filesystem_grow(const char *fs_type, const char *device_path, const char *mount_path,
                     uint32_t timeout_ms, struct error *err)
{
    const struct programs *fs = find(fs_type);

    if (!fs)
        return filesystem_check_type(fs_type, err);
    const char *argv[ARGUMENTS_MAX + 1];
    fill(fs->grow, mount_path, argv);
    const struct confinement how = { .device_path = device_path, .capability = fs->growing };
    return confine_must(argv, &how, timeout_ms, 0, err);
}

const char *filesystem_mount_flags(const char *fs_type)
{
    const struct programs *fs = find(fs_type);

    return fs ? fs->mount_flags : "";
}

static bool is_in_path(const char *program)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        size_t len = strcspn(path, ":");
        char file[256];
        int n = snprintf(file, sizeof(file), "%.*s/%s", (int)len, path, program);

        if (n > 0 && (size_t)n < sizeof(file) && access(file, X_OK) == 0)
            return true;
        path += len + (path[len] == ':');
    }
    return false;
}

bool filesystem_is_installed(const char *fs_type)
{
    const struct programs *fs = find(fs_type);

    return fs && is_in_path(fs->make[0]) && is_in_path(fs->grow[0]) &&
           (!fs->repair[0] || is_in_path(fs->repair[0]));
}
