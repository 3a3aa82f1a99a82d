/* SPDX-License-Identifier: Apache-2.0 */
#include "record/sealing.h"

#include <string.h>

#define AAD_LEN (RECORD_ID_LEN + RECORD_ID_LEN + 4)

static const char info[] = "tdvol v1 volume secret";

/* Record id, key id, generation (big-endian). */
static void fill_aad(const struct record *record, uint8_t out[static AAD_LEN])
{
    uint8_t *end = mempcpy(out, record->id, RECORD_ID_LEN);

    end = mempcpy(end, record->key.id, RECORD_ID_LEN);
    for (int shift = 24; shift >= 0; shift -= 8)
        *end++ = (uint8_t)(record->key.generation >> shift);
}

bool secret_seal(const struct record *record, const struct secret *secret,
                 const uint8_t public_key[static HPKE_PUBLIC_LEN], struct sealed_secret *out,
                 struct error *err)
{
    uint8_t aad[AAD_LEN];

    fill_aad(record, aad);
    return hpke_seal(public_key, info, strlen(info), aad, sizeof(aad), secret, out->bytes,
                     sizeof(out->bytes), err);
}

bool secret_unseal(const struct record *record, const struct sealed_secret *sealed,
                   const struct hpke_key_pair *pair, struct secret *out, struct error *err)
{
    uint8_t aad[AAD_LEN];

    fill_aad(record, aad);
    return hpke_open(pair, info, strlen(info), aad, sizeof(aad), sealed->bytes,
                     sizeof(sealed->bytes), out, err);
}
