/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"

#include <stddef.h>

/*
 * The LUKS2 header of a volume that tdvol did not make: cryptsetup's, or Constellation's. The disk is
 * hostile, and the header has no signature. So it is read once, into memory; only the forms below are
 * accepted; and a header with nothing else in it is made for libcryptsetup. What was checked is what
 * is used, whatever the disk says later.
 *
 *   one segment:  aes-xts-plain64, sectors of 512 to 4096 bytes, hmac(sha256) or no integrity
 *   keyslots:     argon2id, argon2i or pbkdf2 with bounded cost; the key encrypted with
 *                 aes-xts-plain64 (a null cipher would let the disk choose the key)
 *   not:          reencryption, other requirements, flags; tokens and labels are left out
 */

struct old_header {
    int fd;          /* in memory, sealed; -1: none */
    char uuid[37];   /* as the header has it; printable */
    uint64_t offset; /* of the segment on the device, in bytes */
    uint64_t size;   /* of the segment; 0: to the end of the device */
    uint32_t sector_bytes;
    bool has_integrity;
};
#define OLD_HEADER_INIT \
    {                   \
        .fd = -1        \
    }
void old_header_drop(struct old_header *header);
#define auto_old_header CLEANUP(old_header_drop)

/* FAILED_PRECONDITION names what is not accepted. device_fd: perhaps O_DIRECT. */
MUST_USE bool old_header_copy(int device_fd, uint64_t device_bytes, struct old_header *out,
                              struct error *err);

/* dm-integrity's superblock lies at the start of the segment, outside of the header. The kernel
 * believes it, so it is checked, too. */
#define OLD_SUPERBLOCK_BYTES 4096u
struct old_integrity {
    uint64_t data_bytes;    /* what the mapping has */
    uint64_t journal_bytes; /* what a replay may write */
};
MUST_USE bool old_integrity_check(const uint8_t superblock[static OLD_SUPERBLOCK_BYTES],
                                  const struct old_header *header, uint64_t segment_bytes,
                                  struct old_integrity *out, struct error *err);
