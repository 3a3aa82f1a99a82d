/* SPDX-License-Identifier: Apache-2.0 */
#include "erasure/clock.h"
#include "tests/unit/broker/store_memory.h"
#include "tests/unit/broker/store_place.h"

/* The clock by which keys are kept: never faster than time, whatever brokers do. */

#define BROKERS 3
#define STEP    RETENTION_STEP_MAX_MS

static struct store *store;
static uint64_t time_ms; /* the true one */
static struct error err;

static uint64_t steady_ms(void)
{
    return time_ms;
}

static int setup(void **state UNUSED)
{
    err = (struct error)ERROR_INIT;
    time_ms = 1000000;
    assert_ok(store_memory_open(&store, &err));
    return 0;
}

static int teardown(void **state UNUSED)
{
    store_close(&store);
    return 0;
}

static uint64_t tick(struct retention_clock *clock)
{
    uint64_t out = 0;

    assert_ok(retention_clock_tick(clock, store, steady_ms, &out, &err));
    return out;
}

static uint64_t mark(void)
{
    uint64_t out = 0;

    assert_ok(retention_clock_read(store, &out, &err));
    return out;
}

static void it_counts_the_time_in_which_it_is_asked(void **state UNUSED)
{
    struct retention_clock clock = { .has_seen = false };

    assert_int_equal(tick(&clock), 0);
    for (int i = 1; i <= 10; i++) {
        time_ms += 20000;
        assert_int_equal(tick(&clock), 20000u * (unsigned)i);
    }
}

static void time_without_a_look_does_not_count(void **state UNUSED)
{
    struct retention_clock clock = { .has_seen = false };

    (void)tick(&clock);
    time_ms += STEP;
    assert_int_equal(tick(&clock), STEP);
    time_ms += STEP + 1;
    assert_int_equal(tick(&clock), STEP);
    time_ms += UINT64_C(365) * 24 * 3600 * 1000; /* the broker hung, or its own clock jumped */
    assert_int_equal(tick(&clock), STEP);
    time_ms += 5;
    assert_int_equal(tick(&clock), STEP + 5);
}

static void a_clock_that_goes_back_does_no_harm(void **state UNUSED)
{
    struct retention_clock clock = { .has_seen = false };

    (void)tick(&clock);
    time_ms += 10;
    assert_int_equal(tick(&clock), 10);
    time_ms -= 5000;
    assert_int_equal(tick(&clock), 10);
    time_ms += 7;
    assert_int_equal(tick(&clock), 17);
}

static void a_new_broker_goes_on_from_the_mark(void **state UNUSED)
{
    struct retention_clock first = { .has_seen = false }, second = { .has_seen = false };

    (void)tick(&first);
    time_ms += 100;
    assert_int_equal(tick(&first), 100);
    time_ms += 1000000; /* none runs */
    assert_int_equal(tick(&second), 100);
    time_ms += 50;
    assert_int_equal(tick(&second), 150);
}

static void many_brokers_count_no_time_twice(void **state UNUSED)
{
    struct retention_clock clocks[BROKERS] = { { .has_seen = false } };

    for (int i = 0; i < BROKERS; i++)
        (void)tick(&clocks[i]);
    for (int i = 0; i < 9; i++) {
        time_ms += 10;
        (void)tick(&clocks[i % BROKERS]);
    }
    assert_int_equal(mark(), 90);
}

/* Of any schedule of brokers that look, hang and come back: from the bound of a moment on, the mark needs as long
 * as time does. */
static void from_a_bound_on_no_schedule_is_faster_than_time(void **state UNUSED)
{
    for (unsigned seed = 1; seed <= 2000; seed++) {
        struct retention_clock clocks[BROKERS] = { { .has_seen = false } };
        uint64_t random = seed * UINT64_C(0x9e3779b97f4a7c15), bound = 0, since_ms = 0;

        for (int i = 0; i < 200; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            const unsigned what = (unsigned)(random >> 33) % 8;

            time_ms += (random >> 40) % (what == 0 ? 10 * STEP : STEP + 10);
            if (i == 100) {
                since_ms = time_ms;
                assert_ok(retention_clock_bound(store, &bound, &err));
            } else if (what == 1) {
                clocks[i % BROKERS].has_seen = false; /* it was started anew */
            } else {
                (void)tick(&clocks[(random >> 20) % BROKERS]);
            }
            if (i >= 100 && mark() > bound + (time_ms - since_ms))
                fail_msg("seed %u: after %llu ms the clock is %llu beyond", seed,
                         (unsigned long long)(time_ms - since_ms),
                         (unsigned long long)(mark() - bound));
        }
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(it_counts_the_time_in_which_it_is_asked),
        CASE(time_without_a_look_does_not_count),
        CASE(a_clock_that_goes_back_does_no_harm),
        CASE(a_new_broker_goes_on_from_the_mark),
        CASE(many_brokers_count_no_time_twice),
        CASE(from_a_bound_on_no_schedule_is_faster_than_time),
    };

    return RUN_TESTS(tests);
}
