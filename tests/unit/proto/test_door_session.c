/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_session.h"
#include "proto/grpc_wire.h"
#include "tests/unit/test.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>

#include "csi.pb-c.h"

/* A session, and nghttp2's client in place of the network. */

enum { CALLS_MAX = 200, ANSWER_BYTES = 256, BODY_LIMIT = 1000, FIELDS = 8 };

static struct scene {
    struct door_session *session;
    struct door_session_host host;
    struct networks networks;
    struct door_peer *peer;
    struct door_call *calls[CALLS_MAX]; /* submitted */
    size_t n_calls, n_abandoned, n_released;
    bool is_full, goes_on;
    const char *turned_away; /* why, of the last one */

    nghttp2_session *client;
    char status[4], grpc_status[4], grpc_message[512], reason[32]; /* of the last answer */
    uint8_t body[ANSWER_BYTES];
    size_t body_len;
    uint32_t reset_code, goaway_code; /* UINT32_MAX: none */
    size_t n_ended;
} t;

/* --- The server's side --- */

static bool get_info(void *service UNUSED, struct rpc_call *call,
                     const ProtobufCMessage *request UNUSED, ProtobufCMessage *response,
                     struct error *err UNUSED)
{
    ((Csi__V1__NodeGetInfoResponse *)(void *)response)->node_id = arena_strdup(call->arena, "n");
    return true;
}

static const struct rpc_method methods[] = { { "NodeGetInfo", get_info, 0, 0 } };
static const struct rpc_service service = { &csi__v1__node__descriptor, methods, 1 };
static const struct server_binding binding = { &service, NULL };
static const struct server_options options = { .limits = { BODY_LIMIT, 128, 4096 } };

static bool submit(void *cookie UNUSED, struct door_call *call)
{
    if (t.is_full)
        return false;
    assert_in_range(t.n_calls, 0, CALLS_MAX - 1);
    t.calls[t.n_calls++] = call;
    return true;
}

static void abandon(void *cookie UNUSED, struct door_call *call)
{
    assert_null(call->stream);
    for (size_t i = 0; i < t.n_calls; i++)
        if (t.calls[i] == call)
            t.calls[i] = t.calls[--t.n_calls];
    t.n_abandoned++;
    door_call_free(call);
}

static void release(void *cookie UNUSED, struct door_call *call)
{
    t.n_released++;
    door_call_free(call);
}

static void wake(void *cookie UNUSED)
{
}

static void turned_away(void *cookie UNUSED, const char *why)
{
    t.turned_away = why;
}

/* --- The client's side --- */

static void keep(char *out, size_t size, const uint8_t *value, size_t len)
{
    (void)snprintf(out, size, "%.*s", (int)len, (const char *)value);
}

static int on_header(nghttp2_session *client UNUSED, const nghttp2_frame *frame UNUSED,
                     const uint8_t *name, size_t name_len UNUSED, const uint8_t *value, size_t len,
                     uint8_t flags UNUSED, void *cookie UNUSED)
{
    if (strcmp((const char *)name, ":status") == 0)
        keep(t.status, sizeof(t.status), value, len);
    if (strcmp((const char *)name, "grpc-status") == 0)
        keep(t.grpc_status, sizeof(t.grpc_status), value, len);
    if (strcmp((const char *)name, "grpc-message") == 0)
        keep(t.grpc_message, sizeof(t.grpc_message), value, len);
    if (strcmp((const char *)name, "tdvol-reason") == 0)
        keep(t.reason, sizeof(t.reason), value, len);
    return 0;
}

static int on_data(nghttp2_session *client UNUSED, uint8_t flags UNUSED, int32_t id UNUSED,
                   const uint8_t *bytes, size_t len, void *cookie UNUSED)
{
    assert_in_range(len, 0, sizeof(t.body) - t.body_len);
    memcpy(t.body + t.body_len, bytes, len);
    t.body_len += len;
    return 0;
}

static int on_frame(nghttp2_session *client UNUSED, const nghttp2_frame *frame, void *cookie UNUSED)
{
    if (frame->hd.type == NGHTTP2_GOAWAY)
        t.goaway_code = frame->goaway.error_code;
    if (frame->hd.type == NGHTTP2_RST_STREAM)
        t.reset_code = frame->rst_stream.error_code;
    if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
        t.n_ended++;
    return 0;
}

/* Moves bytes both ways until nobody has more. */
static void exchange(void)
{
    const uint8_t *bytes = NULL;
    bool moved = true;

    while (moved) {
        ssize_t sent = nghttp2_session_mem_send(t.client, &bytes);
        size_t got = 0;

        moved = sent > 0;
        if (sent > 0)
            t.goes_on = door_session_take(t.session, bytes, (size_t)sent) && t.goes_on;
        while ((got = door_session_give(t.session, &bytes)) > 0) {
            (void)nghttp2_session_mem_recv(t.client, bytes, got);
            moved = true;
        }
    }
}

static int set_up(void **state UNUSED)
{
    nghttp2_session_callbacks *callbacks = NULL;
    struct error err = ERROR_INIT;
    char *pem = NULL;

    t = (struct scene){ .goes_on = true };
    t.reset_code = t.goaway_code = UINT32_MAX;
    t.host = (struct door_session_host){ .bindings = &binding,
                                         .n_bindings = 1,
                                         .limits = &options.limits,
                                         .networks = &t.networks,
                                         .submit = submit,
                                         .abandon = abandon,
                                         .release = release,
                                         .turned_away = turned_away,
                                         .wake = wake };
    networks_init(&t.networks);
    assert_ok(network_enter(&t.networks, "192.0.2.1", &t.host.network, &err));
    assert_ok(door_peer_new(&pem, false, "192.0.2.1", &t.peer, &err));
    t.host.peer = t.peer;
    assert_ok(door_session_new(&t.host, &t.session, &err));

    assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    assert_int_equal(nghttp2_session_client_new(&t.client, callbacks, NULL), 0);
    nghttp2_session_callbacks_del(callbacks);
    assert_int_equal(nghttp2_submit_settings(t.client, 0, NULL, 0), 0);
    exchange();
    return 0;
}

static int tear_down(void **state UNUSED)
{
    door_session_free(t.session);
    nghttp2_session_del(t.client);
    assert_int_equal(t.n_calls, 0);
    assert_int_equal(t.networks.n_unfinished, 0);
    assert_int_equal(t.networks.bytes, 0);
    network_leave(&t.networks, t.host.network);
    door_peer_release(t.peer);
    return 0;
}

struct body {
    const uint8_t *bytes;
    size_t len, at;
    bool has_end;
};

static ssize_t read_body(nghttp2_session *client UNUSED, int32_t id UNUSED, uint8_t *out,
                         size_t size, uint32_t *flags, nghttp2_data_source *source,
                         void *cookie UNUSED)
{
    struct body *body = source->ptr;
    size_t left = body->len - body->at;
    size_t n = left < size ? left : size;

    if (n == 0 && !body->has_end)
        return NGHTTP2_ERR_DEFERRED;
    memcpy(out, body->bytes + body->at, n);
    body->at += n;
    if (n == left && body->has_end)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)n;
}

/* The header of a call. Pairs of name and value change it, or are added; value NULL leaves it out. */
static int32_t send_request(const char *const changed[][2], size_t n_changed, struct body *body)
{
    const char *all[FIELDS][2] = { { ":method", "POST" }, { ":scheme", "https" },
                                   { ":authority", "x" }, { ":path", "/csi.v1.Node/NodeGetInfo" },
                                   { "te", "trailers" },  { "content-type", "application/grpc" } };
    const nghttp2_data_provider data = { .source.ptr = body, .read_callback = read_body };
    nghttp2_nv fields[FIELDS];
    size_t n_all = 6, n = 0;

    for (size_t i = 0; i < n_changed; i++) {
        size_t at = 0;

        while (at < n_all && strcmp(all[at][0], changed[i][0]) != 0)
            at++;
        n_all = at == n_all ? n_all + 1 : n_all;
        all[at][0] = changed[i][0];
        all[at][1] = changed[i][1];
    }
    for (size_t i = 0; i < n_all; i++)
        if (all[i][1])
            fields[n++] =
                (nghttp2_nv){ (uint8_t *)(uintptr_t)all[i][0], (uint8_t *)(uintptr_t)all[i][1],
                              strlen(all[i][0]), strlen(all[i][1]), NGHTTP2_NV_FLAG_NONE };
    int32_t id = nghttp2_submit_request(t.client, NULL, fields, n, body ? &data : NULL, NULL);

    assert_true(id > 0);
    exchange();
    return id;
}

static const uint8_t empty[GRPC_WIRE_PREFIX_LEN];

static int32_t send_call(void)
{
    struct body body = { empty, sizeof(empty), 0, true };

    return send_request(NULL, 0, &body);
}

static void answer_last(void)
{
    struct door_call *call = t.calls[--t.n_calls];

    door_call_run(call, &options);
    door_session_answer(call);
    exchange();
}

/* --- Calls --- */

static void a_call_is_answered(void **state UNUSED)
{
    static const uint8_t wanted[] = { 0, 0, 0, 0, 3, 0x0A, 1, 'n' };

    (void)send_call();
    assert_int_equal(t.n_calls, 1);
    assert_string_equal(t.calls[0]->path, "/csi.v1.Node/NodeGetInfo");
    assert_true(t.calls[0]->deadline_ms == UINT64_MAX);
    answer_last();
    assert_string_equal(t.status, "200");
    assert_string_equal(t.grpc_status, "0");
    assert_int_equal(t.body_len, sizeof(wanted));
    assert_memory_equal(t.body, wanted, sizeof(wanted));
    assert_int_equal(t.n_released, 1);
    assert_int_equal(door_session_streams(t.session), 0);
    assert_true(t.reset_code == UINT32_MAX);
}

static void an_error_has_its_message_and_reason(void **state UNUSED)
{
    (void)send_call();
    struct door_call *call = t.calls[--t.n_calls];

    error_set_reason(&call->err, ERROR_DENIED, "TooOld", "100%% \xE2\x82\xAC\x01");
    door_session_answer(call);
    exchange();
    assert_string_equal(t.grpc_status, "7");
    assert_string_equal(t.grpc_message, "100%25 %E2%82%AC?");
    assert_string_equal(t.reason, "TooOld");
    assert_int_equal(t.body_len, 0);
}

static void a_timeout_becomes_a_deadline(void **state UNUSED)
{
    static const char *const timeout[][2] = { { "grpc-timeout", "5S" } };
    struct body body = { empty, sizeof(empty), 0, true };
    uint64_t now_ms = clock_now_ms();

    (void)send_request(timeout, 1, &body);
    assert_in_range(t.calls[0]->deadline_ms, now_ms + 5000, now_ms + 6000);
    answer_last();
}

static void what_is_no_grpc_call_is_refused(void **state UNUSED)
{
    static char huge[9000];
    static const struct {
        const char *field[2], *status, *grpc_status, *text;
    } rows[] = {
        { { ":method", "GET" }, "405", "", "" },
        { { "content-type", NULL }, "415", "", "" },
        { { "content-type", "application/json" }, "415", "", "" },
        { { "huge", huge }, "431", "", "" },
        { { "te", NULL }, "200", "13", "te: trailers" },
        { { ":path", "/csi.v1.Node/NodeStageVolume" }, "200", "12", "does not serve" },
        { { ":path", "/" }, "200", "12", "does not serve" },
        { { "grpc-encoding", "gzip" }, "200", "12", "compression" },
        { { "grpc-timeout", "soon" }, "200", "13", "grpc-timeout" },
    };

    for (size_t i = 0; i < sizeof(huge) - 1; i++)
        huge[i] = 'x';
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct body open = { empty, 2, 0, false };

        t.status[0] = t.grpc_status[0] = t.grpc_message[0] = '\0';
        t.reset_code = UINT32_MAX;
        (void)send_request(&rows[i].field, 1, &open);
        assert_string_equal(t.status, rows[i].status);
        assert_string_equal(t.grpc_status, rows[i].grpc_status);
        assert_contains(t.grpc_message, rows[i].text);
        assert_int_equal(t.reset_code, NGHTTP2_NO_ERROR); /* the rest need not come */
    }
    assert_true(t.goes_on);
    assert_int_equal(door_session_streams(t.session), 0);
}

static void messages_that_are_not_one_are_refused(void **state UNUSED)
{
    static const uint8_t compressed[] = { 1, 0, 0, 0, 0 }, two[] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 },
                         half[] = { 0, 0, 0, 0, 2, 8 }, big[] = { 0, 0, 0, 0xFF, 0xFF };
    static const struct {
        const uint8_t *bytes;
        size_t len;
        const char *status;
    } rows[] = { { compressed, 5, "13" }, { two, 10, "3" }, { half, 6, "3" },
                 { half, 3, "3" },        { half, 0, "3" }, { big, 5, "8" } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct body body = { rows[i].bytes, rows[i].len, 0, true };

        t.grpc_status[0] = '\0';
        (void)send_request(NULL, 0, &body);
        assert_string_equal(t.grpc_status, rows[i].status);
    }
    (void)send_request(NULL, 0, NULL); /* ends with its header */
    assert_string_equal(t.grpc_status, "3");
    assert_int_equal(t.n_calls, 0);
}

static void a_full_queue_is_told(void **state UNUSED)
{
    t.is_full = true;
    (void)send_call();
    assert_string_equal(t.grpc_status, "14");
    assert_int_equal(t.n_released, 1);
    assert_string_equal(t.turned_away, DOOR_QUEUE);
}

static void a_client_that_goes_is_noticed(void **state UNUSED)
{
    int32_t id = send_call();

    assert_int_equal(nghttp2_submit_rst_stream(t.client, 0, id, NGHTTP2_CANCEL), 0);
    exchange();
    assert_int_equal(t.n_abandoned, 1);
    (void)send_call();
    door_session_free(TAKE_PTR(t.session));
    assert_int_equal(t.n_abandoned, 2);
}

/* --- Limits --- */

static void a_request_has_its_time(void **state UNUSED)
{
    struct body open = { empty, 3, 0, false };

    (void)send_request(NULL, 0, &open);
    assert_int_equal(t.networks.n_unfinished, 1);
    assert_true(door_session_check_time(t.session, clock_now_ms()));
    exchange();
    assert_string_equal(t.grpc_status, "");
    assert_true(door_session_check_time(t.session, clock_now_ms() + INTAKE_MS));
    exchange();
    assert_string_equal(t.grpc_status, "4");
    assert_int_equal(t.networks.n_unfinished, 0);
    assert_string_equal(t.turned_away, DOOR_SLOW);
}

static void who_does_not_read_is_cut_off(void **state UNUSED)
{
    const nghttp2_settings_entry closed = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0 };

    assert_int_equal(nghttp2_submit_settings(t.client, 0, &closed, 1), 0);
    (void)send_call();
    answer_last();
    assert_int_equal(t.n_released, 0);
    assert_true(door_session_check_time(t.session, clock_now_ms()));
    assert_false(door_session_check_time(t.session, clock_now_ms() + DOOR_ANSWER_MS));
}

static void resets_end_the_connection(void **state UNUSED)
{
    for (int i = 0; i < 1000 && t.goes_on; i++) {
        int32_t id = send_call();

        if (t.goes_on)
            assert_int_equal(nghttp2_submit_rst_stream(t.client, 0, id, NGHTTP2_CANCEL), 0);
        exchange();
    }
    assert_false(t.goes_on);
    assert_int_equal(t.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert_in_range(t.n_abandoned, 300, 400);
    assert_true(door_session_has_ended(t.session));
}

static void pings_end_the_connection(void **state UNUSED)
{
    for (int i = 0; i < 5000 && t.goes_on; i++) {
        (void)nghttp2_submit_ping(t.client, 0, NULL);
        exchange();
    }
    assert_false(t.goes_on);
    assert_int_equal(t.goaway_code, NGHTTP2_ENHANCE_YOUR_CALM);
}

static void a_stopped_session_finishes_its_calls(void **state UNUSED)
{
    (void)send_call();
    door_session_stop(t.session);
    exchange();
    assert_int_equal(t.goaway_code, NGHTTP2_NO_ERROR);
    assert_false(door_session_has_ended(t.session));
    answer_last();
    assert_string_equal(t.grpc_status, "0");
    assert_true(door_session_has_ended(t.session));
}

#define SESSION(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION(a_call_is_answered),
        SESSION(an_error_has_its_message_and_reason),
        SESSION(a_timeout_becomes_a_deadline),
        SESSION(what_is_no_grpc_call_is_refused),
        SESSION(messages_that_are_not_one_are_refused),
        SESSION(a_full_queue_is_told),
        SESSION(a_client_that_goes_is_noticed),
        SESSION(a_request_has_its_time),
        SESSION(who_does_not_read_is_cut_off),
        SESSION(resets_end_the_connection),
        SESSION(pings_end_the_connection),
        SESSION(a_stopped_session_finishes_its_calls),
    };

    return RUN_TESTS(tests);
}
