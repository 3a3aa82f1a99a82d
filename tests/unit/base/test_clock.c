/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/test.h"

#include <time.h>

static void text_is_utc_with_milliseconds(void **state)
{
    static const struct {
        uint64_t ms;
        const char *text;
    } rows[] = {
        { 0, "1970-01-01T00:00:00.000Z" },
        { 951782400001, "2000-02-29T00:00:00.001Z" },
        { 1795475748123, "2026-11-23T23:15:48.123Z" },
        { 253402300799999, "9999-12-31T23:59:59.999Z" },
        { UINT64_MAX, "9999-12-31T23:59:59.999Z" },
    };
    char text[CLOCK_TEXT_LEN];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        clock_text(rows[i].ms, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void clocks_agree_with_the_kernel(void **state)
{
    const struct timespec pause = { .tv_nsec = 5000000 };
    uint64_t monotonic_ms = clock_now_ms(), boot_ms = clock_boottime_ms();
    uint64_t now_s = (uint64_t)time(NULL);

    (void)state;
    assert_int_equal(nanosleep(&pause, NULL), 0);
    assert_true(clock_now_ms() >= monotonic_ms + 5);
    assert_true(clock_boottime_ms() >= boot_ms + 5);
    assert_true(clock_wall_ms() / 1000 >= now_s && clock_wall_ms() / 1000 < now_s + 60);
}

static void text_is_read_back_and_other_forms_are_refused(void **state)
{
    static const char *const refused[] = {
        "",
        "2026-02-18",
        "2026-02-18T10:58:51",
        "2026-02-18T10:58:51+00:00",
        "2026-02-18t10:58:51Z",
        "2026-02-18 10:58:51Z",
        "2026-02-18T10:58:51Z ",
        "2026-02-30T10:58:51Z",
        "2025-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:60Z",
        "-026-01-01T00:00:00Z",
        "2026-01-01T00:00: 1Z",
    };
    int64_t seconds = 7;

    (void)state;
    assert_true(clock_parse("2026-02-18T10:58:51Z", &seconds));
    assert_int_equal(seconds, 1771412331);
    assert_true(clock_parse("1970-01-01T00:00:00Z", &seconds));
    assert_int_equal(seconds, 0);
    assert_true(clock_parse("2028-02-29T00:00:00Z", &seconds));
    seconds = 7;
    assert_false(clock_parse(NULL, &seconds));
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        if (clock_parse(refused[i], &seconds))
            fail_msg("\"%s\" is read", refused[i]);
    assert_int_equal(seconds, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_utc_with_milliseconds),
        cmocka_unit_test(text_is_read_back_and_other_forms_are_refused),
        cmocka_unit_test(clocks_agree_with_the_kernel),
    };

    return RUN_TESTS(tests);
}
