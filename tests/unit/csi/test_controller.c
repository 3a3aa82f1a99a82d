/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/volume_id.h"
#include "record/layout.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

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

static bool deletes(const char *id)
{
    Csi__V1__DeleteVolumeRequest request = CSI__V1__DELETE_VOLUME_REQUEST__INIT;

    request.volume_id = (char *)(uintptr_t)id;
    return controller("DeleteVolume", &request) != NULL;
}

static Csi__V1__CreateSnapshotResponse *snap(const char *name, const char *source)
{
    Csi__V1__CreateSnapshotRequest request = CSI__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.name = (char *)(uintptr_t)name;
    request.source_volume_id = (char *)(uintptr_t)source;
    return controller("CreateSnapshot", &request);
}

/* --- snapshots --- */

static void incomplete_snapshot_is_an_invalid_argument(void **state UNUSED)
{
    assert_refused(ERROR_INVALID_ARGUMENT, snap("", "v"));
    assert_refused(ERROR_INVALID_ARGUMENT, snap("s", ""));
    assert_refused(ERROR_NOT_FOUND, snap("s", "fake-vol-id"));
}

static void snapshot_is_found_again_and_bound_to_its_source(void **state UNUSED)
{
    char *a = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    char *b = create(fake_create("b", GIB, fake_mount("")))->volume_id;
    Csi__V1__Snapshot *first = snap("s", a)->snapshot;

    assert_true(first->ready_to_use);
    assert_int_equal(first->size_bytes, GIB);
    assert_int_equal(first->creation_time->seconds, 1700000000);
    assert_int_equal(first->creation_time->nanos, 123000000);
    assert_string_equal(snap("s", a)->snapshot->snapshot_id, first->snapshot_id);
    assert_refused(ERROR_ALREADY_EXISTS, snap("s", b));
    assert_int_equal(fake_count(f, "COPY"), 1);
}

static void snapshot_outlives_its_source(void **state UNUSED)
{
    char *a = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    char *s = snap("s", a)->snapshot->snapshot_id;
    Csi__V1__GetSnapshotRequest request = CSI__V1__GET_SNAPSHOT_REQUEST__INIT;

    assert_true(deletes(a));
    request.snapshot_id = s;
    Csi__V1__GetSnapshotResponse *response = controller("GetSnapshot", &request);
    assert_non_null(response);
    assert_string_equal(response->snapshot->source_volume_id, a);
    request.snapshot_id = (char *)(uintptr_t) "";
    assert_refused(ERROR_INVALID_ARGUMENT, controller("GetSnapshot", &request));
    request.snapshot_id = a;
    assert_refused(ERROR_NOT_FOUND, controller("GetSnapshot", &request));
}

/* --- DeleteVolume --- */

static void unknown_volume_is_deleted_already(void **state UNUSED)
{
    assert_true(deletes("fake-vol-id-1a2b"));
    assert_int_equal(f->n_log, 0);
    assert_true(deletes("vaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    assert_refused(ERROR_INVALID_ARGUMENT, deletes(""));
}

static void deletion_destroys_the_key_last(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    assert_true(deletes(id));
    assert_true(CALLED(f, "BeginDelete", "DELETE", "FinishDelete"));
    assert_null(fake_record(f, id));
    assert_true(deletes(id));
}

/* --- a deletion that meets the end of an unstage --- */

static void *unstage_soon(void *cookie)
{
    Csi__V1__NodeUnstageVolumeRequest request = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
    auto_arena struct arena own = { .limit = 1u << 20 };
    struct error failed = ERROR_INIT;

    (void)usleep(100000);
    request.volume_id = cookie;
    request.staging_target_path = (char *)(uintptr_t) "/stage";
    return fake_call(f, &node_service, "NodeUnstageVolume", &request, &own, &failed) ? cookie
                                                                                     : NULL;
}

static void deletion_waits_for_the_call_in_flight(void **state UNUSED)
{
    struct inflight_hold hold = INFLIGHT_HOLD_INIT;
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    pthread_t thread;

    fake_let_one_wait(f);
    assert_ok(inflight_take(f->plugin.inflight, id, "NodeUnstageVolume", &hold, &err));
    assert_int_equal(pthread_create(&thread, NULL, fake_release_soon, &hold), 0);
    assert_true(deletes(id));
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_null(fake_record(f, id));
}

static void deletion_waits_for_the_unstage_to_come(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    struct fake_volume *volume = fake_volume(f, id);
    void *is_unstaged = NULL;
    pthread_t thread;

    fake_let_one_wait(f);
    volume->is_staged = true;
    (void)snprintf(volume->staging, sizeof(volume->staging), "/stage");
    assert_int_equal(pthread_create(&thread, NULL, unstage_soon, id), 0);
    assert_true(deletes(id));
    assert_int_equal(pthread_join(thread, &is_unstaged), 0);
    assert_non_null(is_unstaged); /* the deletion did not stand in its way */
    assert_null(fake_record(f, id));
}

static void snapshot_id_deletes_no_volume(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    Csi__V1__DeleteSnapshotRequest request = CSI__V1__DELETE_SNAPSHOT_REQUEST__INIT;

    request.snapshot_id = id;
    assert_non_null(controller("DeleteSnapshot", &request));
    assert_non_null(fake_record(f, id));
    assert_true(fake_volume(f, id)->has_file);
}

static void volume_in_use_stays_as_it_was(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    fake_volume(f, id)->is_staged = true;
    assert_refused(ERROR_FAILED_PRECONDITION, deletes(id));
    assert_true(CALLED(f, "BeginDelete", "DELETE", "CancelDelete"));
    assert_int_equal(fake_record(f, id)->record.phase, RECORD_NEW);
    assert_true(fake_volume(f, id)->has_file);
}

/* A volume with data. The broker's record says that this boot of that node has it open. */
static char *held_volume(const char *node, const char *boot_id)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    struct record *r = &fake_record(f, id)->record;

    r->phase = RECORD_READY;
    r->n_header_digests = 1;
    (void)snprintf(r->lease.holder.node, sizeof(r->lease.holder.node), "%s", node);
    (void)snprintf(r->lease.holder.boot_id, sizeof(r->lease.holder.boot_id), "%s", boot_id);
    return id;
}

static void own_stale_lease_does_not_hinder_a_deletion(void **state UNUSED)
{
    char *id = held_volume("node-1", "boot-1");

    assert_true(deletes(id));
    assert_true(CALLED(f, "BeginDelete", "INSPECT", "ChangeRecord", "BeginDelete", "FinishDelete"));
}

static void lease_of_a_former_boot_is_taken_over_and_given_back(void **state UNUSED)
{
    char *id = held_volume("node-1", "boot-0");

    assert_true(deletes(id));
    assert_true(CALLED(f, "TakeOverLease", "ChangeRecord", "BeginDelete", "DELETE"));
    assert_int_equal(fake_count(f, "OpenVolume"), 0); /* no key is asked for */
}

static void format_of_a_former_boot_does_not_hinder_a_deletion(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    struct record *r = &fake_record(f, id)->record;

    r->phase = RECORD_FORMATTING;
    r->format = (struct record_format){ .attempt = 1,
                                        .holder = { "node-1", "boot-0" },
                                        .deadline_ms = 1700000600000 };
    assert_true(deletes(id));
    assert_null(fake_record(f, id));
}

static void lease_of_another_node_hinders_a_deletion(void **state UNUSED)
{
    char *id = held_volume("node-2", "boot-1");

    assert_refused(ERROR_FAILED_PRECONDITION, deletes(id));
    assert_int_equal(fake_count(f, "OpenVolume"), 0);
    assert_int_equal(fake_count(f, "ChangeRecord"), 0);
    assert_int_equal(fake_count(f, "DELETE"), 0);
}

static void lease_of_an_active_volume_hinders_its_deletion(void **state UNUSED)
{
    char *id = held_volume("node-1", "boot-1");

    fake_volume(f, id)->is_staged = true;
    assert_refused(ERROR_FAILED_PRECONDITION, deletes(id));
    assert_int_equal(fake_count(f, "ChangeRecord"), 0);
    assert_int_equal(fake_count(f, "DELETE"), 0);
}

static void interrupted_deletion_is_finished_by_a_retry(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("")))->volume_id;

    f->fault = (struct fake_fault){ .at = "FinishDelete", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE, deletes(id));
    f->fault.at = NULL;
    assert_refused(ERROR_ABORTED,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_true(deletes(id));
    assert_null(fake_record(f, id));
}

/* --- questions --- */

static void capabilities_are_confirmed_or_not_with_a_reason(void **state UNUSED)
{
    char *id = create(fake_create("a", GIB, fake_mount("ext4")))->volume_id;
    Csi__V1__ValidateVolumeCapabilitiesRequest request =
        CSI__V1__VALIDATE_VOLUME_CAPABILITIES_REQUEST__INIT;
    Csi__V1__VolumeCapability *list[] = { fake_mount("ext4") };

    assert_refused(ERROR_INVALID_ARGUMENT, controller("ValidateVolumeCapabilities", &request));
    request.volume_id = id;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ValidateVolumeCapabilities", &request));
    request.volume_capabilities = list;
    request.n_volume_capabilities = 1;
    Csi__V1__ValidateVolumeCapabilitiesResponse *response =
        controller("ValidateVolumeCapabilities", &request);
    assert_int_equal(response->confirmed->n_volume_capabilities, 1);
    list[0] = fake_block();
    response = controller("ValidateVolumeCapabilities", &request);
    assert_null(response->confirmed);
    assert_contains(response->message, "file system");
    request.volume_id = (char *)(uintptr_t) "fake-vol-id";
    assert_refused(ERROR_NOT_FOUND, controller("ValidateVolumeCapabilities", &request));
}

static void listing_gives_pages_or_all_the_rest(void **state UNUSED)
{
    static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g" };
    Csi__V1__ListVolumesRequest request = CSI__V1__LIST_VOLUMES_REQUEST__INIT;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        create(fake_create(names[i], 64 * MIB, fake_mount("")));
    Csi__V1__ListVolumesResponse *all = controller("ListVolumes", &request);
    assert_int_equal(all->n_entries, 7);
    assert_string_equal(all->next_token, "");
    request.max_entries = 2;
    Csi__V1__ListVolumesResponse *page = controller("ListVolumes", &request);
    assert_int_equal(page->n_entries, 2);
    request.max_entries = 0;
    request.starting_token = page->next_token;
    all = controller("ListVolumes", &request);
    assert_int_equal(all->n_entries, 5);
    request.starting_token = (char *)(uintptr_t) "invalid-token";
    assert_refused(ERROR_ABORTED, controller("ListVolumes", &request));
    request.starting_token = (char *)(uintptr_t) "";
    request.max_entries = -1;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ListVolumes", &request));
}

static void snapshots_of_unknown_ids_are_an_empty_list(void **state UNUSED)
{
    char *a = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    char *s = snap("s", a)->snapshot->snapshot_id;
    Csi__V1__ListSnapshotsRequest request = CSI__V1__LIST_SNAPSHOTS_REQUEST__INIT;
    static const struct {
        const char *id, *source;
    } none[] = { { "none-exist-id", "" }, { "", "none-exist-id" } };

    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        request.snapshot_id = (char *)(uintptr_t)none[i].id;
        request.source_volume_id = (char *)(uintptr_t)none[i].source;
        Csi__V1__ListSnapshotsResponse *empty = controller("ListSnapshots", &request);
        assert_int_equal(empty->n_entries, 0);
    }
    request.snapshot_id = s;
    request.source_volume_id = (char *)(uintptr_t) "";
    Csi__V1__ListSnapshotsResponse *one = controller("ListSnapshots", &request);
    assert_int_equal(one->n_entries, 1);
    assert_string_equal(one->entries[0]->snapshot->source_volume_id, a);
    request.snapshot_id = (char *)(uintptr_t) "";
    request.source_volume_id = a;
    one = controller("ListSnapshots", &request);
    assert_int_equal(one->n_entries, 1);
}

static void capacity_is_what_one_volume_could_have(void **state UNUSED)
{
    Csi__V1__GetCapacityRequest request = CSI__V1__GET_CAPACITY_REQUEST__INIT;
    Csi__V1__GetCapacityResponse *response = controller("GetCapacity", &request);

    assert_true(response->available_capacity > 8 * GIB && response->available_capacity < 10 * GIB);
    assert_int_equal(response->maximum_volume_size->value, response->available_capacity);
    f->free_bytes = 1000;
    response = controller("GetCapacity", &request);
    assert_int_equal(response->available_capacity, 0);

    Csi__V1__VolumeCapability *many = fake_block();
    Csi__V1__VolumeCapability *list[] = { many };
    many->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
    f->free_bytes = 10u << 30;
    request.volume_capabilities = list;
    request.n_volume_capabilities = 1;
    response = controller("GetCapacity", &request);
    assert_int_equal(response->available_capacity, 0);
}

/* The answer to one parameter of a StorageClass, as external-provisioner asks. */
static Csi__V1__GetCapacityResponse *capacity_with(const char *key, const char *value)
{
    Csi__V1__GetCapacityRequest request = CSI__V1__GET_CAPACITY_REQUEST__INIT;
    Csi__V1__GetCapacityRequest__ParametersEntry entry =
        CSI__V1__GET_CAPACITY_REQUEST__PARAMETERS_ENTRY__INIT;
    Csi__V1__GetCapacityRequest__ParametersEntry *entries[] = { &entry };

    entry.key = (char *)(uintptr_t)key;
    entry.value = (char *)(uintptr_t)value;
    request.parameters = entries;
    request.n_parameters = 1;
    Csi__V1__GetCapacityResponse *response = controller("GetCapacity", &request);
    assert_non_null(response);
    return response;
}

/* Without an answer, or with 0, the pod's events would blame the free storage. */
static void wrong_parameters_do_not_count_as_a_lack_of_space(void **state UNUSED)
{
    static const char *const wrong[][2] = {
        { "integrity", "aegis256" },
        { "colour", "red" },
        { "discard", "on" },
        { "csi.storage.k8s.io/fstype", "zfs" },
        { "csi.storage.k8s.io/node-stage-secret-name", "${pvc.name}" },
    };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_true(capacity_with(wrong[i][0], wrong[i][1])->available_capacity > 8 * GIB);
    /* Not even the default mode can be had here, but CreateVolume must get the claim. */
    f->plugin.probe.aegis128 = false;
    assert_int_equal(capacity_with("integrity", "aegis128")->available_capacity, 0);
    assert_true(capacity_with("integrity", "aegis256")->available_capacity > 8 * GIB);
    assert_true(capacity_with("integrity", "none")->available_capacity > 8 * GIB);
}

static void capacity_knows_the_smallest_volume_of_a_file_system(void **state UNUSED)
{
    static const char key[] = "csi.storage.k8s.io/fstype";

    assert_int_equal(capacity_with(key, "xfs")->minimum_volume_size->value, 300ll << 20);
    assert_int_equal(capacity_with(key, "ext4")->minimum_volume_size->value, 8ll << 20);
    assert_int_equal(capacity_with("discard", "off")->minimum_volume_size->value, 1ll << 20);
    f->free_bytes = 250u << 20;
    assert_int_equal(capacity_with(key, "xfs")->available_capacity, 0);
    assert_true(capacity_with(key, "ext4")->available_capacity > 200ll << 20);
}

/* After a boot without its disk, the folder below the mount point is empty. */
static void nothing_is_made_or_deleted_while_the_disk_is_missing(void **state UNUSED)
{
    char *id = NULL;

    f->is_empty = true; /* of a new node, too */
    id = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    size_t n_made = fake_count(f, "CREATE");
    assert_refused(ERROR_RESOURCE_EXHAUSTED,
                   controller("CreateVolume", fake_create("b", GIB, fake_mount(""))));
    assert_contains(err.text, id);
    assert_contains(err.text, "mount the disk");
    Csi__V1__CreateVolumeRequest *clone = fake_create("c", GIB, fake_mount(""));
    clone->volume_content_source = fake_source(RECORD_VOLUME, id);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, controller("CreateVolume", clone));
    assert_int_equal(fake_count(f, "CREATE"), n_made);
    assert_int_equal(fake_count(f, "COPY"), 0);
    assert_int_equal(capacity_with("integrity", "none")->available_capacity, 0);
    assert_refused(ERROR_FAILED_PRECONDITION, deletes(id));
    assert_int_equal(fake_record(f, id)->record.phase, RECORD_NEW);
    f->is_empty = false;
    assert_true(deletes(id));
    f->is_empty = true;
    assert_true(capacity_with("integrity", "none")->available_capacity > 8 * GIB);
    create(fake_create("b", GIB, fake_mount("")));
}

static void expansion_is_left_to_the_node(void **state UNUSED)
{
    static const char *const modes[] = { "aegis128", "hmac-sha256", "none" };
    Csi__V1__ControllerExpandVolumeRequest request =
        CSI__V1__CONTROLLER_EXPAND_VOLUME_REQUEST__INIT;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;

    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerExpandVolume", &request));
    request.volume_id = (char *)(uintptr_t) "fake-vol-id";
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerExpandVolume", &request));
    request.capacity_range = &range;
    assert_refused(ERROR_NOT_FOUND, controller("ControllerExpandVolume", &request));
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        Csi__V1__CreateVolumeRequest *made = fake_create(modes[i], GIB, fake_mount(""));

        fake_parameter(made, "integrity", modes[i]);
        request.volume_id = create(made)->volume_id;
        for (range.required_bytes = 2 * GIB; range.required_bytes > 0;
             range.required_bytes -= GIB) {
            Csi__V1__ControllerExpandVolumeResponse *response =
                controller("ControllerExpandVolume", &request);

            assert_int_equal(response->capacity_bytes, range.required_bytes);
            assert_true(response->node_expansion_required); /* it may have stopped half-way */
        }
    }
}

static void broker_out_of_reach_is_unavailable_everywhere(void **state UNUSED)
{
    Csi__V1__ListVolumesRequest list = CSI__V1__LIST_VOLUMES_REQUEST__INIT;
    char *id = create(fake_create("b", GIB, fake_mount("")))->volume_id;

    f->fault = (struct fake_fault){ .at = "GetRecord", .code = ERROR_UNAVAILABLE };
    assert_refused(ERROR_UNAVAILABLE,
                   controller("CreateVolume", fake_create("a", GIB, fake_mount(""))));
    assert_int_equal(fake_count(f, "CREATE"), 1);
    assert_refused(ERROR_UNAVAILABLE, deletes(id));
    f->fault.at = "ListRecords";
    assert_refused(ERROR_UNAVAILABLE, controller("ListVolumes", &list));
    f->fault.at = "BeginDelete";
    assert_refused(ERROR_UNAVAILABLE, deletes(id));
    assert_int_equal(fake_count(f, "DELETE"), 0);
}

static void only_abnormal_volumes_are_listed_as_such(void **state UNUSED)
{
    char *a = create(fake_create("a", GIB, fake_mount("")))->volume_id;
    char *b = create(fake_create("b", GIB, fake_mount("")))->volume_id;
    Csi__V1__ControllerListVolumeHealthRequest list =
        CSI__V1__CONTROLLER_LIST_VOLUME_HEALTH_REQUEST__INIT;
    Csi__V1__ControllerGetVolumeHealthRequest one =
        CSI__V1__CONTROLLER_GET_VOLUME_HEALTH_REQUEST__INIT;

    health_note(f->plugin.health, b, HEALTH_ROLLED_BACK, "counter 3, not 5");
    Csi__V1__ControllerListVolumeHealthResponse *found =
        controller("ControllerListVolumeHealth", &list);
    assert_int_equal(found->n_entries, 1);
    assert_string_equal(found->entries[0]->volume_id, b);
    assert_string_equal(found->entries[0]->health_statuses[0]->reason, "RolledBack");
    one.volume_id = a;
    Csi__V1__ControllerGetVolumeHealthResponse *healthy =
        controller("ControllerGetVolumeHealth", &one);
    assert_string_equal(healthy->volume_health->volume_id, a);
    assert_int_equal(healthy->volume_health->n_health_statuses, 0);
    one.volume_id = (char *)(uintptr_t) "fake-vol-id";
    assert_refused(ERROR_NOT_FOUND, controller("ControllerGetVolumeHealth", &one));
    list.starting_token = (char *)(uintptr_t) "invalid";
    assert_refused(ERROR_ABORTED, controller("ControllerListVolumeHealth", &list));
}

static void tables_name_methods_of_their_service_once(void **state UNUSED)
{
    assert_ok(rpc_service_check(&identity_service, &err));
    assert_ok(rpc_service_check(&controller_service, &err));
    assert_ok(rpc_service_check(&node_service, &err));
    assert_ok(rpc_service_check(&registration_service, &err));
}

/* CSI marks them csi_secret; protobuf-c keeps no custom options, but all are called "secrets". */
static void requests_with_secrets_are_decoded_as_secret(void **state UNUSED)
{
    const struct rpc_service *const services[] = { &identity_service, &controller_service,
                                                   &node_service };

    for (size_t s = 0; s < ARRAY_LEN(services); s++)
        for (size_t i = 0; i < services[s]->n_methods; i++) {
            const struct rpc_method *method = &services[s]->methods[i];
            const ProtobufCMethodDescriptor *m = protobuf_c_service_descriptor_get_method_by_name(
                services[s]->descriptor, method->name);
            bool has_secrets =
                protobuf_c_message_descriptor_get_field_by_name(m->input, "secrets") != NULL;

            if (has_secrets != ((method->flags & RPC_SECRET) != 0))
                fail_msg("%s: %s", method->name, has_secrets ? "not secret" : "needlessly secret");
        }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(incomplete_snapshot_is_an_invalid_argument),
        T(snapshot_is_found_again_and_bound_to_its_source),
        T(snapshot_outlives_its_source),
        T(unknown_volume_is_deleted_already),
        T(deletion_destroys_the_key_last),
        T(deletion_waits_for_the_call_in_flight),
        T(deletion_waits_for_the_unstage_to_come),
        T(snapshot_id_deletes_no_volume),
        T(volume_in_use_stays_as_it_was),
        T(own_stale_lease_does_not_hinder_a_deletion),
        T(lease_of_a_former_boot_is_taken_over_and_given_back),
        T(format_of_a_former_boot_does_not_hinder_a_deletion),
        T(lease_of_another_node_hinders_a_deletion),
        T(lease_of_an_active_volume_hinders_its_deletion),
        T(interrupted_deletion_is_finished_by_a_retry),
        T(capabilities_are_confirmed_or_not_with_a_reason),
        T(listing_gives_pages_or_all_the_rest),
        T(snapshots_of_unknown_ids_are_an_empty_list),
        T(capacity_is_what_one_volume_could_have),
        T(wrong_parameters_do_not_count_as_a_lack_of_space),
        T(capacity_knows_the_smallest_volume_of_a_file_system),
        T(nothing_is_made_or_deleted_while_the_disk_is_missing),
        T(expansion_is_left_to_the_node),
        T(broker_out_of_reach_is_unavailable_everywhere),
        T(only_abnormal_volumes_are_listed_as_such),
        T(tables_name_methods_of_their_service_once),
        T(requests_with_secrets_are_decoded_as_secret),
    };

    return RUN_TESTS(tests);
}
