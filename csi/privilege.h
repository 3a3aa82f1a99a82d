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
