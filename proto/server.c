/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/server.h"

#include "base/clock.h"
#include "base/thread.h"
#include "proto/listener.h"
#include "proto/peer.h"
#include "proto/status.h"

#include <grpc/support/alloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/*
 * One poller thread takes events off gRPC's completion queue. Handlers block, so that only the
 * workers call them. Each listener has its own grpc_server on that queue, because one grpc_server
 * offers the same services on all its ports. gRPC does not answer a method that the server did not
 * ask for: the client would wait until its deadline. So every call comes in as a "generic" one, and
 * its method is looked up here.
 *
 * An armed slot waits for the next call. Each event that a struct call waits for holds it, and so
 * does the queue or the worker; the last holder frees it. gRPC aborts when memory runs out. Small
 * structs here are from its allocator, so that they do the same.
 */

enum {
    ARMED_SLOTS = 4, /* per listener */
    QUEUE_MAX = 1024,
    QUEUE_BYTES = 16 * 1024 * 1024, /* of requests that wait for a worker */
    PATH_MAX_BYTES = 128,           /* of "/package.Service/Method" */
    ARENA_BYTES = 16 * 1024 * 1024,
    SECRET_ARENA_BYTES = 1024 * 1024, /* counts against RLIMIT_MEMLOCK */
    QUOTA_BYTES = 64 * 1024 * 1024,   /* above QUEUE_BYTES plus what is arriving */
};

struct queue_event {
    void (*happened)(void *owner, bool ok);
    void *owner;
};

struct call {
    struct listener *listener;
    struct call *next; /* in the queue */
    atomic_uint holders;

    grpc_call *grpc;
    grpc_call_details details;
    grpc_metadata_array metadata;
    grpc_byte_buffer *request, *response;
    grpc_slice status_text;
    grpc_metadata reason;
    int close_flag; /* written by gRPC before closed happens */
    struct queue_event arrived, received, closed, answered;
    size_t request_bytes;

    char path[PATH_MAX_BYTES];
    const struct server_binding *binding;
    const struct rpc_method *method;
    uint64_t arrived_ms, deadline_ms;
    atomic_bool is_cancelled;
};

struct server {
    struct server_options options;
    struct listener *listeners;
    struct queue_event stopped; /* once for each listener */
    grpc_completion_queue *events;
    grpc_resource_quota *quota;
    pthread_t poller;
    pthread_t *workers;
    size_t n_workers; /* running */
    enum { NEW, STARTED, STOPPED } state;

    pthread_mutex_t lock; /* protects all members below */
    pthread_cond_t work;  /* queue or is_ending changed */
    pthread_cond_t idle;  /* n_calls or n_stopping became 0 */
    struct call *first, **last;
    size_t n_queued, queued_bytes;
    size_t n_calls; /* armed slots count, too */
    size_t n_stopping;
    bool is_ending;
};

/* --- Life of a call --- */

static void let_go(struct call *call)
{
    struct server *server = call->listener->server;

    if (atomic_fetch_sub(&call->holders, 1) > 1)
        return;
    if (call->grpc)
        grpc_call_unref(call->grpc);
    if (call->request)
        grpc_byte_buffer_destroy(call->request);
    if (call->response)
        grpc_byte_buffer_destroy(call->response);
    grpc_slice_unref(call->status_text);
    grpc_slice_unref(call->reason.value);
    grpc_call_details_destroy(&call->details);
    grpc_metadata_array_destroy(&call->metadata);
    gpr_free(call);

    (void)pthread_mutex_lock(&server->lock);
    server->n_calls--;
    (void)pthread_cond_broadcast(&server->idle);
    (void)pthread_mutex_unlock(&server->lock);
}

/* The event's handler lets go of the call. */
static void start(struct call *call, const grpc_op *ops, size_t n, struct queue_event *event)
{
    (void)atomic_fetch_add(&call->holders, 1);
    if (grpc_call_start_batch(call->grpc, ops, n, event, NULL) != GRPC_CALL_OK)
        event->happened(call, false);
}

static void call_answered(void *owner, bool ok UNUSED)
{
    let_go(owner); /* not ok: the client had gone */
}

/* response is sent only when err has no code */
static void answer(struct call *call, const struct error *err, struct rpc_bytes response)
{
    char text[STATUS_MESSAGE_MAX + 1];
    size_t text_len = status_message(err->text, text);
    grpc_op ops[3] = { { .op = GRPC_OP_SEND_INITIAL_METADATA } };
    size_t n = 1;

    if (err->code == ERROR_NONE) {
        call->response = grpc_runtime_write(response);
        ops[n++] = (grpc_op){ .op = GRPC_OP_SEND_MESSAGE,
                              .data.send_message.send_message = call->response };
    }
    call->status_text = grpc_slice_from_copied_buffer(text, text_len);
    ops[n] = (grpc_op){ .op = GRPC_OP_SEND_STATUS_FROM_SERVER };
    ops[n].data.send_status_from_server.status = (grpc_status_code)status_from_error(err->code);
    ops[n].data.send_status_from_server.status_details = &call->status_text;
    call->reason.value = peer_reason_slice(err);
    if (GRPC_SLICE_LENGTH(call->reason.value) > 0) {
        ops[n].data.send_status_from_server.trailing_metadata = &call->reason;
        ops[n].data.send_status_from_server.trailing_metadata_count = 1;
    }
    start(call, ops, n + 1, &call->answered);
}

static void refuse(struct call *call, enum error_code code, const char *why)
{
    struct error err = ERROR_INIT;

    error_set(&err, code, "%s: %s", call->path, why);
    answer(call, &err, (struct rpc_bytes){ .len = 0 });
}

static void call_closed(void *owner, bool ok UNUSED)
{
    struct call *call = owner;

    if (call->close_flag)
        atomic_store(&call->is_cancelled, true);
    let_go(call);
}

static bool enqueue(struct call *call)
{
    struct server *server = call->listener->server;
    bool has_room = false;

    (void)pthread_mutex_lock(&server->lock);
    has_room =
        server->n_queued < QUEUE_MAX && call->request_bytes <= QUEUE_BYTES - server->queued_bytes;
    if (has_room) {
        (void)atomic_fetch_add(&call->holders, 1);
        *server->last = call;
        server->last = &call->next;
        server->n_queued++;
        server->queued_bytes += call->request_bytes;
        (void)pthread_cond_signal(&server->work);
    }
    (void)pthread_mutex_unlock(&server->lock);
    return has_room;
}

static void call_received(void *owner, bool ok)
{
    struct call *call = owner;
    struct server *server = call->listener->server;

    call->request_bytes = call->request ? grpc_byte_buffer_length(call->request) : 0;
    if (!ok || !call->request)
        refuse(call, ERROR_INVALID_ARGUMENT, "the request is missing or too long");
    else if (call->request_bytes > rpc_method_limit(call->method, &server->options.limits))
        refuse(call, ERROR_RESOURCE_EXHAUSTED, "the request is too long");
    else if (!enqueue(call))
        refuse(call, ERROR_UNAVAILABLE, "too many calls are waiting: try again later");
    let_go(call);
}

static void find_method(struct call *call)
{
    const struct listener *listener = call->listener;
    size_t len = GRPC_SLICE_LENGTH(call->details.method);

    if (len >= sizeof(call->path))
        len = sizeof(call->path) - 1; /* none of our methods is that long */
    memcpy(call->path, GRPC_SLICE_START_PTR(call->details.method), len);
    for (size_t i = 0; i < listener->n_bindings && !call->method; i++) {
        call->binding = &listener->bindings[i];
        call->method = rpc_service_find(call->binding->service, call->path);
    }
}

static void arm(struct listener *listener);

static void call_arrived(void *owner, bool ok)
{
    struct call *call = owner;
    grpc_op watch = { .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
                      .data.recv_close_on_server.cancelled = &call->close_flag };
    grpc_op receive = { .op = GRPC_OP_RECV_MESSAGE,
                        .data.recv_message.recv_message = &call->request };

    if (!ok) { /* the server stops */
        let_go(call);
        return;
    }
    arm(call->listener);
    call->arrived_ms = clock_now_ms();
    call->deadline_ms = peer_deadline_ms(&call->details);
    find_method(call);
    start(call, &watch, 1, &call->closed);
    if (!call->method)
        refuse(call, ERROR_UNIMPLEMENTED, "this socket does not serve this method");
    else
        start(call, &receive, 1, &call->received);
    let_go(call);
}

static void arm(struct listener *listener)
{
    struct server *server = listener->server;
    struct call *call = gpr_zalloc(sizeof(*call));

    call->listener = listener;
    call->arrived = (struct queue_event){ call_arrived, call };
    call->received = (struct queue_event){ call_received, call };
    call->closed = (struct queue_event){ call_closed, call };
    call->answered = (struct queue_event){ call_answered, call };
    call->status_text = grpc_empty_slice();
    call->reason.key = grpc_slice_from_static_string(PEER_REASON_KEY);
    call->reason.value = grpc_empty_slice();
    atomic_init(&call->holders, 1);
    atomic_init(&call->is_cancelled, false);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);

    (void)pthread_mutex_lock(&server->lock);
    server->n_calls++;
    (void)pthread_mutex_unlock(&server->lock);
    grpc_call_error result =
        grpc_server_request_call(listener->grpc, &call->grpc, &call->details, &call->metadata,
                                 server->events, server->events, &call->arrived);
    if (result != GRPC_CALL_OK)
        let_go(call);
}

/* --- Workers --- */

static bool is_cancelled(void *cookie)
{
    const struct call *call = cookie;

    return atomic_load(&call->is_cancelled);
}

static bool run_call(struct call *call, struct rpc_call *rpc, struct rpc_bytes *out,
                     struct error *err)
{
    const struct rpc_limits *limits = &call->listener->server->options.limits;
    bool is_secret = (call->method->flags & RPC_SECRET) != 0;
    struct rpc_bytes request = { .len = 0 };

    if (atomic_load(&call->is_cancelled))
        return error_set(err, ERROR_CANCELLED, "the client gave up before %s began", call->path);
    if (!grpc_runtime_read(call->request, is_secret, rpc->arena, &request, err))
        return false;
    grpc_byte_buffer_destroy(TAKE_PTR(call->request));
    return rpc_dispatch(call->binding->service, call->method, call->binding->object, rpc, limits,
                        request, out, err);
}

static void serve(struct call *call)
{
    const struct server_options *options = &call->listener->server->options;
    auto_arena struct arena arena = { .blocks = NULL };
    static const struct rpc_peer local = { .certificate_pem = NULL };
    struct rpc_call rpc = { .method = call->path,
                            .arena = &arena,
                            .peer = &local,
                            .deadline_ms = call->deadline_ms,
                            .is_cancelled = is_cancelled,
                            .cookie = call };
    struct error err = ERROR_INIT;
    struct rpc_bytes response = { .len = 0 };

    if (call->method->flags & RPC_SECRET)
        arena_init_secret(&arena, SECRET_ARENA_BYTES);
    else
        arena_init(&arena, ARENA_BYTES);
    if (run_call(call, &rpc, &response, &err))
        err = (struct error)ERROR_INIT;
    if (options->observe)
        options->observe(options->cookie, &rpc, &err, clock_now_ms() - call->arrived_ms);
    answer(call, &err, response);
}

/* NULL when the server ends and the queue is empty. */
static struct call *dequeue(struct server *server)
{
    struct call *call = NULL;

    (void)pthread_mutex_lock(&server->lock);
    while (!server->first && !server->is_ending)
        (void)pthread_cond_wait(&server->work, &server->lock);
    call = server->first;
    if (call) {
        server->first = call->next;
        if (!server->first)
            server->last = &server->first;
        server->n_queued--;
        server->queued_bytes -= call->request_bytes;
    }
    (void)pthread_mutex_unlock(&server->lock);
    return call;
}

static void *work(void *cookie)
{
    struct call *call = NULL;

    while ((call = dequeue(cookie))) {
        serve(call);
        let_go(call);
    }
    return NULL;
}

static void *poll_events(void *cookie)
{
    struct server *server = cookie;

    for (;;) {
        gpr_timespec soon =
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(1, GPR_TIMESPAN));
        grpc_event event = grpc_completion_queue_next(server->events, soon, NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            return NULL;
        if (event.type != GRPC_OP_COMPLETE)
            continue;
        const struct queue_event *tag = event.tag;
        tag->happened(tag->owner, event.success);
    }
}

/* --- Listeners --- */

static void listener_stopped(void *owner, bool ok UNUSED)
{
    struct server *server = owner;

    (void)pthread_mutex_lock(&server->lock);
    server->n_stopping--;
    (void)pthread_cond_broadcast(&server->idle);
    (void)pthread_mutex_unlock(&server->lock);
}

/* NULL on errors. The server owns the listener, also after a failure. */
static struct listener *add_listener(struct server *server, const struct server_binding *bindings,
                                     size_t n, struct error *err)
{
    struct listener *listener = NULL;
    size_t largest = 0; /* gRPC has one limit for all methods */

    for (size_t i = 0; i < n; i++) {
        size_t limit = rpc_service_limit(bindings[i].service, &server->options.limits);

        if (!rpc_service_check(bindings[i].service, err))
            return NULL;
        largest = limit > largest ? limit : largest;
    }
    if (server->state != NEW) {
        error_set(err, ERROR_INTERNAL, "the server has started: it can bind no more sockets");
        return NULL;
    }
    listener = listener_new(server->events, server->quota, largest);
    listener->server = server;
    listener->bindings = gpr_malloc(n * sizeof(*bindings));
    memcpy(listener->bindings, bindings, n * sizeof(*bindings));
    listener->n_bindings = n;
    listener->next = server->listeners;
    server->listeners = listener;
    return listener;
}

bool server_listen_unix(struct server *server, const char *path, const char *lock_path, mode_t mode,
                        const struct server_binding *bindings, size_t n_bindings, struct error *err)
{
    struct listener *listener = add_listener(server, bindings, n_bindings, err);

    return listener && listener_bind_unix(listener, path, lock_path, mode, err);
}

static struct listener *find_listener(const struct server *server, const char *path)
{
    struct listener *l = server->listeners;

    while (l && strcmp(l->path, path) != 0)
        l = l->next;
    return l;
}

bool server_is_found(const struct server *server, const char *path)
{
    struct listener *listener = find_listener(server, path);

    return listener && listener_is_found(listener);
}

bool server_renew_unix(const struct server *server, const char *path, struct unix_socket *socket,
                       struct error *err)
{
    struct listener *listener = find_listener(server, path);

    if (!listener)
        return error_set(err, ERROR_INTERNAL, "socket %s was never bound", path);
    return listener_renew(listener, socket, err);
}

bool server_check(const struct server *server, struct error *err)
{
    for (struct listener *l = server->listeners; l; l = l->next)
        if (!listener_check(l, err))
            return false;
    return true;
}

/* --- The server --- */

bool server_new(const struct server_options *options, struct server **out, struct error *err)
{
    struct server *server = calloc(1, sizeof(*server));
    pthread_t *workers = calloc(options->n_workers, sizeof(*workers));

    if (!server || !workers) {
        free(server);
        free(workers);
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the server");
    }
    grpc_runtime_open();
    server->options = *options;
    server->workers = workers;
    server->last = &server->first;
    server->stopped = (struct queue_event){ listener_stopped, server };
    server->events = grpc_completion_queue_create_for_next(NULL);
    server->quota = grpc_resource_quota_create("server");
    grpc_resource_quota_resize(server->quota, QUOTA_BYTES);
    (void)pthread_mutex_init(&server->lock, NULL);
    condition_init(&server->work);
    condition_init(&server->idle);
    *out = server;
    return true;
}

static bool start_threads(struct server *server, struct error *err)
{
    if (!thread_start(&server->poller, "grpc-poller", poll_events, server, err))
        return false;
    server->state = STARTED;
    while (server->n_workers < server->options.n_workers) {
        if (!thread_start(&server->workers[server->n_workers], "grpc-worker", work, server, err))
            return false;
        server->n_workers++;
    }
    return true;
}

bool server_start(struct server *server, struct error *err)
{
    if (!start_threads(server, err))
        return false;
    for (struct listener *l = server->listeners; l; l = l->next) {
        grpc_server_start(l->grpc);
        for (int i = 0; i < ARMED_SLOTS; i++)
            arm(l);
        if (!listener_start(l, err))
            return false;
    }
    return true;
}

static void wait_calls(struct server *server, uint64_t limit_ms)
{
    uint64_t until_ms = clock_now_ms() + limit_ms;

    (void)pthread_mutex_lock(&server->lock);
    while (server->n_calls > 0 && clock_now_ms() < until_ms)
        condition_wait_until(&server->idle, &server->lock, until_ms);
    (void)pthread_mutex_unlock(&server->lock);
}

static void wait_all(struct server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    while (server->n_calls > 0 || server->n_stopping > 0)
        (void)pthread_cond_wait(&server->idle, &server->lock);
    (void)pthread_mutex_unlock(&server->lock);
}

static void shut_listeners(struct server *server)
{
    for (struct listener *l = server->listeners; l; l = l->next) {
        (void)pthread_mutex_lock(&server->lock);
        server->n_stopping++;
        (void)pthread_mutex_unlock(&server->lock);
        grpc_server_shutdown_and_notify(l->grpc, server->events, &server->stopped);
    }
}

static void join_workers(struct server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    server->is_ending = true;
    (void)pthread_cond_broadcast(&server->work);
    (void)pthread_mutex_unlock(&server->lock);
    while (server->n_workers > 0)
        (void)pthread_join(server->workers[--server->n_workers], NULL);
}

void server_stop(struct server *server, uint64_t grace_ms)
{
    if (server->state != STARTED)
        return;
    server->state = STOPPED;
    for (struct listener *l = server->listeners; l; l = l->next)
        listener_end(l);
    shut_listeners(server);
    wait_calls(server, grace_ms);
    /* This also closes idle connections. Otherwise gRPC waits until their clients disconnect. */
    for (struct listener *l = server->listeners; l; l = l->next)
        grpc_server_cancel_all_calls(l->grpc);
    wait_all(server);
    join_workers(server);
    grpc_completion_queue_shutdown(server->events);
    (void)pthread_join(server->poller, NULL);
}

void server_free(struct server *server)
{
    if (!server)
        return;
    server_stop(server, 0);
    if (server->state == NEW) { /* gRPC wants each listener shut down, even if not started */
        shut_listeners(server);
        grpc_completion_queue_shutdown(server->events);
        (void)poll_events(server);
    }
    while (server->listeners) {
        struct listener *listener = server->listeners;

        server->listeners = listener->next;
        listener_free(listener);
    }
    grpc_completion_queue_destroy(server->events);
    grpc_resource_quota_unref(server->quota);
    (void)pthread_cond_destroy(&server->idle);
    (void)pthread_cond_destroy(&server->work);
    (void)pthread_mutex_destroy(&server->lock);
    free(server->workers);
    free(server);
    grpc_runtime_close();
}
