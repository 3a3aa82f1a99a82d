/* SPDX-License-Identifier: Apache-2.0 */
#include "base/syscalls.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOT_LIMITED 120
#define KILLED      (1000 + SIGSYS)

/* What becomes of a call under the list: its errno, 0, or KILLED. */
static int try_call(enum syscall_list list, int (*call)(void))
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        struct error err = ERROR_INIT;
        bool limited = false;

        if (!syscalls_limit(list, &limited, &err))
            _exit(121);
        if (!limited)
            _exit(NOT_LIMITED);
        _exit(call());
    }
    assert_int_equal(pid, waitpid(pid, &status, 0));
    return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int told(long rc)
{
    return rc < 0 ? errno : 0;
}

static int call_nothing(void)
{
    return 0;
}

static int call_open(void)
{
    return told(open("/dev/null", O_RDWR | O_CLOEXEC));
}

static int call_inet(void)
{
    return told(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int call_unix(void)
{
    return told(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int call_alg(void)
{
    return told(socket(AF_ALG, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

static int call_exec(void)
{
    const char *argv[] = { "/nothing", NULL };

    return told(syscall(SYS_execve, argv[0], argv, argv + 1));
}

static int call_unshare(void)
{
    return told(unshare(CLONE_NEWNS));
}

static int call_keyctl(void)
{
    return told(syscall(SYS_keyctl, 0, 0));
}

static int call_ptrace(void)
{
    return told(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int call_bpf(void)
{
    return told(syscall(SYS_bpf, 0, NULL, 0));
}

static int call_module(void)
{
    return told(syscall(SYS_finit_module, -1, "", 0));
}

static int call_io_uring(void)
{
    return told(syscall(SYS_io_uring_setup, 1, NULL));
}

static int call_mount(void)
{
    return told(syscall(SYS_move_mount, -1, "x", -1, "y", 0));
}

static int call_flush(void)
{
    return told(ioctl(-1, BLKFLSBUF, 0));
}

static int call_size(void)
{
    uint64_t bytes = 0;

    return told(ioctl(-1, BLKGETSIZE64, &bytes));
}

static int call_loop(void)
{
    return told(ioctl(-1, 0x4c82 /* LOOP_CTL_GET_FREE */));
}

static const struct {
    int (*call)(void);
    int front, root, broker, tool, probe;
} cases[] = {
    { call_nothing, 0, 0, 0, 0, 0 },
    { call_open, 0, 0, 0, 0, ENOSYS },
    { call_inet, 0, ENOSYS, 0, ENOSYS, ENOSYS },
    { call_unix, 0, 0, 0, ENOSYS, ENOSYS },
    { call_alg, ENOSYS, ENOSYS, ENOSYS, ENOSYS, ENOSYS },
    { call_exec, ENOSYS, ENOENT, ENOSYS, ENOENT, ENOSYS },
    { call_unshare, ENOSYS, ENOSYS, ENOSYS, ENOSYS, ENOSYS },
    { call_keyctl, ENOSYS, ENOSYS, ENOSYS, ENOSYS, ENOSYS },
    { call_mount, ENOSYS, EBADF, ENOSYS, ENOSYS, ENOSYS },
    { call_flush, EBADF, EBADF, EBADF, 0, 0 },
    { call_size, EBADF, EBADF, EBADF, EBADF, EBADF },
    { call_loop, EBADF, EBADF, EBADF, ENOSYS, ENOSYS },
    { call_ptrace, KILLED, KILLED, KILLED, KILLED, KILLED },
    { call_bpf, KILLED, KILLED, KILLED, KILLED, KILLED },
    { call_module, KILLED, KILLED, KILLED, KILLED, KILLED },
    { call_io_uring, KILLED, KILLED, KILLED, KILLED, KILLED },
};

static void each_list_allows_what_its_processes_need(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const int wanted[SYSCALLS_COUNT] = {
            [SYSCALLS_FRONT] = cases[i].front,   [SYSCALLS_ROOT] = cases[i].root,
            [SYSCALLS_BROKER] = cases[i].broker, [SYSCALLS_TOOL] = cases[i].tool,
            [SYSCALLS_PROBE] = cases[i].probe,
        };

        for (enum syscall_list list = 0; list < SYSCALLS_COUNT; list++) {
            int got = try_call(list, cases[i].call);

            if (got == NOT_LIMITED)
                skip_because("the kernel has no filters, or this build has sanitizers");
            if (got != wanted[list])
                fail_msg("case %zu, list %d: %d, not %d", i, (int)list, got, wanted[list]);
        }
    }
}

/* A worker of tdvol-blockd limits its children further. */
static int call_tool_list(void)
{
    struct error err = ERROR_INIT;
    bool limited = false;

    if (!syscalls_limit(SYSCALLS_TOOL, &limited, &err) || !limited)
        return 1;
    return call_unix() == ENOSYS ? 0 : 2;
}

static void a_list_can_be_made_shorter_and_not_longer(void **state UNUSED)
{
    int got = try_call(SYSCALLS_ROOT, call_tool_list);

    if (got == NOT_LIMITED)
        skip_because("the kernel has no filters, or this build has sanitizers");
    assert_int_equal(0, got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_list_allows_what_its_processes_need),
        cmocka_unit_test(a_list_can_be_made_shorter_and_not_longer),
    };

    return RUN_TESTS(tests);
}
