/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * The kernel's log is the only place where dm-crypt reports sectors that fail their authentication:
 * "3,1234,5678,-;device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8"
 */
#define KERNEL_LOG_DEVICE_LEN 32

/* True when a record of /dev/kmsg reports such a sector. device gets the device's kernel name
 * ("dm-3"). */
bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN]);
