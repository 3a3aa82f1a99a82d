/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"
#include "upstream/quirks.h"

static void record_is_marked_before_the_driver_deletes_and_its_key_goes_last(void **state UNUSED)
{
    const char *id = scene_create("a", 64 * MIB);

    assert_true(scene_delete(id));
    assert_true(CALLED("BeginDelete", "DeleteVolume", "FinishDelete"));
    assert_int_equal(fake_count_disks(u), 0);
    assert_null(fake_record(f, id));
}

static void unknown_id_is_deleted_already(void **state UNUSED)
{
    assert_true(scene_delete("vol-9"));
    assert_true(scene_delete_snapshot("snap-9"));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete(""));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_delete_snapshot(""));
}

static void disk_that_nobody_made_through_us_stays(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete("vol-x"));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " has vol-x");
    assert_contains(err.text, "tdvolctl volume adopt vol-x");
    assert_non_null(fake_disk(u, "vol-x"));
}

static void snapshot_that_nobody_made_through_us_stays(void **state UNUSED)
{
    const char *id = scene_snapshot("s", scene_create("a", 64 * MIB));

    fake_record(f, id)->is_present = false;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete_snapshot(id));
    assert_non_null(fake_snapshot(u, id));
}

/* What is at the other id is neither deleted nor marked. */
static void id_of_the_other_kind_is_not_deleted(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB), *s = scene_snapshot("s", a);

    assert_true(scene_delete_snapshot(a));
    assert_true(scene_delete(s));
    assert_int_equal(fake_count(f, "BeginDelete"), 0);
    fake_upstream_check(u);
}

static void question_that_fails_deletes_nothing(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    f->fault = (struct fake_fault){ .at = "ValidateVolumeCapabilities", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_delete("vol-x"));
    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_delete("vol-x"));
    assert_non_null(fake_disk(u, "vol-x"));
}

/* The deletion of a volume must end also where the driver cannot be asked whether it exists. */
static void what_cannot_be_asked_for_is_deleted_already(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    f->fault =
        (struct fake_fault){ .at = "ValidateVolumeCapabilities", .code = ERROR_UNIMPLEMENTED };
    assert_true(scene_delete("vol-x"));
    f->fault =
        (struct fake_fault){ .at = "ValidateVolumeCapabilities", .code = ERROR_INVALID_ARGUMENT };
    assert_true(scene_delete("vol-x"));
    f->fault = (struct fake_fault){ .at = "ListSnapshots", .code = ERROR_UNIMPLEMENTED };
    assert_true(scene_delete_snapshot("snap-x"));
    assert_non_null(fake_disk(u, "vol-x"));
}

static void blind_driver_is_not_believed(void **state UNUSED)
{
    u->validates_blindly = true;
    u->driver_name = "rbd.csi.ceph.com";
    assert_true(quirks_of(u->driver_name)->validates_blindly);
    fake_foreign_disk(u, "vol-x", GIB);
    assert_non_null(scene_create("a", 64 * MIB)); /* it has said its name */
    assert_true(scene_delete("vol-9"));
    assert_true(scene_delete("vol-x"));
    assert_non_null(fake_disk(u, "vol-x"));
    assert_refused(ERROR_NOT_FOUND, scene_publish("vol-9", N1, false));
}

/* The name is not known before the first call: the quirk must count in that call, too. */
static void blind_driver_is_not_believed_at_the_first_call(void **state UNUSED)
{
    u->validates_blindly = true;
    u->driver_name = "rbd.csi.ceph.com";
    assert_true(scene_delete("vol-9"));
}

static void nobody_knows_what_exists_before_the_driver_has_said_its_name(void **state UNUSED)
{
    u->validates_blindly = true;
    u->driver_name = "rbd.csi.ceph.com";
    f->fault = (struct fake_fault){ .at = "GetPluginInfo", .code = ERROR_INTERNAL };
    assert_refused(ERROR_INTERNAL, scene_delete("vol-9"));
    f->fault.is_single = true;
    assert_true(scene_delete("vol-9"));
}

static void refusal_of_the_driver_leaves_the_volume_as_it_was(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    assert_non_null(scene_snapshot("s", a));
    u->deletes_no_source = true;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_delete(a));
    assert_string_equal(err.text, FAKE_UPSTREAM_NAME ": vol-1 has snapshots");
    assert_int_equal(scene_record(a)->phase, RECORD_READY);
    assert_true(CALLED("BeginDelete", "DeleteVolume", "CancelDelete"));
    fake_upstream_check(u);
}

static void unclear_failure_keeps_the_mark(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    f->fault = (struct fake_fault){ .at = "DeleteVolume", .code = ERROR_INTERNAL };
    assert_refused(ERROR_INTERNAL, scene_delete(a));
    assert_int_equal(scene_record(a)->phase, RECORD_DELETING);
    assert_int_equal(fake_count(f, "CancelDelete"), 0);
    f->fault.at = NULL;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_publish(a, N1, false));
    assert_false(fake_is_attached(fake_disk(u, a), "i-1"));
    assert_true(scene_delete(a));
    fake_upstream_check(u);
}

static void volume_that_the_driver_lost_is_forgotten(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    fake_disk(u, a)->is_present = false;
    assert_true(scene_delete(a));
    assert_null(fake_record(f, a));
}

/* --- the answer to the last step gets lost --- */

static void lose_answer(void)
{
    f->fault = (struct fake_fault){
        .at = "FinishDelete", .code = ERROR_UNAVAILABLE, .is_lost = true, .is_single = true
    };
}

static void deletion_ends_though_the_driver_says_yes_for_any_id(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    u->validates_blindly = true; /* and is not known for it */
    lose_answer();
    assert_refused(ERROR_UNAVAILABLE, scene_delete(a));
    assert_true(scene_delete(a));
    assert_refused(ERROR_FAILED_PRECONDITION,
                   scene_delete("vol-9")); /* as its word is all there is */
}

static void deletion_ends_though_the_driver_is_slow(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB), *b = scene_create("b", 64 * MIB);
    const char *s = scene_snapshot("s", b);

    lose_answer();
    assert_refused(ERROR_UNAVAILABLE, scene_delete(a));
    fake_foreign_disk(u, a, 64 * MIB); /* it still shows the volume */
    assert_true(scene_delete(a));
    lose_answer();
    const struct fake_snapshot shown = *fake_snapshot(u, s);

    assert_refused(ERROR_UNAVAILABLE, scene_delete_snapshot(s));
    u->snapshots[0] = shown;
    assert_true(scene_delete_snapshot(s));
    assert_int_equal(fake_count(f, "DeleteVolume"), 1);
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 1);
}

static void snapshots_outlive_their_volume(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    const char *s = scene_snapshot("s", a);

    assert_true(scene_delete(a));
    assert_non_null(scene_create_from("b", 64 * MIB, RECORD_SNAPSHOT, s));
    assert_true(scene_delete_snapshot(s));
    fake_upstream_check(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(record_is_marked_before_the_driver_deletes_and_its_key_goes_last),
        STACKED_TEST(unknown_id_is_deleted_already),
        STACKED_TEST(disk_that_nobody_made_through_us_stays),
        STACKED_TEST(snapshot_that_nobody_made_through_us_stays),
        STACKED_TEST(id_of_the_other_kind_is_not_deleted),
        STACKED_TEST(question_that_fails_deletes_nothing),
        STACKED_TEST(what_cannot_be_asked_for_is_deleted_already),
        STACKED_TEST(blind_driver_is_not_believed),
        STACKED_TEST(blind_driver_is_not_believed_at_the_first_call),
        STACKED_TEST(nobody_knows_what_exists_before_the_driver_has_said_its_name),
        STACKED_TEST(refusal_of_the_driver_leaves_the_volume_as_it_was),
        STACKED_TEST(unclear_failure_keeps_the_mark),
        STACKED_TEST(volume_that_the_driver_lost_is_forgotten),
        STACKED_TEST(deletion_ends_though_the_driver_says_yes_for_any_id),
        STACKED_TEST(deletion_ends_though_the_driver_is_slow),
        STACKED_TEST(snapshots_outlive_their_volume),
    };

    return RUN_TESTS(tests);
}
