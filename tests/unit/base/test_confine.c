/* SPDX-License-Identifier: Apache-2.0 */
#include "base/capabilities.h"
#include "base/confine.h"
#include "base/file.h"
#include "base/secret.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL(script)              \
    (const char *const[])          \
    {                              \
        "sh", "-c", (script), NULL \
    }

static const struct confinement nothing = { .device_path = NULL };

/* The shell has no children here, so a script has only what is built in. */
static void expect_success(const char *const *argv)
{
    struct error err = ERROR_INIT;

    if (!confine_must(argv, &nothing, 20000, 0, &err))
        fail_msg("%s: %s", argv[2], err.text);
}

static void expect_status(const char *line)
{
    const char *argv[] = { "grep", "-qx", line, "/proc/self/status", NULL };

    expect_success(argv);
}

static void a_program_has_no_rights(void **state UNUSED)
{
    expect_status("NoNewPrivs:.1");
    if (geteuid() != 0)
        return;
    expect_status("Uid:.65533.65533.65533.65533");
    expect_status("Gid:.65533.65533.65533.65533");
    expect_status("Groups:[ \t]*");
    expect_status("CapInh:.0000000000000000");
    expect_status("CapPrm:.0000000000000000");
    expect_status("CapEff:.0000000000000000");
    expect_status("CapAmb:.0000000000000000");
    struct error err = ERROR_INIT;
    assert_refused(ERROR_INTERNAL, confine_must(SHELL(": > /dev/kmsg"), &nothing, 0, 0, &err));
}

static void a_program_writes_nothing(void **state UNUSED)
{
    static char path[] = "/tmp/confine.XXXXXX";
    char script[128];
    struct error err = ERROR_INIT;
    int fd = mkstemp(path);

    assert_int_equal(0, fchmod(fd, 0666));
    close(fd);
    (void)snprintf(script, sizeof(script), ": 2>/dev/null > %s", path);
    bool wrote = confine_must(SHELL(script), &nothing, 0, 0, &err);
    unlink(path);
    /* Without Landlock, the modes of files alone count. */
    assert_true(!wrote || syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0);
}

static void a_program_has_no_children(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    if (HAS_SANITIZER)
        skip_because("sanitizers need more system calls");
    assert_refused(ERROR_INTERNAL, confine_must(SHELL("/bin/true; exit 0"), &nothing, 0, 0, &err));
    assert_contains(err.text, "ork");
}

static void a_program_has_few_descriptors_and_a_small_environment(void **state UNUSED)
{
    /* 3 is the device's place. The shell's own are above. */
    auto_close int open_here = fcntl(STDOUT_FILENO, F_DUPFD, 5); /* without CLOEXEC */

    assert_true(open_here >= 5);
    expect_success(SHELL("for fd in 4 5 6 7 8 9; do test ! -e /proc/$$/fd/$fd || "
                         "exit $fd; done"));
    assert_int_equal(0, setenv("TDVOL_UNIT_TEST", "1", 1));
    expect_success(SHELL("test -z \"$TDVOL_UNIT_TEST\" && test \"$LC_ALL\" = C"));
    const char *limit[] = { "grep", "-q", "^Max open files *64 *64 ", "/proc/self/limits", NULL };
    expect_success(limit);
}

static void endings_are_told_apart(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    assert_ok(confine_must(SHELL("exit 1"), &nothing, 0, 1, &err));
    assert_refused(ERROR_INTERNAL, confine_must(SHELL("echo why; exit 2"), &nothing, 0, 1, &err));
    assert_contains(err.text, "sh failed with exit code 2: why");
    const char *missing[] = { "no-such-program", NULL };
    assert_refused(ERROR_FAILED_PRECONDITION, confine_must(missing, &nothing, 0, 0, &err));
    assert_contains(err.text, "program no-such-program is not installed");
    assert_refused(ERROR_DEADLINE_EXCEEDED,
                   confine_must(SHELL("while :; do :; done"), &nothing, 200, 0, &err));
    const struct confinement no_device = { .device_path = "/nothing" };
    assert_refused(ERROR_NOT_FOUND, confine_must(SHELL(":"), &no_device, 0, 0, &err));
    const struct confinement no_block = { .device_path = "/etc/passwd" };
    if (geteuid() == 0)
        assert_refused(ERROR_INTERNAL, confine_must(SHELL(":"), &no_block, 0, 0, &err));
}

static int answer(int device_fd, void *cookie)
{
    char byte = 0;

    if (pread(device_fd, &byte, 1, 0) != 1)
        return 98;
    (void)!write(STDOUT_FILENO, &byte, 1);
    return *(const int *)cookie;
}

static void a_function_reads_its_device(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    struct process_result result;
    int wanted = 42;
    auto_close int fd = memfd_create("device", MFD_CLOEXEC);

    assert_int_equal(1, write(fd, "x", 1));
    assert_ok(confine_call(answer, &wanted, fd, &result, &err));
    assert_int_equal(42, result.exit_code);
    assert_string_equal("x", result.output);
}

static int try_to_leave(int device_fd, void *cookie UNUSED)
{
    if (open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0)
        return 1;
    if (socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0)
        return 2;
    if (geteuid() == 0 && setuid(1) == 0)
        return 3;
    if (kill(getppid(), 0) == 0)
        return 4;
    if (fork() >= 0)
        return 5;
    return fcntl(device_fd, F_GETFD) < 0 ? 6 : 0;
}

static int trace(int device_fd UNUSED, void *cookie UNUSED)
{
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0 ? 1 : 0;
}

static int crash(int device_fd UNUSED, void *cookie UNUSED)
{
    (void)raise(SIGSEGV);
    return 0;
}

static void a_function_cannot_leave(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    struct process_result result;
    auto_close int fd = memfd_create("device", MFD_CLOEXEC);

    assert_ok(confine_call(try_to_leave, NULL, fd, &result, &err));
    if (HAS_SANITIZER)
        skip_because("sanitizers need more system calls");
    assert_int_equal(0, result.exit_code);
    assert_ok(confine_call(trace, NULL, fd, &result, &err));
    assert_int_equal(128 + SIGSYS, result.exit_code);
    assert_ok(confine_call(crash, NULL, fd, &result, &err));
    assert_true(result.exit_code != 0);
}

/* The pid of the one child that a process has, once it runs the program; 0: not yet. */
static pid_t find_child(pid_t parent, const char *program)
{
    char path[64], text[32] = "";
    int pid = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    FILE *children = fopen(path, "re");
    if (children && fscanf(children, "%d", &pid) != 1)
        pid = 0;
    if (children)
        (void)fclose(children);
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", pid);
    FILE *comm = pid ? fopen(path, "re") : NULL;
    if (comm && !fgets(text, sizeof(text), comm))
        text[0] = '\0';
    if (comm)
        (void)fclose(comm);
    text[strcspn(text, "\n")] = '\0';
    return strcmp(text, program) == 0 ? pid : 0;
}

/* Its parent is a worker: the volume's lock is free when it has died. */
static void a_program_ends_with_its_parent(void **state UNUSED)
{
    static const char *const argv[] = { "sleep", "60", NULL };
    struct error err = ERROR_INIT;
    int status = 0;
    pid_t child = 0;

    assert_int_equal(0, prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    pid_t worker = fork();
    if (worker == 0)
        _exit(confine_must(argv, &nothing, 0, 0, &err) ? 0 : 1);
    while (child == 0) {
        (void)poll(NULL, 0, 10);
        child = find_child(worker, "sleep");
    }
    assert_int_equal(0, kill(worker, SIGKILL));
    assert_int_equal(worker, waitpid(worker, &status, 0));
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* A page that is gone cannot be written out. */
static int look_for_secret(int device_fd UNUSED, void *cookie)
{
    const struct secret *secret = cookie;

    return write(STDOUT_FILENO, secret->bytes, secret->len) < 0 && errno == EFAULT ? 0 : 1;
}

static void a_child_has_no_inherited_secret(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    struct process_result result;
    auto_close int fd = memfd_create("device", MFD_CLOEXEC);
    auto_secret struct secret secret = SECRET_INIT;

    assert_ok(secret_alloc_inherited(&secret, 32, &err));
    assert_ok(confine_call(look_for_secret, &secret, fd, &result, &err));
    assert_int_equal(0, result.exit_code);
    secret.bytes[0] = 1; /* still here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_has_no_rights),
        cmocka_unit_test(a_program_writes_nothing),
        cmocka_unit_test(a_program_has_no_children),
        cmocka_unit_test(a_program_has_few_descriptors_and_a_small_environment),
        cmocka_unit_test(endings_are_told_apart),
        cmocka_unit_test(a_function_reads_its_device),
        cmocka_unit_test(a_function_cannot_leave),
        cmocka_unit_test(a_program_ends_with_its_parent),
        cmocka_unit_test(a_child_has_no_inherited_secret),
    };

    return RUN_TESTS(tests);
}
