/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "blockd/request.h"
#include "record/record.h"

#include "csi.pb-c.h"

/* What a CSI volume capability asks for, checked. */
struct capability {
    bool is_block;
    bool read_only;      /* a reader's access mode */
    bool single_writer;  /* SINGLE_NODE_SINGLE_WRITER: one target only */
    const char *fs_type; /* of the message; "" when not given or for block */
    const Csi__V1__VolumeCapability *message;
};

/* INVALID_ARGUMENT when it is missing or incomplete, or can never be served: an encrypted volume has
 * writers on one node only. */
MUST_USE bool capability_read(const Csi__V1__VolumeCapability *message, struct capability *out,
                              struct error *err);

/* Reads a list, which must not be empty. All its items must agree on raw block or on one type of
 * file system. It is read-only when all of them are. */
MUST_USE bool capability_read_all(Csi__V1__VolumeCapability *const *list, size_t n,
                                  struct capability *out, struct error *err);

/* FAILED_PRECONDITION when a volume with this spec cannot be used as the capability asks. */
MUST_USE bool capability_fits(const struct capability *capability, const struct volume_spec *spec,
                              struct error *err);

/* Whether it asks for raw block, for writing, of a volume that was made for a file system. Nodes give
 * this: somebody brings a file system of that type along. */
bool capability_can_bring(const struct capability *capability, const struct volume_spec *spec);

/* The mount flags, joined by commas. Their text appears in no error: it may be sensitive. */
MUST_USE bool capability_mount_flags(const struct capability *capability,
                                     char out[static BLOCK_FLAGS_MAX], struct error *err);
