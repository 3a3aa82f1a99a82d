/* SPDX-License-Identifier: Apache-2.0 */
#include "record/recovery_certificate.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RSA_BITS_MIN          3072
#define RSA_BITS_MAX          8192
#define RSA_EXPONENT_BITS_MIN 17     /* 65537 */
#define PEM_LEN_MAX           16384u /* with text before it, as "openssl x509 -text" writes */

static void certificate_free(X509 **certificate)
{
    X509_free(*certificate);
    *certificate = NULL;
}
#define auto_certificate CLEANUP(certificate_free)

static void bio_free(BIO **bio)
{
    BIO_free(*bio);
    *bio = NULL;
}
#define auto_memory_bio CLEANUP(bio_free)

static void der_free(uint8_t **der)
{
    OPENSSL_free(*der);
    *der = NULL;
}

static bool refused(struct error *err, const char *what)
{
    ERR_clear_error();
    return error_set(err, ERROR_INVALID_ARGUMENT, "recovery certificate: %s", what);
}

static bool is_good_curve(const EVP_PKEY *key)
{
    char name[64];
    size_t len = 0;

    if (EVP_PKEY_get_group_name(key, name, sizeof(name), &len) != 1)
        return false;
    int nid = OBJ_txt2nid(name);
    return nid == NID_X9_62_prime256v1 || nid == NID_secp384r1;
}

/* With the exponent 1 or an even modulus everybody could read what is encrypted for the key. */
static bool check_numbers(EVP_PKEY *key, struct error *err)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool is_good = context && EVP_PKEY_public_check(context) == 1;
    BIGNUM *exponent = NULL;

    EVP_PKEY_CTX_free(context);
    if (is_good && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        is_good = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                  BN_num_bits(exponent) >= RSA_EXPONENT_BITS_MIN;
    BN_free(exponent);
    return is_good || refused(err, "its key is no sound key: make another one");
}

/* keyUsage is optional. Where it is there, other programs insist on it when they decrypt. */
static bool check_key(X509 *certificate, struct error *err)
{
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    uint32_t usage = X509_get_key_usage(certificate); /* all bits when there is no such extension */

    if (!key)
        return refused(err, "its key cannot be read");
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        int bits = EVP_PKEY_get_bits(key);

        if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
            return refused(err, "an RSA key must have 3072 to 8192 bits");
        if (!check_numbers(key, err))
            return false;
        return (usage & KU_KEY_ENCIPHERMENT) != 0 ||
               refused(err, "its keyUsage does not have keyEncipherment");
    }
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC || !is_good_curve(key))
        return refused(err, "its key must be RSA of at least 3072 bits, or EC on P-256 or P-384");
    if (!check_numbers(key, err))
        return false;
    return (usage & KU_KEY_AGREEMENT) != 0 ||
           refused(err, "its keyUsage does not have keyAgreement");
}

static bool take_serial(X509 *certificate, char out[static 2 * RECOVERY_SERIAL_MAX + 1],
                        struct error *err)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(certificate);
    int len = ASN1_STRING_length(serial);

    if (ASN1_STRING_type(serial) != V_ASN1_INTEGER || len < 1 || len > RECOVERY_SERIAL_MAX)
        return refused(err, "its serial number must be positive and have at most 20 bytes");
    hex_encode(ASN1_STRING_get0_data(serial), (size_t)len, out);
    return true;
}

static X509 *parse(const uint8_t *der, size_t len)
{
    const uint8_t *at = der;
    auto_certificate X509 *certificate = d2i_X509(NULL, &at, (long)len);

    return certificate && at == der + len ? TAKE_PTR(certificate) : NULL;
}

bool recovery_certificate_read(const uint8_t *der, size_t len, struct recovery_certificate *out,
                               struct error *err)
{
    struct recovery_certificate found = { .len = (uint32_t)len };

    if (len == 0 || len > RECOVERY_CERTIFICATE_MAX)
        return refused(err, "it has no bytes, or more than 2048: use one with a short subject and "
                            "a key of at most 4096 bits");
    auto_certificate X509 *certificate = parse(der, len);
    if (!certificate)
        return refused(err, "it is not one X.509 certificate in DER");
    if (!check_key(certificate, err) || !take_serial(certificate, found.serial, err) ||
        !sha256(der, len, found.sha256, err))
        return false;
    memcpy(found.der, der, len);
    *out = found;
    return true;
}

/* An encrypted certificate would make OpenSSL ask at the terminal. */
static int no_passphrase(char *buffer UNUSED, int size UNUSED, int writes UNUSED,
                         void *cookie UNUSED)
{
    return -1;
}

bool recovery_certificate_read_pem(const char *pem, size_t len, struct recovery_certificate *out,
                                   struct error *err)
{
    if (len == 0 || len > PEM_LEN_MAX)
        return refused(err, "the text is empty or longer than 16 KiB");
    if (memmem(pem, len, "PRIVATE KEY", strlen("PRIVATE KEY")))
        return refused(err, "there is a private key beside it: keep that one offline");
    auto_memory_bio BIO *bio = BIO_new_mem_buf(pem, (int)len);
    auto_certificate X509 *certificate = NULL, *second = NULL;
    CLEANUP(der_free) uint8_t *der = NULL;

    certificate = bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
    if (!certificate)
        return refused(err, "the text is not PEM with a certificate");
    second = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    if (second)
        return refused(err, "the text has more than one certificate");
    ERR_clear_error();
    int der_len = i2d_X509(certificate, &der);
    if (der_len <= 0)
        return openssl_error(err, "encode the recovery certificate");
    return recovery_certificate_read(der, (size_t)der_len, out, err);
}

bool recovery_certificate_text(const struct recovery_certificate *c,
                               char out[static RECOVERY_TEXT_LEN], struct error *err)
{
    auto_certificate X509 *certificate = parse(c->der, c->len);
    auto_memory_bio BIO *bio = BIO_new(BIO_s_mem());

    if (!certificate || !bio)
        return openssl_error(err, "describe the recovery certificate");
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    bool is_rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;

    /* RFC 2253 escapes control characters and other bytes. */
    if (BIO_printf(bio, "%s %d, ", is_rsa ? "RSA" : "EC", EVP_PKEY_get_bits(key)) < 0 ||
        X509_NAME_print_ex(bio, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0 ||
        BIO_puts(bio, ", until ") < 0 || ASN1_TIME_print(bio, X509_get0_notAfter(certificate)) != 1)
        return openssl_error(err, "describe the recovery certificate");
    char *text = NULL;
    long len = BIO_get_mem_data(bio, &text);
    (void)snprintf(out, RECOVERY_TEXT_LEN, "%.*s", (int)len, text);
    return true;
}
