/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "crypt/layer.h"
#include "crypt/recovery_token.h"
#include "record/record.h"

/*
 * Takes over a volume that another program encrypted (record/layout.h), without moving its data: our
 * header gets the volume key of the old one.
 *
 * After a crash at any moment the next stage goes on. Until the record says READY, only parts of the
 * disk are written that the old header does not use: it still opens the volume, and everything is done
 * again. From READY on our copy B opens it, and what is left of the old header is overwritten before
 * our copy A is written.
 */
struct take_over {
    const struct volume_name *name; /* LAYER_BOTTOM is there */
    int raw_fd;
    const struct record *record;
    const struct secret *secret; /* of the volume */
    const struct secret *luks_key;
    const struct recovery_token *token; /* for the new header; NULL: none */
};

/* Opens LAYER_CRYPT with a new header of ours, in a header of header_new(). Writes nothing to the
 * disk. Errors: those of crypt/old_header.h; FAILED_PRECONDITION "KeyMismatch" for a wrong passphrase. */
MUST_USE bool take_over_open(const struct take_over *t, int header_fd, struct error *err);

/*
 * Looks whether the mapping has the file system that the record names. It does not, when the key was
 * right and the data is something else. *out_bytes: the size of the file system, or of the volume for
 * raw block. FAILED_PRECONDITION "OldFileSystem" when it is another one, or larger than the volume.
 */
MUST_USE bool take_over_check_content(int mapping_fd, const struct volume_spec *spec,
                                      uint64_t *out_bytes, struct error *err);
