/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "tests/unit/test.h"

#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* A fresh folder for one test; folder_path() gives a path in it, in one static buffer. */
static char folder[64];

static int folder_make(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/tdvol-unit-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int folder_remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static int folder_remove(void **state)
{
    (void)state;
    return nftw(folder, folder_remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *folder_path(const char *name)
{
    static char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}
