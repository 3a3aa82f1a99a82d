/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Loaded into the test kernel (LD_PRELOAD) on processors with AMX. Linux 6.1 for user mode keeps 2696
 * bytes of a process's extended registers, which ends before those of AMX. The host takes back only the
 * whole set, 11008 bytes, and without this every process of the test kernel ends at its first step. So
 * the rest is added here, as "never used": programs must ask for AMX, and nothing in the test kernel
 * does.
 *
 * This runs on the stacks of the test kernel, which have 16 KiB. So nothing large lies on a stack, and the
 * C library's function is looked up before that kernel begins.
 */
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#define XSTATE_BV_OFFSET 512
#define XSTATE_BYTES_MAX 65536u

typedef long ptrace_function(enum __ptrace_request request, ...);

static ptrace_function *next_ptrace;

__attribute__((constructor)) static void look_up(void)
{
    next_ptrace = (ptrace_function *)dlsym(RTLD_NEXT, "ptrace");
}

/* The size of the host's whole set; 0: the host does not say. */
static size_t find_whole_bytes(int pid)
{
    static uint8_t bytes[XSTATE_BYTES_MAX];
    struct iovec all = { bytes, sizeof(bytes) };

    return next_ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) == 0 ? all.iov_len : 0;
}

/* The test kernel has one thread that does this. */
static long set_whole(int pid, const struct iovec *part)
{
    static uint8_t whole[XSTATE_BYTES_MAX]; /* behind the part: zeros */
    static size_t whole_bytes;
    uint64_t in_use = 0;

    if (whole_bytes == 0)
        whole_bytes = find_whole_bytes(pid);
    if (part->iov_len >= whole_bytes)
        return next_ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, part);
    struct iovec all = { whole, whole_bytes };
    memcpy(whole, part->iov_base, part->iov_len);
    memcpy(&in_use, whole + XSTATE_BV_OFFSET, sizeof(in_use));
    in_use &= 0x2ff; /* all that lie in 2696 bytes: up to PKRU */
    memcpy(whole + XSTATE_BV_OFFSET, &in_use, sizeof(in_use));
    return next_ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;

    va_start(arguments, request);
    int pid = va_arg(arguments, int);
    void *addr = va_arg(arguments, void *), *data = va_arg(arguments, void *);
    va_end(arguments);
    if (request == PTRACE_SETREGSET && (uintptr_t)addr == NT_X86_XSTATE)
        return set_whole(pid, data);
    return next_ptrace(request, pid, addr, data);
}
