/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/* "tdvol-" and 26 characters of base32(SHA-256(driver name, NUL, volume id)). */
#define VOLUME_NAME_LEN 32
struct volume_name {
    char text[VOLUME_NAME_LEN + 1];
};
MUST_USE bool volume_name_make(const char *driver, const char *volume_id, struct volume_name *out,
                               struct error *err);
