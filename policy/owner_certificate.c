/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/owner_certificate.h"

#include "attest/reason.h"
#include "base/secret.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { SECURITY_LEVEL = 2 }; /* OpenSSL's: 112 bits, no SHA-1 */

struct stack {
    STACK_OF(X509) * certs;
};

static void stack_free(struct stack *stack)
{
    sk_X509_pop_free(stack->certs, X509_free);
    stack->certs = NULL;
}

static bool no_memory(struct error *err)
{
    return error_set(err, ERROR_RESOURCE_EXHAUSTED, "owner certificate: out of memory");
}

/* Reads all certificates in pem, 1 to max. Other text between them is ignored, but a private key is
 * refused. */
static bool read_pem(const char *pem, size_t len, size_t max, struct stack *out, struct error *err)
{
    CLEANUP(stack_free) struct stack stack = { sk_X509_new_null() };
    auto_bio BIO *bio = BIO_new_mem_buf(pem, (int)len);

    if (!bio || !stack.certs)
        return no_memory(err);
    if (memchr(pem, '\0', len) || memmem(pem, len, "PRIVATE KEY", strlen("PRIVATE KEY")))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the text has a NUL or a private key in it");
    for (;;) {
        X509 *cert = PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL);

        if (!cert)
            break;
        if ((size_t)sk_X509_num(stack.certs) == max || sk_X509_push(stack.certs, cert) == 0) {
            X509_free(cert);
            return error_set(err, ERROR_INVALID_ARGUMENT, "the text has more than %zu certificates",
                             max);
        }
    }
    bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

    ERR_clear_error();
    if (!is_end || sk_X509_num(stack.certs) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the text is not PEM with certificates");
    *out = stack;
    stack.certs = NULL;
    return true;
}

bool owner_cas_parse(const char *pem, size_t len, X509 **out, size_t max, size_t *n,
                     struct error *err)
{
    CLEANUP(stack_free) struct stack stack = { NULL };

    if (len == 0 || len > OWNER_CHAIN_LEN_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the text is empty or longer than %u bytes",
                         OWNER_CHAIN_LEN_MAX);
    if (!read_pem(pem, len, max, &stack, err))
        return false;
    for (int i = 0; i < sk_X509_num(stack.certs); i++)
        if (X509_check_ca(sk_X509_value(stack.certs, i)) != 1)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "certificate %d is not a CA certificate (basicConstraints CA:TRUE)",
                             i + 1);
    for (*n = 0; sk_X509_num(stack.certs) > 0; (*n)++)
        out[*n] = sk_X509_shift(stack.certs);
    return true;
}

static bool prepare(X509_STORE *store, X509 *ca, int64_t now)
{
    X509_VERIFY_PARAM *param = X509_STORE_get0_param(store);

    X509_VERIFY_PARAM_set_time(param, now);
    X509_VERIFY_PARAM_set_auth_level(param, SECURITY_LEVEL);
    /* the pinned certificate is trusted even when it is not a root */
    return X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN) == 1 &&
           X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY) == 1 &&
           X509_STORE_add_cert(store, ca) == 1;
}

/* OpenSSL still accepts some certificates without basicConstraints as CAs. */
static bool check_path(STACK_OF(X509) * path, struct error *err)
{
    if (sk_X509_num(path) < 2 || X509_check_ca(sk_X509_value(path, 0)) != 0)
        return attest_refuse(
            err, REASON_OWNER_CERTIFICATE,
            "the owner's certificate is a CA certificate: use a client certificate");
    for (int i = 1; i < sk_X509_num(path); i++)
        if (X509_check_ca(sk_X509_value(path, i)) != 1)
            return attest_refuse(err, REASON_OWNER_CERTIFICATE,
                                 "certificate %d of the owner's chain is not a CA certificate", i);
    return true;
}

static bool path_claims(STACK_OF(X509) * path, struct owner_claims *out, struct error *err)
{
    struct validity dates = VALIDITY_ALWAYS;
    struct owner_claims claims = { .until = 0 };

    for (int i = 0; i < sk_X509_num(path); i++) {
        const struct cert_chain one = { .certs = { sk_X509_value(path, i) }, .n = 1 };

        cert_chain_narrow(&one, &dates);
    }
    claims.until = dates.until;
    cert_common_name(sk_X509_value(path, 0), claims.common_name);
    if (!cert_sha256(sk_X509_value(path, sk_X509_num(path) - 1), claims.ca_sha256, err))
        return false;
    *out = claims;
    return true;
}

/* Tries one CA at a time: OpenSSL finds issuers by name, and a renewed CA keeps its name. */
static bool verify_path(const struct stack *chain, X509 *ca, int64_t now, bool *is_related,
                        struct owner_claims *out, struct error *err)
{
    auto_x509_store X509_STORE *store = X509_STORE_new();
    auto_x509_context X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (!store || !context || !prepare(store, ca, now) ||
        X509_STORE_CTX_init(context, store, sk_X509_value(chain->certs, 0), chain->certs) != 1)
        return no_memory(err);
    bool ok = X509_verify_cert(context) == 1;
    int code = X509_STORE_CTX_get_error(context);

    ERR_clear_error();
    *is_related = code != X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY &&
                  code != X509_V_ERR_CERT_SIGNATURE_FAILURE;
    if (!ok)
        return attest_refuse(
            err, REASON_OWNER_CERTIFICATE, "certificate %d of the owner's chain: %s",
            X509_STORE_CTX_get_error_depth(context), X509_verify_cert_error_string(code));
    STACK_OF(X509) *path = X509_STORE_CTX_get0_chain(context);
    return check_path(path, err) && path_claims(path, out, err);
}

/* Tries all CAs. Prefers the error for a CA that is related to the chain. */
static bool verify_any(const struct stack *chain, X509 *const *cas, size_t n, int64_t now,
                       struct owner_claims *out, struct error *err)
{
    bool was_related = false;

    for (size_t i = 0; i < n; i++) {
        struct error one = ERROR_INIT;
        bool is_related = false;

        if (verify_path(chain, cas[i], now, &is_related, out, &one))
            return true;
        if (i == 0 || (is_related && !was_related))
            *err = one;
        was_related |= is_related;
    }
    return n > 0 ? false : attest_refuse(err, REASON_OWNER_CERTIFICATE, "the rule pins no CA");
}

bool owner_certificate_verify(X509 *const *cas, size_t n_cas, const char *pem, size_t len,
                              const uint8_t key_sha256[static 32], int64_t now,
                              struct owner_claims *out, struct error *err)
{
    CLEANUP(stack_free) struct stack chain = { NULL };
    uint8_t key[32];

    if (len == 0 || len > OWNER_CHAIN_LEN_MAX)
        return attest_refuse(err, REASON_OWNER_CERTIFICATE,
                             "the owner's certificate is empty or longer than %u bytes",
                             OWNER_CHAIN_LEN_MAX);
    if (!read_pem(pem, len, OWNER_CHAIN_MAX, &chain, err))
        return err->code == ERROR_INVALID_ARGUMENT
                   ? attest_refuse(err, REASON_OWNER_CERTIFICATE,
                                   "the owner's certificate cannot be read, or its chain is "
                                   "longer than %d certificates",
                                   OWNER_CHAIN_MAX)
                   : false;
    if (!cert_key_sha256(sk_X509_value(chain.certs, 0), key, err))
        return false;
    if (!bytes_are_equal(key, key_sha256, sizeof(key)))
        return attest_refuse(err, REASON_OWNER_CERTIFICATE,
                             "the owner's certificate is for another key than this session's");
    return verify_any(&chain, cas, n_cas, now, out, err);
}
