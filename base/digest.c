/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <errno.h>
#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <string.h>
#include <sys/random.h>

bool openssl_error(struct error *err, const char *step)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return error_set(err, ERROR_INTERNAL, "%s: OpenSSL: %s", step, reason ? reason : "failed");
}

bool sha256(const void *bytes, size_t len, uint8_t out[static SHA256_LEN], struct error *err)
{
    if (EVP_Digest(bytes, len, out, NULL, EVP_sha256(), NULL) != 1)
        return openssl_error(err, "SHA-256");
    return true;
}

bool sha384(const void *bytes, size_t len, uint8_t out[static SHA384_LEN], struct error *err)
{
    if (EVP_Digest(bytes, len, out, NULL, EVP_sha384(), NULL) != 1)
        return openssl_error(err, "SHA-384");
    return true;
}

bool sha512(const void *bytes, size_t len, uint8_t out[static SHA512_LEN], struct error *err)
{
    if (EVP_Digest(bytes, len, out, NULL, EVP_sha512(), NULL) != 1)
        return openssl_error(err, "SHA-512");
    return true;
}

bool sha256_start(struct sha256_stream *s, struct error *err)
{
    auto_sha256 struct sha256_stream started = { .context = EVP_MD_CTX_new() };

    if (!started.context || EVP_DigestInit_ex(started.context, EVP_sha256(), NULL) != 1)
        return openssl_error(err, "start SHA-256");
    s->context = TAKE_PTR(started.context);
    return true;
}

bool sha256_add(struct sha256_stream *s, const void *bytes, size_t len, struct error *err)
{
    if (EVP_DigestUpdate(s->context, bytes, len) != 1)
        return openssl_error(err, "SHA-256");
    return true;
}

bool sha256_finish(struct sha256_stream *s, uint8_t out[static SHA256_LEN], struct error *err)
{
    bool done = EVP_DigestFinal_ex(s->context, out, NULL) == 1;

    sha256_drop(s);
    return done || openssl_error(err, "finish SHA-256");
}

void sha256_drop(struct sha256_stream *s)
{
    EVP_MD_CTX_free(s->context);
    s->context = NULL;
}

static void free_mac(EVP_MAC **mac)
{
    EVP_MAC_free(*mac);
}

static void free_mac_context(EVP_MAC_CTX **context)
{
    EVP_MAC_CTX_free(*context);
}

bool hmac_sha256_parts(const struct secret *key, const struct byte_range *parts, size_t n,
                       uint8_t out[static SHA256_LEN], struct error *err)
{
    static const uint8_t empty_key[SHA256_LEN]; /* zeros, because HMAC pads keys with zeros */
    EVP_MAC *mac CLEANUP(free_mac) = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context CLEANUP(free_mac_context) = mac ? EVP_MAC_CTX_new(mac) : NULL;
    char hash[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, hash, sizeof(hash) - 1), OSSL_PARAM_END
    };

    if (!context || EVP_MAC_init(context, key ? key->bytes : empty_key,
                                 key ? key->len : sizeof(empty_key), params) != 1)
        return openssl_error(err, "start HMAC-SHA-256");
    for (size_t i = 0; i < n; i++) {
        if (EVP_MAC_update(context, parts[i].bytes, parts[i].len) != 1)
            return openssl_error(err, "HMAC-SHA-256");
    }
    if (EVP_MAC_final(context, out, NULL, SHA256_LEN) != 1)
        return openssl_error(err, "finish HMAC-SHA-256");
    return true;
}

bool hmac_sha256(const struct secret *key, const void *bytes, size_t len,
                 uint8_t out[static SHA256_LEN], struct error *err)
{
    return hmac_sha256_parts(key, &(struct byte_range){ bytes, len }, 1, out, err);
}

static void free_pkey_context(EVP_PKEY_CTX **context)
{
    EVP_PKEY_CTX_free(*context);
}

bool hkdf_sha256(const struct secret *ikm, const void *salt, size_t salt_len, const void *info,
                 size_t info_len, struct secret *out, size_t out_len, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;

    if (out_len == 0 || out_len > (size_t)255 * SHA256_LEN || salt_len > INT_MAX ||
        info_len > INT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "HKDF-SHA-256 gives 1 to %d bytes, not %zu",
                         255 * SHA256_LEN, out_len);
    if (!secret_alloc(&key, out_len, err))
        return false;

    EVP_PKEY_CTX *context CLEANUP(free_pkey_context) = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    size_t derived_len = out_len;
    if (!context || EVP_PKEY_derive_init(context) != 1 ||
        EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) != 1 ||
        EVP_PKEY_CTX_set1_hkdf_key(context, ikm->bytes, (int)ikm->len) != 1 ||
        (salt_len > 0 && EVP_PKEY_CTX_set1_hkdf_salt(context, salt, (int)salt_len) != 1) ||
        (info_len > 0 && EVP_PKEY_CTX_add1_hkdf_info(context, info, (int)info_len) != 1) ||
        EVP_PKEY_derive(context, key.bytes, &derived_len) != 1)
        return openssl_error(err, "HKDF-SHA-256");
    *out = secret_take(&key);
    return true;
}

bool random_bytes(void *out, size_t len, struct error *err)
{
    uint8_t *bytes = out;

    for (size_t done = 0; done < len;) {
        ssize_t n = getrandom(bytes + done, len - done, 0);

        if (n < 0 && errno != EINTR)
            return error_set_errno(err, errno, "read random bytes");
        if (n > 0)
            done += (size_t)n;
    }
    return true;
}

uint32_t crc32c(const void *bytes, size_t len)
{
    const uint8_t *in = bytes;
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++) {
        crc ^= in[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc;
}

void hex_encode(const void *bytes, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *in = bytes;

    for (size_t i = 0; i < len; i++) {
        out[2 * i] = digits[in[i] >> 4];
        out[2 * i + 1] = digits[in[i] & 0x0F];
    }
    out[2 * len] = '\0';
}

/* 16 when c is not a hex digit. */
static unsigned hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    if (c >= 'a' && c <= 'f')
        return (unsigned)(c - 'a' + 10);
    if (c >= 'A' && c <= 'F')
        return (unsigned)(c - 'A' + 10);
    return 16;
}

bool hex_decode(const char *text, uint8_t *out, size_t len)
{
    if (strnlen(text, 2 * len + 1) != 2 * len)
        return false;
    for (size_t i = 0; i < 2 * len; i++) {
        if (hex_value(text[i]) > 15)
            return false;
    }
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(hex_value(text[2 * i]) << 4 | hex_value(text[2 * i + 1]));
    return true;
}

void base32_encode(const void *bytes, size_t len, char *out)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz234567";
    const uint8_t *in = bytes;
    uint32_t pending = 0;
    unsigned pending_bits = 0;

    for (size_t i = 0; i < len; i++) {
        pending = pending << 8 | in[i];
        for (pending_bits += 8; pending_bits >= 5; pending_bits -= 5)
            *out++ = digits[pending >> (pending_bits - 5) & 0x1F];
    }
    if (pending_bits > 0)
        *out++ = digits[pending << (5 - pending_bits) & 0x1F];
    *out = '\0';
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t len, char *out)
{
    const uint8_t *in = bytes;

    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t group = (uint32_t)in[i] << 16;

        if (n > 1)
            group |= (uint32_t)in[i + 1] << 8;
        if (n > 2)
            group |= in[i + 2];
        for (size_t k = 0; k < 4; k++, group <<= 6) {
            if (k <= n)
                *out++ = base64_digits[group >> 18 & 0x3F];
            else
                *out++ = '=';
        }
    }
    *out = '\0';
}

/* 64 when c is not a digit of the encoding. */
static uint32_t base64_value(char c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;

    return at ? (uint32_t)(at - base64_digits) : 64;
}

/* Decodes four digits. The first n count, the others must be padding. Unused bits must be zero. */
static bool base64_group(const char *text, size_t n, uint8_t out[static 3])
{
    uint32_t group = 0;

    for (size_t k = 0; k < 4; k++) {
        uint32_t value = k < n ? base64_value(text[k]) : 0;

        if (value > 63 || (k >= n && text[k] != '='))
            return false;
        group = group << 6 | value;
    }
    for (size_t k = 0; k < 3; k++)
        out[k] = (uint8_t)(group >> (16 - 8 * k));
    return n == 4 || (n == 3 && out[2] == 0) || (n == 2 && out[1] == 0 && out[2] == 0);
}

bool base64_decode(const char *text, size_t text_len, uint8_t *out, size_t *out_len)
{
    size_t len = 0;

    if (text_len % 4 != 0)
        return false;
    for (size_t i = 0; i < text_len; i += 4) {
        uint8_t bytes[3];
        size_t n = 4;

        if (i + 4 == text_len)
            n -= (size_t)(text[i + 3] == '=') + (size_t)(text[i + 3] == '=' && text[i + 2] == '=');
        if (!base64_group(text + i, n, bytes))
            return false;
        memcpy(out + len, bytes, n - 1);
        len += n - 1;
    }
    *out_len = len;
    return true;
}

/* 64 when c is not a digit of the encoding. */
static unsigned base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (unsigned)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0' + 52);
    if (c == '-')
        return 62;
    return c == '_' ? 63 : 64;
}

bool base64url_decode(const char *text, size_t len, uint8_t *out, size_t size, size_t *out_len)
{
    size_t n = len / 4 * 3 + (len % 4 == 0 ? 0 : len % 4 - 1);
    uint32_t pending = 0;
    unsigned pending_bits = 0;
    size_t at = 0;

    if (len % 4 == 1 || n > size)
        return false;
    for (size_t i = 0; i < len; i++)
        if (base64url_value(text[i]) > 63)
            return false;
    /* the unused bits after the last byte must be zero */
    if (len % 4 != 0 && (base64url_value(text[len - 1]) & (len % 4 == 2 ? 0x0Fu : 0x03u)) != 0)
        return false;
    for (size_t i = 0; i < len; i++) {
        pending = pending << 6 | base64url_value(text[i]);
        pending_bits += 6;
        if (pending_bits >= 8) {
            pending_bits -= 8;
            out[at++] = (uint8_t)(pending >> pending_bits);
        }
    }
    *out_len = n;
    return true;
}
