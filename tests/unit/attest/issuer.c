/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/issuer.h"

#include "tests/unit/test.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

EVP_PKEY *rsa_key(unsigned bits)
{
    EVP_PKEY *key = EVP_RSA_gen(bits);

    assert_non_null(key);
    return key;
}

EVP_PKEY *ec_key(const char *curve)
{
    EVP_PKEY *key = EVP_EC_gen(curve);

    assert_non_null(key);
    return key;
}

char *base64url_of(const void *bytes, size_t len)
{
    char *text = calloc(1, 4 * (len / 3 + 2));

    assert_non_null(text);
    int n = EVP_EncodeBlock((uint8_t *)text, bytes, (int)len);
    while (n > 0 && text[n - 1] == '=')
        text[--n] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '+')
            *c = '-';
        else if (*c == '/')
            *c = '_';
    return text;
}

static char *number_of(EVP_PKEY *key, const char *name, int len)
{
    uint8_t bytes[1024];
    BIGNUM *n = NULL;

    assert_int_equal(EVP_PKEY_get_bn_param(key, name, &n), 1);
    if (len == 0)
        len = BN_num_bytes(n);
    assert_int_equal(BN_bn2binpad(n, bytes, len), len);
    BN_free(n);
    return base64url_of(bytes, (size_t)len);
}

char *jwk_of(EVP_PKEY *key, const char *kid, const char *extra)
{
    const bool is_rsa = EVP_PKEY_is_a(key, "RSA");
    char *a = number_of(key, is_rsa ? OSSL_PKEY_PARAM_RSA_N : OSSL_PKEY_PARAM_EC_PUB_X,
                        is_rsa ? 0 : EVP_PKEY_get_bits(key) / 8);
    char *b = number_of(key, is_rsa ? OSSL_PKEY_PARAM_RSA_E : OSSL_PKEY_PARAM_EC_PUB_Y,
                        is_rsa ? 0 : EVP_PKEY_get_bits(key) / 8);
    char *out = NULL, *id = NULL;

    assert_true(asprintf(&id, kid[0] ? ",\"kid\":\"%s\"" : "%s", kid) >= 0);
    int n = is_rsa
                ? asprintf(&out, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s%s}", a, b, id, extra)
                : asprintf(&out, "{\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\",\"y\":\"%s\"%s%s}",
                           EVP_PKEY_get_bits(key), a, b, id, extra);
    assert_true(n > 0);
    free(a);
    free(b);
    free(id);
    return out;
}

char *jwks_of(const char *first, const char *second)
{
    char *out = NULL;

    assert_true(
        asprintf(&out, "{\"keys\":[%s%s%s]}", first, second ? "," : "", second ? second : "") > 0);
    return out;
}

/* Turns DER with two INTEGERs into r and s of 32 bytes each. */
static size_t raw_signature(const uint8_t *der, size_t len, uint8_t out[64])
{
    ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)len);

    assert_non_null(sig);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32), 32);
    assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32), 32);
    ECDSA_SIG_free(sig);
    return 64;
}

char *token_of(const char *header, const char *payload, EVP_PKEY *key)
{
    char *h = base64url_of(header, strlen(header)), *p = base64url_of(payload, strlen(payload));
    uint8_t signature[1024];
    size_t len = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    char *input = NULL, *out = NULL;

    assert_true(asprintf(&input, "%s.%s", h, p) > 0);
    assert_int_equal(EVP_DigestSignInit(context, NULL, EVP_sha256(), NULL, key), 1);
    assert_int_equal(EVP_DigestSign(context, signature, &len, (uint8_t *)input, strlen(input)), 1);
    if (EVP_PKEY_is_a(key, "EC")) {
        uint8_t raw[64];

        len = raw_signature(signature, len, raw);
        memcpy(signature, raw, len);
    }
    char *s = base64url_of(signature, len);
    assert_true(asprintf(&out, "%s.%s", input, s) > 0);
    EVP_MD_CTX_free(context);
    free(h);
    free(p);
    free(s);
    free(input);
    return out;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

X509 *certificate_of(const struct certificate_options *options, EVP_PKEY *key, X509 *issuer,
                     EVP_PKEY *issuer_key)
{
    static long serial;
    X509 *certificate = X509_new();

    assert_non_null(certificate);
    assert_int_equal(X509_set_version(certificate, 2), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial), 1);
    assert_non_null(ASN1_TIME_set(X509_getm_notBefore(certificate), options->from));
    assert_non_null(ASN1_TIME_set(X509_getm_notAfter(certificate), options->until));
    X509_NAME *subject = X509_get_subject_name(certificate);
    assert_int_equal(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                                (const uint8_t *)options->name, -1, -1, 0),
                     1);
    X509_set_issuer_name(certificate, issuer ? X509_get_subject_name(issuer) : subject);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    if (options->is_ca)
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(certificate, issuer ? issuer_key : key,
                          EVP_get_digestbyname(options->digest ? options->digest : "SHA256")) > 0);
    return certificate;
}

char *pem_of(X509 *first, X509 *second, X509 *third)
{
    X509 *const all[] = { first, second, third };
    BIO *bio = BIO_new(BIO_s_mem());
    char *bytes = NULL;

    for (size_t i = 0; i < ARRAY_LEN(all) && all[i]; i++)
        assert_int_equal(PEM_write_bio_X509(bio, all[i]), 1);
    assert_int_equal(BIO_write(bio, "", 1), 1);
    (void)BIO_get_mem_data(bio, &bytes);
    char *text = strdup(bytes);
    assert_non_null(text);
    BIO_free(bio);
    return text;
}

char *pem_in_json(X509 *first, X509 *second)
{
    char *pem = pem_of(first, second, NULL), *out = calloc(2, strlen(pem) + 1), *at = out;

    assert_non_null(out);
    for (const char *c = pem; *c; c++) {
        if (*c == '\n') {
            *at++ = '\\';
            *at++ = 'n';
        } else {
            *at++ = *c;
        }
    }
    free(pem);
    return out;
}
