/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * Lists of the system calls that a process needs. All others answer ENOSYS, as if the kernel did not
 * have them. Those that serve attacks alone (ptrace, bpf, kexec, modules, ...) kill the process. The
 * only place that calls libseccomp.
 */
enum syscall_list {
    SYSCALLS_FRONT,  /* tdvol-csi: threads, sockets, no new programs */
    SYSCALLS_ROOT,   /* tdvol-blockd, its workers, and programs that they run */
    SYSCALLS_BROKER, /* tdvol-broker */
    SYSCALLS_TOOL,   /* a program that works on one device: files and memory */
    SYSCALLS_PROBE,  /* a function that reads one open device: no files are opened */
    SYSCALLS_COUNT
};

/* Compiles the list, so that children of this process can use it without delay. */
MUST_USE bool syscalls_prepare(enum syscall_list list, struct error *err);

/* Applies the list to all threads of the process and to all its children, for good. Sets no_new_privs.
 * *limited is false when the kernel has no filters, or when the program was built with sanitizers, which
 * need more calls. */
MUST_USE bool syscalls_limit(enum syscall_list list, bool *limited, struct error *err);

/* For the log, when it is not limited. */
const char *syscalls_why_not(void);
