/* SPDX-License-Identifier: Apache-2.0 */
#include "base/uuid.h"

#include "base/macro.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uuid/uuid.h>

void uuid_text(const uint8_t uuid[UUID_LEN], char out[UUID_TEXT_LEN])
{
    uuid_unparse_lower(uuid, out);
}

void boot_id_text(char out[BOOT_ID_LEN])
{
    auto_close int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char text[BOOT_ID_LEN] = "";
    uuid_t parsed;

    if (fd < 0 || read(fd, text, BOOT_ID_LEN - 1) != BOOT_ID_LEN - 1 ||
        uuid_parse(text, parsed) != 0)
        (void)snprintf(text, sizeof(text), "unknown");
    memcpy(out, text, BOOT_ID_LEN);
}
