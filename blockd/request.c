/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/request.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_BYTE 'o'

/* Room for more descriptors than we ever accept, so that all of them are seen and closed. */
#define DESCRIPTORS_MAX 8

static bool is_terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

/* Reading any other byte through a bool is undefined. */
static bool is_bool(const bool *value)
{
    return *(const unsigned char *)value <= 1;
}

static bool is_reply_error(const struct error *e)
{
    return (uint32_t)e->code < ERROR_CODE_COUNT && is_terminated(e->reason, sizeof(e->reason)) &&
           is_terminated(e->text, sizeof(e->text));
}

static bool are_extents(const struct volume_extent *extents, uint32_t n)
{
    if (n > RECORD_EXTENTS_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!is_bool(&extents[i].done))
            return false;
    }
    return true;
}

static bool is_record(const struct volume_record *r)
{
    const struct volume_spec *spec = &r->spec;
    return is_terminated(r->volume_id, sizeof(r->volume_id)) && r->phase >= RECORD_NEW &&
           r->phase <= RECORD_ERASED && spec->integrity >= INTEGRITY_AEGIS128 &&
           spec->integrity <= INTEGRITY_NONE && spec->initialisation >= INITIALISATION_BACKGROUND &&
           spec->initialisation <= INITIALISATION_ON_WRITE && is_bool(&spec->discard) &&
           is_terminated(spec->fs_type, sizeof(spec->fs_type)) &&
           r->n_header_digests <= RECORD_DIGESTS_MAX && are_extents(r->extents, r->n_extents) &&
           is_bool(&r->has_clean_hash) && is_bool(&r->origin.is_set);
}

static bool is_change(const struct record_change *c)
{
    return c->kind <= RECORD_CHANGE_GROWN && is_bool(&c->has_clean_hash) &&
           are_extents(c->extents, c->n_extents);
}

static bool is_device(const struct volume_device *d)
{
    return is_terminated(d->path, sizeof(d->path)) && is_bool(&d->read_only) &&
           is_bool(&d->needs_filesystem);
}

static bool is_probe(const struct block_probe *p)
{
    return is_bool(&p->crypt) && is_bool(&p->integrity) && is_bool(&p->clone) &&
           is_bool(&p->snapshot) && is_bool(&p->aegis128) && is_bool(&p->hmac_sha256) &&
           is_bool(&p->ext4) && is_bool(&p->xfs) && is_terminated(p->missing, sizeof(p->missing));
}

static bool is_status(const struct volume_status *s)
{
    return is_bool(&s->is_active) && is_bool(&s->is_read_only) && is_bool(&s->is_suspended) &&
           is_bool(&s->is_initialising) && is_bool(&s->map_failed) && is_bool(&s->overlay_overflow);
}

static bool is_result(const struct block_result *r)
{
    return is_bool(&r->already) && is_device(&r->device) && is_bool(&r->stats.is_block) &&
           is_probe(&r->probe) && is_status(&r->status);
}

static bool is_request(const struct block_request *r)
{
    return r->operation >= BLOCK_STAGE && r->operation < BLOCK_OPERATION_COUNT &&
           is_terminated(r->volume_id, sizeof(r->volume_id)) &&
           is_terminated(r->copy_id, sizeof(r->copy_id)) &&
           is_terminated(r->path, sizeof(r->path)) && is_terminated(r->path2, sizeof(r->path2)) &&
           is_terminated(r->fs_type, sizeof(r->fs_type)) &&
           is_terminated(r->mount_flags, sizeof(r->mount_flags)) && is_bool(&r->read_only) &&
           is_bool(&r->reserve) && is_bool(&r->exclusive);
}

static bool is_data(const struct block_data *d)
{
    return d->part >= BLOCK_DATA_QUOTE && d->part <= BLOCK_DATA_EVENT_LOG && d->len > 0 &&
           d->len <= BLOCK_DATA_MAX;
}

static bool is_message(const struct block_message *m)
{
    bool is_event = m->kind == BLOCK_EVENT;
    return m->kind >= BLOCK_ASK_OPEN && m->kind <= BLOCK_DONE &&
           (!is_event || (m->event >= BLOCK_EVENT_STAGED && m->event <= BLOCK_EVENT_OVERFLOW)) &&
           (m->kind != BLOCK_DATA || is_data(&m->data)) && is_bool(&m->ok) &&
           is_reply_error(&m->err) && is_terminated(m->volume_id, sizeof(m->volume_id)) &&
           is_change(&m->change) && is_result(&m->result);
}

static bool is_answer(const struct block_answer *a)
{
    return is_bool(&a->ok) && is_reply_error(&a->err) && (!a->ok || is_record(&a->record));
}

static bool is_closed_errno(int code)
{
    return code == EPIPE || code == ECONNRESET || code == ENOTCONN;
}

static bool send_packet(int fd, const struct msghdr *header, size_t len, struct error *err)
{
    ssize_t n;
    do
        n = sendmsg(fd, header, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0 && is_closed_errno(errno))
        return error_set(err, ERROR_CANCELLED, "the other end is closed");
    if (n < 0)
        return error_set_errno(err, errno, "send message");
    if ((size_t)n != len)
        return error_set(err, ERROR_INTERNAL, "send message: cut");
    return true;
}

static bool send_struct(int fd, const void *bytes, size_t len, struct error *err)
{
    /* sendmsg writes to nothing, its struct just serves recvmsg as well. */
    union {
        const void *in;
        void *out;
    } view = { .in = bytes };
    struct iovec part = { .iov_base = view.out, .iov_len = len };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };
    return send_packet(fd, &header, len, err);
}

/* Takes over at most max descriptors into fds; all others are closed. Gives how many there were. */
static size_t take_descriptors(struct msghdr *header, int *fds, size_t max)
{
    size_t seen = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++, seen++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (seen < max)
                fds[seen] = fd;
            else
                close(fd);
        }
    }
    return seen;
}

/* One packet of exactly len bytes with at most max_fds descriptors. */
static bool receive_packet(int fd, void *bytes, size_t len, int *fds, size_t max_fds, size_t *n_fds,
                           struct error *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { .iov_base = bytes, .iov_len = len };
    struct msghdr header = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes) };
    ssize_t n;
    do
        n = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && is_closed_errno(errno)))
        return error_set(err, ERROR_CANCELLED, "the other end is closed");
    if (n < 0)
        return error_set_errno(err, errno, "receive message");

    *n_fds = take_descriptors(&header, fds, max_fds);
    bool is_whole = !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && (size_t)n == len;
    if (is_whole && *n_fds <= max_fds)
        return true;
    for (size_t i = 0; i < *n_fds && i < max_fds; i++)
        close_at(&fds[i]);
    return error_set(err, ERROR_INVALID_ARGUMENT, "message of a wrong size or with descriptors");
}

static bool receive_struct(int fd, void *bytes, size_t len, struct error *err)
{
    size_t n_fds = 0;
    return receive_packet(fd, bytes, len, NULL, 0, &n_fds, err);
}

static bool wait_readable(int fd, uint64_t deadline_ms, struct error *err)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    for (;;) {
        uint64_t now = clock_now_ms();
        int left_ms = -1;
        if (deadline_ms) {
            uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
            left_ms = left > INT32_MAX ? INT32_MAX : (int)left;
        }
        int n = poll(&wait, 1, left_ms);
        if (n > 0)
            return true;
        if (n == 0)
            return error_set(err, ERROR_DEADLINE_EXCEEDED, "no message in time");
        if (errno != EINTR)
            return error_set_errno(err, errno, "wait for a message");
    }
}

bool block_send_request(int fd, const struct block_request *request, struct error *err)
{
    return send_struct(fd, request, sizeof(*request), err);
}

bool block_receive_request(int fd, struct block_request *out, struct error *err)
{
    if (!receive_struct(fd, out, sizeof(*out), err))
        return error_wrap(err, "request");
    if (!is_request(out))
        return error_set(err, ERROR_INVALID_ARGUMENT, "request: a field is not what it should be");
    return true;
}

bool block_send_message(int fd, const struct block_message *message, struct error *err)
{
    return send_struct(fd, message, sizeof(*message), err);
}

bool block_receive_message(int fd, uint64_t deadline_ms, struct block_message *out,
                           struct error *err)
{
    if (!wait_readable(fd, deadline_ms, err) || !receive_struct(fd, out, sizeof(*out), err))
        return error_wrap(err, "message from the worker");
    if (!is_message(out))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "message from the worker: a field is not what it should be");
    return true;
}

bool block_send_answer(int fd, const struct block_answer *answer, struct error *err)
{
    return send_struct(fd, answer, sizeof(*answer), err);
}

bool block_receive_answer(int fd, struct block_answer *out, struct error *err)
{
    if (!receive_struct(fd, out, sizeof(*out), err))
        return error_wrap(err, "answer");
    if (!is_answer(out))
        return error_set(err, ERROR_INVALID_ARGUMENT, "answer: a field is not what it should be");
    return true;
}

bool block_send_operation(int control_fd, int worker_fd, struct error *err)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { .bytes = { 0 } };
    char byte = CONTROL_BYTE;
    struct iovec part = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr header = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &worker_fd, sizeof(worker_fd));
    if (!send_packet(control_fd, &header, 1, err))
        return error_wrap(err, "start an operation");
    close(worker_fd);
    return true;
}

bool block_receive_operation(int control_fd, int *out_worker_fd, struct error *err)
{
    char byte = 0;
    int worker_fd = -1;
    size_t n_fds = 0;
    if (!receive_packet(control_fd, &byte, 1, &worker_fd, 1, &n_fds, err))
        return error_wrap(err, "next operation");
    if (n_fds != 1 || byte != CONTROL_BYTE) {
        close_at(&worker_fd);
        return error_set(err, ERROR_INVALID_ARGUMENT, "next operation: no descriptor");
    }
    *out_worker_fd = worker_fd;
    return true;
}
