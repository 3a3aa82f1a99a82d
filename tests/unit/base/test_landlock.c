/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/landlock.h"
#include "base/process.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_LIMITED 120

static char folder[] = "/tmp/landlock.XXXXXX";

static const char *in_folder(const char *name)
{
    static char paths[4][128];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, 128, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    return mkdtemp(folder) && file_make_dirs(in_folder("ours"), 0700, &err) &&
                   file_write(in_folder("device"), 0600, "x", 1, &err) &&
                   file_write(in_folder("other"), 0600, "x", 1, &err)
               ? 0
               : -1;
}

static int remove_folder(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    const char *argv[] = { "rm", "-rf", folder, NULL };

    return process_must(argv, 0, 0, &err) ? 0 : -1;
}

static int errno_of_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

/* The number of the line that is wrong; 0: all is right. */
#define CHECK(condition) \
    if (!(condition))    \
    return __LINE__

static int look_around(void)
{
    const char *argv[] = { "/bin/true", NULL };
    struct process_result result;
    struct error err = ERROR_INIT;

    CHECK(errno_of_open(in_folder("other"), O_RDONLY) == 0);
    CHECK(errno_of_open(in_folder("other"), O_RDWR) == EACCES);
    CHECK(errno_of_open(in_folder("new"), O_WRONLY | O_CREAT) == EACCES);
    CHECK(mkdir(in_folder("folder"), 0700) != 0 && errno == EACCES);
    CHECK(unlink(in_folder("other")) != 0 && errno == EACCES);
    CHECK(rmdir(in_folder("ours")) != 0 && errno == EACCES);
    CHECK(errno_of_open(in_folder("device"), O_RDWR) == 0);
    CHECK(errno_of_open(in_folder("ours/new"), O_RDWR | O_CREAT) == 0);
    CHECK(rename(in_folder("ours/new"), in_folder("ours/newer")) == 0);
    CHECK(unlink(in_folder("ours/newer")) == 0);
    CHECK(!process_run(argv, 0, &result, &err) || result.exit_code != 0);
    return 0;
}

static int live_limited(void)
{
    auto_close int device = open(in_folder("device"), O_PATH | O_CLOEXEC);
    const struct landlock_rule rules[] = {
        { .path = "/", .rights = LANDLOCK_READ },
        { .path = in_folder("ours"), .rights = LANDLOCK_WRITE },
        { .path = in_folder("nothing"), .rights = LANDLOCK_WRITE },
        { .path = "", .rights = LANDLOCK_WRITE },
        { .fd = device, .rights = LANDLOCK_DEVICE },
    };
    struct error err = ERROR_INIT;
    bool limited = false;

    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(landlock_limit(rules, ARRAY_LEN(rules), &limited, &err));
    return limited ? look_around() : NOT_LIMITED;
}

static void only_what_the_rules_name_is_reached(void **state UNUSED)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(live_limited());
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_LIMITED)
        skip_because("the kernel has no Landlock");
    assert_int_equal(0, WEXITSTATUS(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_the_rules_name_is_reached),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
