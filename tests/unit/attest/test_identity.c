/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/identity.h"
#include "base/digest.h"
#include "policy/owner_certificate.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct error err;

static X509 *certificate_of(const struct identity *identity)
{
    BIO *bio = BIO_new_mem_buf(identity->certificate_pem, -1);
    X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);

    BIO_free(bio);
    assert_non_null(x);
    return x;
}

static EVP_PKEY *key_of(const struct identity *identity)
{
    BIO *bio = BIO_new_mem_buf(identity->private_key_pem.bytes, (int)identity->private_key_pem.len);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

    BIO_free(bio);
    assert_non_null(key);
    return key;
}

static void key_and_certificate_belong_together(void **state UNUSED)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };

    assert_ok(identity_new("node-1", &identity, &err));
    X509 *x = certificate_of(&identity);
    EVP_PKEY *key = key_of(&identity);
    char name[80];

    assert_int_equal(EVP_PKEY_get_bits(key), 256);
    assert_int_equal(X509_check_private_key(x, key), 1);
    assert_int_equal(X509_verify(x, key), 1);
    assert_int_equal(
        X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof(name)), 6);
    assert_string_equal(name, "node-1");
    EVP_PKEY_free(key);
    X509_free(x);
}

static void certificate_is_only_for_a_tls_client(void **state UNUSED)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };

    assert_ok(identity_new("node-1", &identity, &err));
    X509 *x = certificate_of(&identity);
    int days = 0, seconds = 0;

    assert_int_equal(X509_get_version(x), X509_VERSION_3);
    assert_int_equal(X509_get_extended_key_usage(x), XKU_SSL_CLIENT);
    assert_int_equal(X509_get_key_usage(x), KU_DIGITAL_SIGNATURE);
    assert_int_equal(X509_check_ca(x), 0);
    assert_non_null(X509_get0_subject_key_id(x));
    assert_true(X509_cmp_current_time(X509_get0_notBefore(x)) < 0);
    assert_int_equal(ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x)), 1);
    assert_true(days >= 3650 && days <= 3660);
    X509_free(x);
}

static void certificate_authenticates_a_tls_session(void **state UNUSED)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };

    assert_ok(identity_new("node-1", &identity, &err));
    X509 *x = certificate_of(&identity);
    EVP_PKEY *key = key_of(&identity);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    assert_int_equal(SSL_CTX_use_certificate(context, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
    assert_int_equal(SSL_CTX_check_private_key(context), 1);
    SSL_CTX_free(context);
    EVP_PKEY_free(key);
    X509_free(x);
}

static void request_proves_possession_of_the_key(void **state UNUSED)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };

    assert_ok(identity_new("node-1", &identity, &err));
    BIO *bio = BIO_new_mem_buf(identity.request_pem, -1);
    X509_REQ *request = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    X509 *x = certificate_of(&identity);

    assert_non_null(request);
    assert_int_equal(X509_REQ_verify(request, X509_REQ_get0_pubkey(request)), 1);
    assert_int_equal(EVP_PKEY_eq(X509_REQ_get0_pubkey(request), X509_get0_pubkey(x)), 1);
    X509_REQ_free(request);
    X509_free(x);
    BIO_free(bio);
}

static void hash_is_that_of_the_subject_public_key_info(void **state UNUSED)
{
    auto_identity struct identity identity = { .private_key_pem = SECRET_INIT };
    uint8_t of_pem[KEY_SHA256_LEN], own[KEY_SHA256_LEN];

    assert_ok(identity_new("node-1", &identity, &err));
    assert_ok(key_sha256_of_certificate(identity.certificate_pem, of_pem, &err));
    EVP_PKEY *key = key_of(&identity);
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key, &der);

    assert_int_equal(len, 91); /* P-256, uncompressed */
    assert_ok(sha256(der, (size_t)len, own, &err));
    assert_memory_equal(of_pem, own, sizeof(own));
    assert_memory_equal(identity.key_sha256, own, sizeof(own));
    OPENSSL_free(der);
    EVP_PKEY_free(key);
}

static void only_the_first_certificate_counts(void **state UNUSED)
{
    auto_identity struct identity a = { .private_key_pem = SECRET_INIT };
    auto_identity struct identity b = { .private_key_pem = SECRET_INIT };
    uint8_t hash[KEY_SHA256_LEN];
    auto_free char *both = NULL;

    assert_ok(identity_new("a", &a, &err));
    assert_ok(identity_new("b", &b, &err));
    assert_true(asprintf(&both, "%s%s", a.certificate_pem, b.certificate_pem) > 0);
    assert_ok(key_sha256_of_certificate(both, hash, &err));
    assert_memory_equal(hash, a.key_sha256, sizeof(hash));
}

static void each_identity_has_a_key_of_its_own(void **state UNUSED)
{
    auto_identity struct identity a = { .private_key_pem = SECRET_INIT };
    auto_identity struct identity b = { .private_key_pem = SECRET_INIT };

    assert_ok(identity_new("node", &a, &err));
    assert_ok(identity_new("node", &b, &err));
    assert_memory_not_equal(a.key_sha256, b.key_sha256, KEY_SHA256_LEN);
    assert_string_not_equal(a.certificate_pem, b.certificate_pem);
}

static void common_name_out_of_bounds_is_refused(void **state UNUSED)
{
    struct identity identity;
    char longest[66] = "";

    for (size_t i = 0; i < 65; i++)
        longest[i] = 'n';
    assert_refused(ERROR_INVALID_ARGUMENT, identity_new("", &identity, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, identity_new(longest, &identity, &err));
    assert_false(identity_new("\xff\xfe", &identity, &err)); /* not UTF-8 */
    longest[64] = '\0';
    assert_ok(identity_new(longest, &identity, &err));
    identity_wipe(&identity);
}

static void a_text_without_a_certificate_has_no_hash(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "text",
        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n",
    };
    uint8_t hash[KEY_SHA256_LEN];
    auto_free char *endless = calloc(1, 70000);

    assert_non_null(endless);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, key_sha256_of_certificate(bad[i], hash, &err));
    for (size_t i = 0; endless && i < 69999; i++)
        endless[i] = 'A';
    assert_refused(ERROR_INVALID_ARGUMENT, key_sha256_of_certificate(endless, hash, &err));
}

/* A client that sends one could otherwise stop the process until someone types a passphrase. */
static void encrypted_certificate_asks_for_no_passphrase(void **state UNUSED)
{
    static const char pem[] =
        "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
        "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END CERTIFICATE-----\n";
    static const char typed[] = "passphrase\npassphrase\npassphrase\n";
    struct owner_claims claims;
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    uint8_t hash[KEY_SHA256_LEN] = { 0 };
    int input[2], left = 0, terminal = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(write(input[1], typed, sizeof(typed)), sizeof(typed));
    assert_int_equal(dup2(input[0], STDIN_FILENO), STDIN_FILENO);
    assert_refused(ERROR_INVALID_ARGUMENT, key_sha256_of_certificate(pem, hash, &err));
    assert_refused(ERROR_DENIED, cert_chain_parse(pem, strlen(pem), 1, &chain, &err));
    assert_refused(ERROR_DENIED,
                   owner_certificate_verify(NULL, 0, pem, strlen(pem), hash, 0, &claims, &err));
    assert_int_equal(ioctl(STDIN_FILENO, FIONREAD, &left), 0);
    assert_int_equal(left, sizeof(typed));
    assert_int_equal(dup2(terminal, STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(close(terminal) + close(input[0]) + close(input[1]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_and_certificate_belong_together),
        cmocka_unit_test(certificate_is_only_for_a_tls_client),
        cmocka_unit_test(certificate_authenticates_a_tls_session),
        cmocka_unit_test(request_proves_possession_of_the_key),
        cmocka_unit_test(hash_is_that_of_the_subject_public_key_info),
        cmocka_unit_test(only_the_first_certificate_counts),
        cmocka_unit_test(each_identity_has_a_key_of_its_own),
        cmocka_unit_test(common_name_out_of_bounds_is_refused),
        cmocka_unit_test(a_text_without_a_certificate_has_no_hash),
        cmocka_unit_test(encrypted_certificate_asks_for_no_passphrase),
    };

    return RUN_TESTS(tests);
}
