/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "tests/unit/broker/fixture.h"

/* Deleted records whose keys are kept. */

static const struct record_keeping keeping = {
    .for_ms = 5000, .clock_ms = 300, .now_ms = NOW, .by = "admin\n"
};

static struct record retained(void)
{
    struct record r = fixture_record(RECORD_DELETING);
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_ok(record_finish_delete(&r, &keeping, &changed, &err));
    assert_true(changed);
    assert_ok(record_check(&r, &err));
    assert_int_equal(r.phase, RECORD_RETAINED);
    return r;
}

static void a_deleted_record_keeps_all_that_opens_it(void **state UNUSED)
{
    const struct record before = fixture_record(RECORD_READY);
    struct record r = retained();
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_int_equal(r.retained.due_ms, 5300);
    assert_int_equal(r.retained.deleted_ms, NOW);
    assert_string_equal(r.retained.by, "admin?");
    assert_ok(record_undelete(&r, &changed, &err));
    assert_true(changed);
    assert_ok(record_check(&r, &err));
    assert_memory_equal(&r, &before, sizeof(r));
    assert_ok(record_undelete(&r, &changed, &err)); /* the answer was lost */
    assert_false(changed);
    assert_memory_equal(&r, &before, sizeof(r));
}

static void a_record_without_data_is_erased_at_once(void **state UNUSED)
{
    struct record r = fixture_record(RECORD_NEW);
    struct error err = ERROR_INIT;
    bool changed = false;

    r.phase = RECORD_DELETING;
    assert_ok(record_finish_delete(&r, &keeping, &changed, &err));
    assert_int_equal(r.phase, RECORD_ERASED);
    r = fixture_record(RECORD_NEW); /* the disk has the data, under its old header */
    r.phase = RECORD_DELETING;
    r.old_key.is_set = true;
    assert_ok(record_finish_delete(&r, &keeping, &changed, &err));
    assert_int_equal(r.phase, RECORD_RETAINED);
    assert_ok(record_undelete(&r, &changed, &err));
    assert_true(r.phase == RECORD_NEW && r.old_key.is_set);
}

static void a_snapshot_is_kept_as_well(void **state UNUSED)
{
    struct record r = fixture_record(RECORD_DELETING);
    struct error err = ERROR_INIT;
    bool changed = false;

    r.kind = RECORD_SNAPSHOT;
    assert_ok(record_finish_delete(&r, &keeping, &changed, &err));
    assert_int_equal(r.phase, RECORD_RETAINED);
}

static void to_everybody_else_it_is_gone(void **state UNUSED)
{
    const struct record before = retained();
    struct record r = before;
    const struct record_holder holder = fixture_holder("n1", "b1");
    const struct record_open_request open = { .holder = holder, .now_ms = NOW };
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    const struct change_request change = { .change = &closed, .holder = holder };
    const struct publish_request publish = { .node_id = "n1" };
    const struct unpublish_request unpublish = { .node_id = "n1" };
    const struct store_key key = { .key = { .generation = 2 } };
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_refused(ERROR_NOT_FOUND, record_open(&r, &open, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_change(&r, &change, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_renew(&r, &holder, 0, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_take_over(&r, &holder, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_publish(&r, &publish, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_begin_delete(&r, NOW, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_cancel_delete(&r, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_finish_delete(&r, &keeping, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_rotate(&r, &key, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_release_lease(&r, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_check_copyable(&r, &err));
    if (record_unpublish(&r, &unpublish, &changed, &err)) /* as of an erased one */
        assert_false(changed);
    assert_memory_equal(&r, &before, sizeof(r));
}

static void its_id_is_not_free(void **state UNUSED)
{
    const struct record before = retained();
    struct record r = before, source = fixture_record(RECORD_READY);
    const struct volume_spec spec = fixture_spec();
    const struct record_copy_request copy = { .source_version = source.version,
                                              .kind = RECORD_VOLUME,
                                              .name = "pvc-1",
                                              .location = "",
                                              .source_volume_id = source.volume_id };
    const struct record_adopt_request adopt = { .kind = RECORD_VOLUME, .name = "pvc-1" };
    struct error err = ERROR_INIT;
    bool changed = false, fresh = false;

    assert_refused(ERROR_UNAVAILABLE, record_create(&r, &spec, &fixture_fresh, &changed, &err));
    assert_string_equal(err.reason, RETAINED_REASON);
    assert_contains(err.text, "tdvolctl volume undelete v");
    assert_refused(ERROR_UNAVAILABLE,
                   record_copy(&r, &source, &copy, &fixture_fresh, &fresh, &changed, &err));
    assert_refused(ERROR_UNAVAILABLE, record_adopt(&r, &source, &adopt, &fixture_fresh, &err));
    assert_refused(ERROR_UNAVAILABLE, record_check_vacant(&r, &err));
    assert_memory_equal(&r, &before, sizeof(r));
}

static void it_is_due_when_its_time_is_over(void **state UNUSED)
{
    struct record r = retained(), live = fixture_record(RECORD_READY);

    assert_false(record_is_due(&r, 5299));
    assert_true(record_is_due(&r, 5300));
    r.restored.is_set = true;
    assert_false(record_is_due(&r, UINT64_MAX));
    r.restored.is_adopted = true;
    assert_true(record_is_due(&r, 5300));
    assert_false(record_is_due(&live, UINT64_MAX));
}

static void who_erases_it_leaves_nothing(void **state UNUSED)
{
    struct record r = retained(), live = fixture_record(RECORD_READY);
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_ok(record_erase_retained(&r, &changed, &err));
    assert_true(changed);
    assert_ok(record_check(&r, &err));
    assert_true(r.phase == RECORD_ERASED && r.key.generation == 0 && r.n_header_digests == 0 &&
                r.retained.due_ms == 0 && r.retained.by[0] == '\0');
    assert_refused(ERROR_NOT_FOUND, record_erase_retained(&r, &changed, &err));
    assert_refused(ERROR_NOT_FOUND, record_undelete(&r, &changed, &err));
    assert_contains(err.text, "nothing can bring it back");
    assert_refused(ERROR_FAILED_PRECONDITION, record_erase_retained(&live, &changed, &err));
}

static void it_comes_out_of_a_backup_as_it_was_and_unadopted(void **state UNUSED)
{
    struct record r = retained();
    struct error err = ERROR_INIT;
    bool changed = false;

    assert_ok(record_restore(&r, UINT64_C(1) << 40, &err));
    assert_ok(record_check(&r, &err));
    assert_true(r.phase == RECORD_RETAINED && r.restored.is_set && !r.restored.is_adopted);
    assert_int_equal(r.retained.due_ms, 5300);
    assert_ok(record_adopt_restored(&r, &changed, &err));
    assert_ok(record_undelete(&r, &changed, &err));
    assert_true(r.phase == RECORD_READY && r.restored.is_adopted);
    assert_ok(record_check(&r, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_deleted_record_keeps_all_that_opens_it),
        cmocka_unit_test(a_record_without_data_is_erased_at_once),
        cmocka_unit_test(a_snapshot_is_kept_as_well),
        cmocka_unit_test(to_everybody_else_it_is_gone),
        cmocka_unit_test(its_id_is_not_free),
        cmocka_unit_test(it_is_due_when_its_time_is_over),
        cmocka_unit_test(who_erases_it_leaves_nothing),
        cmocka_unit_test(it_comes_out_of_a_backup_as_it_was_and_unadopted),
    };

    return RUN_TESTS(tests);
}
