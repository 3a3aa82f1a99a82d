/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "proto/client.h"
#include "proto/server.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/test.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "csi.pb-c.h"

/* Server and client together, over real sockets. NodeGetInfo answers at once; NodeGetVolumeStats
 * does what its volume_id says. */

enum { PARALLEL = 64, LIMIT_BYTES = 64 * 1024 };

struct node {
    pthread_barrier_t all;
    atomic_bool entered, saw_cancel;
    atomic_uint_least64_t remaining_ms;
    char peer[4096];
    bool session_reused;
};

static void sleep_ms(unsigned ms)
{
    (void)usleep(ms * 1000);
}

static bool get_info(struct node *node, struct rpc_call *call,
                     const Csi__V1__NodeGetInfoRequest *request UNUSED,
                     Csi__V1__NodeGetInfoResponse *response, struct error *err UNUSED)
{
    (void)snprintf(node->peer, sizeof(node->peer), "%s",
                   call->peer->certificate_pem ? call->peer->certificate_pem : "");
    node->session_reused = call->peer->session_reused;
    response->node_id = arena_strdup(call->arena, "node-1");
    return true;
}

static bool wait_for_cancel(struct node *node, const struct rpc_call *call, struct error *err)
{
    for (int i = 0; i < 1000; i++) {
        if (rpc_call_is_cancelled(call)) {
            atomic_store(&node->saw_cancel, true);
            return error_set(err, ERROR_CANCELLED, "cancelled");
        }
        sleep_ms(10);
    }
    return true;
}

static bool get_stats(struct node *node, struct rpc_call *call,
                      const Csi__V1__NodeGetVolumeStatsRequest *request,
                      Csi__V1__NodeGetVolumeStatsResponse *response UNUSED, struct error *err)
{
    const char *what = request->volume_id;

    atomic_store(&node->remaining_ms, rpc_call_remaining_ms(call));
    atomic_store(&node->entered, true);
    if (strcmp(what, "meet") == 0)
        (void)pthread_barrier_wait(&node->all);
    else if (strcmp(what, "slow") == 0)
        sleep_ms(300);
    else if (strcmp(what, "until-cancelled") == 0)
        return wait_for_cancel(node, call, err);
    else if (strcmp(what, "error") == 0)
        return error_set(err, ERROR_ABORTED, "busy\x01%s", request->volume_path);
    return true;
}

/* What came in is told by its error, as far as a request with secrets may be told at all. */
static bool stage(struct node *node UNUSED, struct rpc_call *call,
                  const Csi__V1__NodeStageVolumeRequest *request,
                  Csi__V1__NodeStageVolumeResponse *response UNUSED, struct error *err)
{
    if (!call->arena->secret)
        return error_set(err, ERROR_INTERNAL, "not a secret arena");
    if (request->n_secrets != 1 || strcmp(request->secrets[0]->value, "hunter2") != 0)
        return error_set(err, ERROR_INTERNAL, "secrets are not as sent");
    return true;
}

RPC_HANDLER(get_info, struct node, Csi__V1__NodeGetInfoRequest, Csi__V1__NodeGetInfoResponse)
RPC_HANDLER(get_stats, struct node, Csi__V1__NodeGetVolumeStatsRequest,
            Csi__V1__NodeGetVolumeStatsResponse)
RPC_HANDLER(stage, struct node, Csi__V1__NodeStageVolumeRequest, Csi__V1__NodeStageVolumeResponse)

static const struct rpc_method node_methods[] = {
    { "NodeGetInfo", get_info_untyped, 0 },
    { "NodeGetVolumeStats", get_stats_untyped, 0 },
    { "NodeStageVolume", stage_untyped, RPC_SECRET },
};
static const struct rpc_service node_service = { &csi__v1__node__descriptor, node_methods,
                                                 ARRAY_LEN(node_methods) };

static bool probe(struct node *node UNUSED, struct rpc_call *call UNUSED,
                  const Csi__V1__ProbeRequest *request UNUSED,
                  Csi__V1__ProbeResponse *response UNUSED, struct error *err UNUSED)
{
    return true;
}
RPC_HANDLER(probe, struct node, Csi__V1__ProbeRequest, Csi__V1__ProbeResponse)
static const struct rpc_method identity_methods[] = { { "Probe", probe_untyped, 0 } };
static const struct rpc_service identity_service = { &csi__v1__identity__descriptor,
                                                     identity_methods, 1 };

/* --- A server in a folder of its own --- */

struct fixture {
    struct server *server;
    struct node node;
    char folder[32], socket[64], lock[64], target[80];
    atomic_uint observed, failed;
};

static void observe(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms UNUSED)
{
    struct fixture *f = cookie;

    assert_int_equal(strncmp(call->method, "/csi.v1.", 8), 0);
    atomic_fetch_add(&f->observed, 1);
    if (err->code != ERROR_NONE)
        atomic_fetch_add(&f->failed, 1);
}

static struct server *make_server(struct fixture *f)
{
    struct server_options options = {
        .n_workers = PARALLEL, .limits = { LIMIT_BYTES, 128, 4096 }, .observe = observe, .cookie = f
    };
    struct server *server = NULL;
    struct error err = ERROR_INIT;

    assert_true(server_new(&options, &server, &err));
    return server;
}

static bool listen_unix(struct fixture *f, struct server *server, const char *path,
                        const char *lock, struct error *err)
{
    const struct server_binding binding = { &node_service, &f->node };

    return server_listen_unix(server, path, lock, 0640, &binding, 1, err);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/tdvol-server-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->socket, sizeof(f->socket), "%s/s.sock", f->folder);
    (void)snprintf(f->lock, sizeof(f->lock), "%s/lock", f->folder);
    (void)snprintf(f->target, sizeof(f->target), "unix:%s", f->socket);
    assert_int_equal(pthread_barrier_init(&f->node.all, NULL, PARALLEL), 0);
    f->server = make_server(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    server_free(f->server);
    assert_int_not_equal(access(f->socket, F_OK), 0); /* gRPC removed it */
    (void)unlink(f->lock);
    assert_int_equal(rmdir(f->folder), 0);
    (void)pthread_barrier_destroy(&f->node.all);
    free(f);
    return 0;
}

static void start(struct fixture *f)
{
    struct error err = ERROR_INIT;

    if (!listen_unix(f, f->server, f->socket, f->lock, &err) || !server_start(f->server, &err))
        fail_msg("%s", err.text);
}

static struct client *connect_to(const char *target, const struct client_tls *tls)
{
    struct client *client = NULL;
    struct error err = ERROR_INIT;

    assert_true(client_new(target, tls, &client, &err));
    return client;
}

/* The code it ended with. */
static enum error_code ask_info(struct client *client, struct error *err)
{
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct arena arena;

    arena_init(&arena, 65536);
    *err = (struct error)ERROR_INIT;
    if (client_call(client, &csi__v1__node__descriptor, "NodeGetInfo", &request.base, 5000, &arena,
                    &response, err)) {
        const Csi__V1__NodeGetInfoResponse *info = (const void *)response;
        assert_string_equal(info->node_id, "node-1");
    }
    arena_wipe(&arena);
    return err->code;
}

static enum error_code ask_stats(struct client *client, const char *what, const char *path,
                                 uint64_t timeout_ms, struct error *err)
{
    Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;
    char id[32], text[4096];
    ProtobufCMessage *response = NULL;
    struct arena arena;

    (void)snprintf(id, sizeof(id), "%s", what);
    (void)snprintf(text, sizeof(text), "%s", path);
    request.volume_id = id;
    request.volume_path = text;
    arena_init(&arena, 65536);
    *err = (struct error)ERROR_INIT;
    bool ok = client_call(client, &csi__v1__node__descriptor, "NodeGetVolumeStats", &request.base,
                          timeout_ms, &arena, &response, err);
    assert_int_equal(ok, err->code == ERROR_NONE);
    arena_wipe(&arena);
    return err->code;
}

/* --- Cases --- */

static void a_call_is_answered_and_observed(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    start(f);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_int_equal(ask_stats(client, "ok", "", 5000, &err), ERROR_NONE);
    assert_int_equal(ask_stats(client, "error", "", 5000, &err), ERROR_ABORTED);
    assert_int_equal(atomic_load(&f->observed), 3);
    assert_int_equal(atomic_load(&f->failed), 1);
    assert_string_equal(f->node.peer, "");
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

    start(f);
    struct client *client = connect_to(f->target, NULL);
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

    start(f);
    struct client *client = connect_to(f->target, NULL);
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
    assert_true(clock_now_ms() - started_ms < 2000);
    assert_int_equal(atomic_load(&f->observed), 1);
    arena_wipe(&arena);
    client_free(client);
}

static void each_socket_serves_only_its_own(void **state)
{
    struct fixture *f = *state;
    const struct server_binding binding = { &identity_service, &f->node };
    Csi__V1__ProbeRequest request = CSI__V1__PROBE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    char path[80], lock[80], target[96];
    struct error err = ERROR_INIT;
    struct arena arena;

    (void)snprintf(path, sizeof(path), "%s/r.sock", f->folder);
    (void)snprintf(lock, sizeof(lock), "%s/lock2", f->folder);
    (void)snprintf(target, sizeof(target), "unix:%s", path);
    assert_true(server_listen_unix(f->server, path, lock, 0600, &binding, 1, &err));
    start(f);
    struct client *node = connect_to(f->target, NULL), *identity = connect_to(target, NULL);
    arena_init(&arena, 65536);
    assert_int_equal(ask_info(node, &err), ERROR_NONE);
    assert_int_equal(ask_info(identity, &err), ERROR_UNIMPLEMENTED);
    assert_true(client_call(identity, &csi__v1__identity__descriptor, "Probe", &request.base, 5000,
                            &arena, &response, &err));
    assert_false(client_call(node, &csi__v1__identity__descriptor, "Probe", &request.base, 5000,
                             &arena, &response, &err));
    assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
    arena_wipe(&arena);
    client_free(node);
    client_free(identity);
    assert_int_equal(unlink(lock), 0);
}

static void a_deadline_reaches_the_handler_and_ends_the_call(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    start(f);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_stats(client, "ok", "", 5000, &err), ERROR_NONE);
    uint64_t remaining_ms = atomic_load(&f->node.remaining_ms);
    assert_true(remaining_ms > 1000 && remaining_ms <= 5000);
    assert_int_equal(ask_stats(client, "ok", "", UINT64_MAX, &err), ERROR_NONE);
    assert_true(atomic_load(&f->node.remaining_ms) == UINT64_MAX);

    uint64_t started_ms = clock_now_ms();
    assert_int_equal(ask_stats(client, "until-cancelled", "", 300, &err), ERROR_DEADLINE_EXCEEDED);
    assert_true(clock_now_ms() - started_ms < 2000);
    client_free(client);
}

static void the_handler_sees_that_its_client_has_gone(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    start(f);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_stats(client, "until-cancelled", "", 300, &err), ERROR_DEADLINE_EXCEEDED);
    for (int i = 0; i < 200 && !atomic_load(&f->node.saw_cancel); i++)
        sleep_ms(10);
    assert_true(atomic_load(&f->node.saw_cancel));
    client_free(client);
}

struct caller {
    pthread_t thread;
    struct client *client;
    const char *what;
    enum error_code code;
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

    start(f);
    struct client *client = connect_to(f->target, NULL);
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

    start(f);
    struct client *client = connect_to(f->target, NULL);
    struct caller caller = { .client = client, .what = "slow", .code = ERROR_INTERNAL };
    begin(f, &caller);
    server_stop(f->server, 10000);
    (void)pthread_join(caller.thread, NULL);
    assert_int_equal(caller.code, ERROR_NONE);
    assert_int_not_equal(access(f->socket, F_OK), 0);
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

static void after_the_grace_calls_are_cancelled(void **state)
{
    struct fixture *f = *state;

    start(f);
    struct client *client = connect_to(f->target, NULL);
    struct caller caller = { .client = client, .what = "until-cancelled", .code = ERROR_NONE };
    begin(f, &caller);
    uint64_t started_ms = clock_now_ms();
    server_stop(f->server, 100);
    assert_true(clock_now_ms() - started_ms < 5000);
    (void)pthread_join(caller.thread, NULL);
    assert_int_not_equal(caller.code, ERROR_NONE);
    assert_true(atomic_load(&f->node.saw_cancel));
    client_free(client);
}

static void too_large_a_message_is_refused(void **state)
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
    start(f);
    struct client *client = connect_to(f->target, NULL);
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
    start(f);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_stats(client, "error", path, 5000, &err), ERROR_ABORTED);
    assert_int_equal(strncmp(err.text, "busy?\xE2\x82\xAC", 8), 0);
    assert_true(strlen(err.text) > 500);
    assert_string_equal(err.text + strlen(err.text) - 3, "...");
    client_free(client);
}

static void a_second_server_cannot_steal_the_socket(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char other_lock[64];

    start(f);
    struct server *second = make_server(f);
    assert_false(listen_unix(f, second, f->socket, f->lock, &err));
    assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
    assert_non_null(strstr(err.text, f->socket));
    (void)snprintf(other_lock, sizeof(other_lock), "%s/other", f->folder);
    assert_false(listen_unix(f, second, f->socket, other_lock, &err));
    assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
    server_free(second);
    assert_int_equal(unlink(other_lock), 0);

    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);

    server_free(f->server); /* and now it may */
    f->server = make_server(f);
    assert_true(listen_unix(f, f->server, f->socket, f->lock, &err));
    assert_true(server_start(f->server, &err));
    client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void leave_dead_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    (void)close(fd);
}

static void a_stale_socket_is_replaced_and_gets_its_mode(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct stat status;

    leave_dead_socket(f->socket);
    start(f);
    assert_int_equal(stat(f->socket, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void what_is_not_a_socket_is_left_alone(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    FILE *file = fopen(f->socket, "we");

    assert_non_null(file);
    (void)fclose(file);
    assert_false(listen_unix(f, f->server, f->socket, f->lock, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_int_equal(unlink(f->socket), 0);
}

static void bad_places_for_a_socket_are_named(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char path[200];

    (void)snprintf(path, sizeof(path), "%s/%0107d", f->folder, 0);
    assert_false(listen_unix(f, f->server, path, f->lock, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    (void)snprintf(path, sizeof(path), "%s/no/folder.sock", f->folder);
    assert_false(listen_unix(f, f->server, path, f->lock, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, path));
}

static void a_socket_path_of_106_bytes_works(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char path[128], target[140];

    (void)snprintf(path, sizeof(path), "%s/%0*d", f->folder, 105 - (int)strlen(f->folder), 0);
    assert_int_equal(strlen(path), 106);
    assert_true(listen_unix(f, f->server, path, f->lock, &err));
    assert_true(server_start(f->server, &err));
    (void)snprintf(target, sizeof(target), "unix:%s", path);
    struct client *client = connect_to(target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void a_server_never_started_is_freed(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    assert_true(listen_unix(f, f->server, f->socket, f->lock, &err));
}

static void nobody_there_is_unavailable(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct client *client = connect_to(f->target, NULL);

    uint64_t started_ms = clock_now_ms();
    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    assert_true(clock_now_ms() - started_ms < 3000);
    start(f);
    for (int i = 0; i < 100 && ask_info(client, &err) != ERROR_NONE; i++)
        sleep_ms(50);
    assert_int_equal(err.code, ERROR_NONE); /* the same client comes back by itself */
    client_free(client);
}

/* --- TLS --- */

struct tls_fixture {
    struct fixture *base;
    struct identity ca, server, user, other_ca;
    struct secret server_key, user_key;
    uint16_t port;
    char target[32];
};

static void copy_secret(struct secret *out, const char *text)
{
    struct error err = ERROR_INIT;

    assert_true(secret_alloc(out, strlen(text), &err));
    memcpy(out->bytes, text, out->len);
}

static int set_up_tls(void **state)
{
    struct tls_fixture *t = calloc(1, sizeof(*t));
    struct error err = ERROR_INIT;

    assert_non_null(t);
    assert_int_equal(set_up((void **)&t->base), 0);
    identity_make(&t->ca, "ca", NULL);
    identity_make(&t->other_ca, "other ca", NULL);
    identity_make(&t->server, "broker", &t->ca);
    identity_make(&t->user, "node", &t->ca);
    copy_secret(&t->server_key, t->server.key_pem);
    copy_secret(&t->user_key, t->user.key_pem);

    const struct server_tls tls = { t->server.certificate_pem, &t->server_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    if (!server_listen_tls(t->base->server, "127.0.0.1:0", &tls, &binding, 1, &t->port, &err) ||
        !server_start(t->base->server, &err))
        fail_msg("%s", err.text);
    (void)snprintf(t->target, sizeof(t->target), "127.0.0.1:%u", t->port);
    *state = t;
    return 0;
}

static int tear_down_tls(void **state)
{
    struct tls_fixture *t = *state;

    assert_int_equal(tear_down((void **)&t->base), 0);
    identity_free(&t->ca);
    identity_free(&t->other_ca);
    identity_free(&t->server);
    identity_free(&t->user);
    secret_wipe(&t->server_key);
    secret_wipe(&t->user_key);
    free(t);
    return 0;
}

static void the_handler_sees_the_client_certificate(void **state)
{
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                                    NULL };
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, &tls);

    if (ask_info(client, &err) != ERROR_NONE)
        fail_msg("%s", err.text);
    assert_string_equal(t->base->node.peer, t->user.certificate_pem);
    assert_false(t->base->node.session_reused);
    client_free(client);

    client = connect_to(t->target, &tls); /* a new connection does not resume the old one */
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    assert_false(t->base->node.session_reused);
    client_free(client);
}

static void a_server_under_another_ca_is_not_trusted(void **state)
{
    struct tls_fixture *t = *state;
    const struct client_tls tls = { t->other_ca.certificate_pem, t->user.certificate_pem,
                                    &t->user_key, NULL };
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, &tls);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

static void a_server_of_another_name_is_not_trusted(void **state)
{
    struct tls_fixture *t = *state;
    struct client_tls tls = { t->ca.certificate_pem, t->user.certificate_pem, &t->user_key,
                              "elsewhere.example" };
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, &tls);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
    tls.server_name = "localhost"; /* in the certificate */
    client = connect_to(t->target, &tls);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void tls_1_2_is_refused(void **state)
{
    struct tls_fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_2_VERSION, &t->user));
}

static void no_client_certificate_is_refused(void **state)
{
    struct tls_fixture *t = *state;

    assert_true(tls_connects(t->port, TLS1_3_VERSION, &t->user));
    assert_false(tls_connects(t->port, TLS1_3_VERSION, NULL));
}

static void a_plain_client_is_refused(void **state)
{
    struct tls_fixture *t = *state;
    struct error err = ERROR_INIT;
    struct client *client = connect_to(t->target, NULL);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE);
    client_free(client);
}

static void a_taken_port_is_an_error(void **state)
{
    struct tls_fixture *t = *state;
    const struct server_tls tls = { t->server.certificate_pem, &t->server_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    struct server *second = make_server(t->base);
    struct error err = ERROR_INIT;
    uint16_t port = 0;

    assert_false(server_listen_tls(second, t->target, &tls, &binding, 1, &port, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, t->target));
    assert_int_equal(port, 0);
    server_free(second);
}

static void a_bad_key_is_an_error(void **state)
{
    struct tls_fixture *t = *state;
    const struct server_tls tls = { t->server.certificate_pem, &t->user_key,
                                    t->ca.certificate_pem };
    const struct server_binding binding = { &node_service, &t->base->node };
    struct server *second = make_server(t->base);
    struct error err = ERROR_INIT;

    assert_false(server_listen_tls(second, "127.0.0.1:0", &tls, &binding, 1, NULL, &err));
    server_free(second);
}

#define UNIX(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TLS(name)  cmocka_unit_test_setup_teardown(name, set_up_tls, tear_down_tls)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIX(a_call_is_answered_and_observed),
        UNIX(secrets_arrive_in_a_secret_arena),
        UNIX(an_unknown_method_is_unimplemented_at_once),
        UNIX(each_socket_serves_only_its_own),
        UNIX(a_deadline_reaches_the_handler_and_ends_the_call),
        UNIX(the_handler_sees_that_its_client_has_gone),
        UNIX(sixty_four_calls_run_at_once),
        UNIX(a_graceful_stop_finishes_the_call_in_flight),
        UNIX(after_the_grace_calls_are_cancelled),
        UNIX(too_large_a_message_is_refused),
        UNIX(a_long_error_arrives_cut_and_clean),
        UNIX(a_second_server_cannot_steal_the_socket),
        UNIX(a_stale_socket_is_replaced_and_gets_its_mode),
        UNIX(what_is_not_a_socket_is_left_alone),
        UNIX(bad_places_for_a_socket_are_named),
        UNIX(a_socket_path_of_106_bytes_works),
        UNIX(a_server_never_started_is_freed),
        UNIX(nobody_there_is_unavailable),
        TLS(the_handler_sees_the_client_certificate),
        TLS(a_server_under_another_ca_is_not_trusted),
        TLS(a_server_of_another_name_is_not_trusted),
        TLS(tls_1_2_is_refused),
        TLS(no_client_certificate_is_refused),
        TLS(a_plain_client_is_refused),
        TLS(a_taken_port_is_an_error),
        TLS(a_bad_key_is_an_error),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
