/* SPDX-License-Identifier: Apache-2.0 */
#include "record/layout.h"
#include "tests/unit/csi/stacked_scene.h"
#include "upstream/upstream.h"

#include <stdio.h>

typedef Csi__V1__CreateVolumeRequest request_message;

static Csi__V1__Volume *create(const request_message *request)
{
    Csi__V1__CreateVolumeResponse *response = controller("CreateVolume", request);

    if (!response)
        fail_msg("CreateVolume: %s: %s", error_code_name(err.code), err.text);
    return response->volume;
}

static void volume_has_the_size_asked_for_and_its_device_is_larger(void **state UNUSED)
{
    request_message *request = fake_create("a", 64 * MIB, fake_mount("ext4"));

    request->capacity_range->limit_bytes = 64 * MIB;
    const Csi__V1__Volume *volume = create(request);
    const struct record *record = scene_record(volume->volume_id);

    assert_int_equal(volume->capacity_bytes, 64 * MIB);
    assert_int_equal(record->spec.size_bytes, 64 * MIB);
    assert_int_equal(u->last_required_bytes, record->spec.device_bytes);
    assert_int_equal(u->last_limit_bytes, 0);
    assert_true(record->spec.device_bytes > 64 * MIB);
    assert_int_equal(record->spec.backing, BACKING_DEVICE);
    assert_string_equal(record->spec.location, "");
    assert_string_equal(record->spec.fs_type, "ext4");
    assert_true(record->spec.needs_publication);
    assert_true(CALLED("CreateVolume", "CreateRecord"));
    fake_upstream_check(u);
}

static void answer_is_the_drivers_but_for_the_size(void **state UNUSED)
{
    u->step_bytes = GIB;
    const Csi__V1__Volume *volume = create(fake_create("a", 5 * MIB, fake_block()));

    assert_int_equal(volume->capacity_bytes, 5 * MIB);
    assert_int_equal(fake_disk(u, volume->volume_id)->bytes, GIB);
    assert_string_equal(volume->volume_context[0]->key, "below");
    assert_string_equal(volume->accessible_topology[0]->segments[0]->value, "zone-a");
}

#define ATTACHES (1u << CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__PUBLISH_UNPUBLISH_VOLUME)

static void driver_that_attaches_nothing_must_be_declared(void **state UNUSED)
{
    u->lacks |= ATTACHES;
    assert_refused(ERROR_FAILED_PRECONDITION, scene_create("a", 64 * MIB));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " says that it attaches no volumes");
    assert_contains(err.text, "--publication=off");
    assert_int_equal(fake_count(f, "CreateVolume"), 0);
    f->plugin.upstream_never_attaches = true;
    assert_false(scene_record(scene_create("a", 64 * MIB))->spec.needs_publication);
}

static void copy_keeps_the_protection_of_its_source(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    f->plugin.upstream_never_attaches = true;
    const char *c = scene_create_from("c", 64 * MIB, RECORD_VOLUME, a);

    assert_true(scene_record(c)->spec.needs_publication);
}

/* A driver that learns to attach makes no difference either: the administrator says so. */
static void declared_driver_may_say_that_it_attaches(void **state UNUSED)
{
    f->plugin.upstream_never_attaches = true;
    assert_false(scene_record(scene_create("a", 64 * MIB))->spec.needs_publication);
}

static void our_parameters_are_taken_out_and_the_others_go_on(void **state UNUSED)
{
    request_message *request = fake_create("a", 64 * MIB, fake_mount(""));

    fake_parameter(request, "tdvol.dev/integrity", "none");
    fake_parameter(request, "type", "fast");
    fake_parameter(request, "csi.storage.k8s.io/fstype", "ext4");
    fake_parameter(request, "csi.storage.k8s.io/pvc/name", "claim");
    const char *id = create(request)->volume_id;

    assert_int_equal(scene_record(id)->spec.integrity, INTEGRITY_NONE);
    assert_string_equal(fake_disk(u, id)->parameters,
                        "type=fast csi.storage.k8s.io/pvc/name=claim ");
}

static void wrong_parameters_are_refused_by_whom_they_are_for(void **state UNUSED)
{
    static const char *const wrong[][2] = { { "tdvol.dev/colour", "red" },
                                            { "tdvol.dev/integrity", "much" },
                                            { "tdvol.dev/provisioning", "thin" },
                                            { "csi.storage.k8s.io/fstype", "ntfs" } };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        request_message *request = fake_create("a", 64 * MIB, fake_mount(""));

        fake_parameter(request, wrong[i][0], wrong[i][1]);
        assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    }
    assert_int_equal(fake_count(f, "CreateVolume"), 0);

    request_message *request = fake_create("a", 64 * MIB, fake_mount(""));
    fake_parameter(request, "integrity", "none"); /* without our prefix it is not ours */
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    assert_string_equal(err.text, FAKE_UPSTREAM_NAME ": Invalid parameter key integrity");
}

static void our_parameters_cannot_be_mutable(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest__MutableParametersEntry entry =
        CSI__V1__CREATE_VOLUME_REQUEST__MUTABLE_PARAMETERS_ENTRY__INIT;
    Csi__V1__CreateVolumeRequest__MutableParametersEntry *entries[] = { &entry };
    request_message *request = fake_create("a", 64 * MIB, fake_mount(""));
    static char ours[] = "tdvol.dev/integrity", theirs[] = "iops", value[] = "none";

    entry.key = ours;
    entry.value = value;
    request->mutable_parameters = entries;
    request->n_mutable_parameters = 1;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    assert_int_equal(fake_count(f, "CreateVolume"), 0);
    entry.key = theirs;
    create(request);
}

static void driver_gets_only_access_modes_that_it_knows(void **state UNUSED)
{
    Csi__V1__VolumeCapability *capability = fake_mount("");

    u->lacks |= 1u << CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER;
    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER;
    create(fake_create("a", 64 * MIB, capability));
    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER;
    create(fake_create("b", 64 * MIB, capability));
}

static void writers_on_several_nodes_are_refused_and_the_text_says_why(void **state UNUSED)
{
    Csi__V1__VolumeCapability *capability = fake_block();

    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
    assert_refused(ERROR_INVALID_ARGUMENT,
                   controller("CreateVolume", fake_create("a", 64 * MIB, capability)));
    assert_contains(err.text, "one node writes to an encrypted volume");
    capability->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_SINGLE_WRITER;
    assert_refused(ERROR_INVALID_ARGUMENT,
                   controller("CreateVolume", fake_create("a", 64 * MIB, capability)));
    assert_int_equal(f->n_log, 0);
}

/* --- again --- */

static void repeated_create_gives_the_same_volume(void **state UNUSED)
{
    const char *id = scene_create("a", 64 * MIB);

    assert_string_equal(scene_create("a", 64 * MIB), id);
    assert_int_equal(fake_count_disks(u), 1);
    assert_int_equal(fake_count(f, "CreateRecord"), 1);
}

static void create_of_another_size_or_type_already_exists(void **state UNUSED)
{
    request_message *request;

    u->step_bytes = GIB; /* the driver itself sees no difference */
    assert_non_null(scene_create("a", 64 * MIB));
    assert_refused(ERROR_ALREADY_EXISTS, scene_create("a", 65 * MIB));
    request = fake_create("a", 63 * MIB, fake_mount("ext4"));
    request->capacity_range->limit_bytes = 63 * MIB;
    assert_refused(ERROR_ALREADY_EXISTS, controller("CreateVolume", request));
    assert_refused(ERROR_ALREADY_EXISTS,
                   controller("CreateVolume", fake_create("a", 64 * MIB, fake_block())));
    request = fake_create("a", 64 * MIB, fake_mount("ext4"));
    fake_parameter(request, "tdvol.dev/integrity", "none");
    assert_refused(ERROR_ALREADY_EXISTS, controller("CreateVolume", request));
    assert_int_equal(fake_count_disks(u), 1);
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    fake_upstream_check(u);
}

static void volume_whose_record_failed_is_found_by_its_name(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CreateRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_create("a", 64 * MIB));
    assert_int_equal(fake_count_disks(u), 1);
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    f->fault.at = NULL;
    assert_string_equal(scene_create("a", 64 * MIB), fake_disk_named(u, "a")->id);
    assert_int_equal(fake_count_disks(u), 1);
}

static void volume_that_is_being_deleted_is_not_given_out(void **state UNUSED)
{
    const char *id = scene_create("a", 64 * MIB);

    f->fault = (struct fake_fault){ .at = "DeleteVolume", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, scene_delete(id));
    assert_refused(ERROR_ABORTED, scene_create("a", 64 * MIB));
    f->fault.at = NULL;
    assert_true(scene_delete(id));
    assert_non_null(scene_create("a", 64 * MIB));
    fake_upstream_check(u);
}

static void id_that_is_used_again_is_a_new_volume(void **state UNUSED)
{
    u->odd_id = "projects/p/disks/a";
    assert_non_null(scene_create("a", 64 * MIB));
    const struct record before = *scene_record(u->odd_id);

    assert_true(scene_delete(u->odd_id));
    assert_string_equal(scene_create("a", 65 * MIB), u->odd_id);
    assert_int_equal(scene_record(u->odd_id)->phase, RECORD_NEW);
    assert_memory_not_equal(scene_record(u->odd_id)->key.id, before.key.id, RECORD_ID_LEN);
}

static void driver_may_have_names_as_ids(void **state UNUSED)
{
    u->odd_id = "a";
    assert_string_equal(scene_create("a", 64 * MIB), "a");
    assert_string_equal(scene_create("a", 64 * MIB), "a");
}

/* --- drivers that answer wrongly --- */

static void answer_without_volume_or_id_is_an_internal_error(void **state UNUSED)
{
    u->odd_id = "";
    assert_refused(ERROR_INTERNAL, scene_create("a", 64 * MIB));
    assert_contains(err.text, FAKE_UPSTREAM_NAME);
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    u->answers_no_volume = true;
    assert_refused(ERROR_INTERNAL, scene_create("b", 64 * MIB));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " answers without a volume");
}

/* The record decides, and what it names is never deleted. */
static void id_of_another_volume_is_refused(void **state UNUSED)
{
    const char *id = scene_create("a", 64 * MIB);

    u->odd_id = id;
    assert_refused(ERROR_ALREADY_EXISTS, scene_create("b", 64 * MIB));
    assert_int_equal(fake_count(f, "DeleteVolume"), 0);
    assert_string_equal(scene_record(id)->spec.name, "a");
}

/* --- what goes through --- */

static void secrets_go_on(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest__SecretsEntry entry =
        CSI__V1__CREATE_VOLUME_REQUEST__SECRETS_ENTRY__INIT;
    Csi__V1__CreateVolumeRequest__SecretsEntry *entries[] = { &entry };
    request_message *request = fake_create("a", 64 * MIB, fake_mount(""));
    static char key[] = "token", value[] = "s3cret";

    u->secret = value;
    assert_refused(ERROR_UNAUTHENTICATED, controller("CreateVolume", request));
    entry.key = key;
    entry.value = value;
    request->secrets = entries;
    request->n_secrets = 1;
    f->fault = (struct fake_fault){ .at = "CreateRecord", .code = ERROR_DENIED };
    assert_refused(ERROR_DENIED, controller("CreateVolume", request));
    assert_int_equal(fake_count_disks(u), 0); /* so also to the deletion */
    f->fault.at = NULL;
    create(request);
}

static void fields_of_newer_versions_go_on(void **state UNUSED)
{
    ProtobufCMessageUnknownField field = {
        .tag = 999, .wire_type = PROTOBUF_C_WIRE_TYPE_VARINT, .len = 1, .data = (uint8_t[]){ 7 }
    };
    request_message *request = fake_create("a", 64 * MIB, fake_mount(""));

    request->base.unknown_fields = &field;
    request->base.n_unknown_fields = 1;
    create(request);
    assert_int_equal(u->n_unknown_fields, 1);
}

/* --- quirks --- */

static void size_is_rounded_at_the_first_call_after_a_start(void **state UNUSED)
{
    u->driver_name = "pd.csi.storage.gke.io";
    f->plugin.upstream_never_attaches = true; /* then nothing else is asked before */
    assert_non_null(scene_create("a", 64 * MIB));
    assert_int_equal(u->last_required_bytes, GIB);
    fake_upstream_forget(u);
    assert_int_equal(scene_expand("vol-1", 3 * GIB), 3 * GIB);
    assert_int_equal(u->last_required_bytes % GIB, 0);
}

/* A driver that does not say its name gets no guess in place of a size. */
static void nothing_is_made_by_a_driver_that_does_not_say_its_name(void **state UNUSED)
{
    assert_non_null(scene_create("a", 64 * MIB));
    fake_upstream_forget(u);
    f->n_log = 0;
    f->fault = (struct fake_fault){ .at = "GetPluginInfo", .code = ERROR_INTERNAL };
    assert_refused(ERROR_INTERNAL, scene_create("b", 64 * MIB));
    assert_contains(err.text, "/run/below/csi.sock: GetPluginInfo failed");
    assert_int_equal(scene_expand("vol-1", 128 * MIB), 0);
    assert_int_equal(err.code, ERROR_INTERNAL);
    assert_int_equal(fake_count(f, "CreateVolume"), 0);
    assert_int_equal(fake_count(f, "ControllerExpandVolume"), 0);
}

static void errors_of_the_driver_keep_their_code(void **state UNUSED)
{
    static const enum error_code codes[] = {
        ERROR_INVALID_ARGUMENT, ERROR_NOT_FOUND,    ERROR_ALREADY_EXISTS,
        ERROR_DENIED,           ERROR_OUT_OF_RANGE, ERROR_RESOURCE_EXHAUSTED,
        ERROR_ABORTED,          ERROR_INTERNAL,     ERROR_FAILED_PRECONDITION,
    };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        f->fault = (struct fake_fault){ .at = "CreateVolume", .code = codes[i] };
        assert_refused(codes[i], scene_create("a", 64 * MIB));
        assert_string_equal(err.text, FAKE_UPSTREAM_NAME ": CreateVolume failed");
    }
    assert_int_equal(fake_count(f, "CreateRecord"), 0);
}

static void driver_that_is_away_is_named_with_its_socket(void **state UNUSED)
{
    assert_non_null(scene_create("a", 64 * MIB));
    fake_upstream_stop(u);
    assert_refused(ERROR_UNAVAILABLE, scene_create("b", 64 * MIB));
    assert_contains(err.text, FAKE_UPSTREAM_NAME " at /run/below/csi.sock");
}

/* --- copies --- */

static void copy_has_a_record_of_its_own_and_its_sources_key(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    const char *s = scene_snapshot("s", a);
    const char *b = scene_create_from("b", 64 * MIB, RECORD_SNAPSHOT, s);
    const char *c = scene_create_from("c", 64 * MIB, RECORD_VOLUME, a);

    assert_string_equal(scene_record(b)->source_volume_id, s);
    assert_string_equal(scene_record(c)->source_volume_id, a);
    assert_memory_equal(scene_record(b)->key.id, scene_record(a)->key.id, RECORD_ID_LEN);
    assert_memory_equal(scene_record(c)->key.id, scene_record(a)->key.id, RECORD_ID_LEN);
    assert_true(scene_record(c)->origin.is_set);
    assert_string_equal(fake_disk(u, b)->source, s);
    fake_upstream_check(u);
}

static void answer_names_the_source_as_the_caller_did(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    request_message *request = fake_create("c", 64 * MIB, fake_mount("ext4"));

    request->volume_content_source = fake_source(RECORD_VOLUME, a);
    const Csi__V1__Volume *volume = create(request);

    assert_int_equal(volume->content_source->type_case,
                     CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME);
    assert_string_equal(volume->content_source->volume->volume_id, a);
}

/* The larger device is that of its source, grown: it keeps the source's journal. */
static void larger_copy_has_a_larger_device(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    struct volume_spec grown = scene_record(a)->spec;
    const char *c = scene_create_from("c", 8 * GIB, RECORD_VOLUME, a);

    assert_ok(layout_plan_growth(&grown, 8 * GIB, &err));
    assert_int_equal(u->last_required_bytes, grown.device_bytes);
    assert_int_equal(scene_record(c)->spec.size_bytes, 8 * GIB);
    assert_int_equal(scene_record(c)->spec.device_bytes, grown.device_bytes);
    assert_int_equal(scene_record(c)->spec.journal_sectors, scene_record(a)->spec.journal_sectors);
    fake_upstream_check(u);
}

/* As large as the driver would make a volume of its own, so that it is not smaller than its source. */
static void copy_of_the_same_size_asks_for_its_sources_device(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    assert_non_null(scene_create_from("c", 16 * MIB, RECORD_VOLUME, a));
    assert_int_equal(u->last_required_bytes, scene_record(a)->spec.device_bytes);
}

/* The snapshot was taken when the driver had grown the disk, but no node had used the room yet. */
static void copy_is_never_smaller_than_its_snapshot_at_the_driver(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    assert_int_equal(scene_expand(a, GIB), GIB);
    const char *s = scene_snapshot("s", a);
    const char *c = scene_create_from("c", 64 * MIB, RECORD_SNAPSHOT, s);

    assert_non_null(c);
    assert_int_equal(u->last_required_bytes, fake_disk(u, a)->bytes);
    assert_int_equal(scene_record(c)->spec.size_bytes, 64 * MIB);
    u->lacks |= 1u << CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__LIST_SNAPSHOTS;
    f->fault = (struct fake_fault){ .at = "ListSnapshots", .code = ERROR_UNIMPLEMENTED };
    assert_refused(ERROR_OUT_OF_RANGE, scene_create_from("d", 64 * MIB, RECORD_SNAPSHOT, s));
    assert_contains(err.text, FAKE_UPSTREAM_NAME ": smaller than its source");
}

static void copy_is_never_smaller_than_its_volume_at_the_driver(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    assert_int_equal(scene_expand(a, GIB), GIB);
    const char *c = scene_create_from("c", 64 * MIB, RECORD_VOLUME, a);

    assert_non_null(c);
    assert_int_equal(u->last_required_bytes, fake_disk(u, a)->bytes);
    assert_int_equal(scene_record(c)->spec.size_bytes, 64 * MIB);
    assert_non_null(scene_create_from("d", 4 * GIB, RECORD_VOLUME, a));
    assert_true(u->last_required_bytes > 4 * GIB);
    fake_upstream_check(u);
}

/* Then the driver itself decides, as it does for its own callers. */
static void driver_that_shows_no_volume_is_asked_for_the_size_of_the_record(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    assert_int_equal(scene_expand(a, GIB), GIB);
    f->fault = (struct fake_fault){ .at = "ControllerGetVolume", .code = ERROR_INTERNAL };
    assert_refused(ERROR_OUT_OF_RANGE, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_int_equal(u->last_required_bytes, scene_record(a)->spec.device_bytes);
    assert_contains(err.text, FAKE_UPSTREAM_NAME ": smaller than its source");
}

static void size_beyond_all_numbers_of_csi_is_refused(void **state UNUSED)
{
    u->driver_name = "pd.csi.storage.gke.io"; /* sizes are rounded up for it */
    const char *a = scene_create("a", 64 * MIB), *s = scene_snapshot("s", a);

    fake_snapshot(u, s)->bytes = INT64_MAX;
    assert_refused(ERROR_OUT_OF_RANGE, scene_create_from("c", 64 * MIB, RECORD_SNAPSHOT, s));
    assert_int_equal(fake_count(f, "CreateVolume"), 1);
}

static void copy_of_what_is_not_there_is_not_found(void **state UNUSED)
{
    assert_refused(ERROR_NOT_FOUND, scene_create_from("c", 64 * MIB, RECORD_VOLUME, "vol-9"));
    assert_refused(ERROR_NOT_FOUND, scene_create_from("c", 64 * MIB, RECORD_SNAPSHOT, "snap-9"));
    assert_refused(ERROR_NOT_FOUND,
                   scene_create_from("c", 64 * MIB, RECORD_SNAPSHOT, scene_create("a", 64 * MIB)));
    assert_int_equal(fake_count_disks(u), 1);
}

static void copy_of_what_has_no_record_names_the_command(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   scene_create_from("c", 64 * MIB, RECORD_VOLUME, "vol-x"));
    assert_contains(err.text, "tdvolctl volume adopt vol-x");
}

static void copy_while_the_source_is_formatted_is_tried_again(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    struct record *record = &fake_record(f, a)->record;

    record->phase = RECORD_FORMATTING;
    (void)snprintf(record->format.holder.node, sizeof(record->format.holder.node), "node-1");
    (void)snprintf(record->format.holder.boot_id, sizeof(record->format.holder.boot_id), "b");
    record->format.attempt = 1;
    record->format.deadline_ms = UINT64_C(1700000060000); /* the fake has a fixed time */
    assert_refused(ERROR_ABORTED, scene_create_from("c", 64 * MIB, RECORD_VOLUME, a));
    assert_int_equal(fake_count_disks(u), 1);
}

static uint64_t look_up_ms, creation_ms;

static void note_time(const char *method)
{
    if (strcmp(method, "ListSnapshots") == 0 || strcmp(method, "ControllerGetVolume") == 0)
        look_up_ms = u->time_left_ms;
    else if (strcmp(method, "CreateVolume") == 0)
        creation_ms = u->time_left_ms;
}

static void expect_times(uint64_t call_ms, uint64_t look_up_at_most_ms)
{
    assert_in_range(look_up_ms, look_up_at_most_ms / 2, look_up_at_most_ms);
    assert_true(creation_ms > call_ms * 3 / 4);
    look_up_ms = creation_ms = 0;
}

/* A hanging ListSnapshots would otherwise leave a second for the volume itself. */
static void look_up_of_the_source_has_a_quarter_of_the_time(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    scene_was_used(a);
    const char *s = scene_snapshot("s", a);

    u->served = note_time;
    f->call_ms = 40000;
    assert_non_null(scene_create_from("c", 64 * MIB, RECORD_SNAPSHOT, s));
    expect_times(40000, 10000);
    assert_non_null(scene_create_from("d", 64 * MIB, RECORD_VOLUME, a));
    expect_times(40000, 10000);
    f->call_ms = 0;
    assert_non_null(scene_create_from("e", 64 * MIB, RECORD_VOLUME, a));
    expect_times(UPSTREAM_LIMIT_MS, UPSTREAM_LIMIT_MS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(volume_has_the_size_asked_for_and_its_device_is_larger),
        STACKED_TEST(answer_is_the_drivers_but_for_the_size),
        STACKED_TEST(driver_that_attaches_nothing_must_be_declared),
        STACKED_TEST(copy_keeps_the_protection_of_its_source),
        STACKED_TEST(declared_driver_may_say_that_it_attaches),
        STACKED_TEST(our_parameters_are_taken_out_and_the_others_go_on),
        STACKED_TEST(wrong_parameters_are_refused_by_whom_they_are_for),
        STACKED_TEST(our_parameters_cannot_be_mutable),
        STACKED_TEST(driver_gets_only_access_modes_that_it_knows),
        STACKED_TEST(writers_on_several_nodes_are_refused_and_the_text_says_why),
        STACKED_TEST(repeated_create_gives_the_same_volume),
        STACKED_TEST(create_of_another_size_or_type_already_exists),
        STACKED_TEST(volume_whose_record_failed_is_found_by_its_name),
        STACKED_TEST(volume_that_is_being_deleted_is_not_given_out),
        STACKED_TEST(id_that_is_used_again_is_a_new_volume),
        STACKED_TEST(driver_may_have_names_as_ids),
        STACKED_TEST(answer_without_volume_or_id_is_an_internal_error),
        STACKED_TEST(id_of_another_volume_is_refused),
        STACKED_TEST(secrets_go_on),
        STACKED_TEST(fields_of_newer_versions_go_on),
        STACKED_TEST(size_is_rounded_at_the_first_call_after_a_start),
        STACKED_TEST(nothing_is_made_by_a_driver_that_does_not_say_its_name),
        STACKED_TEST(look_up_of_the_source_has_a_quarter_of_the_time),
        STACKED_TEST(errors_of_the_driver_keep_their_code),
        STACKED_TEST(driver_that_is_away_is_named_with_its_socket),
        STACKED_TEST(copy_has_a_record_of_its_own_and_its_sources_key),
        STACKED_TEST(answer_names_the_source_as_the_caller_did),
        STACKED_TEST(larger_copy_has_a_larger_device),
        STACKED_TEST(copy_of_the_same_size_asks_for_its_sources_device),
        STACKED_TEST(copy_is_never_smaller_than_its_snapshot_at_the_driver),
        STACKED_TEST(copy_is_never_smaller_than_its_volume_at_the_driver),
        STACKED_TEST(driver_that_shows_no_volume_is_asked_for_the_size_of_the_record),
        STACKED_TEST(size_beyond_all_numbers_of_csi_is_refused),
        STACKED_TEST(copy_of_what_is_not_there_is_not_found),
        STACKED_TEST(copy_of_what_has_no_record_names_the_command),
        STACKED_TEST(copy_while_the_source_is_formatted_is_tried_again),
    };

    return RUN_TESTS(tests);
}
