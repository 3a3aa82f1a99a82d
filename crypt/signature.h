/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

#define SIGNATURE_NAME_LEN 33
/* What libblkid finds on the device: "ext4", "several signatures"; "" when it finds nothing. Looks in
 * a child without rights, so only for processes without threads. */
MUST_USE bool signature_find(int device_fd, const char *device_path, bool skip_luks,
                             char out[static SIGNATURE_NAME_LEN], struct error *err);

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
