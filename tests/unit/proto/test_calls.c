/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/proto/sample.h"
#include "tests/unit/test.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "csi.pb-c.h"

/* Calls, each over a unix socket (server.c) and over the network (door.c): a client sees no
 * difference. */

static void a_call_is_answered_and_observed(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_int_equal(ask_stats(client, "ok", "", 5000, &err), ERROR_NONE);
    assert_int_equal(ask_stats(client, "error", "", 5000, &err), ERROR_ABORTED);
    assert_int_equal(atomic_load(&f->observed), 3);
    assert_int_equal(atomic_load(&f->failed), 1);
    char peer[4096];
    bool reused = true;
    last_peer(&f->node, peer, sizeof(peer), &reused);
    assert_string_equal(peer, f->tls ? f->tls->certificate_pem : "");
    assert_string_equal(f->node.address, f->tls ? "127.0.0.1" : "");
    assert_false(reused);
    client_free(client);
}

static void secrets_arrive_in_a_secret_arena(void **state)
{
    struct fixture *f = *state;
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
    Csi__V1__NodeStageVolumeRequest__SecretsEntry entry =
        CSI__V1__NODE_STAGE_VOLUME_REQUEST__SECRETS_ENTRY__INIT;
    Csi__V1__NodeStageVolumeRequest__SecretsEntry *entries[] = { &entry };
    char key[] = "password", value[] = "hunter2";
    ProtobufCMessage *response = NULL;
    struct error err = ERROR_INIT;
    struct arena arena;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    entry.key = key;
    entry.value = value;
    request.n_secrets = 1;
    request.secrets = entries;
    arena_init(&arena, 65536);
    if (!client_call(client, &csi__v1__node__descriptor, "NodeStageVolume", &request.base, 5000,
                     &arena, &response, &err))
        fail_msg("%s", err.text);
    arena_wipe(&arena);
    client_free(client);
}

static void an_unknown_method_is_unimplemented_at_once(void **state)
{
    struct fixture *f = *state;
    Csi__V1__ProbeRequest probe_request = CSI__V1__PROBE_REQUEST__INIT;
    Csi__V1__NodeGetCapabilitiesRequest request = CSI__V1__NODE_GET_CAPABILITIES_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct error err = ERROR_INIT;
    struct arena arena;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_int_equal(ask_info(client, &err), ERROR_NONE); /* connected */
    uint64_t started_ms = clock_now_ms();
    arena_init(&arena, 65536);
    assert_false(client_call(client, &csi__v1__node__descriptor, "NodeGetCapabilities",
                             &request.base, 20000, &arena, &response, &err));
    assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
    assert_non_null(strstr(err.text, "NodeGetCapabilities"));
    assert_false(client_call(client, &csi__v1__identity__descriptor, "Probe", &probe_request.base,
                             20000, &arena, &response, &err));
    assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
    assert_true(clock_now_ms() - started_ms < 20000);
    assert_int_equal(atomic_load(&f->observed), 1);
    arena_wipe(&arena);
    client_free(client);
}

/* CANCELLED when the handler, which sees the deadline, too, answers first. */
static bool ends_at_its_deadline(struct client *client)
{
    struct error err = ERROR_INIT;
    enum error_code code = ask_stats(client, "until-cancelled", "", 1000, &err);

    return code == ERROR_DEADLINE_EXCEEDED || code == ERROR_CANCELLED;
}

static void a_deadline_reaches_the_handler_and_ends_the_call(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_int_equal(ask_stats(client, "ok", "", 5000, &err), ERROR_NONE);
    uint64_t remaining_ms = atomic_load(&f->node.remaining_ms);
    assert_in_range(remaining_ms, 1000, 5100); /* gRPC rounds up */
    assert_int_equal(ask_stats(client, "ok", "", UINT64_MAX, &err), ERROR_NONE);
    assert_true(atomic_load(&f->node.remaining_ms) == UINT64_MAX);

    assert_true(ends_at_its_deadline(client));
    client_free(client);
}

static void the_handler_sees_that_its_client_has_gone(void **state)
{
    struct fixture *f = *state;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_true(ends_at_its_deadline(client));
    for (int i = 0; i < 3000 && !atomic_load(&f->node.saw_cancel); i++)
        sleep_ms(10);
    assert_true(atomic_load(&f->node.saw_cancel));
    client_free(client);
}

struct caller {
    pthread_t thread;
    struct client *client;
    const char *what;
    enum error_code code;
    unsigned n_ok;
};

static void *call_in_thread(void *cookie)
{
    struct caller *caller = cookie;
    struct error err = ERROR_INIT;

    caller->code = ask_stats(caller->client, caller->what, "", 20000, &err);
    return NULL;
}

static void sixty_four_calls_run_at_once(void **state)
{
    struct fixture *f = *state;
    struct caller callers[PARALLEL];

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    for (size_t i = 0; i < PARALLEL; i++) {
        callers[i] = (struct caller){ .client = client, .what = "meet", .code = ERROR_INTERNAL };
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_in_thread, &callers[i]), 0);
    }
    for (size_t i = 0; i < PARALLEL; i++) {
        (void)pthread_join(callers[i].thread, NULL);
        assert_int_equal(callers[i].code, ERROR_NONE);
    }
    client_free(client);
}

static void begin(struct fixture *f, struct caller *caller)
{
    assert_int_equal(pthread_create(&caller->thread, NULL, call_in_thread, caller), 0);
    while (!atomic_load(&f->node.entered))
        sleep_ms(1);
}

static void a_graceful_stop_finishes_the_call_in_flight(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    struct caller caller = { .client = client, .what = "slow", .code = ERROR_INTERNAL };
    begin(f, &caller);
    fixture_stop(f, 10000);
    (void)pthread_join(caller.thread, NULL);
    assert_int_equal(caller.code, ERROR_NONE);
    if (!f->tls)
        assert_int_not_equal(access(f->socket, F_OK), 0);
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

static void after_the_grace_calls_are_cancelled(void **state)
{
    struct fixture *f = *state;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    struct caller caller = { .client = client, .what = "until-cancelled", .code = ERROR_NONE };
    begin(f, &caller);
    uint64_t started_ms = clock_now_ms();
    fixture_stop(f, 100);
    assert_true(clock_now_ms() - started_ms < 5000);
    (void)pthread_join(caller.thread, NULL);
    assert_int_not_equal(caller.code, ERROR_NONE);
    assert_true(atomic_load(&f->node.saw_cancel));
    client_free(client);
}

static void *call_until_refused(void *cookie)
{
    struct caller *caller = cookie;
    struct error err = ERROR_INIT;

    while (ask_stats(caller->client, "ok", "", 20000, &err) == ERROR_NONE)
        caller->n_ok++;
    caller->code = err.code;
    return NULL;
}

/* A call that comes too late never reaches a handler. gRPC 1.51 answers some of these calls with
 * CANCELLED, which CSI clients repeat as they repeat UNAVAILABLE. Once in hundreds of runs on a busy
 * machine it lost the answer of one call as it closed the connection. */
static void a_stop_under_load_loses_no_call_that_began(void **state)
{
    struct fixture *f = *state;
    struct caller callers[8];
    unsigned n_ok = 0;

    fixture_start(f);
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        callers[i] = (struct caller){ .client = connect_to(f->target, f->tls) };
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_until_refused, &callers[i]),
                         0);
    }
    while (atomic_load(&f->observed) < 500)
        sleep_ms(1);
    fixture_stop(f, 10000);
    for (size_t i = 0; i < ARRAY_LEN(callers); i++) {
        (void)pthread_join(callers[i].thread, NULL);
        assert_true(callers[i].code == ERROR_UNAVAILABLE || callers[i].code == ERROR_CANCELLED);
        n_ok += callers[i].n_ok;
        client_free(callers[i].client);
    }
    assert_in_range(atomic_load(&f->observed) - n_ok, 0, 1);
}

/* The request has that many bytes in a field that this version does not know. */
static enum error_code ask_stage(struct client *client, size_t bytes, struct error *err)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;
    Csi__V1__NodeStageVolumeRequest__SecretsEntry entry =
        CSI__V1__NODE_STAGE_VOLUME_REQUEST__SECRETS_ENTRY__INIT;
    Csi__V1__NodeStageVolumeRequest__SecretsEntry *entries[] = { &entry };
    ProtobufCMessageUnknownField later = { 1000, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED, 0, NULL };
    char key[] = "password", value[] = "hunter2";
    static const char filling[LARGE_BYTES];
    ProtobufCMessage *response = NULL;
    auto_wire struct wire field = { .len = 0 };
    struct arena arena;

    wire_varint(&field, bytes);
    wire_raw(&field, filling, bytes);
    later.len = field.len;
    later.data = field.bytes;
    entry.key = key;
    entry.value = value;
    request.n_secrets = 1;
    request.secrets = entries;
    request.base.n_unknown_fields = 1;
    request.base.unknown_fields = &later;
    arena_init(&arena, 65536);
    *err = (struct error)ERROR_INIT;
    if (client_call(client, &csi__v1__node__descriptor, "NodeStageVolume", &request.base, 60000,
                    &arena, &response, err))
        assert_non_null(response);
    arena_wipe(&arena);
    return err->code;
}

static void one_method_may_take_more_than_the_others(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    if (ask_stage(client, LARGE_BYTES - 1024, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_int_equal(ask_stage(client, LARGE_BYTES, &err), ERROR_RESOURCE_EXHAUSTED);
    client_free(client);
}

static void *stage_in_thread(void *cookie)
{
    struct caller *caller = cookie;
    struct error err = ERROR_INIT;

    caller->code = ask_stage(caller->client, LARGE_BYTES - 1024, &err);
    return NULL;
}

static void *wait_in_thread(void *cookie)
{
    struct caller *caller = cookie;
    struct error err = ERROR_INIT;

    caller->code = ask_stats(caller->client, "until-cancelled", "", 2000, &err);
    return NULL;
}

static void call_all(struct caller *callers, size_t n, struct client *client,
                     void *(*call)(void *cookie))
{
    for (size_t i = 0; i < n; i++) {
        callers[i] = (struct caller){ .client = client };
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call, &callers[i]), 0);
    }
}

/* The size is limited, too, while all workers are busy. Then the waiting requests are served. */
static void requests_that_wait_are_limited(void **state)
{
    struct fixture *f = *state;
    static struct caller busy[PARALLEL], waiting[160];
    size_t n_refused = 0;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    call_all(busy, PARALLEL, client, wait_in_thread);
    sleep_ms(500);
    call_all(waiting, ARRAY_LEN(waiting), client, stage_in_thread);
    for (size_t i = 0; i < PARALLEL; i++)
        (void)pthread_join(busy[i].thread, NULL);
    for (size_t i = 0; i < ARRAY_LEN(waiting); i++) {
        (void)pthread_join(waiting[i].thread, NULL);
        assert_true(waiting[i].code == ERROR_NONE || waiting[i].code == ERROR_UNAVAILABLE);
        n_refused += waiting[i].code != ERROR_NONE;
    }
    /* one client of the door may let less wait */
    assert_in_range(n_refused, 1, f->tls ? ARRAY_LEN(waiting) - 1 : ARRAY_LEN(waiting) / 2);
    client_free(client);
}

static void the_reason_of_an_error_arrives(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_int_equal(ask_stats(client, "refused", "TcbOutOfDate", 5000, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "TcbOutOfDate");
    assert_string_equal(err.text, "the platform is too old");
    assert_int_equal(ask_stats(client, "refused", "no word", 5000, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "");
    assert_int_equal(ask_stats(client, "error", "", 5000, &err), ERROR_ABORTED);
    assert_string_equal(err.reason, "");
    client_free(client);
}

static void a_message_that_is_too_large_is_refused(void **state)
{
    struct fixture *f = *state;
    Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;
    char *text = calloc(1, LIMIT_BYTES + 1);
    ProtobufCMessage *response = NULL;
    struct error err = ERROR_INIT;
    struct arena arena;

    assert_non_null(text);
    for (size_t i = 0; i < LIMIT_BYTES; i++)
        text[i] = 'x';
    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    request.volume_id = text;
    arena_init(&arena, 65536);
    assert_false(client_call(client, &csi__v1__node__descriptor, "NodeGetVolumeStats",
                             &request.base, 5000, &arena, &response, &err));
    assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
    text[1000] = '\0';
    assert_false(client_call(client, &csi__v1__node__descriptor, "NodeGetVolumeStats",
                             &request.base, 5000, &arena, &response, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "volume_id has 1000 bytes"));
    assert_false(atomic_load(&f->node.entered));
    arena_wipe(&arena);
    client_free(client);
    free(text);
}

static void a_long_error_arrives_cut_and_clean(void **state)
{
    struct fixture *f = *state;
    char path[3001] = "";
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 1000; i++)
        memcpy(path + 3 * i, "\xE2\x82\xAC", 4);
    fixture_start(f);
    struct client *client = connect_to(f->target, f->tls);
    assert_int_equal(ask_stats(client, "error", path, 5000, &err), ERROR_ABORTED);
    assert_int_equal(strncmp(err.text, "busy?\xE2\x82\xAC", 8), 0);
    assert_true(strlen(err.text) > 500);
    assert_string_equal(err.text + strlen(err.text) - 3, "...");
    client_free(client);
}

#define CALL(name)                                                             \
    { #name " (unix socket)", name, fixture_set_up, fixture_tear_down, NULL }, \
    {                                                                          \
#name " (network)", name, fixture_set_up_door, fixture_tear_down, NULL \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        CALL(a_call_is_answered_and_observed),
        CALL(secrets_arrive_in_a_secret_arena),
        CALL(an_unknown_method_is_unimplemented_at_once),
        CALL(a_deadline_reaches_the_handler_and_ends_the_call),
        CALL(the_handler_sees_that_its_client_has_gone),
        CALL(sixty_four_calls_run_at_once),
        CALL(a_graceful_stop_finishes_the_call_in_flight),
        CALL(after_the_grace_calls_are_cancelled),
        CALL(a_stop_under_load_loses_no_call_that_began),
        CALL(one_method_may_take_more_than_the_others),
        CALL(requests_that_wait_are_limited),
        CALL(the_reason_of_an_error_arrives),
        CALL(a_message_that_is_too_large_is_refused),
        CALL(a_long_error_arrives_cut_and_clean),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
