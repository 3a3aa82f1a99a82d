/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

/* --- drivers that answer wrongly --- */

static void id_that_no_record_can_have_is_deleted_again(void **state UNUSED)
{
    char id[VOLUME_ID_MAX + 2];

    scene_long_id(id);
    u->odd_id = id;
    assert_refused(ERROR_INTERNAL, scene_create("a", 64 * MIB));
    assert_string_equal(err.text, FAKE_UPSTREAM_NAME
                        " answers with an id of 256 bytes; 1 to 255 are allowed");
    assert_int_equal(fake_count_disks(u), 0);
    id[VOLUME_ID_MAX] = '\0';
    assert_string_equal(scene_create("a", 64 * MIB), id);
}

static void volume_that_is_too_small_gets_no_record(void **state UNUSED)
{
    u->makes_too_small = true;
    assert_refused(ERROR_INTERNAL, scene_create("a", 64 * MIB));
    assert_contains(err.text, "was asked for at least");
    assert_int_equal(fake_count(f, "CreateRecord"), 0);
    assert_int_equal(fake_count_disks(u), 0);
}

static void volume_with_a_record_stays_when_it_shrinks(void **state UNUSED)
{
    const char *id = scene_create("a", 64 * MIB);

    u->claims_bytes = -5;
    assert_refused(ERROR_ABORTED, scene_create("a", 64 * MIB));
    assert_contains(err.text, "a volume of -5 bytes");
    assert_contains(err.text, "it could not be removed (another call made its record meanwhile)");
    assert_non_null(fake_disk(u, id));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
}

/* --- records that the broker refuses --- */

static void nothing_is_left_of_a_volume_whose_record_is_refused(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_DENIED, ERROR_INVALID_ARGUMENT,
                                             ERROR_FAILED_PRECONDITION, ERROR_OUT_OF_RANGE };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "CreateRecord", .code = codes[i] };
        assert_refused(codes[i], scene_create("a", 64 * MIB));
        assert_contains(err.text, ": CreateRecord failed");
        assert_int_equal(fake_count_disks(u), 0);
    }
    f->fault.at = NULL;
    assert_non_null(scene_create("a", 64 * MIB));
    fake_upstream_check(u);
}

/* At the limit, each claim would otherwise leave a disk behind. */
static void nothing_is_left_of_a_volume_for_which_the_tenant_has_no_room(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CreateRecord",
                                    .code = ERROR_RESOURCE_EXHAUSTED,
                                    .reason = RECORD_LIMIT_REASON };
    assert_refused(ERROR_RESOURCE_EXHAUSTED, scene_create("a", 64 * MIB));
    assert_string_equal(err.reason, RECORD_LIMIT_REASON);
    assert_int_equal(fake_count_disks(u), 0);
    f->fault.is_lost = true; /* another controller was faster */
    assert_refused(ERROR_ABORTED, scene_create("a", 64 * MIB));
    fake_upstream_check(u);
    assert_int_equal(fake_count_disks(u), 1);
}

/* The code after which the caller calls again. */
static enum error_code repeated(enum error_code code)
{
    return stacked_has_decided(&(struct error){ .code = code }, DECIDED_TO_REPEAT) ? code
                                                                                   : ERROR_ABORTED;
}

static void volume_is_kept(const char *at, enum error_code code)
{
    f->fault = (struct fake_fault){ .at = at, .code = code };
    assert_refused(repeated(code), scene_create("a", 64 * MIB));
    assert_contains(err.text, "volume vol-1: it is kept at the driver for the next call (");
    assert_contains(err.text, error_code_name(code));
    assert_contains(err.text, " failed");
    assert_int_equal(fake_count_disks(u), 1);
}

/* After a final code nobody would call again, and nobody else removes the disk. */
static void volume_is_kept_for_another_call_when_the_record_may_still_come(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_UNAVAILABLE,   ERROR_DEADLINE_EXCEEDED,
                                             ERROR_CANCELLED,     ERROR_INTERNAL,
                                             ERROR_DATA_LOSS,     ERROR_RESOURCE_EXHAUSTED,
                                             ERROR_UNIMPLEMENTED, ERROR_UNAUTHENTICATED };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        volume_is_kept("CreateRecord", codes[i]);
        volume_is_kept("GetRecord", codes[i]);
    }
    volume_is_kept("GetRecord", ERROR_DENIED);
    volume_is_kept("GetRecord", ERROR_INVALID_ARGUMENT);
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    f->fault.at = NULL;
    assert_non_null(scene_create("a", 64 * MIB));
    fake_upstream_check(u);
    assert_int_equal(fake_count_disks(u), 1);
}

static void volume_of_another_record_already_exists(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CreateRecord", .code = ERROR_ALREADY_EXISTS };
    assert_refused(ERROR_ALREADY_EXISTS, scene_create("a", 64 * MIB));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
}

/* Another controller made the record, after this one had looked for it. */
static void volume_whose_record_another_controller_made_stays(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_DENIED, ERROR_INVALID_ARGUMENT, ERROR_ABORTED };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "CreateRecord", .code = codes[i], .is_lost = true };
        assert_refused(ERROR_ABORTED, scene_create("a", 64 * MIB));
        assert_contains(err.text,
                        "it could not be removed (another call made its record meanwhile)");
        fake_upstream_check(u);
        f->fault.at = NULL;
        assert_true(scene_delete(fake_disk_named(u, "a")->id));
    }
    assert_int_equal(fake_count(f, "DeleteVolume"), ARRAY_LEN(codes));
}

static void volume_stays_when_nobody_can_tell_whether_it_has_a_record(void **state UNUSED)
{
    assert_non_null(scene_create("a", 64 * MIB));
    f->n_log = 0;
    f->fault = (struct fake_fault){ .at = FAKE_ANY, .code = ERROR_DENIED, .after = 2 };
    assert_refused(ERROR_ABORTED, scene_create("b", 64 * MIB));
    assert_true(CALLED("CreateVolume", "GetRecord", "CreateRecord", "GetRecord"));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    assert_contains(err.text, "it could not be removed (GetRecord failed)");
    assert_non_null(fake_disk_named(u, "b"));
}

/* As above, but for a copy. */
static void copy_whose_record_another_controller_made_stays(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = ERROR_ABORTED, .is_lost = true };
    assert_refused(ERROR_ABORTED, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    f->fault.at = NULL;
    assert_string_equal(scene_create_from("c", 64 * MIB, RECORD_VOLUME, a),
                        fake_disk_named(u, "c")->id);
    fake_upstream_check(u);
}

/* --- copies --- */

static void source_changes(const char *method)
{
    if (strcmp(method, "CreateVolume") == 0)
        fake_record(f, "vol-1")->record.version++;
}

static void source_goes(const char *method)
{
    if (strcmp(method, "CreateVolume") == 0)
        fake_record(f, "vol-1")->is_present = false;
}

static void copy_of_a_source_that_changed_meanwhile_is_made_again(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    u->served = source_changes;
    assert_refused(ERROR_ABORTED, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_int_equal(fake_count_disks(u), 1);
    u->served = NULL;
    assert_non_null(scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    fake_upstream_check(u);
}

static void copy_that_cannot_be_removed_is_named(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    u->served = source_changes;
    f->fault = (struct fake_fault){ .at = "DeleteVolume", .code = ERROR_INTERNAL };
    assert_refused(ERROR_ABORTED, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_contains(err.text, "vol-2");
    assert_contains(err.text, "DeleteVolume failed");
}

static void copy_whose_end_is_not_noted_is_asked_for_again(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    f->fault =
        (struct fake_fault){ .at = "CopyRecord", .code = ERROR_UNAVAILABLE, .is_lost = true };
    assert_refused(ERROR_UNAVAILABLE, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    f->fault = (struct fake_fault){ .at = "EndCopy", .code = ERROR_INTERNAL };
    assert_refused(ERROR_ABORTED, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    f->fault.at = NULL;
    assert_non_null(scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    fake_upstream_check(u);
}

static void nothing_is_left_of_a_copy_whose_source_went(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    u->served = source_goes;
    assert_refused(ERROR_NOT_FOUND, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_null(fake_disk_named(u, "c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(id_that_no_record_can_have_is_deleted_again),
        STACKED_TEST(volume_that_is_too_small_gets_no_record),
        STACKED_TEST(volume_with_a_record_stays_when_it_shrinks),
        STACKED_TEST(nothing_is_left_of_a_volume_whose_record_is_refused),
        STACKED_TEST(nothing_is_left_of_a_volume_for_which_the_tenant_has_no_room),
        STACKED_TEST(volume_is_kept_for_another_call_when_the_record_may_still_come),
        STACKED_TEST(volume_of_another_record_already_exists),
        STACKED_TEST(volume_whose_record_another_controller_made_stays),
        STACKED_TEST(volume_stays_when_nobody_can_tell_whether_it_has_a_record),
        STACKED_TEST(copy_whose_record_another_controller_made_stays),
        STACKED_TEST(copy_of_a_source_that_changed_meanwhile_is_made_again),
        STACKED_TEST(copy_that_cannot_be_removed_is_named),
        STACKED_TEST(copy_whose_end_is_not_noted_is_asked_for_again),
        STACKED_TEST(nothing_is_left_of_a_copy_whose_source_went),
    };

    return RUN_TESTS(tests);
}
