/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define MIB    (1ll << 20)
#define ABSENT "vaaaaaaaaaaaaaaaaaaaaaaaaaa"

#define CALLED(f, ...) fake_called((f), (const char *const[]){ __VA_ARGS__, NULL })

static struct fake *f;
static struct arena arena;
static struct error err;
static char id[VOLUME_ID_MAX + 1];

static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

static void make_volume(const char *name, const char *integrity)
{
    Csi__V1__CreateVolumeRequest *request = fake_create(name, 64 * MIB, fake_mount("ext4"));

    fake_parameter(request, "integrity", integrity);
    Csi__V1__CreateVolumeResponse *response =
        fake_call(f, &controller_service, "CreateVolume", request, &arena, &err);
    assert_non_null(response);
    (void)snprintf(id, sizeof(id), "%s", response->volume->volume_id);
    f->n_log = 0;
}

static int set_up(void **state UNUSED)
{
    f = fake_new();
    arena_init(&arena, 16u << 20);
    err = (struct error)ERROR_INIT;
    make_volume("a", "aegis128");
    return 0;
}

static int tear_down(void **state UNUSED)
{
    arena_wipe(&arena);
    fake_free(f);
    return 0;
}

static void *node(const char *method, const void *request)
{
    return fake_call(f, &node_service, method, request, &arena, &err);
}

static bool stages_as(Csi__V1__VolumeCapability *capability, const char *volume, const char *path)
{
    Csi__V1__NodeStageVolumeRequest request = CSI__V1__NODE_STAGE_VOLUME_REQUEST__INIT;

    request.volume_id = text(volume);
    request.staging_target_path = text(path);
    request.volume_capability = capability;
    return node("NodeStageVolume", &request) != NULL;
}

static bool stages(void)
{
    return stages_as(fake_mount("ext4"), id, "/stage");
}

static bool unstages(const char *volume, const char *path)
{
    Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

    request.volume_id = text(volume);
    request.staging_target_path = text(path);
    return node("NodeUnstageVolume", &request) != NULL;
}

static Csi__V1__NodePublishVolumeRequest publication(Csi__V1__VolumeCapability *capability,
                                                     const char *target)
{
    Csi__V1__NodePublishVolumeRequest request = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;

    request.volume_id = id;
    request.staging_target_path = text("/stage");
    request.target_path = text(target);
    request.volume_capability = capability;
    return request;
}

static Csi__V1__VolumeHealth *health_of(const char *volume)
{
    Csi__V1__NodeGetVolumeHealthRequest request = CSI__V1__NODE_GET_VOLUME_HEALTH_REQUEST__INIT;

    request.volume_id = text(volume);
    Csi__V1__NodeGetVolumeHealthResponse *response = node("NodeGetVolumeHealth", &request);
    return response ? response->volume_health : NULL;
}

/* --- stage --- */

static void staging_opens_the_record_and_mounts_what_it_says(void **state UNUSED)
{
    assert_true(stages_as(fake_mount(""), id, "/stage"));
    assert_true(CALLED(f, "STAGE", "OpenVolume", "ChangeRecord"));
    assert_int_equal(fake_count(f, "GetRecord"), 0);
    assert_string_equal(f->last.fs_type, BLOCK_FS_ANY); /* the worker learns it from the record */
    assert_string_equal(fake_volume(f, id)->fs_type, "ext4");
    assert_string_equal(f->last.path, "/stage");
    assert_false(f->last.read_only);
    assert_int_equal(fake_record(f, id)->record.phase, RECORD_READY);
    assert_string_equal(fake_record(f, id)->record.lease.holder.node, "node-1");
}

static void incomplete_stage_is_an_invalid_argument(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, stages_as(fake_mount(""), "", "/stage"));
    assert_refused(ERROR_INVALID_ARGUMENT, stages_as(fake_mount(""), id, ""));
    assert_refused(ERROR_INVALID_ARGUMENT, stages_as(NULL, id, "/stage"));
    Csi__V1__VolumeCapability *group = fake_mount("");
    group->mount->volume_mount_group = text("100");
    assert_refused(ERROR_INVALID_ARGUMENT, stages_as(group, id, "/stage"));
    assert_int_equal(f->n_log, 0);
}

static void unknown_volume_is_not_found(void **state UNUSED)
{
    assert_refused(ERROR_NOT_FOUND, stages_as(fake_mount(""), "fake-vol-id", "/stage"));
    assert_int_equal(fake_count(f, "STAGE"), 0);
    assert_refused(ERROR_NOT_FOUND, stages_as(fake_mount(""), ABSENT, "/stage"));
    f->fault = (struct fake_fault){ .at = "STAGE", .code = ERROR_INVALID_ARGUMENT };
    assert_refused(ERROR_NOT_FOUND, stages_as(fake_mount(""), ABSENT, "/run/elsewhere"));
    assert_refused(ERROR_INVALID_ARGUMENT, stages_as(fake_mount(""), id, "/run/elsewhere"));
}

static void use_the_volume_was_not_made_for_fails_the_precondition(void **state UNUSED)
{
    assert_refused(ERROR_FAILED_PRECONDITION, stages_as(fake_block_reader(), id, "/stage"));
    assert_refused(ERROR_FAILED_PRECONDITION, stages_as(fake_mount("xfs"), id, "/stage"));
    assert_false(fake_volume(f, id)->is_staged);
    assert_ok(stages_as(fake_block(), id, "/stage")); /* a file system is brought along */
}

/* kubelet stages again after it was restarted. Nothing is wrong with the volume. */
static void repeated_stage_needs_no_broker(void **state UNUSED)
{
    assert_true(stages());
    f->fault = (struct fake_fault){ .at = "OpenVolume", .code = ERROR_UNAVAILABLE };
    assert_true(stages());
    f->fault.at = "GetRecord";
    assert_true(stages());
    f->fault.at = NULL;
    Csi__V1__VolumeHealth *health = health_of(id);
    assert_non_null(health);
    assert_int_equal(health->n_health_statuses, 0);
}

static void repeated_stage_succeeds_and_other_path_already_exists(void **state UNUSED)
{
    assert_true(stages());
    assert_true(stages());
    assert_int_equal(fake_count(f, "OpenVolume"), 1);
    assert_refused(ERROR_ALREADY_EXISTS, stages_as(fake_mount("ext4"), id, "/elsewhere"));
}

/* A volume is formatted by its first stage, which must be for a writer. */
static void stage_for_a_reader(void)
{
    assert_true(stages());
    assert_true(unstages(id, "/stage"));
    Csi__V1__VolumeCapability *reader = fake_mount("ext4");
    reader->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_READER_ONLY;
    assert_true(stages_as(reader, id, "/stage"));
}

static void readers_open_read_only_and_take_no_lease(void **state UNUSED)
{
    stage_for_a_reader();
    assert_true(f->last.read_only);
    assert_string_equal(fake_record(f, id)->record.lease.holder.node, "");
}

static void mount_flags_arrive_joined(void **state UNUSED)
{
    Csi__V1__VolumeCapability *capability = fake_mount("ext4");
    char *flags[] = { text("noatime"), text(""), text("context=\"a:b:c1,c2\"") };

    capability->mount->mount_flags = flags;
    capability->mount->n_mount_flags = 3;
    assert_true(stages_as(capability, id, "/stage"));
    assert_string_equal(f->last.mount_flags, "noatime,context=\"a:b:c1,c2\"");
}

static void staging_goes_on_longer_than_kubelet_waits(void **state UNUSED)
{
    assert_true(stages());
    assert_true(f->last.deadline_ms > 5 * 60 * 1000);
}

static void unreachable_broker_is_unavailable_and_remembered(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "OpenVolume",
                                    .code = ERROR_UNAVAILABLE,
                                    .reason = "BrokerUnreachable" };
    assert_refused(ERROR_UNAVAILABLE, stages());
    Csi__V1__VolumeHealth *health = health_of(id);
    assert_int_equal(health->n_health_statuses, 1);
    assert_string_equal(health->health_statuses[0]->reason, "BrokerUnreachable");
    assert_int_equal(health->health_statuses[0]->status,
                     CSI__V1__VOLUME_HEALTH_ERROR_TYPE__INACCESSIBLE);

    f->fault =
        (struct fake_fault){ .at = "STAGE", .code = ERROR_DATA_LOSS, .reason = "RolledBack" };
    assert_refused(ERROR_DATA_LOSS, stages());
    health = health_of(id);
    assert_int_equal(health->n_health_statuses, 1);
    assert_string_equal(health->health_statuses[0]->reason, "RolledBack");

    f->fault.at = NULL;
    assert_true(stages());
    assert_int_equal(health_of(id)->n_health_statuses, 0);
}

static void refused_key_is_remembered_as_such(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "OpenVolume", .code = ERROR_DENIED };
    assert_refused(ERROR_DENIED, stages());
    assert_string_equal(health_of(id)->health_statuses[0]->reason, "KeyRefused");
}

static void wrong_requests_say_nothing_about_the_volume(void **state UNUSED)
{
    assert_refused(ERROR_FAILED_PRECONDITION, stages_as(fake_block_reader(), id, "/stage"));
    assert_int_equal(health_of(id)->n_health_statuses, 0);
}

static void health_of_an_unknown_volume_is_not_found(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, health_of(""));
    assert_refused(ERROR_NOT_FOUND, health_of("fake-vol-id"));
    assert_refused(ERROR_NOT_FOUND, health_of(ABSENT));
    assert_string_equal(health_of(id)->volume_id, id);
    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_UNAVAILABLE };
    assert_int_equal(health_of(id)->n_health_statuses, 0);
}

static void health_ends_with_the_volume(void **state UNUSED)
{
    f->fault = (struct fake_fault){ .at = "OpenVolume", .code = ERROR_DENIED };
    assert_refused(ERROR_DENIED, stages());
    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_UNAVAILABLE };
    assert_int_equal(health_of(id)->n_health_statuses, 1);
    f->fault.at = NULL;
    assert_int_equal(health_of(id)->n_health_statuses, 1);
    fake_record(f, id)->is_present = false; /* deleted elsewhere */
    assert_refused(ERROR_NOT_FOUND, health_of(id));
    struct health_report report;
    health_get(f->plugin.health, id, &report);
    assert_int_equal(report.n, 0);
}

/* --- unstage --- */

static void unstaging_gives_the_lease_back(void **state UNUSED)
{
    assert_true(stages());
    assert_true(unstages(id, "/stage"));
    assert_false(fake_volume(f, id)->is_staged);
    assert_string_equal(fake_record(f, id)->record.lease.holder.node, "");
    assert_true(unstages(id, "/stage"));
}

static void unstaging_needs_no_broker(void **state UNUSED)
{
    static const char *const methods[] = { "GetRecord", "ChangeRecord" };

    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        f->fault.at = NULL;
        assert_true(stages());
        f->fault = (struct fake_fault){ .at = methods[i], .code = ERROR_UNAVAILABLE };
        assert_true(unstages(id, "/stage"));
        assert_false(fake_volume(f, id)->is_staged);
    }
}

static void incomplete_unstage_is_an_invalid_argument(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, unstages("", "/stage"));
    assert_refused(ERROR_INVALID_ARGUMENT, unstages(id, ""));
    assert_true(unstages("fake-vol-id", "/stage"));
}

/* --- publish --- */

static void publishing_binds_what_is_staged(void **state UNUSED)
{
    assert_true(stages());
    Csi__V1__NodePublishVolumeRequest request = publication(fake_mount(""), "/pod");
    request.readonly = true;
    assert_non_null(node("NodePublishVolume", &request));
    assert_string_equal(f->last.path, "/pod");
    assert_string_equal(f->last.path2, "/stage");
    assert_string_equal(f->last.fs_type, BLOCK_FS_ANY);
    assert_true(f->last.read_only);
    assert_false(f->last.exclusive);
}

static void publish_of_a_failed_file_system_is_remembered_until_it_works(void **state UNUSED)
{
    assert_true(stages());
    Csi__V1__NodePublishVolumeRequest request = publication(fake_mount(""), "/pod");
    f->fault = (struct fake_fault){ .at = "PUBLISH",
                                    .code = ERROR_FAILED_PRECONDITION,
                                    .reason = "FileSystemShutDown" };
    assert_refused(ERROR_FAILED_PRECONDITION, node("NodePublishVolume", &request));
    assert_string_equal(health_of(id)->health_statuses[0]->reason, "FileSystemShutDown");
    f->fault.reason = "";
    assert_refused(ERROR_FAILED_PRECONDITION, node("NodePublishVolume", &request));
    assert_int_equal(health_of(id)->n_health_statuses, 1);
    f->fault.at = NULL;
    assert_non_null(node("NodePublishVolume", &request));
    assert_int_equal(health_of(id)->n_health_statuses, 0);
}

static void incomplete_publish_is_refused(void **state UNUSED)
{
    Csi__V1__NodePublishVolumeRequest request = publication(fake_mount(""), "");

    assert_refused(ERROR_INVALID_ARGUMENT, node("NodePublishVolume", &request));
    request = publication(NULL, "/pod");
    assert_refused(ERROR_INVALID_ARGUMENT, node("NodePublishVolume", &request));
    request = publication(fake_mount(""), "/pod");
    request.volume_id = text("");
    assert_refused(ERROR_INVALID_ARGUMENT, node("NodePublishVolume", &request));
    request = publication(fake_mount(""), "/pod");
    request.staging_target_path = text("");
    assert_refused(ERROR_FAILED_PRECONDITION, node("NodePublishVolume", &request));
    assert_int_equal(f->n_log, 0);
}

static void volume_that_is_not_staged_fails_the_precondition_unless_it_does_not_exist(
    void **state UNUSED)
{
    Csi__V1__NodePublishVolumeRequest request = publication(fake_mount(""), "/pod");

    assert_refused(ERROR_FAILED_PRECONDITION, node("NodePublishVolume", &request));
    request.volume_id = text(ABSENT);
    assert_refused(ERROR_NOT_FOUND, node("NodePublishVolume", &request));
    request.volume_id = text("fake-vol-id");
    assert_refused(ERROR_NOT_FOUND, node("NodePublishVolume", &request));
}

static void single_writer_has_one_target(void **state UNUSED)
{
    assert_true(stages());
    Csi__V1__VolumeCapability *single = fake_mount("ext4");
    single->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER;
    Csi__V1__NodePublishVolumeRequest request = publication(single, "/pod1");

    assert_non_null(node("NodePublishVolume", &request));
    assert_true(f->last.exclusive);
    request.target_path = text("/pod2");
    assert_refused(ERROR_FAILED_PRECONDITION, node("NodePublishVolume", &request));
}

static void unpublishing_needs_id_and_target_alone(void **state UNUSED)
{
    Csi__V1__NodeUnpublishVolumeRequest request = CSI__V1__NODE_UNPUBLISH_VOLUME_REQUEST__INIT;

    assert_refused(ERROR_INVALID_ARGUMENT, node("NodeUnpublishVolume", &request));
    request.volume_id = id;
    assert_refused(ERROR_INVALID_ARGUMENT, node("NodeUnpublishVolume", &request));
    request.target_path = text("/pod");
    assert_non_null(node("NodeUnpublishVolume", &request));
    assert_string_equal(f->last.path, "/pod");
    assert_int_equal(f->n_log, 1);
}

/* --- stats, expand, info --- */

static void stats_have_bytes_and_inodes(void **state UNUSED)
{
    Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;

    assert_refused(ERROR_INVALID_ARGUMENT, node("NodeGetVolumeStats", &request));
    request.volume_id = id;
    assert_refused(ERROR_INVALID_ARGUMENT, node("NodeGetVolumeStats", &request));
    request.volume_path = text("some/path");
    assert_refused(ERROR_NOT_FOUND, node("NodeGetVolumeStats", &request));
    request.volume_path = text("/pod");
    assert_refused(ERROR_NOT_FOUND, node("NodeGetVolumeStats", &request));
    assert_true(stages());
    Csi__V1__NodeGetVolumeStatsResponse *response = node("NodeGetVolumeStats", &request);
    assert_int_equal(response->n_usage, 2);
    assert_int_equal(response->usage[0]->total, 100);
    assert_int_equal(response->usage[0]->used, 40);
    assert_int_equal(response->usage[0]->available, 60);
    assert_int_equal(response->usage[1]->unit, CSI__V1__VOLUME_USAGE__UNIT__INODES);
    request.volume_id = text("fake-vol-id");
    assert_refused(ERROR_NOT_FOUND, node("NodeGetVolumeStats", &request));
}

static void path_outside_of_all_roots_is_not_found(void **state UNUSED)
{
    Csi__V1__NodeGetVolumeStatsRequest request = CSI__V1__NODE_GET_VOLUME_STATS_REQUEST__INIT;

    request.volume_id = id;
    request.volume_path = text("/etc");
    f->fault = (struct fake_fault){ .at = "STATS", .code = ERROR_INVALID_ARGUMENT };
    assert_refused(ERROR_NOT_FOUND, node("NodeGetVolumeStats", &request));
}

static Csi__V1__NodeExpandVolumeResponse *expand(const char *path, int64_t bytes)
{
    Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;

    range.required_bytes = bytes;
    request.volume_id = id;
    request.volume_path = text(path);
    request.capacity_range = &range;
    return node("NodeExpandVolume", &request);
}

static void growing_makes_space_then_records_then_grows(void **state UNUSED)
{
    assert_refused(ERROR_NOT_FOUND, expand("/pod", 128 * MIB));
    assert_true(stages());
    f->n_log = 0;
    Csi__V1__NodeExpandVolumeResponse *response = expand("/pod", 128 * MIB);
    assert_non_null(response);
    assert_int_equal(response->capacity_bytes, 128 * MIB);
    assert_true(CALLED(f, "RESIZE", "ChangeRecord", "EXPAND"));
    assert_int_equal(fake_record(f, id)->record.spec.size_bytes, 128 * MIB);
    assert_true(fake_volume(f, id)->bytes > 128 * MIB);
}

static void interrupted_growth_is_finished_by_a_retry(void **state UNUSED)
{
    assert_true(stages());
    f->fault = (struct fake_fault){ .at = "EXPAND", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, expand("/pod", 128 * MIB));
    f->fault.at = NULL;
    f->n_log = 0;
    assert_non_null(expand("/pod", 128 * MIB));
    assert_true(CALLED(f, "EXPAND"));
    assert_int_equal(fake_count(f, "RESIZE"), 0);
}

static void smaller_size_changes_nothing(void **state UNUSED)
{
    assert_true(stages());
    assert_int_equal(expand("/pod", 32 * MIB)->capacity_bytes, 64 * MIB);
    assert_int_equal(fake_count(f, "RESIZE") + fake_count(f, "ChangeRecord"), 1); /* READY */
}

static void expand_of_a_read_only_stage_grows_nothing(void **state UNUSED)
{
    stage_for_a_reader();
    uint64_t bytes = fake_volume(f, id)->bytes;
    assert_refused(ERROR_FAILED_PRECONDITION, expand("/pod", 128 * MIB));
    assert_int_equal(fake_volume(f, id)->bytes, bytes);
    assert_int_equal(fake_count(f, "RESIZE"), 0);
    assert_int_equal(fake_record(f, id)->record.spec.size_bytes, 64 * MIB);
}

static void expand_names_what_is_missing(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, expand("", 64 * MIB));
    assert_refused(ERROR_NOT_FOUND, expand("some/path", 64 * MIB));
    (void)snprintf(id, sizeof(id), "fake-vol-id");
    assert_refused(ERROR_NOT_FOUND, expand("some/path", 64 * MIB));
    id[0] = '\0';
    assert_refused(ERROR_INVALID_ARGUMENT, expand("/pod", 64 * MIB));
}

static void node_says_where_it_is_and_how_much_fits(void **state UNUSED)
{
    Csi__V1__NodeGetInfoRequest request = CSI__V1__NODE_GET_INFO_REQUEST__INIT;
    Csi__V1__NodeGetInfoResponse *response = node("NodeGetInfo", &request);

    assert_string_equal(response->node_id, "node-1");
    assert_int_equal(response->max_volumes_per_node, 12);
    assert_string_equal(response->accessible_topology->segments[0]->value, "node-1");
}

static void storage_health_names_what_is_missing(void **state UNUSED)
{
    Csi__V1__NodeGetStorageHealthRequest request = CSI__V1__NODE_GET_STORAGE_HEALTH_REQUEST__INIT;
    Csi__V1__NodeGetStorageHealthResponse *response = node("NodeGetStorageHealth", &request);

    assert_int_equal(response->n_backend_health, 0);
    (void)snprintf(f->plugin.probe.missing, sizeof(f->plugin.probe.missing), "dm-thin-pool");
    f->fault = (struct fake_fault){ .at = "GetStatus", .code = ERROR_UNAVAILABLE };
    response = node("NodeGetStorageHealth", &request);
    assert_int_equal(response->n_backend_health, 2);
    assert_string_equal(response->backend_health[0]->message, "dm-thin-pool");
    assert_string_equal(response->backend_health[1]->reason, "BrokerUnreachable");
}

static void probe_fails_where_nothing_can_be_served(void **state UNUSED)
{
    Csi__V1__ProbeRequest request = CSI__V1__PROBE_REQUEST__INIT;

    assert_non_null(fake_call(f, &identity_service, "Probe", &request, &arena, &err));
    f->plugin.probe.none = false;
    (void)snprintf(f->plugin.probe.missing, sizeof(f->plugin.probe.missing), "dm-crypt");
    assert_refused(ERROR_FAILED_PRECONDITION,
                   fake_call(f, &identity_service, "Probe", &request, &arena, &err));
    assert_contains(err.text, "dm-crypt");
}

static void plugin_says_who_it_is(void **state UNUSED)
{
    Csi__V1__GetPluginInfoRequest info = CSI__V1__GET_PLUGIN_INFO_REQUEST__INIT;
    Csi__V1__GetPluginCapabilitiesRequest capabilities =
        CSI__V1__GET_PLUGIN_CAPABILITIES_REQUEST__INIT;
    Csi__V1__GetPluginInfoResponse *who =
        fake_call(f, &identity_service, "GetPluginInfo", &info, &arena, &err);

    assert_string_equal(who->name, "csi.example.org");
    assert_string_equal(who->vendor_version, "1.2.3");
    Csi__V1__GetPluginCapabilitiesResponse *what =
        fake_call(f, &identity_service, "GetPluginCapabilities", &capabilities, &arena, &err);
    assert_int_equal(what->n_capabilities, 3);
    f->plugin.serves_controller = false;
    what = fake_call(f, &identity_service, "GetPluginCapabilities", &capabilities, &arena, &err);
    assert_int_equal(what->n_capabilities, 2);
}

static void second_call_during_a_stage(struct fake *fake, const struct block_request *request)
{
    auto_arena struct arena own = { .limit = 16u << 20 };
    struct error second = ERROR_INIT;
    Csi__V1__NodeUnstageVolumeRequest unstage = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;

    if (request->operation != BLOCK_STAGE)
        return;
    fake->during = NULL;
    unstage.volume_id = id;
    unstage.staging_target_path = text("/stage");
    assert_null(fake_call(fake, &node_service, "NodeUnstageVolume", &unstage, &own, &second));
    assert_int_equal(second.code, ERROR_ABORTED);
    assert_contains(second.text, "NodeStageVolume");
}

static void other_calls_are_aborted_while_a_volume_is_staged(void **state UNUSED)
{
    f->during = second_call_during_a_stage;
    assert_true(stages());
    assert_null(f->during);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(staging_opens_the_record_and_mounts_what_it_says),
        T(incomplete_stage_is_an_invalid_argument),
        T(unknown_volume_is_not_found),
        T(use_the_volume_was_not_made_for_fails_the_precondition),
        T(repeated_stage_succeeds_and_other_path_already_exists),
        T(repeated_stage_needs_no_broker),
        T(readers_open_read_only_and_take_no_lease),
        T(mount_flags_arrive_joined),
        T(staging_goes_on_longer_than_kubelet_waits),
        T(unreachable_broker_is_unavailable_and_remembered),
        T(refused_key_is_remembered_as_such),
        T(wrong_requests_say_nothing_about_the_volume),
        T(health_of_an_unknown_volume_is_not_found),
        T(health_ends_with_the_volume),
        T(unstaging_gives_the_lease_back),
        T(unstaging_needs_no_broker),
        T(incomplete_unstage_is_an_invalid_argument),
        T(publishing_binds_what_is_staged),
        T(publish_of_a_failed_file_system_is_remembered_until_it_works),
        T(incomplete_publish_is_refused),
        T(volume_that_is_not_staged_fails_the_precondition_unless_it_does_not_exist),
        T(single_writer_has_one_target),
        T(unpublishing_needs_id_and_target_alone),
        T(stats_have_bytes_and_inodes),
        T(path_outside_of_all_roots_is_not_found),
        T(growing_makes_space_then_records_then_grows),
        T(interrupted_growth_is_finished_by_a_retry),
        T(smaller_size_changes_nothing),
        T(expand_of_a_read_only_stage_grows_nothing),
        T(expand_names_what_is_missing),
        T(node_says_where_it_is_and_how_much_fits),
        T(storage_health_names_what_is_missing),
        T(probe_fails_where_nothing_can_be_served),
        T(plugin_says_who_it_is),
        T(other_calls_are_aborted_while_a_volume_is_staged),
    };

    return RUN_TESTS(tests);
}
