/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Fault points: places where a test may stop or kill this process. They exist only in builds with
 * -Dfaults=true; in other builds the macros do nothing.
 *
 * TDVOL_FAULT holds "point:action[:n]". The action is sleep (stops until killed) or kill (SIGKILL
 * to itself). It happens when the process passes this point for the n-th time: default 1; 0 means
 * every time. "@FILE" reads the rule from FILE at every passing, and removes FILE before acting:
 * only one process acts. With TDVOL_FAULT_LOG=FILE, each passing appends the point's and the
 * program's name to FILE, so that a test can list all points.
 *
 * Points are named "part.step.moment": "worker.format.header-b", "broker.commit.before".
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
