/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/layout.h"

/*
 * The two copies of the LUKS2 header on the device. A header is only parsed after its SHA-256 was
 * found in the record, and then must also have exactly the form which we write: a bug in one check
 * is caught by the other.
 */

/* header has LAYOUT_HEADER_BYTES. DATA_LOSS "HeaderChanged", saying what is not as expected. */
MUST_USE bool header_check(const uint8_t *header, const struct volume_spec *spec,
                           struct error *err);

/* Copy B, flush, copy A, flush, and both read back: a crash at any moment leaves one whole. */
MUST_USE bool header_write(int device_fd, const uint8_t *header, struct error *err);

/*
 * Reads the first copy, A then B, whose digest the record knows, and checks its form.
 * *needs_repair: the other copy is not the same. DATA_LOSS "HeaderChanged" when neither fits.
 */
MUST_USE bool header_read(int device_fd, const struct record *record, uint8_t *header,
                          bool *needs_repair, struct error *err);

/* Writes the copy that differs from header anew. */
MUST_USE bool header_repair(int device_fd, const uint8_t *header, struct error *err);
