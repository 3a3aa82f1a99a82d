/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "record/check.h"
#include "tests/unit/broker/fixture.h"

/* What a record remembers of secrets that it has no more. */

static const struct record_destruction how = {
    .by = "admin", .replica = "a", .now_ms = NOW, .backup_ms = 5, .wrapping = 3, .is_shared = true
};

static struct record erased(const struct record *before)
{
    struct record next = *before;
    struct error err = ERROR_INIT;
    bool changed = false;

    next.phase = RECORD_DELETING;
    assert_ok(record_finish_delete(&next, &fixture_not_kept, &changed, &err));
    next.version++;
    return next;
}

static void an_erased_record_says_what_it_lost(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next;
    struct error err = ERROR_INIT;

    before.recovery.sha256[0] = 1;
    next = erased(&before);
    assert_true(record_loses_secret(&before, &next));
    record_note_destroyed(&next, &before, &how);
    assert_int_equal(next.n_destroyed, 1);
    const struct record_destroyed *lost = &next.destroyed[0];

    assert_memory_equal(&lost->key, &before.key, sizeof(lost->key));
    assert_int_equal(lost->made_ms, before.created_ms);
    assert_int_equal(lost->destroyed_ms, NOW);
    assert_int_equal(lost->backup_ms, 5);
    assert_int_equal(lost->wrapping, 3);
    assert_true(lost->is_shared && lost->has_recovery);
    assert_string_equal(lost->by, "admin");
    assert_string_equal(lost->replica, "a");
    assert_int_equal(lost->audit_seq, 0);
    record_note_line(&next, 17);
    record_note_line(&next, 18); /* of another change */
    assert_int_equal(next.destroyed[0].audit_seq, 17);
    assert_ok(record_check(&next, &err));
}

static void a_copys_secret_is_older_than_the_copy(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next;

    before.source_volume_id[0] = 's';
    next = erased(&before);
    record_note_destroyed(&next, &before, &how);
    assert_int_equal(next.destroyed[0].made_ms, 0);
    assert_false(next.destroyed[0].has_recovery);
}

static void a_next_secret_is_lost_as_well(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next;

    before.rotation = (struct record_rotation){ .key = { .id = { 7 }, .generation = 2 },
                                                .recovery_sha256 = { 1 },
                                                .secret_len = 60 };
    next = erased(&before);
    record_note_destroyed(&next, &before, &how);
    assert_int_equal(next.n_destroyed, 2);
    assert_int_equal(next.destroyed[1].key.generation, 2);
    assert_false(next.destroyed[1].is_shared); /* only this record ever had it */
    assert_true(next.destroyed[1].has_recovery && !next.destroyed[0].has_recovery);
}

static void a_rotation_loses_the_former_secret_alone(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next;

    before.rotation.key = (struct record_key){ .id = { 7 }, .generation = 2 };
    next = before;
    next.key = before.rotation.key;
    next.rotation = (struct record_rotation){ .has_header = false };
    assert_true(record_loses_secret(&before, &next));
    record_note_destroyed(&next, &before, &how);
    assert_int_equal(next.n_destroyed, 1);
    assert_int_equal(next.destroyed[0].key.generation, 1);
}

static void other_changes_lose_nothing(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next = before;

    next.open_counter++;
    assert_false(record_loses_secret(&before, &next));
    record_note_destroyed(&next, &before, &how);
    next.rotation.key = (struct record_key){ .id = { 7 }, .generation = 2 }; /* begins */
    assert_false(record_loses_secret(&before, &next));
    record_note_destroyed(&next, &before, &how);
    before = (struct record){ .version = 0, .key = { .generation = 1 } }; /* is not there */
    assert_false(record_loses_secret(&before, &next));
    assert_int_equal(next.n_destroyed, 0);
}

static void the_last_ones_stay_and_the_others_are_counted(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next = before;
    struct error err = ERROR_INIT;

    for (uint32_t i = 1; i <= DESTROYED_MAX + 2; i++) {
        next.key = (struct record_key){ .id = { 7 }, .generation = i + 1 };
        record_note_destroyed(&next, &before, &how);
        record_note_line(&next, 10 + i);
        assert_ok(record_check(&next, &err));
        before = next;
    }
    assert_int_equal(next.n_destroyed, DESTROYED_MAX);
    assert_int_equal(next.destroyed_before, 2);
    for (uint32_t i = 0; i < DESTROYED_MAX; i++) {
        assert_int_equal(next.destroyed[i].key.generation, i + 3);
        assert_int_equal(next.destroyed[i].audit_seq, i + 13);
    }
}

/* Otherwise nobody could read the record any more. */
static void no_name_breaks_the_records_encoding(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next = erased(&before);
    struct record_destruction other = how;

    other.by =
        "\x1b[31m\xff\xc3\xa4wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww";
    other.replica = NULL;
    record_note_destroyed(&next, &before, &other);
    assert_int_equal(strlen(next.destroyed[0].by), DESTROYED_BY_MAX);
    assert_memory_equal(next.destroyed[0].by, "?[31m???w", 9);
    assert_string_equal(next.destroyed[0].replica, "");
}

static void a_new_volume_of_the_same_id_remembers_them(void **state UNUSED)
{
    struct record before = fixture_record(RECORD_READY), next = erased(&before);
    struct volume_spec spec = fixture_spec();
    struct error err = ERROR_INIT;
    bool changed = false;

    record_note_destroyed(&next, &before, &how);
    assert_ok(record_create(&next, &spec, &fixture_fresh, &changed, &err));
    assert_true(changed && next.n_destroyed == 1);
    assert_ok(record_restore(&next, 1ull << 40, &err));
    assert_int_equal(next.n_destroyed, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_erased_record_says_what_it_lost),
        cmocka_unit_test(a_copys_secret_is_older_than_the_copy),
        cmocka_unit_test(a_next_secret_is_lost_as_well),
        cmocka_unit_test(a_rotation_loses_the_former_secret_alone),
        cmocka_unit_test(other_changes_lose_nothing),
        cmocka_unit_test(the_last_ones_stay_and_the_others_are_counted),
        cmocka_unit_test(no_name_breaks_the_records_encoding),
        cmocka_unit_test(a_new_volume_of_the_same_id_remembers_them),
    };

    return RUN_TESTS(tests);
}
