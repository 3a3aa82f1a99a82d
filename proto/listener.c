/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/listener.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "proto/grpc_ping.h"

#include <errno.h>
#include <grpc/grpc_posix.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    STREAMS_MAX = 1024, /* per connection */
    BEAT_MS = 1000,     /* the thread shows at least so often that it lives */
    SILENT_MS = 5000,   /* without that it is dead */
    DEAF_MS = 100,
    PING_MS = 4000,
};

static grpc_server *make_grpc_server(grpc_completion_queue *events, grpc_resource_quota *quota,
                                     size_t message_bytes)
{
    grpc_arg args[] = {
        grpc_runtime_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, (int)message_bytes),
        grpc_runtime_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
        /* no compression: a small message must not become a large one */
        grpc_runtime_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                         1 << GRPC_COMPRESS_NONE),
        grpc_runtime_int(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, 10000),
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIME_MS, 60000), /* finds dead clients */
        grpc_runtime_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 20000),
        grpc_runtime_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000),
        grpc_runtime_int(GRPC_ARG_ENABLE_CHANNELZ, 0),
        grpc_runtime_int(GRPC_ARG_MAX_CHANNEL_TRACE_EVENT_MEMORY_PER_NODE, 0),
        { .type = GRPC_ARG_POINTER,
          .key = (char *)(uintptr_t)GRPC_ARG_RESOURCE_QUOTA,
          .value.pointer = { quota, grpc_resource_quota_arg_vtable() } },
    };
    grpc_channel_args all = { ARRAY_LEN(args), args };
    grpc_server *grpc = grpc_server_create(&all, NULL);

    grpc_server_register_completion_queue(grpc, events, NULL);
    return grpc;
}

struct listener *listener_new(grpc_completion_queue *events, grpc_resource_quota *quota,
                              size_t message_bytes)
{
    struct listener *listener = gpr_zalloc(sizeof(*listener)); /* aborts when memory runs out */

    listener->grpc = make_grpc_server(events, quota, message_bytes);
    listener->credentials = grpc_insecure_server_credentials_create();
    listener->lock_fd = -1;
    listener->socket = (struct unix_socket)UNIX_SOCKET_INIT;
    listener->fresh = (struct unix_socket)UNIX_SOCKET_INIT;
    listener->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    (void)pthread_mutex_init(&listener->lock, NULL);
    return listener;
}

void listener_free(struct listener *listener)
{
    listener_end(listener);
    grpc_server_destroy(listener->grpc);
    grpc_server_credentials_release(listener->credentials);
    close_at(&listener->lock_fd);
    close_at(&listener->wake_fd);
    (void)pthread_mutex_destroy(&listener->lock);
    gpr_free(listener->bindings);
    gpr_free(listener);
}

static void ring(const struct listener *listener)
{
    const uint64_t one = 1;

    (void)!write(listener->wake_fd, &one, sizeof(one)); /* fails only when it is awake already */
}

bool listener_bind_unix(struct listener *listener, const char *path, const char *lock_path,
                        mode_t mode, struct error *err)
{
    auto_close int lock_fd = -1;

    if (!file_lock(lock_path, false, &lock_fd, err)) {
        if (err->code == ERROR_ABORTED)
            return error_set(err, ERROR_ALREADY_EXISTS,
                             "another process serves socket %s: it holds %s", path, lock_path);
        return false;
    }
    if (!unix_socket_bind(path, mode, &listener->socket, err))
        return false;
    if (!unix_socket_place(&listener->socket, listener->place))
        return error_set(err, ERROR_ABORTED, "socket %s was removed at once", path);
    memcpy(listener->path, path, strlen(path) + 1);
    listener->lock_fd = TAKE_FD(lock_fd);
    return true;
}

/* --- The thread --- */

static void hand_over(struct listener *listener, int fd)
{
    grpc_server_add_channel_from_fd(listener->grpc, fd, listener->credentials);
}

/* True when there was a client. */
static bool accept_one(struct listener *listener)
{
    int fd = accept4(listener->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0)
        hand_over(listener, fd);
    return fd >= 0;
}

/* False when the thread has to end. Only this thread changes socket. */
static bool take_news(struct listener *listener)
{
    uint64_t count = 0;

    (void)!read(listener->wake_fd, &count, sizeof(count));
    (void)pthread_mutex_lock(&listener->lock);
    if (listener->fresh.fd >= 0) {
        unix_socket_close(&listener->socket);
        listener->socket = listener->fresh;
        listener->fresh = (struct unix_socket)UNIX_SOCKET_INIT;
    }
    bool goes_on = !listener->is_ending;

    (void)pthread_mutex_unlock(&listener->lock);
    return goes_on;
}

static void *accept_clients(void *cookie)
{
    struct listener *listener = cookie;
    bool is_deaf = false; /* no descriptors are left: the socket stays readable, so do not spin */

    do {
        struct pollfd fds[] = { { .fd = listener->wake_fd, .events = POLLIN },
                                { .fd = is_deaf ? -1 : listener->socket.fd, .events = POLLIN } };

        atomic_store(&listener->beat_ms, clock_now_ms());
        (void)poll(fds, ARRAY_LEN(fds), is_deaf ? DEAF_MS : BEAT_MS);
        is_deaf = fds[1].revents != 0 && !accept_one(listener) && errno != EAGAIN;
    } while (take_news(listener));
    return NULL;
}

bool listener_start(struct listener *listener, struct error *err)
{
    atomic_store(&listener->beat_ms, clock_now_ms());
    listener->has_thread =
        thread_start(&listener->thread, "grpc-accept", accept_clients, listener, err);
    return listener->has_thread;
}

/* As gRPC does it. A process without rights to the folder cannot, and leaves the file. */
static void remove_file(struct listener *listener)
{
    if (listener->path[0] != '\0' && listener_is_found(listener))
        (void)unlink(listener->path);
}

void listener_end(struct listener *listener)
{
    (void)pthread_mutex_lock(&listener->lock);
    listener->is_ending = true;
    (void)pthread_mutex_unlock(&listener->lock);
    ring(listener);
    if (listener->has_thread)
        (void)pthread_join(listener->thread, NULL);
    listener->has_thread = false;
    remove_file(listener);
    unix_socket_close(&listener->socket);
    unix_socket_close(&listener->fresh);
}

/* --- Is it well? --- */

bool listener_is_found(struct listener *listener)
{
    char place[PATH_MAX];

    (void)pthread_mutex_lock(&listener->lock);
    bool is_found =
        unix_socket_place(listener->fresh.fd >= 0 ? &listener->fresh : &listener->socket, place);

    (void)pthread_mutex_unlock(&listener->lock);
    return is_found && strcmp(place, listener->place) == 0;
}

bool listener_renew(struct listener *listener, struct unix_socket *socket, struct error *err)
{
    char place[PATH_MAX];

    if (!unix_socket_place(socket, place) || strcmp(place, listener->place) != 0)
        return error_set(err, ERROR_INTERNAL, "the new socket is not at %s", listener->place);
    (void)pthread_mutex_lock(&listener->lock);
    unix_socket_close(&listener->fresh);
    listener->fresh = (struct unix_socket){ TAKE_FD(socket->fd), TAKE_FD(socket->file_fd) };
    (void)pthread_mutex_unlock(&listener->lock);
    ring(listener);
    return true;
}

bool listener_check(struct listener *listener, struct error *err)
{
    uint64_t beat_ms = atomic_load(&listener->beat_ms); /* first: it may beat meanwhile */
    uint64_t silent_ms = clock_now_ms() - beat_ms;
    int pair[2];

    if (silent_ms > SILENT_MS)
        return error_set(err, ERROR_UNAVAILABLE,
                         "socket %s is dead: its thread has hung for %" PRIu64 " s", listener->path,
                         silent_ms / 1000);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return error_set_errno(err, errno, "make a connection to ourselves");
    auto_close int ours = pair[0];

    hand_over(listener, pair[1]);
    return grpc_ping(ours, PING_MS) ||
           error_set(err, ERROR_UNAVAILABLE, "socket %s is dead: gRPC does not answer",
                     listener->path);
}
