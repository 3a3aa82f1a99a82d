/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/mount.h"
#include "blockd/stage_file.h"
#include "blockd/worker.h"

/* What is staged of the worker's volume, according to its state file and the kernel, and the file
 * system that is mounted at its staging path. */
struct stage_view {
    bool known; /* there is a state file */
    bool found; /* there is a mapping */
    struct stage_file state;
    struct volume_device device;
    char holder[MOUNT_HOLDER_LEN]; /* who lost the file system (staged_take_away()); "": nobody */
};
MUST_USE bool staged_look(const struct worker *worker, struct stage_view *out, struct error *err);

/* Opens a place that the front named. shapes: what it may be (enum kubelet_shape). */
MUST_USE bool staged_open_place(const struct worker *worker, unsigned shapes, const char *path,
                                struct held_path *out, struct error *err);
MUST_USE bool staged_name_place(const struct worker *worker, unsigned shapes, const char *path,
                                struct held_path *out, struct error *err);

/* Opens a place that is in a state file: it was checked before it was written there. */
MUST_USE bool staged_open_known(const struct worker *worker, const char *path,
                                struct held_path *out, struct error *err);

/* Keeps the lease that the broker gave last, for the watcher (blockd/watch.c). A few seconds before it is
 * over, the volume is stopped. */
MUST_USE bool staged_keep_lease(const struct worker *worker, struct error *err);

struct mount_owner staged_owner(const struct worker *worker, const struct stage_view *view);

/* FAILED_PRECONDITION when the volume is published at a path that is not in except (a list that
 * ends with NULL), nor bound by kubelet for the pod of target (may be NULL). The error names the
 * first such path. */
MUST_USE bool staged_check_unpublished(const struct worker *worker, const struct stage_view *view,
                                       const char *const *except, const char *target,
                                       struct error *err);

/* *found: the file system of the device is mounted at path. */
MUST_USE bool staged_find_mount(const char *path, dev_t device, bool *found,
                                struct mount_entry *out, struct error *err);

/*
 * Removes the layers of a volume that is not mounted. How the opening ended is kept in view, and in
 * the state file if there is one, before the last layers go: it outlives this worker. It may be
 * repeated.
 */
MUST_USE bool staged_end(const char *state_dir, const struct volume_name *name,
                         struct stage_view *view, struct error *err);

/* The options of a mount at the staging path. */
MUST_USE bool staged_options(const char *mount_flags, bool read_only, struct mount_options *out,
                             struct error *err);

/* Mounts the file system of the device. Unless the options say read-only, what needs repair is
 * repaired before; and when a file system that looks clean cannot be mounted, it is repaired and
 * mounted once more. repair: false when somebody else has it mounted. */
MUST_USE bool staged_mount(const struct worker *worker, const char *device_path,
                           const char *fs_type, const struct mount_options *options, bool repair,
                           const struct held_path *at, struct error *err);

/* Unmounts the device from path. True when it is not mounted there. */
MUST_USE bool staged_unmount(const struct worker *worker, const char *path, dev_t device,
                             struct error *err);

/*
 * Call it for a volume whose stage is complete. True when it works and is mounted at its staging
 * path. When it is not mounted, it is mounted again. A file system that shut down, or that the
 * kernel made read-only, is repaired and mounted again, too, if nothing is published; this needs no
 * key. Otherwise FAILED_PRECONDITION "FileSystemShutDown", "FileSystemReadOnly", "MapFailed", or
 * "DeviceGone". For the last two, see staged_is_dead().
 */
MUST_USE bool staged_ensure_mounted(const struct worker *worker, const struct stage_view *view,
                                    struct error *err);

/*
 * Call it after the volume was unmounted, with the error of staged_end(). A process in another mount
 * namespace that sees kubelet's folder may still have the file system: it got a copy of the mount when it
 * began. It would keep the volume open, and its disk at this node, until it ends. So it loses the device
 * instead, after all that was written is on the disk (volume_leave_behind()).
 *
 * True: staged_end() can go on, and view has the holder. Otherwise err names who has the volume. Nothing is
 * taken away from who has the file system at a place of its own, as a pod that runs, or the device open.
 */
MUST_USE bool staged_take_away(const struct worker *worker, struct stage_view *view,
                               struct error *err);

/* Adds to an error about a device that is in use who holds it in a mount namespace of its own. */
bool staged_name_holder(const struct worker *worker, const struct stage_view *view,
                        struct error *err);

#define STAGED_SHUT_DOWN  "FileSystemShutDown"
#define STAGED_READ_ONLY  "FileSystemReadOnly"
#define STAGED_MAP_FAILED "MapFailed"
/* Neither works until it is closed and opened: "MapFailed", "DeviceGone". */
bool staged_is_dead(const struct error *err);
