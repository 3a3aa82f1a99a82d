/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* posix_spawn's two lists, released together. */
struct setup {
    bool is_ready;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
};

static void setup_destroy(struct setup *setup)
{
    if (!setup->is_ready)
        return;
    (void)posix_spawn_file_actions_destroy(&setup->actions);
    (void)posix_spawnattr_destroy(&setup->attributes);
}

/* The child starts with no signal blocked or ignored, even if we block or ignore some. */
static bool setup_init(struct setup *setup, struct error *err)
{
    sigset_t none, all;

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    int failed = posix_spawn_file_actions_init(&setup->actions);
    if (failed)
        return error_set_errno(err, failed, "prepare a process");
    failed = posix_spawnattr_init(&setup->attributes);
    if (failed) {
        (void)posix_spawn_file_actions_destroy(&setup->actions);
        return error_set_errno(err, failed, "prepare a process");
    }
    setup->is_ready = true;
    (void)posix_spawnattr_setsigmask(&setup->attributes, &none);
    (void)posix_spawnattr_setsigdefault(&setup->attributes, &all);
    (void)posix_spawnattr_setflags(&setup->attributes,
                                   POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return true;
}

/* posix_spawn takes char ** for historical reasons and does not write to it. */
static char *const *spawn_argv(const char *const *argv)
{
    union {
        const char *const *in;
        char *const *out;
    } view = { .in = argv };

    return view.out;
}

static bool spawn(const struct setup *setup, const char *const *argv, char *const *environment,
                  pid_t *out_pid, struct error *err)
{
    pid_t pid = -1;
    int failed = posix_spawnp(&pid, argv[0], &setup->actions, &setup->attributes, spawn_argv(argv),
                              environment);

    if (failed == ENOENT) /* NOT_FOUND would be read as "no such volume" */
        return error_set(err, ERROR_FAILED_PRECONDITION, "program %s is not installed", argv[0]);
    if (failed)
        return error_set_errno(err, failed, "run %s", argv[0]);
    *out_pid = pid;
    return true;
}

static bool spawn_quiet(const char *const *argv, int output_fd, pid_t *out_pid, struct error *err)
{
    struct setup setup CLEANUP(setup_destroy) = { .is_ready = false };
    const char *path = getenv("PATH");
    auto_free char *path_entry = NULL;
    char locale[] = "LC_ALL=C";

    if (!setup_init(&setup, err))
        return false;
    if (asprintf(&path_entry, "PATH=%s", path ? path : PATH_DEFAULT) < 0) {
        path_entry = NULL;
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    }
    int failed =
        posix_spawn_file_actions_addopen(&setup.actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&setup.actions, output_fd, STDOUT_FILENO);
    if (!failed)
        failed = posix_spawn_file_actions_adddup2(&setup.actions, output_fd, STDERR_FILENO);
    if (failed)
        return error_set_errno(err, failed, "run %s", argv[0]);
    return spawn(&setup, argv, (char *const[]){ locale, path_entry, NULL }, out_pid, err);
}

static void kill_and_reap(pid_t *pid)
{
    if (*pid <= 0)
        return;
    (void)kill(*pid, SIGKILL);
    while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
        ;
    *pid = -1;
}

/* Appends what the pipe has now. Keeps the end, because programs report errors last. */
static void drain(int fd, struct process_result *result, size_t *len)
{
    const size_t max = sizeof(result->output) - 1, kept = max / 2;
    char chunk[PROCESS_OUTPUT_MAX / 4];

    for (;;) {
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        if (*len + (size_t)n > max) {
            memmove(result->output, result->output + *len - kept, kept);
            *len = kept;
        }
        memcpy(result->output + *len, chunk, (size_t)n);
        *len += (size_t)n;
    }
    result->output[*len] = '\0';
}

/* Waits for the end of the child, not of its output: a grandchild may keep the output open. */
static bool collect(pid_t pid, int output_fd, uint64_t deadline_ms, struct process_result *result,
                    struct error *err)
{
    auto_close int pid_fd = pidfd_open(pid, 0);
    size_t len = 0;

    if (pid_fd < 0)
        return error_set_errno(err, errno, "watch process %d", pid);
    for (;;) {
        struct pollfd fds[] = { { .fd = pid_fd, .events = POLLIN },
                                { .fd = output_fd, .events = POLLIN } };
        uint64_t now_ms = clock_now_ms();

        if (now_ms >= deadline_ms)
            return error_set(err, ERROR_DEADLINE_EXCEEDED, "it did not end in time and was killed");

        uint64_t left_ms = deadline_ms - now_ms;
        if (poll(fds, ARRAY_LEN(fds), left_ms > INT_MAX ? -1 : (int)left_ms) < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for process %d", pid);
        drain(output_fd, result, &len);
        if (fds[0].revents)
            return true;
        if (fds[1].revents & POLLHUP)
            output_fd = -1; /* closed early: poll() skips it, read() finds nothing */
    }
}

static bool reap(pid_t *pid, int *out_exit_code, struct error *err)
{
    int status = 0;

    while (waitpid(*pid, &status, 0) < 0) {
        if (errno != EINTR)
            return error_set_errno(err, errno, "wait for process %d", *pid);
    }
    *pid = -1;
    *out_exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return true;
}

bool process_run_by(process_start_fn *start, void *cookie, const char *name, uint32_t timeout_ms,
                    struct process_result *out, struct error *err)
{
    uint64_t deadline_ms = timeout_ms > 0 ? clock_now_ms() + timeout_ms : UINT64_MAX;
    pid_t pid CLEANUP(kill_and_reap) = -1;
    struct process_result result = { .exit_code = -1 };
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "run %s", name);
    auto_close int read_end = ends[0];
    auto_close int write_end = ends[1];
    if (fcntl(read_end, F_SETFL, O_NONBLOCK) != 0)
        return error_set_errno(err, errno, "run %s", name);
    if (!start(cookie, write_end, &pid, err))
        return false;
    close_at(&write_end);
    if (!collect(pid, read_end, deadline_ms, &result, err) || !reap(&pid, &result.exit_code, err))
        return error_wrap(err, "%s", name);
    *out = result;
    return true;
}

static bool start_quiet(void *cookie, int output_fd, pid_t *out_pid, struct error *err)
{
    const char *const *const *argv = cookie;

    return spawn_quiet(*argv, output_fd, out_pid, err);
}

bool process_run(const char *const *argv, uint32_t timeout_ms, struct process_result *out,
                 struct error *err)
{
    return process_run_by(start_quiet, &argv, argv[0], timeout_ms, out, err);
}

/* Many programs print how they are used after they have said what is wrong. */
static void cut_usage(char *text)
{
    bool is_said = false;

    for (char *line = text; *line;) {
        char *end = strchrnul(line, '\n');

        if (is_said && strncasecmp(line, "usage:", strlen("usage:")) == 0) {
            *line = '\0';
            return;
        }
        is_said = is_said || strspn(line, " \t") < (size_t)(end - line);
        line = *end ? end + 1 : end;
    }
}

static const char *last_line(char *text)
{
    cut_usage(text);
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    const char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

bool process_check(const char *name, struct process_result *result, int max_ok_exit,
                   struct error *err)
{
    return result->exit_code <= max_ok_exit ||
           error_set(err, ERROR_INTERNAL, "%s failed with exit code %d: %s", name,
                     result->exit_code, last_line(result->output));
}

bool process_must(const char *const *argv, uint32_t timeout_ms, int max_ok_exit, struct error *err)
{
    struct process_result result;

    return process_run(argv, timeout_ms, &result, err) &&
           process_check(argv[0], &result, max_ok_exit, err);
}

bool process_start(const char *const *argv, int pass_fd, int child_fd, pid_t *out_pid,
                   struct error *err)
{
    struct setup setup CLEANUP(setup_destroy) = { .is_ready = false };

    if (child_fd <= STDERR_FILENO)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "descriptor %d belongs to stdio: use 3 or above", child_fd);
    if (!setup_init(&setup, err))
        return false;
    int failed = posix_spawn_file_actions_adddup2(&setup.actions, pass_fd, child_fd);
    if (failed)
        return error_set_errno(err, failed, "run %s", argv[0]);
    return spawn(&setup, argv, environ, out_pid, err);
}
