/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

/*
 * The raw space of the local backend: files "<volume id>.img" in one folder that belongs to root
 * alone. A file with that name is always complete: it is made under another name, flushed, and then
 * renamed.
 */
#define BACKING_ID_MAX 64

/* Checks an id, which becomes a file name: 1 to 64 characters of [a-z0-9-]. INVALID_ARGUMENT
 * otherwise. */
MUST_USE bool backing_check_id(const char *volume_id, struct error *err);

/* FAILED_PRECONDITION unless the folder belongs to our user and nobody else can write to it. */
MUST_USE bool backing_open_folder(const char *path, int *out_fd, struct error *err);

/* NOT_FOUND when the file does not exist. */
MUST_USE bool backing_open(int folder_fd, const char *volume_id, bool read_only, int *out_fd,
                           struct stat *st, struct error *err);

/* reserve: allocate all space now. ALREADY_EXISTS when a file of another size exists. */
MUST_USE bool backing_create(int folder_fd, const char *volume_id, uint64_t size_bytes,
                             bool reserve, bool *already, struct error *err);
/* Also removes a temporary file. The caller must hold the volume's lock. */
MUST_USE bool backing_delete(int folder_fd, const char *volume_id, bool *already,
                             struct error *err);
/* Grows the file to size_bytes. *out_bytes is its size afterwards. A larger file is not shrunk. After
 * a failure it has its old size, and no more space than before. */
MUST_USE bool backing_grow(int folder_fd, const char *volume_id, uint64_t size_bytes, bool reserve,
                           uint64_t *out_bytes, struct error *err);
/* Whether there is anything in the folder; lost+found does not count. */
MUST_USE bool backing_find_any(int folder_fd, bool *found, struct error *err);
/* The largest file that the folder's file system can take now. */
MUST_USE bool backing_capacity(int folder_fd, uint64_t *out_bytes, struct error *err);

/* A copy that is being made. */
struct backing_copy {
    int folder_fd; /* of its own: the caller may close the folder first */
    int source_fd, target_fd;
    uint64_t size_bytes, allocated_bytes; /* of the source */
    char temporary[BACKING_ID_MAX + 16], final[BACKING_ID_MAX + 16];
    void *buffer;
};
#define BACKING_COPY_INIT                                 \
    {                                                     \
        .folder_fd = -1, .source_fd = -1, .target_fd = -1 \
    }

/* *already: the copy exists and is complete. */
MUST_USE bool backing_copy_begin(int folder_fd, const char *from, const char *to, bool *already,
                                 struct backing_copy *out, struct error *err);
/* Shares the source's extents. *done is false where the file system cannot do that. */
MUST_USE bool backing_copy_reflink(struct backing_copy *copy, bool *done, struct error *err);
MUST_USE bool backing_copy_reserve(struct backing_copy *copy, struct error *err);
/* Copies the data. Holes and blocks of zeros become holes. Allocates no memory. */
MUST_USE bool backing_copy_data(struct backing_copy *copy, struct error *err);
MUST_USE bool backing_copy_commit(struct backing_copy *copy, struct error *err);
void backing_copy_drop(struct backing_copy *copy); /* removes a copy that was not committed */
#define auto_backing_copy CLEANUP(backing_copy_drop)

/* Calls each() for every volume with a temporary file that a killed worker left. */
MUST_USE bool backing_each_rest(int folder_fd,
                                bool (*each)(void *cookie, const char *volume_id,
                                             struct error *err),
                                void *cookie, struct error *err);
/* Removes that file. The caller must hold the volume's lock: otherwise a worker may be writing
 * it. */
MUST_USE bool backing_remove_rest(int folder_fd, const char *volume_id, struct error *err);
