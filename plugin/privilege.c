/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/privilege.h"

#include "base/landlock.h"
#include "base/log.h"
#include "base/syscalls.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

bool privilege_limit(struct error *err)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "set no_new_privs");
    if (geteuid() != 0)
        return true;
    for (cap_value_t cap = 0; cap < cap_max_bits(); cap++)
        if (cap_get_bound(cap) == 1 && cap_drop_bound(cap) != 0)
            return error_set_errno(err, errno, "drop capability %d", cap);
    return true;
}

static bool find_capabilities(bool *out, struct error *err)
{
    cap_t caps = cap_get_proc();
    cap_t none = cap_init();

    if (caps && none)
        *out = cap_compare(caps, none) != 0;
    bool known = caps && none;
    (void)cap_free(caps);
    (void)cap_free(none);
    return known || error_set_errno(err, errno, "read the capabilities");
}

bool privilege_find(const char *user, uid_t *uid, gid_t *gid, struct error *err)
{
    *uid = geteuid();
    *gid = getegid();
    if (*uid != 0 || strcmp(user, "root") == 0)
        return true;
    errno = 0;
    const struct passwd *entry = getpwnam(user);
    if (!entry)
        return error_set(err, ERROR_FAILED_PRECONDITION, "--user: there is no user %s", user);
    *uid = entry->pw_uid;
    *gid = entry->pw_gid;
    return true;
}

bool privilege_drop(const char *user, struct error *err)
{
    bool has_some = true;
    uid_t uid = 0;
    gid_t gid = 0;

    if (!privilege_find(user, &uid, &gid, err))
        return false;
    if (geteuid() != 0 || strcmp(user, "root") == 0)
        return true;
    /* The C library changes all threads; leaving uid 0 clears their capabilities. */
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        return error_set_errno(err, errno, "become user %s", user);
    if (!find_capabilities(&has_some, err))
        return false;
    if (has_some || setuid(0) == 0)
        return error_set(err, ERROR_INTERNAL, "user %s still has privileges of root", user);
    return true;
}

static struct landlock_rule folder_rule(const char *path, char folder[static PATH_MAX])
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    int len = slash ? (int)(slash - path) : 0;

    /* An empty path matches nothing. */
    (void)snprintf(folder, PATH_MAX, "%.*s", len, path ? path : "");
    return (struct landlock_rule){ .path = folder, .rights = LANDLOCK_WRITE };
}

bool privilege_limit_files(const char *state_dir, const char *const *paths, size_t n,
                           struct error *err)
{
    char folders[PRIVILEGE_PATHS_MAX][PATH_MAX];
    struct landlock_rule rules[3 + PRIVILEGE_PATHS_MAX] = {
        { .path = "/", .rights = LANDLOCK_READ },
        { .path = "/dev/null", .rights = LANDLOCK_DEVICE },
        { .path = state_dir, .rights = LANDLOCK_WRITE },
    };
    bool limited = false;

    for (size_t i = 0; i < n && i < PRIVILEGE_PATHS_MAX; i++)
        rules[3 + i] = folder_rule(paths[i], folders[i]);
    if (!landlock_limit(rules, 3 + n, &limited, err))
        return false;
    if (!limited)
        log_info(LANDLOCK_MISSING);
    return true;
}

bool privilege_limit_calls(struct error *err)
{
    bool limited = false;

    if (!syscalls_limit(SYSCALLS_FRONT, &limited, err))
        return false;
    if (!limited)
        log_warning("system calls are not limited", TEXT("why", syscalls_why_not()));
    return true;
}
