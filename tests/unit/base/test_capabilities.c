/* SPDX-License-Identifier: Apache-2.0 */
#include "base/capabilities.h"
#include "base/file.h"
#include "base/process.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* The line of /proc/self/status, as a number. */
static uint64_t read_set(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    unsigned long long set = 0;

    return at && sscanf(at + strlen(name), ":\t%llx", &set) == 1 ? set : UINT64_MAX;
}

static int keep_two(void)
{
    const uint64_t wanted = CAPABILITY(KILL) | CAPABILITY(CHOWN);
    auto_free char *status = NULL;
    size_t len = 0;
    struct error err = ERROR_INIT;
    struct process_result result;
    const char *argv[] = { "cat", "/proc/self/status", NULL };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !capabilities_keep(wanted, &err) ||
        !file_read("/proc/self/status", 65536, &status, &len, &err))
        return 1;
    if (read_set(status, "CapEff") != wanted || read_set(status, "CapPrm") != wanted ||
        read_set(status, "CapBnd") != wanted || read_set(status, "CapInh") != 0 ||
        read_set(status, "CapAmb") != 0)
        return 2;
    /* A program gets no more, although root runs it. */
    if (!process_run(argv, 0, &result, &err) || read_set(result.output, "CapEff") != wanted)
        return 3;
    /* Nothing comes back; without CAP_SETPCAP, fewer can still be kept. */
    return capabilities_keep(UINT64_MAX, &err) && capabilities_keep(CAPABILITY(KILL), &err) &&
                   process_run(argv, 0, &result, &err) &&
                   read_set(result.output, "CapEff") == CAPABILITY(KILL) &&
                   read_set(result.output, "CapPrm") == CAPABILITY(KILL)
               ? 0
               : 4;
}

static void what_is_given_up_does_not_come_back(void **state UNUSED)
{
    int status = 0;

    if (geteuid() != 0)
        skip_because("only root has capabilities");
    pid_t pid = fork();
    if (pid == 0)
        _exit(keep_two());
    assert_int_equal(pid, waitpid(pid, &status, 0));
    assert_true(WIFEXITED(status));
    assert_int_equal(0, WEXITSTATUS(status));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_given_up_does_not_come_back),
    };

    return RUN_TESTS(tests);
}
