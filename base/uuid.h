/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/* Only uuid.c uses libuuid. */

#define UUID_LEN      16
#define UUID_TEXT_LEN 37 /* lower case with dashes, and NUL */

void uuid_text(const uint8_t uuid[UUID_LEN], char out[UUID_TEXT_LEN]);

#define BOOT_ID_LEN 37
/* /proc/sys/kernel/random/boot_id; "unknown" when it cannot be read. */
void boot_id_text(char out[BOOT_ID_LEN]);
