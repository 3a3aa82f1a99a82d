/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/tls.h"
#include "tests/unit/proto/certificates.h"
#include "tests/unit/test.h"

#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * One connection over a pair of sockets: tls_...() on one side, OpenSSL's client on the other.
 */
enum { STEPS_MAX = 100 };

struct pair {
    struct test_identity ca, server_identity, user;
    struct secret key;
    struct tls_server *server;
    struct tls_connection *connection;
    SSL_CTX *context;
    SSL *client;
    int fds[2];
};

static int set_up(void **state)
{
    struct pair *p = calloc(1, sizeof(*p));
    struct error err = ERROR_INIT;

    assert_non_null(p);
    test_identity_make(&p->ca, "ca", NULL);
    test_identity_make(&p->server_identity, "server", &p->ca);
    test_identity_make(&p->user, "user", &p->ca);
    assert_ok(secret_alloc(&p->key, strlen(p->server_identity.key_pem), &err));
    memcpy(p->key.bytes, p->server_identity.key_pem, p->key.len);
    const struct server_tls tls = { .certificate_pem = p->server_identity.certificate_pem,
                                    .private_key_pem = &p->key,
                                    .client_ca_pem = p->ca.certificate_pem };
    assert_ok(tls_server_new(&tls, &p->server, &err));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p->fds), 0);
    assert_ok(tls_accept(p->server, p->fds[0], &p->connection, &err));
    p->context = SSL_CTX_new(TLS_client_method());
    assert_non_null(p->context);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct pair *p = *state;

    SSL_free(p->client);
    SSL_CTX_free(p->context);
    tls_free(p->connection);
    tls_server_free(p->server);
    secret_wipe(&p->key);
    test_identity_free(&p->user);
    test_identity_free(&p->server_identity);
    test_identity_free(&p->ca);
    (void)close(p->fds[0]);
    (void)close(p->fds[1]);
    free(p);
    return 0;
}

/* Begins the client's side, which shows this certificate. */
static void begin(struct pair *p, X509 *certificate, EVP_PKEY *key)
{
    static const uint8_t h2[] = { 2, 'h', '2' };

    assert_int_equal(SSL_CTX_use_certificate(p->context, certificate), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(p->context, key), 1);
    p->client = SSL_new(p->context);
    assert_non_null(p->client);
    assert_int_equal(SSL_set_fd(p->client, p->fds[1]), 1);
    assert_int_equal(SSL_set_alpn_protos(p->client, h2, sizeof(h2)), 0);
}

/* Runs both sides in turns until the server's ends. */
static enum tls_result shake_hands(struct pair *p)
{
    enum tls_result result = TLS_WANTS_READ;

    for (int i = 0; i < STEPS_MAX && result != TLS_DONE && result != TLS_ENDED; i++) {
        (void)SSL_connect(p->client);
        result = tls_handshake(p->connection);
    }
    return result;
}

static enum tls_result shake_hands_as_user(struct pair *p)
{
    begin(p, p->user.certificate, p->user.key);
    return shake_hands(p);
}

static void a_client_is_known_by_its_certificate(void **state)
{
    struct pair *p = *state;
    struct tls_peer peer = { .certificate_pem = NULL };
    struct error err = ERROR_INIT;

    assert_int_equal(shake_hands_as_user(p), TLS_DONE);
    assert_ok(tls_peer_read(p->connection, &peer, &err));
    assert_string_equal(peer.certificate_pem, p->user.certificate_pem);
    assert_false(peer.session_reused);
    free(peer.certificate_pem);
}

static void expensive_groups_are_not_spoken(void **state)
{
    static const char *const expensive[] = { "P-521", "P-384", "X448", "ffdhe2048", "ffdhe8192" };

    for (size_t i = 0; i < ARRAY_LEN(expensive); i++) {
        assert_int_equal(set_up(state), 0);
        struct pair *p = *state;

        assert_int_equal(SSL_CTX_set1_groups_list(p->context, expensive[i]), 1);
        assert_int_equal(shake_hands_as_user(p), TLS_ENDED);
        assert_int_equal(tear_down(state), 0);
    }
}

/* --- Certificates --- */

static X509 *sign(EVP_PKEY *key, int names, int extensions)
{
    X509 *certificate = X509_new();

    assert_non_null(certificate);
    assert_int_equal(X509_set_version(certificate, 2), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), -3600));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    X509_NAME *name = X509_get_subject_name(certificate);
    for (int i = 0; i < names; i++)
        assert_int_equal(
            X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"x", 1, -1, 0),
            1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    for (int i = 0; i < extensions; i++) {
        ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
        ASN1_OBJECT *id = OBJ_txt2obj("1.3.6.1.4.1.99999.1", 1);
        X509_EXTENSION *extension = X509_EXTENSION_create_by_OBJ(NULL, id, 0, value);

        assert_int_equal(X509_add_ext(certificate, extension, -1), 1);
        X509_EXTENSION_free(extension);
        ASN1_OBJECT_free(id);
        ASN1_OCTET_STRING_free(value);
    }
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    return certificate;
}

static enum tls_result show(void **state, EVP_PKEY *key, int names, int extensions, int chain)
{
    assert_int_equal(set_up(state), 0);
    struct pair *p = *state;
    X509 *certificate = sign(key, names, extensions);

    assert_int_equal(SSL_CTX_use_certificate(p->context, certificate), 1);
    for (int i = 1; i < chain; i++)
        assert_int_equal(SSL_CTX_add1_chain_cert(p->context, p->user.certificate), 1);
    begin(p, certificate, key);
    enum tls_result result = shake_hands(p);

    X509_free(certificate);
    assert_int_equal(tear_down(state), 0);
    return result;
}

static void large_certificates_are_refused(void **state)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    assert_int_equal(show(state, key, 1, 1, 4), TLS_DONE);
    assert_int_equal(show(state, key, 1, 32, 1), TLS_DONE);
    assert_int_equal(show(state, key, 16, 1, 1), TLS_DONE);
    assert_int_equal(show(state, key, 16, 32, 4), TLS_DONE);
    assert_int_equal(show(state, key, 17, 1, 1), TLS_ENDED);
    assert_int_equal(show(state, key, 1, 33, 1), TLS_ENDED);
    assert_int_equal(show(state, key, 1, 1, 5), TLS_ENDED);
    assert_int_equal(show(state, key, 500, 1, 1), TLS_ENDED); /* 6 KiB */
    EVP_PKEY_free(key);
}

static EVP_PKEY *make_rsa(const char *exponent)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    BIGNUM *e = NULL;
    EVP_PKEY *key = NULL;

    assert_non_null(context);
    assert_true(BN_hex2bn(&e, exponent) > 0);
    assert_int_equal(EVP_PKEY_keygen_init(context), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048), 1);
    assert_int_equal(EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, e), 1);
    assert_int_equal(EVP_PKEY_keygen(context, &key), 1);
    BN_free(e);
    EVP_PKEY_CTX_free(context);
    return key;
}

static void expensive_keys_are_refused(void **state)
{
    EVP_PKEY *usual = make_rsa("10001"), *expensive = make_rsa("100000001"),
             *other = EVP_EC_gen("P-521");

    assert_int_equal(show(state, usual, 1, 1, 1), TLS_DONE);
    assert_int_equal(show(state, expensive, 1, 1, 1), TLS_ENDED);
    assert_int_equal(show(state, other, 1, 1, 1), TLS_ENDED);
    EVP_PKEY_free(usual);
    EVP_PKEY_free(expensive);
    EVP_PKEY_free(other);
}

/* --- KeyUpdates --- */

static void update_key(struct pair *p, int kind)
{
    assert_int_equal(SSL_key_update(p->client, kind), 1);
    assert_int_equal(SSL_do_handshake(p->client), 1);
}

static enum tls_result read_some(struct pair *p, size_t *len)
{
    uint8_t bytes[16];

    return tls_read(p->connection, bytes, sizeof(bytes), len);
}

static void a_few_key_updates_are_fine(void **state)
{
    struct pair *p = *state;
    enum tls_result result = TLS_WANTS_READ;
    size_t len = 0;

    assert_int_equal(shake_hands_as_user(p), TLS_DONE);
    for (int i = 0; i < 10; i++)
        update_key(p, SSL_KEY_UPDATE_NOT_REQUESTED);
    assert_int_equal(SSL_write(p->client, "x", 1), 1);
    for (int i = 0; i < STEPS_MAX && result == TLS_WANTS_READ; i++)
        result = read_some(p, &len);
    assert_int_equal(result, TLS_DONE);
    assert_int_equal(len, 1);
}

/* One read takes one of them, however many there are: others have their turn in between. */
static void many_key_updates_end_the_connection(void **state)
{
    struct pair *p = *state;
    size_t len = 0;
    int reads = 0;

    assert_int_equal(shake_hands_as_user(p), TLS_DONE);
    for (int i = 0; i < 80; i++)
        update_key(p, SSL_KEY_UPDATE_NOT_REQUESTED);
    while (read_some(p, &len) == TLS_WANTS_READ && reads < 100)
        reads++;
    assert_in_range(reads, 60, 70);
    assert_int_equal(read_some(p, &len), TLS_ENDED);
}

/* The answer to a KeyUpdate does not fit into the socket: the door must wait until it can write. */
static void an_unread_answer_to_a_key_update_is_told(void **state)
{
    struct pair *p = *state;
    enum tls_result result = TLS_WANTS_READ;
    static const char full[4096];
    size_t len = 0;

    assert_int_equal(shake_hands_as_user(p), TLS_DONE);
    for (size_t n = sizeof(full); n > 0; n /= 2)
        while (send(p->fds[0], full, n, MSG_DONTWAIT) > 0)
            ;
    for (int i = 0; i < 5; i++)
        update_key(p, SSL_KEY_UPDATE_REQUESTED);
    for (int i = 0; i < STEPS_MAX && result == TLS_WANTS_READ; i++)
        result = read_some(p, &len);
    assert_int_equal(result, TLS_WANTS_WRITE);
}

/* --- The server's files --- */

static void expect_bad(const struct pair *p, const char *chain, const char *ca, const char *why)
{
    const struct server_tls tls = { .certificate_pem = chain,
                                    .private_key_pem = &p->key,
                                    .client_ca_pem = ca };
    struct tls_server *server = NULL;
    struct error err = ERROR_INIT;

    assert_false(tls_server_new(&tls, &server, &err));
    assert_contains(err.text, why);
}

static void a_damaged_second_certificate_is_an_error(void **state)
{
    const struct pair *p = *state;
    static const char bad[] = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    char chain[4096], ca[4096];

    (void)snprintf(chain, sizeof(chain), "%s%s", p->server_identity.certificate_pem, bad);
    (void)snprintf(ca, sizeof(ca), "%s%s", p->ca.certificate_pem, bad);
    expect_bad(p, chain, p->ca.certificate_pem, "certificate chain is not usable");
    expect_bad(p, p->server_identity.certificate_pem, ca, "clients' CA is not usable");
    expect_bad(p, p->server_identity.certificate_pem, "", "has no certificate in it");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_client_is_known_by_its_certificate),
        cmocka_unit_test(expensive_groups_are_not_spoken),
        cmocka_unit_test(large_certificates_are_refused),
        cmocka_unit_test(expensive_keys_are_refused),
        CASE(a_few_key_updates_are_fine),
        CASE(many_key_updates_end_the_connection),
        CASE(an_unread_answer_to_a_key_update_is_told),
        CASE(a_damaged_second_certificate_is_an_error),
    };

    return RUN_TESTS(tests);
}
