/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/progress.h"
#include "tests/unit/test.h"

#define GIB (UINT64_C(1) << 30)

static void check(const struct progress *progress, uint64_t now_ms, const char *wanted)
{
    char text[PROGRESS_TEXT_LEN];

    progress_text(progress, now_ms, text);
    assert_string_equal(text, wanted);
}

static void says_how_far_how_fast_and_how_long(void **state UNUSED)
{
    const struct progress progress = {
        .what = "copied", .total_bytes = 8 * GIB, .done_bytes = 2 * GIB, .started_ms = 1000
    };

    check(&progress, 11000, "copied 2.0 of 8.0 GiB (25%), 205 MiB/s, 30 s left");
}

static void nothing_is_left_at_the_end(void **state UNUSED)
{
    const struct progress progress = {
        .what = "compared", .total_bytes = GIB, .done_bytes = GIB, .started_ms = 0
    };

    check(&progress, 1000, "compared 1.0 of 1.0 GiB (100%), 1024 MiB/s");
}

static void no_time_and_no_bytes_are_no_division_by_zero(void **state UNUSED)
{
    const struct progress none = { .what = "copied" };
    const struct progress begun = { .what = "copied", .total_bytes = GIB, .started_ms = 5 };

    check(&none, 0, "copied 0.0 of 0.0 GiB (100%), 0 MiB/s");
    check(&begun, 5, "copied 0.0 of 1.0 GiB (0%), 0 MiB/s");
}

static void more_than_all_is_all(void **state UNUSED)
{
    struct progress progress;

    progress_start(&progress, "copied", 100);
    progress_add(&progress, 4096);
    assert_int_equal(progress.done_bytes, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_how_far_how_fast_and_how_long),
        cmocka_unit_test(nothing_is_left_at_the_end),
        cmocka_unit_test(no_time_and_no_bytes_are_no_division_by_zero),
        cmocka_unit_test(more_than_all_is_all),
    };

    return RUN_TESTS(tests);
}
