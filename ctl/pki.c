/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/pki.h"

#include "attest/certificate.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define SERIAL_LEN   16
#define BACKDATED_S  3600 /* for clocks that are behind */
#define DNS_NAME_MAX 253

struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};

static void names_free(GENERAL_NAMES **names)
{
    GENERAL_NAMES_free(*names);
}
#define auto_names CLEANUP(names_free)

static bool failed(const char *what, struct error *err)
{
    unsigned long code = ERR_peek_last_error();
    const char *why = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return error_set(err, ERROR_INTERNAL, "%s: %s", what, why ? why : "out of memory");
}

void certificate_pair_done(struct certificate_pair *pair)
{
    free_at(&pair->certificate_pem);
    secret_wipe(&pair->private_key_pem);
}

void authority_free(struct authority **authority)
{
    if (*authority) {
        EVP_PKEY_free((*authority)->key);
        X509_free((*authority)->certificate);
    }
    free(*authority);
    *authority = NULL;
}

static bool set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_LEN];
    ASN1_INTEGER *serial = X509_get_serialNumber(certificate);

    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return false;
    bytes[0] &= 0x7f; /* positive */
    bytes[0] |= 0x40; /* always of the same length */
    BIGNUM *number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    bool ok = number && BN_to_ASN1_INTEGER(number, serial);

    BN_free(number);
    return ok;
}

/* The parts that are the same for CA, server and client. */
static X509 *draft(EVP_PKEY *key, const char *common_name, int days)
{
    auto_x509 X509 *x = X509_new();
    X509_NAME *subject = x ? X509_get_subject_name(x) : NULL;

    if (!x || X509_set_version(x, X509_VERSION_3) != 1 || !set_serial(x) ||
        !X509_gmtime_adj(X509_getm_notBefore(x), -BACKDATED_S) ||
        !X509_time_adj_ex(X509_getm_notAfter(x), days, 0, NULL) || X509_set_pubkey(x, key) != 1 ||
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)common_name,
                                   -1, -1, 0) != 1)
        return NULL;
    return TAKE_PTR(x);
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(x, extension, -1) == 1;

    X509_EXTENSION_free(extension);
    return ok;
}

bool authority_new(const char *common_name, int days, struct authority **out, struct error *err)
{
    auto_authority struct authority *a = calloc(1, sizeof(*a));

    if (!a || !(a->key = EVP_EC_gen("P-256")) ||
        !(a->certificate = draft(a->key, common_name, days)) ||
        X509_set_issuer_name(a->certificate, X509_get_subject_name(a->certificate)) != 1 ||
        !add_extension(a->certificate, a->certificate, NID_basic_constraints,
                       "critical,CA:TRUE,pathlen:0") ||
        !add_extension(a->certificate, a->certificate, NID_key_usage,
                       "critical,keyCertSign,cRLSign") ||
        !add_extension(a->certificate, a->certificate, NID_subject_key_identifier, "hash") ||
        X509_sign(a->certificate, a->key, EVP_sha256()) == 0)
        return failed("make the CA", err);
    *out = TAKE_PTR(a);
    return true;
}

/* --- names of a server --- */

static bool is_dns_name(const char *name)
{
    if (name[0] == '\0' || strlen(name) > DNS_NAME_MAX)
        return false;
    for (const char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '.')
            return false;
    return true;
}

static bool add_name(GENERAL_NAMES *names, const char *name, struct error *err)
{
    unsigned char ip[sizeof(struct in6_addr)];
    int ip_len = inet_pton(AF_INET, name, ip) == 1    ? (int)sizeof(struct in_addr)
                 : inet_pton(AF_INET6, name, ip) == 1 ? (int)sizeof(struct in6_addr)
                                                      : 0;

    if (ip_len == 0 && !is_dns_name(name))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "\"%s\" is neither a DNS name nor an IP address", name);

    GENERAL_NAME *general = GENERAL_NAME_new();
    ASN1_STRING *text = ip_len > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();

    if (!general || !text ||
        ASN1_STRING_set(text, ip_len > 0 ? (const void *)ip : (const void *)name,
                        ip_len > 0 ? ip_len : -1) != 1) {
        GENERAL_NAME_free(general);
        ASN1_STRING_free(text);
        return failed("name the certificate", err);
    }
    GENERAL_NAME_set0_value(general, ip_len > 0 ? GEN_IPADD : GEN_DNS, text);
    if (sk_GENERAL_NAME_push(names, general) > 0)
        return true;
    GENERAL_NAME_free(general);
    return failed("name the certificate", err);
}

static bool add_names(X509 *x, const struct certificate_request *request, struct error *err)
{
    auto_names GENERAL_NAMES *names = GENERAL_NAMES_new();

    if (!names)
        return failed("name the certificate", err);
    for (size_t i = 0; i < request->n_names; i++)
        if (!add_name(names, request->names[i], err))
            return false;
    return request->n_names == 0 ||
           X509_add1_ext_i2d(x, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1 ||
           failed("name the certificate", err);
}

/* --- export --- */

static bool export_certificate(X509 *certificate, char **out, struct error *err)
{
    auto_bio BIO *bio = BIO_new(BIO_s_mem());
    char *bytes = NULL;

    if (!bio || PEM_write_bio_X509(bio, certificate) != 1 || BIO_write(bio, "", 1) != 1)
        return failed("write the certificate", err);
    (void)BIO_get_mem_data(bio, &bytes);
    *out = strdup(bytes);
    return *out || failed("write the certificate", err);
}

/* OpenSSL wipes the BIO's copy when it frees the BIO. */
static bool export_key(EVP_PKEY *key, struct secret *out, struct error *err)
{
    auto_bio BIO *bio = BIO_new(BIO_s_secmem());
    char *bytes = NULL;

    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
        return failed("write the private key", err);
    long len = BIO_get_mem_data(bio, &bytes);

    if (!secret_alloc(out, (size_t)len, err))
        return false;
    memcpy(out->bytes, bytes, (size_t)len);
    return true;
}

static bool export(X509 *certificate, EVP_PKEY *key, struct certificate_pair *out,
                   struct error *err)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };

    if (!export_certificate(certificate, &pair.certificate_pem, err) ||
        !export_key(key, &pair.private_key_pem, err))
        return false;
    *out = pair;
    pair = (struct certificate_pair){ .certificate_pem = NULL };
    return true;
}

bool authority_export(const struct authority *authority, struct certificate_pair *out,
                      struct error *err)
{
    return export(authority->certificate, authority->key, out, err);
}

bool authority_issue(const struct authority *authority, const struct certificate_request *request,
                     struct certificate_pair *out, struct error *err)
{
    X509 *ca = authority->certificate;
    auto_pkey EVP_PKEY *key = EVP_EC_gen("P-256");
    auto_x509 X509 *x = key ? draft(key, request->common_name, request->days) : NULL;

    if (!x || X509_set_issuer_name(x, X509_get_subject_name(ca)) != 1 ||
        !add_extension(x, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(x, ca, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(x, ca, NID_ext_key_usage,
                       request->is_server ? "serverAuth" : "clientAuth") ||
        !add_extension(x, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(x, ca, NID_authority_key_identifier, "keyid"))
        return failed("make a certificate", err);
    if (!add_names(x, request, err))
        return false;
    if (X509_sign(x, authority->key, EVP_sha256()) == 0)
        return failed("sign a certificate", err);
    return export(x, key, out, err);
}
