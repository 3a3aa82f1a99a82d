/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <sys/types.h>

/* Running other programs, by posix_spawn only: gRPC's threads forbid fork. */

#define PROCESS_OUTPUT_MAX 4096
struct process_result {
    int exit_code;                   /* 128 + signal when killed */
    char output[PROCESS_OUTPUT_MAX]; /* stdout and stderr together, cut, NUL-terminated */
};

/* Runs argv[0] (searched in PATH) to its end, stdin is /dev/null, environment is LC_ALL=C and
 * PATH alone. True when it ran; look at exit_code. DEADLINE_EXCEEDED kills it (timeout_ms 0: no
 * limit). Arguments are visible to every user of the machine: never put a secret there. */
MUST_USE bool process_run(const char *const *argv, uint32_t timeout_ms, struct process_result *out,
                          struct error *err);

/* Runs and turns an exit code above max_ok_exit into INTERNAL with the last line of its output. */
MUST_USE bool process_must(const char *const *argv, uint32_t timeout_ms, int max_ok_exit,
                           struct error *err);

/* Starts a long-lived child with the descriptor pass_fd at child_fd (3 or above), stdio inherited. */
MUST_USE bool process_start(const char *const *argv, int pass_fd, int child_fd, pid_t *out_pid,
                            struct error *err);
