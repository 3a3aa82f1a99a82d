/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

#include <stdio.h>

/* Answers of the driver of which no records can be made. test_stacked_group.c has the rest of a group's
 * life. */

static char a[] = "vol-1", b[] = "vol-2", foreign[] = "vol-77", standalone[256];

static int set_up(void **state)
{
    (void)scene_set_up(state);
    assert_string_equal(scene_create("a", 64 * MIB), a);
    assert_string_equal(scene_create("b", 96 * MIB), b);
    scene_was_used(a);
    scene_was_used(b);
    f->n_log = 0;
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, scene_tear_down)

static size_t count_begun_copies(void)
{
    size_t n = 0;

    for (size_t i = 0; i < FAKE_MAX; i++)
        n += f->copying[i].version > 0;
    return n;
}

static void expect_refused_and_nothing_left(const char *why)
{
    assert_refused(ERROR_INTERNAL, scene_group("g", a, b));
    assert_contains(err.text, "group group-g: " FAKE_UPSTREAM_NAME " answers ");
    assert_contains(err.text, why);
    assert_int_equal(fake_count_snapshots(u), 0);
    assert_int_equal(count_begun_copies(), 0);
    assert_int_equal(fake_count(f, "CopyRecord"), 0);
    fake_upstream_check(u);
}

static void nothing_is_left_of_a_group_with_an_id_that_no_record_can_have(void **state UNUSED)
{
    static char id[VOLUME_ID_MAX + 2];

    scene_long_id(id);
    u->odd_id = id;
    expect_refused_and_nothing_left("an id of 256 bytes");
    u->odd_id = NULL;
    assert_non_null(scene_group("g", a, b));
    fake_upstream_check(u);
}

static void name_a_foreign_source(Csi__V1__VolumeGroupSnapshot *group)
{
    group->snapshots[1]->source_volume_id = foreign;
}

static void leave_one_out(Csi__V1__VolumeGroupSnapshot *group)
{
    group->n_snapshots = 1;
}

static void name_one_source_twice(Csi__V1__VolumeGroupSnapshot *group)
{
    group->snapshots[1]->source_volume_id = a;
}

static void name_one_snapshot_twice(Csi__V1__VolumeGroupSnapshot *group)
{
    group->snapshots[1]->snapshot_id = group->snapshots[0]->snapshot_id;
}

static void add_a_snapshot(Csi__V1__VolumeGroupSnapshot *group)
{
    group->snapshots[group->n_snapshots++] = group->snapshots[0];
}

static void nothing_is_left_of_a_group_without_one_snapshot_of_each_volume(void **state UNUSED)
{
    static const struct {
        void (*distort)(Csi__V1__VolumeGroupSnapshot *group);
        const char *why;
    } rows[] = {
        { name_a_foreign_source, "answers with a snapshot of volume vol-77" },
        { leave_one_out, "answers with 0 snapshots of volume vol-2" },
        { name_one_source_twice, "answers with 2 snapshots of volume vol-1" },
        { name_one_snapshot_twice, "answers twice with snapshot snap-" },
        { add_a_snapshot, "answers with 3 snapshots of 2 volumes" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        u->distort_group = rows[i].distort;
        expect_refused_and_nothing_left(rows[i].why);
    }
    u->distort_group = NULL;
    assert_non_null(scene_group("g", a, b));
    fake_upstream_check(u);
}

static void refused_group_that_cannot_be_removed_is_kept_for_another_call(void **state UNUSED)
{
    u->distort_group = leave_one_out;
    f->fault = (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot", .code = ERROR_DENIED };
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text,
                    "group group-g: it is kept at the driver for the next call (INTERNAL)");
    assert_contains(err.text, "it could not be removed (" FAKE_UPSTREAM_NAME
                              ": DeleteVolumeGroupSnapshot failed)");
    f->fault.at = NULL;
    u->distort_group = NULL;
    assert_non_null(scene_group("g", a, b));
    fake_upstream_check(u);
}

static void name_another_snapshot(Csi__V1__VolumeGroupSnapshot *group)
{
    group->snapshots[1]->source_volume_id = foreign;
    group->snapshots[1]->snapshot_id = standalone;
}

static void snapshot_with_a_record_stays_when_a_refused_group_names_it(void **state UNUSED)
{
    (void)snprintf(standalone, sizeof(standalone), "%s", scene_snapshot("s", a));
    u->distort_group = name_another_snapshot;
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, standalone);
    assert_contains(err.text, " has a record");
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 0);
    assert_int_equal(scene_record(standalone)->phase, RECORD_READY);
    assert_non_null(fake_snapshot(u, standalone));
}

/* --- a second controller --- */

static void b_changes(const char *method)
{
    if (strcmp(method, "CreateVolumeGroupSnapshot") == 0)
        fake_record(f, b)->record.version++;
}

/* While this one marks the first snapshot, whose record it made. */
static void another_controller_records_the_rest(struct fake *fake, const char *method)
{
    const struct fake_snapshot *rest = &u->snapshots[1];
    struct fake_record *made = &fake->records[FAKE_MAX - 1];

    if (strcmp(method, "BeginDelete") != 0 || made->is_present)
        return;
    *made = *fake_record(fake, u->snapshots[0].id);
    made->record.spec = fake_record(fake, b)->record.spec;
    (void)snprintf(made->id, sizeof(made->id), "%.255s", rest->id);
    (void)snprintf(made->record.volume_id, sizeof(made->record.volume_id), "%.255s", rest->id);
    (void)snprintf(made->record.source_volume_id, sizeof(made->record.source_volume_id), "%s", b);
}

static void group_that_gets_its_records_meanwhile_stays(void **state UNUSED)
{
    u->served = b_changes;
    f->asked = another_controller_records_the_rest;
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, "another call made a record of its snapshots meanwhile");
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 0);
    assert_int_equal(fake_count_snapshots(u), 2);
    fake_upstream_check(u); /* none is marked */
    u->served = NULL;
    assert_non_null(scene_group("g", a, b));
}

static void marks_go_when_nobody_can_tell_whether_there_are_more_records(void **state UNUSED)
{
    u->served = b_changes;
    f->fault = (struct fake_fault){
        .at = "ListRecords", .code = ERROR_INTERNAL, .after = 1, .is_single = true
    };
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, "it could not be removed (ListRecords failed)");
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 0);
    assert_int_equal(fake_count(f, "CancelDelete"), 1);
    u->served = NULL;
    assert_refused(ERROR_ABORTED, scene_group("g", a, b)); /* b has changed */
    assert_non_null(scene_group("g", a, b));
    fake_upstream_check(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_left_of_a_group_with_an_id_that_no_record_can_have),
        TEST(nothing_is_left_of_a_group_without_one_snapshot_of_each_volume),
        TEST(refused_group_that_cannot_be_removed_is_kept_for_another_call),
        TEST(snapshot_with_a_record_stays_when_a_refused_group_names_it),
        TEST(group_that_gets_its_records_meanwhile_stays),
        TEST(marks_go_when_nobody_can_tell_whether_there_are_more_records),
    };

    return RUN_TESTS(tests);
}
