/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * What a record may contain. The broker checks what callers send and what its store holds. The
 * plugin and the worker check the broker's answers before they act on them. An error is
 * INVALID_ARGUMENT and names the field. The one exception is an unknown layout version: it is
 * FAILED_PRECONDITION. A caller that got the record from a trusted side (its own store, the broker)
 * replaces the code.
 */
MUST_USE bool volume_spec_check(const struct volume_spec *spec, struct error *err);

/* The first extent starts at 0, each extent starts where the one before ends, and the last one ends
 * with the volume. Each extent that is not done has its own slot and the region size that follows
 * from its length. A volume without integrity need not have extents. */
MUST_USE bool volume_extents_check(const struct volume_extent *extents, uint32_t n,
                                   enum integrity integrity, uint64_t size_bytes,
                                   struct error *err);

MUST_USE bool record_check(const struct record *record, struct error *err);
