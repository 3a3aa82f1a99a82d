/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

static bool is_alive(const struct sockaddr_un *address)
{
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return false;
    return connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) == 0 ||
           errno == EAGAIN;
}

static bool clear_path(const struct sockaddr_un *address, struct error *err)
{
    const char *path = address->sun_path;
    struct stat status;

    if (lstat(path, &status) != 0)
        return errno == ENOENT || error_set_errno(err, errno, "look at socket %s", path);
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s exists and is not a socket: remove it",
                         path);
    if (is_alive(address))
        return error_set(err, ERROR_ALREADY_EXISTS, "another process serves socket %s", path);
    return unlink(path) == 0 || errno == ENOENT ||
           error_set_errno(err, errno, "remove the dead socket %s", path);
}

bool unix_socket_connect(const char *path, int *out_fd, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return error_set_errno(err, errno, "make a socket");
    if (strlen(path) >= sizeof(address.sun_path))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the path %s is too long", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) != 0) {
        error_set_errno(err, errno, "connect to %s", path);
        err->code = ERROR_UNAVAILABLE;
        return false;
    }
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool bind_closed(int fd, const struct sockaddr_un *address)
{
    mode_t before = umask(0177); /* closed to others until it has its mode */
    int rc = bind(fd, (const struct sockaddr *)(const void *)address, sizeof(*address));

    (void)umask(before);
    return rc == 0;
}

bool unix_socket_bind(const char *path, mode_t mode, struct unix_socket *out, struct error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    auto_unix_socket struct unix_socket made = UNIX_SOCKET_INIT;

    if (strlen(path) > UNIX_SOCKET_PATH_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "socket path %s has %zu bytes, at most %d are allowed", path, strlen(path),
                         UNIX_SOCKET_PATH_MAX);
    memcpy(address.sun_path, path, strlen(path) + 1);
    made.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made.fd < 0)
        return error_set_errno(err, errno, "make socket %s", path);
    if (!clear_path(&address, err))
        return false;
    if (!bind_closed(made.fd, &address))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "cannot listen on socket %s: its folder must exist and be writable", path);
    made.file_fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (made.file_fd < 0 || chmod(path, mode) != 0)
        return error_set_errno(err, errno, "set mode %03o of socket %s", (unsigned)mode, path);
    if (listen(made.fd, BACKLOG) != 0)
        return error_set_errno(err, errno, "listen on socket %s", path);
    *out = (struct unix_socket){ TAKE_FD(made.fd), TAKE_FD(made.file_fd) };
    return true;
}

void unix_socket_close(struct unix_socket *socket)
{
    close_at(&socket->fd);
    close_at(&socket->file_fd);
}

bool unix_socket_place(const struct unix_socket *socket, char out[static PATH_MAX])
{
    char link[32];
    struct stat status;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", socket->file_fd);
    if (fstat(socket->file_fd, &status) != 0 || status.st_nlink == 0)
        return false;
    ssize_t len = readlink(link, out, PATH_MAX - 1);

    if (len < 0)
        return false;
    out[len] = '\0';
    return true;
}
