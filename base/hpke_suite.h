/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "base/hpke.h"

#include <openssl/evp.h>

/*
 * The AEAD of a suite. Only the tests need another one, so that it is not in hpke.h: RFC 9180
 * prints vectors for AES-128-GCM, but tdvol uses AES-256-GCM.
 */
struct hpke_aead {
    uint16_t id;
    size_t key_len;
    const EVP_CIPHER *(*cipher)(void);
};

MUST_USE bool hpke_open_with(const struct hpke_aead *aead, const struct hpke_key_pair *pair,
                             const struct byte_range *info, const struct byte_range *aad,
                             const struct byte_range *sealed, struct secret *out,
                             struct error *err);
