/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/seal.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

static const struct record_key key = { .id = { 1, 2, 3, 4 }, .generation = 1 };

static void put_text(struct secret *out, const char *text)
{
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(out, strlen(text), &err));
    memcpy(out->bytes, text, strlen(text));
}

static void a_wrapped_secret_comes_back(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret one = SECRET_INIT;
    auto_secret struct secret again = SECRET_INIT;
    struct store_key wrapped;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_MASTER_LEN, &err));
    assert_ok(seal_make(&master, "t", &key, &wrapped, &err));
    assert_ok(seal_unwrap(&master, "t", &wrapped, &one, &err));
    assert_ok(seal_unwrap(&master, "t", &wrapped, &again, &err));
    assert_int_equal(one.len, VOLUME_SECRET_LEN);
    assert_true(secret_is_equal(&one, &again));
}

/* A wrapped secret does not open when a byte of it, its key id, its generation or its tenant was
 * changed. */
static void a_changed_or_moved_one_is_refused(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret other = SECRET_INIT;
    auto_secret struct secret out = SECRET_INIT;
    struct store_key wrapped, bad;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_MASTER_LEN, &err));
    assert_ok(secret_random(&other, SEAL_MASTER_LEN, &err));
    assert_ok(seal_make(&master, "t", &key, &wrapped, &err));
    for (size_t i = 0; i < sizeof(wrapped.wrapped); i++) {
        bad = wrapped;
        bad.wrapped[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    }
    for (size_t i = 0; i < RECORD_ID_LEN; i++) {
        bad = wrapped;
        bad.key.id[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    }
    bad = wrapped;
    bad.key.generation = 2;
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&other, "t", &wrapped, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "u", &wrapped, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "", &wrapped, &out, &err));
    assert_null(out.bytes);
}

static void a_master_key_is_64_hex_digits(void **state)
{
#define HEX64 "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    static const struct {
        const char *text;
        bool is_good;
    } rows[] = {
        { HEX64, true },
        { HEX64 "\n", true },
        { HEX64 "\r\n", true },
        { HEX64 " ", false },
        { HEX64 "0", false },
        { " " HEX64, false },
        { HEX64 "00", false },
        { "\n", false },
        { "x", false },
        { "g0112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_secret struct secret text = SECRET_INIT;
        auto_secret struct secret master = SECRET_INIT;
        struct error err = ERROR_INIT;

        put_text(&text, rows[i].text);
        if (rows[i].is_good) {
            assert_ok(seal_parse_master(&text, &master, &err));
            assert_int_equal(master.len, SEAL_MASTER_LEN);
            assert_int_equal(master.bytes[1], 0x11);
        } else {
            assert_refused(ERROR_INVALID_ARGUMENT, seal_parse_master(&text, &master, &err));
            assert_contains(err.text, "openssl rand -hex 32");
        }
    }
}

static void marks_tell_master_keys_apart(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret other = SECRET_INIT;
    uint8_t one[STORE_MARK_LEN], again[STORE_MARK_LEN], two[STORE_MARK_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_MASTER_LEN, &err));
    assert_ok(secret_random(&other, SEAL_MASTER_LEN, &err));
    assert_ok(seal_mark(&master, one, &err));
    assert_ok(seal_mark(&master, again, &err));
    assert_ok(seal_mark(&other, two, &err));
    assert_memory_equal(one, again, sizeof(one));
    assert_memory_not_equal(one, two, sizeof(one));
    assert_memory_not_equal(one, master.bytes, sizeof(one));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrapped_secret_comes_back),
        cmocka_unit_test(a_changed_or_moved_one_is_refused),
        cmocka_unit_test(a_master_key_is_64_hex_digits),
        cmocka_unit_test(marks_tell_master_keys_apart),
    };

    return RUN_TESTS(tests);
}
