/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/listener.h"

#include "base/file.h"

#include <errno.h>
#include <grpc/grpc_security.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    SOCKET_PATH_MAX = 106, /* gRPC's limit, one less than the kernel's */
    STREAMS_MAX = 1024,    /* per connection */
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
    listener->lock_fd = -1;
    return listener;
}

void listener_free(struct listener *listener)
{
    grpc_server_destroy(listener->grpc);
    close_at(&listener->lock_fd);
    gpr_free(listener->bindings);
    gpr_free(listener);
}

static bool is_alive(const struct sockaddr_un *address)
{
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return false;
    return connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) == 0 ||
           errno == EAGAIN;
}

/* gRPC would replace any file at this path. Only a socket that no process serves may be
 * replaced. */
static bool check_socket_path(const char *path, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat status;

    if (strlen(path) > SOCKET_PATH_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "socket path %s has %zu bytes, at most %d are allowed", path, strlen(path),
                         SOCKET_PATH_MAX);
    if (lstat(path, &status) != 0)
        return errno == ENOENT || error_set_errno(err, errno, "look at socket %s", path);
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s exists and is not a socket: remove it",
                         path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (is_alive(&address))
        return error_set(err, ERROR_ALREADY_EXISTS, "another process serves socket %s", path);
    return true;
}

static bool bind_unix(struct listener *listener, const char *path, mode_t mode, struct error *err)
{
    char address[sizeof("unix:") + SOCKET_PATH_MAX];

    (void)snprintf(address, sizeof(address), "unix:%s", path);

    grpc_server_credentials *credentials = grpc_insecure_server_credentials_create();
    mode_t before = umask(0177); /* closed to others until it has its mode */
    int port = grpc_server_add_http2_port(listener->grpc, address, credentials);
    (void)umask(before);
    grpc_server_credentials_release(credentials);

    if (port == 0)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "cannot listen on socket %s: its folder must exist and be writable", path);
    if (chmod(path, mode) != 0)
        return error_set_errno(err, errno, "set mode %03o of socket %s", (unsigned)mode, path);
    return true;
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
    if (!check_socket_path(path, err) || !bind_unix(listener, path, mode, err))
        return false;
    listener->lock_fd = TAKE_FD(lock_fd);
    return true;
}
