/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/upstream_call.h"

#include "base/capabilities.h"
#include "base/fault.h"
#include "base/unix_socket.h"
#include "blockd/operation.h"
#include "blockd/place.h"
#include "blockd/worker.h"

#include <string.h>

enum {
    ANSWER_BYTES = 64 * 1024,
    MARGIN_MS = 500, /* before the kernel kills the worker */
    OWN_BYTES_MAX = 2 * PATH_MAX + VOLUME_ID_MAX + 64,
    MODE_MAX = 127, /* one byte of protobuf; CSI has 8 */
};

/* What we say, as numbers of fields in CSI's messages; 0: the message does not have it. */
enum own_field { VOLUME, STAGE, DEVICE, CAPABILITY, OWN_COUNT };

static const struct method {
    uint8_t numbers[OWN_COUNT];
    bool takes_away;
} methods[BLOCK_UPSTREAM_METHOD_COUNT] = {
    [BLOCK_NODE_STAGE] = { .numbers = { [VOLUME] = 1, [STAGE] = 3, [CAPABILITY] = 4 } },
    [BLOCK_NODE_PUBLISH] = { .numbers = { [VOLUME] = 1,
                                          [STAGE] = 3,
                                          [DEVICE] = 4,
                                          [CAPABILITY] = 5 } },
    [BLOCK_NODE_UNPUBLISH] = { .numbers = { [VOLUME] = 1, [DEVICE] = 2 }, .takes_away = true },
    [BLOCK_NODE_UNSTAGE] = { .numbers = { [VOLUME] = 1, [STAGE] = 2 }, .takes_away = true },
    [BLOCK_NODE_EXPAND] = { .numbers = { [VOLUME] = 1,
                                         [DEVICE] = 2,
                                         [STAGE] = 4,
                                         [CAPABILITY] = 5 } },
};

bool upstream_takes_away(enum block_upstream_method method)
{
    return methods[method].takes_away;
}

/* --- the front's bytes --- */

enum wire_type { VARINT = 0, EIGHT_BYTES = 1, BLOCK = 2, FOUR_BYTES = 5 };

struct bytes {
    const uint8_t *at, *end;
};

static bool skip(struct bytes *in, uint64_t len)
{
    if (len > (uint64_t)(in->end - in->at))
        return false;
    in->at += len;
    return true;
}

/* Readers disagree about numbers that are written with more bytes, or more bits, than they need. */
static bool take_number(struct bytes *in, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;

        if (shift == 63 && byte > 1)
            return false;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80)
            continue;
        *out = value;
        return value <= max && (byte != 0 || shift == 0);
    }
    return false;
}

static bool skip_value(struct bytes *in, enum wire_type type)
{
    uint64_t value = 0;

    switch (type) {
    case VARINT:
        return take_number(in, UINT64_MAX, &value);
    case EIGHT_BYTES:
        return skip(in, 8);
    case FOUR_BYTES:
        return skip(in, 4);
    case BLOCK:
        return take_number(in, UINT32_MAX, &value) && skip(in, value);
    default: /* groups end somewhere else */
        return false;
    }
}

static bool is_ours(const struct method *method, uint64_t number)
{
    for (size_t i = 0; i < OWN_COUNT; i++)
        if (method->numbers[i] == number)
            return true;
    return false;
}

/* --- the request --- */

/* Into out, which has room for everything. */
struct request_writer {
    uint8_t *at;
};

static void put(struct request_writer *w, const void *bytes, size_t len)
{
    memcpy(w->at, bytes, len);
    w->at += len;
}

static void put_number(struct request_writer *w, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        *w->at++ = (uint8_t)(value | 0x80);
    *w->at++ = (uint8_t)value;
}

static void put_block(struct request_writer *w, uint8_t number, const void *bytes, size_t len)
{
    put_number(w, (uint64_t)number << 3 | BLOCK);
    put_number(w, len);
    put(w, bytes, len);
}

static void put_text(struct request_writer *w, uint8_t number, const char *text)
{
    if (number != 0 && text[0] != '\0')
        put_block(w, number, text, strlen(text));
}

static bool put_theirs(struct request_writer *w, const struct method *method, struct bytes in,
                       struct error *err)
{
    uint64_t tag = 0;

    while (in.at < in.end) {
        const uint8_t *from = in.at;

        if (!take_number(&in, UINT32_MAX, &tag) || tag >> 3 == 0 ||
            !skip_value(&in, (enum wire_type)(tag & 7)))
            return error_set(err, ERROR_INVALID_ARGUMENT, "the request is no protobuf");
        if (!is_ours(method, tag >> 3))
            put(w, from, (size_t)(in.at - from));
    }
    return true;
}

/* VolumeCapability { BlockVolume block = 1; AccessMode access_mode = 3 { Mode mode = 1; } } */
static void put_capability(struct request_writer *w, uint8_t number, uint32_t access_mode)
{
    const uint8_t block_device[] = { 1 << 3 | BLOCK,      0, 3 << 3 | BLOCK, 2, 1 << 3 | VARINT,
                                     (uint8_t)access_mode };

    if (number != 0)
        put_block(w, number, block_device, sizeof(block_device));
}

bool upstream_compose(const struct block_request *request, const struct volume_name *name,
                      const char *dir, const uint8_t *body, struct secret *out, size_t *len,
                      struct error *err)
{
    const struct block_upstream *call = &request->upstream;
    const struct method *method = &methods[call->method];
    auto_secret struct secret bytes = SECRET_INIT;
    struct device_place place;

    *len = 0;
    if (method->numbers[VOLUME] == 0)
        return call->body_len == 0 ||
               error_set(err, ERROR_INVALID_ARGUMENT, "the request is not empty");
    if (call->access_mode > MODE_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "there is no access mode %u",
                         (unsigned)call->access_mode);
    if (!place_of(dir, name, &place, err) ||
        !secret_alloc(&bytes, call->body_len + OWN_BYTES_MAX, err))
        return false;
    struct request_writer w = { bytes.bytes };

    put_text(&w, method->numbers[VOLUME], request->volume_id);
    if (call->body_len > 0 &&
        !put_theirs(&w, method, (struct bytes){ body, body + call->body_len }, err))
        return false;
    put_text(&w, method->numbers[STAGE], call->stages ? place.stage : "");
    put_text(&w, method->numbers[DEVICE], place.device);
    put_capability(&w, method->numbers[CAPABILITY], call->access_mode);
    *len = (size_t)(w.at - bytes.bytes);
    *out = secret_take(&bytes);
    return true;
}

/* --- the operations --- */

/* Nobody may take the device away below a volume that is open. */
static bool check_closed(const struct worker *worker, struct error *err)
{
    struct volume_status status;

    if (!upstream_takes_away((enum block_upstream_method)worker->request->upstream.method))
        return true;
    return volume_status(&worker->name, &status, err) &&
           (!status.is_active ||
            error_set(err, ERROR_FAILED_PRECONDITION, "the volume is open: unstage it first"));
}

static bool receive_body(const struct worker *worker, struct secret *out, struct error *err)
{
    size_t len = worker->request->upstream.body_len;

    return len == 0 || (secret_alloc(out, len, err) &&
                        block_receive_body(worker->front_fd, out->bytes, len, err));
}

/* What comes back is another program's: it reaches a process that has no rights and no keys left. */
static bool ask(const struct worker *worker, const struct secret *request, size_t len,
                struct grpc_answer *answer, struct error *err)
{
    const struct block_request *r = worker->request;
    const struct grpc_question question = {
        .path = block_upstream_path((enum block_upstream_method)r->upstream.method),
        .request = request->bytes,
        .len = len,
        .deadline_ms = r->deadline_ms > MARGIN_MS ? r->deadline_ms - MARGIN_MS : 0,
        .caller_fd = worker->front_fd
    };
    auto_close int fd = -1;

    if (!unix_socket_connect(worker->config->upstream, &fd, err))
        return false;
    secret_forget_inherited();
    return capabilities_keep(0, err) && grpc_call_run(fd, &question, answer, err);
}

static bool call_upstream(const struct worker *worker, struct grpc_answer *answer,
                          struct block_result *out, struct error *err)
{
    const struct worker_config *config = worker->config;
    auto_secret struct secret body = SECRET_INIT;
    auto_secret struct secret request = SECRET_INIT;
    size_t len = 0;

    if (!config->upstream || !config->upstream_dir)
        return error_set(err, ERROR_FAILED_PRECONDITION, "there is no other driver here");
    if (!receive_body(worker, &body, err) ||
        !upstream_compose(worker->request, &worker->name, config->upstream_dir, body.bytes,
                          &request, &len, err))
        return false;
    FAULT_POINT("worker.upstream.call");
    if (!ask(worker, &request, len, answer, err))
        return false;
    FAULT_POINT("worker.upstream.answered");
    out->upstream.status = answer->status;
    memcpy(out->upstream.text, answer->text, sizeof(answer->text));
    return true;
}

static uint8_t answer_bytes[ANSWER_BYTES];

static bool wrong_method(struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "there is no such method");
}

bool operation_upstream_read(struct worker *worker, struct block_result *out, struct error *err)
{
    struct grpc_answer answer = { .bytes = answer_bytes, .size = sizeof(answer_bytes) };
    uint32_t method = worker->request->upstream.method;

    if (method == 0 || methods[method].numbers[VOLUME] != 0)
        return wrong_method(err);
    return call_upstream(worker, &answer, out, err) &&
           worker_data(worker, BLOCK_DATA_ANSWER, answer.bytes, answer.len, err);
}

/* The answers have nothing that we need. */
bool operation_upstream_call(struct worker *worker, struct block_result *out, struct error *err)
{
    struct grpc_answer answer = { .bytes = answer_bytes, .size = sizeof(answer_bytes) };

    if (methods[worker->request->upstream.method].numbers[VOLUME] == 0)
        return wrong_method(err);
    return check_closed(worker, err) && call_upstream(worker, &answer, out, err);
}
