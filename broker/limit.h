/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* Where the broker writes. */
struct broker_places {
    const char *dir;
    const char *store;  /* a folder; NULL: none */
    const char *audit;  /* a file: its folder is meant */
    const char *quotes; /* configfs-tsm; NULL: it asks for no quotes */
};

/* From now on this process reads what its user may read, runs nothing, and writes in these places alone,
 * where the kernel has Landlock; and it has a list of allowed system calls. Call it before the first thread,
 * and after the store was opened, whose folder may have been made then. */
MUST_USE bool limit_rights(const struct broker_places *places, struct error *err);
