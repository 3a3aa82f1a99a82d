/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/tls.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * What a client may make us do before anybody knows who it is. OpenSSL keeps the parsed
 * certificates for as long as the connection lives, at several times their length. Large groups and
 * keys cost milliseconds each.
 */
enum {
    CERTIFICATES_BYTES_MAX = 6 * 1024, /* a leaf and two more of RSA with 4096 bits */
    CERTIFICATES_MAX = 4,
    NAME_ENTRIES_MAX = 16,
    EXTENSIONS_MAX = 32,
    RSA_BITS_MAX = 4096,
    RSA_EXPONENT_BITS_MAX = 32,
    KEY_UPDATES_MAX = 64, /* honest clients send one in millions of records */
};
static const char groups[] = "X25519:P-256";
static const char client_signatures[] =
    "ecdsa_secp256r1_sha256:ecdsa_secp384r1_sha384:ed25519:"
    "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512";

struct tls_server {
    pthread_mutex_t lock; /* for both */
    SSL_CTX *context;
    uint8_t key_sha256[SHA256_LEN];
};

struct tls_connection {
    SSL *ssl;
    unsigned key_updates; /* that the client has sent */
    uint8_t server_key_sha256[SHA256_LEN];
};

static const unsigned char alpn_h2[] = { 2, 'h', '2' };

/* --- The server --- */

static void bio_free_at(BIO **bio)
{
    BIO_free(*bio);
}

static void key_free_at(EVP_PKEY **key)
{
    EVP_PKEY_free(*key);
}

static void certificate_free_at(X509 **certificate)
{
    X509_free(*certificate);
}

/* The key's file is never encrypted: OpenSSL must not ask on the terminal. */
static int no_password(char *out UNUSED, int size UNUSED, int is_writing UNUSED,
                       void *cookie UNUSED)
{
    return -1;
}

static X509 *read_certificate(BIO *bio)
{
    return PEM_read_bio_X509(bio, NULL, no_password, NULL);
}

/* After read_certificate() gave none: whether the text ends here, or has something wrong in it. */
static bool has_ended(void)
{
    bool ended = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;

    if (ended)
        ERR_clear_error();
    return ended;
}

/* The leaf, then the certificates between it and the root. */
static bool use_certificates(SSL_CTX *context, const char *pem, struct error *err)
{
    CLEANUP(bio_free_at) BIO *bio = BIO_new_mem_buf(pem, -1);
    CLEANUP(certificate_free_at) X509 *leaf = bio ? read_certificate(bio) : NULL;
    X509 *other = NULL;

    if (!leaf || SSL_CTX_use_certificate(context, leaf) != 1) {
        (void)openssl_error(err, "the server's certificate is not usable");
        err->code = ERROR_INVALID_ARGUMENT;
        return false;
    }
    while ((other = read_certificate(bio))) {
        if (SSL_CTX_add0_chain_cert(context, other) == 1)
            continue;
        X509_free(other);
        return openssl_error(err, "the server's certificate chain is not usable");
    }
    return has_ended() || openssl_error(err, "the server's certificate chain is not usable");
}

static EVP_PKEY *parse_key(const struct secret *pem)
{
    CLEANUP(bio_free_at) BIO *bio = BIO_new_mem_buf(pem->bytes, (int)pem->len);

    return bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
}

static bool use_key(SSL_CTX *context, const struct secret *pem, struct error *err)
{
    CLEANUP(key_free_at) EVP_PKEY *key = parse_key(pem);

    if (key && SSL_CTX_use_PrivateKey(context, key) == 1)
        return true;
    (void)openssl_error(err, "the server's private key is not usable, or not its certificate's");
    err->code = ERROR_INVALID_ARGUMENT;
    return false;
}

/* Clients with several certificates choose by the names of these CAs. */
static bool name_client_ca(SSL_CTX *context, const char *pem, struct error *err)
{
    CLEANUP(bio_free_at) BIO *bio = pem ? BIO_new_mem_buf(pem, -1) : NULL;
    size_t n = 0;

    while (pem) {
        CLEANUP(certificate_free_at) X509 *ca = bio ? read_certificate(bio) : NULL;

        if (!ca)
            break;
        if (SSL_CTX_add_client_CA(context, ca) != 1)
            return openssl_error(err, "the clients' CA is not usable");
        n++;
    }
    if (pem && !has_ended())
        return openssl_error(err, "the clients' CA is not usable");
    return n > 0 || !pem ||
           error_set(err, ERROR_INVALID_ARGUMENT, "the clients' CA has no certificate in it");
}

static bool has_cheap_key(const X509 *certificate)
{
    const EVP_PKEY *key = X509_get0_pubkey(certificate);
    BIGNUM *exponent = NULL;

    if (!key || !EVP_PKEY_is_a(key, "RSA"))
        return key != NULL; /* client_signatures says which others */
    bool is_cheap = EVP_PKEY_get_bits(key) <= RSA_BITS_MAX &&
                    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
                    BN_num_bits(exponent) <= RSA_EXPONENT_BITS_MAX;

    BN_free(exponent);
    return is_cheap;
}

static bool is_small(const X509 *certificate)
{
    return X509_NAME_entry_count(X509_get_subject_name(certificate)) <= NAME_ENTRIES_MAX &&
           X509_NAME_entry_count(X509_get_issuer_name(certificate)) <= NAME_ENTRIES_MAX &&
           X509_get_ext_count(certificate) <= EXTENSIONS_MAX;
}

/* Any chain will do here, if it is small: the application judges the leaf. TLS itself checks
 * afterwards that the client has the leaf's key. */
static int accept_chain(X509_STORE_CTX *chain, void *cookie UNUSED)
{
    const STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(chain); /* with the leaf */
    int n = sent ? sk_X509_num(sent) : 0;
    bool is_fine = n <= CERTIFICATES_MAX && has_cheap_key(X509_STORE_CTX_get0_cert(chain));

    for (int i = 0; is_fine && i < n; i++)
        is_fine = is_small(sk_X509_value(sent, i));
    if (!is_fine)
        X509_STORE_CTX_set_error(chain, X509_V_ERR_APPLICATION_VERIFICATION);
    return is_fine ? 1 : 0;
}

static void count_key_updates(int is_written, int version UNUSED, int type, const void *bytes,
                              size_t len, SSL *ssl UNUSED, void *cookie)
{
    struct tls_connection *connection = cookie;

    if (!is_written && type == SSL3_RT_HANDSHAKE && len > 0 &&
        *(const unsigned char *)bytes == SSL3_MT_KEY_UPDATE)
        connection->key_updates++;
}

static int choose_protocol(SSL *ssl UNUSED, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned int len, void *cookie UNUSED)
{
    for (unsigned int at = 0; at < len; at += 1u + offered[at]) {
        if (len - at < sizeof(alpn_h2) || memcmp(offered + at, alpn_h2, sizeof(alpn_h2)) != 0)
            continue;
        *out = alpn_h2 + 1;
        *out_len = sizeof(alpn_h2) - 1;
        return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool set_rules(SSL_CTX *context, struct error *err)
{
    if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1 ||
        SSL_CTX_set1_groups_list(context, groups) != 1 ||
        SSL_CTX_set1_client_sigalgs_list(context, client_signatures) != 1)
        return openssl_error(err, "set up TLS 1.3");
    (void)SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                           SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    (void)SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* Otherwise one SSL_read() goes on for as long as the client sends KeyUpdates. */
    (void)SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_msg_callback(context, count_key_updates);
    SSL_CTX_set_max_cert_list(context, CERTIFICATES_BYTES_MAX);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(context, accept_chain, NULL);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, NULL);
    return true;
}

static bool hash_key(X509 *certificate, uint8_t out[static SHA256_LEN], struct error *err)
{
    unsigned char *der = NULL;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    bool ok = len > 0 && sha256(der, (size_t)len, out, err);

    OPENSSL_free(der);
    return ok || openssl_error(err, "read the key of a certificate");
}

static void context_free_at(SSL_CTX **context)
{
    SSL_CTX_free(*context);
}

bool tls_server_change(struct tls_server *server, const struct server_tls *tls, struct error *err)
{
    CLEANUP(context_free_at) SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    uint8_t key[SHA256_LEN];

    if (!context)
        return openssl_error(err, "set up TLS");
    if (!set_rules(context, err) || !use_certificates(context, tls->certificate_pem, err) ||
        !use_key(context, tls->private_key_pem, err) ||
        !name_client_ca(context, tls->client_ca_pem, err) ||
        !hash_key(SSL_CTX_get0_certificate(context), key, err))
        return false;
    (void)pthread_mutex_lock(&server->lock);
    SSL_CTX *old = server->context;

    server->context = context;
    memcpy(server->key_sha256, key, sizeof(key));
    (void)pthread_mutex_unlock(&server->lock);
    context = old; /* its connections hold it */
    return true;
}

bool tls_server_new(const struct server_tls *tls, struct tls_server **out, struct error *err)
{
    struct tls_server *server = calloc(1, sizeof(*server));

    if (!server)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for TLS");
    (void)pthread_mutex_init(&server->lock, NULL);
    if (!tls_server_change(server, tls, err)) {
        tls_server_free(server);
        return false;
    }
    *out = server;
    return true;
}

void tls_server_free(struct tls_server *server)
{
    if (!server)
        return;
    SSL_CTX_free(server->context);
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
}

/* --- A connection --- */

bool tls_accept(struct tls_server *server, int fd, struct tls_connection **out, struct error *err)
{
    struct tls_connection *connection = calloc(1, sizeof(*connection));

    if (!connection)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a connection");
    (void)pthread_mutex_lock(&server->lock);
    connection->ssl = SSL_new(server->context);
    memcpy(connection->server_key_sha256, server->key_sha256, SHA256_LEN);
    (void)pthread_mutex_unlock(&server->lock);
    if (!connection->ssl || SSL_set_fd(connection->ssl, fd) != 1) {
        tls_free(connection);
        return openssl_error(err, "set up a connection");
    }
    SSL_set_msg_callback_arg(connection->ssl, connection);
    *out = connection;
    return true;
}

void tls_free(struct tls_connection *connection)
{
    if (!connection)
        return;
    SSL_free(connection->ssl);
    free(connection);
}

/* OpenSSL's queue of errors belongs to the thread, not to the connection: it must be empty before
 * each call, and what is in it interests nobody. */
static enum tls_result result_of(struct tls_connection *connection, int returned)
{
    int reason = SSL_get_error(connection->ssl, returned);

    ERR_clear_error();
    if (returned > 0)
        return TLS_DONE;
    if (reason == SSL_ERROR_WANT_READ)
        return TLS_WANTS_READ;
    return reason == SSL_ERROR_WANT_WRITE ? TLS_WANTS_WRITE : TLS_ENDED;
}

/* The callback is not asked when a client offers no protocol at all. */
static bool speaks_h2(const struct tls_connection *connection)
{
    const unsigned char *name = NULL;
    unsigned int len = 0;

    SSL_get0_alpn_selected(connection->ssl, &name, &len);
    return len == sizeof(alpn_h2) - 1 && memcmp(name, alpn_h2 + 1, len) == 0;
}

enum tls_result tls_handshake(struct tls_connection *connection)
{
    enum tls_result result = result_of(connection, SSL_accept(connection->ssl));

    return result == TLS_DONE && !speaks_h2(connection) ? TLS_ENDED : result;
}

enum tls_result tls_read(struct tls_connection *connection, void *out, size_t size, size_t *len)
{
    *len = 0;
    enum tls_result result = result_of(connection, SSL_read_ex(connection->ssl, out, size, len));

    return connection->key_updates > KEY_UPDATES_MAX ? TLS_ENDED : result;
}

enum tls_result tls_write(struct tls_connection *connection, const void *bytes, size_t len,
                          size_t *sent)
{
    *sent = 0;
    return result_of(connection, SSL_write_ex(connection->ssl, bytes, len, sent));
}

void tls_say_goodbye(struct tls_connection *connection)
{
    (void)result_of(connection, SSL_shutdown(connection->ssl));
}

static bool write_pem(X509 *certificate, char **out)
{
    CLEANUP(bio_free_at) BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    if (!bio || PEM_write_bio_X509(bio, certificate) != 1)
        return false;
    long len = BIO_get_mem_data(bio, &text);

    if (len <= 0)
        return false;
    *out = text_of_bytes(text, (size_t)len);
    return *out != NULL;
}

bool tls_peer_read(const struct tls_connection *connection, struct tls_peer *out, struct error *err)
{
    X509 *leaf = SSL_get0_peer_certificate(connection->ssl);
    struct tls_peer peer = { .session_reused = SSL_session_reused(connection->ssl) == 1 };

    if (!leaf)
        return error_set(err, ERROR_UNAUTHENTICATED, "the client has no certificate");
    memcpy(peer.server_key_sha256, connection->server_key_sha256, SHA256_LEN);
    if (!hash_key(leaf, peer.key_sha256, err))
        return false;
    if (!write_pem(leaf, &peer.certificate_pem))
        return openssl_error(err, "write the client's certificate");
    *out = peer;
    return true;
}

/* --- What a client has --- */

static bool read_end(const X509 *certificate, int64_t *out)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return false;
    *out = (int64_t)timegm(&tm);
    return true;
}

bool tls_check_ca(const char *ca_pem, int64_t *until_s, struct error *err)
{
    CLEANUP(bio_free_at) BIO *bio = BIO_new_mem_buf(ca_pem, -1);
    int64_t last_s = INT64_MIN;

    for (;;) {
        int64_t end_s = 0;
        CLEANUP(certificate_free_at) X509 *certificate = bio ? read_certificate(bio) : NULL;

        if (!certificate)
            break;
        if (!read_end(certificate, &end_s))
            return error_set(err, ERROR_INVALID_ARGUMENT, "a certificate has no end");
        if (end_s > last_s)
            last_s = end_s;
    }
    ERR_clear_error(); /* the end of the text */
    if (last_s == INT64_MIN)
        return error_set(err, ERROR_INVALID_ARGUMENT, "there is no certificate in it");
    *until_s = last_s;
    return true;
}

static X509 *parse_leaf(const char *pem)
{
    CLEANUP(bio_free_at) BIO *bio = BIO_new_mem_buf(pem, -1);

    return bio ? read_certificate(bio) : NULL;
}

bool tls_check_pair(const char *certificate_pem, const struct secret *private_key_pem,
                    int64_t *until_s, struct error *err)
{
    CLEANUP(certificate_free_at) X509 *leaf = parse_leaf(certificate_pem);
    CLEANUP(key_free_at) EVP_PKEY *key = parse_key(private_key_pem);
    bool is_pair = leaf && key && X509_check_private_key(leaf, key) == 1;
    bool has_end = is_pair && read_end(leaf, until_s);

    ERR_clear_error();
    if (!leaf || !key)
        return error_set(err, ERROR_INVALID_ARGUMENT, "the %s is not usable",
                         leaf ? "key" : "certificate");
    if (!is_pair)
        return error_set(err, ERROR_INVALID_ARGUMENT, "certificate and key do not belong together");
    return has_end || error_set(err, ERROR_INVALID_ARGUMENT, "the certificate has no end");
}
