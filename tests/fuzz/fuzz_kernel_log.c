/* SPDX-License-Identifier: Apache-2.0 */
#include "base/macro.h"
#include "blockd/kernel_log.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* One record of /dev/kmsg. Others than the kernel write there, too: their records report nothing. A
 * reported device is called dm-N or loopN, because its name becomes a part of paths. */

#define RECORD_MAX 8192 /* the kernel's own limit */

static void check_device(const char *record, const char *device, bool may_be_loop)
{
    size_t word = strncmp(device, "dm-", 3) == 0                   ? 3
                  : may_be_loop && strncmp(device, "loop", 4) == 0 ? 4
                                                                   : 0;
    const char *end = memchr(device, 0, KERNEL_LOG_DEVICE_LEN);

    if (word == 0 || !end || device + word == end ||
        strspn(device + word, "0123456789") != (size_t)(end - device) - word)
        abort();
    if (record[0] < '0' || record[0] > '7' || record[1] != ',' || !strstr(record, device))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char device[2][KERNEL_LOG_DEVICE_LEN];

    for (size_t i = 0; i < sizeof(device); i++)
        device[i / KERNEL_LOG_DEVICE_LEN][i % KERNEL_LOG_DEVICE_LEN] = 'x';
    if (len > RECORD_MAX)
        return 0;
    char *record = text_of_bytes(bytes, len);
    if (!record)
        abort();
    if (kernel_log_integrity_error(record, device[0]))
        check_device(record, device[0], false);
    if (kernel_log_find_fault(record, device[1]) != KERNEL_LOG_NO_FAULT)
        check_device(record, device[1], true);
    free(record);
    return 0;
}
