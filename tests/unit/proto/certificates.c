/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/certificates.h"

#include <assert.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MUST(x)                             \
    do {                                    \
        if (!(x)) {                         \
            (void)fprintf(stderr, #x "\n"); \
            abort();                        \
        }                                   \
    } while (0)

static char *take_text(BIO *bio)
{
    char *bytes = NULL;

    MUST(BIO_write(bio, "", 1) == 1);
    (void)BIO_get_mem_data(bio, &bytes);
    char *text = strdup(bytes);

    MUST(text);
    BIO_free(bio);
    return text;
}

static void add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    MUST(extension && X509_add_ext(certificate, extension, -1));
    X509_EXTENSION_free(extension);
}

void test_identity_make(struct test_identity *out, const char *name,
                        const struct test_identity *issuer)
{
    static long serial;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();

    MUST(key && certificate);
    MUST(X509_set_version(certificate, 2));
    MUST(ASN1_INTEGER_set(X509_get_serialNumber(certificate), ++serial));
    MUST(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600));
    MUST(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    X509_NAME *subject = X509_get_subject_name(certificate);
    MUST(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0));
    MUST(X509_set_issuer_name(certificate,
                              issuer ? X509_get_subject_name(issuer->certificate) : subject));
    MUST(X509_set_pubkey(certificate, key));
    if (issuer)
        add_extension(certificate, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    else
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    MUST(X509_sign(certificate, issuer ? issuer->key : key, EVP_sha256()));

    BIO *certificate_bio = BIO_new(BIO_s_mem()), *key_bio = BIO_new(BIO_s_mem());
    MUST(PEM_write_bio_X509(certificate_bio, certificate));
    MUST(PEM_write_bio_PrivateKey(key_bio, key, NULL, NULL, 0, NULL, NULL));
    *out =
        (struct test_identity){ take_text(certificate_bio), take_text(key_bio), certificate, key };
}

void test_identity_free(struct test_identity *identity)
{
    free(identity->certificate_pem);
    free(identity->key_pem);
    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
}

static int connect_to(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    MUST(fd >= 0);
    MUST(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)) == 0);
    return fd;
}

int tls_connects(int port, int max_version, const struct test_identity *identity)
{
    static const uint8_t h2[] = { 2, 'h', '2' };
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    char byte = 0;

    MUST(context && SSL_CTX_set_max_proto_version(context, max_version));
    MUST(SSL_CTX_set_cipher_list(context, "ALL"));
    if (identity) {
        MUST(SSL_CTX_use_certificate(context, identity->certificate));
        MUST(SSL_CTX_use_PrivateKey(context, identity->key));
    }
    SSL *ssl = SSL_new(context);
    int fd = connect_to(port);
    MUST(ssl && SSL_set_fd(ssl, fd) && SSL_set_alpn_protos(ssl, h2, sizeof(h2)) == 0);

    int is_good = SSL_connect(ssl) == 1 &&
                  SSL_write(ssl, preface, sizeof(preface) - 1) == sizeof(preface) - 1 &&
                  SSL_read(ssl, &byte, 1) == 1;
    SSL_free(ssl);
    SSL_CTX_free(context);
    close(fd);
    return is_good;
}
