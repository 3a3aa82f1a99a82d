/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates like Intel's: names, extensions and their order. */
#include "base/digest.h"
#include "tests/sim/forge.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SGX_OID     "1.2.840.113741.1.13.1"
#define UNKNOWN_OID "1.2.840.113741.1.13.99"
#define ROOT_CRL    "URI:https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
#define PCK_CRL(ca) \
    "URI:https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=" ca "&encoding=der"

enum { FROM_2018 = 1526899510, UNTIL_2049 = 2524607999 };

void sim_die(const char *what)
{
    (void)fprintf(stderr, "simulator: failed: %s\n", what);
    abort();
}

EVP_PKEY *sim_key_new(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    SIM_MUST(key);
    return key;
}

struct sim_cert sim_cert_form(enum sim_form form, enum pck_ca ca)
{
    static const char ca_usage[] = "critical,keyCertSign,cRLSign";
    static const char leaf_usage[] = "critical,digitalSignature,nonRepudiation";
    const bool is_platform = ca == PCK_CA_PLATFORM;
    const struct sim_cert forms[] = {
        [SIM_ROOT] = { .common_name = "Intel SGX Root CA",
                       .basic_constraints = "critical,CA:TRUE,pathlen:1",
                       .key_usage = ca_usage,
                       .crl_url = ROOT_CRL },
        [SIM_PCK_CA] = { .common_name = is_platform ? "Intel SGX PCK Platform CA"
                                                    : "Intel SGX PCK Processor CA",
                         .basic_constraints = "critical,CA:TRUE,pathlen:0",
                         .key_usage = ca_usage,
                         .crl_url = ROOT_CRL },
        [SIM_PCK_LEAF] = { .common_name = "Intel SGX PCK Certificate",
                           .basic_constraints = "critical,CA:FALSE",
                           .key_usage = leaf_usage,
                           .crl_url = is_platform ? PCK_CRL("platform") : PCK_CRL("processor") },
        [SIM_TCB_SIGNER] = { .common_name = "Intel SGX TCB Signing",
                             .basic_constraints = "critical,CA:FALSE",
                             .key_usage = leaf_usage,
                             .crl_url = ROOT_CRL },
    };
    struct sim_cert out = forms[form];

    out.from = FROM_2018;
    out.until = UNTIL_2049;
    out.digest = EVP_sha256();
    SIM_MUST(RAND_bytes(out.serial, sizeof(out.serial)) == 1);
    /* positive and of full length */
    out.serial[0] = (uint8_t)((out.serial[0] & 0x3f) | 0x40);
    return out;
}

static X509_NAME *make_name(const char *common_name)
{
    const struct {
        const char *field, *value;
    } parts[] = {
        { "CN", common_name }, { "O", "Intel Corporation" }, { "L", "Santa Clara" }, { "ST", "CA" },
        { "C", "US" },
    };
    X509_NAME *name = X509_NAME_new();

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        int type =
            parts[i].field[0] == 'C' && parts[i].field[1] == '\0' ? MBSTRING_ASC : MBSTRING_UTF8;

        SIM_MUST(X509_NAME_add_entry_by_txt(name, parts[i].field, type,
                                            (const unsigned char *)parts[i].value, -1, -1, 0) == 1);
    }
    return name;
}

static void add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    if (!value)
        return;
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
    SIM_MUST(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

/* Any bytes under any OID. */
static void add_raw(X509 *cert, const char *oid_text, bool critical, struct bytes_view value)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(oid_text, 1);
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();

    SIM_MUST(oid && octets && ASN1_OCTET_STRING_set(octets, value.bytes, (int)value.len) == 1);
    X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, oid, critical, octets);
    SIM_MUST(extension && X509_add_ext(cert, extension, -1) == 1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(octets);
    ASN1_OBJECT_free(oid);
}

static void add_extensions(X509 *cert, X509 *issuer, const struct sim_cert *form)
{
    static const uint8_t null_value[] = { 0x05, 0x00 };
    X509V3_CTX ctx;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    /* first the root's own identifier: the next extension refers to it */
    add_extension(cert, &ctx, NID_subject_key_identifier, "hash");
    add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always");
    add_extension(cert, &ctx, NID_crl_distribution_points, form->crl_url);
    add_extension(cert, &ctx, NID_key_usage, form->key_usage);
    add_extension(cert, &ctx, NID_basic_constraints, form->basic_constraints);
    for (unsigned i = 0; i < form->n_sgx; i++)
        add_raw(cert, SGX_OID, false, form->sgx);
    if (form->unknown_critical)
        add_raw(cert, UNKNOWN_OID, true, (struct bytes_view){ null_value, sizeof(null_value) });
}

X509 *sim_cert_make(const struct sim_cert *form, EVP_PKEY *key, const struct sim_identity *issuer)
{
    X509 *cert = X509_new();
    X509_NAME *name = make_name(form->common_name);
    BIGNUM *serial = BN_bin2bn(form->serial, sizeof(form->serial), NULL);

    SIM_MUST(cert && serial && X509_set_version(cert, X509_VERSION_3) == 1);
    SIM_MUST(BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(cert)));
    SIM_MUST(ASN1_TIME_set(X509_getm_notBefore(cert), form->from));
    SIM_MUST(ASN1_TIME_set(X509_getm_notAfter(cert), form->until));
    SIM_MUST(X509_set_subject_name(cert, name) == 1);
    SIM_MUST(X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer->cert) : name) == 1);
    SIM_MUST(X509_set_pubkey(cert, key) == 1);
    add_extensions(cert, issuer ? issuer->cert : cert, form);
    SIM_MUST(X509_sign(cert, issuer ? issuer->key : key, form->digest) > 0);
    BN_free(serial);
    X509_NAME_free(name);
    return cert;
}

char *sim_pem(X509 *const *certs, size_t n)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    for (size_t i = 0; i < n; i++)
        SIM_MUST(PEM_write_bio_X509(bio, certs[i]) == 1);
    long len = BIO_get_mem_data(bio, &text);
    char *out = calloc((size_t)len + 1, 1);
    SIM_MUST(out);
    memcpy(out, text, (size_t)len);
    BIO_free_all(bio);
    return out;
}

void sim_sign(EVP_PKEY *key, const void *bytes, size_t len, uint8_t out[static P256_SIGNATURE_LEN])
{
    uint8_t der[128];
    const uint8_t *at = der;
    size_t der_len = sizeof(der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    SIM_MUST(ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
             EVP_DigestSign(ctx, der, &der_len, bytes, len) == 1);
    EVP_MD_CTX_free(ctx);
    ECDSA_SIG *signature = d2i_ECDSA_SIG(NULL, &at, (long)der_len);
    SIM_MUST(signature && BN_bn2binpad(ECDSA_SIG_get0_r(signature), out, 32) == 32 &&
             BN_bn2binpad(ECDSA_SIG_get0_s(signature), out + 32, 32) == 32);
    ECDSA_SIG_free(signature);
}
