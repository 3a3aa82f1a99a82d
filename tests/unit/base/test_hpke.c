/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/hpke.h"
#include "base/hpke_suite.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

#include <string.h>

/*
 * Vectors of DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 in base mode, first message. AES-128-GCM is
 * from RFC 9180 appendix A.1.1. AES-256-GCM is from the CFRG's file test-vectors.json at 5f503c5,
 * the source of that appendix.
 */
struct vector {
    const char *private_key, *public_key, *enc, *box;
};
static const struct vector rfc9180_a11 = {
    .private_key = "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
    .public_key = "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
    .enc = "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
    .box = "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c5"
           "12a",
};
static const struct vector cfrg_aes_256 = {
    .private_key = "497b4502664cfea5d5af0b39934dac72242a74f8480451e1aee7d6a53320333d",
    .public_key = "430f4b9859665145a6b1ba274024487bd66f03a2dd577d7753c68d7d7d00c00c",
    .enc = "6c93e09869df3402d7bf231bf540fadd35cd56be14f97178f0954db94b7fc256",
    .box = "e5d84cd531cfb583096e7cfa9641bd3079cf3a91cda813c52deb5f512be9931980a41de125a925cdad859d5"
           "b7a",
};
#define INFO      "Ode on a Grecian Urn"
#define INFO_LEN  (sizeof(INFO) - 1)
#define AAD       "Count-0"
#define AAD_LEN   (sizeof(AAD) - 1)
#define PLAIN     "Beauty is truth, truth beauty"
#define PLAIN_LEN (sizeof(PLAIN) - 1)

static void load(const struct vector *v, struct hpke_key_pair *pair,
                 uint8_t sealed[static HPKE_SEALED_LEN(PLAIN_LEN)])
{
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&pair->private_key, 32, &err));
    assert_true(hex_decode(v->private_key, pair->private_key.bytes, 32));
    assert_true(hex_decode(v->public_key, pair->public_key, HPKE_PUBLIC_LEN));
    assert_true(hex_decode(v->enc, sealed, HPKE_PUBLIC_LEN));
    assert_true(hex_decode(v->box, sealed + HPKE_PUBLIC_LEN, PLAIN_LEN + HPKE_TAG_LEN));
}

static void vector_of_the_rfc_opens(void **state)
{
    const struct hpke_aead aes_128_gcm = { .id = 1, .key_len = 16, .cipher = EVP_aes_128_gcm };
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(PLAIN_LEN)];
    struct error err = ERROR_INIT;

    (void)state;
    load(&rfc9180_a11, &pair, sealed);
    assert_ok(hpke_open_with(&aes_128_gcm, &pair, &(struct byte_range){ INFO, INFO_LEN },
                             &(struct byte_range){ AAD, AAD_LEN },
                             &(struct byte_range){ sealed, sizeof(sealed) }, &plain, &err));
    assert_int_equal(plain.len, PLAIN_LEN);
    assert_memory_equal(plain.bytes, PLAIN, PLAIN_LEN);
}

static void vector_of_our_suite_opens(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(PLAIN_LEN)];
    struct error err = ERROR_INIT;

    (void)state;
    load(&cfrg_aes_256, &pair, sealed);
    assert_ok(hpke_open(&pair, INFO, INFO_LEN, AAD, AAD_LEN, sealed, sizeof(sealed), &plain, &err));
    assert_int_equal(plain.len, PLAIN_LEN);
    assert_memory_equal(plain.bytes, PLAIN, PLAIN_LEN);
}

static void any_flipped_bit_is_denied(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(PLAIN_LEN)];
    struct error err = ERROR_INIT;

    (void)state;
    load(&cfrg_aes_256, &pair, sealed);
    for (size_t i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 0x10;
        assert_refused(ERROR_DENIED, hpke_open(&pair, INFO, INFO_LEN, AAD, AAD_LEN, sealed,
                                               sizeof(sealed), &plain, &err));
        sealed[i] ^= 0x10;
    }
    assert_null(plain.bytes);
}

static void any_other_length_is_denied(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(HPKE_PLAIN_MAX) + 1] = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    load(&cfrg_aes_256, &pair, sealed);
    for (size_t len = 0; len <= sizeof(sealed); len++) {
        if (len != HPKE_SEALED_LEN(PLAIN_LEN))
            assert_refused(ERROR_DENIED, hpke_open(&pair, INFO, INFO_LEN, AAD, AAD_LEN, sealed, len,
                                                   &plain, &err));
    }
    assert_null(plain.bytes);
}

static void other_purpose_or_circumstances_are_denied(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(PLAIN_LEN)];
    struct error err = ERROR_INIT;

    (void)state;
    load(&cfrg_aes_256, &pair, sealed);
    assert_refused(ERROR_DENIED, hpke_open(&pair, INFO, INFO_LEN - 1, AAD, AAD_LEN, sealed,
                                           sizeof(sealed), &plain, &err));
    assert_refused(ERROR_DENIED, hpke_open(&pair, INFO, INFO_LEN, AAD, AAD_LEN - 1, sealed,
                                           sizeof(sealed), &plain, &err));
    assert_refused(ERROR_DENIED,
                   hpke_open(&pair, INFO, INFO_LEN, NULL, 0, sealed, sizeof(sealed), &plain, &err));
    assert_null(plain.bytes);
}

static void sealed_secrets_of_every_length_come_back(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    uint8_t sealed[HPKE_SEALED_LEN(HPKE_PLAIN_MAX)];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&pair, false, &err));
    for (size_t len = 1; len <= HPKE_PLAIN_MAX; len += 17) {
        auto_secret struct secret plain = SECRET_INIT;
        auto_secret struct secret opened = SECRET_INIT;

        assert_ok(secret_random(&plain, len, &err));
        assert_ok(hpke_seal(pair.public_key, INFO, INFO_LEN, NULL, 0, &plain, sealed,
                            HPKE_SEALED_LEN(len), &err));
        assert_ok(
            hpke_open(&pair, INFO, INFO_LEN, NULL, 0, sealed, HPKE_SEALED_LEN(len), &opened, &err));
        assert_true(secret_is_equal(&plain, &opened));
    }
}

static void sealing_twice_gives_different_messages(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t a[HPKE_SEALED_LEN(32)], b[HPKE_SEALED_LEN(32)];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&pair, true, &err));
    assert_ok(secret_random(&plain, 32, &err));
    assert_ok(hpke_seal(pair.public_key, "", 0, "", 0, &plain, a, sizeof(a), &err));
    assert_ok(hpke_seal(pair.public_key, "", 0, "", 0, &plain, b, sizeof(b), &err));
    assert_memory_not_equal(a, b, HPKE_PUBLIC_LEN);
    assert_memory_not_equal(a + HPKE_PUBLIC_LEN, b + HPKE_PUBLIC_LEN, 32);
}

static void other_key_is_denied(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair ours = { .private_key = SECRET_INIT };
    auto_hpke_key_pair struct hpke_key_pair theirs = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    auto_secret struct secret opened = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(32)];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&ours, false, &err));
    assert_ok(hpke_generate(&theirs, false, &err));
    assert_memory_not_equal(ours.public_key, theirs.public_key, HPKE_PUBLIC_LEN);
    assert_ok(secret_random(&plain, 32, &err));
    assert_ok(hpke_seal(theirs.public_key, "", 0, "", 0, &plain, sealed, sizeof(sealed), &err));
    assert_refused(ERROR_DENIED,
                   hpke_open(&ours, "", 0, "", 0, sealed, sizeof(sealed), &opened, &err));
    assert_null(opened.bytes);
}

static void seal_refuses_wrong_sizes_and_weak_keys(void **state)
{
    static const uint8_t zero_key[HPKE_PUBLIC_LEN], low_order_key[HPKE_PUBLIC_LEN] = { 1 };
    auto_hpke_key_pair struct hpke_key_pair pair = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t sealed[HPKE_SEALED_LEN(HPKE_PLAIN_MAX + 1)] = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&pair, false, &err));
    assert_ok(secret_random(&plain, HPKE_PLAIN_MAX + 1, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   hpke_seal(pair.public_key, "", 0, "", 0, &plain, sealed, sizeof(sealed), &err));
    plain.len = 32;
    assert_refused(ERROR_INVALID_ARGUMENT, hpke_seal(pair.public_key, "", 0, "", 0, &plain, sealed,
                                                     HPKE_SEALED_LEN(31), &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   hpke_seal(zero_key, "", 0, "", 0, &plain, sealed, HPKE_SEALED_LEN(32), &err));
    assert_refused(ERROR_INVALID_ARGUMENT, hpke_seal(low_order_key, "", 0, "", 0, &plain, sealed,
                                                     HPKE_SEALED_LEN(32), &err));
    for (size_t i = 0; i < sizeof(sealed); i++)
        assert_int_equal(sealed[i], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_of_the_rfc_opens),
        cmocka_unit_test(vector_of_our_suite_opens),
        cmocka_unit_test(any_flipped_bit_is_denied),
        cmocka_unit_test(any_other_length_is_denied),
        cmocka_unit_test(other_purpose_or_circumstances_are_denied),
        cmocka_unit_test(sealed_secrets_of_every_length_come_back),
        cmocka_unit_test(sealing_twice_gives_different_messages),
        cmocka_unit_test(other_key_is_denied),
        cmocka_unit_test(seal_refuses_wrong_sizes_and_weak_keys),
    };

    return RUN_TESTS(tests);
}
