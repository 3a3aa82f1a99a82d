/* SPDX-License-Identifier: Apache-2.0 */
#include "base/syscalls.h"

#include "base/file.h"

#include <errno.h>
#include <linux/blkzoned.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/hdreg.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(list) (1u << SYSCALLS_##list)
#define ALL       (BIT(FRONT) | BIT(ROOT) | BIT(BROKER) | BIT(TOOL) | BIT(PROBE))
#define FILES     (BIT(FRONT) | BIT(ROOT) | BIT(BROKER) | BIT(TOOL))
#define SERVERS   (BIT(FRONT) | BIT(BROKER))

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||       \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/*
 * Seen by strace while all tests ran, with room for other versions of the C library and of the
 * programs. A name that this architecture, or this libseccomp, does not know is skipped.
 */
static const struct group {
    unsigned lists;
    const char *names;
} groups[] = {
    /* memory, time, signals, the process itself */
    { ALL,
      "brk mmap mmap2 munmap mremap mprotect madvise mlock mlock2 munlock membarrier "
      "clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep "
      "clock_nanosleep_time64 nanosleep gettimeofday time times "
      "rt_sigaction rt_sigprocmask rt_sigreturn sigreturn rt_sigpending rt_sigsuspend "
      "rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack restart_syscall "
      "exit exit_group getpid gettid getppid getpgrp getpgid getsid tgkill "
      "getuid geteuid getgid getegid getuid32 geteuid32 getgid32 getegid32 getresuid "
      "getresgid getgroups "
      "getrandom futex futex_time64 set_tid_address set_robust_list get_robust_list rseq "
      "arch_prctl getrusage sysinfo uname sched_yield sched_getaffinity getcpu "
      "read readv pread64 preadv preadv2 write writev lseek _llseek close fstat fstat64 newfstatat "
      "fstatat64 statx "
      "fcntl fcntl64 poll ppoll ppoll_time64 fadvise64 fadvise64_64 arm_fadvise64_64" },
    /* files that are read */
    { FILES, "open openat openat2 stat stat64 lstat lstat64 statfs statfs64 fstatfs "
             "fstatfs64 access faccessat faccessat2 readlink readlinkat getdents getdents64 getcwd "
             "chdir fchdir dup dup2 dup3 pipe pipe2 select _newselect pselect6 pselect6_time64 "
             "getrlimit ugetrlimit prlimit64 setrlimit umask sched_setaffinity "
             "sched_getscheduler sched_getparam sched_get_priority_max sched_get_priority_min "
             "getpriority capget getxattr lgetxattr fgetxattr close_range" },
    /* files that are written */
    { FILES, "pwrite64 pwritev pwritev2 fsync fdatasync sync_file_range sync_file_range2 fallocate "
             "ftruncate ftruncate64 flock sync syncfs readahead" },
    /* threads and children; glibc asks for clone3 first, and then takes clone */
    { BIT(FRONT) | BIT(ROOT) | BIT(BROKER), "clone" },
    /* folders */
    { BIT(FRONT) | BIT(ROOT) | BIT(BROKER),
      "mkdir mkdirat rename renameat renameat2 unlink unlinkat rmdir link linkat symlink symlinkat "
      "chmod fchmod fchmodat chown fchown fchownat lchown chown32 fchown32 lchown32 utimensat "
      "utimensat_time64 truncate truncate64" },
    /* children that are waited for */
    { BIT(FRONT) | BIT(ROOT) | BIT(BROKER), "wait4 waitpid waitid kill pidfd_open "
                                            "pidfd_send_signal signalfd signalfd4 memfd_create "
                                            "mlockall munlockall prctl" },
    /* sockets; the families are limited apart */
    { BIT(FRONT) | BIT(ROOT) | BIT(BROKER),
      "socketpair socketcall bind listen accept accept4 connect getsockname getpeername "
      "getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg "
      "recvmmsg_time64 shutdown" },
    { SERVERS | BIT(ROOT),
      "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_pwait epoll_pwait2 "
      "eventfd eventfd2 timerfd_create timerfd_settime timerfd_gettime timerfd_settime64 "
      "inotify_init1 inotify_add_watch inotify_rm_watch sendfile sendfile64 setpriority" },
    /* programs are run, devices and mounts made, rights given up */
    { BIT(ROOT),
      "fork vfork setpgid setsid timer_create timer_settime timer_settime64 timer_gettime "
      "timer_delete timer_getoverrun mknod mknodat mount umount2 umount fsopen fsconfig fsmount fspick "
      "move_mount open_tree mount_setattr copy_file_range splice capset seccomp "
      "setuid setgid setreuid setregid setresuid setresgid setgroups setuid32 setgid32 setresuid32 "
      "setresgid32 setgroups32 setfsuid setfsgid landlock_create_ruleset landlock_add_rule "
      "landlock_restrict_self semget semop semtimedop semtimedop_time64 semctl io_setup io_submit "
      "io_getevents io_pgetevents io_destroy io_cancel name_to_handle_at ioprio_set ioprio_get "
      "sched_setscheduler setitimer getitimer alarm pause personality mincore msync "
      "listxattr llistxattr flistxattr setxattr fsetxattr lsetxattr removexattr fremovexattr" },
    { BIT(ROOT) | BIT(TOOL), "execve execveat setitimer alarm io_setup io_submit io_getevents "
                             "io_destroy io_pgetevents set_mempolicy get_mempolicy msync mincore" },
    { BIT(ROOT) | BIT(TOOL), "prctl" },
};

/* They serve attacks alone: who calls them is no longer our program. */
static const char deadly[] =
    "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise bpf perf_event_open "
    "userfaultfd io_uring_setup io_uring_enter io_uring_register init_module finit_module "
    "create_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct setns "
    "pivot_root chroot open_by_handle_at fanotify_init settimeofday clock_settime "
    "clock_settime64 clock_adjtime adjtimex stime sethostname setdomainname iopl ioperm modify_ldt "
    "vm86 vm86old lookup_dcookie quotactl quotactl_fd nfsservctl uselib";

static const unsigned domains[SYSCALLS_COUNT] = {
    [SYSCALLS_FRONT] = 1u << AF_UNIX | 1u << AF_INET | 1u << AF_INET6 | 1u << AF_NETLINK,
    /* No network, and not AF_ALG, in which the kernel had holes: libcryptsetup's own cipher code is
     * enough for headers. */
    [SYSCALLS_ROOT] = 1u << AF_UNIX | 1u << AF_NETLINK,
    [SYSCALLS_BROKER] = 1u << AF_UNIX | 1u << AF_INET | 1u << AF_INET6 | 1u << AF_NETLINK,
};
#define DOMAINS_MAX 32u

#ifdef __s390__
#define CLONE_FLAGS_ARGUMENT 1
#else
#define CLONE_FLAGS_ARGUMENT 0
#endif

static void filter_drop(scmp_filter_ctx *filter)
{
    if (*filter)
        seccomp_release(*filter);
    *filter = NULL;
}

/* EEXIST: the name is in two groups. */
static int add_names(scmp_filter_ctx filter, uint32_t action, const char *names)
{
    char name[64];

    for (const char *at = names; *at;) {
        size_t len = strcspn(at, " ");

        if (len >= sizeof(name))
            return -ENAMETOOLONG;
        memcpy(name, at, len);
        name[len] = 0;
        int number = seccomp_syscall_resolve_name(name);
        int rc = number < 0 ? 0 : seccomp_rule_add(filter, action, number, 0);
        if (rc != 0 && rc != -EEXIST)
            return rc;
        at += len + strspn(at + len, " ");
    }
    return 0;
}

/* What a tool or a probe may ask of a device, or of a file system that is mounted. */
static const unsigned tool_ioctls[] = {
    TCGETS,           HDIO_GETGEO, BLKROGET,   BLKGETSIZE,   BLKGETSIZE64, BLKSSZGET,
    BLKPBSZGET,       BLKBSZGET,   BLKIOMIN,   BLKIOOPT,     BLKALIGNOFF,  BLKROTATIONAL,
    BLKDISCARDZEROES, BLKZEROOUT,  BLKDISCARD, BLKGETZONESZ,
};
/* Of file systems: 'X' is XFS, and common to all; 'f' is ext4, and common to all. */
static const unsigned tool_ioctl_types[] = { 'X', 'f' };
/* mkfs.xfs ends when these fail, which need CAP_SYS_ADMIN. They are about the cache of the device, and of
 * no use here: the device is flushed by fsync(). So a tool is told that they were done. */
static const unsigned tool_ioctls_done[] = { BLKBSZSET, BLKFLSBUF };

static int add_ioctls(scmp_filter_ctx filter, enum syscall_list list)
{
    int rc = 0;

    if (list != SYSCALLS_TOOL && list != SYSCALLS_PROBE)
        return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 0);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(tool_ioctls); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, tool_ioctls[i]));
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(tool_ioctl_types); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, 0xff00, tool_ioctl_types[i] << 8));
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(tool_ioctls_done); i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(0), SCMP_SYS(ioctl), 1,
                              SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, tool_ioctls_done[i]));
    return rc;
}

static int add_rules(scmp_filter_ctx filter, enum syscall_list list)
{
    int rc = add_names(filter, SCMP_ACT_KILL_PROCESS, deadly);

    if (rc == 0)
        rc = add_ioctls(filter, list);
    if (rc == 0 && list == SYSCALLS_TOOL) /* threads, and no children */
        rc = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
            SCMP_CMP(CLONE_FLAGS_ARGUMENT, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(groups); i++) {
        if (groups[i].lists >> list & 1)
            rc = add_names(filter, SCMP_ACT_ALLOW, groups[i].names);
    }
    for (unsigned domain = 0; rc == 0 && domain < DOMAINS_MAX; domain++) {
        if (domains[list] >> domain & 1)
            rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_EQ, domain));
    }
    return rc;
}

/* Compiled lists, as long as the process lives. */
static struct sock_fprog programs[SYSCALLS_COUNT];

static bool take_program(scmp_filter_ctx filter, struct sock_fprog *out, struct error *err)
{
    auto_close int fd = memfd_create("syscalls", MFD_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return error_set_errno(err, errno, "memory for the list of system calls");
    int rc = seccomp_export_bpf(filter, fd);
    if (rc != 0)
        return error_set_errno(err, -rc, "compile the list of system calls");
    if (fstat(fd, &st) != 0 || st.st_size / (off_t)sizeof(struct sock_filter) > UINT16_MAX)
        return error_set(err, ERROR_INTERNAL, "the list of system calls is too long");
    auto_free struct sock_filter *bytes = malloc((size_t)st.st_size);
    if (!bytes)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    if (!fd_pread_all(fd, bytes, (size_t)st.st_size, 0, err))
        return false;
    out->len = (unsigned short)((size_t)st.st_size / sizeof(struct sock_filter));
    out->filter = TAKE_PTR(bytes);
    return true;
}

bool syscalls_prepare(enum syscall_list list, struct error *err)
{
    CLEANUP(filter_drop) scmp_filter_ctx filter = NULL;

    if (programs[list].filter)
        return true;
    filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the list of system calls");
    int rc = add_rules(filter, list);
    if (rc != 0)
        return error_set_errno(err, -rc, "make the list of system calls");
    /* A binary tree: each call is found in a few steps. */
    (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return take_program(filter, &programs[list], err);
}

bool syscalls_limit(enum syscall_list list, bool *limited, struct error *err)
{
    *limited = false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return error_set_errno(err, errno, "no new privileges");
    if (IS_SANITIZED)
        return true;
    if (!syscalls_prepare(list, err))
        return false;
    /* TSYNC answers with the id of a thread that cannot be limited. */
    long rc =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &programs[list]);
    *limited = rc == 0;
    /* The kernel has no filters; or, EPERM, who started this process allows no more of them. */
    if (rc == 0 || (rc < 0 && (errno == EINVAL || errno == ENOSYS || errno == EPERM)))
        return true;
    return error_set_errno(err, rc < 0 ? errno : EBUSY, "limit the system calls");
}

const char *syscalls_why_not(void)
{
    return IS_SANITIZED
               ? "built with sanitizers, which need more of them"
               : "the kernel has no filters (CONFIG_SECCOMP_FILTER), or they are forbidden";
}
