/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kernel_log.h"

#include "base/macro.h"

#include <stdio.h>
#include <string.h>

/* Users may write to /dev/kmsg, too, but not with the kernel's facility (0). The number before the
 * first comma is facility * 8 + level. */
static bool is_from_kernel(const char *record)
{
    return record[0] >= '0' && record[0] <= '7' && record[1] == ',';
}

/* The kernel may put another word before the prefix ("trusted_key: " in 6.1). */
static const struct complaint {
    const char *prefix, *text;
} complaints[] = {
    { "device-mapper: crypt: ", "INTEGRITY AEAD ERROR" },
    { "device-mapper: integrity: ", "Checksum failed" },
};

bool kernel_log_integrity_error(const char *record, char device[static KERNEL_LOG_DEVICE_LEN])
{
    const char *text = strchr(record, ';');

    if (!text || !is_from_kernel(record))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(complaints); i++) {
        const struct complaint *c = &complaints[i];
        const char *name = strstr(text, c->prefix);

        if (!name)
            continue;
        name += strlen(c->prefix);
        size_t len = strncmp(name, "dm-", 3) == 0 ? 3 + strspn(name + 3, "0123456789") : 0;
        if (len <= 3 || len >= KERNEL_LOG_DEVICE_LEN || strncmp(name + len, ": ", 2) != 0 ||
            strncmp(name + len + 2, c->text, strlen(c->text)) != 0)
            return false;
        (void)snprintf(device, KERNEL_LOG_DEVICE_LEN, "%.*s", (int)len, name);
        return true;
    }
    return false;
}
