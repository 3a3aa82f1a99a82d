/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"

#ifdef TDVOL_FAULTS

#include "base/macro.h"
#include "base/option.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_log(void)
{
    const char *path = getenv("TDVOL_FAULT_LOG");

    return path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
}

/* For processes that may not open it any more, because of Landlock. */
static int early_fd = -1;

__attribute__((constructor)) static void open_log_early(void)
{
    early_fd = open_log();
}

static void log_passing(const char *name)
{
    auto_close int fd = open_log();
    char line[256];
    int len = snprintf(line, sizeof(line), "%s %s\n", name, program_invocation_short_name);
    int out = fd < 0 && errno == EACCES ? early_fd : fd;

    if (out < 0 || len < 0 || (size_t)len >= sizeof(line))
        return;
    if (write(out, line, (size_t)len) != len)
        abort(); /* a test that misses points would pass without testing them */
}

/* Reads the rule from the variable, or from the file that it names. "" when there is none. */
static void read_rule(char *out, size_t size, const char **out_file)
{
    const char *rule = getenv("TDVOL_FAULT");

    out[0] = '\0';
    *out_file = NULL;
    if (!rule)
        return;
    if (rule[0] != '@') {
        (void)snprintf(out, size, "%s", rule);
        return;
    }
    auto_close int fd = open(rule + 1, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, out, size - 1);
    out[len > 0 ? len : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    *out_file = rule + 1;
}

static bool is_due(const char *count_text)
{
    static atomic_uint_fast64_t passed;
    uint64_t wanted = 1;

    if (count_text && !parse_u64(count_text, &wanted))
        abort();
    return wanted == 0 || atomic_fetch_add(&passed, 1) + 1 == wanted;
}

void fault_point(const char *name)
{
    int saved_errno = errno;
    char rule[256];
    const char *file = NULL;
    char *rest = rule;

    log_passing(name);
    read_rule(rule, sizeof(rule), &file);
    const char *point = strsep(&rest, ":");
    const char *action = strsep(&rest, ":");
    /* Only the one that removes the file acts: processes may pass at once, a test may give up. */
    if (action && strcmp(point, name) == 0 && is_due(rest) && (!file || unlink(file) == 0)) {
        if (strcmp(action, "kill") == 0)
            (void)kill(getpid(), SIGKILL);
        if (strcmp(action, "sleep") != 0)
            abort(); /* a misspelt action must not look like a passed test */
        for (;;)
            (void)pause();
    }
    errno = saved_errno;
}

void fault_before(const char *operation, const char *step)
{
    char name[128];

    (void)snprintf(name, sizeof(name), "front.%s.before-%s", operation, step);
    fault_point(name);
}

#endif
