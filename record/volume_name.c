/* SPDX-License-Identifier: Apache-2.0 */
#include "record/volume_name.h"

#include "base/digest.h"

#include <stdio.h>
#include <string.h>

#define NAME_PREFIX "tdvol-"
#define NAME_DIGITS 26

bool volume_name_make(const char *driver, const char *volume_id, struct volume_name *out,
                      struct error *err)
{
    auto_sha256 struct sha256_stream stream = { .context = NULL };
    uint8_t digest[SHA256_LEN];
    char digits[BASE32_LEN(SHA256_LEN) + 1];

    if (!sha256_start(&stream, err) || !sha256_add(&stream, driver, strlen(driver) + 1, err) ||
        !sha256_add(&stream, volume_id, strlen(volume_id), err) ||
        !sha256_finish(&stream, digest, err))
        return false;
    base32_encode(digest, sizeof(digest), digits);
    (void)snprintf(out->text, sizeof(out->text), NAME_PREFIX "%.*s", NAME_DIGITS, digits);
    return true;
}
