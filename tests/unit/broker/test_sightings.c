/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sightings.h"
#include "tests/unit/test.h"

static uint64_t now_ms = 1000;

static uint64_t clock_ms(void)
{
    return now_ms;
}

static void time_runs_from_the_first_sight_of_a_state(void **state UNUSED)
{
    static const uint8_t a[RECORD_ID_LEN] = { 1 }, b[RECORD_ID_LEN] = { 2 };
    CLEANUP(sightings_free) struct sightings *s = NULL;
    struct error err = ERROR_INIT;

    assert_ok(sightings_new(clock_ms, &s, &err));
    assert_int_equal(sightings_age_ms(s, a, 1), 0);
    now_ms += 50;
    assert_int_equal(sightings_age_ms(s, b, 1), 0);
    assert_int_equal(sightings_age_ms(s, a, 1), 50);
    assert_int_equal(sightings_age_ms(s, a, 2), 0);
    now_ms += 7;
    assert_int_equal(sightings_age_ms(s, a, 2), 7);
    assert_int_equal(sightings_age_ms(s, a, 1), 0); /* it came back: that is another state */
    assert_int_equal(sightings_age_ms(s, b, 1), 7);
}

/* The table has fewer places than there are records: then the time begins anew, and is never too long. */
static void a_record_that_lost_its_place_begins_anew(void **state UNUSED)
{
    static const uint8_t a[RECORD_ID_LEN] = { 0, 1, 1 }, b[RECORD_ID_LEN] = { 0, 1, 2 };
    CLEANUP(sightings_free) struct sightings *s = NULL;
    struct error err = ERROR_INIT;

    assert_ok(sightings_new(clock_ms, &s, &err));
    (void)sightings_age_ms(s, a, 1);
    now_ms += 50;
    assert_int_equal(sightings_age_ms(s, b, 1), 0);
    assert_int_equal(sightings_age_ms(s, a, 1), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_runs_from_the_first_sight_of_a_state),
        cmocka_unit_test(a_record_that_lost_its_place_begins_anew),
    };

    return RUN_TESTS(tests);
}
