/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/option.h"

#include <limits.h>
#include <sys/stat.h>

/*
 * A name in a folder below one of the allowed roots: where a file system is mounted or a device
 * node is bound. The folder is held open, so that what was checked is what is used. Nothing on
 * the way below the root may be a symbolic link, "." or "..".
 */
struct held_path {
    int folder_fd;           /* O_PATH */
    char name[NAME_MAX + 1]; /* in that folder */
    char path[PATH_MAX];     /* the root as the kernel names it, and the rest: as in mountinfo */
};

#define HELD_PATH_INIT  \
    {                   \
        .folder_fd = -1 \
    }

/* INVALID_ARGUMENT when path is relative, not below a root or has a forbidden component; NOT_FOUND
 * when the folder is not there. The name itself need not exist. */
MUST_USE bool held_path_open(const struct option_list *roots, const char *path,
                             struct held_path *out, struct error *err);
void held_path_close(struct held_path *place);
#define auto_held_path CLEANUP(held_path_close)

/* What is there now, links not followed. */
MUST_USE bool held_path_stat(const struct held_path *place, bool *found, struct stat *out,
                             struct error *err);

/* Makes an empty folder, or an empty file to bind a device node on; what is there already is kept
 * when it is of that kind, else FAILED_PRECONDITION. */
MUST_USE bool held_path_make(const struct held_path *place, bool as_file, struct error *err);

/* Removes an empty folder or an empty file. Nothing there is success; anything else is
 * FAILED_PRECONDITION and stays. */
MUST_USE bool held_path_remove(const struct held_path *place, struct error *err);

/* Opens it for use as a mount point or source, O_PATH; what is mounted there is what one gets. */
MUST_USE bool held_path_open_fd(const struct held_path *place, int *out_fd, struct error *err);
