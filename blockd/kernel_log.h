/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * The kernel's log: dm-crypt tells of sectors that do not authenticate nowhere else.
 * "3,1234,5678,-;device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8"
 */
#define KERNEL_LOG_DEVICE_LEN 32

/* True with the device's kernel name ("dm-3") when a record of /dev/kmsg tells of such a sector. */
bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN]);
