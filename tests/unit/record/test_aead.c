/* SPDX-License-Identifier: Apache-2.0 */
#include "record/aead.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

#define LEN 100

static struct secret key = SECRET_INIT, plain = SECRET_INIT;
static uint8_t wrapped[AEAD_WRAPPED_LEN(LEN)];
static const struct byte_range aad = { "here", 4 };

static bool unwrap(const struct secret *with, const struct byte_range *where, size_t len,
                   struct error *err)
{
    auto_secret struct secret out = SECRET_INIT;

    return aead_unwrap(with, where, &(struct byte_range){ wrapped, len }, &out, err) &&
           secret_is_equal(&plain, &out);
}

static int setup(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    return secret_random(&key, AEAD_KEY_LEN, &err) && secret_random(&plain, LEN, &err) &&
                   aead_wrap(&key, &aad, &plain, wrapped, &err)
               ? 0
               : -1;
}

static int teardown(void **state UNUSED)
{
    secret_wipe(&key);
    secret_wipe(&plain);
    return 0;
}

static void what_was_wrapped_comes_back(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    assert_ok(unwrap(&key, &aad, sizeof(wrapped), &err));
}

static void two_wrappings_of_one_secret_differ(void **state UNUSED)
{
    uint8_t other[sizeof(wrapped)];
    struct error err = ERROR_INIT;

    assert_ok(aead_wrap(&key, &aad, &plain, other, &err));
    assert_memory_not_equal(wrapped, other, sizeof(other));
}

static void every_changed_byte_is_seen(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < sizeof(wrapped); i++) {
        wrapped[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, unwrap(&key, &aad, sizeof(wrapped), &err));
        wrapped[i] ^= 1;
    }
    assert_refused(ERROR_DATA_LOSS, unwrap(&key, &aad, sizeof(wrapped) - 1, &err));
}

static void another_key_or_another_place_opens_nothing(void **state UNUSED)
{
    const struct byte_range elsewhere = { "there", 5 };
    auto_secret struct secret other = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_random(&other, AEAD_KEY_LEN, &err));
    assert_refused(ERROR_DATA_LOSS, unwrap(&other, &aad, sizeof(wrapped), &err));
    assert_refused(ERROR_DATA_LOSS, unwrap(&key, &elsewhere, sizeof(wrapped), &err));
}

/* Test case 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega): NIST's vector with
 * associated data. */
static void a_vector_of_nist_is_unwrapped(void **state UNUSED)
{
    static const char key_text[] = "feffe9928665731c6d6a8f9467308308"
                                   "feffe9928665731c6d6a8f9467308308",
                      aad_text[] = "feedfacedeadbeeffeedfacedeadbeefabaddad2",
                      text[] =
                          "cafebabefacedbaddecaf888522dc1f099567d07f47f37a32a84427d643a8cdcbfe5"
                          "c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
                          "bcc9f662"
                          "76fc6ece0f4e1768cddf8853bb2d551b",
                      plain_text[] =
                          "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                          "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    uint8_t place[20], in[AEAD_WRAPPED_LEN(60)], expected[60];
    auto_secret struct secret nist = SECRET_INIT, out = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&nist, AEAD_KEY_LEN, &err));
    assert_true(hex_decode(key_text, nist.bytes, AEAD_KEY_LEN));
    assert_true(hex_decode(aad_text, place, sizeof(place)));
    assert_true(hex_decode(text, in, sizeof(in)));
    assert_true(hex_decode(plain_text, expected, sizeof(expected)));
    assert_ok(aead_unwrap(&nist, &(struct byte_range){ place, sizeof(place) },
                          &(struct byte_range){ in, sizeof(in) }, &out, &err));
    assert_int_equal(out.len, sizeof(expected));
    assert_memory_equal(out.bytes, expected, sizeof(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_wrapped_comes_back),
        cmocka_unit_test(two_wrappings_of_one_secret_differ),
        cmocka_unit_test(every_changed_byte_is_seen),
        cmocka_unit_test(another_key_or_another_place_opens_nothing),
        cmocka_unit_test(a_vector_of_nist_is_unwrapped),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
