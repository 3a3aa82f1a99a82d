/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * The kernel's log is the only place where dm-crypt reports sectors that fail their authentication:
 * "3,1234,5678,-;device-mapper: crypt: dm-3: INTEGRITY AEAD ERROR, sector 8". File systems tell
 * only there that they gave up, and the block layer that writes failed.
 */
#define KERNEL_LOG_DEVICE_LEN 32

/* True when a record of /dev/kmsg reports such a sector. device gets the device's kernel name
 * ("dm-3"). */
bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN]);

enum kernel_log_fault {
    KERNEL_LOG_NO_FAULT,
    KERNEL_LOG_SHUT_DOWN,    /* the file system on the device stopped */
    KERNEL_LOG_READ_ONLY,    /* the file system on the device became read-only */
    KERNEL_LOG_WRITE_FAILED, /* something did not reach the device */
};

/* What a record of /dev/kmsg says about a file system or a device: "dm-3", or "loop3" when the loop
 * device below a volume failed. */
enum kernel_log_fault kernel_log_find_fault(const char *record,
                                            char device[static KERNEL_LOG_DEVICE_LEN]);
