/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/intake.h"
#include "tests/unit/test.h"

#include <stdio.h>

static bool enter(struct intake *intake, struct intake_item *item, const char *network,
                  uint64_t now_ms)
{
    (void)snprintf(item->network, sizeof(item->network), "%s", network);
    return intake_enter(intake, item, now_ms);
}

static void a_network_has_a_few_at_a_time(void **state)
{
    struct intake_item items[INTAKE_EACH_MAX], one_more, other;
    struct intake intake;

    (void)state;
    intake_init(&intake);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_true(enter(&intake, &items[i], "192.0.2.1", 1));
    assert_false(enter(&intake, &one_more, "192.0.2.1", 1));
    intake_leave(&intake, &one_more);
    assert_true(enter(&intake, &other, "192.0.2.2", 1));
    intake_leave(&intake, &items[7]);
    intake_leave(&intake, &items[7]);
    assert_true(enter(&intake, &one_more, "192.0.2.1", 1));
    assert_int_equal(intake.n, INTAKE_EACH_MAX + 1);
}

static void all_networks_together_have_an_end_too(void **state)
{
    static struct intake_item items[INTAKE_ALL_MAX], one_more;
    struct intake intake;
    char network[16];

    (void)state;
    intake_init(&intake);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        (void)snprintf(network, sizeof(network), "n%u", i);
        assert_true(enter(&intake, &items[i], network, 1));
    }
    assert_false(enter(&intake, &one_more, "another", 1));
}

static void local_sockets_are_not_counted(void **state)
{
    struct intake_item items[2 * INTAKE_EACH_MAX];
    struct intake intake;

    (void)state;
    intake_init(&intake);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_true(enter(&intake, &items[i], "", 1));
    assert_int_equal(intake.n, 0);
    intake_leave(&intake, &items[0]);
    assert_null(intake_take_late(&intake, 1 + INTAKE_MS));
}

static void whoever_takes_too_long_is_taken_off(void **state)
{
    struct intake_item first, second;
    struct intake intake;

    (void)state;
    intake_init(&intake);
    assert_true(enter(&intake, &first, "a", 5));
    assert_true(enter(&intake, &second, "b", 6));
    assert_null(intake_take_late(&intake, 4 + INTAKE_MS));
    assert_ptr_equal(intake_take_late(&intake, 5 + INTAKE_MS), &first);
    assert_null(intake_take_late(&intake, 5 + INTAKE_MS));
    intake_leave(&intake, &first); /* as when its receiving fails then */
    assert_int_equal(intake.n, 1);
    assert_ptr_equal(intake_take_late(&intake, 6 + INTAKE_MS), &second);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_has_a_few_at_a_time),
        cmocka_unit_test(all_networks_together_have_an_end_too),
        cmocka_unit_test(local_sockets_are_not_counted),
        cmocka_unit_test(whoever_takes_too_long_is_taken_off),
    };

    return RUN_TESTS(tests);
}
