/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/identity.h"

#include "attest/certificate.h"
#include "base/digest.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define VALID_DAYS      3653 /* ten years */
#define BACKDATED_S     3600 /* for peers whose clocks are behind */
#define SERIAL_LEN      16
#define COMMON_NAME_MAX 64 /* bytes; X.520's bound */

static void request_free_at(X509_REQ **request)
{
    X509_REQ_free(*request);
    *request = NULL;
}

bool key_sha256_of_certificate(const char *pem, uint8_t out[static KEY_SHA256_LEN],
                               struct error *err)
{
    auto_x509 X509 *x = NULL;

    return cert_read(pem, &x, err) && cert_key_sha256(x, out, err);
}

/* --- certificate and request --- */

static bool set_name(X509_NAME *name, const char *common_name)
{
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                      -1, -1, 0) == 1;
}

static bool set_serial(X509 *x)
{
    unsigned char bytes[SERIAL_LEN];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40); /* positive, and of constant length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));

    BN_free(number);
    return ok;
}

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(x, extension, -1) == 1;

    X509_EXTENSION_free(extension);
    return ok;
}

static X509 *make_certificate(EVP_PKEY *key, const char *common_name)
{
    auto_x509 X509 *x = X509_new();

    if (!x || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
        !X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATED_S) ||
        !X509_time_adj_ex(X509_getm_notAfter(x), VALID_DAYS, 0, NULL) ||
        !set_name(X509_get_subject_name(x), common_name) ||
        X509_set_issuer_name(x, X509_get_subject_name(x)) != 1 || X509_set_pubkey(x, key) != 1 ||
        !add_extension(x, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(x, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(x, NID_ext_key_usage, "clientAuth") ||
        !add_extension(x, NID_subject_key_identifier, "hash") ||
        X509_sign(x, key, EVP_sha256()) == 0)
        return NULL;
    return TAKE_PTR(x);
}

static X509_REQ *make_request(EVP_PKEY *key, const char *common_name)
{
    CLEANUP(request_free_at) X509_REQ *request = X509_REQ_new();

    if (!request || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
        !set_name(X509_REQ_get_subject_name(request), common_name) ||
        X509_REQ_set_pubkey(request, key) != 1 || X509_REQ_sign(request, key, EVP_sha256()) == 0)
        return NULL;
    return TAKE_PTR(request);
}

/* --- export --- */

static char *text_of(BIO *bio)
{
    char *bytes = NULL;
    long len = BIO_get_mem_data(bio, &bytes);
    char *text = len > 0 ? calloc((size_t)len + 1, 1) : NULL;

    if (text)
        memcpy(text, bytes, (size_t)len);
    return text;
}

/* The BIO wipes its own copy. */
static bool export_key(EVP_PKEY *key, struct secret *out, struct error *err)
{
    auto_bio BIO *bio = BIO_new(BIO_s_secmem());
    char *bytes = NULL;

    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return openssl_error(err, "write the private key");
    long len = BIO_get_mem_data(bio, &bytes);
    if (!secret_alloc(out, (size_t)len, err))
        return false;
    memcpy(out->bytes, bytes, (size_t)len);
    return true;
}

static bool export_texts(EVP_PKEY *key, const char *common_name, struct identity *out,
                         struct error *err)
{
    auto_x509 X509 *x = make_certificate(key, common_name);
    CLEANUP(request_free_at) X509_REQ *request = x ? make_request(key, common_name) : NULL;
    auto_bio BIO *certificate_bio = BIO_new(BIO_s_mem());
    auto_bio BIO *request_bio = BIO_new(BIO_s_mem());

    if (!request || !certificate_bio || !request_bio ||
        PEM_write_bio_X509(certificate_bio, x) != 1 ||
        PEM_write_bio_X509_REQ(request_bio, request) != 1)
        return openssl_error(err, "make a certificate");
    out->certificate_pem = text_of(certificate_bio);
    out->request_pem = text_of(request_bio);
    if (!out->certificate_pem || !out->request_pem)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a certificate");
    return cert_key_sha256(x, out->key_sha256, err);
}

bool identity_new(const char *common_name, struct identity *out, struct error *err)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };
    size_t len = strnlen(common_name, COMMON_NAME_MAX + 1);

    if (len == 0 || len > COMMON_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the common name of a certificate must have 1 to %d bytes",
                         COMMON_NAME_MAX);
    auto_pkey EVP_PKEY *key = EVP_EC_gen("P-256");
    if (!key)
        return openssl_error(err, "make a key");
    if (!export_key(key, &identity.private_key_pem, err) ||
        !export_texts(key, common_name, &identity, err))
        return false;
    *out = identity;
    identity = (struct identity){ .private_key_pem = SECRET_INIT };
    return true;
}

void identity_wipe(struct identity *identity)
{
    secret_wipe(&identity->private_key_pem);
    free_at(&identity->certificate_pem);
    free_at(&identity->request_pem);
    bytes_wipe(identity->key_sha256, sizeof(identity->key_sha256));
}
