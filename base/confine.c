/* SPDX-License-Identifier: Apache-2.0 */
#include "base/confine.h"

#include "base/capabilities.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/landlock.h"
#include "base/secret.h"
#include "base/syscalls.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Not "nobody": tdvol-csi has that one, and processes of one user may trace each other. */
#define CHILD_UID      65533
#define CHILD_FD       3
#define EXIT_FAILED    126
#define EXIT_NOT_FOUND 127
#define MEMORY_BYTES   (UINT64_C(4) << 30) /* e2fsck of 60 TiB needs 344 MiB */
#define FILES_MAX      64
#define CALL_MS        60000u
#define NODE_WORD_LEN  8 /* random bytes */

struct child {
    const char *const *argv; /* or a function: */
    int (*run)(int device_fd, void *cookie);
    void *cookie;
    pid_t parent;
    int device_fd;       /* -1: none */
    uint64_t capability; /* as in struct confinement */
};

/* --- in the child --- */

static bool set_signals(struct error *err)
{
    sigset_t none;

    (void)sigemptyset(&none);
    for (int number = 1; number < SIGRTMIN; number++)
        (void)signal(number, SIG_DFL);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0 || error_set_errno(err, errno, "set signals");
}

static bool set_files(int device_fd, int output_fd, struct error *err)
{
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int kept = device_fd < 0 ? nothing : device_fd;

    /* Higher numbers first: none of the sources is overwritten before it is used. */
    auto_close int out = fcntl(output_fd, F_DUPFD_CLOEXEC, FILES_MAX);
    auto_close int device = fcntl(kept, F_DUPFD_CLOEXEC, FILES_MAX);
    if (nothing < 0 || out < 0 || device < 0 || dup2(nothing, STDIN_FILENO) < 0 ||
        dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0 ||
        dup2(device, CHILD_FD) < 0 || close_range(CHILD_FD + 1, UINT_MAX, 0) != 0)
        return error_set_errno(err, errno, "set descriptors");
    out = -1; /* close_range() has closed them */
    device = -1;
    return true;
}

static bool set_limits(const struct child *child, struct error *err)
{
    const struct rlimit memory = { MEMORY_BYTES, MEMORY_BYTES };
    const struct rlimit files = { FILES_MAX, FILES_MAX }, none = { 0, 0 };

    /* A function has the memory map of this process, which sanitizers make huge. */
    if ((child->argv && setrlimit(RLIMIT_AS, &memory) != 0) ||
        setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_CORE, &none) != 0)
        return error_set_errno(err, errno, "set limits");
    return true;
}

static bool give_up_user(const struct child *child, struct error *err)
{
    if (geteuid() != 0)
        return true;
    if (child->argv && child->capability == 0 &&
        (setgroups(0, NULL) != 0 || setresgid(CHILD_UID, CHILD_UID, CHILD_UID) != 0 ||
         setresuid(CHILD_UID, CHILD_UID, CHILD_UID) != 0))
        return error_set_errno(err, errno, "become another user");
    return capabilities_keep(child->capability, err);
}

/* The volume's lock ends with the worker, so a program that writes to the device must end, too. The
 * kernel forgets this signal when the user changes. */
static bool die_with(pid_t parent, struct error *err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return error_set_errno(err, errno, "end with the parent");
    return getppid() == parent || error_set(err, ERROR_ABORTED, "the parent is gone");
}

static bool limit_files(const struct child *child, struct error *err)
{
    const struct landlock_rule rules[] = {
        { .path = "/dev/null", .rights = LANDLOCK_DEVICE },
        { .path = "/", .rights = LANDLOCK_READ | LANDLOCK_RUN },
        { .fd = child->device_fd < 0 ? STDIN_FILENO : CHILD_FD, .rights = LANDLOCK_DEVICE },
    };
    bool limited = false;

    /* A function opens nothing: its list of system calls says so. */
    return !child->argv || landlock_limit(rules, ARRAY_LEN(rules), &limited, err);
}

static bool enter(const struct child *child, int output_fd, struct error *err)
{
    bool limited = false;

    return set_signals(err) && set_files(child->device_fd, output_fd, err) &&
           set_limits(child, err) && give_up_user(child, err) && die_with(child->parent, err) &&
           (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ||
            error_set_errno(err, errno, "no new privileges")) &&
           limit_files(child, err) &&
           syscalls_limit(child->argv ? SYSCALLS_TOOL : SYSCALLS_PROBE, &limited, err);
}

static int run_program(const char *const *argv)
{
    /* execvpe() takes char ** for historical reasons and does not write to it. */
    union {
        const char *const *in;
        char *const *out;
    } view = { .in = argv };
    char locale[] = "LC_ALL=C", path[4096];
    const char *now = getenv("PATH");
    char *environment[] = { locale, NULL, NULL };

    if (now && snprintf(path, sizeof(path), "PATH=%s", now) < (int)sizeof(path))
        environment[1] = path;
    (void)execvpe(argv[0], view.out, environment);
    /* EACCES also comes from a folder in PATH that is closed to this user. */
    return errno == ENOENT || errno == EACCES ? EXIT_NOT_FOUND : EXIT_FAILED;
}

__attribute__((noreturn)) static void live(const struct child *child, int output_fd)
{
    struct error err = ERROR_INIT;

    secret_forget_inherited();
    (void)dup2(output_fd, STDERR_FILENO);
    if (!enter(child, output_fd, &err)) {
        (void)dprintf(STDERR_FILENO, "cannot confine it: %s\n", err.text);
        _exit(EXIT_FAILED);
    }
    _exit(child->argv ? run_program(child->argv) : child->run(CHILD_FD, child->cookie));
}

/* --- in the parent --- */

static bool start(void *cookie, int output_fd, pid_t *out_pid, struct error *err)
{
    struct child *child = cookie;

    child->parent = getpid();
    if (!syscalls_prepare(child->argv ? SYSCALLS_TOOL : SYSCALLS_PROBE, err))
        return false;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return error_set_errno(err, errno, "start a child");
    if (pid == 0)
        live(child, output_fd);
    *out_pid = pid;
    return true;
}

/* The child's user may not open the device's own node. It gets a node of its own, which has no name by
 * the time it runs. */
static bool open_private_node(dev_t device, int *out_fd, struct error *err)
{
    char path[64], word[2 * NODE_WORD_LEN + 1];
    uint8_t random[NODE_WORD_LEN];
    struct stat st;

    if (!random_bytes(random, sizeof(random), err))
        return false;
    hex_encode(random, sizeof(random), word);
    (void)snprintf(path, sizeof(path), "/dev/.tdvol-%s", word);
    if (mknod(path, S_IFBLK | 0600, device) != 0)
        return error_set_errno(err, errno, "make %s", path);
    *out_fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    bool done =
        (*out_fd >= 0 && fstat(*out_fd, &st) == 0 && S_ISBLK(st.st_mode) && st.st_rdev == device &&
         fchownat(*out_fd, "", CHILD_UID, CHILD_UID, AT_EMPTY_PATH) == 0) ||
        error_set_errno(err, errno, "%s", path);
    (void)unlink(path);
    return done;
}

static bool open_device(const struct confinement *how, int *out_fd, struct error *err)
{
    auto_close int fd = open(how->device_path, O_PATH | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "open %s", how->device_path);
    if (how->capability || geteuid() != 0) {
        *out_fd = TAKE_FD(fd);
        return true;
    }
    if (!S_ISBLK(st.st_mode))
        return error_set(err, ERROR_INTERNAL, "%s is not a block device", how->device_path);
    return open_private_node(st.st_rdev, out_fd, err);
}

bool confine_must(const char *const *argv, const struct confinement *how, uint32_t timeout_ms,
                  int max_ok_exit, struct error *err)
{
    auto_close int device_fd = -1;
    struct process_result result;

    if (how->device_path && !open_device(how, &device_fd, err))
        return error_wrap(err, "%s", argv[0]);
    struct child child = { .argv = argv, .device_fd = device_fd, .capability = how->capability };
    if (!process_run_by(start, &child, argv[0], timeout_ms, &result, err))
        return false;
    if (result.exit_code == EXIT_NOT_FOUND)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "program %s is not installed where every user may run it", argv[0]);
    return process_check(argv[0], &result, max_ok_exit, err);
}

bool confine_call(int (*run)(int device_fd, void *cookie), void *cookie, int device_fd,
                  struct process_result *out, struct error *err)
{
    struct child child = { .run = run, .cookie = cookie, .device_fd = device_fd };

    return process_run_by(start, &child, "a confined child", CALL_MS, out, err);
}
