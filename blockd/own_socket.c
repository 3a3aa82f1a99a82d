/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_socket.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The front bound its sockets as root and then gave up the right to. When the file of one was
 * removed, a worker makes it again. Only the paths that tdvol-blockd was started with count: a front
 * that was taken over must not put sockets where kubelet looks for other drivers.
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
