/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Fault points: places where a test may stop, kill or fail this process. They exist only in
 * builds with -Dfaults=true; else the macro is empty. TDVOL_FAULT holds "point:action[:n]" with
 * action sleep (stops until killed) or kill (SIGKILL to itself), at the n-th passing (default 1;
 * n=0 every time; passings of the named point count, per process). "@FILE" instead reads the rule
 * from FILE at every passing and removes FILE before acting: once for all processes. With TDVOL_FAULT_LOG=FILE every point passed appends its name and the
 * program's, so that a test enumerates them by itself.
 *
 * Named "part.step.moment": "worker.format.header-b", "broker.commit.before".
 */
#ifdef TDVOL_FAULTS
void fault_point(const char *name);
void fault_before(const char *operation, const char *step);
#define FAULT_POINT(name) fault_point(name)
#define FAULT_BEFORE(operation, step) \
    fault_before(operation, step) /* "front.OPERATION.before-STEP" */
#else
#define FAULT_POINT(name)             ((void)0)
#define FAULT_BEFORE(operation, step) ((void)(operation), (void)(step))
#endif
