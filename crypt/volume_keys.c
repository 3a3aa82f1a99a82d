/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/volume_keys.h"

#include "base/digest.h"

#include <stdio.h>

static bool derive(const struct record_key *key, const struct secret *secret, const char *purpose,
                   struct secret *out, struct error *err)
{
    uint8_t info[64];
    int len = snprintf((char *)info, sizeof(info) - 4, "tdvol v1 %s", purpose);

    for (int i = 0; i < 4; i++)
        info[len + i] = (uint8_t)(key->generation >> (24 - 8 * i));
    return hkdf_sha256(secret, key->id, RECORD_ID_LEN, info, (size_t)len + 4, out, SHA256_LEN, err);
}

bool volume_keys_derive(const struct record_key *key, const struct secret *secret,
                        struct volume_keys *out, struct error *err)
{
    return derive(key, secret, "luks", &out->luks, err) &&
           derive(key, secret, "state", &out->state, err);
}

void volume_keys_wipe(struct volume_keys *keys)
{
    secret_wipe(&keys->luks);
    secret_wipe(&keys->state);
}
