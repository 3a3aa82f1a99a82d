/* SPDX-License-Identifier: Apache-2.0 */
#include "master/key.h"
#include "tests/unit/test.h"

#include <string.h>

#define DIGITS "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFF"

static struct secret text_of(const char *text)
{
    struct secret out = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(&out, strlen(text) + 1, &err));
    memcpy(out.bytes, text, strlen(text));
    out.len = strlen(text);
    return out;
}

static void key_is_64_digits(void **state UNUSED)
{
    static const char *const good[] = { DIGITS, DIGITS "\n", DIGITS "\r\n" };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        auto_secret struct secret text = text_of(good[i]), key = SECRET_INIT;

        assert_ok(master_key_parse(&text, &key, &err));
        assert_int_equal(key.len, MASTER_KEY_LEN);
        assert_int_equal(key.bytes[1], 1);
        assert_int_equal(key.bytes[31], 0xff);
    }
}

static void anything_else_is_refused_and_not_repeated(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "\n",
        "0",
        DIGITS "0",
        DIGITS " ",
        " " DIGITS,
        "zz0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "\n" DIGITS
    };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        auto_secret struct secret text = text_of(bad[i]), key = SECRET_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, master_key_parse(&text, &key, &err));
        assert_null(key.bytes);
        assert_null(strstr(err.text, "1c1d"));
        assert_contains(err.text, "openssl rand -hex 32");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_is_64_digits),
        cmocka_unit_test(anything_else_is_refused_and_not_repeated),
    };

    return RUN_TESTS(tests);
}
