/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/held_path.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <errno.h>
#include <unistd.h>

/* The front binds its sockets as root, but has no right to remove them when it ends. */

bool operation_unlink(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;
    struct stat st = { 0 };
    bool found = false;

    if (!held_path_open(&worker->config->mount_roots, worker->request->path, &place, err)) {
        out->already = err->code == ERROR_NOT_FOUND;
        return out->already;
    }
    if (!held_path_stat(&place, &found, &st, err))
        return false;
    out->already = !found;
    if (found && !S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is not a socket", place.path);
    if (found && unlinkat(place.folder_fd, place.name, 0) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", place.path);
    return true;
}
