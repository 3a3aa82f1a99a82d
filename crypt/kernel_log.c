/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/kernel_log.h"

#include <stdio.h>
#include <string.h>

/* A user may write to /dev/kmsg as well, but not with the kernel's facility (0): the number before
 * the first comma is facility * 8 + level. */
static bool is_from_kernel(const char *record)
{
    return record[0] >= '0' && record[0] <= '7' && record[1] == ',';
}

static const char *const prefixes[] = { "device-mapper: crypt: ", "device-mapper: integrity: " };
static const char *const complaints[] = { "INTEGRITY AEAD ERROR", "Checksum failed" };

bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN])
{
    const char *text = strchr(record, ';');
    if (!text || !is_from_kernel(record))
        return false;
    text++;
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(text, prefixes[i], len) != 0)
            continue;
        const char *name = text + len;
        size_t name_len = strspn(name, "dm-0123456789");
        if (strncmp(name, "dm-", 3) != 0 || name_len >= KERNEL_LOG_DEVICE_LEN ||
            strncmp(name + name_len, ": ", 2) != 0 ||
            strncmp(name + name_len + 2, complaints[i], strlen(complaints[i])) != 0)
            return false;
        snprintf(device, KERNEL_LOG_DEVICE_LEN, "%.*s", (int)name_len, name);
        return true;
    }
    return false;
}
