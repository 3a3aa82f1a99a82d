/* SPDX-License-Identifier: Apache-2.0 */
#include "collateral/collateral_life.h"
#include "tests/unit/test.h"

static void age_goes_by_halves_and_quarters(void **state UNUSED)
{
    static const struct {
        int64_t now;
        enum collateral_age age;
    } cases[] = {
        { 0, COLLATERAL_FRESH },   { 1000, COLLATERAL_FRESH },   { 1199, COLLATERAL_FRESH },
        { 1200, COLLATERAL_HALF }, { 1299, COLLATERAL_HALF },    { 1300, COLLATERAL_LATE },
        { 1400, COLLATERAL_LATE }, { 1401, COLLATERAL_EXPIRED },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(collateral_age_at(1000, 1400, cases[i].now), cases[i].age);
    assert_int_equal(collateral_age_at(1400, 1000, 1001), COLLATERAL_EXPIRED);
    assert_int_equal(collateral_age_at(1400, 1000, 999), COLLATERAL_FRESH);
}

static void waits_double_up_to_an_hour(void **state UNUSED)
{
    assert_int_equal(collateral_retry_ms(1, 0), 22500);
    assert_in_range(collateral_retry_ms(1, UINT32_MAX), 22500, 37500);
    assert_in_range(collateral_retry_ms(2, 77), 45000, 75000);
    assert_in_range(collateral_retry_ms(1000000, 12345), 2700000, 4500000);
    assert_int_equal(collateral_settle_ms(1000, 2000), 10000);
    assert_int_equal(collateral_settle_ms(2000, 1000), 125000);
    assert_int_equal(collateral_settle_ms(1000000000, 0), 3600000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(age_goes_by_halves_and_quarters),
        cmocka_unit_test(waits_double_up_to_an_hour),
    };

    return RUN_TESTS(tests);
}
