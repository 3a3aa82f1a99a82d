/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/held_path.h"
#include "blockd/operation.h"
#include "blockd/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the kernel says of volumes, and other small things the front cannot do itself. */

bool operation_inspect(struct worker *worker, struct block_result *out, struct error *err)
{
    if (!volume_status(&worker->name, &out->status, err))
        return false;
    out->size_bytes = out->status.size_bytes;
    return true;
}

static bool list_one(void *cookie, const struct volume_name *name, const struct stage_file *staged,
                     struct error *err)
{
    const struct worker *worker = cookie;
    struct volume_device device;
    bool found = false;
    if (!volume_find(name, &found, &device, err))
        return false;
    return !found || !staged->complete ||
           worker_event(worker, BLOCK_EVENT_STAGED, staged->volume_id, 0, 0, err);
}

bool operation_list(struct worker *worker, struct block_result *out, struct error *err)
{
    (void)out;
    return stage_file_each(worker->config->state_dir, list_one, worker, err);
}

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
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is no socket", place.path);
    if (found && unlinkat(place.folder_fd, place.name, 0) != 0 && errno != ENOENT)
        return error_set_errno(err, errno, "remove %s", place.path);
    return true;
}
