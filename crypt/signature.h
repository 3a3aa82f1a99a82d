/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * Checks that a device may be formatted: it must hold no known signature (libblkid) and no LUKS
 * header. Otherwise FAILED_PRECONDITION names what was found. From the second attempt on, headers
 * of an earlier attempt for the same record are allowed. Bytes without a known signature are always
 * allowed.
 */
MUST_USE bool signature_check(int device_fd, const char *device_path, const struct record *record,
                              struct error *err);
