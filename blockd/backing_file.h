/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <sys/stat.h>

/*
 * The local backend's raw space: files "<volume id>.img" in one folder that belongs to root alone.
 * A file under that name is always complete: it is made under another name, flushed and renamed.
 */
#define BACKING_ID_MAX 64

/* Ids become file names: [a-z0-9-], 1 to 64 of them. INVALID_ARGUMENT otherwise. */
MUST_USE bool backing_check_id(const char *volume_id, struct error *err);

/* FAILED_PRECONDITION unless it is a folder of our own user which nobody else can write. */
MUST_USE bool backing_open_folder(const char *path, int *out_fd, struct error *err);

/* NOT_FOUND when there is none. */
MUST_USE bool backing_open(int folder_fd, const char *volume_id, bool read_only, int *out_fd,
                           struct stat *st, struct error *err);

/* reserve: all space is allocated. ALREADY_EXISTS when one of another size is there. */
MUST_USE bool backing_create(int folder_fd, const char *volume_id, uint64_t size_bytes,
                             bool reserve, bool *already, struct error *err);
MUST_USE bool backing_delete(int folder_fd, const char *volume_id, bool *already,
                             struct error *err);
/* Grows to size_bytes; *out_bytes is the size afterwards, larger when it was. */
MUST_USE bool backing_grow(int folder_fd, const char *volume_id, uint64_t size_bytes, bool reserve,
                           uint64_t *out_bytes, struct error *err);
MUST_USE bool backing_capacity(int folder_fd, uint64_t *out_bytes, struct error *err);

/* A copy in the making. */
struct backing_copy {
    int folder_fd; /* the caller's */
    int source_fd, target_fd;
    uint64_t size_bytes, allocated_bytes; /* of the source */
    char temporary[BACKING_ID_MAX + 16], final[BACKING_ID_MAX + 16];
    void *buffer;
};
#define BACKING_COPY_INIT                \
    {                                    \
        .source_fd = -1, .target_fd = -1 \
    }

/* *already: the copy is there and complete. */
MUST_USE bool backing_copy_begin(int folder_fd, const char *from, const char *to, bool *already,
                                 struct backing_copy *out, struct error *err);
/* Shares the source's extents; *done=false where the file system cannot. */
MUST_USE bool backing_copy_reflink(struct backing_copy *copy, bool *done, struct error *err);
MUST_USE bool backing_copy_reserve(struct backing_copy *copy, struct error *err);
/* Holes and zeros stay holes. Allocates nothing itself. */
MUST_USE bool backing_copy_data(struct backing_copy *copy, struct error *err);
MUST_USE bool backing_copy_commit(struct backing_copy *copy, struct error *err);
void backing_copy_drop(struct backing_copy *copy); /* removes what was not committed */
#define auto_backing_copy CLEANUP(backing_copy_drop)

/* Calls each for every volume of which a killed worker left a temporary file. */
MUST_USE bool backing_each_rest(int folder_fd,
                                bool (*each)(void *cookie, const char *volume_id,
                                             struct error *err),
                                void *cookie, struct error *err);
/* Removes that file. Under the volume's lock: else somebody may be at work on it. */
MUST_USE bool backing_remove_rest(int folder_fd, const char *volume_id, struct error *err);
