/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* From now on this process reads what its user may read, runs nothing, and writes its folder, its store's
 * folder (or NULL) and the folder of its audit log alone, where the kernel has Landlock; and it has a
 * list of allowed system calls. Call it before the first thread, and after the store was opened, whose
 * folder may have been made then. */
MUST_USE bool limit_rights(const char *dir, const char *store, const char *audit,
                           struct error *err);
