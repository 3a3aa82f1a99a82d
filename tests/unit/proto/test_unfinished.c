/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/unfinished.h"
#include "tests/unit/test.h"

#include <stdio.h>

static bool enter(struct unfinished *intake, struct unfinished_item *item, const char *network,
                  uint64_t now_ms)
{
    (void)snprintf(item->network, sizeof(item->network), "%s", network);
    return unfinished_enter(intake, item, now_ms);
}

static void a_network_may_have_only_a_few(void **state)
{
    struct unfinished_item items[UNFINISHED_EACH_MAX], one_more, other;
    struct unfinished intake;

    (void)state;
    unfinished_init(&intake);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_true(enter(&intake, &items[i], "192.0.2.1", 1));
    assert_false(enter(&intake, &one_more, "192.0.2.1", 1));
    unfinished_leave(&intake, &one_more);
    assert_true(enter(&intake, &other, "192.0.2.2", 1));
    unfinished_leave(&intake, &items[7]);
    unfinished_leave(&intake, &items[7]);
    assert_true(enter(&intake, &one_more, "192.0.2.1", 1));
    assert_int_equal(intake.n, UNFINISHED_EACH_MAX + 1);
}

static void all_networks_together_are_limited(void **state)
{
    static struct unfinished_item items[UNFINISHED_ALL_MAX], one_more;
    struct unfinished intake;
    char network[16];

    (void)state;
    unfinished_init(&intake);
    for (unsigned i = 0; i < ARRAY_LEN(items); i++) {
        (void)snprintf(network, sizeof(network), "n%u", i);
        assert_true(enter(&intake, &items[i], network, 1));
    }
    assert_false(enter(&intake, &one_more, "another", 1));
}

static void local_sockets_are_not_counted(void **state)
{
    struct unfinished_item items[2 * UNFINISHED_EACH_MAX];
    struct unfinished intake;

    (void)state;
    unfinished_init(&intake);
    for (size_t i = 0; i < ARRAY_LEN(items); i++)
        assert_true(enter(&intake, &items[i], "", 1));
    assert_int_equal(intake.n, 0);
    unfinished_leave(&intake, &items[0]);
    assert_null(unfinished_take_late(&intake, 1 + UNFINISHED_MS));
}

static void a_request_that_takes_too_long_is_taken_off(void **state)
{
    struct unfinished_item first, second;
    struct unfinished intake;

    (void)state;
    unfinished_init(&intake);
    assert_true(enter(&intake, &first, "a", 5));
    assert_true(enter(&intake, &second, "b", 6));
    assert_null(unfinished_take_late(&intake, 4 + UNFINISHED_MS));
    assert_ptr_equal(unfinished_take_late(&intake, 5 + UNFINISHED_MS), &first);
    assert_null(unfinished_take_late(&intake, 5 + UNFINISHED_MS));
    unfinished_leave(&intake, &first); /* as after a failure to receive it */
    assert_int_equal(intake.n, 1);
    assert_ptr_equal(unfinished_take_late(&intake, 6 + UNFINISHED_MS), &second);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_may_have_only_a_few),
        cmocka_unit_test(all_networks_together_are_limited),
        cmocka_unit_test(local_sockets_are_not_counted),
        cmocka_unit_test(a_request_that_takes_too_long_is_taken_off),
    };

    return RUN_TESTS(tests);
}
