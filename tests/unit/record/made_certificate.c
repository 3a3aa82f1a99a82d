/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/record/made_certificate.h"

#include "base/option.h"
#include "tests/unit/test.h"

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

static EVP_PKEY *make_key(const char *kind)
{
    uint64_t bits = 0;

    if (strncmp(kind, "RSA-", 4) == 0 && parse_u64(kind + 4, &bits))
        return EVP_RSA_gen((unsigned)bits);
    if (strncmp(kind, "P-", 2) == 0)
        return EVP_EC_gen(kind);
    return EVP_PKEY_Q_keygen(NULL, NULL, kind);
}

static char *text_of(BIO *bio)
{
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *out = text_of_bytes(bytes, (size_t)len);

    BIO_free(bio);
    assert_non_null(out);
    return out;
}

static void set_name(X509 *certificate, size_t len)
{
    /* X.509 has at most 64 characters in one common name */
    X509_NAME *name = X509_NAME_new();
    char part[65];

    for (size_t left = len > 0 ? len : 8; left > 0;) {
        size_t n = left < 64 ? left : 64;

        for (size_t i = 0; i < n; i++)
            part[i] = 'n';
        part[n] = '\0';
        assert_int_equal(
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (uint8_t *)part, (int)n, -1, 0),
            1);
        left -= n;
    }
    assert_int_equal(X509_set_subject_name(certificate, name), 1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    X509_NAME_free(name);
}

static void set_serial(X509 *certificate, size_t len)
{
    uint8_t bytes[64] = { 0x7f };
    BIGNUM *number = NULL;

    for (size_t i = 1; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    number = BN_bin2bn(bytes, (int)(len > 0 ? len : 8), NULL);
    assert_non_null(BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)));
    BN_free(number);
}

static void set_usage(X509 *certificate, const char *usage)
{
    X509V3_CTX context;

    if (!usage)
        return;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, NID_key_usage, usage);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

struct made_certificate make_certificate(const struct certificate_wish *wish)
{
    struct made_certificate out = { .der = NULL };
    EVP_PKEY *key = make_key(wish->kind);
    X509 *certificate = X509_new();
    BIO *bio = BIO_new(BIO_s_mem());
    bool is_edwards = strcmp(wish->kind, "ED25519") == 0;

    assert_non_null(key);
    assert_int_equal(X509_set_version(certificate, X509_VERSION_3), 1);
    set_serial(certificate, wish->serial_len);
    set_name(certificate, wish->name_len);
    set_usage(certificate, wish->usage);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 86400));
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, is_edwards ? NULL : EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    out.pem = text_of(bio);
    bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL), 1);
    out.key_pem = text_of(bio);
    int len = i2d_X509(certificate, &out.der);
    assert_true(len > 0);
    out.der_len = (size_t)len;
    X509_free(certificate);
    EVP_PKEY_free(key);
    return out;
}

void made_certificate_free(struct made_certificate *made)
{
    free(made->key_pem);
    free(made->pem);
    OPENSSL_free(made->der);
    *made = (struct made_certificate){ .der = NULL };
}
