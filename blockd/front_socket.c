/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/unix_socket.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * The front bound its sockets as root and then gave up the right to. When the file of one was
 * removed, a worker makes it again; when the front ends, a worker removes it. Only the paths that
 * tdvol-blockd was started with count: a front that was taken over must not put sockets where kubelet
 * looks for other drivers.
 */

static const struct worker_socket *find_socket(const struct worker_config *config, const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(config->sockets); i++)
        if (config->sockets[i].path && strcmp(config->sockets[i].path, path) == 0)
            return &config->sockets[i];
    return NULL;
}

bool operation_socket(struct worker *worker, struct block_result *out, struct error *err)
{
    const char *path = worker->request->path;
    const struct worker_socket *own = find_socket(worker->config, path);
    auto_unix_socket struct unix_socket socket = UNIX_SOCKET_INIT;

    if (!own)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not a socket of this plugin", path);
    if (!unix_socket_bind(path, 0600, &socket, err))
        return false;
    if (own->group != 0 && (chown(path, (uid_t)-1, own->group) != 0 || chmod(path, 0660) != 0))
        return error_set_errno(err, errno, "give socket %s to group %u", path,
                               (unsigned)own->group);
    out->n_fds = BLOCK_FDS_MAX;
    out->fds[0] = TAKE_FD(socket.fd); /* the process ends after its answer, and they are closed */
    out->fds[1] = TAKE_FD(socket.file_fd);
    return true;
}

/* The administrator chose this folder: links in its path are the administrator's, too. */
static bool open_folder(const char *path, const char **name, int *out_fd, struct error *err)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (!slash || !slash[1] || slash - path >= PATH_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is no path of a socket", path);
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path), path);
    *name = slash + 1;
    *out_fd = open(folder[0] ? folder : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return *out_fd >= 0 || error_set_errno(err, errno, "%s", folder);
}

/* Who listens tells the kernel its process id. Nobody listens at a socket that was left over. */
static bool check_listener(int folder_fd, const char *name, pid_t front, struct error *err)
{
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct ucred owner = { .pid = 0 };
    socklen_t len = sizeof(owner);
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", folder_fd,
                     name);

    if (n < 0 || (size_t)n >= sizeof(address.sun_path))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the name of the socket is too long");
    if (fd < 0)
        return error_set_errno(err, errno, "make a socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0)
        return errno == ECONNREFUSED || errno == ENOENT ||
               error_set_errno(err, errno, "look who listens at the socket");
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &owner, &len) != 0)
        return error_set_errno(err, errno, "look who listens at the socket");
    /* A worker that bound it again has ended, and the front listens. */
    return owner.pid == front || (kill(owner.pid, 0) != 0 && errno == ESRCH) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "another process (%d) listens at the socket, so it was not removed",
                     owner.pid);
}

/* Somebody else may have bound a socket there meanwhile: that one stays. */
bool operation_unlink(struct worker *worker, struct block_result *out, struct error *err)
{
    const char *path = worker->request->path, *name = NULL;
    auto_close int folder_fd = -1;
    struct stat st = { 0 };

    if (!find_socket(worker->config, path))
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is no socket of tdvol-csi", path);
    if (!open_folder(path, &name, &folder_fd, err)) {
        out->already = err->code == ERROR_NOT_FOUND;
        return out->already;
    }
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        out->already = errno == ENOENT;
        return out->already || error_set_errno(err, errno, "%s", path);
    }
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is not a socket", path);
    if (!check_listener(folder_fd, name, worker->config->front_pid, err))
        return error_wrap(err, "%s", path);
    if (unlinkat(folder_fd, name, 0) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", path);
    return true;
}
