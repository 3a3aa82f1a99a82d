/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/fault.h"

#include <stdio.h>

/* The fault point "front.<operation>.before-<step>"; nothing in ordinary builds. */
static inline void fault_before(const char *operation, const char *step)
{
#ifdef TDVOL_FAULTS
    char name[128];

    (void)snprintf(name, sizeof(name), "front.%s.before-%s", operation, step);
    FAULT_POINT(name);
#else
    (void)operation;
    (void)step;
#endif
}
