/* SPDX-License-Identifier: Apache-2.0 */
#include "record/recovery_certificate.h"
#include "tests/unit/record/made_certificate.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

static void certificates_for_encryption_are_accepted(void **state)
{
    static const struct certificate_wish good[] = {
        { .kind = "RSA-3072" },
        { .kind = "RSA-4096", .usage = "critical,keyEncipherment,dataEncipherment" },
        { .kind = "P-256" },
        { .kind = "P-384", .usage = "keyAgreement", .serial_len = 20 },
    };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        auto_made_certificate struct made_certificate made = make_certificate(&good[i]);
        static struct recovery_certificate der, pem;
        char text[RECOVERY_TEXT_LEN];
        uint8_t digest[SHA256_LEN];

        assert_ok(recovery_certificate_read(made.der, made.der_len, &der, &err));
        assert_ok(recovery_certificate_read_pem(made.pem, strlen(made.pem), &pem, &err));
        assert_memory_equal(&der, &pem, sizeof(der));
        assert_ok(sha256(made.der, made.der_len, digest, &err));
        assert_memory_equal(der.sha256, digest, SHA256_LEN);
        assert_int_equal(strlen(der.serial), good[i].serial_len ? 40 : 16);
        assert_memory_equal(der.serial, "7f0102030405", 12);
        assert_ok(recovery_certificate_text(&der, text, &err));
        assert_memory_equal(text, good[i].kind[0] == 'R' ? "RSA " : "EC ", 3);
        assert_contains(text, ", CN=nnnnnnnn, until ");
    }
}

static void other_certificates_are_refused_and_why_is_said(void **state)
{
    static const struct {
        struct certificate_wish wish;
        const char *why;
    } bad[] = {
        { { .kind = "RSA-2048" }, "3072" },
        { { .kind = "P-521" }, "P-256 or P-384" },
        { { .kind = "P-224" }, "P-256 or P-384" },
        { { .kind = "ED25519" }, "P-256 or P-384" },
        { { .kind = "P-256", .usage = "digitalSignature" }, "keyAgreement" },
        { { .kind = "P-256", .usage = "keyEncipherment" }, "keyAgreement" },
        { { .kind = "RSA-3072", .usage = "keyAgreement" }, "keyEncipherment" },
        { { .kind = "P-256", .serial_len = 21 }, "serial" },
        { { .kind = "P-256", .name_len = 1024 }, "more than 2048" },
    };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        auto_made_certificate struct made_certificate made = make_certificate(&bad[i].wish);
        static struct recovery_certificate out;

        assert_refused(ERROR_INVALID_ARGUMENT,
                       recovery_certificate_read(made.der, made.der_len, &out, &err));
        assert_contains(err.text, bad[i].why);
        assert_refused(ERROR_INVALID_ARGUMENT,
                       recovery_certificate_read_pem(made.pem, strlen(made.pem), &out, &err));
    }
}

/* Whoever reads the disk could read what is encrypted to such a key. */
static void rsa_keys_that_hide_nothing_are_refused(void **state)
{
    static const uint8_t exponent[] = { 2, 3, 1, 0, 1 }; /* in DER, right behind the modulus */
    static const struct {
        int at;
        uint8_t bytes[3];
        size_t len;
    } edits[] = {
        { -1, { 0xfe }, 1 },            /* an even modulus; its last byte is odd */
        { 2, { 0x00, 0xff, 0xff }, 3 }, /* 65535 */
        { 2, { 0x01, 0x00, 0x02 }, 3 }, /* even */
    };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        auto_made_certificate struct made_certificate made =
            make_certificate(&(struct certificate_wish){ .kind = "RSA-3072" });
        static struct recovery_certificate out;
        uint8_t *at = memmem(made.der, made.der_len, exponent, sizeof(exponent));

        assert_non_null(at);
        memcpy(at + edits[i].at, edits[i].bytes, edits[i].len);
        assert_refused(ERROR_INVALID_ARGUMENT,
                       recovery_certificate_read(made.der, made.der_len, &out, &err));
        assert_contains(err.text, "no sound key");
    }
}

static void texts_with_more_or_less_than_one_certificate_are_refused(void **state)
{
    auto_made_certificate struct made_certificate made =
        make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    auto_free char *twice = NULL, *with_key = NULL, *with_text = NULL;
    static struct recovery_certificate out;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(asprintf(&twice, "%s%s", made.pem, made.pem) > 0);
    assert_true(asprintf(&with_key, "%s%s", made.key_pem, made.pem) > 0);
    assert_true(asprintf(&with_text, "Certificate:\n%s", made.pem) > 0);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   recovery_certificate_read_pem(twice, strlen(twice), &out, &err));
    assert_contains(err.text, "more than one");
    assert_refused(ERROR_INVALID_ARGUMENT,
                   recovery_certificate_read_pem(with_key, strlen(with_key), &out, &err));
    assert_contains(err.text, "private key");
    assert_refused(ERROR_INVALID_ARGUMENT, recovery_certificate_read_pem("", 0, &out, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, recovery_certificate_read_pem("x", 1, &out, &err));
    assert_ok(recovery_certificate_read_pem(with_text, strlen(with_text), &out, &err));
}

static void every_beginning_and_every_end_is_refused(void **state)
{
    auto_made_certificate struct made_certificate made =
        make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    static struct recovery_certificate out;
    static uint8_t longer[RECOVERY_CERTIFICATE_MAX];
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t len = 0; len < made.der_len; len++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       recovery_certificate_read(made.der, len, &out, &err));
    memcpy(longer, made.der, made.der_len);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   recovery_certificate_read(longer, made.der_len + 1, &out, &err));
    assert_ok(recovery_certificate_read(longer, made.der_len, &out, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_for_encryption_are_accepted),
        cmocka_unit_test(other_certificates_are_refused_and_why_is_said),
        cmocka_unit_test(rsa_keys_that_hide_nothing_are_refused),
        cmocka_unit_test(texts_with_more_or_less_than_one_certificate_are_refused),
        cmocka_unit_test(every_beginning_and_every_end_is_refused),
    };

    return RUN_TESTS(tests);
}
