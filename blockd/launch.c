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
#define ARGUMENTS    (48 + 4 * 2 * OPTION_LIST_MAX)
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

struct blockd_arguments {
    const char *argv[ARGUMENTS];
    size_t n;
};

/* NULL is left out. */
static void add(struct blockd_arguments *a, const char *name, const char *value)
{
    if (!value)
        return;
    a->argv[a->n++] = name;
    a->argv[a->n++] = value;
}

static void add_list(struct blockd_arguments *a, const char *name, const struct option_list *list)
{
    for (size_t i = 0; list && i < list->n; i++)
        add(a, name, list->items[i]);
}

static void fill_arguments(const struct blockd_options *options, const char *path,
                           char group[static GROUP_BYTES], struct blockd_arguments *a)
{
    *a = (struct blockd_arguments){ .argv = { path }, .n = 1 };
    add(a, "--control-fd", "3");
    add(a, "--driver-name", options->driver);
    add(a, "--local-dir", options->local_dir);
    add(a, "--state-dir", options->state_dir);
    add(a, "--log-format", log_format_names[options->log.format]);
    add(a, "--log-level", log_level_names[options->log.level]);
    add_list(a, "--mount-root", options->mount_roots);
    add_list(a, "--free-mount-root", options->free_roots);
    if (options->csi_socket) {
        (void)snprintf(group, GROUP_BYTES, "%" PRIu64, options->csi_socket_group);
        add(a, "--csi-socket", options->csi_socket);
        add(a, "--csi-socket-group", group);
    }
    add(a, "--registration-socket", options->registration_socket);
    add(a, "--upstream", options->upstream);
    add(a, "--upstream-door", options->upstream_door);
    add(a, "--upstream-dir", options->upstream_dir);
    add(a, "--tsm-root", options->tsm_root);
    add(a, "--event-log", options->event_log);
    add(a, "--broker-ca", options->broker_ca);
    add_list(a, "--broker-name", options->broker_names);
    add_list(a, "--broker-key-sha256", options->broker_keys);
    add(a, "--broker-policy", options->broker_policy);
#ifdef TDVOL_SIMULATOR
    add(a, "--test-root", options->test_root);
#endif
    add(a, "--node-id", options->node_id);
}

bool blockd_start(const struct blockd_options *options, struct blockd *out, struct error *err)
{
    struct blockd_arguments arguments;
    char beside[PATH_MAX] = "", group[GROUP_BYTES] = "";
    int pair[2];

    if (!options->path && !find_beside(beside, err))
        return false;
    fill_arguments(options, options->path ? options->path : beside, group, &arguments);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno(err, errno, "make the socket to tdvol-blockd");
    auto_close int ours = pair[0];
    auto_close int theirs = pair[1];
    if (!process_start(arguments.argv, theirs, CHILD_FD, &out->pid, err))
        return error_wrap(err, "start %s", arguments.argv[0]);
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
