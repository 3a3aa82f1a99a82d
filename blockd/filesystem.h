/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * File systems: one row of a table each. Programs do the work; timeouts in ms, 0: none.
 */

/* INVALID_ARGUMENT naming those known. */
MUST_USE bool filesystem_check_type(const char *fs_type, struct error *err);

/* Makes it and flushes the device. */
MUST_USE bool filesystem_make(const char *fs_type, const char *device_path, uint32_t timeout_ms,
                              struct error *err);

/* Before a read-write mount: replays the journal and repairs what is safe to repair.
 * FAILED_PRECONDITION with reason "FileSystemDamaged" when more is needed. */
MUST_USE bool filesystem_repair(const char *fs_type, const char *device_path, uint32_t timeout_ms,
                                struct error *err);

/* To the device's size, while mounted at mount_path. Nothing to do is success. */
MUST_USE bool filesystem_grow(const char *fs_type, const char *device_path, const char *mount_path,
                              uint32_t timeout_ms, struct error *err);

/* Options it always needs, "" for none. */
const char *filesystem_mount_flags(const char *fs_type);

/* Whether its programs are installed. */
bool filesystem_is_installed(const char *fs_type);
