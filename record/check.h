/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * What records may say. The broker checks what it is told and what its store holds; plugin and worker
 * check what the broker answers, before they act on it. All errors are INVALID_ARGUMENT and name
 * the field, but for a layout version that is not known here: FAILED_PRECONDITION. Who got the
 * record from a part that should know better gives the error another code.
 */
MUST_USE bool volume_spec_check(const struct volume_spec *spec, struct error *err);

/* Extents follow each other from 0 and end with the volume; those that are not done have a slot of
 * their own, and the region that belongs to their length. Without integrity there may be none. */
MUST_USE bool volume_extents_check(const struct volume_extent *extents, uint32_t n,
                                   enum integrity integrity, uint64_t size_bytes,
                                   struct error *err);

MUST_USE bool record_check(const struct record *record, struct error *err);
