/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_session.h"

#include "proto/door_stream.h"
#include "proto/frame_budget.h"
#include "proto/status.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER_GIVE_UP_BYTES = 64 * 1024, /* of one header: the connection ends */
    CONTINUATIONS_MAX = 8,            /* frames of one header */
    SETTINGS_ENTRIES_MAX = 32,        /* in one frame */
    ACKS_WAITING_MAX = 100,           /* of SETTINGS and PING */
    ENCODER_TABLE_BYTES = 1024,       /* our answers have few different fields */
    FIELDS_MAX = 6,
};

#define REASON_FIELD "tdvol-reason"

struct door_session {
    const struct door_session_host *host;
    nghttp2_session *http2;
    struct door_streams streams;
    size_t n_streams;
    struct frame_budget budget;
    uint64_t begun_ms, header_since_ms; /* 0: no header is arriving */
    unsigned n_continuations;
    bool has_settings, is_over, is_taking;
};

/* The client has broken the rules or asks too much: GOAWAY, and nothing else any more. */
static void give_up(struct door_session *session, uint32_t code)
{
    session->is_over = true;
    (void)nghttp2_session_terminate_session(session->http2, code);
}

static void wake(struct door_session *session)
{
    if (!session->is_taking)
        session->host->wake(session->host->cookie);
}

/* --- Answers --- */

static nghttp2_nv field(const char *name, const char *value, size_t len)
{
    return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name,
                         .value = (uint8_t *)(uintptr_t)value,
                         .namelen = strlen(name),
                         .valuelen = len };
}

static nghttp2_nv text_field(const char *name, const char *value)
{
    return field(name, value, strlen(value));
}

/* gRPC's "Status" and "Status-Message", and our reason; returns how many fields. */
static size_t write_status(const struct error *err, char number[static 4], char *message,
                           nghttp2_nv *out)
{
    char text[STATUS_MESSAGE_MAX + 1];
    size_t text_len = status_message(err->text, text);
    size_t n = 0;

    (void)snprintf(number, 4, "%d", status_from_error(err->code));
    out[n++] = text_field("grpc-status", number);
    if (text_len > 0)
        out[n++] = field("grpc-message", message, grpc_wire_escape(text, text_len, message));
    if (status_reason_is_word(err->reason, strlen(err->reason)))
        out[n++] = text_field(REASON_FIELD, err->reason);
    return n;
}

static void end_request(struct door_session *session, struct door_stream *stream)
{
    stream->is_cut = !stream->has_ended;
    intake_leave(session->host->networks, &stream->intake);
    door_stream_drop_body(stream);
    stream->state = DOOR_STREAM_ANSWERED;
    stream->answered_ms = clock_now_ms();
    wake(session);
}

static void submit_header(struct door_session *session, const struct door_stream *stream,
                          const nghttp2_nv *fields, size_t n, const nghttp2_data_provider *data)
{
    if (nghttp2_submit_response(session->http2, stream->id, fields, n, data) != 0)
        give_up(session, NGHTTP2_INTERNAL_ERROR); /* no memory */
}

/* gRPC's "Trailers-Only". */
static void refuse(struct door_session *session, struct door_stream *stream,
                   const struct error *err)
{
    char number[4], message[GRPC_WIRE_ESCAPED_MAX(STATUS_MESSAGE_MAX)];
    nghttp2_nv fields[FIELDS_MAX] = { text_field(":status", "200"),
                                      text_field("content-type", "application/grpc"),
                                      text_field("grpc-accept-encoding", "identity") };
    size_t n = 3 + write_status(err, number, message, fields + 3);

    submit_header(session, stream, fields, n, NULL);
    end_request(session, stream);
}

static void turn_away(struct door_session *session, struct door_stream *stream, const char *why,
                      const struct error *err)
{
    session->host->turned_away(session->host->cookie, why);
    refuse(session, stream, err);
}

/* For what is no gRPC request. */
static void refuse_http(struct door_session *session, struct door_stream *stream, unsigned status)
{
    char number[4];

    (void)snprintf(number, sizeof(number), "%u", status % 1000);
    nghttp2_nv status_field = text_field(":status", number);
    submit_header(session, stream, &status_field, 1, NULL);
    end_request(session, stream);
}

/* nghttp2 asks for the next part of the answer; the trailers follow the last one. */
static ssize_t read_answer(nghttp2_session *http2, int32_t id, uint8_t *out, size_t size,
                           uint32_t *flags, nghttp2_data_source *source, void *cookie UNUSED)
{
    struct door_stream *stream = source->ptr;
    const struct door_call *call = stream->call;
    size_t left = call->answer_bytes - stream->sent_bytes;
    size_t n = left < size ? left : size;

    memcpy(out, call->answer + stream->sent_bytes, n);
    stream->sent_bytes += n;
    if (n == left) {
        const nghttp2_nv trailer = text_field("grpc-status", "0");

        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(http2, id, &trailer, 1) != 0)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return (ssize_t)n;
}

void door_session_answer(struct door_call *call)
{
    struct door_stream *stream = call->stream;
    struct door_session *session = stream->session;
    const nghttp2_data_provider data = { .source.ptr = stream, .read_callback = read_answer };
    const nghttp2_nv fields[] = { text_field(":status", "200"),
                                  text_field("content-type", "application/grpc") };

    if (call->err.code != ERROR_NONE) {
        refuse(session, stream, &call->err);
        return;
    }
    submit_header(session, stream, fields, ARRAY_LEN(fields), &data);
    end_request(session, stream);
}

void *door_session_cookie_of(const struct door_call *call)
{
    const struct door_stream *stream = call->stream;
    const struct door_session *session = stream->session;

    return session->host->cookie;
}

/* --- Requests --- */

/* Makes room for a request, or its bytes, at the cost of the network that holds the most. */
static bool make_room(struct door_session *session, size_t n, size_t bytes, struct error *err)
{
    const struct door_session_host *host = session->host;

    for (;;) {
        enum intake_room room = intake_room(host->networks, host->network, n, bytes);
        struct intake *victim = NULL;

        if (room == INTAKE_FITS)
            return true;
        if (room == INTAKE_OVER_OWN)
            return error_set(err, ERROR_UNAVAILABLE,
                             "this address has too many unfinished requests");
        victim = intake_victim(host->networks, host->network);
        if (!victim)
            return error_set(err, ERROR_UNAVAILABLE, "there are too many unfinished requests");

        struct door_stream *stream =
            (struct door_stream *)(void *)((char *)victim - offsetof(struct door_stream, intake));
        struct error why = ERROR_INIT;
        error_set(&why, ERROR_UNAVAILABLE, "another client needs the place of this request");
        turn_away(stream->session, stream, DOOR_UNFINISHED, &why);
    }
}

static void finish_request(struct door_session *session, struct door_stream *stream)
{
    struct error err = ERROR_INIT;

    if (!door_stream_make_call(stream, session->host->peer, &stream->call, &err)) {
        refuse(session, stream, &err);
        return;
    }
    intake_leave(session->host->networks, &stream->intake);
    stream->state = DOOR_STREAM_CALLED;
    if (session->host->submit(session->host->cookie, stream->call))
        return;
    door_call_drop_request(stream->call);
    error_set(&err, ERROR_UNAVAILABLE, "%s: too many calls are waiting: try again later",
              stream->path);
    turn_away(session, stream, DOOR_QUEUE, &err);
}

static void judge_header(struct door_session *session, struct door_stream *stream, bool has_ended)
{
    const struct door_session_host *host = session->host;
    unsigned status = door_stream_http_status(stream);
    struct error err = ERROR_INIT;

    if (status != 200) {
        refuse_http(session, stream, status);
        return;
    }
    if (!door_stream_check_header(stream, host->bindings, host->n_bindings, &err)) {
        refuse(session, stream, &err);
        return;
    }
    if (!make_room(session, 1, 0, &err)) {
        turn_away(session, stream, DOOR_UNFINISHED, &err);
        return;
    }
    intake_enter(host->networks, host->network, &stream->intake, stream->begun_ms);
    stream->state = DOOR_STREAM_BODY;
    if (has_ended)
        finish_request(session, stream);
}

/* --- What nghttp2 calls while it takes bytes --- */

static struct door_stream *find(nghttp2_session *http2, int32_t id)
{
    return nghttp2_session_get_stream_user_data(http2, id);
}

/* Frames that cost the client nothing. Requests and full DATA frames have limits of their own;
 * nghttp2 ignores what comes for streams that have gone. */
static bool is_control(nghttp2_session *http2, const nghttp2_frame_hd *frame)
{
    bool has_gone = frame->stream_id <= nghttp2_session_get_last_proc_stream_id(http2) &&
                    !find(http2, frame->stream_id);

    if (frame->type == NGHTTP2_DATA)
        return has_gone || (frame->length == 0 && (frame->flags & NGHTTP2_FLAG_END_STREAM) == 0);
    return frame->type != NGHTTP2_HEADERS || has_gone;
}

static int on_begin_frame(nghttp2_session *http2, const nghttp2_frame_hd *frame, void *cookie)
{
    struct door_session *session = cookie;

    if (frame->type == NGHTTP2_HEADERS)
        session->n_continuations = 0;
    if (is_control(http2, frame) && !frame_budget_take_control(&session->budget, clock_now_ms()))
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
    if (frame->type == NGHTTP2_CONTINUATION && ++session->n_continuations > CONTINUATIONS_MAX)
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

static int on_begin_headers(nghttp2_session *http2, const nghttp2_frame *frame, void *cookie)
{
    struct door_session *session = cookie;
    struct door_stream *stream = NULL;

    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) { /* otherwise trailers */
        stream = door_stream_new(session, frame->hd.stream_id, clock_now_ms());
        if (!stream)
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        (void)nghttp2_session_set_stream_user_data(http2, stream->id, stream);
        TAILQ_INSERT_TAIL(&session->streams, stream, link);
        session->n_streams++;
        frame_budget_earn(&session->budget);
    }
    session->header_since_ms = clock_now_ms();
    return 0;
}

static int on_header(nghttp2_session *http2, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags UNUSED,
                     void *cookie)
{
    struct door_session *session = cookie;
    struct door_stream *stream = find(http2, frame->hd.stream_id);

    if (!stream)
        return 0;
    door_stream_take_field(stream, (const char *)name, name_len, (const char *)value, value_len);
    if (stream->header_bytes <= HEADER_GIVE_UP_BYTES)
        return 0;
    give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE; /* decodes the rest without telling us */
}

/* DATA that brings nothing. is_control() has counted frames without any bytes. */
static bool is_padding_only(const nghttp2_frame *frame)
{
    return frame->hd.type == NGHTTP2_DATA && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 &&
           frame->hd.length > 0 && frame->hd.length == frame->data.padlen;
}

static int on_frame(nghttp2_session *http2, const nghttp2_frame *frame, void *cookie)
{
    struct door_session *session = cookie;
    bool has_ended = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct door_stream *stream = NULL;

    if (frame->hd.type == NGHTTP2_SETTINGS)
        session->has_settings = true;
    if (frame->hd.type == NGHTTP2_HEADERS)
        session->header_since_ms = 0;
    else if (frame->hd.type != NGHTTP2_DATA)
        return 0;
    stream = find(http2, frame->hd.stream_id);
    if (!stream || session->is_over)
        return 0;
    if (is_padding_only(frame) && !frame_budget_take_control(&session->budget, clock_now_ms())) {
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
        return 0;
    }
    stream->has_ended = stream->has_ended || has_ended;
    if (stream->state == DOOR_STREAM_HEADER)
        judge_header(session, stream, has_ended);
    else if (stream->state == DOOR_STREAM_BODY && has_ended)
        finish_request(session, stream);
    return 0;
}

static int on_data(nghttp2_session *http2, uint8_t flags UNUSED, int32_t id, const uint8_t *bytes,
                   size_t len, void *cookie)
{
    struct door_session *session = cookie;
    struct door_stream *stream = find(http2, id);
    struct error err = ERROR_INIT;

    if (!stream || stream->state != DOOR_STREAM_BODY || session->is_over)
        return 0;
    if (!make_room(session, 0, door_stream_growth(stream, len), &err)) {
        turn_away(session, stream, DOOR_UNFINISHED, &err);
        return 0;
    }
    if (!door_stream_take_body(stream, session->host->limits, bytes, len, &err)) {
        refuse(session, stream, &err);
        return 0;
    }
    intake_grow(session->host->networks, &stream->intake, stream->body_size - stream->intake.bytes);
    return 0;
}

static int on_frame_sent(nghttp2_session *http2, const nghttp2_frame *frame, void *cookie UNUSED)
{
    struct door_stream *stream = NULL;

    if (frame->hd.type != NGHTTP2_HEADERS || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
        return 0;
    stream = find(http2, frame->hd.stream_id);
    if (!stream)
        return 0;
    stream->is_sent = true;
    /* The client need not send the rest of a request that is answered: RFC 9113, section 8.1.
     * nghttp2 would not send the answer if this came first. */
    if (stream->is_cut)
        (void)nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
    return 0;
}

/* A worker may still have the call. */
static void let_go_of_call(struct door_session *session, struct door_stream *stream)
{
    struct door_call *call = TAKE_PTR(stream->call);

    if (!call)
        return;
    call->stream = NULL;
    if (stream->state == DOOR_STREAM_CALLED)
        session->host->abandon(session->host->cookie, call);
    else
        session->host->release(session->host->cookie, call);
}

static void end_stream(struct door_session *session, struct door_stream *stream)
{
    TAILQ_REMOVE(&session->streams, stream, link);
    session->n_streams--;
    intake_leave(session->host->networks, &stream->intake);
    let_go_of_call(session, stream);
    door_stream_free(stream);
}

/* A stream that ends before its answer was sent has cost us something, whoever reset it: a client
 * can make us do it, too. */
static int on_stream_close(nghttp2_session *http2, int32_t id, uint32_t code UNUSED, void *cookie)
{
    struct door_session *session = cookie;
    struct door_stream *stream = find(http2, id);

    if (!stream)
        return 0;
    bool is_sent = stream->is_sent;

    (void)nghttp2_session_set_stream_user_data(http2, id, NULL);
    end_stream(session, stream);
    if (!is_sent && !session->is_over && !frame_budget_take_reset(&session->budget, clock_now_ms()))
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

/* Frames that nghttp2 answers by itself, with RST_STREAM for example. */
static int on_invalid_frame(nghttp2_session *http2 UNUSED, const nghttp2_frame *frame UNUSED,
                            int code UNUSED, void *cookie)
{
    struct door_session *session = cookie;

    session->header_since_ms = 0;
    if (!session->is_over && !frame_budget_take_reset(&session->budget, clock_now_ms()))
        give_up(session, NGHTTP2_ENHANCE_YOUR_CALM);
    return 0;
}

/* --- The session --- */

static int make_http2(struct door_session *session)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_option *option = NULL;
    int failure = NGHTTP2_ERR_NOMEM;

    if (nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0) {
        nghttp2_session_callbacks_set_on_begin_frame_callback(callbacks, on_begin_frame);
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, on_invalid_frame);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_settings(option, SETTINGS_ENTRIES_MAX);
        nghttp2_option_set_max_outbound_ack(option, ACKS_WAITING_MAX);
        nghttp2_option_set_max_deflate_dynamic_table_size(option, ENCODER_TABLE_BYTES);
        failure = nghttp2_session_server_new2(&session->http2, callbacks, session, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    return failure;
}

static int submit_settings(struct door_session *session)
{
    static const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, DOOR_STREAMS_MAX },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, DOOR_HEADER_BYTES_MAX },
        /* PRIORITY frames would make streams that nobody uses */
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };

    return nghttp2_submit_settings(session->http2, NGHTTP2_FLAG_NONE, settings,
                                   ARRAY_LEN(settings));
}

bool door_session_new(const struct door_session_host *host, struct door_session **out,
                      struct error *err)
{
    struct door_session *session = calloc(1, sizeof(*session));

    if (!session)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a connection");
    session->host = host;
    session->begun_ms = clock_now_ms();
    TAILQ_INIT(&session->streams);
    frame_budget_init(&session->budget, session->begun_ms);
    if (make_http2(session) != 0 || submit_settings(session) != 0) {
        door_session_free(session);
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a connection");
    }
    *out = session;
    return true;
}

void door_session_free(struct door_session *session)
{
    struct door_stream *stream = NULL;

    if (!session)
        return;
    while ((stream = TAILQ_FIRST(&session->streams)))
        end_stream(session, stream);
    nghttp2_session_del(session->http2);
    free(session);
}

bool door_session_take(struct door_session *session, const uint8_t *bytes, size_t len)
{
    if (session->is_over)
        return false;
    session->is_taking = true;
    if (nghttp2_session_mem_recv(session->http2, bytes, len) < 0)
        session->is_over = true;
    session->is_taking = false;
    return !session->is_over;
}

size_t door_session_give(struct door_session *session, const uint8_t **bytes)
{
    ssize_t len = nghttp2_session_mem_send(session->http2, bytes);

    if (len < 0)
        session->is_over = true;
    return len > 0 ? (size_t)len : 0;
}

bool door_session_check_time(struct door_session *session, uint64_t now_ms)
{
    struct door_stream *stream = NULL;

    if (!session->has_settings && now_ms - session->begun_ms >= DOOR_FIRST_FRAME_MS)
        return false;
    if (session->header_since_ms != 0 && now_ms - session->header_since_ms >= DOOR_HEADER_MS)
        return false;
    TAILQ_FOREACH(stream, &session->streams, link) {
        struct error err = ERROR_INIT;

        if (stream->state == DOOR_STREAM_ANSWERED && now_ms - stream->answered_ms >= DOOR_ANSWER_MS)
            return false;
        if (stream->state != DOOR_STREAM_BODY || now_ms - stream->begun_ms < INTAKE_MS)
            continue;
        error_set(&err, ERROR_DEADLINE_EXCEEDED, "the request did not arrive in time");
        turn_away(session, stream, DOOR_SLOW, &err);
    }
    return !session->is_over;
}

void door_session_stop(struct door_session *session)
{
    (void)nghttp2_submit_goaway(session->http2, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(session->http2),
                                NGHTTP2_NO_ERROR, NULL, 0);
    wake(session);
}

size_t door_session_streams(const struct door_session *session)
{
    return session->n_streams;
}

bool door_session_has_ended(const struct door_session *session)
{
    return session->is_over || (nghttp2_session_want_read(session->http2) == 0 &&
                                nghttp2_session_want_write(session->http2) == 0);
}
