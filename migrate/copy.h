/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdatomic.h>

/*
 * Makes a range of one device equal to that of another: reads both, and writes only what differs. So
 * a second run ends what the first one began, and what is zero on both sides takes no space on a
 * thin volume.
 */
#define COPY_PIECE_BYTES (256u * 1024) /* what is compared, and written, at once */

struct copy_range {
    int source_fd, target_fd; /* O_DIRECT when they are devices */
    uint64_t from;            /* a multiple of 4096 */
    uint64_t end;             /* of the source; the target goes on to the next multiple of 4096 */
    bool is_fresh; /* write what is not zero without a look at the target: nothing of it is there */
    bool compare_only;       /* DATA_LOSS "CopyDiffers" at the first difference */
    const atomic_bool *stop; /* CANCELLED when it becomes true */
    /* Before the first write; NULL: nothing to do. */
    bool (*begin)(void *cookie, struct error *err);
    void (*progress)(void *cookie, uint64_t bytes); /* more bytes are done; NULL allowed */
    void *cookie;
};

/* *is_blank: there is nothing but zeros in range->from..end of the target. The source is not read, and
 * the reading ends at the first other byte. */
MUST_USE bool copy_range_find_blank(const struct copy_range *range, bool *is_blank,
                                    struct error *err);

/* *written: bytes. Also set when it fails. Writes are not flushed. */
MUST_USE bool copy_range_run(const struct copy_range *range, uint64_t *written, struct error *err);
