/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/certificate.h"

#include "attest/reason.h"
#include "base/digest.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define PEM_END      "-----END CERTIFICATE-----"
#define TEXT_LEN_MAX ((size_t)64 * 1024) /* of cert_read */

static void stack_free_at(STACK_OF(X509) * *stack)
{
    sk_X509_free(*stack);
    *stack = NULL;
}

void bio_free_at(BIO **bio)
{
    BIO_free_all(*bio);
    *bio = NULL;
}

void x509_free_at(X509 **cert)
{
    X509_free(*cert);
    *cert = NULL;
}

void x509_store_free_at(X509_STORE **store)
{
    X509_STORE_free(*store);
    *store = NULL;
}

void x509_context_free_at(X509_STORE_CTX **context)
{
    X509_STORE_CTX_free(*context);
    *context = NULL;
}

void pkey_free_at(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
    *key = NULL;
}

void cert_chain_free(struct cert_chain *chain)
{
    for (size_t i = 0; i < chain->n; i++)
        X509_free(chain->certs[i]);
    *chain = (struct cert_chain){ .n = 0 };
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type is OpenSSL's */
int cert_no_passphrase(char *buffer, int size, int rwflag, void *cookie)
{
    (void)buffer, (void)size, (void)rwflag, (void)cookie;
    return -1;
}

static bool malformed(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_PCK_CHAIN_MALFORMED, "certificate chain: %s", what);
}

/* Only one spelling of a certificate is accepted: the PEM text that OpenSSL prints for it. */
static bool is_canonical(X509 *cert, const char *text, size_t len)
{
    auto_bio BIO *bio = BIO_new(BIO_s_mem());
    char *printed = NULL;

    if (!bio || PEM_write_bio_X509(bio, cert) != 1)
        return false;
    long printed_len = BIO_get_mem_data(bio, &printed);
    /* the last line end may be missing */
    return printed_len > 0 && (size_t)printed_len - 1 <= len &&
           memcmp(printed, text, (size_t)printed_len - 1) == 0;
}

static bool refuse_parsed(X509 **cert, struct error *err, const char *why)
{
    X509_free(*cert);
    *cert = NULL;
    return malformed(err, why);
}

/* Reads one certificate from text[*at..], and the line end after it, if there is one. */
static bool parse_one(const char *text, size_t len, size_t *at, X509 **out, struct error *err)
{
    const size_t end_len = sizeof(PEM_END) - 1;
    const char *start = text + *at;
    const char *end = memmem(start, len - *at, PEM_END, end_len);

    if (!end)
        return malformed(err, "a PEM certificate is missing");
    size_t pem_len = (size_t)(end - start) + end_len;
    auto_bio BIO *bio = BIO_new_mem_buf(start, (int)pem_len);
    *out = bio ? PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL) : NULL;
    if (!*out)
        return malformed(err, "a certificate cannot be decoded");
    if (!is_canonical(*out, start, pem_len))
        return refuse_parsed(out, err, "a certificate is not in the PEM form that OpenSSL prints");
    *at += pem_len;
    if (*at < len && text[*at] == '\n')
        (*at)++;
    else if (*at < len && text[*at] != '\0')
        return refuse_parsed(out, err, "a line end is missing after a certificate");
    return true;
}

bool cert_chain_parse(const char *pem, size_t len, size_t n, struct cert_chain *out,
                      struct error *err)
{
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    size_t at = 0;

    if (n > CERT_CHAIN_MAX || len > INT32_MAX)
        return malformed(err, "it is too long");
    while (chain.n < n) {
        if (!parse_one(pem, len, &at, &chain.certs[chain.n], err))
            return false;
        chain.n++;
    }
    if (at < len && pem[at] == '\0')
        at++;
    if (at != len)
        return malformed(err, "bytes follow the last certificate");
    *out = chain;
    chain = (struct cert_chain){ .n = 0 };
    return true;
}

bool cert_parse_first(const char *pem, size_t len, struct cert_chain *out, size_t *rest,
                      struct error *err)
{
    *out = (struct cert_chain){ .n = 0 };
    *rest = 0;
    if (len > INT32_MAX || !parse_one(pem, len, rest, &out->certs[0], err))
        return len <= INT32_MAX ? false : malformed(err, "it is too long");
    out->n = 1;
    return true;
}

bool cert_read(const char *pem, X509 **out, struct error *err)
{
    size_t len = strnlen(pem, TEXT_LEN_MAX + 1);

    if (len > TEXT_LEN_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the certificate's text is longer than %zu bytes", TEXT_LEN_MAX);
    auto_bio BIO *bio = BIO_new_mem_buf(pem, (int)len);
    X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL) : NULL;
    if (!cert) {
        ERR_clear_error();
        return error_set(err, ERROR_INVALID_ARGUMENT, "the text has no certificate in PEM form");
    }
    *out = cert;
    return true;
}

bool cert_sha256(const X509 *cert, uint8_t out[static 32], struct error *err)
{
    unsigned int len = 0;
    uint8_t digest[EVP_MAX_MD_SIZE];

    if (X509_digest(cert, EVP_sha256(), digest, &len) != 1 || len != 32)
        return error_set(err, ERROR_INTERNAL, "cannot hash a certificate");
    memcpy(out, digest, 32);
    return true;
}

bool cert_key_sha256(const X509 *cert, uint8_t out[static 32], struct error *err)
{
    uint8_t *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = len > 0 ? sha256(der, (size_t)len, out, err)
                      : error_set(err, ERROR_INTERNAL, "cannot encode the key of a certificate");

    OPENSSL_free(der);
    return ok;
}

void cert_common_name(const X509 *cert, char out[static CERT_COMMON_NAME_MAX + 1])
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    unsigned char *text = NULL;

    out[0] = '\0';
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return;
    int len =
        ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    bool is_plain = len > 0 && len <= CERT_COMMON_NAME_MAX;

    for (int i = 0; is_plain && i < len; i++)
        is_plain = text[i] > ' ' && text[i] < 0x7f;
    if (is_plain) {
        memcpy(out, text, (size_t)len);
        out[len] = '\0';
    }
    OPENSSL_free(text);
}

static bool name_entry_is(const X509_NAME *name, int nid, const char *wanted)
{
    char text[128];
    int at = X509_NAME_get_index_by_NID(name, nid, -1);

    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return false;
    int len = X509_NAME_get_text_by_NID((X509_NAME *)(uintptr_t)name, nid, text, sizeof(text));
    return len > 0 && (size_t)len == strlen(text) && strcmp(text, wanted) == 0;
}

static enum cert_role role_of_name(const X509_NAME *name)
{
    static const struct {
        const char *common_name;
        enum cert_role role;
    } roles[] = {
        { "Intel SGX Root CA", CERT_ROOT },
        { "Intel SGX PCK Platform CA", CERT_PCK_PLATFORM_CA },
        { "Intel SGX PCK Processor CA", CERT_PCK_PROCESSOR_CA },
        { "Intel SGX PCK Certificate", CERT_PCK_LEAF },
        { "Intel SGX TCB Signing", CERT_TCB_SIGNER },
    };

    if (!name_entry_is(name, NID_organizationName, "Intel Corporation"))
        return CERT_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(roles); i++)
        if (name_entry_is(name, NID_commonName, roles[i].common_name))
            return roles[i].role;
    return CERT_OTHER;
}

enum cert_role cert_role_of(const X509 *cert)
{
    return role_of_name(X509_get_subject_name(cert));
}

enum cert_role cert_issuer_role_of(const X509 *cert)
{
    return role_of_name(X509_get_issuer_name(cert));
}

static int64_t asn1_seconds(const ASN1_TIME *time, int64_t otherwise)
{
    struct tm tm;

    return time && ASN1_TIME_to_tm(time, &tm) == 1 ? timegm(&tm) : otherwise;
}

static void narrow(struct validity *v, const ASN1_TIME *from, const ASN1_TIME *until)
{
    int64_t begin = asn1_seconds(from, INT64_MAX), end = asn1_seconds(until, INT64_MIN);

    v->from = begin > v->from ? begin : v->from;
    v->until = end < v->until ? end : v->until;
}

void cert_chain_narrow(const struct cert_chain *chain, struct validity *v)
{
    for (size_t i = 0; i < chain->n; i++)
        narrow(v, X509_get0_notBefore(chain->certs[i]), X509_get0_notAfter(chain->certs[i]));
}

void crl_narrow(const X509_CRL *crl, struct validity *v)
{
    narrow(v, X509_CRL_get0_lastUpdate(crl), X509_CRL_get0_nextUpdate(crl));
}

int64_t crl_issued(const X509_CRL *crl)
{
    return asn1_seconds(X509_CRL_get0_lastUpdate(crl), INT64_MAX);
}

/* Our reason for an error code of X509_verify_cert. */
static enum attest_reason path_reason(int code)
{
    switch (code) {
    case X509_V_ERR_CERT_REVOKED:
        return REASON_PCK_CERT_REVOKED;
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_DIFFERENT_CRL_SCOPE:
        return REASON_CRL_ISSUER;
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
        return REASON_CRL_UNTRUSTED;
    default:
        return REASON_PCK_CHAIN_UNTRUSTED;
    }
}

/* The callers check the dates of every certificate and list: see struct validity. */
static bool prepare_store(X509_STORE *store, const struct cert_trust *trust)
{
    X509_VERIFY_PARAM *param = X509_STORE_get0_param(store);

    return X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
                                                  X509_V_FLAG_X509_STRICT |
                                                  X509_V_FLAG_NO_CHECK_TIME) == 1 &&
           X509_STORE_add_cert(store, trust->root) == 1 &&
           X509_STORE_add_crl(store, trust->root_crl) == 1 &&
           (!trust->ca_crl || X509_STORE_add_crl(store, trust->ca_crl) == 1);
}

static bool check_p256_keys(const struct cert_chain *chain, struct error *err)
{
    for (size_t i = 0; i < chain->n; i++) {
        auto_pkey EVP_PKEY *key = NULL;

        if (!p256_key_of(chain->certs[i], &key, err))
            return false;
    }
    return true;
}

bool cert_chain_verify(const struct cert_chain *chain, const struct cert_trust *trust,
                       struct error *err)
{
    auto_x509_store X509_STORE *store = X509_STORE_new();
    auto_x509_context X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    CLEANUP(stack_free_at) STACK_OF(X509) *middle = sk_X509_new_null();

    if (X509_cmp(chain->certs[chain->n - 1], trust->root) != 0)
        return attest_refuse(err, REASON_PCK_ROOT_UNKNOWN,
                             "the chain does not end in the pinned root certificate");
    if (!check_p256_keys(chain, err))
        return false;
    if (trust->ca_crl && X509_NAME_cmp(X509_CRL_get_issuer(trust->ca_crl),
                                       X509_get_issuer_name(chain->certs[0])) != 0)
        return attest_refuse(err, REASON_CRL_ISSUER,
                             "the revocation list is not from the issuer of the PCK certificate");
    if (!store || !ctx || !middle || !prepare_store(store, trust))
        return error_set(err, ERROR_INTERNAL, "cannot prepare the verification of certificates");
    for (size_t i = 1; i + 1 < chain->n; i++)
        if (sk_X509_push(middle, chain->certs[i]) == 0)
            return error_set(err, ERROR_INTERNAL,
                             "cannot prepare the verification of certificates");
    if (X509_STORE_CTX_init(ctx, store, chain->certs[0], middle) != 1)
        return error_set(err, ERROR_INTERNAL, "cannot prepare the verification of certificates");
    if (X509_verify_cert(ctx) != 1) {
        int code = X509_STORE_CTX_get_error(ctx);

        return attest_refuse(err, path_reason(code), "certificate %d of the chain: %s",
                             X509_STORE_CTX_get_error_depth(ctx),
                             X509_verify_cert_error_string(code));
    }
    return true;
}

bool cert_chain_check_signed(const struct cert_chain *chain, struct error *err)
{
    for (size_t i = 0; i < chain->n; i++) {
        X509 *issuer = chain->certs[i + 1 < chain->n ? i + 1 : i];
        auto_pkey EVP_PKEY *key = NULL;

        if (!p256_key_of(issuer, &key, err))
            return false;
        if (X509_NAME_cmp(X509_get_issuer_name(chain->certs[i]), X509_get_subject_name(issuer)) ||
            X509_verify(chain->certs[i], key) != 1)
            return attest_refuse(err, REASON_PCK_CHAIN_UNTRUSTED,
                                 "certificate %zu of the chain is not signed by the next one", i);
    }
    return true;
}

bool cert_check_ca(X509 *ca, X509 *issuer, struct error *err)
{
    const uint32_t wanted = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    const uint32_t flags = X509_get_extension_flags(ca);
    long below_issuer = X509_get_pathlen(issuer);

    if ((flags & EXFLAG_CA) == 0 || (flags & (EXFLAG_CRITICAL | EXFLAG_INVALID)) != 0 ||
        (flags & EXFLAG_KUSAGE) == 0 || (X509_get_key_usage(ca) & wanted) != wanted ||
        below_issuer == 0)
        return attest_refuse(err, REASON_PCK_CHAIN_UNTRUSTED,
                             "the PCK CA may not sign certificates and revocation lists");
    return true;
}

bool cert_check_signer(X509 *signer, struct error *err)
{
    const uint32_t flags = X509_get_extension_flags(signer);

    if ((flags & (EXFLAG_CA | EXFLAG_PROXY)) != 0 || (flags & EXFLAG_KUSAGE) == 0 ||
        (X509_get_key_usage(signer) & KU_DIGITAL_SIGNATURE) == 0)
        return attest_refuse(err, REASON_COLLATERAL_SIGNER,
                             "the TCB signing certificate may not sign data");
    return true;
}

bool cert_verify_issued(X509 *leaf, X509 *issuer, X509_CRL *crl, struct error *err)
{
    const uint32_t forbidden = EXFLAG_CA | EXFLAG_CRITICAL | EXFLAG_INVALID | EXFLAG_PROXY;
    auto_pkey EVP_PKEY *leaf_key = NULL, *issuer_key = NULL;
    X509_REVOKED *revoked = NULL;

    if (!p256_key_of(leaf, &leaf_key, err) || !p256_key_of(issuer, &issuer_key, err))
        return false;
    if ((X509_get_extension_flags(leaf) & forbidden) != 0 ||
        (X509_get_key_usage(leaf) & KU_DIGITAL_SIGNATURE) == 0 ||
        X509_check_issued(issuer, leaf) != X509_V_OK || X509_verify(leaf, issuer_key) != 1)
        return attest_refuse(err, REASON_PCK_CHAIN_UNTRUSTED,
                             "the PCK certificate is not a valid certificate of its PCK CA");
    if (X509_CRL_get0_by_cert(crl, &revoked, leaf) != 0)
        return attest_refuse(err, REASON_PCK_CERT_REVOKED, "the PCK certificate is revoked");
    return true;
}

/* False for a compressed point and for explicit curve parameters, which OpenSSL accepts. */
static bool is_plain_p256(const X509 *cert)
{
    static const uint8_t head[] = { 0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                    0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                    0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04 };
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    bool ok = len == (int)(sizeof(head) + P256_POINT_LEN) && memcmp(der, head, sizeof(head)) == 0;

    OPENSSL_free(der);
    return ok;
}

bool p256_key_of(const X509 *cert, EVP_PKEY **out, struct error *err)
{
    EVP_PKEY *key = X509_get0_pubkey(cert);

    if (!key || !is_plain_p256(cert) || X509_get_signature_nid(cert) != NID_ecdsa_with_SHA256)
        return attest_refuse(err, REASON_PCK_KEY_TYPE,
                             "a certificate's key or signature is not ECDSA P-256 with SHA-256");
    EVP_PKEY_up_ref(key);
    *out = key;
    return true;
}

bool p256_key_from_point(const uint8_t point[static P256_POINT_LEN], EVP_PKEY **out,
                         struct error *err)
{
    uint8_t encoded[1 + P256_POINT_LEN] = { POINT_CONVERSION_UNCOMPRESSED };
    char group[] = "P-256";
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, encoded, sizeof(encoded)),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *key = NULL;

    memcpy(encoded + 1, point, P256_POINT_LEN);
    bool ok = ctx && EVP_PKEY_fromdata_init(ctx) == 1 &&
              EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (!ok)
        return attest_refuse(err, REASON_ATTESTATION_KEY,
                             "the attestation key is not a point on P-256");
    *out = key;
    return true;
}

/* SEQUENCE of two INTEGERs from 32-byte big-endian halves; the result has at most 72 bytes. */
static size_t signature_to_der(const uint8_t *raw, uint8_t der[static 72])
{
    size_t at = 2;

    for (int half = 0; half < 2; half++) {
        const uint8_t *n = raw + 32 * half;
        size_t len = 32;

        while (len > 1 && n[0] == 0) {
            n++;
            len--;
        }
        bool pad = n[0] >= 0x80;
        der[at++] = 0x02;
        der[at++] = (uint8_t)(len + pad);
        if (pad)
            der[at++] = 0;
        memcpy(der + at, n, len);
        at += len;
    }
    der[0] = 0x30;
    der[1] = (uint8_t)(at - 2);
    return at;
}

bool p256_signature_is_valid(EVP_PKEY *key, const uint8_t signature[static P256_SIGNATURE_LEN],
                             const void *bytes, size_t len)
{
    uint8_t der[72];
    uint8_t digest[EVP_MAX_MD_SIZE];
    size_t der_len = signature_to_der(signature, der), digest_len = 0;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool ok = ctx && EVP_Q_digest(NULL, "SHA256", NULL, bytes, len, digest, &digest_len) == 1 &&
              EVP_PKEY_verify_init(ctx) == 1 &&
              EVP_PKEY_verify(ctx, der, der_len, digest, digest_len) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}
