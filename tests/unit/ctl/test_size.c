/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/size.h"
#include "tests/unit/test.h"

static void sizes_are_read_with_and_without_suffix(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = { { "0", 0 },
                  { "4097", 4097 },
                  { "3Ki", 3 << 10 },
                  { "64Mi", 64 << 20 },
                  { "1Gi", 1 << 30 },
                  { "2Ti", 2ll << 40 },
                  { "8191Pi", 8191ll << 50 },
                  { "9223372036854775807", INT64_MAX } };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t bytes = -1;

        assert_ok(size_parse("size", cases[i].text, &bytes, &err));
        assert_true(bytes == cases[i].bytes);
    }
}

static void text_that_is_no_size_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static const char *const cases[] = { "",
                                         "Gi",
                                         "-1",
                                         "+1",
                                         "1G",
                                         "1gi",
                                         "1 Gi",
                                         "1Gi ",
                                         "1.5Gi",
                                         "0x10",
                                         "8192Pi",
                                         "1KiMi",
                                         "9223372036854775808",
                                         "99999999999999999999999Gi" };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t bytes = 42;

        assert_refused(ERROR_INVALID_ARGUMENT, size_parse("size", cases[i], &bytes, &err));
        assert_contains(err.text, "size");
        assert_true(bytes == 42);
    }
}

static void sizes_are_written_exactly(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = { { 0, "0" },
                  { 1023, "1023" },
                  { 1024, "1Ki" },
                  { 1536, "1536" },
                  { 1536 << 10, "1536Ki" },
                  { (1ull << 30) + 4096, "1048580Ki" },
                  { 1ull << 30, "1Gi" },
                  { 64ull << 40, "64Ti" },
                  { UINT64_MAX, "18446744073709551615" } };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[SIZE_TEXT_LEN];

        size_text(cases[i].bytes, text);
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read_with_and_without_suffix),
        cmocka_unit_test(text_that_is_no_size_is_refused_and_changes_nothing),
        cmocka_unit_test(sizes_are_written_exactly),
    };

    return RUN_TESTS(tests);
}
