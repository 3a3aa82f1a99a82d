/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/upstream/driver.h"

#include "base/clock.h"
#include "base/unix_socket.h"
#include "blockd/upstream_call.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool note(struct driver *d, struct rpc_call *call, struct error *err)
{
    const char *method = strrchr(call->method, '/') + 1;

    if (d->n_log < ARRAY_LEN(d->log))
        (void)snprintf(d->log[d->n_log++], sizeof(d->log[0]), "%s", method);
    d->time_left_ms = call->deadline_ms == UINT64_MAX ? 0 : call->deadline_ms - clock_now_ms();
    if (d->delay_ms > 0)
        usleep(d->delay_ms * 1000);
    return !d->faulty || strcmp(d->faulty, method) != 0 ||
           error_set(err, d->code, "%s", d->text ? d->text : "the driver says no");
}

/* Requests live as long as the call, so the test gets a copy. */
static const void *copy(struct driver *d, const ProtobufCMessage *request)
{
    static const struct rpc_limits limits = { 1 << 20, 65536, 65536 };
    size_t len = protobuf_c_message_get_packed_size(request);
    uint8_t *bytes = arena_alloc(&d->arena, len + 1);
    struct error err = ERROR_INIT;
    ProtobufCMessage *out = NULL;

    assert_non_null(bytes);
    (void)protobuf_c_message_pack(request, bytes);
    assert_ok(rpc_decode(request->descriptor, &limits, (struct rpc_bytes){ bytes, len }, &d->arena,
                         &out, &err));
    return out;
}

static bool get_plugin_info(struct driver *d, struct rpc_call *call,
                            const Csi__V1__GetPluginInfoRequest *request UNUSED,
                            Csi__V1__GetPluginInfoResponse *response, struct error *err)
{
    response->name = arena_strdup(call->arena, d->name ? d->name : DRIVER_NAME);
    return note(d, call, err);
}

static bool add_capability(struct rpc_call *call, Csi__V1__NodeGetCapabilitiesResponse *response,
                           int type)
{
    Csi__V1__NodeServiceCapability *item = arena_alloc(call->arena, sizeof(*item));
    Csi__V1__NodeServiceCapability__RPC *rpc = arena_alloc(call->arena, sizeof(*rpc));

    csi__v1__node_service_capability__init(item);
    csi__v1__node_service_capability__rpc__init(rpc);
    rpc->type = (Csi__V1__NodeServiceCapability__RPC__Type)type;
    item->type_case = CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC;
    item->rpc = rpc;
    response->capabilities[response->n_capabilities++] = item;
    return true;
}

static bool node_get_capabilities(struct driver *d, struct rpc_call *call,
                                  const Csi__V1__NodeGetCapabilitiesRequest *request UNUSED,
                                  Csi__V1__NodeGetCapabilitiesResponse *response, struct error *err)
{
    response->capabilities = arena_alloc(call->arena, 3 * sizeof(*response->capabilities));
    if (d->stages)
        add_capability(call, response,
                       CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME);
    if (d->expands)
        add_capability(call, response, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME);
    if (d->knows_single_node_modes)
        add_capability(call, response,
                       CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER);
    return note(d, call, err);
}

#define KEEPS(fn, Method, field)                                                    \
    static bool fn(struct driver *d, struct rpc_call *call,                         \
                   const Csi__V1__##Method##Request *request,                       \
                   Csi__V1__##Method##Response *response UNUSED, struct error *err) \
    {                                                                               \
        d->field = copy(d, &request->base);                                         \
        return note(d, call, err);                                                  \
    }                                                                               \
    RPC_HANDLER(fn, struct driver, Csi__V1__##Method##Request, Csi__V1__##Method##Response)
KEEPS(stage, NodeStageVolume, stage)
KEEPS(publish, NodePublishVolume, publish)
KEEPS(unpublish, NodeUnpublishVolume, unpublish)
KEEPS(unstage, NodeUnstageVolume, unstage)
KEEPS(expand, NodeExpandVolume, expand)
RPC_HANDLER(get_plugin_info, struct driver, Csi__V1__GetPluginInfoRequest,
            Csi__V1__GetPluginInfoResponse)
RPC_HANDLER(node_get_capabilities, struct driver, Csi__V1__NodeGetCapabilitiesRequest,
            Csi__V1__NodeGetCapabilitiesResponse)

static const struct rpc_method identity_methods[] = {
    { "GetPluginInfo", get_plugin_info_untyped, 0 },
};
static const struct rpc_method node_methods[] = {
    { "NodeStageVolume", stage_untyped, RPC_SECRET },
    { "NodeUnstageVolume", unstage_untyped, 0 },
    { "NodePublishVolume", publish_untyped, RPC_SECRET },
    { "NodeUnpublishVolume", unpublish_untyped, 0 },
    { "NodeExpandVolume", expand_untyped, RPC_SECRET },
    { "NodeGetCapabilities", node_get_capabilities_untyped, 0 },
};
static const struct rpc_service identity = { .descriptor = &csi__v1__identity__descriptor,
                                             .methods = identity_methods,
                                             .n_methods = ARRAY_LEN(identity_methods) };
static const struct rpc_service node = { .descriptor = &csi__v1__node__descriptor,
                                         .methods = node_methods,
                                         .n_methods = ARRAY_LEN(node_methods) };

/* --- workers --- */

#define PLACES "/k/up"

static struct volume_name name_of(const char *volume_id)
{
    struct volume_name name;
    struct error err = ERROR_INIT;

    assert_ok(volume_name_make("d", volume_id, &name, &err));
    return name;
}

struct device_place driver_place(const char *volume_id)
{
    const struct volume_name name = name_of(volume_id);
    struct device_place place;
    struct error err = ERROR_INIT;

    assert_ok(place_of(PLACES, &name, &place, &err));
    return place;
}

static bool hand_over(const struct block_run *run, const struct grpc_answer *answer,
                      struct error *err)
{
    static struct block_data data = { .part = BLOCK_DATA_ANSWER };

    for (size_t at = 0; at < answer->len; at += data.len) {
        size_t left = answer->len - at;

        data.len = (uint32_t)(left < BLOCK_DATA_MAX ? left : BLOCK_DATA_MAX);
        memcpy(data.bytes, answer->bytes + at, data.len);
        if (!run->hooks->data(run->hook_cookie, &data, err))
            return false;
    }
    return true;
}

static bool run_worker(void *cookie, const struct block_run *run, struct block_result *out,
                       struct error *err)
{
    static uint8_t bytes[64 * 1024];
    const struct driver *d = cookie;
    const struct block_request *r = run->request;
    const struct volume_name name = name_of(r->volume_id);
    struct grpc_answer answer = { .bytes = bytes, .size = sizeof(bytes) };
    struct grpc_question question = { .deadline_ms = r->deadline_ms - 500, .caller_fd = -1 };
    auto_secret struct secret request = SECRET_INIT;
    auto_close int fd = -1;

    if (!upstream_compose(r, &name, PLACES, run->body, &request, &question.len, err) ||
        !unix_socket_connect(d->socket, &fd, err))
        return false;
    question.path = block_upstream_path((enum block_upstream_method)r->upstream.method);
    question.request = request.bytes;
    if (!grpc_call_run(fd, &question, &answer, err))
        return false;
    out->upstream.status = answer.status;
    memcpy(out->upstream.text, answer.text, sizeof(answer.text));
    return r->operation == BLOCK_UPSTREAM_CALL || hand_over(run, &answer, err);
}

/* --- life --- */

void driver_start(struct driver *d)
{
    const struct server_options options = { .n_workers = 2, .limits = { 1 << 20, 4096, 65536 } };
    const struct server_binding bindings[] = { { &identity, d }, { &node, d } };
    struct error err = ERROR_INIT;

    d->workers = (struct workers){ run_worker, d };
    if (d->folder[0] == '\0') {
        (void)snprintf(d->folder, sizeof(d->folder), "/tmp/tdvol-upstream-XXXXXX");
        assert_non_null(mkdtemp(d->folder));
        (void)snprintf(d->socket, sizeof(d->socket), "%s/csi.sock", d->folder);
        (void)snprintf(d->lock, sizeof(d->lock), "%s/lock", d->folder);
        arena_init(&d->arena, 1u << 20);
    }
    assert_ok(server_new(&options, &d->server, &err));
    assert_ok(server_listen_unix(d->server, d->socket, d->lock, 0600, bindings, ARRAY_LEN(bindings),
                                 &err));
    assert_ok(server_start(d->server, &err));
}

void driver_stop(struct driver *d)
{
    server_stop(d->server, 1000);
    server_free(d->server);
    d->server = NULL;
    (void)unlink(d->socket);
}

void driver_end(struct driver *d)
{
    if (d->server)
        driver_stop(d);
    (void)unlink(d->lock);
    (void)rmdir(d->folder);
    arena_wipe(&d->arena);
}

size_t driver_count(const struct driver *d, const char *method)
{
    size_t n = 0;

    for (size_t i = 0; i < d->n_log; i++)
        n += strcmp(d->log[i], method) == 0;
    return n;
}
