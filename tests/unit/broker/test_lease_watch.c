/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/lease_watch.h"
#include "tests/unit/test.h"

#define LEASE 60000ull

static uint64_t now_ms;

static uint64_t steady_ms(void)
{
    return now_ms;
}

static struct lease_watch *make(void)
{
    struct lease_watch *watch = NULL;
    struct error err = ERROR_INIT;

    now_ms = 1000000;
    assert_ok(lease_watch_new(steady_ms, &watch, &err));
    return watch;
}
#define auto_watch CLEANUP(lease_watch_free)

static struct record contested(uint32_t id, uint64_t mark)
{
    struct record r = { .lease = { .lease_ms = LEASE, .contested = mark } };

    memcpy(r.id, &id, sizeof(id));
    return r;
}

static void a_mark_must_be_seen_for_the_lease_and_a_margin(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    const struct record r = contested(1, 8);
    const uint64_t wait_ms = lease_watch_wait_ms(LEASE);

    assert_true(wait_ms >= LEASE + LEASE / 20 + 5000);
    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += wait_ms - 1;
    assert_false(lease_watch_is_silent(watch, &r));
    now_ms++;
    assert_true(lease_watch_is_silent(watch, &r));
    assert_true(lease_watch_is_silent(watch, &r));
}

static void another_mark_begins_anew(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    const struct record first = contested(1, 8), second = contested(1, 10);

    assert_false(lease_watch_is_silent(watch, &first));
    now_ms += lease_watch_wait_ms(LEASE);
    assert_false(lease_watch_is_silent(watch, &second)); /* the holder was there in between */
    now_ms += lease_watch_wait_ms(LEASE) - 1;
    assert_false(lease_watch_is_silent(watch, &second));
    assert_false(lease_watch_is_silent(watch, &first)); /* no mark comes back */
    now_ms++;
    assert_false(lease_watch_is_silent(watch, &second));
}

static void the_lease_counts_as_it_is_now(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    struct record r = contested(1, 8);

    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += lease_watch_wait_ms(LEASE);
    r.lease.lease_ms = 2 * LEASE;
    assert_false(lease_watch_is_silent(watch, &r));
}

static void without_mark_or_end_nobody_is_silent(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    struct record r = contested(1, 0);

    for (int i = 0; i < 2; i++) {
        assert_false(lease_watch_is_silent(watch, &r));
        now_ms += 100 * LEASE;
    }
    r = contested(1, 8);
    r.lease.lease_ms = 0;
    for (int i = 0; i < 2; i++) {
        assert_false(lease_watch_is_silent(watch, &r));
        now_ms += 100 * LEASE;
    }
}

static void a_mark_that_nobody_looked_at_for_hours_begins_anew(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    const struct record r = contested(1, 8);

    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += 2 * RECORD_LEASE_MAX_MS + 1;
    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += lease_watch_wait_ms(LEASE);
    assert_true(lease_watch_is_silent(watch, &r));
}

/* Whoever contests very many leases at once makes later ones wait, and takes nobody's time away. */
static void a_full_table_keeps_who_waits_already(void **state UNUSED)
{
    auto_watch struct lease_watch *watch = make();
    struct record r;

    for (uint32_t i = 0; i < 10000; i++) {
        r = contested(i, 8);
        assert_false(lease_watch_is_silent(watch, &r));
    }
    now_ms += lease_watch_wait_ms(LEASE);
    r = contested(0, 8);
    assert_true(lease_watch_is_silent(watch, &r));
    r = contested(9999, 8);
    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += 2 * RECORD_LEASE_MAX_MS + 1; /* places are free again */
    assert_false(lease_watch_is_silent(watch, &r));
    now_ms += lease_watch_wait_ms(LEASE);
    assert_true(lease_watch_is_silent(watch, &r));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mark_must_be_seen_for_the_lease_and_a_margin),
        cmocka_unit_test(another_mark_begins_anew),
        cmocka_unit_test(the_lease_counts_as_it_is_now),
        cmocka_unit_test(without_mark_or_end_nobody_is_silent),
        cmocka_unit_test(a_mark_that_nobody_looked_at_for_hours_begins_anew),
        cmocka_unit_test(a_full_table_keeps_who_waits_already),
    };

    return RUN_TESTS(tests);
}
