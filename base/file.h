/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <dirent.h>
#include <stddef.h>
#include <sys/types.h>

/* Small files, directories, locks. Every descriptor is O_CLOEXEC. */

/* Reads a whole file of at most max bytes: OUT_OF_RANGE when it is larger. A NUL follows the bytes.
 * The caller owns *out. */
MUST_USE bool file_read(const char *path, size_t max, char **out, size_t *out_len,
                        struct error *err);

/* The same into locked memory, without any other copy. The file must be regular, not empty, owned
 * by the effective uid or root, and closed to group and others. If not: FAILED_PRECONDITION, and
 * the text names the chown or chmod that repairs it. */
MUST_USE bool file_read_private(const char *path, size_t max, struct secret *out,
                                struct error *err);

/* Reads a descriptor to its end, or one line of it without the line end, into locked memory: 1 to max
 * bytes, max < SECRET_LEN_MAX. OUT_OF_RANGE for none and for more. */
MUST_USE bool fd_read_secret(int fd, size_t max, struct secret *out, struct error *err);
MUST_USE bool fd_read_secret_line(int fd, size_t max, struct secret *out, struct error *err);

/* The same as file_read_private for a process that will become another user: the file may also belong to uid, and gid
 * may read it. */
MUST_USE bool file_read_private_of(const char *path, size_t max, uid_t uid, gid_t gid,
                                   struct secret *out, struct error *err);

/* Creates or replaces path atomically: temporary file, fsync, rename, fsync of the folder. */
MUST_USE bool file_write(const char *path, mode_t mode, const void *bytes, size_t len,
                         struct error *err);

/* Like file_write, but ALREADY_EXISTS when path exists. */
MUST_USE bool file_create(const char *path, mode_t mode, const void *bytes, size_t len,
                          struct error *err);

/* After a file got or lost this name: the folder has it on the disk. */
MUST_USE bool file_sync_folder_of(const char *path, struct error *err);

/* Like mkdir -p. Does not change existing folders. */
MUST_USE bool file_make_dirs(const char *path, mode_t mode, struct error *err);

/* Opens or creates path and takes flock(LOCK_EX). wait=false: ABORTED when it is taken. */
MUST_USE bool file_lock(const char *path, bool wait, int *out_fd, struct error *err);

/* For folders that are read; NULL is allowed. */
void folder_close(DIR **folder);
#define auto_dir CLEANUP(folder_close)

/* Read or write all len bytes: EINTR is retried, an early end of file is OUT_OF_RANGE. */
MUST_USE bool fd_write_all(int fd, const void *bytes, size_t len, struct error *err);
MUST_USE bool fd_pread_all(int fd, void *bytes, size_t len, off_t offset, struct error *err);
MUST_USE bool fd_pwrite_all(int fd, const void *bytes, size_t len, off_t offset, struct error *err);
