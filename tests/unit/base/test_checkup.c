/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checkup.h"
#include "base/clock.h"
#include "tests/unit/test.h"

#include <stdatomic.h>
#include <time.h>

static struct checkup *checkup;
static struct error err;
static atomic_bool hangs, fails;
static atomic_uint n_checks;

static void pause_ms(unsigned ms)
{
    const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

    (void)nanosleep(&time, NULL);
}

static bool check(void *cookie UNUSED, struct error *e)
{
    atomic_fetch_add(&n_checks, 1);
    while (atomic_load(&hangs))
        pause_ms(5);
    return !atomic_load(&fails) || error_set(e, ERROR_INTERNAL, "it fails");
}

static void begin(bool good_at_first)
{
    const struct checkup_options options = { .thread = "check",
                                             .subject = "the thing",
                                             .period_ms = 20,
                                             .retry_ms = 1500,
                                             .patience_ms = 200,
                                             .good_at_first = good_at_first,
                                             .check = check };

    assert_ok(checkup_start(&options, &checkup, &err));
}

static int set_up(void **state UNUSED)
{
    atomic_store(&hangs, false);
    atomic_store(&fails, false);
    atomic_store(&n_checks, 0);
    return 0;
}

static int tear_down(void **state UNUSED)
{
    atomic_store(&hangs, false);
    checkup_stop(checkup);
    checkup = NULL;
    return 0;
}

static void wait_for(unsigned n)
{
    for (int i = 0; i < 1000 && atomic_load(&n_checks) < n; i++)
        pause_ms(5);
    assert_true(atomic_load(&n_checks) >= n);
}

static void it_is_checked_again_and_again(void **state UNUSED)
{
    begin(false);
    wait_for(4);
    assert_ok(checkup_holds(checkup, &err));
    atomic_store(&fails, true);
    wait_for(atomic_load(&n_checks) + 2);
}

static void failure_is_kept_with_its_age(void **state UNUSED)
{
    atomic_store(&fails, true);
    begin(false);
    wait_for(1);
    pause_ms(100);
    assert_refused(ERROR_INTERNAL, checkup_holds(checkup, &err));
    assert_string_equal(err.text, "it fails");
    pause_ms(1000);
    assert_refused(ERROR_INTERNAL, checkup_holds(checkup, &err));
    assert_string_equal(err.text, "1 s ago: it fails");
    atomic_store(&fails, false);
    wait_for(2);
    pause_ms(100);
    assert_ok(checkup_holds(checkup, &err));
}

static void check_that_hangs_has_failed(void **state UNUSED)
{
    begin(false);
    wait_for(2);
    atomic_store(&hangs, true);
    pause_ms(100);
    assert_ok(checkup_holds(checkup, &err));
    pause_ms(1200);
    uint64_t begun_ms = clock_now_ms();

    assert_refused(ERROR_UNAVAILABLE, checkup_holds(checkup, &err));
    assert_true(clock_now_ms() - begun_ms < 50);
    assert_string_equal(err.text, "the thing has not answered for 1 s");
    atomic_store(&hangs, false);
    pause_ms(100);
    assert_ok(checkup_holds(checkup, &err));
}

static void before_the_first_result_the_options_decide(void **state UNUSED)
{
    atomic_store(&hangs, true);
    begin(false);
    assert_refused(ERROR_UNAVAILABLE, checkup_holds(checkup, &err));
    assert_string_equal(err.text, "the thing has not answered yet");
    atomic_store(&hangs, false);
    checkup_stop(checkup);
    atomic_store(&hangs, true);
    begin(true);
    assert_ok(checkup_holds(checkup, &err));
}

static void it_stops_at_once(void **state UNUSED)
{
    atomic_store(&fails, true);
    begin(false);
    wait_for(1);
    uint64_t begun_ms = clock_now_ms();

    checkup_stop(checkup);
    checkup = NULL;
    assert_true(clock_now_ms() - begun_ms < 500);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(it_is_checked_again_and_again),
        T(failure_is_kept_with_its_age),
        T(check_that_hangs_has_failed),
        T(before_the_first_result_the_options_decide),
        T(it_stops_at_once),
    };

    return RUN_TESTS(tests);
}
