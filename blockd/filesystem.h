/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * File systems: a table has one row for each. External programs do the work. Timeouts are in ms; 0:
 * none.
 */

/* INVALID_ARGUMENT names the known file systems. */
MUST_USE bool filesystem_check_type(const char *fs_type, struct error *err);

/* Makes the file system and flushes the device. */
MUST_USE bool filesystem_make(const char *fs_type, const char *device_path, uint32_t timeout_ms,
                              struct error *err);

/* Whether filesystem_repair() has something to do before a read-write mount: not when the file system
 * says that it was unmounted cleanly, nor when mounting alone replays the journal. */
bool filesystem_needs_repair(const char *fs_type, const char *device_path);

/* Replays the journal and repairs what can be repaired safely. thoroughly: even when the file system
 * says that it is clean. FAILED_PRECONDITION "FileSystemDamaged" when that is not enough. */
MUST_USE bool filesystem_repair(const char *fs_type, const char *device_path, bool thoroughly,
                                uint32_t timeout_ms, struct error *err);

/* Grows the file system, mounted at mount_path, to the device's size. True when it has that size
 * already. */
MUST_USE bool filesystem_grow(const char *fs_type, const char *device_path, const char *mount_path,
                              uint32_t timeout_ms, struct error *err);

/* Mount options that the file system always needs; "" when it needs none. */
const char *filesystem_mount_flags(const char *fs_type);

/* Whether the programs of the file system are installed. */
bool filesystem_is_installed(const char *fs_type);
