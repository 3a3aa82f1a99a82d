/* SPDX-License-Identifier: Apache-2.0 */
#include "master/replica.h"

#include <assert.h>
#include <string.h>

#define INFO "tdvol v1 master key"

static_assert(sizeof(struct replica_binding) == 32 + REPLICA_NONCE_LEN, "it is bytes in a row");

bool replica_seal(const uint8_t public_key[static HPKE_PUBLIC_LEN],
                  const struct replica_binding *binding, const struct secret *key,
                  uint8_t out[static REPLICA_SEALED_LEN], struct error *err)
{
    if (key->len != MASTER_KEY_LEN)
        return error_set(err, ERROR_INTERNAL, "the master key has %zu bytes", key->len);
    return hpke_seal(public_key, INFO, strlen(INFO), binding, sizeof(*binding), key, out,
                     REPLICA_SEALED_LEN, err);
}

bool replica_open(const struct hpke_key_pair *pair, const struct replica_binding *binding,
                  const void *sealed, size_t len, struct secret *out, struct error *err)
{
    if (len != REPLICA_SEALED_LEN)
        return error_set(err, ERROR_DENIED, "the sealed master key has %zu bytes, not %zu", len,
                         (size_t)REPLICA_SEALED_LEN);
    return hpke_open(pair, INFO, strlen(INFO), binding, sizeof(*binding), sealed, len, out, err);
}
