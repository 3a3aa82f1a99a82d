/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/rate.h"
#include "tests/unit/test.h"

#include <stdio.h>

static uint64_t time_ms;

static uint64_t now_ms(void)
{
    return time_ms;
}

static const struct rate_limit limit = { .per_minute = 600, .burst = 20 };

static struct rates *fresh(void)
{
    struct rates *rates = NULL;
    struct error err = ERROR_INIT;

    time_ms = 5000;
    assert_ok(rates_new(now_ms, &rates, &err));
    return rates;
}

static unsigned take_all(struct rates *rates, const char *name)
{
    unsigned n = 0;

    while (rate_take(rates, name, &limit, 1))
        n++;
    return n;
}

static void a_burst_and_then_the_rate(void **state UNUSED)
{
    auto_rates struct rates *rates = fresh();

    assert_int_equal(take_all(rates, "a"), 20);
    time_ms += 99;
    assert_int_equal(take_all(rates, "a"), 0);
    time_ms += 1; /* the refused calls lost nothing */
    assert_int_equal(take_all(rates, "a"), 1);
    time_ms += 1000;
    assert_int_equal(take_all(rates, "a"), 10);
    time_ms += (uint64_t)365 * 24 * 3600 * 1000;
    assert_int_equal(take_all(rates, "a"), 20);
}

static void others_are_not_touched(void **state UNUSED)
{
    auto_rates struct rates *rates = fresh();

    assert_int_equal(take_all(rates, "a"), 20);
    assert_int_equal(take_all(rates, "b"), 20);
    assert_int_equal(take_all(rates, ""), 20);
}

static void what_is_not_there_is_not_taken_but_charged(void **state UNUSED)
{
    auto_rates struct rates *rates = fresh();

    assert_false(rate_take(rates, "a", &limit, 21));
    assert_true(rate_take(rates, "a", &limit, 15));
    assert_false(rate_take(rates, "a", &limit, 6));
    rate_charge(rates, "a", &limit, 6);
    assert_int_equal(take_all(rates, "a"), 0);
    rate_charge(rates, "b", &limit, 5);
    assert_int_equal(take_all(rates, "b"), 15);
}

static void a_smaller_limit_holds_at_once(void **state UNUSED)
{
    const struct rate_limit smaller = { .per_minute = 1, .burst = 2 };
    auto_rates struct rates *rates = fresh();

    assert_true(rate_take(rates, "a", &limit, 1));
    assert_false(rate_take(rates, "a", &smaller, 3));
    assert_true(rate_take(rates, "a", &smaller, 2));
    time_ms += 59999;
    assert_false(rate_take(rates, "a", &smaller, 1));
    time_ms += 1;
    assert_true(rate_take(rates, "a", &smaller, 1));
}

/* A name that keeps coming is not forgotten because of many other names. */
static void a_crowd_does_not_give_the_busy_one_a_new_start(void **state UNUSED)
{
    auto_rates struct rates *rates = fresh();
    char name[32];

    (void)take_all(rates, "busy");
    for (unsigned i = 0; i < 20000; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        assert_true(rate_take(rates, name, &limit, 1));
        if (i % 100 == 0) {
            time_ms += 1;
            assert_false(rate_take(rates, "busy", &limit, 3));
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_and_then_the_rate),
        cmocka_unit_test(others_are_not_touched),
        cmocka_unit_test(what_is_not_there_is_not_taken_but_charged),
        cmocka_unit_test(a_smaller_limit_holds_at_once),
        cmocka_unit_test(a_crowd_does_not_give_the_busy_one_a_new_start),
    };

    return RUN_TESTS(tests);
}
