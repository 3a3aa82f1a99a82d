/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/staged.h"

#include "base/fault.h"
#include "base/log.h"
#include "blockd/filesystem.h"
#include "blockd/operation.h"
#include "blockd/space_device.h"
#include "crypt/device.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

bool staged_look(const struct worker *worker, struct stage_view *out, struct error *err)
{
    return stage_file_read(worker->config->state_dir, &worker->name, &out->known, &out->state,
                           err) &&
           volume_find(&worker->name, &out->found, &out->device, err);
}

static struct kubelet_rule rule_of(const struct worker *worker, unsigned shapes)
{
    return (struct kubelet_rule){ .shapes = shapes,
                                  .driver = worker->config->driver,
                                  .volume_id = worker->request->volume_id };
}

bool staged_name_place(const struct worker *worker, unsigned shapes, const char *path,
                       struct held_path *out, struct error *err)
{
    const struct kubelet_rule rule = rule_of(worker, shapes);

    return held_path_name(&worker->config->mount_roots, &rule, path, out, err);
}

bool staged_open_place(const struct worker *worker, unsigned shapes, const char *path,
                       struct held_path *out, struct error *err)
{
    const struct kubelet_rule rule = rule_of(worker, shapes);

    return held_path_open(&worker->config->mount_roots, &rule, path, out, err);
}

bool staged_open_known(const struct worker *worker, const char *path, struct held_path *out,
                       struct error *err)
{
    return held_path_open(&worker->config->mount_roots, NULL, path, out, err);
}

bool staged_keep_lease(const struct worker *worker, struct error *err)
{
    const struct worker_lease *lease = &worker->lease;
    const struct lease_file file = { .version = LEASE_FILE_VERSION,
                                     .lease_ms = lease->lease_ms,
                                     .until_ms =
                                         lease->asked_ms + lease->lease_ms - LEASE_STOP_MS };

    return lease_file_write(worker->config->state_dir, &worker->name, &file, err);
}

struct mount_owner staged_owner(const struct worker *worker, const struct stage_view *view)
{
    return (struct mount_owner){ .device = view->found ? view->device.number : 0,
                                 .node_name = worker->name.text };
}

bool staged_check_unpublished(const struct worker *worker, const struct stage_view *view,
                              const char *const *except, const char *target, struct error *err)
{
    const struct mount_search search = { .device = view->device.number,
                                         .node_name = worker->name.text,
                                         .except = except,
                                         .target = target };
    bool found = false;
    char user[PATH_MAX];

    if (!mount_find_user(MOUNTINFO, &search, &found, user, err))
        return false;
    return !found ||
           error_set(err, ERROR_FAILED_PRECONDITION, "the volume is published at %s", user);
}

bool staged_find_mount(const char *path, dev_t device, bool *found, struct mount_entry *out,
                       struct error *err)
{
    if (!mount_find(MOUNTINFO, path, found, out, err))
        return false;
    *found = *found && out->device == device;
    return true;
}

static bool keep_end(const char *state_dir, const struct volume_name *name,
                     const struct volume_end *end, struct stage_file *state, struct error *err)
{
    if (state->has_closing && !end->is_marked)
        log_debug("the close could not be marked on the disk", TEXT("volume", state->volume_id));
    if (!state->opening.is_set)
        return true;
    if (end->is_marked || end->has_hash) {
        state->ended = state->opening;
        state->end = *end;
    }
    state->opening = (struct stage_opening){ .is_set = false };
    state->complete = state->has_closing = false;
    return stage_file_write(state_dir, name, state, err);
}

bool staged_end(const char *state_dir, const struct volume_name *name, struct stage_view *view,
                struct error *err)
{
    struct stage_file *state = &view->state;
    struct volume_end end;

    if (!volume_stop(name, view->known && state->has_closing ? state->closing : NULL, &end, err))
        return false;
    FAULT_POINT("worker.unstage.stopped");
    if (view->known && !keep_end(state_dir, name, &end, state, err))
        return false;
    FAULT_POINT("worker.unstage.kept");
    return volume_deactivate(name, err);
}

bool staged_options(const char *mount_flags, bool read_only, struct mount_options *out,
                    struct error *err)
{
    if (!mount_options_parse(mount_flags, out, err))
        return false;
    if (read_only) {
        out->read_only = true;
        out->attributes |= MOUNT_ATTR_RDONLY;
    }
    return true;
}

bool staged_unmount(const struct worker *worker, const char *path, dev_t device, struct error *err)
{
    bool is_here = false;
    struct mount_entry entry = { .device = 0 };
    auto_held_path struct held_path place = HELD_PATH_INIT;

    if (!staged_find_mount(path, device, &is_here, &entry, err))
        return false;
    FAULT_POINT("worker.unstage.unmount");
    const struct mount_owner owner = { .device = device, .node_name = worker->name.text };
    return !is_here ||
           (staged_open_known(worker, path, &place, err) && mount_remove(&place, &owner, err));
}

/* --- is it well? --- */

static bool shut_down(struct error *err)
{
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, STAGED_SHUT_DOWN,
                            "the file system shut down after an error, see the kernel's log; end "
                            "the pods that use it, then it is mounted again");
}

static bool became_read_only(struct error *err)
{
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, STAGED_READ_ONLY,
                            "the kernel made the file system read-only after an error, see its "
                            "log; end the pods that use it, then it is repaired and mounted again");
}

/* A file system that shut down may answer as if nothing was wrong, until something must reach its
 * disk. */
static bool check_answers(const struct worker *worker, const char *path, bool is_writable,
                          struct error *err)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_close int fd = -1;

    if (!staged_open_known(worker, path, &place, err))
        return false;
    int code = held_path_open_folder(&place, &fd) && fsync(fd) == 0 ? 0 : errno;
    if (code == 0)
        return true;
    if (code == EROFS)
        return !is_writable || became_read_only(err);
    return code == EIO ? shut_down(err) : error_set_errno(err, code, "look into %s", path);
}

bool staged_is_dead(const struct error *err)
{
    return strcmp(err->reason, STAGED_MAP_FAILED) == 0 || strcmp(err->reason, DEVICE_GONE) == 0;
}

static bool is_gone(const struct worker *worker, const struct volume_status *status)
{
    bool surely = false;

    return (volume_raw_is_gone(&worker->name, &surely) && surely) ||
           (status->is_replaced && space_device_is_lost(worker->config, &worker->name));
}

static bool check_layers(const struct worker *worker, struct error *err)
{
    struct volume_status status;

    if (!volume_status(&worker->name, &status, err))
        return false;
    if (is_gone(worker, &status))
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, DEVICE_GONE,
                                "the volume's device has left this node: end the pods that use the "
                                "volume, then it is attached and staged again");
    return !status.map_failed ||
           error_set_reason(err, ERROR_FAILED_PRECONDITION, STAGED_MAP_FAILED,
                            "the map of written blocks could not be written: all I/O fails until "
                            "the volume is unstaged and staged again");
}

/* The options are those of the stage. */
static bool check_mounted(const struct worker *worker, const struct stage_view *view,
                          const struct mount_options *options, bool *mounted, struct error *err)
{
    const char *path = view->state.staging_path;
    struct mount_entry entry = { .device = 0 };

    if (!staged_find_mount(path, view->device.number, mounted, &entry, err))
        return false;
    if (!*mounted)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is not mounted at %s", path);
    if (entry.fs_read_only && !options->read_only)
        return became_read_only(err);
    return check_answers(worker, path, !options->read_only, err);
}

/* --- mount it again --- */

/* A mount elsewhere claims the device: a pod that sees kubelet's folder may have one. */
static bool is_claimed(const char *device_path)
{
    auto_close int fd = open(device_path, O_RDONLY | O_EXCL | O_CLOEXEC);

    return fd < 0 && errno == EBUSY;
}

bool staged_mount(const struct worker *worker, const char *device_path, const char *fs_type,
                  const struct mount_options *options, bool repair, const struct held_path *at,
                  struct error *err)
{
    bool needs_repair = repair && filesystem_needs_repair(fs_type, device_path);

    if (needs_repair &&
        !filesystem_repair(fs_type, device_path, false, worker_left_ms(worker), err))
        return false;
    FAULT_POINT("worker.stage.mount");
    if (!worker_check(worker, err))
        return false;
    if (mount_device(device_path, fs_type, options, at, err))
        return true;
    /* Other codes are for what no repair mends: unreadable data, options, a device in use. */
    if (err->code != ERROR_INTERNAL || !repair || needs_repair)
        return false;
    log_debug("repairing a file system that looked clean",
              TEXT("volume", worker->request->volume_id), ERROR_FIELDS(err));
    return filesystem_repair(fs_type, device_path, true, worker_left_ms(worker), err) &&
           mount_device(device_path, fs_type, options, at, err);
}

static bool mount_again(const struct worker *worker, const struct stage_view *view,
                        struct mount_options *options, struct error *err)
{
    const struct stage_file *state = &view->state;
    const char *device = view->device.path, *own = filesystem_mount_flags(state->fs_type);
    auto_held_path struct held_path place = HELD_PATH_INIT;
    bool mounted = false;

    if (!staged_unmount(worker, state->staging_path, view->device.number, err) ||
        !staged_open_known(worker, state->staging_path, &place, err) ||
        !held_path_make(&place, false, err) || (own[0] && !mount_options_add(options, own, err)))
        return false;
    bool claimed = is_claimed(device);
    if (!staged_mount(worker, device, state->fs_type, options, !claimed && !state->read_only,
                      &place, err))
        return false;
    if (check_mounted(worker, view, options, &mounted, err))
        return true;
    if (!claimed)
        return false;
    /* Not ours: whoever else has it mounted keeps it as it is. */
    struct error ignored = ERROR_INIT;
    if (!staged_unmount(worker, state->staging_path, view->device.number, &ignored))
        log_debug("the failed file system stays mounted", ERROR_FIELDS(&ignored));
    return staged_name_holder(worker, view, err);
}

bool staged_ensure_mounted(const struct worker *worker, const struct stage_view *view,
                           struct error *err)
{
    static struct mount_options options;
    const char *const except[] = { view->state.staging_path, NULL };
    struct error published = ERROR_INIT;
    bool mounted = false;

    if (lease_file_is_over(worker->config->state_dir, &worker->name))
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, LEASE_LOST_REASON,
                                "the volume is suspended, because this node lost its lease");
    if (!check_layers(worker, err))
        return false;
    if (!view->state.fs_type[0])
        return true;
    if (!staged_options(view->state.mount_flags, view->state.read_only, &options, err))
        return false;
    if (check_mounted(worker, view, &options, &mounted, err))
        return true;
    bool is_failed =
        strcmp(err->reason, STAGED_SHUT_DOWN) == 0 || strcmp(err->reason, STAGED_READ_ONLY) == 0;
    if ((mounted && !is_failed) ||
        (is_failed && !staged_check_unpublished(worker, view, except, NULL, &published)))
        return false;
    log_debug("mounting the volume again", TEXT("volume", worker->request->volume_id),
              ERROR_FIELDS(err));
    return mount_again(worker, view, &options, err) || error_wrap(err, "mount it again");
}

/* Finds all who have the volume, wherever. */
static struct mount_search search_of(const struct worker *worker, const struct stage_view *view)
{
    static const char *const nothing[] = { NULL };

    return (struct mount_search){ .device = view->device.number,
                                  .node_name = worker->name.text,
                                  .except = nothing };
}

static void describe_holder(const struct worker *worker, const struct stage_view *view,
                            char out[static MOUNT_HOLDER_LEN])
{
    const struct mount_search search = search_of(worker, view);

    if (!mount_find_holder(&search, out))
        (void)snprintf(out, MOUNT_HOLDER_LEN,
                       "a process that has %u:%u in its /proc/PID/mountinfo, or its node open",
                       major(view->device.number), minor(view->device.number));
}

bool staged_name_holder(const struct worker *worker, const struct stage_view *view,
                        struct error *err)
{
    char holder[MOUNT_HOLDER_LEN];

    describe_holder(worker, view, holder);
    return error_set_reason(err, err->code, err->reason, "%s; it is held by %s", err->text, holder);
}

/* --- take it away --- */

/* All who have the file system have it because they see kubelet's folder. */
static bool is_only_seen(const struct worker *worker, const struct stage_view *view,
                         char holder[static MOUNT_HOLDER_LEN])
{
    struct mount_search search = search_of(worker, view);
    char user[MOUNT_HOLDER_LEN];

    if (!view->known || !view->state.fs_type[0] || !mount_find_holder(&search, holder))
        return false;
    search.staging_path = view->state.staging_path;
    return !mount_find_holder(&search, user);
}

/* The freeze that follows keeps whoever must stop the volume waiting. So most is written before; and when the
 * lease is over, nothing is written any more. */
static bool flush(const struct worker *worker, const struct stage_view *view, struct error *err)
{
    struct error ignored = ERROR_INIT;

    if (!view->state.read_only && !mount_sync(view->device.path, view->state.fs_type, &ignored))
        log_debug("the file system is not flushed before it is frozen", ERROR_FIELDS(&ignored));
    return !lease_file_is_over(worker->config->state_dir, &worker->name) ||
           volume_fail(&worker->name, err);
}

bool staged_take_away(const struct worker *worker, struct stage_view *view, struct error *err)
{
    char holder[MOUNT_HOLDER_LEN];
    struct error why = ERROR_INIT;

    if (err->code != ERROR_ABORTED || !view->found)
        return false;
    if (!is_only_seen(worker, view, holder))
        return staged_name_holder(worker, view, err);
    FAULT_POINT("worker.unstage.held");
    if (!flush(worker, view, &why) || !volume_leave_behind(&worker->name, &why)) {
        staged_name_holder(worker, view, err);
        return error_wrap(err, "it cannot be taken away (%s)", why.text);
    }
    memcpy(view->holder, holder, sizeof(holder));
    *err = (struct error)ERROR_INIT;
    return true;
}

bool operation_inspect(struct worker *worker, struct block_result *out, struct error *err)
{
    if (!volume_status(&worker->name, &out->status, err))
        return false;
    out->size_bytes = out->status.size_bytes;
    out->is_gone = out->status.is_active && is_gone(worker, &out->status);
    out->has_device = out->status.is_active && space_device_is_below(worker->config, &worker->name);
    return space_device_find_place(worker, &out->has_place, err);
}
