/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/volume_id.h"

#include "base/digest.h"

#include <string.h>

#define HASH_LEN 16 /* of the digest: 26 characters */

bool volume_id_make(enum volume_id_kind kind, const char *driver, const char *name,
                    char out[static VOLUME_ID_LEN + 1], struct error *err)
{
    auto_sha256 struct sha256_stream hash = { .context = NULL };
    uint8_t digest[SHA256_LEN];

    if (!sha256_start(&hash, err) || !sha256_add(&hash, driver, strlen(driver) + 1, err) ||
        !sha256_add(&hash, name, strlen(name), err) || !sha256_finish(&hash, digest, err))
        return error_wrap(err, "make the id of %s", name);
    out[0] = (char)kind;
    base32_encode(digest, HASH_LEN, out + 1);
    return true;
}

bool volume_id_is(enum volume_id_kind kind, const char *id)
{
    return id[0] == (char)kind && strlen(id) == VOLUME_ID_LEN &&
           strspn(id + 1, "abcdefghijklmnopqrstuvwxyz234567") == VOLUME_ID_LEN - 1;
}
