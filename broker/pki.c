/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/pki.h"

#include "attest/certificate.h"
#include "base/digest.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct pki_trust {
    X509_STORE *store;
};

void pki_trust_free(struct pki_trust **trust)
{
    if (*trust)
        X509_STORE_free((*trust)->store);
    free(*trust);
    *trust = NULL;
}

bool pki_trust_new(const char *pem, struct pki_trust **out, struct error *err)
{
    auto_pki_trust struct pki_trust *trust = calloc(1, sizeof(*trust));
    auto_bio BIO *bio = BIO_new_mem_buf(pem, -1);
    size_t count = 0;

    if (!trust || !bio || !(trust->store = X509_STORE_new()))
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "client CA: out of memory");
    for (;;) {
        auto_x509 X509 *ca = PEM_read_bio_X509(bio, NULL, cert_no_passphrase, NULL);

        if (!ca)
            break;
        if (X509_STORE_add_cert(trust->store, ca) != 1)
            return error_set(err, ERROR_INTERNAL,
                             "client CA: certificate number %zu cannot be added", count + 1);
        count++;
    }
    bool is_at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

    ERR_clear_error();
    if (count == 0 || !is_at_end)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "client CA: the file is not a list of PEM certificates: %zu could be read",
                         count);
    *out = TAKE_PTR(trust);
    return true;
}

static bool verify(const struct pki_trust *trust, X509 *certificate, struct error *err)
{
    auto_x509_context X509_STORE_CTX *context = X509_STORE_CTX_new();

    if (!context || X509_STORE_CTX_init(context, trust->store, certificate, NULL) != 1 ||
        X509_STORE_CTX_set_purpose(context, X509_PURPOSE_SSL_CLIENT) != 1)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "client certificate: out of memory");
    bool ok = X509_verify_cert(context) == 1;

    ERR_clear_error();
    return ok || error_set(err, ERROR_UNAUTHENTICATED, "client certificate: %s",
                           X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
}

void pki_client_free(struct pki_client *client)
{
    x509_free_at(&client->certificate);
}

bool pki_client_read(const char *pem, struct pki_client *out, struct error *err)
{
    auto_pki_client struct pki_client client = { .certificate = NULL };

    if (!cert_read(pem, &client.certificate, err) ||
        !cert_key_sha256(client.certificate, client.key_sha256, err)) {
        if (err->code == ERROR_INVALID_ARGUMENT)
            err->code = ERROR_UNAUTHENTICATED;
        return error_wrap(err, "client certificate");
    }
    *out = client;
    client.certificate = NULL;
    return true;
}

bool pki_verify_client(const struct pki_trust *trust, const struct pki_client *client,
                       struct certificate_claims *out, struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!verify(trust, client->certificate, err) || !cert_sha256(client->certificate, digest, err))
        return false;
    hex_encode(digest, SHA256_LEN, out->sha256);
    cert_common_name(client->certificate, out->common_name);
    return true;
}

bool pki_check_server(const char *certificate_pem, const struct secret *private_key_pem,
                      int64_t *until, struct error *err)
{
    auto_x509 X509 *certificate = NULL;
    bool is_read = cert_read(certificate_pem, &certificate, err);
    auto_bio BIO *bio = BIO_new_mem_buf(private_key_pem->bytes, (int)private_key_pem->len);
    auto_pkey EVP_PKEY *key =
        bio ? PEM_read_bio_PrivateKey(bio, NULL, cert_no_passphrase, NULL) : NULL;

    ERR_clear_error();
    if (!is_read || !key)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "the broker's %s is not PEM or has a passphrase: give a PEM file without one",
            is_read ? "private key" : "certificate");
    if (X509_check_private_key(certificate, key) != 1) {
        ERR_clear_error();
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the broker's private key does not belong to its certificate");
    }
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the broker's certificate needs an EC key (P-256), so that TLS 1.2 "
                         "cannot be negotiated");
    if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0 ||
        X509_cmp_current_time(X509_get0_notBefore(certificate)) >= 0)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the broker's certificate is expired or not yet valid");
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return openssl_error(err, "the end of the broker's certificate");
    *until = timegm(&tm);
    return true;
}
