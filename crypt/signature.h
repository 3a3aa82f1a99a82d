/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * What a device that is to be formatted may not hold: a known signature (libblkid), or a LUKS
 * header. FAILED_PRECONDITION naming it. Headers which a former attempt for the same record left
 * are let pass when this is not the first one; mere garbage always is.
 */
MUST_USE bool signature_check(int device_fd, const char *device_path, const struct record *record,
                              struct error *err);
