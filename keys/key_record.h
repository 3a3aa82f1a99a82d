/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "keys/keys.h"

#include "keybroker.pb-c.h"

/*
 * Between the broker's messages and plain structs. The broker is trusted to decide, not to be
 * free of bugs: what comes back is checked as anything from outside. INTERNAL when it is not what
 * it should be, FAILED_PRECONDITION when it is of a version that is not known here.
 */
#define KEY_RECORD_VERSION 1u

/* volume_id NULL: any, as in listings. */
MUST_USE bool key_record_from_message(const Tdvol__Keybroker__V1__Record *message,
                                      const char *driver, const char *volume_id,
                                      struct key_record *out, struct error *err);

/* The message points into its arguments. */
void key_record_spec_to_message(const struct volume_spec *spec, const char *name,
                                const char *location, Tdvol__Keybroker__V1__VolumeSpec *out);

/* From the arena; NULL when it is exhausted. */
Tdvol__Keybroker__V1__Extent **key_record_extents_to_message(const struct volume_extent *extents,
                                                             size_t n, struct arena *arena);
