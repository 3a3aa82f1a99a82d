/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"

/*
 * Wraps a secret with a key, for storing: AES-256-GCM with a random nonce. The result is the nonce,
 * then the ciphertext, which is as long as the secret, then the tag.
 */
#define AEAD_KEY_LEN          ((size_t)32)
#define AEAD_NONCE_LEN        12
#define AEAD_TAG_LEN          16
#define AEAD_WRAPPED_LEN(len) (AEAD_NONCE_LEN + (len) + AEAD_TAG_LEN)

/* key has AEAD_KEY_LEN bytes; out has AEAD_WRAPPED_LEN(plain->len). */
MUST_USE bool aead_wrap(const struct secret *key, const struct byte_range *aad,
                        const struct secret *plain, uint8_t *out, struct error *err);

/* The caller wipes *out. DATA_LOSS unless it was wrapped with this key and this aad. */
MUST_USE bool aead_unwrap(const struct secret *key, const struct byte_range *aad,
                          const struct byte_range *wrapped, struct secret *out, struct error *err);
