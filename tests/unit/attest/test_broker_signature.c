/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/broker_signature.h"
#include "tests/unit/record/broker_end.h"
#include "tests/unit/test.h"

#include <time.h>

static struct error err;
static const char message[] = "what the broker says";

static struct broker_trust trust_in(const char *ca_pem, const char *name)
{
    struct broker_trust trust = { .names = { .n = 2, .items = { "another.org", name } } };

    assert_ok(broker_trust_read_ca(&trust, ca_pem, &err));
    return trust;
}

static void sign(const struct broker_end *end, struct broker_signature *out)
{
    *out = (struct broker_signature){ .len = 0 };
    assert_ok(broker_sign(end->signer, message, sizeof(message), out, &err));
}

static bool check(const struct broker_trust *trust, const struct broker_signature *signature)
{
    return broker_signature_check(trust, signature, message, sizeof(message), NULL, &err);
}

#define assert_no_signature(trust, signature, why)                \
    do {                                                          \
        assert_refused(ERROR_DENIED, check(trust, signature));    \
        assert_string_equal(err.reason, BROKER_SIGNATURE_REASON); \
        assert_contains(err.text, why);                           \
    } while (0)

static void each_kind_of_key_signs_and_is_accepted(void **state UNUSED)
{
    static const struct broker_end_certificate kinds[] = {
        { .names = "DNS:a.b.example", .usage = "serverAuth" },
        { .names = "DNS:a.b.example", .key_type = "RSA" },
        { .names = "DNS:a.b.example", .key_type = "ED25519" },
        { .names = "DNS:a.b.example", .has_intermediate = true },
        { .names = "DNS:*.b.example", .usage = "serverAuth,clientAuth" },
        { .common_name = "a.b.example" },
    };
    static struct broker_signature signature;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct broker_end end;

        broker_end_make(&end, &kinds[i]);
        auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, "a.b.example");
        sign(&end, &signature);
        uint8_t key[KEY_SHA256_LEN] = { 0 };

        assert_ok(broker_signature_check(&trust, &signature, message, sizeof(message), key, &err));
        assert_memory_equal(key, broker_signer_key(end.signer), sizeof(key));
        broker_end_free(&end);
    }
}

/* Names as gRPC compares them: 127.0.0.1 is an address, and no host's name. */
static void the_certificate_is_for_one_of_the_names(void **state UNUSED)
{
    static const struct {
        const char *names, *common_name, *wanted;
        bool fits;
    } rows[] = {
        { "IP:127.0.0.1", NULL, "127.0.0.1", true },
        { "IP:::1", NULL, "::1", true },
        { "DNS:a.example", NULL, "A.example", true },
        { "DNS:127.0.0.1", NULL, "127.0.0.1", false },
        { "IP:127.0.0.1", NULL, "127.0.0.2", false },
        { "DNS:a.example", NULL, "b.example", false },
        { "DNS:a.example", NULL, "x.a.example", false },
        { "DNS:*.b.example", NULL, "a.b.example", true },
        { "DNS:*.b.example", NULL, "x.a.b.example", false },
        { "DNS:*.b.example", NULL, "b.example", false },
        { "DNS:x*.b.example", NULL, "xy.b.example", false },
        { "DNS:a.example", "b.example", "b.example", false }, /* the common name does not count */
        { "DNS:a.example", NULL, "", false },
    };
    static struct broker_signature signature;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct broker_end_certificate kind = { .names = rows[i].names,
                                                     .common_name = rows[i].common_name };
        struct broker_end end;

        broker_end_make(&end, &kind);
        auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, rows[i].wanted);
        sign(&end, &signature);
        if (rows[i].fits)
            assert_ok(check(&trust, &signature));
        else
            assert_no_signature(&trust, &signature, "another name");
        broker_end_free(&end);
    }
}

static void a_certificate_that_tls_would_refuse_is_refused(void **state UNUSED)
{
    static const struct {
        struct broker_end_certificate kind;
        const char *why;
    } rows[] = {
        { { .names = "DNS:localhost", .from_s = -7200, .until_s = -1800 }, "expired" },
        { { .names = "DNS:localhost", .from_s = 3600, .until_s = 7200 }, "not yet valid" },
        { { .names = "DNS:localhost", .usage = "clientAuth" }, "purpose" },
    };
    static struct broker_signature signature;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct broker_end end;

        broker_end_make(&end, &rows[i].kind);
        auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, "localhost");
        sign(&end, &signature);
        assert_no_signature(&trust, &signature, rows[i].why);
        broker_end_free(&end);
    }
}

static void another_ca_or_none_is_refused(void **state UNUSED)
{
    static struct broker_signature signature, mixed;
    struct broker_end end, other;
    const struct broker_trust nobody = { .store = NULL };

    broker_end_make(&end, NULL);
    broker_end_make(&other, NULL);
    auto_broker_trust struct broker_trust trust = trust_in(other.ca_pem, "localhost");
    sign(&end, &signature);
    assert_no_signature(&trust, &signature, "certificate");
    assert_no_signature(&nobody, &signature, "no CA");
    /* The right certificates with the signature of another key. */
    sign(&other, &mixed);
    memcpy(mixed.bytes, signature.bytes, sizeof(mixed.bytes));
    mixed.len = signature.len;
    assert_no_signature(&trust, &mixed, "not the bytes");
    /* A CA that is read again takes the place of the one before. */
    assert_ok(broker_trust_read_ca(&trust, end.ca_pem, &err));
    assert_ok(check(&trust, &signature));
    assert_refused(ERROR_INVALID_ARGUMENT, broker_trust_read_ca(&trust, "no PEM", &err));
    assert_ok(check(&trust, &signature));
    broker_end_free(&end);
    broker_end_free(&other);
}

static void pins_narrow_what_the_ca_allows(void **state UNUSED)
{
    static struct broker_signature signature;
    struct broker_end end;
    uint8_t key[KEY_SHA256_LEN];
    char hex[2 * KEY_SHA256_LEN + 1];
    struct option_list list = { .n = 1, .items = { hex } };

    broker_end_make(&end, NULL);
    auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, "localhost");
    sign(&end, &signature);
    assert_ok(key_sha256_of_certificate(end.certificates_pem, key, &err));
    hex_encode(key, sizeof(key), hex);
    assert_ok(broker_pins_parse(&list, &trust.pins, &err));
    assert_ok(check(&trust, &signature));
    trust.pins.sha256[0][31] ^= 1;
    assert_no_signature(&trust, &signature, "not pinned");
    trust.pins = (struct broker_pins){ .n = 0 };
    hex[3] = 'g';
    assert_refused(ERROR_INVALID_ARGUMENT, broker_pins_parse(&list, &trust.pins, &err));
    broker_end_free(&end);
}

static void every_changed_byte_is_refused(void **state UNUSED)
{
    static struct broker_signature signature, changed;
    struct broker_end end;
    char other[sizeof(message)];

    broker_end_make(&end, NULL);
    auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, "localhost");
    sign(&end, &signature);
    for (size_t i = 0; i < signature.len; i++) {
        changed = signature;
        changed.bytes[i] ^= 1;
        assert_refused(ERROR_DENIED, check(&trust, &changed));
    }
    for (size_t i = 0; i < signature.certificates_len; i++) {
        changed = signature;
        changed.certificates[i] ^= 1;
        assert_refused(ERROR_DENIED, check(&trust, &changed));
    }
    for (size_t i = 0; i < sizeof(message); i++) {
        memcpy(other, message, sizeof(other));
        other[i] ^= 1;
        assert_refused(ERROR_DENIED, broker_signature_check(&trust, &signature, other,
                                                            sizeof(other), NULL, &err));
    }
    broker_end_free(&end);
}

static void certificates_must_be_good_at_the_time_that_is_asked_about(void **state UNUSED)
{
    const struct broker_end_certificate expired = { .from_s = -7200, .until_s = -1800 };
    auto_broker_trust struct broker_trust trust = { .names = { .n = 1, .items = { "broker" } } };
    struct broker_end end;
    struct broker_signature signature;

    broker_end_make(&end, &expired);
    sign(&end, &signature);
    assert_ok(broker_trust_read_ca(&trust, end.ca_pem, &err));
    assert_refused(ERROR_DENIED, check(&trust, &signature));
    trust.at = time(NULL) - 2700;
    assert_ok(check(&trust, &signature));
    trust.at = time(NULL) - 9000;
    assert_refused(ERROR_DENIED, check(&trust, &signature));
    broker_end_free(&end);
}

static void the_signers_key_is_told_and_no_other(void **state UNUSED)
{
    struct broker_end end;
    struct broker_signature signature;
    uint8_t key[KEY_SHA256_LEN], wanted[KEY_SHA256_LEN];

    broker_end_make(&end, NULL);
    sign(&end, &signature);
    assert_ok(key_sha256_of_certificate(end.certificates_pem, wanted, &err));
    assert_ok(broker_signature_signer(&signature, message, sizeof(message), key, &err));
    assert_memory_equal(key, wanted, sizeof(key));
    assert_refused(ERROR_DENIED,
                   broker_signature_signer(&signature, message, sizeof(message) - 1, key, &err));
    signature.bytes[signature.len - 1] ^= 1;
    assert_refused(ERROR_DENIED,
                   broker_signature_signer(&signature, message, sizeof(message), key, &err));
    signature.len = 0;
    assert_refused(ERROR_DENIED,
                   broker_signature_signer(&signature, message, sizeof(message), key, &err));
    broker_end_free(&end);
}

static void every_other_length_is_refused(void **state UNUSED)
{
    static struct broker_signature signature, cut;
    struct broker_end end;

    broker_end_make(&end, NULL);
    auto_broker_trust struct broker_trust trust = trust_in(end.ca_pem, "localhost");
    sign(&end, &signature);
    for (uint32_t len = 0; len < signature.len; len++) {
        cut = signature;
        cut.len = len;
        assert_refused(ERROR_DENIED, check(&trust, &cut));
    }
    for (uint32_t len = 0; len < signature.certificates_len; len++) {
        cut = signature;
        cut.certificates_len = len;
        assert_refused(ERROR_DENIED, check(&trust, &cut));
    }
    cut = signature;
    cut.len = BROKER_SIGNATURE_MAX + 1;
    assert_refused(ERROR_DENIED, check(&trust, &cut));
    cut = signature;
    cut.certificates_len = BROKER_CERTIFICATES_MAX + 1;
    assert_refused(ERROR_DENIED, check(&trust, &cut));
    /* More certificates than a path may have, or bytes after them. */
    cut = signature;
    for (int i = 0; i < BROKER_CHAIN_MAX; i++) {
        memcpy(cut.certificates + cut.certificates_len, signature.certificates,
               signature.certificates_len);
        cut.certificates_len += signature.certificates_len;
    }
    assert_no_signature(&trust, &cut, "cannot be read");
    cut = signature;
    cut.certificates_len++;
    assert_no_signature(&trust, &cut, "cannot be read");
    broker_end_free(&end);
}

static void a_signer_needs_its_key_and_few_certificates(void **state UNUSED)
{
    struct broker_end end, other;
    struct broker_signer *signer = NULL;
    static char many[16384];

    broker_end_make(&end, NULL);
    broker_end_make(&other, NULL);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   broker_signer_new(end.certificates_pem, &other.key_pem, &signer, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, broker_signer_new("", &end.key_pem, &signer, &err));
    for (size_t i = 0, len = strlen(end.certificates_pem); i <= BROKER_CHAIN_MAX; i++)
        memcpy(many + i * len, end.certificates_pem, len + 1);
    assert_refused(ERROR_INVALID_ARGUMENT, broker_signer_new(many, &end.key_pem, &signer, &err));
    end.key_pem.bytes[40] ^= 1;
    assert_refused(ERROR_INVALID_ARGUMENT,
                   broker_signer_new(end.certificates_pem, &end.key_pem, &signer, &err));
    assert_null(signer);
    broker_end_free(&end);
    broker_end_free(&other);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_key_signs_and_is_accepted),
        cmocka_unit_test(the_certificate_is_for_one_of_the_names),
        cmocka_unit_test(a_certificate_that_tls_would_refuse_is_refused),
        cmocka_unit_test(another_ca_or_none_is_refused),
        cmocka_unit_test(pins_narrow_what_the_ca_allows),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(certificates_must_be_good_at_the_time_that_is_asked_about),
        cmocka_unit_test(the_signers_key_is_told_and_no_other),
        cmocka_unit_test(every_other_length_is_refused),
        cmocka_unit_test(a_signer_needs_its_key_and_few_certificates),
    };

    return RUN_TESTS(tests);
}
