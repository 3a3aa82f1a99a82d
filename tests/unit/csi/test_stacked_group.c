/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

static const char *a, *b;
static char *one, *other; /* the snapshots of the last group */

static int set_up(void **state)
{
    (void)scene_set_up(state);
    a = scene_create("a", 64 * MIB);
    b = scene_create("b", 96 * MIB);
    scene_was_used(a);
    scene_was_used(b);
    f->n_log = 0;
    return 0;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, scene_tear_down)

static void take_group(void)
{
    assert_non_null(scene_group("g", a, b));
    assert_int_equal(fake_count_snapshots(u), 2);
    one = u->snapshots[0].id;
    other = u->snapshots[1].id;
}

static Csi__V1__VolumeGroupSnapshot *get(const char *id)
{
    Csi__V1__GetVolumeGroupSnapshotRequest request =
        CSI__V1__GET_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;

    request.group_snapshot_id = (char *)(uintptr_t)id;
    const Csi__V1__GetVolumeGroupSnapshotResponse *response =
        group_controller("GetVolumeGroupSnapshot", &request);

    return response ? response->group_snapshot : NULL;
}

static int64_t shown_bytes(const char *id, size_t i)
{
    const Csi__V1__VolumeGroupSnapshot *group = get(id);

    return group && i < group->n_snapshots ? group->snapshots[i]->size_bytes : 0;
}

static void each_snapshot_has_a_record(void **state UNUSED)
{
    take_group();
    fake_upstream_check(u);
    assert_string_equal(scene_record(one)->source_volume_id, a);
    assert_string_equal(scene_record(other)->source_volume_id, b);
    assert_int_equal(shown_bytes("group-g", 0), 64 * MIB);
    assert_int_equal(shown_bytes("group-g", 1), 96 * MIB);
    assert_non_null(scene_create_from("c", 96 * MIB, RECORD_SNAPSHOT, other));
}

static void repeated_call_gives_the_same_group(void **state UNUSED)
{
    take_group();
    scene_was_used(a);
    assert_non_null(scene_group("g", a, b));
    assert_int_equal(fake_count(f, "CopyRecord"), 2);
    assert_int_equal(fake_count_snapshots(u), 2);
}

static void group_of_what_has_no_record_is_refused(void **state UNUSED)
{
    Csi__V1__CreateVolumeGroupSnapshotRequest request =
        CSI__V1__CREATE_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    static char name[] = "g";

    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_FAILED_PRECONDITION, scene_group("g", a, "vol-x"));
    assert_refused(ERROR_NOT_FOUND, scene_group("g", a, "vol-9"));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_group("", a, b));
    request.name = name;
    assert_refused(ERROR_INVALID_ARGUMENT, group_controller("CreateVolumeGroupSnapshot", &request));
    assert_int_equal(fake_count(f, "CreateVolumeGroupSnapshot"), 0);
}

static void source_changes(const char *method)
{
    if (strcmp(method, "CreateVolumeGroupSnapshot") == 0)
        fake_record(f, b)->record.version++;
}

/* The first snapshot had its record already. */
static void group_with_a_source_that_changed_meanwhile_is_taken_again(void **state UNUSED)
{
    u->served = source_changes;
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_int_equal(fake_count_snapshots(u), 0);
    fake_upstream_check(u);
    u->served = NULL;
    take_group();
    fake_upstream_check(u);
}

static void group_that_cannot_be_removed_is_removed_at_the_next_call(void **state UNUSED)
{
    u->served = source_changes;
    f->fault = (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, "group group-g could not be removed");
    u->served = NULL;
    f->fault.at = NULL;
    assert_refused(ERROR_ABORTED, scene_group("g", a, b)); /* one of its records is marked */
    take_group();
    fake_upstream_check(u);
}

static void group_goes_with_its_records(void **state UNUSED)
{
    take_group();
    assert_true(scene_delete_group("group-g", one, other));
    assert_true(CALLED("BeginDelete", "BeginDelete", "DeleteVolumeGroupSnapshot", "FinishDelete",
                       "FinishDelete"));
    fake_upstream_check(u);
    assert_int_equal(fake_count_snapshots(u), 0);
    assert_true(scene_delete_group("group-g", one, other));
}

static void group_that_nobody_made_through_us_stays(void **state UNUSED)
{
    take_group();
    fake_record(f, one)->is_present = fake_record(f, other)->is_present = false;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete_group("group-g", one, other));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " has group group-g");
    assert_int_equal(fake_count_snapshots(u), 2);
    assert_refused(ERROR_FAILED_PRECONDITION, get("group-g"));
}

/* Neither does a wrong id of the caller mark what is no snapshot, nor does a refusal leave marks. */
static void refused_deletion_leaves_all_as_it_was(void **state UNUSED)
{
    take_group();
    const char *s = scene_snapshot("s", a);

    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_group("group-g", one, s));
    assert_int_equal(scene_record(s)->phase, RECORD_READY);
    assert_int_equal(scene_record(one)->phase, RECORD_READY);
    assert_true(scene_delete_group("group-g", one, a));
    assert_int_equal(scene_record(a)->phase, RECORD_READY);
}

static void snapshot_of_a_group_is_not_deleted_alone(void **state UNUSED)
{
    take_group();
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_snapshot(one));
    assert_int_equal(scene_record(one)->phase, RECORD_READY);
    fake_upstream_check(u);
}

static void capabilities_that_we_do_not_know_are_left_out(void **state UNUSED)
{
    const Csi__V1__GroupControllerGetCapabilitiesRequest request =
        CSI__V1__GROUP_CONTROLLER_GET_CAPABILITIES_REQUEST__INIT;
    const Csi__V1__GroupControllerGetCapabilitiesResponse *response =
        group_controller("GroupControllerGetCapabilities", &request);

    assert_non_null(response);
    assert_int_equal(response->n_capabilities, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_snapshot_has_a_record),
        TEST(repeated_call_gives_the_same_group),
        TEST(group_of_what_has_no_record_is_refused),
        TEST(group_with_a_source_that_changed_meanwhile_is_taken_again),
        TEST(group_that_cannot_be_removed_is_removed_at_the_next_call),
        TEST(group_goes_with_its_records),
        TEST(group_that_nobody_made_through_us_stays),
        TEST(refused_deletion_leaves_all_as_it_was),
        TEST(snapshot_of_a_group_is_not_deleted_alone),
        TEST(capabilities_that_we_do_not_know_are_left_out),
    };

    return RUN_TESTS(tests);
}
