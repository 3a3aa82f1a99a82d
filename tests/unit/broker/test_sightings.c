/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sightings.h"
#include "tests/unit/test.h"

static uint64_t now_ms = 1000;

static uint64_t clock_ms(void)
{
    return now_ms;
}

#define auto_sightings CLEANUP(sightings_free)

static struct sightings *make(void)
{
    struct sightings *s = NULL;
    struct error err = ERROR_INIT;

    assert_ok(sightings_new(clock_ms, &s, &err));
    return s;
}

static uint64_t age(struct sightings *s, uint32_t record, uint64_t state)
{
    uint8_t id[RECORD_ID_LEN] = { 1 };

    memcpy(id + 4, &record, sizeof(record));
    return sightings_age_ms(s, id, state);
}

static void time_runs_from_the_first_sight_of_a_state(void **state UNUSED)
{
    auto_sightings struct sightings *s = make();

    assert_int_equal(age(s, 1, 1), 0);
    now_ms += 50;
    assert_int_equal(age(s, 2, 1), 0);
    assert_int_equal(age(s, 1, 1), 50);
    assert_int_equal(age(s, 1, 2), 0);
    now_ms += 7;
    assert_int_equal(age(s, 1, 2), 7);
    assert_int_equal(age(s, 1, 1), 0); /* it came back: that is another state */
    assert_int_equal(age(s, 2, 1), 7);
}

static void state_that_nobody_looked_at_for_days_was_there_all_the_time(void **state UNUSED)
{
    auto_sightings struct sightings *s = make();
    const uint64_t days_ms = UINT64_C(3) * 86400 * 1000;

    (void)age(s, 1, 1);
    now_ms += days_ms;
    assert_int_equal(age(s, 1, 1), days_ms);
}

/* All records that two waiters ask for in turn, whatever their ids: no two share a place. */
static void no_two_records_push_each_other_out(void **state UNUSED)
{
    auto_sightings struct sightings *s = make();

    for (uint64_t round = 0; round < 3; round++, now_ms += 50)
        for (uint32_t i = 0; i < SIGHTINGS_PLACES; i++)
            assert_int_equal(age(s, i, 1), 50 * round);
}

/* Whoever asks for very many records makes later ones wait, and takes nobody's time away. */
static void full_table_keeps_who_waits_already(void **state UNUSED)
{
    auto_sightings struct sightings *s = make();

    for (uint32_t i = 0; i < SIGHTINGS_PLACES; i++)
        assert_int_equal(age(s, i, 1), 0);
    now_ms += SIGHTINGS_PATIENCE_MS;
    assert_int_equal(age(s, SIGHTINGS_PLACES, 1), 0);
    assert_int_equal(age(s, 7, 1), SIGHTINGS_PATIENCE_MS);
    now_ms++;
    assert_int_equal(age(s, SIGHTINGS_PLACES, 1), 0); /* now it has a place */
    now_ms += 50;
    assert_int_equal(age(s, SIGHTINGS_PLACES, 1), 50);
    assert_int_equal(age(s, 7, 1), SIGHTINGS_PATIENCE_MS + 51);
    assert_int_equal(age(s, 0, 1), 0); /* for this one nobody had asked */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_runs_from_the_first_sight_of_a_state),
        cmocka_unit_test(state_that_nobody_looked_at_for_days_was_there_all_the_time),
        cmocka_unit_test(no_two_records_push_each_other_out),
        cmocka_unit_test(full_table_keeps_who_waits_already),
    };

    return RUN_TESTS(tests);
}
