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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_utc_with_milliseconds),
        cmocka_unit_test(clocks_agree_with_the_kernel),
    };

    return RUN_TESTS(tests);
}
