/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/sandbox.h"

#include <errno.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/*
 * What each kept capability is for. SYS_ADMIN: mount, device-mapper, loop. SYS_RESOURCE: growing a
 * mounted ext4. DAC_OVERRIDE, FOWNER, CHOWN: kubelet's folders. MKNOD: device nodes where /dev is
 * static. IPC_LOCK: key memory. SYSLOG: /dev/kmsg. KILL: programs that workers started.
 */
static const cap_value_t kept[] = { CAP_SYS_ADMIN, CAP_SYS_RESOURCE, CAP_DAC_OVERRIDE,
                                    CAP_FOWNER,    CAP_CHOWN,        CAP_MKNOD,
                                    CAP_IPC_LOCK,  CAP_SYSLOG,       CAP_KILL };

static bool is_kept(cap_value_t capability)
{
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        if (kept[i] == capability)
            return true;
    }
    return false;
}

static void caps_drop(cap_t *caps)
{
    if (*caps)
        cap_free(*caps);
    *caps = NULL;
}

/* Keeps a capability when the process has it. When it lacks one, the step that needs it fails and
 * says so. */
static bool keep(cap_t wanted, cap_t held, cap_value_t capability, struct error *err)
{
    cap_flag_value_t value = CAP_CLEAR;

    if (cap_get_flag(held, capability, CAP_PERMITTED, &value) != 0)
        return error_set_errno(err, errno, "read capabilities");
    if (cap_set_flag(wanted, CAP_PERMITTED, 1, &capability, value) != 0 ||
        cap_set_flag(wanted, CAP_EFFECTIVE, 1, &capability, value) != 0)
        return error_set_errno(err, errno, "choose capabilities");
    return true;
}

/* System calls that neither we nor mkfs, fsck and libcryptsetup need. A list of allowed calls
 * instead would break with every new version of those programs. */
static const int refused[] = {
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(kcmp),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(syslog),
    SCMP_SYS(quotactl),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
};

#define DOMAINS_MAX 64u

/* Not AF_ALG, in which the kernel had holes: libcryptsetup's own cipher code is enough for headers. */
static bool is_local_domain(unsigned domain)
{
    return domain == AF_UNIX || domain == AF_NETLINK;
}

static void filter_drop(scmp_filter_ctx *filter)
{
    if (*filter)
        seccomp_release(*filter);
    *filter = NULL;
}

static int add_rules(scmp_filter_ctx filter)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(refused); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0);
    /* tdvol-blockd never speaks to a network. */
    for (unsigned domain = 0; rc == 0 && domain < DOMAINS_MAX; domain++) {
        if (!is_local_domain(domain))
            rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_EQ, domain));
    }
    return rc;
}

static bool filter_system_calls(bool *filtered, struct error *err)
{
    CLEANUP(filter_drop) scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

    if (!filter)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the system call filter");
    int rc = add_rules(filter);
    if (rc != 0)
        return error_set_errno(err, -rc, "make the system call filter");
    rc = seccomp_load(filter);
    *filtered = rc == 0;
    if (rc == 0 || rc == -EINVAL || rc == -ENOSYS || rc == -EOPNOTSUPP)
        return true; /* the kernel has no filters */
    return error_set_errno(err, -rc, "load the system call filter");
}

/* A program that root runs gets the capabilities of the bounding set, so they must be dropped
 * there, too. */
bool sandbox_enter(bool *filtered, struct error *err)
{
    CLEANUP(caps_drop) cap_t wanted = cap_init();
    CLEANUP(caps_drop) cap_t held = cap_get_proc();

    if (!wanted || !held)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    for (cap_value_t c = 0; c < cap_max_bits(); c++) {
        if (is_kept(c) && !keep(wanted, held, c, err))
            return false;
        if (!is_kept(c) && cap_drop_bound(c) != 0)
            return error_set_errno(err, errno, "give up capability %d (not root?)", c);
    }
    if (cap_set_proc(wanted) != 0)
        return error_set_errno(err, errno, "give up capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no new privileges");
    return filter_system_calls(filtered, err);
}
