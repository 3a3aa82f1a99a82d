/* SPDX-License-Identifier: Apache-2.0 */
#include "record/layout.h"
#include "tests/unit/csi/stacked_scene.h"

#define CAN(what) CSI__V1__CONTROLLER_SERVICE_CAPABILITY__RPC__TYPE__##what

static void tables_fit_the_protocol(void **state UNUSED)
{
    assert_ok(rpc_service_check(&stacked_controller_service, &err));
    assert_ok(rpc_service_check(&stacked_group_service, &err));
}

/* --- capabilities --- */

static bool has(const Csi__V1__ControllerGetCapabilitiesResponse *response, int type)
{
    size_t n = 0;

    for (size_t i = 0; i < response->n_capabilities; i++)
        n += (int)response->capabilities[i]->rpc->type == type;
    assert_true(n <= 1);
    return n == 1;
}

static const Csi__V1__ControllerGetCapabilitiesResponse *capabilities(void)
{
    const Csi__V1__ControllerGetCapabilitiesRequest request =
        CSI__V1__CONTROLLER_GET_CAPABILITIES_REQUEST__INIT;

    return controller("ControllerGetCapabilities", &request);
}

static void capabilities_are_those_of_the_driver_that_we_can_pass_on(void **state UNUSED)
{
    const Csi__V1__ControllerGetCapabilitiesResponse *response = capabilities();

    for (int type = 1; type <= CAN(LIST_VOLUME_HEALTH); type++)
        assert_true(has(response, type) == (type != 11)); /* 11 is not in CSI any more */
    for (int type = CAN(LIST_VOLUME_HEALTH) + 1; type <= 20; type++)
        assert_false(has(response, type)); /* of a newer version */
}

static void modes_of_single_nodes_are_ours_and_nothing_else_is(void **state UNUSED)
{
    u->lacks = UINT32_MAX;
    const Csi__V1__ControllerGetCapabilitiesResponse *response = capabilities();

    assert_int_equal(response->n_capabilities, 1);
    assert_true(has(response, CAN(SINGLE_NODE_MULTI_WRITER)));
}

/* --- ValidateVolumeCapabilities --- */

static const Csi__V1__ValidateVolumeCapabilitiesResponse *validate(
    const char *id, Csi__V1__VolumeCapability *capability, const char *key, const char *value)
{
    Csi__V1__ValidateVolumeCapabilitiesRequest request =
        CSI__V1__VALIDATE_VOLUME_CAPABILITIES_REQUEST__INIT;
    Csi__V1__ValidateVolumeCapabilitiesRequest__ParametersEntry entry =
        CSI__V1__VALIDATE_VOLUME_CAPABILITIES_REQUEST__PARAMETERS_ENTRY__INIT;
    Csi__V1__ValidateVolumeCapabilitiesRequest__ParametersEntry *entries[] = { &entry };

    entry.key = (char *)(uintptr_t)key;
    entry.value = (char *)(uintptr_t)value;
    request.volume_id = (char *)(uintptr_t)id;
    request.n_volume_capabilities = capability ? 1 : 0;
    request.volume_capabilities = &capability;
    request.n_parameters = key ? 1 : 0;
    request.parameters = entries;
    return controller("ValidateVolumeCapabilities", &request);
}

static void what_was_asked_for_is_confirmed(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    const Csi__V1__ValidateVolumeCapabilitiesResponse *response =
        validate(a, fake_mount("ext4"), "tdvol.dev/integrity", "aegis128");

    assert_non_null(response);
    assert_non_null(response->confirmed);
    assert_int_equal(response->confirmed->n_volume_capabilities, 1);
    assert_string_equal(response->confirmed->volume_capabilities[0]->mount->fs_type, "ext4");
}

static void what_the_volume_cannot_be_is_not_confirmed(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    Csi__V1__VolumeCapability *many = fake_mount("");

    assert_null(validate(a, fake_block(), NULL, NULL)->confirmed);
    assert_null(validate(a, fake_mount("xfs"), NULL, NULL)->confirmed);
    assert_null(validate(a, fake_mount(""), "tdvol.dev/colour", "red")->confirmed);
    assert_null(validate(a, fake_mount(""), "colour", "red")->confirmed);
    many->access_mode->mode =
        CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER;
    const Csi__V1__ValidateVolumeCapabilitiesResponse *response = validate(a, many, NULL, NULL);

    assert_null(response->confirmed);
    assert_contains(response->message, "writers on several");
}

static void questions_about_what_is_not_there_fail(void **state UNUSED)
{
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_NOT_FOUND, validate("vol-9", fake_mount(""), NULL, NULL));
    assert_refused(ERROR_FAILED_PRECONDITION, validate("vol-x", fake_mount(""), NULL, NULL));
    assert_refused(ERROR_INVALID_ARGUMENT, validate("", fake_mount(""), NULL, NULL));
    assert_refused(ERROR_INVALID_ARGUMENT, validate("vol-9", NULL, NULL, NULL));
}

/* --- ControllerExpandVolume --- */

static void expansion_asks_for_the_device_that_the_grown_volume_needs(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    struct volume_spec grown = scene_record(a)->spec;

    assert_ok(layout_plan_growth(&grown, GIB, &err));
    assert_int_equal(scene_expand(a, GIB), GIB);
    assert_int_equal(u->last_required_bytes, grown.device_bytes);
    assert_int_equal(u->last_limit_bytes, 0);
    assert_int_equal(scene_record(a)->spec.size_bytes, 64 * MIB); /* the node grows it */
}

static const Csi__V1__ControllerExpandVolumeResponse *expand(const char *id, int64_t required,
                                                             int64_t limit,
                                                             Csi__V1__VolumeCapability *capability)
{
    Csi__V1__ControllerExpandVolumeRequest request =
        CSI__V1__CONTROLLER_EXPAND_VOLUME_REQUEST__INIT;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;

    request.volume_id = (char *)(uintptr_t)id;
    request.capacity_range = &range;
    request.volume_capability = capability;
    range.required_bytes = required;
    range.limit_bytes = limit;
    return controller("ControllerExpandVolume", &request);
}

static void expansion_always_needs_the_node(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);
    const Csi__V1__ControllerExpandVolumeResponse *response = expand(a, 32 * MIB, 0, NULL);

    assert_true(response->node_expansion_required);
    assert_int_equal(response->capacity_bytes, 64 * MIB);
    assert_int_equal(fake_count(f, "ControllerExpandVolume"), 0);
    response = expand(a, GIB - 1, GIB, fake_mount(""));
    assert_true(response->node_expansion_required);
    assert_int_equal(response->capacity_bytes, GIB);
}

static void expansion_that_cannot_be_is_refused(void **state UNUSED)
{
    Csi__V1__ControllerExpandVolumeRequest request =
        CSI__V1__CONTROLLER_EXPAND_VOLUME_REQUEST__INIT;
    const char *a = scene_create("a", 64 * MIB);

    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_INVALID_ARGUMENT, expand("", GIB, 0, NULL));
    assert_refused(ERROR_NOT_FOUND, expand("vol-9", GIB, 0, NULL));
    assert_refused(ERROR_FAILED_PRECONDITION, expand("vol-x", GIB, 0, NULL));
    assert_refused(ERROR_OUT_OF_RANGE, expand(a, GIB + 1, GIB + 2, NULL));
    assert_refused(ERROR_OUT_OF_RANGE, expand(a, 1, 32 * MIB, NULL));
    assert_refused(ERROR_OUT_OF_RANGE, expand(a, INT64_MAX, 0, NULL));
    request.volume_id = (char *)(uintptr_t)a;
    assert_refused(ERROR_INVALID_ARGUMENT, controller("ControllerExpandVolume", &request));
    assert_int_equal(fake_count(f, "ControllerExpandVolume"), 0);
    f->fault =
        (struct fake_fault){ .at = "ControllerExpandVolume", .code = ERROR_RESOURCE_EXHAUSTED };
    assert_refused(ERROR_RESOURCE_EXHAUSTED, expand(a, GIB, 0, NULL));
    assert_contains(err.text, FAKE_UPSTREAM_NAME ": ");
}

/* --- ControllerModifyVolume --- */

static bool modify(const char *id, const char *key)
{
    Csi__V1__ControllerModifyVolumeRequest request =
        CSI__V1__CONTROLLER_MODIFY_VOLUME_REQUEST__INIT;
    Csi__V1__ControllerModifyVolumeRequest__MutableParametersEntry entry =
        CSI__V1__CONTROLLER_MODIFY_VOLUME_REQUEST__MUTABLE_PARAMETERS_ENTRY__INIT;
    Csi__V1__ControllerModifyVolumeRequest__MutableParametersEntry *entries[] = { &entry };
    static char value[] = "on";

    entry.key = (char *)(uintptr_t)key;
    entry.value = value;
    request.volume_id = (char *)(uintptr_t)id;
    request.mutable_parameters = entries;
    request.n_mutable_parameters = 1;
    return controller("ControllerModifyVolume", &request);
}

static void only_the_drivers_parameters_can_be_modified(void **state UNUSED)
{
    const char *a = scene_create("a", 64 * MIB);

    assert_true(modify(a, "iops"));
    assert_refused(ERROR_INVALID_ARGUMENT, modify(a, "colour"));
    assert_contains(err.text, FAKE_UPSTREAM_NAME ": Invalid parameter key colour");
    assert_refused(ERROR_INVALID_ARGUMENT, modify(a, "tdvol.dev/workqueue"));
    assert_contains(err.text, "\"tdvol.dev/workqueue\" cannot be set here");
    assert_refused(ERROR_NOT_FOUND, modify("vol-9", "iops"));
    assert_refused(ERROR_INVALID_ARGUMENT, modify("", "iops"));
    fake_foreign_disk(u, "vol-x", GIB);
    assert_refused(ERROR_FAILED_PRECONDITION, modify("vol-x", "iops"));
}

/* --- GetCapacity --- */

static const Csi__V1__GetCapacityResponse *capacity(const char *key, const char *value)
{
    Csi__V1__GetCapacityRequest request = CSI__V1__GET_CAPACITY_REQUEST__INIT;
    Csi__V1__GetCapacityRequest__ParametersEntry entry =
        CSI__V1__GET_CAPACITY_REQUEST__PARAMETERS_ENTRY__INIT;
    Csi__V1__GetCapacityRequest__ParametersEntry *entries[] = { &entry };
    Csi__V1__VolumeCapability *list[] = { fake_mount("") };

    entry.key = (char *)(uintptr_t)key;
    entry.value = (char *)(uintptr_t)value;
    request.parameters = entries;
    request.n_parameters = key ? 1 : 0;
    request.volume_capabilities = list;
    request.n_volume_capabilities = 1;
    return controller("GetCapacity", &request);
}

static void capacity_is_what_the_pod_can_have(void **state UNUSED)
{
    const Csi__V1__GetCapacityResponse *response = capacity(NULL, NULL);
    const struct volume_spec like = { .integrity = INTEGRITY_AEGIS128 };

    assert_int_equal(response->available_capacity, layout_usable_bytes(&like, 3ull << 30));
    assert_int_equal(response->maximum_volume_size->value, layout_usable_bytes(&like, 1ull << 30));
    assert_null(response->minimum_volume_size);
    assert_true(capacity("tdvol.dev/integrity", "none")->available_capacity >
                response->available_capacity);
    assert_non_null(scene_create("a", response->maximum_volume_size->value));
    assert_true(u->last_required_bytes <= GIB);
}

static void parameters_that_create_would_refuse_have_no_capacity(void **state UNUSED)
{
    assert_int_equal(capacity("tdvol.dev/colour", "red")->available_capacity, 0);
    assert_int_equal(capacity("tdvol.dev/journal", "off")->available_capacity, 0);
    assert_int_equal(fake_count(f, "GetCapacity"), 0);
    assert_refused(ERROR_INVALID_ARGUMENT, capacity("colour", "red")); /* the driver says so */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STACKED_TEST(tables_fit_the_protocol),
        STACKED_TEST(capabilities_are_those_of_the_driver_that_we_can_pass_on),
        STACKED_TEST(modes_of_single_nodes_are_ours_and_nothing_else_is),
        STACKED_TEST(what_was_asked_for_is_confirmed),
        STACKED_TEST(what_the_volume_cannot_be_is_not_confirmed),
        STACKED_TEST(questions_about_what_is_not_there_fail),
        STACKED_TEST(expansion_asks_for_the_device_that_the_grown_volume_needs),
        STACKED_TEST(expansion_always_needs_the_node),
        STACKED_TEST(expansion_that_cannot_be_is_refused),
        STACKED_TEST(only_the_drivers_parameters_can_be_modified),
        STACKED_TEST(capacity_is_what_the_pod_can_have),
        STACKED_TEST(parameters_that_create_would_refuse_have_no_capacity),
    };

    return RUN_TESTS(tests);
}
