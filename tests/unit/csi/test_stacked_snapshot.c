/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/stacked_scene.h"

#include <stdio.h>

static Csi__V1__Snapshot *take(const char *name, const char *source)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = (char *)(uintptr_t)name;
    request.source_volume_id = (char *)(uintptr_t)source;
    const Csi__V1__CreateSnapshotResponse *response = controller("CreateSnapshot", &request);

    if (!response)
        fail_msg("CreateSnapshot: %s: %s", error_code_name(err.code), err.text);
    return response->snapshot;
}

static const char *used(const char *name)
{
    const char *id = scene_create(name, 64 * MIB);

    scene_was_used(id);
    return id;
}

static void snapshot_has_its_sources_size_and_key(void **state UNUSED)
{
    const char *a = used("a");
    const Csi__V1__Snapshot *snapshot = take("s", a);
    const struct record *record = scene_record(snapshot->snapshot_id);

    assert_int_equal(snapshot->size_bytes, 64 * MIB);
    assert_string_equal(snapshot->source_volume_id, a);
    assert_true(snapshot->ready_to_use);
    assert_int_equal(record->kind, RECORD_SNAPSHOT);
    assert_string_equal(record->spec.name, "s");
    assert_memory_equal(record->key.id, scene_record(a)->key.id, RECORD_ID_LEN);
    fake_upstream_check(u);
}

static void repeated_call_gives_the_same_snapshot(void **state UNUSED)
{
    const char *a = used("a"), *s = scene_snapshot("s", a);

    scene_was_used(a); /* that the source goes on does not matter any more */
    assert_string_equal(scene_snapshot("s", a), s);
    assert_int_equal(fake_count(f, "CopyRecord"), 1);
    assert_int_equal(fake_count_snapshots(u), 1);
}

static void same_name_of_another_volume_already_exists(void **state UNUSED)
{
    assert_non_null(scene_snapshot("s", used("a")));
    assert_refused(ERROR_ALREADY_EXISTS, scene_snapshot("s", used("b")));
    u->odd_id = "vol-1"; /* the driver answers with the id of a volume of ours */
    assert_refused(ERROR_ALREADY_EXISTS, scene_snapshot("t", "vol-1"));
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
}

static void incomplete_or_foreign_requests_are_refused(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_INVALID_ARGUMENT, scene_snapshot("", "vol-1"));
    assert_refused(ERROR_INVALID_ARGUMENT, scene_snapshot("s", ""));
    assert_refused(ERROR_NOT_FOUND, scene_snapshot("s", "vol-9"));
    assert_refused(ERROR_FAILED_PRECONDITION, scene_snapshot("s", "vol-x"));
    assert_contains(err.text, "source_volume_id: ");
    assert_contains(err.text, "tdvolctl volume adopt vol-x");
    assert_int_equal(fake_count(f, "CreateSnapshot"), 0);
}

static void our_parameters_are_refused_and_the_drivers_go_on(void **state UNUSED)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;
    Csi__V1__CreateSnapshotRequest__ParametersEntry entry =
        CSI__V1__CREATE_SNAPSHOT_REQUEST__PARAMETERS_ENTRY__INIT;
    Csi__V1__CreateSnapshotRequest__ParametersEntry *entries[] = { &entry };
    static char name[] = "s", ours[] = "tdvol.dev/integrity", theirs[] = "type", value[] = "none";

    request.name = name;
    request.source_volume_id = (char *)(uintptr_t)used("a");
    request.parameters = entries;
    request.n_parameters = 1;
    entry.key = ours;
    entry.value = value;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateSnapshot", &request));
    assert_int_equal(fake_count(f, "CreateSnapshot"), 0);
    entry.key = theirs;
    assert_non_null(controller("CreateSnapshot", &request));
}

static void source_changes(const char *method)
{
    if (strcmp(method, "CreateSnapshot") == 0)
        fake_record(f, "vol-1")->record.version++;
}

static void source_goes(const char *method)
{
    if (strcmp(method, "CreateSnapshot") == 0)
        fake_record(f, "vol-1")->is_present = false;
}

static void snapshot_of_a_source_that_changed_meanwhile_is_taken_again(void **state UNUSED)
{
    const char *a = used("a");

    u->served = source_changes;
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
    u->served = NULL;
    assert_non_null(scene_snapshot("s", a));
    fake_upstream_check(u);
}

static void nothing_is_left_of_a_snapshot_whose_source_went(void **state UNUSED)
{
    const char *a = used("a");

    u->served = source_goes;
    assert_refused(ERROR_NOT_FOUND, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
}

static void snapshot_whose_record_failed_is_found_by_its_name(void **state UNUSED)
{
    const char *a = used("a");

    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_snapshot("s", a));
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
    f->fault.at = NULL;
    assert_non_null(scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 1);
    fake_upstream_check(u);
}

/* A plugin that starts anew, or another one, goes on with the copy. */
static void snapshot_of_an_earlier_state_is_not_taken_for_one_of_now(void **state UNUSED)
{
    const char *a = used("a");

    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_snapshot("s", a));
    f->fault.at = NULL;
    fake_record(f, a)->record.version++;
    fake_record(f, a)->record.open_counter++;
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
    assert_non_null(scene_snapshot("s", a));
    fake_upstream_check(u);
}

/* The copy cannot be removed: it is still not taken for one of now. */
static void copy_ends_when_nothing_is_left_of_it(void **state UNUSED)
{
    const char *a = used("a");

    u->served = source_changes;
    f->fault = (struct fake_fault){ .at = "DeleteSnapshot", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_contains(err.text, "could not be removed");
    u->served = NULL;
    f->fault = (struct fake_fault){ .at = "EndCopy", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
    f->fault.at = NULL;
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a)); /* one more than needed */
    assert_non_null(scene_snapshot("s", a));
    fake_upstream_check(u);
}

static unsigned n_gets;

/* After this call found no record. */
static void another_controller_makes_it(struct fake *fake, const char *method)
{
    if (strcmp(method, "GetRecord") != 0 || ++n_gets != 2)
        return;
    struct fake_record *made = &fake->records[FAKE_MAX - 1];

    *made = *fake_record(fake, "vol-1");
    made->record.kind = RECORD_SNAPSHOT;
    (void)snprintf(made->id, sizeof(made->id), "%.255s", u->snapshots[0].id);
    (void)snprintf(made->record.volume_id, sizeof(made->record.volume_id), "%.255s",
                   u->snapshots[0].id);
}

static void snapshot_that_got_a_record_meanwhile_is_not_deleted(void **state UNUSED)
{
    const char *a = used("a");

    n_gets = 0;
    f->asked = another_controller_makes_it;
    u->served = source_changes;
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_contains(err.text, "another call made its record meanwhile");
    assert_int_equal(n_gets, 2);
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
    assert_int_equal(fake_count_snapshots(u), 1);
}

/* Else there is time for another controller. */
static void nothing_is_waited_for_between_the_last_question_and_the_deletion(void **state UNUSED)
{
    const char *a = used("a");

    u->served = source_changes;
    f->n_log = 0;
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
    for (size_t i = 0; i < f->n_log; i++)
        if (strcmp(f->log[i], "DeleteSnapshot") == 0)
            assert_string_equal(f->log[i - 1], "GetRecord");

    fake_upstream_forget(u); /* its name is asked for at each call until it is known */
    f->fault = (struct fake_fault){ .at = "GetPluginInfo", .code = ERROR_UNAVAILABLE };
    f->n_log = 0;
    assert_refused(ERROR_ABORTED, scene_snapshot("t", a));
    assert_contains(err.text,
                    "it could not be removed (/run/below/csi.sock: GetPluginInfo failed)");
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
}

static void wrong_answers_of_the_driver_are_internal_errors(void **state UNUSED)
{
    char id[VOLUME_ID_MAX + 2];
    const char *a = used("a");

    scene_long_id(id);
    u->odd_id = id;
    assert_refused(ERROR_INTERNAL, scene_snapshot("s", a));
    assert_contains(err.text, "an id of 256 bytes");
    assert_int_equal(fake_count_snapshots(u), 0);
    u->odd_id = "";
    assert_refused(ERROR_INTERNAL, scene_snapshot("t", a));
    u->answers_no_volume = true;
    assert_refused(ERROR_INTERNAL, scene_snapshot("v", a));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " answers without a snapshot");
}

static Csi__V1__GetSnapshotResponse *get(const char *id)
{
    Csi__V1__GetSnapshotRequest request = CSI__V1__GET_SNAPSHOT_REQUEST__INIT;

    request.snapshot_id = (char *)(uintptr_t)id;
    return controller("GetSnapshot", &request);
}

static void snapshot_is_shown_in_the_pods_bytes(void **state UNUSED)
{
    const char *s = scene_snapshot("s", used("a"));

    assert_int_equal(get(s)->snapshot->size_bytes, 64 * MIB);
    assert_refused(ERROR_NOT_FOUND, get("snap-9"));
    assert_refused(ERROR_NOT_FOUND, get("vol-1"));
    assert_refused(ERROR_INVALID_ARGUMENT, get(""));
    fake_record(f, s)->is_present = false;
    assert_refused(ERROR_FAILED_PRECONDITION, get(s));
}

static void nothing_is_left_of_a_snapshot_whose_record_is_refused(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_DENIED, ERROR_INVALID_ARGUMENT };
    const char *a = scene_create("a", 64 * MIB);

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "CopyRecord", .code = codes[i] };
        assert_refused(codes[i], scene_snapshot("s", a));
        assert_int_equal(fake_count_snapshots(u), 0);
    }
    f->fault.at = NULL;
    assert_non_null(scene_snapshot("s", a));
    fake_upstream_check(u);
}

static void snapshot_is_kept(const char *at, enum error_code code, const char *source)
{
    f->fault = (struct fake_fault){ .at = at, .code = code };
    assert_refused(ERROR_ABORTED, scene_snapshot("s", source));
    assert_contains(err.text, "snapshot snap-2: it is kept at the driver for the next call (");
    assert_contains(err.text, error_code_name(code));
    assert_int_equal(fake_count_snapshots(u), 1);
}

static void snapshot_is_kept_for_another_call_when_the_record_may_still_come(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_RESOURCE_EXHAUSTED, ERROR_INTERNAL,
                                             ERROR_UNAUTHENTICATED };
    const char *a = used("a");

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        snapshot_is_kept("CopyRecord", codes[i], a);
        snapshot_is_kept("GetRecord", codes[i], a);
    }
    snapshot_is_kept("GetRecord", ERROR_DENIED, a);
    assert_int_equal(fake_count(f, "DeleteSnapshot"), 0);
    f->fault.at = NULL;
    assert_non_null(scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 1);
    fake_upstream_check(u);
    f->fault = (struct fake_fault){ .at = "EndCopy", .code = ERROR_INTERNAL };
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
}

static void nothing_is_left_of_a_snapshot_for_which_the_tenant_has_no_room(void **state UNUSED)
{
    const char *a = used("a");

    f->fault = (struct fake_fault){ .at = "CopyRecord",
                                    .code = ERROR_RESOURCE_EXHAUSTED,
                                    .reason = RECORD_LIMIT_REASON };
    assert_refused(ERROR_RESOURCE_EXHAUSTED, scene_snapshot("s", a));
    assert_int_equal(fake_count_snapshots(u), 0);
    fake_upstream_check(u);
}

static void snapshot_whose_record_another_controller_made_stays(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    f->fault = (struct fake_fault){ .at = "CopyRecord", .code = ERROR_ABORTED, .is_lost = true };
    assert_refused(ERROR_ABORTED, scene_snapshot("s", a));
    assert_contains(err.text, "it could not be removed (another call made its record meanwhile)");
    fake_upstream_check(u);
    assert_int_equal(fake_count_snapshots(u), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(snapshot_has_its_sources_size_and_key),
        STACKED_TEST(repeated_call_gives_the_same_snapshot),
        STACKED_TEST(same_name_of_another_volume_already_exists),
        STACKED_TEST(incomplete_or_foreign_requests_are_refused),
        STACKED_TEST(our_parameters_are_refused_and_the_drivers_go_on),
        STACKED_TEST(snapshot_of_a_source_that_changed_meanwhile_is_taken_again),
        STACKED_TEST(nothing_is_left_of_a_snapshot_whose_source_went),
        STACKED_TEST(snapshot_whose_record_failed_is_found_by_its_name),
        STACKED_TEST(snapshot_of_an_earlier_state_is_not_taken_for_one_of_now),
        STACKED_TEST(copy_ends_when_nothing_is_left_of_it),
        STACKED_TEST(snapshot_that_got_a_record_meanwhile_is_not_deleted),
        STACKED_TEST(nothing_is_waited_for_between_the_last_question_and_the_deletion),
        STACKED_TEST(wrong_answers_of_the_driver_are_internal_errors),
        STACKED_TEST(snapshot_is_shown_in_the_pods_bytes),
        STACKED_TEST(nothing_is_left_of_a_snapshot_whose_record_is_refused),
        STACKED_TEST(snapshot_is_kept_for_another_call_when_the_record_may_still_come),
        STACKED_TEST(nothing_is_left_of_a_snapshot_for_which_the_tenant_has_no_room),
        STACKED_TEST(snapshot_whose_record_another_controller_made_stays),
    };

    return RUN_TESTS(tests);
}
