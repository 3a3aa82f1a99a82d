/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/option.h"
#include "blockd/kubelet.h"

#include <limits.h>
#include <sys/stat.h>

/*
 * A name in a folder below one of the allowed roots: the place where a file system is mounted or a
 * device node is bound. The folder is held open, so that a later step uses the same folder that was
 * checked. Below the root no part of the path may be a symbolic link, "." or "..", and between root
 * and folder nothing may be mounted. The root itself may be a mount.
 */
struct mount_roots {
    struct option_list kubelet; /* only kubelet's own places */
    struct option_list free;    /* any path: for callers other than kubelet */
};

struct held_path {
    int folder_fd;           /* O_PATH */
    char name[NAME_MAX + 1]; /* the last part of the path */
    char path[PATH_MAX];     /* as mountinfo shows it: the real path of the root, and the rest */
};

#define HELD_PATH_INIT  \
    {                   \
        .folder_fd = -1 \
    }

/* Adds the real paths of roots that are, or lie behind, a symbolic link. Call it once, at start: what
 * was staged is remembered by its real path, and must stay below a root. A root that does not exist
 * yet is left as it is. */
MUST_USE bool held_path_resolve_roots(struct option_list *roots, struct error *err);

/* Fills in name and path, and opens nothing: the folder need not exist. INVALID_ARGUMENT as below. */
MUST_USE bool held_path_name(const struct mount_roots *roots, const struct kubelet_rule *rule,
                             const char *path, struct held_path *out, struct error *err);

/* The longest root that fits counts. INVALID_ARGUMENT when path is relative, not below a root, has a
 * forbidden part, or, below kubelet's root, is not what the rule says. A path that an earlier call
 * has checked needs no rule: NULL. NOT_FOUND when the folder does not exist. The name itself need not
 * exist. */
MUST_USE bool held_path_open(const struct mount_roots *roots, const struct kubelet_rule *rule,
                             const char *path, struct held_path *out, struct error *err);
/* The same for a path below a folder of the administrator: rest is relative to it. */
MUST_USE bool held_path_open_below(const char *folder, const char *rest, struct held_path *out,
                                   struct error *err);
void held_path_close(struct held_path *place);
#define auto_held_path CLEANUP(held_path_close)

/* What exists at the place now. Symbolic links are not followed. */
MUST_USE bool held_path_stat(const struct held_path *place, bool *found, struct stat *out,
                             struct error *err);

/* Makes an empty folder, or an empty file on which a device node can be bound. An existing one is
 * kept. FAILED_PRECONDITION when something of another kind exists. */
MUST_USE bool held_path_make(const struct held_path *place, bool as_file, struct error *err);

/* Removes an empty folder or an empty file. True when nothing exists. FAILED_PRECONDITION when it
 * is anything else; it stays. */
MUST_USE bool held_path_remove(const struct held_path *place, struct error *err);

/* FAILED_PRECONDITION when something is mounted at the place. True when nothing exists there. */
MUST_USE bool held_path_check_unmounted(const struct held_path *place, struct error *err);

/* Opens the place (O_PATH) to mount something there: an empty folder or an empty regular file, at which
 * nothing is mounted. FAILED_PRECONDITION when it is anything else. */
MUST_USE bool held_path_open_target(const struct held_path *place, int *out_fd, struct error *err);

/* Whether the name still leads to what the descriptor holds. */
bool held_path_is_same(const struct held_path *place, int fd);

/* Opens the place (O_PATH) as a source. When something is mounted there, the
 * descriptor is the root of that mount. */
MUST_USE bool held_path_open_fd(const struct held_path *place, int *out_fd, struct error *err);

/* Opens the folder at the place for reading. False: errno says why. */
MUST_USE bool held_path_open_folder(const struct held_path *place, int *out_fd);
