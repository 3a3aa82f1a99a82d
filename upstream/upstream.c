/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/upstream.h"

#include "base/clock.h"
#include "base/fault.h"
#include "proto/client.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 63 /* of a CSI driver */
#define KNOWN_MAX      64 /* capabilities have small numbers */

/* Capabilities as bits by their numbers. */
struct known {
    bool is_set;
    uint64_t bits;
};

struct upstream {
    struct client *client; /* NULL: only by workers */
    struct upstream_options options;
    pthread_mutex_t lock; /* guards what follows */
    char name[NAME_MAX_BYTES + 1];
    struct known controller, node;
    size_t n_calls; /* that wait for the driver */
    char socket[];
};

bool upstream_new(const struct upstream_options *options, struct upstream **out, struct error *err)
{
    size_t len = strlen(options->socket) + 1;
    auto_free struct upstream *upstream = calloc(1, sizeof(*upstream) + len);

    if (!upstream)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a client of %s",
                         options->socket);
    memcpy(upstream->socket, options->socket, len);
    upstream->options = *options;
    if (options->target && !client_new(options->target, NULL, &upstream->client, err))
        return false;
    (void)pthread_mutex_init(&upstream->lock, NULL);
    *out = TAKE_PTR(upstream);
    return true;
}

void upstream_free(struct upstream *upstream)
{
    if (!upstream)
        return;
    client_free(upstream->client);
    (void)pthread_mutex_destroy(&upstream->lock);
    free(upstream);
}

/* --- calls --- */

static uint64_t time_for(uint64_t deadline_ms)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;

    if (left_ms > UPSTREAM_LIMIT_MS)
        return UPSTREAM_LIMIT_MS;
    return left_ms > UPSTREAM_LEAST_MS + UPSTREAM_MARGIN_MS ? left_ms - UPSTREAM_MARGIN_MS
                                                            : UPSTREAM_LEAST_MS;
}

/* Another version of the driver may come back. */
static void forget(struct upstream *upstream)
{
    (void)pthread_mutex_lock(&upstream->lock);
    upstream->controller = upstream->node = (struct known){ .is_set = false };
    (void)pthread_mutex_unlock(&upstream->lock);
}

static void note(struct upstream *upstream, const char *method, uint64_t began_ms,
                 enum error_code code)
{
    const struct upstream_options *o = &upstream->options;

    if (o->observe)
        o->observe(o->cookie, method, code, clock_now_ms() - began_ms);
    if (code == ERROR_UNAVAILABLE)
        forget(upstream);
}

static bool is_closing(const char *method)
{
    static const char *const closing[] = { "NodeUnpublishVolume", "NodeUnstageVolume",
                                           "ControllerUnpublishVolume" };

    for (size_t i = 0; i < ARRAY_LEN(closing); i++)
        if (strcmp(method, closing[i]) == 0)
            return true;
    return false;
}

static bool enter(struct upstream *upstream, const char *method, struct error *err)
{
    size_t threads = upstream->options.threads;
    size_t most = is_closing(method) ? UPSTREAM_CLOSING_SHARE(threads) : UPSTREAM_SHARE(threads);

    (void)pthread_mutex_lock(&upstream->lock);
    size_t n_calls = upstream->n_calls;
    bool may = threads == 0 || n_calls < most;
    if (may)
        upstream->n_calls++;
    (void)pthread_mutex_unlock(&upstream->lock);
    return may || error_set(err, ERROR_UNAVAILABLE,
                            "%zu calls wait for this driver, so %s was not called: it is slow, or "
                            "hangs",
                            n_calls, method);
}

static void leave(struct upstream *upstream)
{
    (void)pthread_mutex_lock(&upstream->lock);
    upstream->n_calls--;
    (void)pthread_mutex_unlock(&upstream->lock);
}

/* Without the driver's name in errors. */
static bool ask(struct upstream *upstream, const ProtobufCServiceDescriptor *service,
                const char *method, const ProtobufCMessage *request, uint64_t deadline_ms,
                struct arena *arena, ProtobufCMessage **response, struct error *err)
{
    const struct workers *workers = upstream->options.workers;
    bool by_worker = workers && (!upstream->client || service == &csi__v1__node__descriptor);
    uint64_t began_ms = clock_now_ms(), limit_ms = time_for(deadline_ms);

    if (!enter(upstream, method, err))
        return false;
    FAULT_BEFORE("Upstream", method);
    bool done = by_worker ? by_worker_read(workers, service, method, limit_ms, arena, response, err)
                          : client_call(upstream->client, service, method, request, limit_ms, arena,
                                        response, err);
    leave(upstream);
    note(upstream, method, began_ms, done ? ERROR_NONE : err->code);
    return done;
}

static bool is_named(struct upstream *upstream)
{
    (void)pthread_mutex_lock(&upstream->lock);
    bool named = upstream->name[0] != '\0';
    (void)pthread_mutex_unlock(&upstream->lock);
    return named;
}

/* Best effort: without it, errors name the socket. */
static void learn_name(struct upstream *upstream, uint64_t deadline_ms, struct arena *arena)
{
    const Csi__V1__GetPluginInfoRequest request = CSI__V1__GET_PLUGIN_INFO_REQUEST__INIT;
    struct error ignored = ERROR_INIT;
    ProtobufCMessage *response = NULL;

    if (is_named(upstream) || !ask(upstream, &csi__v1__identity__descriptor, "GetPluginInfo",
                                   &request.base, deadline_ms, arena, &response, &ignored))
        return;
    const Csi__V1__GetPluginInfoResponse *info = (const Csi__V1__GetPluginInfoResponse *)response;

    (void)pthread_mutex_lock(&upstream->lock);
    if (upstream->name[0] == '\0') /* it never changes: upstream_name() hands it out */
        (void)snprintf(upstream->name, sizeof(upstream->name), "%.63s", info->name);
    (void)pthread_mutex_unlock(&upstream->lock);
}

const char *upstream_name(struct upstream *upstream)
{
    return is_named(upstream) ? upstream->name : upstream->socket;
}

static bool explain(struct upstream *upstream, struct error *err)
{
    if (err->code == ERROR_UNAVAILABLE && is_named(upstream))
        return error_wrap(err, "%s at %s", upstream->name, upstream->socket);
    return error_wrap(err, "%s", upstream_name(upstream));
}

bool upstream_call(struct upstream *upstream, const ProtobufCServiceDescriptor *service,
                   const char *method, const ProtobufCMessage *request, uint64_t deadline_ms,
                   struct arena *arena, ProtobufCMessage **response, struct error *err)
{
    learn_name(upstream, deadline_ms, arena);
    return ask(upstream, service, method, request, deadline_ms, arena, response, err) ||
           explain(upstream, err);
}

bool upstream_call_node(struct upstream *upstream, const struct upstream_node_call *call,
                        uint64_t deadline_ms, struct arena *arena, struct error *err)
{
    learn_name(upstream, deadline_ms, arena);
    uint64_t began_ms = clock_now_ms();

    if (!enter(upstream, call->method, err))
        return explain(upstream, err);
    FAULT_BEFORE("Upstream", call->method);
    bool done = by_worker_call(upstream->options.workers, call, time_for(deadline_ms), arena, err);
    leave(upstream);
    note(upstream, call->method, began_ms, done ? ERROR_NONE : err->code);
    return done || explain(upstream, err);
}

/* --- capabilities --- */

static uint64_t bit(unsigned capability)
{
    return capability < KNOWN_MAX ? UINT64_C(1) << capability : 0;
}

static struct known recall(struct upstream *upstream, const struct known *kept)
{
    (void)pthread_mutex_lock(&upstream->lock);
    struct known known = *kept;
    (void)pthread_mutex_unlock(&upstream->lock);
    return known;
}

static void keep(struct upstream *upstream, struct known *kept, uint64_t bits)
{
    (void)pthread_mutex_lock(&upstream->lock);
    *kept = (struct known){ .is_set = true, .bits = bits };
    (void)pthread_mutex_unlock(&upstream->lock);
}

/* One of the services that tells what it can do. */
struct capability_question {
    const ProtobufCServiceDescriptor *service;
    const char *method;
    const ProtobufCMessage *request;
    uint64_t (*bits_of)(const ProtobufCMessage *response);
};

static bool can(struct upstream *upstream, struct known *kept,
                const struct capability_question *question, unsigned capability,
                uint64_t deadline_ms, bool *yes, struct error *err)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct known known = recall(upstream, kept);
    ProtobufCMessage *response = NULL;

    if (!known.is_set) {
        if (!upstream_call(upstream, question->service, question->method, question->request,
                           deadline_ms, &arena, &response, err))
            return false;
        known.bits = question->bits_of(response);
        keep(upstream, kept, known.bits);
    }
    *yes = (known.bits & bit(capability)) != 0;
    return true;
}

static uint64_t controller_bits(const ProtobufCMessage *response)
{
    const Csi__V1__ControllerGetCapabilitiesResponse *answer =
        (const Csi__V1__ControllerGetCapabilitiesResponse *)response;
    uint64_t bits = 0;

    for (size_t i = 0; i < answer->n_capabilities; i++)
        if (answer->capabilities[i]->type_case == CSI__V1__CONTROLLER_SERVICE_CAPABILITY__TYPE_RPC)
            bits |= bit((unsigned)answer->capabilities[i]->rpc->type);
    return bits;
}

bool upstream_controller_can(struct upstream *upstream,
                             Csi__V1__ControllerServiceCapability__RPC__Type capability,
                             uint64_t deadline_ms, bool *yes, struct error *err)
{
    const Csi__V1__ControllerGetCapabilitiesRequest request =
        CSI__V1__CONTROLLER_GET_CAPABILITIES_REQUEST__INIT;
    const struct capability_question question = { &csi__v1__controller__descriptor,
                                                  "ControllerGetCapabilities", &request.base,
                                                  controller_bits };

    return can(upstream, &upstream->controller, &question, (unsigned)capability, deadline_ms, yes,
               err);
}

static uint64_t node_bits(const ProtobufCMessage *response)
{
    const Csi__V1__NodeGetCapabilitiesResponse *answer =
        (const Csi__V1__NodeGetCapabilitiesResponse *)response;
    uint64_t bits = 0;

    for (size_t i = 0; i < answer->n_capabilities; i++)
        if (answer->capabilities[i]->type_case == CSI__V1__NODE_SERVICE_CAPABILITY__TYPE_RPC)
            bits |= bit((unsigned)answer->capabilities[i]->rpc->type);
    return bits;
}

bool upstream_node_can(struct upstream *upstream,
                       Csi__V1__NodeServiceCapability__RPC__Type capability, uint64_t deadline_ms,
                       bool *yes, struct error *err)
{
    const Csi__V1__NodeGetCapabilitiesRequest request =
        CSI__V1__NODE_GET_CAPABILITIES_REQUEST__INIT;
    const struct capability_question question = { &csi__v1__node__descriptor, "NodeGetCapabilities",
                                                  &request.base, node_bits };

    return can(upstream, &upstream->node, &question, (unsigned)capability, deadline_ms, yes, err);
}
