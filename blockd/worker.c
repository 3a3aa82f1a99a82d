/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/worker.h"

#include "base/capabilities.h"
#include "base/clock.h"
#include "base/fault.h"
#include "blockd/client.h"
#include "blockd/operation.h"
#include "blockd/stage_file.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define LOCK_STEP_MS 20
/* Programs are killed this long before the worker itself, so that the worker can report it. */
#define ANSWER_MARGIN_MS 500

enum operation_flags { NEEDS_VOLUME = 1, NEEDS_LOCK = 2 };

/*
 * What each operation needs; a worker keeps no other capability. KEYS: locked memory. FILES: folders and
 * files of other users. DEVICES: device-mapper, loop devices and mounts, and nodes where /dev is static.
 * CHILDREN: programs that look at a disk are another user, with a device node of their own, and the
 * worker kills them at its time limit.
 */
#define KEYS     CAPABILITY(IPC_LOCK)
#define FILES    (CAPABILITY(DAC_OVERRIDE) | CAPABILITY(FOWNER))
#define DEVICES  (FILES | CAPABILITY(SYS_ADMIN) | CAPABILITY(MKNOD))
#define CHILDREN (CAPABILITY(SETUID) | CAPABILITY(SETGID) | CAPABILITY(CHOWN) | CAPABILITY(KILL))
#define GROWS    (CHILDREN | CAPABILITY(SYS_RESOURCE))

static const struct operation {
    operation_fn *run;
    unsigned flags;
    uint64_t capabilities;
} operations[BLOCK_OPERATION_COUNT] = {
    [BLOCK_STAGE] = { operation_stage, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES | GROWS },
    [BLOCK_UNSTAGE] = { operation_unstage, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES },
    /* A file system that failed is repaired and mounted again. */
    [BLOCK_PUBLISH] = { operation_publish, NEEDS_VOLUME | NEEDS_LOCK, DEVICES | CHILDREN },
    [BLOCK_UNPUBLISH] = { operation_unpublish, NEEDS_VOLUME | NEEDS_LOCK, DEVICES },
    [BLOCK_STATS] = { operation_stats, NEEDS_VOLUME, DEVICES },
    [BLOCK_EXPAND] = { operation_expand, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES | GROWS },
    [BLOCK_ROTATE] = { operation_rotate, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES },
    /* Without the lock: the lease goes on while somebody else works on the volume for long. */
    [BLOCK_RENEW] = { operation_renew, NEEDS_VOLUME, KEYS | DEVICES },
    [BLOCK_INSPECT] = { operation_inspect, NEEDS_VOLUME, DEVICES },
    [BLOCK_CREATE] = { operation_create, NEEDS_VOLUME | NEEDS_LOCK, FILES },
    [BLOCK_DELETE] = { operation_delete, NEEDS_VOLUME | NEEDS_LOCK, DEVICES },
    [BLOCK_COPY] = { operation_copy, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES },
    [BLOCK_RESIZE] = { operation_resize, NEEDS_VOLUME | NEEDS_LOCK, FILES },
    [BLOCK_CAPACITY] = { operation_capacity, 0, FILES },
    [BLOCK_WATCH] = { operation_watch, 0, KEYS | DEVICES | CAPABILITY(SYSLOG) },
    [BLOCK_PROBE] = { operation_probe, 0, KEYS | DEVICES },
    [BLOCK_UNLINK] = { operation_unlink, 0, FILES },
    /* It binds the front's socket again. */
    [BLOCK_SOCKET] = { operation_socket, 0, FILES | CAPABILITY(CHOWN) },
    [BLOCK_PLACE] = { operation_place, NEEDS_VOLUME | NEEDS_LOCK, FILES },
    [BLOCK_UNPLACE] = { operation_unplace, NEEDS_VOLUME | NEEDS_LOCK, FILES },
    [BLOCK_GROWN] = { operation_grown, NEEDS_VOLUME | NEEDS_LOCK, DEVICES },
    /* It reaches the other driver's socket, and gives its own one to the front. */
    [BLOCK_FORWARD] = { operation_forward, 0, KEYS | FILES | CAPABILITY(CHOWN) },
    /* They reach the other driver's socket, and then give up all of these. */
    [BLOCK_UPSTREAM_READ] = { operation_upstream_read, 0, KEYS | FILES },
    [BLOCK_UPSTREAM_CALL] = { operation_upstream_call, NEEDS_VOLUME | NEEDS_LOCK, KEYS | DEVICES },
    [BLOCK_ATTEST] = { operation_attest, 0, KEYS | FILES },
};

/* The kernel kills the worker when the timer ends. That also works when the worker hangs. */
static timer_t kill_timer;

void worker_set_end(uint64_t deadline_ms)
{
    struct itimerspec when = { .it_value = { .tv_sec = (time_t)(deadline_ms / 1000),
                                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000 } };

    (void)timer_settime(kill_timer, TIMER_ABSTIME, &when, NULL);
}

static bool make_timer(struct error *err)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };

    if (timer_create(CLOCK_MONOTONIC, &event, &kill_timer) != 0)
        return error_set_errno(err, errno, "make the worker's timer");
    return true;
}

static void die_with(int parent_pid)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent_pid)
        _exit(1);
}

bool worker_check(const struct worker *worker, struct error *err)
{
    struct pollfd front = { .fd = worker->front_fd, .events = POLLRDHUP };

    if (poll(&front, 1, 0) > 0 && (front.revents & (POLLRDHUP | POLLHUP | POLLERR)))
        return error_set(err, ERROR_CANCELLED, "the caller is gone");
    return true;
}

uint32_t worker_left_ms(const struct worker *worker)
{
    if (!worker->deadline_ms)
        return 0;
    uint64_t now = clock_now_ms() + ANSWER_MARGIN_MS;
    uint64_t left = worker->deadline_ms > now ? worker->deadline_ms - now : 1;
    return left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
}

void worker_enter_critical(const struct worker *worker)
{
    (void)worker;
    worker_set_end(0);
    (void)prctl(PR_SET_PDEATHSIG, 0);
}

void worker_leave_critical(const struct worker *worker)
{
    die_with(worker->parent_pid);
    worker_set_end(worker->deadline_ms);
}

static bool send_message(const struct worker *worker, const struct block_message *message,
                         struct error *err)
{
    return block_send_message(worker->front_fd, message, err);
}

bool worker_event(const struct worker *worker, enum block_event_kind kind, const char *volume_id,
                  uint64_t count, struct error *err)
{
    static struct block_message message;

    message.kind = BLOCK_EVENT;
    message.event = kind;
    message.count = count;
    size_t len = strnlen(volume_id, VOLUME_ID_MAX);
    memcpy(message.volume_id, volume_id, len);
    message.volume_id[len] = 0;
    return send_message(worker, &message, err);
}

bool worker_data(const struct worker *worker, enum block_data_part part, const uint8_t *bytes,
                 size_t len, struct error *err)
{
    static struct block_message message;

    message.kind = BLOCK_DATA;
    message.data.part = part;
    for (size_t at = 0; at < len; at += message.data.len) {
        message.data.len = (uint32_t)(len - at < BLOCK_DATA_MAX ? len - at : BLOCK_DATA_MAX);
        memcpy(message.data.bytes, bytes + at, message.data.len);
        if (!send_message(worker, &message, err))
            return false;
    }
    return true;
}

bool worker_lock(const struct worker *worker, const struct volume_name *name, bool wait,
                 int *out_fd, struct error *err)
{
    bool locked = false;

    for (;;) {
        if (!stage_file_try_lock(worker->config->state_dir, name, &locked, out_fd, err))
            return false;
        if (locked)
            return true;
        if (!wait)
            return error_set(err, ERROR_ABORTED, "another operation on the volume is under way");
        if (!worker_check(worker, err))
            return error_wrap(err, "wait for another operation on the volume");
        const struct timespec step = { .tv_nsec = LOCK_STEP_MS * 1000000L };
        nanosleep(&step, NULL);
    }
}

static bool run_locked(struct worker *worker, const struct operation *operation,
                       struct block_result *out, struct error *err)
{
    auto_close int lock_fd = -1;

    if (!worker_lock(worker, &worker->name, true, &lock_fd, err))
        return false;
    FAULT_POINT("worker.locked");
    bool done = operation->run(worker, out, err);
    stage_file_tidy_lock(worker->config->state_dir, &worker->name);
    return done;
}

static bool run(struct worker *worker, struct block_result *out, struct error *err)
{
    const struct operation *operation = &operations[worker->request->operation];
    const char *volume_id = worker->request->volume_id;

    worker->deadline_ms = worker->request->deadline_ms;
    worker_set_end(worker->deadline_ms);
    /* Before anything of the request is acted on. */
    if (!capabilities_keep(operation->capabilities, err))
        return false;
    if ((operation->flags & NEEDS_VOLUME) && !volume_id[0])
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume id is empty");
    if (!volume_name_make(worker->config->driver, volume_id, &worker->name, err))
        return false;
    if (operation->flags & NEEDS_LOCK)
        return run_locked(worker, operation, out, err);
    return operation->run(worker, out, err);
}

void worker_note_write(struct worker_note *note, const char *operation, const char *volume_id)
{
    (void)snprintf(note->operation, sizeof(note->operation), "%s", operation);
    (void)snprintf(note->volume_id, sizeof(note->volume_id), "%s", volume_id);
}

static bool receive(struct worker *worker, struct block_request *request, struct worker_note *note,
                    struct error *err)
{
    if (!block_receive_request(worker->front_fd, request, err))
        return false;
    worker_note_write(note, block_operation_name((enum block_operation)request->operation),
                      request->volume_id);
    return true;
}

void worker_run(const struct worker_config *config, int front_fd, int parent_pid,
                struct worker_note *note)
{
    static struct block_request request;
    static struct block_message done;
    struct worker worker = {
        .config = config, .front_fd = front_fd, .request = &request, .parent_pid = parent_pid
    };

    die_with(parent_pid);
    done.kind = BLOCK_DONE;
    done.ok = make_timer(&done.err) && receive(&worker, &request, note, &done.err) &&
              run(&worker, &done.result, &done.err);
    struct error err = ERROR_INIT;
    exit(block_send_message(front_fd, &done, &err) ? 0 : 1);
}
