/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "blockd/held_path.h"

#include <sys/types.h>

/*
 * Mounting, and what is mounted where. The door to libmount, which parses option strings (with
 * their quotes and commas) and mountinfo; the mounting itself is done with the kernel's
 * descriptor-based calls, so that nothing is visible before it is as it should be.
 */

/* "rw,noatime,context=\"a:b:s0:c1,c2\"", taken apart. */
#define MOUNT_OPTIONS_MAX 64
struct mount_option {
    const char *name;
    const char *value; /* NULL: a flag */
};
struct mount_options {
    char text[4096 * 2]; /* owns the strings below */
    uint64_t attributes; /* MOUNT_ATTR_... of one mount */
    bool read_only;
    struct mount_option items[MOUNT_OPTIONS_MAX]; /* of the file system */
    size_t n;
};

/* INVALID_ARGUMENT when it is not well-formed or has an option that is not the CSI caller's to
 * give (bind, remount, loop, propagation). */
MUST_USE bool mount_options_parse(const char *text, struct mount_options *out, struct error *err);

/* Adds a flag of the file system's own; name stays the caller's. */
MUST_USE bool mount_options_add(struct mount_options *options, const char *name, struct error *err);

/* The topmost mount at exactly this path. */
struct mount_entry {
    dev_t device;   /* of the file system */
    bool read_only; /* this mount, or its file system */
    char fs_type[16];
};
MUST_USE bool mount_find(const char *mountinfo, const char *path, bool *found,
                         struct mount_entry *out, struct error *err);

/* Looks for a mount of the file system on device, or for a bind mount of the device's own node
 * (called node_name or dm-<minor>), at any path but those in except, a list that ends with NULL. path
 * gets the first one. */
MUST_USE bool mount_find_user(const char *mountinfo, dev_t device, const char *node_name,
                              const char *const *except, bool *found, char path[static PATH_MAX],
                              struct error *err);

#define MOUNTINFO "/proc/self/mountinfo"

/* Mounts the file system of a device. */
MUST_USE bool mount_device(const char *device_path, const char *fs_type,
                           const struct mount_options *options, const struct held_path *at,
                           struct error *err);

/* Binds what is at source, with this mount's own attributes (MOUNT_ATTR_RDONLY, ...). */
MUST_USE bool mount_bind(int source_fd, uint64_t attributes, const struct held_path *at,
                         struct error *err);

/* Unmounts everything at the place, also what was stacked. ABORTED when busy. *was_mounted may be
 * NULL. */
MUST_USE bool mount_remove(const struct held_path *at, bool *was_mounted, struct error *err);
