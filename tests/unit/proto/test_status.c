/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/status.h"
#include "tests/unit/test.h"

#include <string.h>

static void every_code_has_the_number_of_grpc(void **state UNUSED)
{
    static const struct {
        enum error_code code;
        int status;
    } rows[] = {
        { ERROR_NONE, 0 },
        { ERROR_CANCELLED, 1 },
        { ERROR_INVALID_ARGUMENT, 3 },
        { ERROR_DEADLINE_EXCEEDED, 4 },
        { ERROR_NOT_FOUND, 5 },
        { ERROR_ALREADY_EXISTS, 6 },
        { ERROR_DENIED, 7 },
        { ERROR_RESOURCE_EXHAUSTED, 8 },
        { ERROR_FAILED_PRECONDITION, 9 },
        { ERROR_ABORTED, 10 },
        { ERROR_OUT_OF_RANGE, 11 },
        { ERROR_UNIMPLEMENTED, 12 },
        { ERROR_INTERNAL, 13 },
        { ERROR_UNAVAILABLE, 14 },
        { ERROR_DATA_LOSS, 15 },
        { ERROR_UNAUTHENTICATED, 16 },
    };

    assert_int_equal(ARRAY_LEN(rows), ERROR_CODE_COUNT);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_int_equal(status_from_error(rows[i].code), rows[i].status);
        assert_int_equal(status_to_error(rows[i].status), rows[i].code);
    }
}

static void unknown_numbers_are_internal(void **state UNUSED)
{
    assert_int_equal(status_to_error(2), ERROR_INTERNAL);
    assert_int_equal(status_to_error(17), ERROR_INTERNAL);
    assert_int_equal(status_to_error(-1), ERROR_INTERNAL);
    assert_int_equal(status_from_error(ERROR_CODE_COUNT), 13);
}

static void good_text_is_unchanged(void **state UNUSED)
{
    char out[STATUS_MESSAGE_MAX + 1];
    const char *text = "volume \xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80:\n\tgone";

    assert_int_equal(status_message(text, out), strlen(text));
    assert_string_equal(out, text);
    assert_int_equal(status_message("", out), 0);
    assert_string_equal(out, "");
}

static void bad_bytes_and_control_characters_are_replaced(void **state UNUSED)
{
    char out[STATUS_MESSAGE_MAX + 1];

    assert_int_equal(status_message("a\x1B[31mb\xFF\xC3", out), 9);
    assert_string_equal(out, "a?[31mb??");
}

static void long_text_is_cut_between_characters(void **state UNUSED)
{
    char text[3 * STATUS_MESSAGE_MAX + 1] = "";
    char out[STATUS_MESSAGE_MAX + 1];

    for (size_t i = 0; i < STATUS_MESSAGE_MAX; i++)
        memcpy(text + 3 * i, "\xE2\x82\xAC", 4);
    size_t len = status_message(text, out);
    assert_int_equal(len, STATUS_MESSAGE_MAX - STATUS_MESSAGE_MAX % 3);
    assert_int_equal(strlen(out), len);
    assert_memory_equal(out, text, len);
}

static void reasons_are_words(void **state UNUSED)
{
    static const char longest[] = "TcbConfigurationNeededXXXXXXXXX", *const bad[] = {
        "",
        "Two Words",
        "Tcb2",
        "Key_Refused",
        "Key\n",
        "\xC3\xA4",
        "@",
        "[",
        "`",
        "{",
        "TcbConfigurationNeededXXXXXXXXXX"
    };

    assert_true(status_reason_is_word("TcbOutOfDate", 12));
    assert_true(status_reason_is_word("aAzZ", 4));
    assert_int_equal(sizeof(longest), sizeof(((struct error *)0)->reason));
    assert_true(status_reason_is_word(longest, strlen(longest)));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(status_reason_is_word(bad[i], strlen(bad[i])));
    assert_false(status_reason_is_word("Key\0Refused", 11));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_the_number_of_grpc),
        cmocka_unit_test(unknown_numbers_are_internal),
        cmocka_unit_test(good_text_is_unchanged),
        cmocka_unit_test(bad_bytes_and_control_characters_are_replaced),
        cmocka_unit_test(long_text_is_cut_between_characters),
        cmocka_unit_test(reasons_are_words),
    };

    return RUN_TESTS(tests);
}
