/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/*
 * Giving up root. tdvol-csi parses what the network sends, so it keeps none of root's privileges;
 * only tdvol-blockd has them. The door to libcap.
 */

/* Call it before the first thread. From then on this process and its children can never gain
 * privileges again. */
MUST_USE bool privilege_limit(struct error *err);

/* All threads become user; no capability is left. Nothing happens when the process is not root, or
 * user is "root". FAILED_PRECONDITION when there is no such user. */
MUST_USE bool privilege_drop(const char *user, struct error *err);

/* Who this process will be after privilege_drop(). */
MUST_USE bool privilege_find(const char *user, uid_t *uid, gid_t *gid, struct error *err);

/* Landlock: from now on this process reads what its user may read, runs nothing, and writes in state_dir
 * and in the folders of the paths (NULL: none) alone. Call it before the first thread. */
#define PRIVILEGE_PATHS_MAX 3
MUST_USE bool privilege_limit_files(const char *state_dir, const char *const *paths, size_t n,
                                    struct error *err);

/* The system calls that tdvol-csi needs from now on. Call it when its sockets are bound. */
MUST_USE bool privilege_limit_calls(struct error *err);
