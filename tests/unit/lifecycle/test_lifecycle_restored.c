/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "tests/unit/broker/fixture.h"

#define EPOCH 1800000000000ull /* ms */
#define FIRST (EPOCH << 20)

/* Records that come out of a backup. */

static struct record restored(enum record_phase phase)
{
    struct record r = fixture_record(phase);
    struct error err = ERROR_INIT;

    assert_ok(record_restore(&r, EPOCH, &err));
    assert_ok(record_check(&r, &err));
    return r;
}

static struct record adopted(enum record_phase phase)
{
    struct record r = restored(phase);
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_ok(record_adopt_restored(&r, &changed, &err));
    assert_true(changed);
    assert_ok(record_check(&r, &err));
    return r;
}

static void nothing_that_moves_is_believed(void **state)
{
    struct record r = fixture_record(RECORD_READY);
    struct error err = ERROR_INIT;

    (void)state;
    r.lease = (struct record_lease){ fixture_holder("n1", "b1"), 5, 60000, 7 };
    r.is_closed = r.has_clean_hash = true;
    memcpy(r.published.nodes, "w:n1", sizeof("w:n1"));
    assert_ok(record_restore(&r, EPOCH, &err));
    assert_string_equal(r.lease.holder.node, "");
    assert_true(r.lease.opened_ms == 0 && r.lease.lease_ms == 0 && r.lease.contested == 0);
    assert_string_equal(r.published.nodes, "");
    assert_false(r.has_clean_hash);
    assert_true(r.is_closed); /* an older disk than that is never good */
    assert_int_equal(r.restored.counter_low, 5);
    assert_false(r.restored.is_adopted);
}

/* No late request and no old proof can fit: they name version, counter or epoch. */
static void its_numbers_go_on_where_none_was_before(void **state)
{
    struct record r = restored(RECORD_READY), again = r;
    struct error err = ERROR_INIT;

    (void)state;
    assert_true(r.version == FIRST && r.open_counter == FIRST && r.published.epoch == FIRST);
    again.open_counter++;
    again.restored.is_set = false; /* it was opened, backed up and restored again */
    assert_ok(record_restore(&again, EPOCH + 1, &err));
    assert_true(again.version > FIRST && again.open_counter > FIRST + 1);
    assert_true(again.restored.counter_low == FIRST + 1);
}

static void a_clock_before_the_record_is_refused(void **state)
{
    struct record r = restored(RECORD_READY);
    const struct record before = r;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_FAILED_PRECONDITION, record_restore(&r, EPOCH, &err));
    assert_contains(err.text, "clock");
    assert_refused(ERROR_FAILED_PRECONDITION, record_restore(&r, EPOCH - 1, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, record_restore(&r, UINT64_MAX, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, record_restore(&r, 1ull << 43, &err));
    assert_memory_equal(&r, &before, sizeof(r));
}

static void a_second_backup_before_the_adoption_knows_the_first_counter(void **state)
{
    struct record r = adopted(RECORD_READY);
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(record_restore(&r, EPOCH + 1, &err));
    assert_int_equal(r.restored.counter_low, 5);
    assert_false(r.restored.is_adopted);
}

static void a_format_begins_anew_and_counts_from_where_it_was(void **state)
{
    struct record r = restored(RECORD_FORMATTING);

    (void)state;
    assert_int_equal(r.phase, RECORD_NEW);
    assert_string_equal(r.format.holder.node, "");
    /* The worker compares it with the disk before it formats: see crypt/leftover.h. */
    assert_int_equal(r.open_counter, fixture_record(RECORD_FORMATTING).open_counter);
    assert_int_equal(r.format.attempt, fixture_record(RECORD_FORMATTING).format.attempt);
}

static void an_erased_record_stays_so(void **state)
{
    struct record r = restored(RECORD_ERASED);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_false(r.restored.is_set);
    assert_refused(ERROR_NOT_FOUND, record_adopt_restored(&r, &changed, &err));
}

static void until_it_is_adopted_it_is_refused_with_the_command(void **state)
{
    struct record r = restored(RECORD_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_refused(ERROR_FAILED_PRECONDITION, record_check_adopted(&r, &err));
    assert_string_equal(err.reason, "Restored");
    assert_contains(err.text, "tdvolctl volume adopt --restored v");
    assert_refused(ERROR_FAILED_PRECONDITION, record_check_copyable(&r, &err));
    assert_ok(record_adopt_restored(&r, &changed, &err));
    assert_ok(record_check_adopted(&r, &err));
    assert_ok(record_check_copyable(&r, &err));
    assert_ok(record_adopt_restored(&r, &changed, &err)); /* its answer was lost */
    assert_false(changed);
}

static void an_opening_makes_it_a_record_like_any_other(void **state)
{
    struct record r = adopted(RECORD_READY);
    const struct record_open_request open = { .holder = fixture_holder("n1", "b1"), .now_ms = NOW };
    struct record_change change = { .kind = RECORD_CHANGE_OPENED, .open_counter = FIRST };
    struct change_request request = { &change, open.holder, r.version, NOW };
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_open(&r, &open, &changed, &err));
    /* The same counter is no answer that was lost: the disk may have another one. */
    assert_ok(record_change(&r, &request, &changed, &err));
    assert_true(changed);
    r = adopted(RECORD_READY);
    assert_ok(record_open(&r, &open, &changed, &err));
    change.open_counter = 6; /* as the disk said before */
    assert_refused(ERROR_FAILED_PRECONDITION, record_change(&r, &request, &changed, &err));
    change.open_counter = FIRST + 1;
    assert_ok(record_change(&r, &request, &changed, &err));
    assert_false(r.restored.is_set);
    assert_true(r.open_counter == FIRST + 1);
}

static void a_stage_that_failed_says_nothing_about_the_end(void **state)
{
    struct record r = adopted(RECORD_READY);
    const struct record_open_request open = { .holder = fixture_holder("n1", "b1"), .now_ms = NOW };
    const struct record_change change = { .kind = RECORD_CHANGE_CLOSED,
                                          .is_closed = true,
                                          .has_clean_hash = true };
    const struct change_request request = { &change, open.holder, r.version, NOW };
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_ok(record_open(&r, &open, &changed, &err));
    assert_ok(record_change(&r, &request, &changed, &err));
    assert_true(r.restored.is_set);
    assert_false(r.has_clean_hash);
}

static void a_copy_of_it_accepts_what_the_disk_may_hold(void **state)
{
    struct record source = adopted(RECORD_READY), copy = { .version = 0 };
    const struct record_copy_request request = { .source_version = source.version,
                                                 .kind = RECORD_SNAPSHOT,
                                                 .name = "snap",
                                                 .location = "",
                                                 .source_volume_id = "v" };
    bool fresh_key = true, changed = false;
    struct error err = ERROR_INIT;

    (void)state;
    memcpy(copy.volume_id, "s", 2);
    assert_ok(record_copy(&copy, &source, &request, &fixture_fresh, &fresh_key, &changed, &err));
    assert_int_equal(copy.origin.counter_low, 5);
    assert_true(copy.origin.counter_high == FIRST + 1);
    assert_false(copy.restored.is_set);
    /* A copy that was not opened at the backup: is it its source's disk still, or its own? */
    source.origin.is_set = true;
    assert_refused(ERROR_FAILED_PRECONDITION, record_check_copyable(&source, &err));
    assert_contains(err.text, "stage it once for writing");
}

/* Nobody ever writes to a snapshot, so the backup knows its disk. */
static void a_snapshot_is_as_it_was(void **state)
{
    struct record before = fixture_record(RECORD_READY), r;
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    before.kind = RECORD_SNAPSHOT;
    before.has_clean_hash = true;
    r = before;
    assert_ok(record_restore(&r, EPOCH, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, record_check_adopted(&r, &err));
    assert_ok(record_adopt_restored(&r, &changed, &err));
    before.version = r.version;
    before.published.epoch = r.published.epoch;
    before.restored.counter_low = r.restored.counter_low;
    assert_memory_equal(&r, &before, sizeof(r));
}

static void its_deletion_ends_it(void **state)
{
    struct record r = restored(RECORD_DELETING);
    struct error err = ERROR_INIT;
    bool changed = false;

    (void)state;
    assert_true(r.restored.is_set);
    assert_ok(record_finish_delete(&r, &fixture_not_kept, &changed, &err));
    assert_false(r.restored.is_set);
    assert_ok(record_check(&r, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_moves_is_believed),
        cmocka_unit_test(its_numbers_go_on_where_none_was_before),
        cmocka_unit_test(a_clock_before_the_record_is_refused),
        cmocka_unit_test(a_second_backup_before_the_adoption_knows_the_first_counter),
        cmocka_unit_test(a_format_begins_anew_and_counts_from_where_it_was),
        cmocka_unit_test(an_erased_record_stays_so),
        cmocka_unit_test(until_it_is_adopted_it_is_refused_with_the_command),
        cmocka_unit_test(an_opening_makes_it_a_record_like_any_other),
        cmocka_unit_test(a_stage_that_failed_says_nothing_about_the_end),
        cmocka_unit_test(a_copy_of_it_accepts_what_the_disk_may_hold),
        cmocka_unit_test(a_snapshot_is_as_it_was),
        cmocka_unit_test(its_deletion_ends_it),
    };

    return RUN_TESTS(tests);
}
