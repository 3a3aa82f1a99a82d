/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/request.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONTROL_BYTE 'o'

/* More descriptors than we ever accept, so that all of them are received and closed. */
#define DESCRIPTORS_MAX 8

/* --- what may be asked --- */

/* When a broker is lost in the middle of an operation, another one with another key goes on. */
#define EVIDENCE_ASKS 2

/* At most so many times in one operation. A stage records OPENED when it opens the volume (twice when
 * the disk is ahead of the record) and when a file system was made or grown. CLOSED is told again
 * without its end when the broker refuses the proof. */
static const struct block_asked permits[BLOCK_OPERATION_COUNT] = {
    [BLOCK_STAGE] = { .open = 1,
                      .evidence = EVIDENCE_ASKS,
                      .changes = { [RECORD_CHANGE_READY] = 1,
                                   [RECORD_CHANGE_OPENED] = 3,
                                   [RECORD_CHANGE_NEXT_HEADER] = 1,
                                   [RECORD_CHANGE_ROTATED] = 1,
                                   [RECORD_CHANGE_CLOSED] = 2 } },
    [BLOCK_UNSTAGE] = { .evidence = EVIDENCE_ASKS, .changes = { [RECORD_CHANGE_CLOSED] = 2 } },
    [BLOCK_EXPAND] = { .record = 1, .evidence = EVIDENCE_ASKS },
    [BLOCK_ROTATE] = { .open = 1,
                       .evidence = EVIDENCE_ASKS,
                       .changes = { [RECORD_CHANGE_NEXT_HEADER] = 1,
                                    [RECORD_CHANGE_ROTATED] = 1 } },
    [BLOCK_RENEW] = { .record = 1, .open = 1, .evidence = EVIDENCE_ASKS },
    [BLOCK_ATTEST] = { .evidence = 1 },
};

static bool count_up(uint8_t *asked, uint8_t limit)
{
    if (*asked >= limit)
        return false;
    ++*asked;
    return true;
}

bool block_may_ask(enum block_operation operation, enum block_message_kind question,
                   enum record_change_kind change, struct block_asked *asked)
{
    const struct block_asked *permit = &permits[operation];

    if (question == BLOCK_ASK_RECORD)
        return count_up(&asked->record, permit->record);
    if (question == BLOCK_ASK_OPEN)
        return count_up(&asked->open, permit->open);
    if (question == BLOCK_ASK_EVIDENCE)
        return count_up(&asked->evidence, permit->evidence);
    return question == BLOCK_ASK_CHANGE && change < RECORD_CHANGE_KIND_COUNT &&
           count_up(&asked->changes[change], permit->changes[change]);
}

const char *block_upstream_path(enum block_upstream_method method)
{
#define IDENTITY "/csi.v1.Identity/"
#define NODE     "/csi.v1.Node/"
    static const char *const paths[BLOCK_UPSTREAM_METHOD_COUNT] = {
        [BLOCK_GET_PLUGIN_INFO] = IDENTITY "GetPluginInfo",
        [BLOCK_GET_PLUGIN_CAPABILITIES] = IDENTITY "GetPluginCapabilities",
        [BLOCK_PROBE_PLUGIN] = IDENTITY "Probe",
        [BLOCK_NODE_GET_CAPABILITIES] = NODE "NodeGetCapabilities",
        [BLOCK_NODE_GET_INFO] = NODE "NodeGetInfo",
        [BLOCK_NODE_STAGE] = NODE "NodeStageVolume",
        [BLOCK_NODE_PUBLISH] = NODE "NodePublishVolume",
        [BLOCK_NODE_UNPUBLISH] = NODE "NodeUnpublishVolume",
        [BLOCK_NODE_UNSTAGE] = NODE "NodeUnstageVolume",
        [BLOCK_NODE_EXPAND] = NODE "NodeExpandVolume",
    };
#undef IDENTITY
#undef NODE

    return (uint32_t)method < BLOCK_UPSTREAM_METHOD_COUNT ? paths[method] : NULL;
}

/* --- checks of received packets --- */

/* A member that is checked: text must end within size bytes, a bool must be 0 or 1 (reading any
 * other byte as a bool is undefined). */
struct checked_field {
    const char *name;
    size_t offset, size; /* 0: a bool */
};
#define TEXT_OF(Struct, member)                                          \
    {                                                                    \
#member, offsetof(Struct, member), sizeof(((Struct *)0)->member) \
    }
#define BOOL_OF(Struct, member)              \
    {                                        \
#member, offsetof(Struct, member), 0 \
    }

static const struct checked_field request_fields[] = {
    TEXT_OF(struct block_request, volume_id), TEXT_OF(struct block_request, copy_id),
    TEXT_OF(struct block_request, path),      TEXT_OF(struct block_request, path2),
    TEXT_OF(struct block_request, fs_type),   TEXT_OF(struct block_request, mount_flags),
    BOOL_OF(struct block_request, read_only), BOOL_OF(struct block_request, reserve),
    BOOL_OF(struct block_request, exclusive), BOOL_OF(struct block_request, upstream.stages),
};

#define ERROR_FIELDS_OF(Struct) TEXT_OF(Struct, err.reason), TEXT_OF(Struct, err.text)

static const struct checked_field message_fields[] = {
    BOOL_OF(struct block_message, ok),
    BOOL_OF(struct block_message, relay.has_proof),
    ERROR_FIELDS_OF(struct block_message),
    TEXT_OF(struct block_message, volume_id),
    BOOL_OF(struct block_message, result.already),
    BOOL_OF(struct block_message, result.is_empty),
    BOOL_OF(struct block_message, result.has_place),
    BOOL_OF(struct block_message, result.is_gone),
    BOOL_OF(struct block_message, result.has_device),
    BOOL_OF(struct block_message, result.stats.is_block),
    BOOL_OF(struct block_message, result.probe.none),
    BOOL_OF(struct block_message, result.probe.thin),
    BOOL_OF(struct block_message, result.probe.snapshot),
    BOOL_OF(struct block_message, result.probe.aegis128),
    BOOL_OF(struct block_message, result.probe.hmac_sha256),
    BOOL_OF(struct block_message, result.probe.ext4),
    BOOL_OF(struct block_message, result.probe.xfs),
    TEXT_OF(struct block_message, result.holder),
    TEXT_OF(struct block_message, result.probe.missing),
    TEXT_OF(struct block_message, result.upstream.text),
    BOOL_OF(struct block_message, result.status.is_active),
    BOOL_OF(struct block_message, result.status.is_read_only),
    BOOL_OF(struct block_message, result.status.is_suspended),
    BOOL_OF(struct block_message, result.status.map_failed),
    BOOL_OF(struct block_message, result.status.is_replaced),
    BOOL_OF(struct block_message, result.status.overlay_overflow),
};

static const struct checked_field answer_fields[] = {
    BOOL_OF(struct block_answer, ok),
    ERROR_FIELDS_OF(struct block_answer),
};

static bool wrong(const char *what, const char *field, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s: %s is not valid", what, field);
}

static bool check_fields(const void *object, const struct checked_field *fields, size_t n,
                         const char *what, struct error *err)
{
    for (size_t i = 0; i < n; i++) {
        const unsigned char *at = (const unsigned char *)object + fields[i].offset;

        if (fields[i].size > 0 ? !memchr(at, 0, fields[i].size) : *at > 1)
            return wrong(what, fields[i].name, err);
    }
    return true;
}

static bool check_request(const struct block_request *r, struct error *err)
{
    static const char what[] = "request";

    if (r->operation < BLOCK_STAGE || r->operation >= BLOCK_OPERATION_COUNT)
        return wrong(what, "operation", err);
    if (r->upstream.method >= BLOCK_UPSTREAM_METHOD_COUNT || r->upstream.body_len > BLOCK_BODY_MAX)
        return wrong(what, "upstream", err);
    return check_fields(r, request_fields, ARRAY_LEN(request_fields), what, err);
}

static bool check_message(const struct block_message *m, struct error *err)
{
    static const char what[] = "message from the worker";
    const struct block_data *data = &m->data;

    if (m->kind < BLOCK_ASK_RECORD || m->kind > BLOCK_DONE)
        return wrong(what, "kind", err);
    if (m->kind == BLOCK_EVENT && (m->event < BLOCK_EVENT_FAILED || m->event >= BLOCK_EVENT_END))
        return wrong(what, "event", err);
    if (m->kind == BLOCK_DATA && (data->part < BLOCK_DATA_QUOTE || data->part > BLOCK_DATA_ANSWER ||
                                  data->len == 0 || data->len > BLOCK_DATA_MAX))
        return wrong(what, "data", err);
    if ((uint32_t)m->err.code >= ERROR_CODE_COUNT)
        return wrong(what, "err.code", err);
    if (m->result.n_fds != 0 &&
        (m->kind != BLOCK_DONE || !m->ok || m->result.n_fds != BLOCK_FDS_MAX))
        return wrong(what, "descriptors", err);
    if (m->change.len > sizeof(m->change.bytes))
        return wrong(what, "change.len", err);
    return check_fields(m, message_fields, ARRAY_LEN(message_fields), what, err);
}

static bool check_answer(const struct block_answer *a, struct error *err)
{
    static const char what[] = "answer";

    if ((uint32_t)a->err.code >= ERROR_CODE_COUNT)
        return wrong(what, "err.code", err);
    if (a->record.len > sizeof(a->record.bytes))
        return wrong(what, "record.len", err);
    if (a->signature.len > sizeof(a->signature.bytes) ||
        a->signature.certificates_len > sizeof(a->signature.certificates))
        return wrong(what, "signature", err);
    if (a->evidence.quote > 0 && broker_evidence_len(&a->evidence) == 0)
        return wrong(what, "evidence", err);
    return check_fields(a, answer_fields, ARRAY_LEN(answer_fields), what, err);
}

/* --- packets --- */

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
        return error_set(err, ERROR_INTERNAL, "send message: only a part was sent");
    return true;
}

static bool send_with_descriptors(int fd, const void *bytes, size_t len, const int *fds,
                                  size_t n_fds, struct error *err)
{
    /* sendmsg() only reads the bytes. struct msghdr has no const because recvmsg() uses it, too. */
    union {
        const void *in;
        void *out;
    } view = { .in = bytes };
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(BLOCK_FDS_MAX * sizeof(int))];
    } control = { .bytes = { 0 } };
    struct iovec part = { .iov_base = view.out, .iov_len = len };
    struct msghdr header = { .msg_iov = &part, .msg_iovlen = 1 };

    if (n_fds > 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&header);

    if (c) {
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    return send_packet(fd, &header, len, err);
}

static bool send_struct(int fd, const void *bytes, size_t len, struct error *err)
{
    return send_with_descriptors(fd, bytes, len, NULL, 0, err);
}

/* Puts at most max descriptors into fds and closes all others. Returns how many there were. */
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

/* Receives one packet of exactly len bytes with at most max_fds descriptors. */
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
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "the message has a wrong size, or unwanted descriptors");
}

static bool receive_struct(int fd, void *bytes, size_t len, struct error *err)
{
    size_t n_fds = 0;

    return receive_packet(fd, bytes, len, NULL, 0, &n_fds, err);
}

bool block_wait(int fd, uint64_t deadline_ms, struct error *err)
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
    return check_request(out, err);
}

bool block_send_body(int fd, const uint8_t *bytes, size_t len, struct error *err)
{
    return send_struct(fd, bytes, len, err) || error_wrap(err, "what a request says");
}

bool block_receive_body(int fd, uint8_t *out, size_t len, struct error *err)
{
    return receive_struct(fd, out, len, err) || error_wrap(err, "what a request says");
}

bool block_send_message(int fd, const struct block_message *message, struct error *err)
{
    const struct block_result *result = &message->result;
    bool has_fds = message->kind == BLOCK_DONE && message->ok && result->n_fds == BLOCK_FDS_MAX;

    return send_with_descriptors(fd, message, sizeof(*message), result->fds,
                                 has_fds ? BLOCK_FDS_MAX : 0, err);
}

bool block_receive_message(int fd, uint64_t deadline_ms, struct block_message *out,
                           struct error *err)
{
    int fds[BLOCK_FDS_MAX] = { -1, -1 };
    size_t n_fds = 0;

    if (!block_wait(fd, deadline_ms, err) ||
        !receive_packet(fd, out, sizeof(*out), fds, BLOCK_FDS_MAX, &n_fds, err))
        return error_wrap(err, "message from the worker");
    /* The sender's numbers mean nothing here. */
    out->result.n_fds = (uint32_t)n_fds;
    memcpy(out->result.fds, fds, sizeof(fds));
    if (check_message(out, err))
        return true;
    block_close_descriptors(&out->result);
    return false;
}

void block_close_descriptors(struct block_result *result)
{
    for (size_t i = 0; i < ARRAY_LEN(result->fds); i++)
        if (i < result->n_fds)
            close_at(&result->fds[i]);
    result->n_fds = 0;
}

bool block_send_answer(int fd, const struct block_answer *answer, struct error *err)
{
    return send_struct(fd, answer, sizeof(*answer), err);
}

bool block_receive_answer(int fd, struct block_answer *out, struct error *err)
{
    if (!receive_struct(fd, out, sizeof(*out), err))
        return error_wrap(err, "answer");
    return check_answer(out, err);
}

static size_t piece_len(size_t left)
{
    return left < BLOCK_BODY_MAX ? left : BLOCK_BODY_MAX;
}

bool block_send_evidence(int fd, const struct broker_evidence *evidence, struct error *err)
{
    size_t len = broker_evidence_len(&evidence->size);

    for (size_t at = 0; at < len; at += piece_len(len - at))
        if (!send_struct(fd, evidence->bytes + at, piece_len(len - at), err))
            return error_wrap(err, "the broker's evidence");
    return true;
}

static bool receive_pieces(int fd, uint8_t *out, size_t len, uint64_t deadline_ms,
                           struct error *err)
{
    for (size_t at = 0; at < len; at += piece_len(len - at))
        if (!block_wait(fd, deadline_ms, err) ||
            !receive_struct(fd, out + at, piece_len(len - at), err))
            return error_wrap(err, "the broker's evidence");
    return true;
}

bool block_receive_evidence(int fd, const struct broker_evidence_size *size, uint64_t deadline_ms,
                            struct broker_evidence *out, struct error *err)
{
    size_t len = broker_evidence_len(size);
    auto_free uint8_t *bytes = len > 0 ? malloc(len) : NULL;

    if (len == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the broker's evidence has no quote");
    if (!bytes)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's evidence");
    if (!receive_pieces(fd, bytes, len, deadline_ms, err))
        return false;
    *out = (struct broker_evidence){ TAKE_PTR(bytes), *size };
    return true;
}

bool block_send_operation(int control_fd, int worker_fd, struct error *err)
{
    const char byte = CONTROL_BYTE;

    if (!send_with_descriptors(control_fd, &byte, 1, &worker_fd, 1, err))
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
