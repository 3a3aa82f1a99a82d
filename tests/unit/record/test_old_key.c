/* SPDX-License-Identifier: Apache-2.0 */
#include "record/aead.h"
#include "record/old_key.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

static struct secret secret = SECRET_INIT;
static struct record record;

static int setup(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    record = (struct record){ .id = { 5, 6 }, .key = { .id = { 7, 8 }, .generation = 0x01020304 } };
    secret_wipe(&secret);
    return secret_random(&secret, VOLUME_SECRET_LEN, &err) ? 0 : -1;
}

static void wrap(size_t len, struct secret *passphrase)
{
    struct error err = ERROR_INIT;

    assert_ok(secret_random(passphrase, len, &err));
    assert_ok(old_key_wrap(&record, &secret, passphrase, &err));
    assert_true(record.old_key.is_set);
}

static void a_passphrase_of_any_length_comes_back(void **state UNUSED)
{
    static const size_t lengths[] = { 1, 2, 32, 255, 256, OLD_KEY_MAX };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        auto_secret struct secret passphrase = SECRET_INIT, back = SECRET_INIT;

        wrap(lengths[i], &passphrase);
        assert_ok(old_key_unwrap(&record, &secret, &back, &err));
        assert_true(secret_is_equal(&passphrase, &back));
    }
}

static void a_passphrase_too_long_is_refused(void **state UNUSED)
{
    auto_secret struct secret passphrase = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_random(&passphrase, OLD_KEY_MAX + 1, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, old_key_wrap(&record, &secret, &passphrase, &err));
    passphrase.len = 0;
    assert_refused(ERROR_INVALID_ARGUMENT, old_key_wrap(&record, &secret, &passphrase, &err));
    passphrase.len = OLD_KEY_MAX + 1;
    assert_false(record.old_key.is_set);
}

static void refused(const struct record *r, const struct secret *with, enum error_code code)
{
    auto_secret struct secret back = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_refused(code, old_key_unwrap(r, with, &back, &err));
}

static void it_opens_for_the_same_record_key_and_secret_alone(void **state UNUSED)
{
    auto_secret struct secret passphrase = SECRET_INIT, other = SECRET_INIT;
    static struct record wrong[5];
    struct error err = ERROR_INIT;

    wrap(32, &passphrase);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        wrong[i] = record;
    wrong[0].id[0] = 6;
    wrong[1].key.id[0] = 8;
    wrong[2].key.generation++;
    wrong[3].old_key.wrapped[0] ^= 1;
    wrong[4].old_key.wrapped[OLD_KEY_WRAPPED - 1] ^= 1;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        refused(&wrong[i], &secret, ERROR_DATA_LOSS);
    assert_ok(secret_random(&other, VOLUME_SECRET_LEN, &err));
    refused(&record, &other, ERROR_DATA_LOSS);
    record.old_key.is_set = false;
    refused(&record, &secret, ERROR_FAILED_PRECONDITION);
}

/* Built from proto/keybroker.proto here, as another implementation would do it. */
static void the_form_is_that_of_the_protocol(void **state UNUSED)
{
    static const char info[] = "tdvol v1 old key";
    auto_secret struct secret passphrase = SECRET_INIT, key = SECRET_INIT, padded = SECRET_INIT;
    const struct byte_range wrapped = { record.old_key.wrapped, OLD_KEY_WRAPPED };
    uint8_t aad[36];
    struct error err = ERROR_INIT;

    wrap(300, &passphrase);
    memcpy(aad, record.id, 16);
    memcpy(aad + 16, record.key.id, 16);
    memcpy(aad + 32, (const uint8_t[]){ 1, 2, 3, 4 }, 4);
    assert_ok(hkdf_sha256(&secret, record.id, 16, info, sizeof(info) - 1, &key, 32, &err));
    assert_ok(aead_unwrap(&key, &(struct byte_range){ aad, sizeof(aad) }, &wrapped, &padded, &err));
    assert_int_equal(padded.len, 514);
    assert_int_equal(padded.bytes[0] * 256 + padded.bytes[1], 300);
    assert_memory_equal(padded.bytes + 2, passphrase.bytes, 300);
    for (size_t i = 302; i < 514; i++)
        assert_int_equal(padded.bytes[i], 0);
}

#define CASE(test) cmocka_unit_test_setup(test, setup)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_passphrase_of_any_length_comes_back),
        CASE(a_passphrase_too_long_is_refused),
        CASE(it_opens_for_the_same_record_key_and_secret_alone),
        CASE(the_form_is_that_of_the_protocol),
    };
    int failed = RUN_TESTS(tests);

    secret_wipe(&secret);
    return failed;
}
