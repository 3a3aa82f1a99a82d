/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/fixture.h"

#include "base/clock.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "csi.pb-c.h"

void sleep_ms(unsigned ms)
{
    (void)usleep(ms * 1000);
}

static bool get_info(struct node *node, struct rpc_call *call,
                     const Csi__V1__NodeGetInfoRequest *request UNUSED,
                     Csi__V1__NodeGetInfoResponse *response, struct error *err UNUSED)
{
    const char *pem = call->peer->certificate_pem;

    (void)pthread_mutex_lock(&node->lock);
    (void)snprintf(node->peer, sizeof(node->peer), "%s", pem ? pem : "");
    node->session_reused = call->peer->session_reused;
    (void)snprintf(node->address, sizeof(node->address), "%s",
                   call->peer->address ? call->peer->address : "");
    (void)pthread_mutex_unlock(&node->lock);
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

    atomic_store(&node->remaining_ms,
                 call->deadline_ms == UINT64_MAX ? UINT64_MAX : call->deadline_ms - clock_now_ms());
    atomic_store(&node->entered, true);
    if (strcmp(what, "meet") == 0)
        (void)pthread_barrier_wait(&node->all);
    else if (strcmp(what, "slow") == 0)
        sleep_ms(300);
    else if (strcmp(what, "until-cancelled") == 0)
        return wait_for_cancel(node, call, err);
    else if (strcmp(what, "error") == 0)
        return error_set(err, ERROR_ABORTED, "busy\x01%s", request->volume_path);
    else if (strcmp(what, "refused") == 0 &&
             !error_set(err, ERROR_DENIED, "the platform is too old"))
        return error_reason(err, request->volume_path);
    return true;
}

/* Its error tells what is wrong with the request, but never shows the secrets. */
static bool stage(struct node *node UNUSED, struct rpc_call *call,
                  const Csi__V1__NodeStageVolumeRequest *request,
                  Csi__V1__NodeStageVolumeResponse *response UNUSED, struct error *err)
{
    if (!call->arena->secret)
        return error_set(err, ERROR_INTERNAL, "not a secret arena");
    if (request->n_secrets != 1 || strcmp(request->secrets[0]->value, "hunter2") != 0)
        return error_set(err, ERROR_INTERNAL, "the secrets differ from those sent");
    return true;
}

RPC_HANDLER(get_info, struct node, Csi__V1__NodeGetInfoRequest, Csi__V1__NodeGetInfoResponse)
RPC_HANDLER(get_stats, struct node, Csi__V1__NodeGetVolumeStatsRequest,
            Csi__V1__NodeGetVolumeStatsResponse)
RPC_HANDLER(stage, struct node, Csi__V1__NodeStageVolumeRequest, Csi__V1__NodeStageVolumeResponse)

static const struct rpc_method node_methods[] = {
    { "NodeGetInfo", get_info_untyped, 0 },
    { "NodeGetVolumeStats", get_stats_untyped, 0 },
    { "NodeStageVolume", stage_untyped, RPC_SECRET, LARGE_BYTES },
};
const struct rpc_service node_service = { &csi__v1__node__descriptor, node_methods,
                                          ARRAY_LEN(node_methods) };

static void observe(void *cookie, const struct rpc_call *call, const struct error *err,
                    uint64_t elapsed_ms UNUSED)
{
    struct fixture *f = cookie;

    assert_int_equal(strncmp(call->method, "/csi.v1.", 8), 0);
    atomic_fetch_add(&f->observed, 1);
    if (err->code != ERROR_NONE)
        atomic_fetch_add(&f->failed, 1);
}

static struct server_options options_of(struct fixture *f)
{
    return (struct server_options){
        .n_workers = PARALLEL, .limits = { LIMIT_BYTES, 128, 4096 }, .observe = observe, .cookie = f
    };
}

struct server *fixture_server(struct fixture *f)
{
    struct server_options options = options_of(f);
    struct server *server = NULL;
    struct error err = ERROR_INIT;

    assert_true(server_new(&options, &server, &err));
    return server;
}

struct door *fixture_door(struct fixture *f)
{
    struct server_options options = options_of(f);
    struct door *door = NULL;
    struct error err = ERROR_INIT;

    assert_true(door_new(&options, &door, &err));
    return door;
}

bool fixture_listen_tls(struct fixture *f, struct door *door, const char *address, uint16_t *port,
                        struct error *err)
{
    const struct server_binding binding = { &node_service, &f->node };
    const struct server_tls tls = { f->identity.certificate_pem, &f->key, f->ca.certificate_pem };

    return door_listen(door, address, &tls, &binding, 1, port, err);
}

bool fixture_listen(struct fixture *f, struct server *server, const char *path, const char *lock,
                    struct error *err)
{
    const struct server_binding binding = { &node_service, &f->node };

    return server_listen_unix(server, path, lock, 0640, &binding, 1, err);
}

static struct fixture *make(void)
{
    struct fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/tdvol-server-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->socket, sizeof(f->socket), "%s/s.sock", f->folder);
    (void)snprintf(f->lock, sizeof(f->lock), "%s/lock", f->folder);
    (void)snprintf(f->target, sizeof(f->target), "unix:%s", f->socket);
    assert_int_equal(pthread_mutex_init(&f->node.lock, NULL), 0);
    assert_int_equal(pthread_barrier_init(&f->node.all, NULL, PARALLEL), 0);
    return f;
}

int fixture_set_up(void **state)
{
    struct fixture *f = make();

    f->server = fixture_server(f);
    *state = f;
    return 0;
}

static void copy_secret(struct secret *out, const char *text)
{
    struct error err = ERROR_INIT;

    assert_true(secret_alloc(out, strlen(text), &err));
    memcpy(out->bytes, text, out->len);
}

int fixture_set_up_door(void **state)
{
    struct fixture *f = make();

    f->door = fixture_door(f);
    test_identity_make(&f->ca, "ca", NULL);
    test_identity_make(&f->identity, "broker", &f->ca);
    test_identity_make(&f->user, "node", &f->ca);
    copy_secret(&f->key, f->identity.key_pem);
    copy_secret(&f->user_key, f->user.key_pem);
    f->client_tls =
        (struct client_tls){ f->ca.certificate_pem, f->user.certificate_pem, &f->user_key, NULL };
    f->tls = &f->client_tls;
    *state = f;
    return 0;
}

int fixture_tear_down(void **state)
{
    struct fixture *f = *state;

    server_free(f->server);
    door_free(f->door);
    test_identity_free(&f->ca);
    test_identity_free(&f->identity);
    test_identity_free(&f->user);
    secret_wipe(&f->key);
    secret_wipe(&f->user_key);
    assert_int_not_equal(access(f->socket, F_OK), 0); /* gRPC removed it */
    (void)unlink(f->lock);
    assert_int_equal(rmdir(f->folder), 0);
    (void)pthread_mutex_destroy(&f->node.lock);
    (void)pthread_barrier_destroy(&f->node.all);
    free(f);
    return 0;
}

void fixture_start(struct fixture *f)
{
    struct error err = ERROR_INIT;

    if (f->door) {
        if (!fixture_listen_tls(f, f->door, "127.0.0.1:0", &f->port, &err) ||
            !door_start(f->door, &err))
            fail_msg("%s", err.text);
        (void)snprintf(f->target, sizeof(f->target), "127.0.0.1:%u", f->port);
        return;
    }
    if (!fixture_listen(f, f->server, f->socket, f->lock, &err) || !server_start(f->server, &err))
        fail_msg("%s", err.text);
}

void fixture_stop(struct fixture *f, uint64_t grace_ms)
{
    if (f->door)
        door_stop(f->door, grace_ms);
    else
        server_stop(f->server, grace_ms);
}

struct client *connect_to(const char *target, const struct client_tls *tls)
{
    struct client *client = NULL;
    struct error err = ERROR_INIT;

    assert_true(client_new(target, tls, &client, &err));
    return client;
}

/* Returns the code that the call ended with. */
enum error_code ask_info(struct client *client, struct error *err)
{
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    struct arena arena;

    arena_init(&arena, 65536);
    *err = (struct error)ERROR_INIT;
    if (client_call(client, &csi__v1__node__descriptor, "NodeGetInfo", &request.base, 30000, &arena,
                    &response, err)) {
        const Csi__V1__NodeGetInfoResponse *info = (const void *)response;

        assert_string_equal(info->node_id, "node-1");
    }
    arena_wipe(&arena);
    return err->code;
}

enum error_code ask_stats(struct client *client, const char *what, const char *path,
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

void last_peer(struct node *node, char *out, size_t len, bool *reused)
{
    (void)pthread_mutex_lock(&node->lock);
    (void)snprintf(out, len, "%s", node->peer);
    *reused = node->session_reused;
    (void)pthread_mutex_unlock(&node->lock);
}
