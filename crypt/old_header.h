/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/header.h"

/*
 * The LUKS2 header of another program (cryptsetup, Constellation), on a volume that is to be taken
 * over in place. Nothing vouches for it but the passphrase that opens it, and the host may have
 * changed everything else. So it is taken only in the form that "cryptsetup luksFormat" gives it: one
 * segment from 16 MiB to the end, aes-xts-plain64 with 64 bytes of key also for the keyslots, no
 * integrity, no requirements, and a bounded cost of the key derivation. Tokens are ignored.
 *
 * Errors are FAILED_PRECONDITION "OldHeader" and name the part that differs.
 */

/* Copies the header into memory, seals the copy, and checks it. No keyslot lies where our second header
 * and the reserved part go. The caller closes *out_fd. */
MUST_USE bool old_header_read(int device_fd, const struct volume_spec *spec, int *out_fd,
                              struct error *err);

MUST_USE bool old_header_check_metadata(const uint8_t metadata[static HEADER_PARSED_BYTES],
                                        const struct volume_spec *spec, struct error *err);

/* Overwrites what the two copies of our header leave of it. */
MUST_USE bool old_header_erase(int device_fd, struct error *err);
