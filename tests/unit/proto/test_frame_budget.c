/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/frame_budget.h"
#include "tests/unit/test.h"

static unsigned take_all(struct frame_budget *budget,
                         bool (*take)(struct frame_budget *budget, uint64_t now_ms),
                         uint64_t now_ms)
{
    unsigned n = 0;

    while (take(budget, now_ms))
        n++;
    return n;
}

static void control_frames_run_out_and_come_back(void **state UNUSED)
{
    struct frame_budget budget;

    frame_budget_init(&budget, 1000);
    assert_int_equal(take_all(&budget, frame_budget_take_control, 1000), FRAME_BUDGET_CONTROL);
    frame_budget_earn(&budget);
    assert_int_equal(take_all(&budget, frame_budget_take_control, 1000), FRAME_BUDGET_CONTROL_EACH);
    assert_int_equal(take_all(&budget, frame_budget_take_control, 2000),
                     FRAME_BUDGET_CONTROL_PER_S);
    assert_int_equal(take_all(&budget, frame_budget_take_control, 1000000), FRAME_BUDGET_CONTROL);
}

static void resets_run_out_and_requests_bring_none(void **state UNUSED)
{
    struct frame_budget budget;

    frame_budget_init(&budget, 1000);
    assert_int_equal(take_all(&budget, frame_budget_take_reset, 1000), FRAME_BUDGET_RESETS);
    frame_budget_earn(&budget);
    assert_false(frame_budget_take_reset(&budget, 1000));
    assert_int_equal(take_all(&budget, frame_budget_take_reset, 1500),
                     FRAME_BUDGET_RESETS_PER_S / 2);
    assert_int_equal(take_all(&budget, frame_budget_take_reset, 1000000), FRAME_BUDGET_RESETS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_frames_run_out_and_come_back),
        cmocka_unit_test(resets_run_out_and_requests_bring_none),
    };

    return RUN_TESTS(tests);
}
