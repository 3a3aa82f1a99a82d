/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/broker_signature.h"

#include "attest/certificate.h"
#include "base/digest.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define TLS_SECURITY_LEVEL 2    /* as Debian has it for TLS: no SHA-1, no RSA below 2048 bits */
#define NOT_AN_ADDRESS     (-2) /* of X509_check_ip_asc() */

struct broker_signer {
    EVP_PKEY *key;
    uint8_t key_sha256[KEY_SHA256_LEN];
    uint32_t certificates_len;
    uint8_t certificates[BROKER_CERTIFICATES_MAX];
};

static void digest_context_free(EVP_MD_CTX **context)
{
    EVP_MD_CTX_free(*context);
}
#define auto_digest_context CLEANUP(digest_context_free)

static void chain_free(STACK_OF(X509) * *chain)
{
    sk_X509_pop_free(*chain, X509_free);
}
#define auto_chain CLEANUP(chain_free)

/* Ed25519 hashes by itself. */
static const EVP_MD *digest_for(const EVP_PKEY *key)
{
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519 ? NULL : EVP_sha256();
}

/* --- sign --- */

void broker_signer_free(struct broker_signer **signer)
{
    if (*signer)
        EVP_PKEY_free((*signer)->key);
    free(*signer);
    *signer = NULL;
}

const uint8_t *broker_signer_key(const struct broker_signer *signer)
{
    return signer->key_sha256;
}

static bool not_usable(struct error *err, const char *why)
{
    ERR_clear_error();
    return error_set(err, ERROR_INVALID_ARGUMENT, "the broker's certificate and key: %s", why);
}

static bool add_certificate(struct broker_signer *signer, const X509 *certificate)
{
    int len = i2d_X509(certificate, NULL);
    uint8_t *end = signer->certificates + signer->certificates_len;

    if (len <= 0 || (size_t)len > sizeof(signer->certificates) - signer->certificates_len ||
        i2d_X509(certificate, &end) != len)
        return false;
    signer->certificates_len += (uint32_t)len;
    return true;
}

static bool read_certificates(struct broker_signer *signer, const char *pem, struct error *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    size_t n = 0;

    for (;; n++) {
        auto_x509 X509 *certificate =
            bio ? PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL) : NULL;

        if (!certificate)
            break;
        if (n == BROKER_CHAIN_MAX || !add_certificate(signer, certificate))
            return not_usable(err, "more than 4 certificates, or more than 8 KiB of them");
        if (n == 0 && X509_check_private_key(certificate, signer->key) != 1)
            return not_usable(err, "they do not belong together");
        if (n == 0 && !cert_key_sha256(certificate, signer->key_sha256, err))
            return false;
    }
    ERR_clear_error();
    return n > 0 || not_usable(err, "the text has no certificate in PEM form");
}

/* Not every key that TLS can use can sign: Ed448 cannot here, and a signature must fit. */
static bool try_to_sign(const struct broker_signer *signer, struct error *err)
{
    struct broker_signature *signature = calloc(1, sizeof(*signature));

    if (!signature)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a signature");
    bool ok = broker_sign(signer, "", 0, signature, err);

    free(signature);
    if (!ok)
        err->code = ERROR_INVALID_ARGUMENT;
    return ok;
}

bool broker_signer_new(const char *certificates_pem, const struct secret *private_key_pem,
                       struct broker_signer **out, struct error *err)
{
    auto_broker_signer struct broker_signer *signer = calloc(1, sizeof(*signer));
    auto_bio BIO *bio = BIO_new_mem_buf(private_key_pem->bytes, (int)private_key_pem->len);

    if (!signer || !bio)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's key");
    signer->key = PEM_read_bio_PrivateKey(bio, NULL, cert_no_passphrase, NULL);
    if (!signer->key)
        return not_usable(err, "the key is not PEM or has a passphrase");
    if (!read_certificates(signer, certificates_pem, err))
        return false;
    if (!try_to_sign(signer, err))
        return error_wrap(err, "the broker's key");
    *out = TAKE_PTR(signer);
    return true;
}

bool broker_sign(const struct broker_signer *signer, const void *bytes, size_t len,
                 struct broker_signature *out, struct error *err)
{
    auto_digest_context EVP_MD_CTX *context = EVP_MD_CTX_new();
    size_t size = sizeof(out->bytes);

    if (!context ||
        EVP_DigestSignInit(context, NULL, digest_for(signer->key), NULL, signer->key) != 1 ||
        EVP_DigestSign(context, out->bytes, &size, bytes, len) != 1)
        return openssl_error(err, "sign the answer");
    out->len = (uint32_t)size;
    out->certificates_len = signer->certificates_len;
    memcpy(out->certificates, signer->certificates, signer->certificates_len);
    return true;
}

/* --- pins --- */

bool broker_pins_parse(const struct option_list *list, struct broker_pins *out, struct error *err)
{
    struct broker_pins pins = { .n = list->n };

    for (size_t i = 0; i < list->n; i++)
        if (!hex_decode(list->items[i], pins.sha256[i], KEY_SHA256_LEN))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "\"%s\" is not a key's SHA-256 of 64 hex digits", list->items[i]);
    *out = pins;
    return true;
}

bool broker_pins_has(const struct broker_pins *pins, const uint8_t key[static KEY_SHA256_LEN])
{
    for (size_t i = 0; i < pins->n; i++)
        if (bytes_are_equal(pins->sha256[i], key, KEY_SHA256_LEN))
            return true;
    return pins->n == 0;
}

/* --- check --- */

void broker_trust_free(struct broker_trust *trust)
{
    X509_STORE_free(trust->store);
    trust->store = NULL;
}

bool broker_trust_read_ca(struct broker_trust *trust, const char *pem, struct error *err)
{
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    auto_x509_store X509_STORE *store = X509_STORE_new();
    size_t n = 0;

    for (;; n++) {
        auto_x509 X509 *ca =
            bio && store ? PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL) : NULL;

        if (!ca || X509_STORE_add_cert(store, ca) != 1)
            break;
    }
    bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

    ERR_clear_error();
    if (n == 0 || !is_at_end)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the broker's CA: not a list of PEM "
                         "certificates");
    broker_trust_free(trust);
    trust->store = TAKE_PTR(store);
    return true;
}

static bool refuse(struct error *err, const char *why)
{
    ERR_clear_error();
    return error_set_reason(err, ERROR_DENIED, BROKER_SIGNATURE_REASON,
                            "the broker's signature does not hold: %s", why);
}

/* The certificates as they were sent, the signer's first. NULL when they are no list of at most
 * BROKER_CHAIN_MAX certificates. */
static STACK_OF(X509) * decode_chain(const struct broker_signature *signature)
{
    auto_chain STACK_OF(X509) *chain = sk_X509_new_null();
    const unsigned char *at = signature->certificates, *end = at + signature->certificates_len;

    while (chain && at < end && sk_X509_num(chain) < BROKER_CHAIN_MAX) {
        X509 *certificate = d2i_X509(NULL, &at, (long)(end - at));

        if (!certificate)
            return NULL;
        if (sk_X509_push(chain, certificate) <= 0) {
            X509_free(certificate);
            return NULL;
        }
    }
    return chain && at == end && sk_X509_num(chain) > 0 ? TAKE_PTR(chain) : NULL;
}

/* As TLS clients do: the common name counts only when there are no other names, and a * stands for
 * one whole label. An address is no host name. */
static bool has_name(X509 *certificate, const struct option_list *names)
{
    bool has_names = X509_get_ext_by_NID(certificate, NID_subject_alt_name, -1) >= 0;
    unsigned flags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                     (has_names ? X509_CHECK_FLAG_NEVER_CHECK_SUBJECT : 0);

    for (size_t i = 0; i < names->n; i++) {
        const char *name = names->items[i];
        int as_address = X509_check_ip_asc(certificate, name, 0);

        if (as_address == 1 || (as_address == NOT_AN_ADDRESS && name[0] != '\0' &&
                                X509_check_host(certificate, name, 0, flags, NULL) == 1))
            return true;
    }
    return false;
}

/* The certificates of the CA's file are the end of every path, also when an issuer is above them. */
static bool check_path(const struct broker_trust *trust, STACK_OF(X509) * chain, struct error *err)
{
    auto_x509_context X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (!context ||
        X509_STORE_CTX_init(context, trust->store, sk_X509_value(chain, 0), chain) != 1 ||
        X509_STORE_CTX_set_default(context, "ssl_server") != 1)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the broker's certificate");
    X509_STORE_CTX_set_flags(context, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(context), TLS_SECURITY_LEVEL);
    if (trust->at > 0)
        X509_STORE_CTX_set_time(context, 0, (time_t)trust->at);
    return X509_verify_cert(context) == 1 ||
           refuse(err, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
}

static bool check_signer(const struct broker_trust *trust, STACK_OF(X509) * chain,
                         uint8_t key[static KEY_SHA256_LEN], struct error *err)
{
    X509 *certificate = sk_X509_value(chain, 0);

    if (!check_path(trust, chain, err))
        return false;
    if (!has_name(certificate, &trust->names))
        return refuse(err, "its certificate is for another name");
    if (!cert_key_sha256(certificate, key, err))
        return false;
    return broker_pins_has(&trust->pins, key) || refuse(err, "its key is not pinned");
}

/* The signer's certificate is the first one. */
static bool check_bytes(STACK_OF(X509) * chain, const struct broker_signature *signature,
                        const void *bytes, size_t len, struct error *err)
{
    auto_digest_context EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY *key = X509_get0_pubkey(sk_X509_value(chain, 0));

    if (!key)
        return refuse(err, "its key cannot be read");
    if (!context || EVP_DigestVerifyInit(context, NULL, digest_for(key), NULL, key) != 1 ||
        EVP_DigestVerify(context, signature->bytes, signature->len, bytes, len) != 1)
        return refuse(err, "these are not the bytes that were signed");
    ERR_clear_error();
    return true;
}

static STACK_OF(X509) * read_chain(const struct broker_signature *signature, struct error *err)
{
    STACK_OF(X509) *chain = NULL;

    if (signature->len == 0 || signature->len > sizeof(signature->bytes) ||
        signature->certificates_len > sizeof(signature->certificates)) {
        (void)refuse(err, "it is missing");
        return NULL;
    }
    chain = decode_chain(signature);
    if (!chain)
        (void)refuse(err, "its certificates cannot be read");
    return chain;
}

bool broker_signature_check(const struct broker_trust *trust,
                            const struct broker_signature *signature, const void *bytes, size_t len,
                            uint8_t *key, struct error *err)
{
    uint8_t seen[KEY_SHA256_LEN];

    if (!trust->store)
        return refuse(err, "no CA is known");
    auto_chain STACK_OF(X509) *chain = read_chain(signature, err);

    if (!chain || !check_signer(trust, chain, seen, err) ||
        !check_bytes(chain, signature, bytes, len, err))
        return false;
    if (key)
        memcpy(key, seen, sizeof(seen));
    return true;
}

bool broker_signature_signer(const struct broker_signature *signature, const void *bytes,
                             size_t len, uint8_t key[static KEY_SHA256_LEN], struct error *err)
{
    auto_chain STACK_OF(X509) *chain = read_chain(signature, err);

    return chain && check_bytes(chain, signature, bytes, len, err) &&
           cert_key_sha256(sk_X509_value(chain, 0), key, err);
}
