/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "blockd/mount.h"
#include "blockd/operation.h"
#include "blockd/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What is at a target now. */
enum publish_target { TARGET_FREE, TARGET_OURS, TARGET_FOREIGN };

static bool look_at_target(const struct worker *worker, const struct held_path *place,
                           const struct stage_view *view, enum publish_target *out, bool *read_only,
                           struct error *err)
{
    struct mount_entry entry = { .device = 0 };
    bool mounted = false;

    *out = TARGET_FREE;
    if (!mount_find(MOUNTINFO, place->path, &mounted, &entry, err))
        return false;
    if (!mounted)
        return true;
    /* The node of a mapping that is gone still has its name. */
    bool is_node = mount_is_node(&entry, view->found ? view->device.number : 0, worker->name.text);
    bool is_ours = is_node || (view->found && entry.device == view->device.number);
    *out = is_ours ? TARGET_OURS : TARGET_FOREIGN;
    *read_only = entry.read_only || (is_node && view->device.read_only);
    return true;
}

static bool foreign(const struct held_path *place, struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION, "something else is mounted at %s",
                     place->path);
}

static bool open_source(const struct worker *worker, const struct stage_view *view, int *out_fd,
                        struct error *err)
{
    if (!view->state.fs_type[0]) {
        *out_fd = open(view->device.path, O_PATH | O_CLOEXEC);
        return *out_fd >= 0 || error_set_errno(err, errno, "open %s", view->device.path);
    }
    auto_held_path struct held_path staging = HELD_PATH_INIT;
    return staged_open_known(worker, view->state.staging_path, &staging, err) &&
           held_path_open_fd(&staging, out_fd, err);
}

static bool check_staged(const struct worker *worker, const struct stage_view *view,
                         struct error *err)
{
    const struct block_request *request = worker->request;

    if (!view->known || !view->found || !view->state.complete)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is not staged here");
    bool is_any = strcmp(request->fs_type, BLOCK_FS_ANY) == 0 && view->state.fs_type[0];
    if (!is_any && strcmp(request->fs_type, view->state.fs_type) != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is staged as %s",
                         view->state.fs_type[0] ? view->state.fs_type : "raw block");
    auto_held_path struct held_path staging = HELD_PATH_INIT;
    if (!view->state.fs_type[0])
        return true;
    if (!staged_open_place(worker, KUBELET_STAGING, request->path2, &staging, err))
        return error_wrap(err, "staging path");
    if (strcmp(staging.path, view->state.staging_path) != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is staged at %s",
                         view->state.staging_path);
    return true;
}

/* A device node that is mounted read-only keeps its device writable: Kubernetes itself lets the container
 * only read it (kubelet, makeBlockVolumes: device permission "r"). */
static bool publish_at(const struct worker *worker, const struct stage_view *view,
                       uint64_t attributes, const struct held_path *place, struct error *err)
{
    auto_close int source_fd = -1;

    if (!open_source(worker, view, &source_fd, err) ||
        !held_path_make(place, view->state.fs_type[0] == 0, err))
        return false;
    FAULT_POINT("worker.publish.bind");
    return mount_bind(source_fd, attributes, place, err);
}

/* *already: the volume is at the place as the caller wants it. */
static bool check_target(const struct worker *worker, const struct stage_view *view,
                         const struct held_path *place, const struct mount_options *options,
                         bool *already, struct error *err)
{
    enum publish_target target = TARGET_FREE;
    bool read_only = false, wants_read_only = options->read_only || view->device.read_only;
    const char *const except[] = { view->state.staging_path, place->path, NULL };

    if (!look_at_target(worker, place, view, &target, &read_only, err))
        return false;
    if (target == TARGET_FOREIGN)
        return foreign(place, err);
    if (worker->request->exclusive &&
        !staged_check_unpublished(worker, view, except, place->path, err))
        return false;
    /* A file system that failed is read-only, too: that comes first. */
    if (!staged_ensure_mounted(worker, view, err))
        return false;
    *already = target == TARGET_OURS;
    if (*already && read_only != wants_read_only)
        return error_set(err, ERROR_ALREADY_EXISTS,
                         "the volume is published at this path with another access mode");
    return true;
}

bool operation_publish(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage_view view;
    static struct mount_options options;
    const struct block_request *request = worker->request;
    auto_held_path struct held_path place = HELD_PATH_INIT;

    if (!staged_look(worker, &view, err) || !check_staged(worker, &view, err) ||
        !staged_options(request->mount_flags, request->read_only, &options, err))
        return false;
    if (!staged_open_place(worker, view.state.fs_type[0] ? KUBELET_TARGET : KUBELET_RAW_TARGET,
                           request->path, &place, err))
        return error_wrap(err, "target path");
    return check_target(worker, &view, &place, &options, &out->already, err) &&
           (out->already || publish_at(worker, &view, options.attributes, &place, err));
}

bool operation_unpublish(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage_view view;
    auto_held_path struct held_path place = HELD_PATH_INIT;
    enum publish_target target = TARGET_FREE;
    bool read_only = false;

    if (!staged_look(worker, &view, err))
        return false;
    if (!staged_open_place(worker, KUBELET_TARGETS, worker->request->path, &place, err)) {
        out->already = err->code == ERROR_NOT_FOUND; /* its folder is gone */
        return out->already || error_wrap(err, "target path");
    }
    if (!look_at_target(worker, &place, &view, &target, &read_only, err))
        return false;
    if (target == TARGET_FOREIGN)
        return foreign(&place, err);
    const struct mount_owner owner = staged_owner(worker, &view);
    if (target == TARGET_OURS && !mount_remove(&place, &owner, err))
        return false;
    FAULT_POINT("worker.unpublish.unmounted");
    /* Of a volume that is not staged here nothing can be published: what lies there is not ours. */
    bool is_ours = target == TARGET_OURS || view.known || view.found;
    return !is_ours || held_path_remove(&place, err);
}

static bool fill_stats(const struct held_path *place, struct block_stats *out, struct error *err)
{
    struct statvfs st;
    auto_close int fd = -1;

    if (!held_path_open_fd(place, &fd, err))
        return false;
    if (fstatvfs(fd, &st) != 0) {
        if (errno == EIO) /* newer kernels */
            return error_set_reason(err, ERROR_FAILED_PRECONDITION, STAGED_SHUT_DOWN,
                                    "the file system at %s shut down after an error", place->path);
        return error_set_errno(err, errno, "statvfs of %s", place->path);
    }
    out->total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    out->used_bytes = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
    out->available_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    out->total_inodes = st.f_files;
    out->used_inodes = st.f_files - st.f_ffree;
    out->available_inodes = st.f_favail;
    return true;
}

bool operation_stats(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage_view view;
    auto_held_path struct held_path place = HELD_PATH_INIT;
    enum publish_target target = TARGET_FREE;
    bool read_only = false;

    if (!staged_look(worker, &view, err))
        return false;
    if (!view.found)
        return error_set(err, ERROR_NOT_FOUND, "the volume is not staged here");
    /* CSI NodeGetVolumeStats: NOT_FOUND when the volume does not exist on the path. */
    if (!staged_open_place(worker, KUBELET_PLACES, worker->request->path, &place, err)) {
        err->code = ERROR_NOT_FOUND;
        return false;
    }
    if (!look_at_target(worker, &place, &view, &target, &read_only, err))
        return false;
    if (target != TARGET_OURS)
        return error_set(err, ERROR_NOT_FOUND, "the volume is not at %s", place.path);
    if (view.known && view.state.fs_type[0])
        return fill_stats(&place, &out->stats, err);
    out->stats.is_block = true;
    out->stats.total_bytes = view.device.size_bytes;
    return true;
}
