/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seal.h"

#include "record/aead.h"

#include <assert.h>
#include <string.h>

#define AAD_MAX (RECORD_ID_LEN + 4 + RECORD_TENANT_MAX)

static_assert(STORE_WRAPPED_LEN == AEAD_WRAPPED_LEN(VOLUME_SECRET_LEN), "wrapped length");
static_assert(SEAL_WRAPPED_LEN == STORE_WRAPPED_LEN && SEAL_KEY_LEN == VOLUME_SECRET_LEN,
              "one kind of wrapping");

bool seal_derive(const struct secret *master, const char *purpose, struct secret *out,
                 struct error *err)
{
    return hkdf_sha256(master, "", 0, purpose, strlen(purpose), out, SEAL_KEY_LEN, err);
}

bool seal_mark(const struct secret *master, uint8_t out[static STORE_MARK_LEN], struct error *err)
{
    auto_secret struct secret mark = SECRET_INIT;

    if (!seal_derive(master, "tdvol v1 master key mark", &mark, err))
        return false;
    memcpy(out, mark.bytes, STORE_MARK_LEN);
    return true;
}

bool seal_wrap(const struct secret *key, const struct byte_range *aad, const struct secret *plain,
               uint8_t out[static SEAL_WRAPPED_LEN], struct error *err)
{
    assert(plain->len == SEAL_KEY_LEN);
    return aead_wrap(key, aad, plain, out, err);
}

bool seal_open(const struct secret *key, const struct byte_range *aad,
               const uint8_t in[static SEAL_WRAPPED_LEN], struct secret *out, struct error *err)
{
    return aead_unwrap(key, aad, &(struct byte_range){ in, SEAL_WRAPPED_LEN }, out, err);
}

/* --- volume secrets --- */

/* Key id (the lineage), generation, tenant. Only the last one has a varying length. */
static struct byte_range bind(const struct record_key *key, const char *tenant,
                              uint8_t out[static AAD_MAX])
{
    size_t len = strnlen(tenant, RECORD_TENANT_MAX);

    memcpy(out, key->id, RECORD_ID_LEN);
    for (int i = 0; i < 4; i++)
        out[RECORD_ID_LEN + i] = (uint8_t)(key->generation >> (24 - 8 * i));
    memcpy(out + RECORD_ID_LEN + 4, tenant, len);
    return (struct byte_range){ out, RECORD_ID_LEN + 4 + len };
}

bool seal_again(const struct secret *wrapping, const char *tenant, const struct record_key *key,
                const struct secret *plain, uint8_t out[static STORE_WRAPPED_LEN],
                struct error *err)
{
    uint8_t bytes[AAD_MAX];
    const struct byte_range aad = bind(key, tenant, bytes);

    return seal_wrap(wrapping, &aad, plain, out, err);
}

bool seal_make(const struct secret *wrapping, const char *tenant, const struct record_key *key,
               struct store_key *out, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    struct store_key result = { .key = *key };

    if (!secret_random(&plain, VOLUME_SECRET_LEN, err) ||
        !seal_again(wrapping, tenant, key, &plain, result.wrapped, err))
        return false;
    *out = result;
    return true;
}

bool seal_unwrap(const struct secret *wrapping, const char *tenant, const struct store_key *key,
                 struct secret *out, struct error *err)
{
    uint8_t bytes[AAD_MAX];
    const struct byte_range aad = bind(&key->key, tenant, bytes);

    return seal_open(wrapping, &aad, key->wrapped, out, err);
}
