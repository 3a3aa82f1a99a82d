/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>
#include <sys/types.h>

/* Small files, directories, locks. Every descriptor is O_CLOEXEC. */

/* Reads a whole file of at most max bytes; *out is NUL-terminated beyond len and owned by the
 * caller. OUT_OF_RANGE when it is larger. */
MUST_USE bool file_read(const char *path, size_t max, char **out, size_t *out_len,
                        struct error *err);

/* The same into locked memory, without any other copy. FAILED_PRECONDITION unless it is a regular
 * file, not empty, owned by the caller's effective uid (or root), without any permission for group
 * and others; the text names the chmod that mends it. */
MUST_USE bool file_read_private(const char *path, size_t max, struct secret *out,
                                struct error *err);

/* Creates or replaces atomically: temporary file beside it, fsync, rename, fsync of the folder. */
MUST_USE bool file_write(const char *path, mode_t mode, const void *bytes, size_t len,
                         struct error *err);

/* As file_write, but ALREADY_EXISTS when something is there. */
MUST_USE bool file_create(const char *path, mode_t mode, const void *bytes, size_t len,
                          struct error *err);

/* mkdir -p; existing ones are left as they are. */
MUST_USE bool file_make_dirs(const char *path, mode_t mode, struct error *err);

/* Opens (creates) path and takes flock(LOCK_EX). wait=false: ABORTED when another holds it. */
MUST_USE bool file_lock(const char *path, bool wait, int *out_fd, struct error *err);

/* Whole reads and writes: no short counts, EINTR retried. EOF early is an error. */
MUST_USE bool fd_write_all(int fd, const void *bytes, size_t len, struct error *err);
MUST_USE bool fd_pread_all(int fd, void *bytes, size_t len, off_t offset, struct error *err);
MUST_USE bool fd_pwrite_all(int fd, const void *bytes, size_t len, off_t offset, struct error *err);
