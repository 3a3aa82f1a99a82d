/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

static const char *a, *b;
static char *one, *other; /* the snapshots of the last group */

static void make_sources(void)
{
    a = scene_create("a", 64 * MIB);
    b = scene_create("b", 96 * MIB);
    scene_was_used(a);
    scene_was_used(b);
    f->n_log = 0;
}

static int set_up(void **state)
{
    (void)scene_set_up(state);
    make_sources();
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
    assert_contains(err.text,
                    "group group-g: it is kept at the driver for the next call (ABORTED)");
    assert_contains(err.text, "it could not be removed (");
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

    f->fault =
        (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot", .code = ERROR_FAILED_PRECONDITION };
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete_group("group-g", one, other));
    f->fault.at = NULL;
    assert_int_equal(fake_count(f, "CancelDelete"), 2);
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_group("group-g", one, s));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_group("group-g", one, a));
    assert_contains(err.text, other);
    assert_int_equal(fake_count(f, "BeginDelete"), 2);
    fake_upstream_check(u);
}

static bool delete_three(const char *third)
{
    Csi__V1__DeleteVolumeGroupSnapshotRequest request =
        CSI__V1__DELETE_VOLUME_GROUP_SNAPSHOT_REQUEST__INIT;
    char *ids[] = { one, other, (char *)(uintptr_t)third };
    static char name[] = "group-g";

    request.group_snapshot_id = name;
    request.snapshot_ids = ids;
    request.n_snapshot_ids = ARRAY_LEN(ids);
    return group_controller("DeleteVolumeGroupSnapshot", &request);
}

static void snapshot_of_another_group_keeps_its_key(void **state UNUSED)
{
    take_group();
    const char *s = scene_snapshot("s", a);

    assert_refused(ERROR_INVALID_ARGUMENT, delete_three(s));
    assert_contains(err.text, "is not of group group-g");
    assert_contains(err.text, s);
    assert_int_equal(fake_count(f, "BeginDelete"), 0);
    fake_upstream_check(u);
    /* Neither where the group is gone. */
    assert_true(scene_delete_group("group-g", one, other));
    assert_refused(ERROR_INVALID_ARGUMENT, delete_three(s));
    /* An id without a record is none of ours. */
    assert_non_null(scene_group("g", a, b));
    assert_true(delete_three("snap-77"));
    fake_upstream_check(u);
    assert_int_equal(fake_count_snapshots(u), 1);
}

/* Whatever the driver answers in place of a list. */
static void snapshot_that_the_driver_does_not_list_for_an_error_keeps_its_key(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_INVALID_ARGUMENT, ERROR_UNIMPLEMENTED,
                                             ERROR_DENIED, ERROR_INTERNAL, ERROR_UNAVAILABLE };

    take_group();
    const char *s = scene_snapshot("s", a);

    assert_non_null(s);
    assert_true(scene_delete_group("group-g", one, other));
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "ListSnapshots", .code = codes[i] };
        assert_refused(codes[i], delete_three(s));
        assert_contains(err.text, "ListSnapshots failed");
        fake_upstream_check(u);
    }
    f->fault = (struct fake_fault){ .at = "ListSnapshots", .code = ERROR_NOT_FOUND };
    fake_snapshot(u, s)->is_present = false;
    assert_true(delete_three(s));
    fake_upstream_check(u);
}

static void group_that_the_driver_lost_is_forgotten(void **state UNUSED)
{
    take_group();
    u->snapshots[0].is_present = u->snapshots[1].is_present = false;
    assert_true(scene_delete_group("group-g", one, other));
    fake_upstream_check(u);
}

/* Perhaps they exist, and the caller is wrong about the group. */
static void keys_stay_when_the_driver_cannot_say_that_the_snapshots_are_gone(void **state UNUSED)
{
    u->lacks |= 1u << CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS;
    make_sources();
    take_group();
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_group("group-h", one, other));
    assert_int_equal(fake_count(f, "BeginDelete"), 0);
    f->fault = (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot",
                                    .code = ERROR_UNAVAILABLE,
                                    .is_lost = true,
                                    .is_single = true };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    assert_true(scene_delete_group("group-g", one, other));
    fake_upstream_check(u);
}

static void mark_that_fails_leaves_no_other_mark(void **state UNUSED)
{
    take_group();
    f->fault = (struct fake_fault){
        .at = "BeginDelete", .code = ERROR_UNAVAILABLE, .after = 1, .is_single = true
    };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    fake_upstream_check(u);
    f->fault.at = "BeginDelete";
    f->fault.after = 1;
    f->fault.is_lost = true;
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    fake_upstream_check(u);
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 0);
}

/* The driver may be at it. */
static void mark_of_an_earlier_call_stays(void **state UNUSED)
{
    take_group();
    f->fault = (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot",
                                    .code = ERROR_UNAVAILABLE,
                                    .is_single = true };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    f->fault = (struct fake_fault){
        .at = "BeginDelete", .code = ERROR_UNAVAILABLE, .after = 1, .is_single = true
    };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    assert_int_equal(scene_record(one)->phase, RECORD_DELETING);
    assert_int_equal(scene_record(other)->phase, RECORD_DELETING);
    assert_true(scene_delete_group("group-g", one, other));
    fake_upstream_check(u);
}

static void marks_that_cannot_be_taken_back_are_named(void **state UNUSED)
{
    take_group();
    f->fault = (struct fake_fault){ .at = "BeginDelete", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    assert_string_equal(err.text, "BeginDelete failed");
    f->n_log = 0;
    f->fault = (struct fake_fault){ .at = FAKE_ANY, .code = ERROR_UNAVAILABLE, .after = 3 };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    assert_true(CALLED("GetVolumeGroupSnapshot", "BeginDelete", "BeginDelete", "CancelDelete"));
    assert_contains(err.text, "its snapshots stay marked for deletion (CancelDelete failed)");
}

static void group_that_is_being_deleted_is_not_made_again(void **state UNUSED)
{
    take_group();
    f->fault = (struct fake_fault){ .at = "DeleteVolumeGroupSnapshot",
                                    .code = ERROR_UNAVAILABLE,
                                    .is_single = true };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", one, other));
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, "is being deleted; retry");
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 1);
    assert_int_equal(fake_count_snapshots(u), 2);
    assert_true(scene_delete_group("group-g", one, other));
    take_group();
    fake_upstream_check(u);
}

static void deletion_ends_though_the_driver_still_shows_the_group(void **state UNUSED)
{
    take_group();
    const struct fake_snapshot shown[] = { u->snapshots[0], u->snapshots[1] };

    f->fault = (struct fake_fault){ .at = "FinishDelete",
                                    .code = ERROR_UNAVAILABLE,
                                    .after = 1,
                                    .is_lost = true,
                                    .is_single = true };
    assert_refused(ERROR_UNAVAILABLE, scene_delete_group("group-g", shown[0].id, shown[1].id));
    u->snapshots[0] = shown[0];
    u->snapshots[1] = shown[1];
    assert_true(scene_delete_group("group-g", one, other));
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 1);
}

static void nothing_is_left_of_a_group_whose_record_is_refused(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = ERROR_DENIED, .after = 1 };
    assert_refused(ERROR_DENIED, scene_group("g", a, b));
    assert_int_equal(fake_count_snapshots(u), 0);
    fake_upstream_check(u);
}

static void group_is_kept(const char *at, unsigned after, enum error_code code)
{
    f->fault = (struct fake_fault){ .at = at, .code = code, .after = after };
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_contains(err.text, "group group-g: it is kept at the driver for the next call (");
    assert_contains(err.text, error_code_name(code));
    assert_int_equal(fake_count_snapshots(u), 2);
}

static void group_is_kept_for_another_call_when_its_records_may_still_come(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_RESOURCE_EXHAUSTED, ERROR_INTERNAL,
                                             ERROR_UNAUTHENTICATED };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        group_is_kept("GetRecord", 1, codes[i]);
        group_is_kept("CopyRecord", i == 0, codes[i]);
    }
    group_is_kept("GetRecord", 0, ERROR_DENIED);
    group_is_kept("CopyRecord", 0, ERROR_ALREADY_EXISTS);
    assert_int_equal(fake_count(f, "DeleteVolumeGroupSnapshot"), 0);
    f->fault.at = NULL;
    take_group();
    fake_upstream_check(u);
}

static void nothing_is_left_of_a_group_for_which_the_tenant_has_no_room(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CopyRecord",
                                    .code = ERROR_RESOURCE_EXHAUSTED,
                                    .reason = RECORD_LIMIT_REASON,
                                    .after = 1 };
    assert_refused(ERROR_RESOURCE_EXHAUSTED, scene_group("g", a, b));
    assert_int_equal(fake_count_snapshots(u), 0);
    fake_upstream_check(u);
}

/* The last of its records. */
static void group_that_another_controller_recorded_stays(void **state UNUSED)
{
    f->fault = (struct fake_fault){
        .at = "CopyRecord", .code = ERROR_ABORTED, .after = 1, .is_lost = true, .is_single = true
    };
    assert_refused(ERROR_ABORTED, scene_group("g", a, b));
    assert_int_equal(fake_count_snapshots(u), 2);
    fake_upstream_check(u);
    take_group();
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
        TEST(snapshot_of_another_group_keeps_its_key),
        TEST(snapshot_that_the_driver_does_not_list_for_an_error_keeps_its_key),
        TEST(group_that_the_driver_lost_is_forgotten),
        STACKED_TEST(keys_stay_when_the_driver_cannot_say_that_the_snapshots_are_gone),
        TEST(mark_that_fails_leaves_no_other_mark),
        TEST(mark_of_an_earlier_call_stays),
        TEST(marks_that_cannot_be_taken_back_are_named),
        TEST(group_that_is_being_deleted_is_not_made_again),
        TEST(deletion_ends_though_the_driver_still_shows_the_group),
        TEST(nothing_is_left_of_a_group_whose_record_is_refused),
        TEST(group_is_kept_for_another_call_when_its_records_may_still_come),
        TEST(nothing_is_left_of_a_group_for_which_the_tenant_has_no_room),
        TEST(group_that_another_controller_recorded_stays),
        TEST(snapshot_of_a_group_is_not_deleted_alone),
        TEST(capabilities_that_we_do_not_know_are_left_out),
    };

    return RUN_TESTS(tests);
}
