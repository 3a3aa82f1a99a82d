/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/secret.h"
#include "blockd/kernel_log.h"
#include "blockd/operation.h"
#include "blockd/space_device.h"
#include "blockd/stage_file.h"
#include "blockd/worker.h"
#include "crypt/control.h"
#include "crypt/device.h"
#include "crypt/table.h"
#include "crypt/withhold.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * The watcher: a worker that never ends. Device-mapper wakes it when a pool changes its mode. The
 * kernel's log wakes it when a sector fails its authentication. The timer is for events that were
 * missed, and for devices that have left the node.
 */
#define TIMER_MS         5000
#define WATCHED_MAX      4096
#define STOPPING_LOOK_MS 100 /* while a volume is being stopped */
#define STOPPING_LONG_MS 2000
#define VOLUME_PREFIX    "tdvol-"

struct watched {
    struct volume_name name;
    char volume_id[VOLUME_ID_MAX + 1];
    bool seen, failed, overflow;
    bool gone;               /* its device; that was told */
    bool told;               /* its lease is over */
    uint64_t running_ms;     /* since then it was to be stopped, and is not; 0: it is */
    pid_t stopper;           /* a process that stops it; 0: there is none */
    bool doubted;            /* its device may be another disk's: to be looked at once more */
    uint64_t events;         /* of all its layers, when it was listed last */
    uint64_t checked_events; /* when it was checked last */
    uint64_t errors;         /* since the last message */
    uint64_t retry_ms;       /* no attempt to fail it before this time */
    uint64_t silent_until_ms[KERNEL_LOG_WRITE_FAILED + 1];
};

struct watcher {
    const struct worker *worker;
    int control_fd, log_fd;
    uint64_t lease_look_ms; /* in clock_boottime_ms() time: when the next lease is over */
    size_t n;
    struct watched *last; /* found by find(): the layers of a volume are listed in a row */
    struct watched volumes[WATCHED_MAX];
};

static bool is_of(const struct watched *w, const char *name)
{
    return strncmp(w->name.text, name, VOLUME_NAME_LEN) == 0;
}

static struct watched *find(struct watcher *watch, const char *name)
{
    if (watch->last && is_of(watch->last, name))
        return watch->last;
    for (size_t i = 0; i < watch->n; i++) {
        if (is_of(&watch->volumes[i], name))
            return watch->last = &watch->volumes[i];
    }
    return NULL;
}

/* The file of a volume that is staged completely names it. */
static struct watched *add(struct watcher *watch, const char *name)
{
    struct watched new = { .seen = false };
    struct stage_file staged;
    struct error ignored = ERROR_INIT;
    bool found = false;

    (void)snprintf(new.name.text, sizeof(new.name.text), "%s", name);
    if (watch->n == WATCHED_MAX ||
        !stage_file_read(watch->worker->config->state_dir, &new.name, &found, &staged, &ignored) ||
        !found || !staged.complete)
        return NULL;
    (void)snprintf(new.volume_id, sizeof(new.volume_id), "%s", staged.volume_id);
    struct watched *w = &watch->volumes[watch->n++];
    *w = new;
    return w;
}

static bool list_layer(void *cookie, const char *name, uint32_t events, struct error *err UNUSED)
{
    struct watcher *watch = cookie;
    struct watched *w = find(watch, name);
    bool is_exposed = strlen(name) == VOLUME_NAME_LEN;

    if (!w && is_exposed)
        w = add(watch, name);
    if (!w)
        return true;
    w->events += events;
    w->seen = w->seen || is_exposed;
    return true;
}

/* Updates the list of watched volumes to what is staged now: one request to the kernel, however many
 * there are. */
static bool refresh(struct watcher *watch, struct error *err)
{
    for (size_t i = 0; i < watch->n; i++) {
        watch->volumes[i].seen = false;
        watch->volumes[i].events = 0;
    }
    if (!table_each(VOLUME_PREFIX, list_layer, watch, err))
        return false;
    for (size_t i = 0; i < watch->n;) {
        if (watch->volumes[i].seen)
            i++;
        else
            watch->volumes[i] = watch->volumes[--watch->n];
    }
    watch->last = NULL;
    return true;
}

static bool send(const struct watcher *watch, const struct watched *w, enum block_event_kind kind,
                 uint64_t count, struct error *err)
{
    return worker_event(watch->worker, kind, w->volume_id, count, err);
}

/* due: some seconds have passed since the look before. A disk that only does not know of the volume is
 * looked at twice, because the volume may have been closed and opened meanwhile. */
static bool has_lost_device(const struct watcher *watch, struct watched *w, bool is_replaced,
                            bool due)
{
    bool surely = false, is_second = w->doubted && due;

    if (is_replaced)
        return space_device_is_lost(watch->worker->config, &w->name);
    if (!volume_raw_is_gone(&w->name, &surely)) {
        w->doubted = w->gone = false;
        return false;
    }
    w->doubted = w->doubted || due;
    return surely || is_second;
}

/* A pool that cannot write its map forgets which blocks were written since it last did, and would
 * show zeros there. So put the error target in place first, and send the message afterwards. */
/* *looked is false while the volume is being changed or closed: it must be looked at again. */
static bool check(struct watcher *watch, struct watched *w, bool due, bool *looked,
                  struct error *err)
{
    struct volume_status status = { .is_active = false };
    struct error ignored = ERROR_INIT;

    *looked = volume_status(&w->name, &status, &ignored) && status.is_active;
    if (!*looked)
        return true;
    /* A worker that was changing the layers at the same moment may have put its table over it. */
    bool is_lost = has_lost_device(watch, w, status.is_replaced, due);
    bool must_fail =
        (is_lost && !w->gone) || (status.map_failed && !(w->failed && status.is_replaced));
    if (must_fail && clock_now_ms() >= w->retry_ms) {
        w->failed = volume_fail(&w->name, &ignored);
        w->gone = is_lost && w->failed;
        /* The attempt itself wakes us. When it did not help, the timer is soon enough. */
        w->retry_ms = w->failed ? 0 : clock_now_ms() + TIMER_MS;
        if (!send(watch, w, is_lost ? BLOCK_EVENT_DEVICE_GONE : BLOCK_EVENT_FAILED, 0, err))
            return false;
    }
    if (w->errors && !send(watch, w, BLOCK_EVENT_INTEGRITY_ERROR, w->errors, err))
        return false;
    w->errors = 0;
    if (status.overlay_overflow && !w->overflow && !send(watch, w, BLOCK_EVENT_OVERFLOW, 0, err))
        return false;
    w->overflow = status.overlay_overflow;
    return true;
}

/* What cannot be stopped gently is stopped all the same, unless a renewal was in the way. */
static bool stop(const struct watcher *watch, const struct watched *w)
{
    const char *state_dir = watch->worker->config->state_dir;
    struct error why = ERROR_INIT;

    if (volume_withhold(&w->name, &why) ||
        (lease_file_is_over(state_dir, &w->name) && volume_fail(&w->name, &why)))
        return true;
    log_debug("a volume without a lease cannot be stopped", TEXT("volume", w->volume_id),
              ERROR_FIELDS(&why));
    return false;
}

/* In a process of its own: it waits for the disk, and while one disk hangs the other volumes must be stopped. It
 * outlives the watcher: a thin volume whose suspension is broken off gives its users errors. */
static void start_stopping(const struct watcher *watch, struct watched *w)
{
    const pid_t pid = fork();

    if (pid == 0) {
        (void)setpgid(0, 0); /* the watcher's group is killed with it */
        secret_forget_inherited();
        (void)close(watch->worker->front_fd); /* the front must see that the watcher ends */
        _exit(stop(watch, w) ? 0 : 1);
    }
    w->stopper = pid > 0 ? pid : 0;
    if (pid < 0)
        (void)stop(watch, w);
}

/* *ended: it had been working until now. Children of the watcher leave nothing behind: SIGCHLD is ignored. */
static bool is_stopping(struct watched *w, bool *ended)
{
    bool was_stopping = w->stopper > 0;

    if (was_stopping && waitpid(w->stopper, NULL, WNOHANG) != 0)
        w->stopper = 0;
    *ended = was_stopping && w->stopper == 0;
    return w->stopper > 0;
}

static bool is_withheld(const struct watched *w)
{
    struct error ignored = ERROR_INIT;
    bool out = false;

    return volume_find_withheld(&w->name, &out, &ignored) && out;
}

/* Looked at each time, because a worker that was slow may have given the key back when the lease was over
 * again. */
static bool is_stopped(const struct watched *w)
{
    struct volume_status status = { .is_replaced = false };
    struct error ignored = ERROR_INIT;

    return is_withheld(w) || (volume_status(&w->name, &status, &ignored) && status.is_replaced);
}

static void look_again_at(struct watcher *watch, uint64_t when_ms)
{
    if (when_ms < watch->lease_look_ms)
        watch->lease_look_ms = when_ms;
}

/* The lease is over. It is told when the volume is stopped, or when that takes long. */
static bool keep_stopped(struct watcher *watch, struct watched *w, struct error *err)
{
    const uint64_t now_ms = clock_boottime_ms();
    bool ended = false, works = is_stopping(w, &ended), is_done = is_stopped(w);

    if (!is_done && w->running_ms == 0) { /* for the first time, or again */
        w->running_ms = now_ms;
        w->told = false;
    }
    if (is_done)
        w->running_ms = 0;
    else
        look_again_at(watch, now_ms + STOPPING_LOOK_MS);
    if (!is_done && !works)
        start_stopping(watch, w);
    if (w->told || (!is_done && now_ms - w->running_ms < STOPPING_LONG_MS))
        return true;
    w->told = true;
    return send(watch, w, BLOCK_EVENT_LEASE_OVER, 0, err);
}

static void forget_lease(struct watched *w)
{
    w->told = false;
    w->running_ms = 0;
}

/* Nobody tells when a lease is over, so each look finds out when the next one must be. A renewal is due from a
 * third of the lease on, and when it may have been overtaken by what stops the volume; of a lease that is over,
 * not more often than other things (due). */
static bool check_lease(struct watcher *watch, struct watched *w, bool due, struct error *err)
{
    struct lease_file lease = { .until_ms = 0 };
    struct error ignored = ERROR_INIT;
    bool found = false, ended = false;
    bool is_read =
        lease_file_read(watch->worker->config->state_dir, &w->name, &found, &lease, &ignored);
    const uint64_t now_ms = clock_boottime_ms();
    bool is_due = w->told || now_ms + lease.lease_ms * 2 / 3 >= lease.until_ms;
    bool was_told = w->told;

    if (is_read && !found) {
        forget_lease(w);
        return true;
    }
    if (now_ms >= lease.until_ms) {
        if (!keep_stopped(watch, w, err))
            return false;
        is_due = due || w->told != was_told;
    } else {
        if (is_stopping(w, &ended))
            look_again_at(watch, now_ms + STOPPING_LOOK_MS);
        /* What was started when the lease was over, by this watcher or the one before, may end later. */
        is_due = is_due || ended || (due && is_withheld(w));
        forget_lease(w);
        look_again_at(watch, lease.until_ms);
    }
    return !is_due || send(watch, w, BLOCK_EVENT_LEASE_DUE, 0, err);
}

/* Converts the kernel's name of one of a volume's mappings ("dm-3"), or of the disk below ("sdb"), to
 * the mapping's name. The disk may be another driver's mapping. */
static bool name_of_device(const char *device, char name[static DEVICE_MAPPING_LEN])
{
    char disk[KERNEL_LOG_DEVICE_LEN + 8];

    (void)snprintf(disk, sizeof(disk), "block/%s", device);
    return (device_mapping_name(disk, name) &&
            strncmp(name, VOLUME_PREFIX, strlen(VOLUME_PREFIX)) == 0) ||
           device_find_mapping_over(disk, name);
}

/* *out is NULL when no such volume is staged. A volume may have been staged and read since the last
 * refresh. */
static bool find_fresh(struct watcher *watch, const char *name, struct watched **out,
                       struct error *err)
{
    *out = find(watch, name);
    if (*out)
        return true;
    if (!refresh(watch, err))
        return false;
    *out = find(watch, name);
    return true;
}

static bool count_error(struct watcher *watch, const char *name, struct error *err)
{
    struct watched *w = NULL;

    if (!find_fresh(watch, name, &w, err))
        return false;
    if (w)
        w->errors++;
    return true;
}

/* The kernel repeats itself: each kind of fault is told once in a while. */
static bool tell_fault(struct watcher *watch, const char *record, struct error *err)
{
    static const enum block_event_kind kinds[] = {
        [KERNEL_LOG_SHUT_DOWN] = BLOCK_EVENT_SHUT_DOWN,
        [KERNEL_LOG_READ_ONLY] = BLOCK_EVENT_READ_ONLY,
        [KERNEL_LOG_WRITE_FAILED] = BLOCK_EVENT_WRITE_FAILED,
    };
    char device[KERNEL_LOG_DEVICE_LEN], name[DEVICE_MAPPING_LEN];
    enum kernel_log_fault fault = kernel_log_find_fault(record, device);

    if (fault == KERNEL_LOG_NO_FAULT || !name_of_device(device, name))
        return true;
    struct watched *w = NULL;
    if (!find_fresh(watch, name, &w, err))
        return false;
    uint64_t now_ms = clock_now_ms();
    if (!w || now_ms < w->silent_until_ms[fault])
        return true;
    w->silent_until_ms[fault] = now_ms + TIMER_MS;
    return send(watch, w, kinds[fault], 0, err);
}

static bool read_log(struct watcher *watch, struct error *err)
{
    char record[8192];

    for (;;) {
        ssize_t n = read(watch->log_fd, record, sizeof(record) - 1);

        if (n < 0 && (errno == EPIPE || errno == EINTR)) /* some were overwritten: go on */
            continue;
        if (n <= 0)
            return true;
        record[n] = 0;
        char device[KERNEL_LOG_DEVICE_LEN], name[DEVICE_MAPPING_LEN];
        if (!tell_fault(watch, record, err))
            return false;
        if (!kernel_log_integrity_error(record, device) || !name_of_device(device, name))
            continue;
        if (!count_error(watch, name, err))
            return false;
    }
}

static bool open_sources(struct watcher *watch, struct error *err)
{
    if (!control_open(&watch->control_fd, err))
        return false;
    watch->log_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (watch->log_fd < 0)
        return error_set_errno(err, errno, "open /dev/kmsg");
    if (lseek(watch->log_fd, 0, SEEK_END) < 0)
        return error_set_errno(err, errno, "skip old records of /dev/kmsg");
    return true;
}

/* Any event after this call wakes the descriptor. So the order is: arm, look, wait. */
static bool arm(const struct watcher *watch, struct error *err)
{
    struct dm_ioctl io = { .version = { DM_VERSION_MAJOR, 0, 0 },
                           .data_size = sizeof(io),
                           .data_start = sizeof(io) };

    if (ioctl(watch->control_fd, DM_DEV_ARM_POLL, &io) != 0)
        return error_set_errno(err, errno, "wait for device-mapper events");
    return true;
}

/* all: also the volumes to which nothing happened. */
static bool look(struct watcher *watch, bool all, struct error *err)
{
    if (!read_log(watch, err) || !refresh(watch, err))
        return false;
    watch->lease_look_ms = UINT64_MAX;
    for (size_t i = 0; i < watch->n; i++)
        if (!check_lease(watch, &watch->volumes[i], all, err))
            return false;
    for (size_t i = 0; i < watch->n; i++) {
        struct watched *w = &watch->volumes[i];

        bool looked = false;

        /* The kernel counts no event when a worker puts its table over the error target. */
        if (!all && !w->failed && w->events == w->checked_events && w->errors == 0)
            continue;
        if (!check(watch, w, all, &looked, err))
            return false;
        if (looked)
            w->checked_events = w->events;
    }
    return true;
}

static uint64_t time_to_lease(const struct watcher *watch)
{
    uint64_t now_ms = clock_boottime_ms();

    return watch->lease_look_ms > now_ms ? watch->lease_look_ms - now_ms : 0;
}

bool operation_watch(struct worker *worker, struct block_result *out, struct error *err)
{
    (void)out;
    static struct watcher watch;
    watch.worker = worker;
    (void)signal(SIGCHLD, SIG_IGN);
    if (!open_sources(&watch, err) || !arm(&watch, err) || !look(&watch, true, err))
        return false;
    footprint_settle(); /* from here on it mostly waits, as long as the plugin lives */
    for (uint64_t due_ms = 0;;) {
        bool is_due = clock_now_ms() >= due_ms;

        if (is_due)
            due_ms = clock_now_ms() + TIMER_MS;
        if (!arm(&watch, err) || !look(&watch, is_due, err))
            return false;
        struct pollfd fds[] = { { .fd = worker->front_fd, .events = POLLRDHUP },
                                { .fd = watch.control_fd, .events = POLLIN },
                                { .fd = watch.log_fd, .events = POLLIN } };
        uint64_t now_ms = clock_now_ms();
        int wait_ms = due_ms > now_ms ? (int)(due_ms - now_ms) : 0;
        uint64_t left_ms = time_to_lease(&watch);
        wait_ms = left_ms < (uint64_t)wait_ms ? (int)left_ms : wait_ms;
        if (poll(fds, ARRAY_LEN(fds), wait_ms) < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for events");
        if (!worker_check(worker, err))
            return false;
    }
}
