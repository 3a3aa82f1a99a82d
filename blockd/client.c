/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/client.h"

#include "base/clock.h"
#include "base/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SLICE_MS 250
/* A worker ends itself at its deadline. This much later the front gives it up as lost. */
#define LOST_AFTER_MS 5000

static const char *const names[BLOCK_OPERATION_COUNT] = {
    [BLOCK_STAGE] = "STAGE",
    [BLOCK_UNSTAGE] = "UNSTAGE",
    [BLOCK_PUBLISH] = "PUBLISH",
    [BLOCK_UNPUBLISH] = "UNPUBLISH",
    [BLOCK_STATS] = "STATS",
    [BLOCK_EXPAND] = "EXPAND",
    [BLOCK_INSPECT] = "INSPECT",
    [BLOCK_CREATE] = "CREATE",
    [BLOCK_DELETE] = "DELETE",
    [BLOCK_COPY] = "COPY",
    [BLOCK_RESIZE] = "RESIZE",
    [BLOCK_CAPACITY] = "CAPACITY",
    [BLOCK_WATCH] = "WATCH",
    [BLOCK_PROBE] = "PROBE",
    [BLOCK_UNLINK] = "UNLINK",
    [BLOCK_SOCKET] = "SOCKET",
    [BLOCK_ATTEST] = "ATTEST",
    [BLOCK_FORWARD] = "FORWARD",
    [BLOCK_PLACE] = "PLACE",
    [BLOCK_UNPLACE] = "UNPLACE",
    [BLOCK_UPSTREAM_READ] = "UPSTREAM_READ",
    [BLOCK_UPSTREAM_CALL] = "UPSTREAM_CALL",
    [BLOCK_GROWN] = "GROWN",
    [BLOCK_ROTATE] = "ROTATE",
    [BLOCK_RENEW] = "RENEW",
};

const char *block_operation_name(enum block_operation operation)
{
    const char *name = operation < BLOCK_OPERATION_COUNT ? names[operation] : NULL;

    return name ? name : "UNKNOWN";
}

struct block_request *block_request_new(struct arena *arena, enum block_operation operation,
                                        const char *volume_id)
{
    struct block_request *request = arena_alloc(arena, sizeof(*request));

    if (!request)
        return NULL;
    request->operation = operation;
    (void)snprintf(request->volume_id, sizeof(request->volume_id), "%s", volume_id);
    return request;
}

static bool send_body(int fd, const struct block_run *run, struct error *err)
{
    return run->request->upstream.body_len == 0 ||
           block_send_body(fd, run->body, run->request->upstream.body_len, err);
}

static bool start(int control_fd, const struct block_run *run, int *out_fd, struct error *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return error_set_errno(err, errno, "make a socket for the worker");
    auto_close int ours = pair[0];
    auto_close int theirs = pair[1];
    if (!block_send_request(ours, run->request, err) || !send_body(ours, run, err))
        return false;
    if (!block_send_operation(control_fd, theirs, err)) {
        err->code = ERROR_UNAVAILABLE;
        return error_wrap(err, "tdvol-blockd is gone");
    }
    theirs = -1; /* closed by block_send_operation */
    *out_fd = TAKE_FD(ours);
    return true;
}

/* Waits in slices, to notice between them that the caller is gone. */
static bool receive(const struct blockd_link *door, int fd, const struct block_run *run,
                    struct block_message *message, struct error *err)
{
    uint64_t deadline_ms = run->request->deadline_ms;

    for (;;) {
        uint64_t now_ms = clock_now_ms(), give_up_ms = atomic_load(&door->give_up_ms);

        if (give_up_ms > 0 && now_ms >= give_up_ms)
            return error_set(err, ERROR_UNAVAILABLE, "the plugin is being stopped; retry");
        if (run->is_cancelled && run->is_cancelled(run->cancel_cookie))
            return error_set(err, ERROR_CANCELLED, "the caller is gone");
        if (deadline_ms > 0 && now_ms > deadline_ms + LOST_AFTER_MS)
            return error_set(err, ERROR_DEADLINE_EXCEEDED, "the worker did not answer in time");
        if (block_receive_message(fd, now_ms + SLICE_MS, message, err))
            return true;
        if (err->code == ERROR_DEADLINE_EXCEEDED)
            continue;
        if (err->code != ERROR_CANCELLED)
            return false;
        if (deadline_ms > 0 && now_ms + SLICE_MS >= deadline_ms)
            return error_set(err, ERROR_DEADLINE_EXCEEDED, "the worker was killed at its deadline");
        return error_set(err, ERROR_UNAVAILABLE,
                         "the worker ended without an answer; see the log of tdvol-blockd");
    }
}

/* One operation under way. asked counts the worker's questions. */
struct conversation {
    const struct block_run *run;
    int fd;
    struct block_asked asked;
};

/* Fills answer->record with its signature, and answer->secret when the worker asked for it. A record
 * has one encoding, so these are the bytes that the broker signed. */
static bool find_answer(struct conversation *c, const struct block_message *question,
                        struct block_answer *answer, struct error *err)
{
    const struct block_run *run = c->run;
    const struct block_hooks *hooks = run->hooks;
    const struct relay relay = { &question->relay, &answer->signature };
    struct record record;
    struct record_change change = { .kind = 0 };
    bool done = false;

    if (question->kind == BLOCK_ASK_CHANGE &&
        !record_change_decode(question->change.bytes, question->change.len, &change, err))
        return error_wrap(err, "the worker's question");
    if (!hooks || !block_may_ask((enum block_operation)run->request->operation,
                                 (enum block_message_kind)question->kind, change.kind, &c->asked))
        return error_set(err, ERROR_INTERNAL, "the worker asked for more than its operation needs");
    if (question->kind == BLOCK_ASK_RECORD)
        done = hooks->record(run->hook_cookie, &relay, &record, err);
    else if (question->kind == BLOCK_ASK_OPEN)
        done = hooks->open(run->hook_cookie, &relay, question->sealing_public_key, &record,
                           &answer->secret, err);
    else
        done = hooks->change(run->hook_cookie, &relay, &change, &record, err);
    if (done)
        record_encode(&record, &answer->record);
    return done;
}

static bool find_evidence(struct conversation *c, const struct block_message *question,
                          struct broker_evidence *out, struct error *err)
{
    const struct block_run *run = c->run;
    const struct relay relay = { &question->relay, NULL };

    if (!run->hooks || !run->hooks->evidence ||
        !block_may_ask((enum block_operation)run->request->operation, BLOCK_ASK_EVIDENCE, 0,
                       &c->asked))
        return error_set(err, ERROR_INTERNAL, "the worker asked for more than its operation needs");
    return run->hooks->evidence(run->hook_cookie, &relay, question->broker_key_sha256, out, err);
}

static bool answer_question(struct conversation *c, const struct block_message *question,
                            struct error *err)
{
    auto_free struct block_answer *answer = calloc(1, sizeof(*answer));
    auto_broker_evidence struct broker_evidence evidence = { .bytes = NULL };

    if (!answer)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to answer the worker");
    answer->ok = question->kind == BLOCK_ASK_EVIDENCE
                     ? find_evidence(c, question, &evidence, &answer->err)
                     : find_answer(c, question, answer, &answer->err);
    if (answer->ok)
        answer->evidence = evidence.size;
    return block_send_answer(c->fd, answer, err) &&
           (!evidence.bytes || block_send_evidence(c->fd, &evidence, err));
}

static bool take_data(const struct block_run *run, const struct block_data *data, struct error *err)
{
    if (!run->hooks || !run->hooks->data)
        return error_set(err, ERROR_INTERNAL, "the worker sent data, but its operation has none");
    return run->hooks->data(run->hook_cookie, data, err);
}

/* Talks with the worker until BLOCK_DONE. A failed answer is ignored when the worker is gone: the
 * next receive reports that. */
static bool converse(const struct blockd_link *door, int fd, const struct block_run *run,
                     struct block_message *message, struct error *err)
{
    struct conversation c = { .run = run, .fd = fd };
    struct error ignored = ERROR_INIT;

    for (;;) {
        if (!receive(door, fd, run, message, err))
            return false;
        switch ((enum block_message_kind)message->kind) {
        case BLOCK_ASK_RECORD:
        case BLOCK_ASK_OPEN:
        case BLOCK_ASK_CHANGE:
        case BLOCK_ASK_EVIDENCE:
            if (!answer_question(&c, message, &ignored) && ignored.code != ERROR_CANCELLED) {
                *err = ignored;
                return false;
            }
            break;
        case BLOCK_EVENT:
            if (run->hooks && run->hooks->event)
                run->hooks->event(run->hook_cookie, message);
            break;
        case BLOCK_DATA:
            if (!take_data(run, &message->data, err))
                return false;
            break;
        case BLOCK_DONE:
            return true;
        default:
            return error_set(err, ERROR_INTERNAL, "the worker sent a message of unknown kind");
        }
    }
}

static bool run_operation(void *cookie, const struct block_run *run, struct block_result *out,
                          struct error *err)
{
    const struct blockd_link *door = cookie;
    auto_close int fd = -1;
    auto_free struct block_message *message = calloc(1, sizeof(*message));

    if (!message)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the worker's messages");
    FAULT_BEFORE(run->operation, block_operation_name(run->request->operation));
    if (!start(door->control_fd, run, &fd, err) || !converse(door, fd, run, message, err))
        return false;
    if (!message->ok) {
        *err = message->err;
        if (err->code == ERROR_NONE)
            return error_set(err, ERROR_INTERNAL, "the worker failed but gave no error");
        return false;
    }
    if (message->result.n_fds > 0 && run->request->operation != BLOCK_SOCKET) {
        block_close_descriptors(&message->result);
        return error_set(err, ERROR_INTERNAL, "the worker sent what nobody asked for");
    }
    *out = message->result;
    return true;
}

struct workers workers_over(struct blockd_link *door)
{
    return (struct workers){ .run = run_operation, .cookie = door };
}
