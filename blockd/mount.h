/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "blockd/held_path.h"

#include <sys/types.h>

/*
 * Mounts, and what is mounted where. The only place that calls libmount, which parses option
 * strings (with their quotes and commas) and mountinfo. The mounting itself uses the kernel's
 * descriptor-based calls: a mount becomes visible only when it is complete.
 */

/* An option string such as "rw,noatime,context=\"a:b:s0:c1,c2\"", split into options. */
#define MOUNT_OPTIONS_MAX 64
struct mount_option {
    const char *name;
    const char *value; /* NULL: a flag */
};
struct mount_options {
    char text[4096 * 2]; /* owns the strings below */
    uint64_t attributes; /* MOUNT_ATTR_... of this mount only */
    bool read_only;
    bool has_wishes; /* the text has options for the file system: it may refuse them */
    struct mount_option items[MOUNT_OPTIONS_MAX]; /* for the file system */
    size_t n;
};

/* INVALID_ARGUMENT when the text is malformed, or has an option that a CSI caller may not give
 * (bind, remount, loop, propagation). */
MUST_USE bool mount_options_parse(const char *text, struct mount_options *out, struct error *err);

/* Adds a flag for the file system. name is not copied. */
MUST_USE bool mount_options_add(struct mount_options *options, const char *name, struct error *err);

/* The topmost mount at exactly this path. Everything here is from mountinfo: a file system that has
 * failed may not even answer stat(). */
struct mount_entry {
    dev_t device;   /* the file system's */
    bool read_only; /* this mount or its file system is read-only */
    bool fs_read_only;
    char fs_type[16];
    char root_name[NAME_MAX + 1]; /* the last part of what is mounted; "" for a whole file system */
};
MUST_USE bool mount_find(const char *mountinfo, const char *path, bool *found,
                         struct mount_entry *out, struct error *err);

/* Whether the entry is a bind mount of the device's own node, which is called node_name or
 * dm-<minor>. device 0: only the name is known. */
bool mount_is_node(const struct mount_entry *entry, dev_t device, const char *node_name);

/* Whose mounts are meant: those of the file system on device (0: it is gone), and bind mounts of its
 * node. */
struct mount_owner {
    dev_t device;
    const char *node_name;
};
bool mount_is_of(const struct mount_entry *entry, const struct mount_owner *owner);

/* Who else uses a volume: a mount of the file system on device, or a bind mount of the device's own
 * node (called node_name or dm-<minor>). */
struct mount_search {
    dev_t device;
    const char *node_name;
    const char *const *except; /* paths that are skipped; the list ends with NULL */
    const char *target; /* skips kubelet's own mounts for the pod of this target; may be NULL */
    const char *staging_path; /* skips what kubelet_is_own_place(); may be NULL */
};

/* path gets the first one found. */
MUST_USE bool mount_find_user(const char *mountinfo, const struct mount_search *search, bool *found,
                              char path[static PATH_MAX], struct error *err);

/* Looks for a mount in the mount namespaces of other processes, as far as this process sees them: "pod
 * UID, process PID (NAME) at PATH". */
#define MOUNT_HOLDER_LEN 256
bool mount_find_holder(const struct mount_search *search, char out[static MOUNT_HOLDER_LEN]);

/* Brings to the disk what was written to a file system that is mounted somewhere for writing, in whatever
 * mount namespace. */
MUST_USE bool mount_sync(const char *device_path, const char *fs_type, struct error *err);

#define MOUNTINFO "/proc/self/mountinfo"

/* Mounts the file system that is on a device. INVALID_ARGUMENT when it refuses an option. */
MUST_USE bool mount_device(const char *device_path, const char *fs_type,
                           const struct mount_options *options, const struct held_path *at,
                           struct error *err);

/* Bind mounts the source. The attributes (MOUNT_ATTR_RDONLY, ...) are for this mount only. */
MUST_USE bool mount_bind(int source_fd, uint64_t attributes, const struct held_path *at,
                         struct error *err);

/* Unmounts all of the owner's mounts at the place, also stacked ones. True when nothing is mounted
 * there. ABORTED when a mount is busy. FAILED_PRECONDITION when a mount is somebody else's: it stays,
 * and what is below it, too. */
MUST_USE bool mount_remove(const struct held_path *at, const struct mount_owner *owner,
                           struct error *err);
