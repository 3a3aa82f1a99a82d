/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The device that is copied to. Its first MiB is written last. Until then there are zeros in it and a
 * marker, which names the copy: so a half copied volume has no file system, and the next run knows
 * that it may go on.
 */
#define TARGET_HEAD_BYTES   (1u << 20)
#define TARGET_MARKER_BYTES 4096u

enum target_state {
    TARGET_EMPTY, /* its first MiB is zeros, and libblkid finds nothing. What is behind is not known. */
    TARGET_BEGUN, /* it has the marker of the same copy */
    TARGET_DONE,  /* its first MiB is the source's. When that is zeros: TARGET_EMPTY */
    TARGET_OTHER, /* anything else: only with the user's word */
};

struct target {
    const char *path;
    dev_t number;
    int fd;       /* O_DIRECT */
    int claim_fd; /* O_EXCL: nobody else mounts it, or copies to it */
    uint64_t bytes;
    uint32_t sector_bytes; /* the smallest that a file system on it may use */
    char found[64];        /* for TARGET_OTHER: what is on it */
};
#define TARGET_INIT              \
    {                            \
        .fd = -1, .claim_fd = -1 \
    }
void target_close(struct target *target);
#define auto_target CLEANUP(target_close)

/* ABORTED when it is in use. */
MUST_USE bool target_open(struct target *target, const char *path, struct error *err);

/* Which copy a marker belongs to. */
struct target_mark {
    char uuid[37]; /* of the source */
    uint64_t bytes;
};
void target_mark_encode(const struct target_mark *mark, uint8_t out[static TARGET_MARKER_BYTES]);
bool target_mark_fits(const uint8_t block[static TARGET_MARKER_BYTES],
                      const struct target_mark *mark);

/* head: the source's first bytes, at most TARGET_HEAD_BYTES and a multiple of 4096. Starts a child, so
 * only for processes without threads. */
MUST_USE bool target_look(struct target *target, const struct target_mark *mark,
                          const uint8_t *head, size_t head_len, enum target_state *out,
                          struct error *err);

/* Writes the marker, with zeros behind it. A crash in between leaves TARGET_OTHER or
 * TARGET_BEGUN. */
MUST_USE bool target_begin(const struct target *target, const struct target_mark *mark,
                           struct error *err);

/* Replaces the marker by the source's first bytes, its first block last. */
MUST_USE bool target_finish(const struct target *target, const uint8_t *head, size_t head_len,
                            struct error *err);

/* FAILED_PRECONDITION when the file system in head cannot live on sectors of this size. Others than
 * ext4 and xfs are not known here. */
MUST_USE bool target_check_sectors(uint32_t sector_bytes, const uint8_t *head, size_t head_len,
                                   struct error *err);
