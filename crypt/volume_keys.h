/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/record.h"

/* What follows from one secret of a volume: each purpose has a key of its own, and each generation. */
struct volume_keys {
    struct secret luks;  /* the passphrase of the header's keyslot */
    struct secret state; /* the MAC of the state block */
};
#define VOLUME_KEYS_INIT                          \
    {                                             \
        .luks = SECRET_INIT, .state = SECRET_INIT \
    }

MUST_USE bool volume_keys_derive(const struct record_key *key, const struct secret *secret,
                                 struct volume_keys *out, struct error *err);
void volume_keys_wipe(struct volume_keys *keys);
#define auto_volume_keys CLEANUP(volume_keys_wipe)
