/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "blockd/backing_file.h"
#include "blockd/operation.h"
#include "blockd/space.h"
#include "blockd/staged.h"

/* The files of the local backend: create, delete, copy, resize, capacity. */

/* Where the file system cannot share extents, a volume in use is copied while it is suspended. Its
 * pods wait meanwhile. This limit on its allocated bytes keeps the wait to some ten seconds on a
 * slow disk. */
#define LIVE_COPY_MAX_BYTES (8ull << 30)

static bool open_folder(const struct worker *worker, int *out_fd, struct error *err)
{
    return backing_open_folder(worker->config->local_dir, out_fd, err);
}

bool operation_create(struct worker *worker, struct block_result *out, struct error *err)
{
    const struct block_request *request = worker->request;
    auto_close int folder_fd = -1;

    out->size_bytes = request->size_bytes;
    return open_folder(worker, &folder_fd, err) &&
           backing_create(folder_fd, request->volume_id, request->size_bytes, request->reserve,
                          &out->already, err);
}

/* Checks that neither a mapping nor a loop device uses the file. */
static bool check_unused(const struct worker *worker, struct error *err)
{
    struct volume_device device;
    char loop[LOOP_PATH_LEN];
    bool found = false;

    if (!volume_find(&worker->name, &found, &device, err))
        return false;
    if (found)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is staged");
    if (!space_file.find_user(worker, &found, loop, err))
        return false;
    return !found ||
           error_set(err, ERROR_FAILED_PRECONDITION, "the backing file is in use by %s", loop);
}

/* What the state file keeps of how the volume ended is for the broker alone to forget: the file that
 * is deleted here may come back as an older copy. */
static bool remove_state(const struct worker *worker, struct error *err)
{
    static struct stage_file state;
    bool found = false;

    if (!stage_file_read(worker->config->state_dir, &worker->name, &found, &state, err))
        return false;
    bool is_kept = found && state.ended.is_set;
    stage_file_wipe(&state);
    return is_kept || stage_file_remove(worker->config->state_dir, &worker->name, err);
}

bool operation_delete(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_close int folder_fd = -1;
    struct error ignored = ERROR_INIT;

    /* CSI DeleteVolume: an id that we never give out is a volume that does not exist. */
    out->already = !backing_check_id(worker->request->volume_id, &ignored);
    return out->already ||
           (open_folder(worker, &folder_fd, err) && check_unused(worker, err) &&
            backing_delete(folder_fd, worker->request->volume_id, &out->already, err) &&
            remove_state(worker, err));
}

/* Open all files and allocate all memory before the volume is suspended. In between only a bug can
 * end this process; blockd then resumes the volume. */
static bool copy_live(const struct worker *worker, struct backing_copy *copy, bool plain,
                      struct error *err)
{
    struct error resume_err = ERROR_INIT;
    bool cloned = false;

    worker_enter_critical(worker);
    bool done = volume_suspend(&worker->name, err);
    FAULT_POINT("worker.copy.suspended");
    if (done && plain)
        done = backing_copy_data(copy, err);
    else if (done)
        done = backing_copy_reflink(copy, &cloned, err);
    bool resumed = volume_resume(&worker->name, &resume_err);
    worker_leave_critical(worker);
    if (!done)
        return false;
    if (!resumed) {
        *err = resume_err;
        return error_wrap(err, "resume the volume after the copy");
    }
    return true;
}

/* The first reflink only shows whether the file system can share extents. The copy that counts is
 * made while the volume is suspended. */
static bool copy_staged(const struct worker *worker, struct backing_copy *copy, bool reserve,
                        struct error *err)
{
    bool can_share = false;

    if (!backing_copy_reflink(copy, &can_share, err))
        return false;
    if (!can_share && copy->allocated_bytes > LIVE_COPY_MAX_BYTES)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume is in use, and its %llu bytes are too many to copy while its "
                         "pods wait; unstage it first, or keep the local folder on XFS or Btrfs",
                         (unsigned long long)copy->allocated_bytes);
    if (!can_share && reserve && !backing_copy_reserve(copy, err))
        return false;
    return copy_live(worker, copy, !can_share, err);
}

static bool copy_idle(struct backing_copy *copy, bool reserve, struct error *err)
{
    bool shared = false;

    if (!backing_copy_reflink(copy, &shared, err))
        return false;
    return shared ||
           ((!reserve || backing_copy_reserve(copy, err)) && backing_copy_data(copy, err));
}

static bool copy_file(const struct worker *worker, struct block_result *out, struct error *err)
{
    const struct block_request *request = worker->request;
    auto_backing_copy struct backing_copy copy = BACKING_COPY_INIT;
    auto_close int folder_fd = -1;
    struct volume_device device;
    bool staged = false;

    if (!open_folder(worker, &folder_fd, err) ||
        !backing_copy_begin(folder_fd, request->volume_id, request->copy_id, &out->already, &copy,
                            err))
        return false;
    if (out->already)
        return true;
    if (!volume_find(&worker->name, &staged, &device, err) || !worker_check(worker, err))
        return false;
    /* The file of a volume that is staged read-only never changes. */
    bool is_live = staged && !device.read_only;
    bool done = is_live ? copy_staged(worker, &copy, request->reserve, err)
                        : copy_idle(&copy, request->reserve, err);
    FAULT_POINT("worker.copy.copied");
    out->size_bytes = copy.size_bytes;
    return done && worker_check(worker, err) && backing_copy_commit(&copy, err);
}

bool operation_copy(struct worker *worker, struct block_result *out, struct error *err)
{
    struct volume_name copy_name;
    auto_close int lock_fd = -1;

    if (!volume_name_make(worker->config->driver, worker->request->copy_id, &copy_name, err) ||
        !worker_lock(worker, &copy_name, false, &lock_fd, err))
        return false;
    bool done = copy_file(worker, out, err);
    stage_file_tidy_lock(worker->config->state_dir, &copy_name);
    return done;
}

bool operation_resize(struct worker *worker, struct block_result *out, struct error *err)
{
    const struct block_request *request = worker->request;
    auto_close int folder_fd = -1;

    if (!open_folder(worker, &folder_fd, err) ||
        !backing_grow(folder_fd, request->volume_id, request->size_bytes, request->reserve,
                      &out->size_bytes, err))
        return false;
    FAULT_POINT("worker.resize.grown");
    return space_file.grown(worker, err);
}

bool operation_capacity(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_close int folder_fd = -1;
    bool found = false;

    if (!open_folder(worker, &folder_fd, err) ||
        !backing_capacity(folder_fd, &out->size_bytes, err) ||
        !backing_find_any(folder_fd, &found, err))
        return false;
    out->is_empty = !found;
    return true;
}
