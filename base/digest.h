/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/secret.h"

#include <stddef.h>

/* Hashes, MACs, key derivation, random bytes and text encodings. Uses OpenSSL's EVP. */

#define SHA256_LEN 32

MUST_USE bool sha256(const void *bytes, size_t len, uint8_t out[static SHA256_LEN],
                     struct error *err);

#define SHA384_LEN 48
#define SHA512_LEN 64
MUST_USE bool sha384(const void *bytes, size_t len, uint8_t out[static SHA384_LEN],
                     struct error *err);
MUST_USE bool sha512(const void *bytes, size_t len, uint8_t out[static SHA512_LEN],
                     struct error *err);

/* Streaming SHA-256 for long input. */
struct sha256_stream {
    void *context;
};
MUST_USE bool sha256_start(struct sha256_stream *s, struct error *err);
MUST_USE bool sha256_add(struct sha256_stream *s, const void *bytes, size_t len, struct error *err);
MUST_USE bool sha256_finish(struct sha256_stream *s, uint8_t out[static SHA256_LEN],
                            struct error *err);
void sha256_drop(struct sha256_stream *s);
#define auto_sha256 CLEANUP(sha256_drop)

MUST_USE bool hmac_sha256(const struct secret *key, const void *bytes, size_t len,
                          uint8_t out[static SHA256_LEN], struct error *err);

/* The same over several parts in order, without copying them. key NULL: the empty key. */
struct byte_range {
    const void *bytes;
    size_t len;
};
MUST_USE bool hmac_sha256_parts(const struct secret *key, const struct byte_range *parts, size_t n,
                                uint8_t out[static SHA256_LEN], struct error *err);

/* HKDF-SHA256 (RFC 5869), extract and expand. Makes out_len bytes (1 to 8160). */
MUST_USE bool hkdf_sha256(const struct secret *ikm, const void *salt, size_t salt_len,
                          const void *info, size_t info_len, struct secret *out, size_t out_len,
                          struct error *err);

/* INTERNAL with the text "step: OpenSSL: reason". Empties OpenSSL's error queue. */
bool openssl_error(struct error *err, const char *step);

MUST_USE bool random_bytes(void *out, size_t len,
                           struct error *err); /* for keys use secret_random() */

/* CRC-32C (RFC 3720) without the final inversion, as file systems and device-mapper store it. Not for
 * long input: it goes bit by bit. */
uint32_t crc32c(const void *bytes, size_t len);

/* Lower-case hex with NUL: out has 2 * len + 1 bytes. */
void hex_encode(const void *bytes, size_t len, char *out);
/* Reads exactly 2 * len hex digits of either case. False for any other text. */
MUST_USE bool hex_decode(const char *text, uint8_t *out, size_t len);

/* Reads RFC 4648 base64url without padding; unused bits must be zero. False for any other text, and
 * for more than size bytes. */
MUST_USE bool base64url_decode(const char *text, size_t len, uint8_t *out, size_t size,
                               size_t *out_len);

/* RFC 4648 base32, lower case, no padding. out has BASE32_LEN(len) + 1 bytes. */
#define BASE32_LEN(len) (((len)*8 + 4) / 5)
void base32_encode(const void *bytes, size_t len, char *out);

/* RFC 4648 base64 with padding. out has BASE64_LEN(len) + 1 bytes. */
#define BASE64_LEN(len) (((len) + 2) / 3 * 4)
void base64_encode(const void *bytes, size_t len, char *out);
/* Reads only what base64_encode writes. out has 3 * (text_len / 4) bytes. */
MUST_USE bool base64_decode(const char *text, size_t text_len, uint8_t *out, size_t *out_len);
