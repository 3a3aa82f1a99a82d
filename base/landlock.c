/* SPDX-License-Identifier: Apache-2.0 */
#include "base/landlock.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Newer than the headers of Debian 12. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (UINT64_C(1) << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (UINT64_C(1) << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (UINT64_C(1) << 15)
#endif

/* What the kernel of each ABI knows. */
static uint64_t known_to(long abi)
{
    uint64_t known = LANDLOCK_ACCESS_FS_REFER - 1;

    if (abi >= 2)
        known |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        known |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= 5)
        known |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return known;
}

#define FOR_FILES                                                                                \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | \
     LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV)

static uint64_t access_of(unsigned rights)
{
    uint64_t access = 0;

    if (rights & LANDLOCK_READ)
        access |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
    if (rights & LANDLOCK_RUN)
        access |= LANDLOCK_ACCESS_FS_EXECUTE;
    if (rights & LANDLOCK_WRITE)
        access |= LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE |
                  LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_REMOVE_DIR |
                  LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
                  LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK;
    if (rights & LANDLOCK_DEVICE)
        access |= LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                  LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return access;
}

static bool add(int ruleset_fd, const struct landlock_rule *rule, uint64_t known, struct error *err)
{
    auto_close int opened = rule->path ? open(rule->path, O_PATH | O_CLOEXEC) : -1;
    struct landlock_path_beneath_attr beneath = { .parent_fd = rule->path ? opened : rule->fd,
                                                  .allowed_access =
                                                      access_of(rule->rights) & known };
    struct stat st;

    if (rule->path && opened < 0)
        return true;
    if (fstat(beneath.parent_fd, &st) != 0)
        return error_set_errno(err, errno, "a rule of Landlock");
    if (!S_ISDIR(st.st_mode))
        beneath.allowed_access &= FOR_FILES;
    return syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) ==
               0 ||
           error_set_errno(err, errno, "a rule of Landlock for %s",
                           rule->path ? rule->path : "a device");
}

bool landlock_limit(const struct landlock_rule *rules, size_t n, bool *limited, struct error *err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

    *limited = false;
    if (abi <= 0)
        return true; /* ENOSYS, or EOPNOTSUPP: switched off at boot */
    struct landlock_ruleset_attr attr = { .handled_access_fs = known_to(abi) };
    auto_close int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
    if (fd < 0)
        return error_set_errno(err, errno, "make a ruleset of Landlock");
    for (size_t i = 0; i < n; i++) {
        if (!add(fd, &rules[i], attr.handled_access_fs, err))
            return false;
    }
    if (syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        return error_set_errno(err, errno, "apply Landlock");
    *limited = true;
    return true;
}
