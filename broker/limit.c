/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/limit.h"

#include "base/landlock.h"
#include "base/log.h"
#include "base/syscalls.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

bool limit_rights(const struct broker_places *places, struct error *err)
{
    const char *audit = places->audit, *slash = strrchr(audit, '/');
    char folder[PATH_MAX];
    const struct landlock_rule rules[] = {
        { .path = "/", .rights = LANDLOCK_READ },
        { .path = "/dev/null", .rights = LANDLOCK_DEVICE },
        { .path = places->dir, .rights = LANDLOCK_WRITE },
        { .path = places->store ? places->store : "", .rights = LANDLOCK_WRITE },
        { .path = places->quotes ? places->quotes : "", .rights = LANDLOCK_WRITE },
        { .path = folder, .rights = LANDLOCK_WRITE },
    };
    bool files = false, calls = false;

    (void)snprintf(folder, sizeof(folder), "%.*s", slash ? (int)(slash - audit) : 1,
                   slash ? audit : ".");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no new privileges");
    if (!landlock_limit(rules, ARRAY_LEN(rules), &files, err) ||
        !syscalls_limit(SYSCALLS_BROKER, &calls, err))
        return false;
    if (!files)
        log_info(LANDLOCK_MISSING);
    if (!calls)
        log_warning("system calls are not limited", TEXT("why", syscalls_why_not()));
    return true;
}
