/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"
#include "tests/unit/test.h"

#include <string.h>

static size_t length_of(const char *text, uint32_t *out)
{
    return utf8_next((const uint8_t *)text, strlen(text), out);
}

static void characters_of_every_length_are_read(void **state UNUSED)
{
    static const struct {
        const char *text;
        size_t len;
        uint32_t character;
    } rows[] = {
        { "A", 1, 'A' },
        { "\x7F", 1, 0x7F },
        { "\xC2\x80", 2, 0x80 },
        { "\xDF\xBF", 2, 0x7FF },
        { "\xE0\xA0\x80", 3, 0x800 },
        { "\xED\x9F\xBF", 3, 0xD7FF },
        { "\xEE\x80\x80", 3, 0xE000 },
        { "\xEF\xBF\xBF", 3, 0xFFFF },
        { "\xF0\x90\x80\x80", 4, 0x10000 },
        { "\xF4\x8F\xBF\xBF", 4, 0x10FFFF },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint32_t character = 0;

        assert_int_equal(length_of(rows[i].text, &character), rows[i].len);
        assert_int_equal(character, rows[i].character);
    }
    uint32_t character = 1;
    assert_int_equal(utf8_next((const uint8_t *)"\0x", 2, &character), 1);
    assert_int_equal(character, 0);
}

static void invalid_utf8_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "\x80",             /* continuation first */
        "\xBF",             /* the same */
        "\xC0\x80",         /* overlong NUL */
        "\xC1\xBF",         /* overlong */
        "\xE0\x9F\xBF",     /* overlong */
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",     /* first surrogate */
        "\xED\xBF\xBF",     /* last surrogate */
        "\xF4\x90\x80\x80", /* U+110000 */
        "\xF8\x88\x80\x80\x80",
        "\xFF",
        "\xFE",
        "\xC3",         /* cut off */
        "\xE2\x82",     /* cut off */
        "\xF0\x9F\x98", /* cut off */
        "\xC3(",        /* no continuation */
        "\xE2\x82(",
        "\xE2(\xAC",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint32_t character = 77;

        assert_int_equal(length_of(bad[i], &character), 0);
        assert_int_equal(character, 77);
    }
}

static void control_characters_are_the_same_as_in_csi(void **state UNUSED)
{
    for (uint32_t c = 0; c <= 0xFF; c++) {
        bool expected = c <= 0x08 || c == 0x0B || c == 0x0C || (c >= 0x0E && c <= 0x1F) ||
                        (c >= 0x7F && c <= 0x9F);

        assert_int_equal(utf8_is_control(c), expected);
    }
    assert_false(utf8_is_control(0x1F600));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_of_every_length_are_read),
        cmocka_unit_test(invalid_utf8_is_refused),
        cmocka_unit_test(control_characters_are_the_same_as_in_csi),
    };

    return RUN_TESTS(tests);
}
