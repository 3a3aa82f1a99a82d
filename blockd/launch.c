/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/launch.h"

#include "base/clock.h"
#include "base/process.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILD_FD     3
#define STOP_WAIT_MS 20000u
#define ARGUMENTS    (24 + 2 * OPTION_LIST_MAX)
#define GROUP_BYTES  24

/* An installed tdvol-blockd is in our own folder; in a build tree it has a folder of its own. */
static bool find_beside(char out[static PATH_MAX], struct error *err)
{
    static const char *const places[] = { "tdvol-blockd", "../blockd/tdvol-blockd" };
    char own[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (len < 0)
        return error_set_errno(err, errno, "look for our own executable");
    own[len] = '\0';
    char *slash = strrchr(own, '/');
    size_t folder_len = slash ? (size_t)(slash - own) : 0;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        int n = snprintf(out, PATH_MAX, "%.*s/%s", (int)folder_len, own, places[i]);

        if (n > 0 && n < PATH_MAX && access(out, X_OK) == 0)
            return true;
    }
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "tdvol-blockd is not beside %s; name it with --blockd", own);
}

static void fill_arguments(const struct blockd_options *options, const char *path,
                           char group[static GROUP_BYTES], const char *argv[static ARGUMENTS])
{
    const char *const fixed[] = {
        path,
        "--control-fd",
        "3",
        "--driver-name",
        options->driver,
        "--local-dir",
        options->local_dir,
        "--state-dir",
        options->state_dir,
        "--log-format",
        log_format_names[options->log.format],
        "--log-level",
        log_level_names[options->log.level],
    };
    size_t n = 0;

    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        argv[n++] = fixed[i];
    for (size_t i = 0; i < options->mount_roots->n; i++) {
        argv[n++] = "--mount-root";
        argv[n++] = options->mount_roots->items[i];
    }
    if (options->csi_socket) {
        (void)snprintf(group, GROUP_BYTES, "%" PRIu64, options->csi_socket_group);
        argv[n++] = "--csi-socket";
        argv[n++] = options->csi_socket;
        argv[n++] = "--csi-socket-group";
        argv[n++] = group;
    }
    if (options->registration_socket) {
        argv[n++] = "--registration-socket";
        argv[n++] = options->registration_socket;
    }
    if (options->tsm_root) {
        argv[n++] = "--tsm-root";
        argv[n++] = options->tsm_root;
    }
    if (options->event_log) {
        argv[n++] = "--event-log";
        argv[n++] = options->event_log;
    }
    argv[n] = NULL;
}

bool blockd_start(const struct blockd_options *options, struct blockd *out, struct error *err)
{
    const char *argv[ARGUMENTS];
    char beside[PATH_MAX] = "", group[GROUP_BYTES] = "";
    int pair[2];

    if (!options->path && !find_beside(beside, err))
        return false;
    fill_arguments(options, options->path ? options->path : beside, group, argv);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno(err, errno, "make the socket to tdvol-blockd");
    auto_close int ours = pair[0];
    auto_close int theirs = pair[1];
    if (!process_start(argv, theirs, CHILD_FD, &out->pid, err))
        return error_wrap(err, "start %s", argv[0]);
    out->control_fd = TAKE_FD(ours);
    return true;
}

void blockd_stop(struct blockd *blockd)
{
    const struct timespec step = { .tv_nsec = 20 * 1000 * 1000 };
    uint64_t deadline_ms = clock_now_ms() + STOP_WAIT_MS;

    close_at(&blockd->control_fd);
    if (blockd->pid <= 0)
        return;
    while (waitpid(blockd->pid, NULL, WNOHANG) == 0 && clock_now_ms() < deadline_ms)
        (void)nanosleep(&step, NULL);
    blockd->pid = -1;
}
