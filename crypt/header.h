/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/layout.h"

/*
 * The two copies of the LUKS2 header on the device. Two checks guard the parser: the header's
 * SHA-256 must be in the record, and then its content must have exactly the form that we write. A
 * bug in one check is caught by the other.
 */

/* header has LAYOUT_HEADER_BYTES. DATA_LOSS "HeaderChanged" names the part that is not as
 * expected. */
MUST_USE bool header_check(const uint8_t *header, const struct volume_spec *spec,
                           struct error *err);

/* Gives a header that was made for another mode, with a volume key of the same length, the mode of
 * spec. INTERNAL when it has a part that header_check() would refuse. */
MUST_USE bool header_set_mode(uint8_t *header, const struct volume_spec *spec, struct error *err);

/* Writes copy B, flushes, writes copy A, flushes, and reads both back. After a crash at any moment
 * one copy is whole. */
MUST_USE bool header_write(int device_fd, const uint8_t *header, struct error *err);

/*
 * Reads both copies, takes the first one (A, then B) whose digest the record knows, and checks its
 * form. *needs_repair: the other copy differs or cannot be read. DATA_LOSS "HeaderChanged" when the
 * record knows neither copy.
 */
MUST_USE bool header_read(int device_fd, const struct record *record, uint8_t *header,
                          bool *needs_repair, struct error *err);

/* Overwrites each copy that differs from header. */
MUST_USE bool header_repair(int device_fd, const uint8_t *header, struct error *err);
