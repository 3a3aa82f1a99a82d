/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/recovery_token.h"
#include "record/record.h"

#include <sys/types.h>

/*
 * A volume without its broker: what its header says, and a record made up from the disk, by which
 * volume_activate() opens it with a recovery key. The same strict checks hold, but nobody vouches for
 * the header: everybody who knows the recovery certificate can make a disk that passes them.
 */
struct recover_header {
    uint8_t digest[SHA256_LEN]; /* of all of it, as the broker's record has it */
    char record_id[37]; /* the header's UUID: of the volume that was formatted, not of a copy */
    struct volume_spec spec; /* how it is encrypted and where it begins; no sizes */
    bool has_token;
    struct recovery_token token;
};

/* Reads one copy, at LAYOUT_HEADER_A_OFFSET or _B_OFFSET. DATA_LOSS "HeaderChanged" when it is not one
 * that tdvol writes, in any mode. */
MUST_USE bool recover_read_header(int device_fd, off_t offset, struct recover_header *out,
                                  struct error *err);

/*
 * The record by which the volume opens with this copy of its header. The sizes are those of dm-integrity's
 * superblock; without integrity the volume takes all of the device, which may be more than its record
 * said. Writes nothing.
 */
MUST_USE bool recover_make_record(int device_fd, uint64_t device_bytes,
                                  const struct recover_header *header, struct record *out,
                                  struct error *err);
