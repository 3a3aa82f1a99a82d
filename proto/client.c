/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/client.h"

#include "proto/decode.h"
#include "proto/grpc_runtime.h"
#include "proto/peer.h"
#include "proto/status.h"

#include <ctype.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TARGET_BYTES = 512,
    METHOD_BYTES = 128,
    ANSWER_BYTES = 16 * 1024 * 1024, /* a page of a listing */
    TEXT_BYTES = 64 * 1024,
};

struct client {
    grpc_channel *channel;
};

/* A target is a URI, so characters with a meaning in URIs are escaped in the path. */
static bool write_target(const char *target, char out[static TARGET_BYTES], struct error *err)
{
    size_t len = 0;

    for (const char *c = target; *c; c++) {
        bool is_plain = isalnum((unsigned char)*c) || strchr("/:.-_~[]", *c);
        size_t room = TARGET_BYTES - len;
        int n = snprintf(out + len, room, is_plain ? "%c" : "%%%02X", (unsigned char)*c);

        if (n < 0 || (size_t)n >= room)
            return error_set(err, ERROR_INVALID_ARGUMENT, "address %s is too long", target);
        len += (size_t)n;
    }
    return true;
}

static grpc_channel_credentials *make_credentials(const struct client_tls *tls, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT; /* with the NUL that gRPC wants */

    if (!tls)
        return grpc_insecure_credentials_create();
    if (!secret_alloc(&key, tls->private_key_pem->len + 1, err))
        return NULL;
    memcpy(key.bytes, tls->private_key_pem->bytes, tls->private_key_pem->len);

    grpc_ssl_pem_key_cert_pair pair = { (const char *)key.bytes, tls->certificate_pem };
    return grpc_ssl_credentials_create(tls->ca_pem, &pair, NULL, NULL);
}

static grpc_channel *make_channel(const char *target, const char *server_name,
                                  grpc_channel_credentials *credentials)
{
    grpc_arg args[] = {
        grpc_runtime_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, ANSWER_BYTES),
        grpc_runtime_int(GRPC_ARG_MAX_METADATA_SIZE,
                         64 * 1024), /* other plugins send long status messages */
        grpc_runtime_int(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200),
        grpc_runtime_int(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                         5000), /* also the limit for connecting */
        grpc_runtime_int(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000),
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIME_MS, 30000),
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000),
        grpc_runtime_int(GRPC_ARG_ENABLE_HTTP_PROXY,
                         0), /* the environment must not choose our peers */
        /* a client with a new key needs a new connection */
        grpc_runtime_int(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        grpc_runtime_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
        grpc_runtime_int(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0),
        grpc_runtime_text(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG, server_name),
    };
    size_t n = server_name ? ARRAY_LEN(args) : ARRAY_LEN(args) - 1;
    grpc_channel_args all = { n, args };

    return grpc_channel_create(target, credentials, &all);
}

bool client_new(const char *target, const struct client_tls *tls, struct client **out,
                struct error *err)
{
    char uri[TARGET_BYTES] = "";
    struct client *client = NULL;

    if (!write_target(target, uri, err))
        return false;
    client = calloc(1, sizeof(*client));
    if (!client)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a client of %s", target);
    grpc_runtime_open();
    err->code = ERROR_NONE;
    grpc_channel_credentials *credentials = make_credentials(tls, err);
    if (credentials) {
        client->channel = make_channel(uri, tls ? tls->server_name : NULL, credentials);
        grpc_channel_credentials_release(credentials);
    }
    if (!client->channel) {
        client_free(client);
        return err->code != ERROR_NONE
                   ? error_wrap(err, "make a client of %s", target)
                   : error_set(err, ERROR_INVALID_ARGUMENT,
                               "%s: the address, the certificate or the key is not usable", target);
    }
    *out = client;
    return true;
}

void client_free(struct client *client)
{
    if (!client)
        return;
    if (client->channel)
        grpc_channel_destroy(client->channel);
    free(client);
    grpc_runtime_close();
}

/* A call in progress. Its operations fill it. */
struct exchange {
    grpc_completion_queue *events;
    grpc_call *call;
    grpc_byte_buffer *request, *answer;
    grpc_metadata_array initial, trailing;
    grpc_slice text;
    grpc_status_code status;
};

static void end_exchange(struct exchange *x)
{
    if (x->call)
        grpc_call_unref(x->call);
    if (x->request)
        grpc_byte_buffer_destroy(x->request);
    if (x->answer)
        grpc_byte_buffer_destroy(x->answer);
    grpc_metadata_array_destroy(&x->initial);
    grpc_metadata_array_destroy(&x->trailing);
    grpc_slice_unref(x->text);
    grpc_completion_queue_shutdown(x->events);
    grpc_completion_queue_destroy(x->events);
}
#define auto_exchange CLEANUP(end_exchange)

static gpr_timespec deadline_after(uint64_t timeout_ms)
{
    if (timeout_ms > INT32_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis((int64_t)timeout_ms, GPR_TIMESPAN));
}

/* Returns when the call has ended, at the latest at its deadline. */
static bool run(struct exchange *x)
{
    grpc_op ops[6] = {
        { .op = GRPC_OP_SEND_INITIAL_METADATA },  { .op = GRPC_OP_SEND_MESSAGE },
        { .op = GRPC_OP_SEND_CLOSE_FROM_CLIENT }, { .op = GRPC_OP_RECV_INITIAL_METADATA },
        { .op = GRPC_OP_RECV_MESSAGE },           { .op = GRPC_OP_RECV_STATUS_ON_CLIENT }
    };

    ops[1].data.send_message.send_message = x->request;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &x->initial;
    ops[4].data.recv_message.recv_message = &x->answer;
    ops[5].data.recv_status_on_client.trailing_metadata = &x->trailing;
    ops[5].data.recv_status_on_client.status = &x->status;
    ops[5].data.recv_status_on_client.status_details = &x->text;
    if (grpc_call_start_batch(x->call, ops, ARRAY_LEN(ops), x, NULL) != GRPC_CALL_OK)
        return false;
    (void)grpc_completion_queue_pluck(x->events, x, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    return true;
}

static bool peer_error(const struct exchange *x, const char *method, struct error *err)
{
    enum error_code code = status_to_error((int)x->status);
    int len = (int)GRPC_SLICE_LENGTH(x->text);

    if (len == 0)
        error_set(err, code, "%s: %s", method, error_code_name(code));
    else
        error_set(err, code, "%.*s", len, (const char *)GRPC_SLICE_START_PTR(x->text));
    peer_reason_take(&x->trailing, err);
    return false;
}

static bool read_answer(struct exchange *x, const ProtobufCMethodDescriptor *description,
                        struct arena *arena, ProtobufCMessage **out, struct error *err)
{
    static const struct rpc_limits limits = { ANSWER_BYTES, TEXT_BYTES, TEXT_BYTES };
    struct rpc_bytes answer = { .len = 0 };

    if (!x->answer)
        return error_set(err, ERROR_INTERNAL, "%s: the answer is empty", description->name);
    if (!grpc_runtime_read(x->answer, arena->secret, arena, &answer, err))
        return false;
    if (!rpc_decode(description->output, &limits, answer, arena, out, err)) {
        if (err->code == ERROR_INVALID_ARGUMENT) /* it is not about the caller's argument */
            err->code = ERROR_INTERNAL;
        return error_wrap(err, "%s: bad answer", description->name);
    }
    return true;
}

static grpc_byte_buffer *pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));

    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return buffer;
}

bool client_ask(struct client *client, const struct client_question *question, struct arena *arena,
                struct client_reply *out, struct error *err)
{
    const ProtobufCMethodDescriptor *description =
        protobuf_c_service_descriptor_get_method_by_name(question->service, question->method);
    char path[METHOD_BYTES];
    struct rpc_peer peer = { .certificate_pem = NULL };
    ProtobufCMessage *message = NULL;

    if (!description || description->input != question->request->descriptor)
        return error_set(err, ERROR_INTERNAL, "%s has no method %s for %s", question->service->name,
                         question->method, question->request->descriptor->name);
    (void)snprintf(path, sizeof(path), "/%s/%s", question->service->name, question->method);

    auto_exchange struct exchange x = {
        .events = grpc_completion_queue_create_for_pluck(NULL),
        .request = pack(question->request),
        .text = grpc_empty_slice(),
    };
    grpc_metadata_array_init(&x.initial);
    grpc_metadata_array_init(&x.trailing);
    grpc_slice path_slice = grpc_slice_from_copied_string(path);
    x.call = grpc_channel_create_call(client->channel, NULL, GRPC_PROPAGATE_DEFAULTS, x.events,
                                      path_slice, NULL, deadline_after(question->timeout_ms), NULL);
    grpc_slice_unref(path_slice);
    if (!run(&x))
        return error_set(err, ERROR_INTERNAL, "%s: gRPC refuses the call", path);
    if (x.status != GRPC_STATUS_OK)
        return peer_error(&x, path, err);
    if (!read_answer(&x, description, arena, &message, err) ||
        !peer_read(x.call, arena, &peer, err))
        return false;
    *out = (struct client_reply){ message, peer.certificate_pem };
    return true;
}

bool client_call(struct client *client, const ProtobufCServiceDescriptor *service,
                 const char *method, const ProtobufCMessage *request, uint64_t timeout_ms,
                 struct arena *arena, ProtobufCMessage **response, struct error *err)
{
    const struct client_question question = { service, method, request, timeout_ms };
    struct client_reply reply = { .message = NULL };

    if (!client_ask(client, &question, arena, &reply, err))
        return false;
    *response = reply.message;
    return true;
}
