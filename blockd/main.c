/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"
#include "attest/attester.h"
#include "attest/trust_root.h"
#include "base/capabilities.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/syscalls.h"
#include "blockd/held_path.h"
#include "blockd/recovery.h"
#include "blockd/space_device.h"
#include "blockd/stage_file.h"
#include "blockd/worker.h"
#include "crypt/activate.h"
#include "policy/policy.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tdvol_config.h"

/*
 * tdvol-blockd: the privileged half of a node. For each operation the front sends one descriptor,
 * and tdvol-blockd forks a worker for it. It does nothing else. It has no threads, and ends when
 * the front ends.
 */
#define WORKERS_MAX    128
#define REAP_WAIT_MS   30000
#define CONTROL_FD_MIN 3
#define BROKER_CA_MAX  ((size_t)256 * 1024)
#define NOTES_MAX      (2u * WORKERS_MAX) /* also for recoveries, which are not limited */

/* A file that is read again when it has changed. */
struct watched_file {
    const char *option, *path; /* path NULL: none was given */
    struct stat seen;
};

struct parent {
    struct worker_config config;
    int control_fd, signal_fd;
    pid_t pid;
    sigset_t old_mask;
    unsigned n_workers;
    struct worker_note *notes; /* NOTES_MAX, shared with the workers */
    struct watched_file broker_ca, broker_policy;
};

struct arguments {
    uint64_t control_fd;
    const char *driver_name;
    const char *local_dir;
    const char *state_dir;
    struct option_list mount_roots, free_roots;
    const char *csi_socket, *registration_socket;
    uint64_t csi_socket_group;
    const char *upstream, *upstream_door, *upstream_dir;
    const char *tsm_root, *event_log;
    const char *broker_ca, *broker_policy, *node_id;
#ifdef TDVOL_SIMULATOR
    const char *test_root;
#endif
    struct option_list broker_names, broker_keys;
    struct log_options log;
};

static const struct option options[] = {
    OPTION_U64_ROW("control-fd", struct arguments, control_fd, CONTROL_FD_MIN, 1023, "N",
                   "Number of the descriptor that is the socket to the front."),
    OPTION_TEXT_ROW("driver-name", struct arguments, driver_name, "NAME",
                    "Name of the CSI driver; part of every device's name.", .required = true),
    OPTION_TEXT_ROW("local-dir", struct arguments, local_dir, "DIR",
                    "Folder of the local backend's files.", .required = true),
    OPTION_TEXT_ROW("state-dir", struct arguments, state_dir, "DIR",
                    "Folder of locks and of what is staged; default /run/tdvol."),
    OPTION_LIST_ROW("mount-root", struct arguments, mount_roots, "DIR",
                    "Kubelet's folder: below it, only its own places are taken; repeatable."),
    OPTION_LIST_ROW("free-mount-root", struct arguments, free_roots, "DIR",
                    "Folder below which every path is taken; repeatable."),
    OPTION_TEXT_ROW("csi-socket", struct arguments, csi_socket, "PATH",
                    "The front's CSI socket, to be made again when it is gone."),
    OPTION_U64_ROW("csi-socket-group", struct arguments, csi_socket_group, 0, UINT32_MAX - 1, "GID",
                   "Group that may use the CSI socket; default 0: root alone."),
    OPTION_TEXT_ROW("registration-socket", struct arguments, registration_socket, "PATH",
                    "The front's socket for kubelet, to be made again when it is gone."),
    OPTION_TEXT_ROW("upstream", struct arguments, upstream, "PATH",
                    "Socket of the CSI driver below; only with --upstream-dir."),
    OPTION_TEXT_ROW("upstream-door", struct arguments, upstream_door, "PATH",
                    "Socket to make, at which the front reaches that driver."),
    OPTION_TEXT_ROW("upstream-dir", struct arguments, upstream_dir, "DIR",
                    "Folder of the places where that driver stages and publishes its devices."),
    OPTION_TEXT_ROW("tsm-root", struct arguments, tsm_root, "DIR",
                    "Folder of configfs-tsm, for quotes; default " ATTESTER_TSM_ROOT "."),
    OPTION_TEXT_ROW("event-log", struct arguments, event_log, "FILE",
                    "The firmware's event log; default " ATTESTER_CCEL_PATH "."),
    OPTION_TEXT_ROW("broker-ca", struct arguments, broker_ca, "FILE",
                    "CA certificate of the key broker, PEM; read again when it changes. Without it "
                    "no answer of a broker is accepted."),
    OPTION_LIST_ROW("broker-name", struct arguments, broker_names, "NAME",
                    "Host name or address in the broker's certificate; repeatable."),
    OPTION_LIST_ROW("broker-key-sha256", struct arguments, broker_keys, "HEX",
                    "SHA-256 of the broker's TLS public key; repeatable. Default: every key that "
                    "the CA signed."),
    OPTION_TEXT_ROW("broker-policy", struct arguments, broker_policy, "FILE",
                    "Policy whose rules say which TDs may be a key broker; read again when it "
                    "changes. Default: nothing is demanded but the CA's signature."),
#ifdef TDVOL_SIMULATOR
    OPTION_TEXT_ROW(
        "test-root", struct arguments, test_root, "FILE",
        "SIMULATOR BUILD ONLY: trusts this root certificate, DER, in place of Intel's."),
#endif
    OPTION_TEXT_ROW("node-id", struct arguments, node_id, "NAME",
                    "Name of this node, to which the broker gives volumes."),
    LOG_OPTION_ROWS(struct arguments, log, "json"),
};

static bool share_notes(struct parent *d, struct error *err)
{
    void *memory = mmap(NULL, NOTES_MAX * sizeof(*d->notes), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return error_set_errno(err, errno, "memory for the notes of workers");
    d->notes = memory;
    return true;
}

/* The note of a child; with pid 0, a free one. When none is left, the last one is shared. */
static struct worker_note *find_note(const struct parent *d, pid_t pid)
{
    size_t i = 0;

    while (i < NOTES_MAX - 1 && d->notes[i].pid != pid)
        i++;
    return &d->notes[i];
}

static pid_t fork_child(struct parent *d, struct worker_note *note)
{
    worker_note_write(note, "", "");
    pid_t pid = fork();

    if (pid < 0)
        log_error("cannot start a worker", NUMBER("errno", errno));
    if (pid > 0) {
        d->n_workers++;
        note->pid = pid;
    }
    if (pid != 0)
        return pid;
    /* Each worker has its own process group: when it dies, blockd kills the programs it started,
     * too. */
    (void)setpgid(0, 0);
    (void)sigprocmask(SIG_SETMASK, &d->old_mask, NULL);
    close_at(&d->signal_fd);
    close_at(&d->control_fd);
    return 0;
}

/* --- whom workers accept as a broker --- */

static bool is_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static bool take_ca(struct parent *d, char **text, size_t len UNUSED, struct error *err)
{
    return broker_trust_read_ca(&d->config.broker, *text, err);
}

static bool take_policy(struct parent *d, char **text, size_t len, struct error *err)
{
    struct broker_demand demand = { .policy_len = len };

    if (!appraisal_check_policy((struct bytes_view){ (const uint8_t *)*text, len }, err) ||
        !sha256(*text, len, demand.policy_sha256, err))
        return false;
    demand.policy = TAKE_PTR(*text);
    free(d->config.demand.policy);
    d->config.demand = demand;
    return true;
}

/* Workers inherit what was read. take may take the text. */
static bool read_file(struct parent *d, struct watched_file *file, size_t max,
                      bool (*take)(struct parent *d, char **text, size_t len, struct error *err),
                      struct error *err)
{
    auto_free char *text = NULL;
    size_t len = 0;
    struct stat now;

    if (!file->path)
        return true;
    if (stat(file->path, &now) != 0)
        return error_set_errno(err, errno, "%s: %s", file->option, file->path);
    if (is_same_file(&now, &file->seen))
        return true;
    if (!file_read(file->path, max, &text, &len, err) || !take(d, &text, len, err))
        return error_wrap(err, "%s: %s", file->option, file->path);
    file->seen = now;
    return true;
}

static bool read_broker_ca(struct parent *d, struct error *err)
{
    return read_file(d, &d->broker_ca, BROKER_CA_MAX, take_ca, err);
}

static bool read_broker_policy(struct parent *d, struct error *err)
{
    return read_file(d, &d->broker_policy, POLICY_BYTES_MAX, take_policy, err);
}

static bool use_test_root(const struct arguments *args, struct error *err)
{
    (void)args, (void)err;
#ifdef TDVOL_SIMULATOR
    if (args->test_root) {
        if (!trust_root_load_test(args->test_root, err))
            return error_wrap(err, "--test-root");
        log_warning(TRUST_ROOT_TEST_WARNING, TEXT("root", args->test_root));
    }
#endif
    return true;
}

static void start_worker(struct parent *d, int front_fd)
{
    struct worker_note *note = find_note(d, 0);
    struct error err = ERROR_INIT;

    if (!read_broker_ca(d, &err))
        log_error("the CA that was read before stays", ERROR_FIELDS(&err));
    if (!read_broker_policy(d, &err))
        log_error("the policy that was read before stays", ERROR_FIELDS(&err));
    if (fork_child(d, note) == 0)
        worker_run(&d->config, front_fd, d->pid, note);
    close(front_fd); /* if the fork failed, the front sees the socket close without an answer */
}

/* A worker was killed: put in order what it left before the next call comes. */
static void start_recovery(struct parent *d)
{
    struct worker_note *note = find_note(d, 0);
    struct error err = ERROR_INIT;

    if (fork_child(d, note) != 0)
        return;
    worker_note_write(note, "RECOVERY", "");
    bool done = recovery_run(&d->config, &err);
    if (!done)
        log_error("recovery failed", ERROR_FIELDS(&err));
    _exit(done ? 0 : 1);
}

/* A worker may have written anything into its note. */
static void tell_killed(struct worker_note *note, pid_t pid, int signal_number)
{
    note->operation[sizeof(note->operation) - 1] = 0;
    note->volume_id[sizeof(note->volume_id) - 1] = 0;
    log_warning("worker was killed", TEXT("operation", note->operation),
                TEXT("volume", note->volume_id), NUMBER("pid", pid),
                NUMBER("signal", signal_number));
}

static void reap_workers(struct parent *d)
{
    siginfo_t info;

    for (;;) {
        info.si_pid = 0;
        /* Kill the group before the dead leader is reaped: until then its number cannot be
         * reused. */
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return;
        (void)kill(-info.si_pid, SIGKILL);
        int status = 0;
        if (waitpid(info.si_pid, &status, 0) != info.si_pid)
            return;
        d->n_workers--;
        struct worker_note *note = find_note(d, info.si_pid);
        note->pid = 0;
        if (WIFSIGNALED(status)) {
            tell_killed(note, info.si_pid, WTERMSIG(status));
            start_recovery(d);
        }
    }
}

static void handle_signals(struct parent *d)
{
    struct signalfd_siginfo info;

    while (read(d->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        ; /* one signal may stand for several children */
    reap_workers(d);
}

static bool serve(struct parent *d, struct error *err)
{
    for (;;) {
        struct pollfd fds[] = {
            { .fd = d->signal_fd, .events = POLLIN },
            /* With too many workers the front must wait. */
            { .fd = d->control_fd, .events = d->n_workers < WORKERS_MAX ? POLLIN : 0 },
        };

        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for work");
        if (fds[0].revents)
            handle_signals(d);
        if (!fds[1].revents)
            continue;
        int front_fd = -1;
        if (block_receive_operation(d->control_fd, &front_fd, err))
            start_worker(d, front_fd);
        else
            return err->code == ERROR_CANCELLED;
    }
}

static bool open_signals(struct parent *d, struct error *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD);
    /* A stop signal is for the front: it finishes the calls in flight with our help, and then
     * closes. */
    if (signal(SIGTERM, SIG_IGN) == SIG_ERR || signal(SIGINT, SIG_IGN) == SIG_ERR)
        return error_set_errno(err, errno, "ignore signals");
    if (sigprocmask(SIG_BLOCK, &set, &d->old_mask) != 0)
        return error_set_errno(err, errno, "block signals");
    d->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return d->signal_fd >= 0 || error_set_errno(err, errno, "signalfd");
}

/* Workers of a former tdvol-blockd may still run: wait for them first. */
static bool prepare(const struct parent *d, struct error *err)
{
    return file_make_dirs(d->config.state_dir, 0700, err) &&
           file_make_dirs(d->config.local_dir, 0700, err) &&
           space_device_prepare(d->config.upstream_dir, err) &&
           stage_file_reap(d->config.state_dir, REAP_WAIT_MS, err);
}

/* Libraries load and look up much when they are used first. Workers inherit it, so do it once, here.
 * It also shows at once when one of them does not work. */
static bool prepare_workers(const struct hpke_key_pair *sealing, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    auto_secret struct secret opened = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(VOLUME_SECRET_LEN)];

    return secret_random(&plain, VOLUME_SECRET_LEN, err) &&
           hpke_seal(sealing->public_key, "", 0, "", 0, &plain, sealed, sizeof(sealed), err) &&
           hpke_open(sealing, "", 0, "", 0, sealed, sizeof(sealed), &opened, err) &&
           volume_prepare(err);
}

/*
 * What each kept capability is for. SYS_ADMIN: mount, device-mapper, loop. SYS_RESOURCE: growing a
 * mounted ext4. DAC_OVERRIDE, FOWNER: kubelet's folders. MKNOD, CHOWN: device nodes. IPC_LOCK: key
 * memory. SYSLOG: /dev/kmsg. KILL, SETUID, SETGID: children of another user. SETPCAP: workers give up
 * more.
 */
#define KEPT                                                                             \
    (CAPABILITY(SYS_ADMIN) | CAPABILITY(SYS_RESOURCE) | CAPABILITY(DAC_OVERRIDE) |       \
     CAPABILITY(FOWNER) | CAPABILITY(CHOWN) | CAPABILITY(MKNOD) | CAPABILITY(IPC_LOCK) | \
     CAPABILITY(SYSLOG) | CAPABILITY(KILL) | CAPABILITY(SETUID) | CAPABILITY(SETGID) |   \
     CAPABILITY(SETPCAP))

/* Gives up rights of tdvol-blockd, its workers and the programs they run, permanently: all capabilities that
 * devices, mounts and file systems do not need, system calls that have no use here, and sockets to a network. A
 * worker gives up more (blockd/worker.c). *limited: the system calls are.
 * Not Landlock: whoever has it cannot mount. Children that mount nothing have it (base/confine.h). */
static bool sandbox_enter(bool *limited, struct error *err)
{
    return capabilities_keep(KEPT, err) && syscalls_prepare(SYSCALLS_TOOL, err) &&
           syscalls_prepare(SYSCALLS_PROBE, err) && syscalls_limit(SYSCALLS_ROOT, limited, err);
}

static bool configure(struct parent *d, const struct arguments *args, struct error *err)
{
    d->config.driver = args->driver_name;
    d->config.local_dir = args->local_dir;
    d->config.state_dir = args->state_dir;
    d->config.mount_roots = (struct mount_roots){ args->mount_roots, args->free_roots };
    d->config.sockets[0] =
        (struct worker_socket){ args->csi_socket, (gid_t)args->csi_socket_group };
    d->config.sockets[1] = (struct worker_socket){ args->registration_socket, 0 };
    d->config.upstream = args->upstream;
    d->config.upstream_door = args->upstream_door;
    d->config.upstream_dir = args->upstream_dir;
    d->config.front_pid = getppid();
    d->config.tsm_root = args->tsm_root;
    d->config.event_log = args->event_log;
    d->config.node = args->node_id;
    d->config.broker.names = args->broker_names;
    d->broker_ca = (struct watched_file){ .option = "--broker-ca", .path = args->broker_ca };
    d->broker_policy =
        (struct watched_file){ .option = "--broker-policy", .path = args->broker_policy };
    d->control_fd = (int)args->control_fd;
    d->pid = getpid();
    if (args->mount_roots.n + args->free_roots.n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--mount-root is missing");
    /* Containers have no udev: libdevmapper makes the device nodes itself. */
    if (setenv("DM_DISABLE_UDEV", "1", 1) != 0)
        return error_set_errno(err, errno, "set DM_DISABLE_UDEV");
    if (!broker_pins_parse(&args->broker_keys, &d->config.broker.pins, err))
        return error_wrap(err, "--broker-key-sha256");
    if (!held_path_resolve_roots(&d->config.mount_roots.kubelet, err) ||
        !held_path_resolve_roots(&d->config.mount_roots.free, err))
        return false;
    bool limited = false;
    if (!sandbox_enter(&limited, err))
        return false;
    if (!limited)
        log_warning("system calls are not limited", TEXT("why", syscalls_why_not()));
    return secret_harden_process(err) && use_test_root(args, err) && read_broker_ca(d, err) &&
           read_broker_policy(d, err) && hpke_generate(&d->config.sealing, true, err) &&
           prepare_workers(&d->config.sealing, err);
}

int main(int argc, char **argv)
{
    static struct parent d = { .control_fd = -1, .signal_fd = -1 };
    struct arguments args = { .state_dir = "/run/tdvol", .log = { LOG_FORMAT_JSON, LOG_INFO } };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        puts(
            "tdvol-blockd: the privileged half of a node. tdvol-csi starts it; it is not run by hand.\n"
            "\n"
            "Options:");
        option_print_help(options, ARRAY_LEN(options));
        return 0;
    }
    bool parsed = option_parse(options, ARRAY_LEN(options), &args, argc, argv, NULL, &err);
    log_setup("tdvol-blockd", &args.log);
    if (!parsed || !configure(&d, &args, &err) || !open_signals(&d, &err) ||
        !share_notes(&d, &err) || !prepare(&d, &err)) {
        log_error("cannot start", ERROR_FIELDS(&err));
        return 2;
    }
    if (!recovery_run(&d.config, &err)) /* go on: the other volumes still need us */
        log_error("recovery failed", ERROR_FIELDS(&err));
    footprint_settle();
    log_info("ready", TEXT("version", TDVOL_RELEASE));
    bool ended = serve(&d, &err);
    hpke_key_pair_wipe(&d.config.sealing);
    broker_trust_free(&d.config.broker);
    free(d.config.demand.policy);
    if (!ended)
        log_error("stopped", ERROR_FIELDS(&err));
    return ended ? 0 : 1;
}
