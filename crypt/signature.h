/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Checks that a device may be formatted: it must hold no known signature (libblkid) and no LUKS
 * header. Otherwise FAILED_PRECONDITION names what was found. Headers for the same record are left
 * to crypt/leftover.h. Bytes without a known signature are always allowed.
 */
struct signature_found {
    bool header_a, header_b; /* LUKS headers for this record: their UUID is the record's id */
};
MUST_USE bool signature_check(int device_fd, const char *device_path, const struct record *record,
                              struct signature_found *out, struct error *err);
