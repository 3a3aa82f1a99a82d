/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* Runs other programs. Only by posix_spawn, because gRPC's threads forbid fork. */

#define PROCESS_OUTPUT_MAX 4096
struct process_result {
    int exit_code;                   /* 128 + signal when killed */
    char output[PROCESS_OUTPUT_MAX]; /* stdout and stderr together, cut, NUL-terminated */
};

/* Runs argv[0] (searched in PATH) and waits for its end. Its stdin is /dev/null, its environment
 * only LC_ALL=C and PATH. True when it ran: then look at exit_code. After timeout_ms it is killed:
 * DEADLINE_EXCEEDED; 0 means no limit. Every user of the machine can see the arguments: never put a
 * secret there. */
MUST_USE bool process_run(const char *const *argv, uint32_t timeout_ms, struct process_result *out,
                          struct error *err);

/* The same, but an exit code above max_ok_exit is INTERNAL, with the last line of the output
 * that is no part of a usage text. */
MUST_USE bool process_must(const char *const *argv, uint32_t timeout_ms, int max_ok_exit,
                           struct error *err);

/* Starts a long-lived child. It inherits stdio, and has pass_fd as its child_fd (3 or above). */
MUST_USE bool process_start(const char *const *argv, int pass_fd, int child_fd, pid_t *out_pid,
                            struct error *err);

/* The same for a child that start makes in its own way. It writes to output_fd. */
typedef bool process_start_fn(void *cookie, int output_fd, pid_t *out_pid, struct error *err);
MUST_USE bool process_run_by(process_start_fn *start, void *cookie, const char *name,
                             uint32_t timeout_ms, struct process_result *out, struct error *err);

/* Judges a result as process_must does. Cuts its output. */
MUST_USE bool process_check(const char *name, struct process_result *result, int max_ok_exit,
                            struct error *err);
