/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/volume_id.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdio.h>

#define GIB (1ll << 30)
#define MIB (1ll << 20)

#define CALLED(f, ...) fake_called((f), (const char *const[]){ __VA_ARGS__, NULL })

static struct fake *f;
static struct arena arena;
static struct error err;

static int set_up(void **state UNUSED)
{
    f = fake_new();
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_wipe(&arena);
    fake_free(f);
    return 0;
}

static void *controller(const char *method, const void *request)
{
    return fake_call(f, &controller_service, method, request, &arena, &err);
}

static Csi__V1__Volume *create(Csi__V1__CreateVolumeRequest *request)
{
    Csi__V1__CreateVolumeResponse *response = controller("CreateVolume", request);

    if (!response)
        fail_msg("CreateVolume: %s: %s", error_code_name(err.code), err.text);
    return response->volume;
}

static Csi__V1__CreateSnapshotResponse *snap(const char *name, const char *source)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = (char *)(uintptr_t)name;
    request.source_volume_id = (char *)(uintptr_t)source;
    return controller("CreateSnapshot", &request);
}

/* --- CreateVolume --- */

static void volume_has_the_size_asked_for_and_is_here(void **state UNUSED)
{
    Csi__V1__Volume *volume = create(fake_create("a", 64 * MIB, fake_mount("ext4")));

    assert_int_equal(volume->capacity_bytes, 64 * MIB);
    assert_true(volume_id_is(VOLUME_ID_VOLUME, volume->volume_id));
    assert_int_equal(volume->n_accessible_topology, 1);
    assert_string_equal(volume->accessible_topology[0]->segments[0]->key,
                        "topology.csi.example.org/node");
    assert_string_equal(volume->accessible_topology[0]->segments[0]->value, "node-1");
    assert_true(CALLED(f, "GetRecord", "CREATE", "CreateRecord"));
    assert_true(fake_volume(f, volume->volume_id)->bytes > 64 * MIB);
}

static void repeated_create_gives_the_same_volume_and_makes_nothing(void **state UNUSED)
{
    char *id = create(fake_create("a", 64 * MIB, fake_mount("ext4")))->volume_id;

    assert_string_equal(create(fake_create("a", 64 * MIB, fake_mount("")))->volume_id, id);
    assert_int_equal(fake_count(f, "CREATE"), 1);
    assert_int_equal(fake_count(f, "CreateRecord"), 1);
}

static void create_without_size_gives_one_gibibyte(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest *request = fake_create("a", 0, fake_mount(""));

    request->capacity_range = NULL;
    assert_int_equal(create(request)->capacity_bytes, GIB);
    request = fake_create("b", 0, fake_mount(""));
    request->capacity_range->limit_bytes = 100 * MIB + 5;
    assert_int_equal(create(request)->capacity_bytes, 100 * MIB);
}

static void incomplete_create_is_an_invalid_argument(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT,
                   controller("CreateVolume", fake_create("", GIB, fake_mount(""))));
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", fake_create("a", GIB, NULL)));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   controller("CreateVolume", fake_create("a", -1, fake_mount(""))));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount("ntfs"))));

    Csi__V1__VolumeCapability *many = fake_mount("");
    many->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", fake_create("a", GIB, many)));

    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));
    fake_parameter(request, "colour", "red");
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    assert_contains(err.text, "colour");
    assert_int_equal(f->n_log, 0);
}

static void mutable_parameters_are_refused_by_name(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest__MutableParametersEntry entry =
        CSI__V1__CREATE_VOLUME_REQUEST__MUTABLE_PARAMETERS_ENTRY__INIT;
    Csi__V1__CreateVolumeRequest__MutableParametersEntry *entries[] = { &entry };
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));

    entry.key = (char *)(uintptr_t) "iops";
    request->mutable_parameters = entries;
    request->n_mutable_parameters = 1;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    assert_contains(err.text, "iops");
}

static void impossible_sizes_are_out_of_range(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));

    request->capacity_range->limit_bytes = GIB - 1;
    assert_refused(ERROR_OUT_OF_RANGE, controller("CreateVolume", request));
    request = fake_create("a", GIB + 1, fake_mount(""));
    request->capacity_range->limit_bytes = GIB + 2;
    assert_refused(ERROR_OUT_OF_RANGE, controller("CreateVolume", request));
    assert_refused(ERROR_OUT_OF_RANGE,
                   controller("CreateVolume", fake_create("a", INT64_MAX, fake_mount(""))));
}

static void size_that_its_file_system_cannot_have_is_out_of_range(void **state UNUSED)
{
    assert_refused(ERROR_OUT_OF_RANGE, controller("CreateVolume", fake_create("a", 300 * MIB - 4096,
                                                                              fake_mount("xfs"))));
    assert_contains(err.text, "a volume with xfs has at least 300 MiB");
    assert_refused(
        ERROR_OUT_OF_RANGE,
        controller("CreateVolume", fake_create("a", 8 * MIB - 1 - 4096, fake_mount(""))));
    assert_contains(err.text, "a volume with ext4 has at least 8 MiB");
    assert_int_equal(f->n_log, 0);
    create(fake_create("a", 300 * MIB, fake_mount("xfs")));
    create(fake_create("b", 8 * MIB, fake_mount("")));
    create(fake_create("c", MIB, fake_block()));
}

static void claim_that_only_reads_needs_data(void **state UNUSED)
{
    static const int readers[] = {
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_READER_ONLY,
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY
    };
    char *source = create(fake_create("source", GIB, fake_mount("")))->volume_id;

    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        Csi__V1__VolumeCapability *reader = i ? fake_mount("") : fake_block();

        reader->access_mode->mode = (unsigned)readers[i];
        assert_refused(ERROR_INVALID_ARGUMENT,
                       controller("CreateVolume", fake_create("a", GIB, reader)));
        assert_contains(err.text, "data source");
    }
    Csi__V1__VolumeCapability *reader = fake_mount("");
    reader->access_mode->mode = (unsigned)readers[0];
    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, reader);
    request->volume_content_source = fake_source(RECORD_VOLUME, source);
    assert_refused(ERROR_FAILED_PRECONDITION, controller("CreateVolume", request));
    assert_contains(err.text, "was never written");
    fake_record(f, source)->record.phase = RECORD_READY;
    fake_record(f, source)->record.n_header_digests = 1;
    fake_record(f, source)->record.open_counter = 1;
    create(request);

    /* One that writes is enough. */
    Csi__V1__VolumeCapability writer = *fake_mount("");
    Csi__V1__VolumeCapability__AccessMode writes = *writer.access_mode;
    writer.access_mode = &writes;
    reader = fake_mount("");
    reader->access_mode->mode = (unsigned)readers[1];
    Csi__V1__VolumeCapability *both[] = { reader, &writer };
    request = fake_create("c", GIB, NULL);
    request->volume_capabilities = both;
    request->n_volume_capabilities = 2;
    create(request);
}

static void same_name_with_another_request_already_exists(void **state UNUSED)
{
    create(fake_create("a", GIB, fake_mount("ext4")));
    assert_refused(ERROR_ALREADY_EXISTS,
                   controller("CreateVolume", fake_create("a", 2 * GIB, fake_mount("ext4"))));
    assert_refused(ERROR_ALREADY_EXISTS,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount("xfs"))));
    assert_refused(ERROR_ALREADY_EXISTS,
                   controller("CreateVolume", fake_create("a", GIB, fake_block())));
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount("ext4"));
    fake_parameter(request, "integrity", "none");
    assert_refused(ERROR_ALREADY_EXISTS, controller("CreateVolume", request));
    request = fake_create("a", GIB / 2, fake_mount("ext4"));
    request->capacity_range->limit_bytes = GIB / 2;
    assert_refused(ERROR_ALREADY_EXISTS, controller("CreateVolume", request));
}

static void requirement_for_other_nodes_is_resource_exhausted(void **state UNUSED)
{
    Csi__V1__TopologyRequirement requirement = CSI__V1__TOPOLOGY_REQUIREMENT__INIT;
    Csi__V1__Topology topology = CSI__V1__TOPOLOGY__INIT;
    Csi__V1__Topology__SegmentsEntry segment = CSI__V1__TOPOLOGY__SEGMENTS_ENTRY__INIT;
    Csi__V1__Topology *topologies[] = { &topology };
    Csi__V1__Topology__SegmentsEntry *segments[] = { &segment };
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));

    segment.key = (char *)(uintptr_t) "topology.csi.example.org/node";
    segment.value = (char *)(uintptr_t) "node-2";
    topology.segments = segments;
    topology.n_segments = 1;
    requirement.requisite = topologies;
    requirement.n_requisite = 1;
    request->accessibility_requirements = &requirement;
    assert_refused(ERROR_RESOURCE_EXHAUSTED, controller("CreateVolume", request));
    segment.value = (char *)(uintptr_t) "node-1";
    create(request);
}

/* --- volumes of other nodes --- */

/* A new volume whose space is on another node, as its record says. */
static char *volume_of(const char *node, const char *name)
{
    char *id = create(fake_create(name, GIB, fake_mount("ext4")))->volume_id;
    struct volume_spec *spec = &fake_record(f, id)->record.spec;

    (void)snprintf(spec->location, sizeof(spec->location), "%s", node);
    fake_volume(f, id)->has_file = false;
    f->n_log = 0;
    return id;
}

static void volume_of_another_node_is_not_created_again(void **state UNUSED)
{
    volume_of("node-2", "a");
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount("ext4"))));
    assert_contains(err.text, "is on node node-2, and this is node node-1");
    assert_int_equal(fake_count(f, "CREATE"), 0);
}

static void volume_that_another_node_makes_at_the_same_time_is_left_to_it(void **state UNUSED)
{
    char *id = volume_of("node-2", "a");

    /* The first look finds nothing yet. */
    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_NOT_FOUND, .is_single = true };
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount("ext4"))));
    assert_true(CALLED(f, "CREATE", "CreateRecord", "DELETE"));
    assert_false(fake_volume(f, id)->has_file);
    assert_string_equal(fake_record(f, id)->record.spec.location, "node-2");
}

static void copy_of_another_nodes_source_is_left_to_that_node(void **state UNUSED)
{
    char *id = volume_of("node-2", "a");
    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, fake_mount("ext4"));

    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, controller("CreateVolume", request));
    assert_contains(err.text, "is on node node-2");
    assert_refused(ERROR_FAILED_PRECONDITION, snap("s", id));
    assert_contains(err.text, "is on node node-2");
    assert_int_equal(fake_count(f, "COPY"), 0);
}

static void volume_of_another_node_is_not_deleted_here(void **state UNUSED)
{
    Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;
    char *id = volume_of("node-2", "a");

    request.volume_id = id;
    assert_refused(ERROR_FAILED_PRECONDITION, controller("DeleteVolume", &request));
    assert_contains(err.text, "is on node node-2");
    assert_int_equal(fake_count(f, "BeginDelete"), 0);
    assert_int_equal(fake_record(f, id)->record.phase, RECORD_NEW);
}

static void volume_of_another_node_has_its_topology(void **state UNUSED)
{
    Csi__V1__ControllerGetVolumeRequest get = CSI__V1__CONTROLLER_GET_VOLUME_REQUEST__INIT;
    Csi__V1__ControllerGetVolumeHealthRequest ask =
        CSI__V1__CONTROLLER_GET_VOLUME_HEALTH_REQUEST__INIT;

    get.volume_id = ask.volume_id = volume_of("node-2", "a");
    const Csi__V1__ControllerGetVolumeResponse *response = controller("ControllerGetVolume", &get);
    assert_non_null(response);
    assert_string_equal(response->volume->accessible_topology[0]->segments[0]->value, "node-2");
    /* Its health is known there alone. */
    assert_refused(ERROR_FAILED_PRECONDITION, controller("ControllerGetVolumeHealth", &ask));
}

static void space_without_record_is_never_reused(void **state UNUSED)
{
    char id[VOLUME_ID_LEN + 1];

    assert_ok(volume_id_make(VOLUME_ID_VOLUME, f->plugin.driver, "a", id, &err));
    fake_volume(f, id)->has_file = true;
    fake_volume(f, id)->bytes = 12345;
    create(fake_create("a", GIB, fake_mount("")));
    assert_true(CALLED(f, "CREATE", "DELETE", "CREATE", "CreateRecord"));
}

static void no_space_makes_no_record(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "CREATE", .code = ERROR_RESOURCE_EXHAUSTED };
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_int_equal(fake_count(f, "CreateRecord"), 0);
}

static void space_is_reserved_unless_it_shall_be_thin(void **state UNUSED)
{
    create(fake_create("a", GIB, fake_mount("")));
    assert_true(f->last.reserve);
    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, fake_mount(""));
    fake_parameter(request, "provisioning", "thin");
    create(request);
    assert_false(f->last.reserve);
    request = fake_create("c", GIB, fake_mount(""));
    fake_parameter(request, "integrity", "none");
    fake_parameter(request, "discard", "on");
    create(request);
    assert_false(f->last.reserve);
}

static void journal_and_workqueue_are_part_of_the_record(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest *request = fake_create("a", GIB, fake_mount(""));

    fake_parameter(request, "journal", "off");
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    fake_parameter(request, "acceptLossAfterCrash", "true");
    fake_parameter(request, "workqueue", "on");
    const struct volume_spec *spec = &fake_record(f, create(request)->volume_id)->record.spec;
    assert_true(spec->no_journal);
    assert_int_equal(spec->workqueue, WORKQUEUE_ON);
    assert_refused(ERROR_ALREADY_EXISTS,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
}

/* --- copies --- */

static void restored_volume_names_its_source(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("ext4")))->volume_id;
    Csi__V1__CreateSnapshotResponse *snapshot = snap("s", id);

    assert_non_null(snapshot);

    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, fake_mount("ext4"));
    request->volume_content_source = fake_source(RECORD_SNAPSHOT, snapshot->snapshot->snapshot_id);
    fake_parameter(request, "workqueue", "off");
    Csi__V1__Volume *volume = create(request);
    assert_int_equal(fake_record(f, volume->volume_id)->record.spec.workqueue, WORKQUEUE_OFF);
    assert_int_equal(volume->content_source->type_case,
                     CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT);
    assert_string_equal(volume->content_source->snapshot->snapshot_id,
                        snapshot->snapshot->snapshot_id);
    assert_string_equal(create(request)->volume_id, volume->volume_id);
    assert_int_equal(fake_count(f, "COPY"), 2);          /* the snapshot, the volume */
    request = fake_create("b", GIB, fake_mount("ext4")); /* with workqueue=auto */
    request->volume_content_source = fake_source(RECORD_SNAPSHOT, snapshot->snapshot->snapshot_id);
    assert_refused(ERROR_ALREADY_EXISTS, controller("CreateVolume", request));
}

static void copy_of_nothing_is_not_found(void **state UNUSED)
{
    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, fake_mount(""));

    request->volume_content_source = fake_source(RECORD_VOLUME, "fake-vol-id");
    assert_refused(ERROR_NOT_FOUND, controller("CreateVolume", request));
    request->volume_content_source = fake_source(RECORD_SNAPSHOT, "saaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_refused(ERROR_NOT_FOUND, controller("CreateVolume", request));
    request->volume_content_source = fake_source(RECORD_SNAPSHOT, "");
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    assert_int_equal(fake_count(f, "COPY"), 0);
}

static void copy_with_other_properties_is_refused(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("ext4")))->volume_id;
    Csi__V1__CreateVolumeRequest *request = fake_create("b", GIB, fake_mount("xfs"));

    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    request = fake_create("b", GIB, fake_mount("ext4"));
    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    fake_parameter(request, "integrity", "hmac-sha256");
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    request = fake_create("b", GIB, fake_mount("ext4"));
    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    fake_parameter(request, "journal", "off");
    fake_parameter(request, "acceptLossAfterCrash", "true");
    assert_refused(ERROR_INVALID_ARGUMENT, controller("CreateVolume", request));
    request = fake_create("b", GIB / 2, fake_mount("ext4"));
    request->capacity_range->limit_bytes = GIB / 2;
    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    assert_refused(ERROR_OUT_OF_RANGE, controller("CreateVolume", request));
    assert_int_equal(fake_count(f, "COPY"), 0);
}

static void larger_copy_has_its_space_at_once(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("ext4")))->volume_id;
    Csi__V1__CreateVolumeRequest *request = fake_create("b", 2 * GIB, fake_mount("ext4"));

    request->volume_content_source = fake_source(RECORD_VOLUME, id);
    Csi__V1__Volume *copy = create(request);
    assert_int_equal(copy->capacity_bytes, 2 * GIB);
    assert_true(CALLED(f, "COPY", "RESIZE", "CopyRecord"));
    assert_int_equal(fake_record(f, copy->volume_id)->record.spec.size_bytes, 2 * GIB);
    assert_int_equal(fake_volume(f, copy->volume_id)->bytes,
                     fake_record(f, copy->volume_id)->record.spec.device_bytes);
    assert_string_equal(create(request)->volume_id, copy->volume_id);
    assert_int_equal(fake_count(f, "COPY"), 1);
}

static void touch_source(struct fake *fake)
{
    for (size_t i = 0; i < FAKE_MAX; i++)
        if (fake->records[i].is_present)
            fake->records[i].record.version++;
}

static void copy_of_a_source_that_changed_is_deleted_and_aborted(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    f->after_copy = touch_source;
    assert_refused(ERROR_ABORTED, snap("s", id));
    assert_true(CALLED(f, "COPY", "CopyRecord", "DELETE"));
    f->after_copy = NULL;
    assert_non_null(snap("s", id));
}

static void source_being_formatted_aborts_the_copy(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    fake_record(f, id)->record.phase = RECORD_FORMATTING;
    fake_record(f, id)->record.format.attempt = 1;
    assert_refused(ERROR_ABORTED, snap("s", id));
    assert_int_equal(fake_count(f, "COPY"), 0);
}

/* --- one operation per volume --- */

static void create_again(struct fake *fake, const struct block_request *request)
{
    auto_arena struct arena own = { .limit = 16u << 20 };
    struct error second = ERROR_INIT;

    if (request->operation != BLOCK_CREATE)
        return;
    fake->during = NULL;
    assert_null(fake_call(fake, &controller_service, "CreateVolume",
                          fake_create("a", GIB, fake_mount("")), &own, &second));
    assert_int_equal(second.code, ERROR_ABORTED);
    assert_contains(second.text, "CreateVolume");
}

static void second_call_on_a_busy_volume_is_aborted(void **state UNUSED)
{
    f->during = create_again;
    create(fake_create("a", GIB, fake_mount("")));
    assert_null(f->during);
    create(fake_create("a", GIB, fake_mount("")));
}

static void copy_waits_for_the_call_that_works_on_its_source(void **state UNUSED)
{
    struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    pthread_t thread;

    fake_let_one_wait(f);
    assert_ok(inflight_take(f->plugin.inflight, id, "NodeStageVolume", &hold, &err));
    assert_int_equal(pthread_create(&thread, NULL, fake_release_soon, &hold), 0);
    assert_non_null(snap("s", id));
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void copy_that_may_not_wait_is_aborted(void **state UNUSED)
{
    struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    assert_ok(inflight_take(f->plugin.inflight, id, "NodeStageVolume", &hold, &err));
    assert_refused(ERROR_ABORTED, snap("s", id));
    assert_contains(err.text, "NodeStageVolume");
    assert_int_equal(fake_count(f, "COPY"), 0);
    inflight_release(&hold);
    assert_non_null(snap("s", id));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(volume_has_the_size_asked_for_and_is_here),
        T(repeated_create_gives_the_same_volume_and_makes_nothing),
        T(create_without_size_gives_one_gibibyte),
        T(incomplete_create_is_an_invalid_argument),
        T(mutable_parameters_are_refused_by_name),
        T(impossible_sizes_are_out_of_range),
        T(size_that_its_file_system_cannot_have_is_out_of_range),
        T(claim_that_only_reads_needs_data),
        T(same_name_with_another_request_already_exists),
        T(requirement_for_other_nodes_is_resource_exhausted),
        T(volume_of_another_node_is_not_created_again),
        T(volume_that_another_node_makes_at_the_same_time_is_left_to_it),
        T(copy_of_another_nodes_source_is_left_to_that_node),
        T(volume_of_another_node_is_not_deleted_here),
        T(volume_of_another_node_has_its_topology),
        T(space_without_record_is_never_reused),
        T(no_space_makes_no_record),
        T(space_is_reserved_unless_it_shall_be_thin),
        T(journal_and_workqueue_are_part_of_the_record),
        T(restored_volume_names_its_source),
        T(copy_of_nothing_is_not_found),
        T(copy_with_other_properties_is_refused),
        T(larger_copy_has_its_space_at_once),
        T(copy_of_a_source_that_changed_is_deleted_and_aborted),
        T(source_being_formatted_aborts_the_copy),
        T(second_call_on_a_busy_volume_is_aborted),
        T(copy_waits_for_the_call_that_works_on_its_source),
        T(copy_that_may_not_wait_is_aborted),
    };

    return RUN_TESTS(tests);
}
