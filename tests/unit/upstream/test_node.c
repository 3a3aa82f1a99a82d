/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"
#include "tests/unit/upstream/driver.h"
#include "upstream/node.h"

#include <stdio.h>
#include <string.h>

static struct driver driver;
static struct upstream *upstream;
static struct arena arena;
static struct error err;
static struct device_place place;
static struct upstream_node_job job;

static int setup(void **state UNUSED)
{
    driver = (struct driver){ .stages = true, .expands = true };
    err = (struct error)ERROR_INIT;
    arena_init_secret(&arena, 1u << 20);
    driver_start(&driver);
    const struct upstream_options options = { .socket = driver.socket, .workers = &driver.workers };

    assert_ok(upstream_new(&options, &upstream, &err));
    job = (struct upstream_node_job){ .upstream = upstream,
                                      .arena = &arena,
                                      .deadline_ms = UINT64_MAX,
                                      .volume_id = "projects/p/disks/one" };
    place = driver_place(job.volume_id);
    return 0;
}

static int teardown(void **state UNUSED)
{
    upstream_free(upstream);
    driver_end(&driver);
    arena_wipe(&arena);
    return 0;
}

static char *text(const char *value)
{
    return (char *)(uintptr_t)value;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): names of types take none */
#define ENTRY(Type, init, k, v)           \
    __extension__({                       \
        static Type entry;                \
        static Type *list[] = { &entry }; \
        init(&entry);                     \
        entry.key = text(k);              \
        entry.value = text(v);            \
        list;                             \
    })

/* NOLINTEND(bugprone-macro-parentheses) */

/* What kubelet sends, with a field that this version does not know. */
static const Csi__V1__NodeStageVolumeRequest *staging(int mode)
{
    static Csi__V1__NodeStageVolumeRequest request;
    static Csi__V1__VolumeCapability capability;
    static Csi__V1__VolumeCapability__MountVolume mount;
    static Csi__V1__VolumeCapability__AccessMode access;
    static uint8_t byte[] = { 5 };
    static ProtobufCMessageUnknownField unknown = { 900, PROTOBUF_C_WIRE_TYPE_VARINT, 1, byte };

    csi__v1__node_stage_volume_request__init(&request);
    csi__v1__volume_capability__init(&capability);
    csi__v1__volume_capability__mount_volume__init(&mount);
    csi__v1__volume_capability__access_mode__init(&access);
    access.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)mode;
    mount.fs_type = text("ext4");
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    capability.mount = &mount;
    capability.access_mode = &access;
    request.volume_id = text(job.volume_id);
    request.staging_target_path = text("/k/kubelets/own/globalmount");
    request.volume_capability = &capability;
    request.n_publish_context = request.n_secrets = request.n_volume_context = 1;
    request.publish_context =
        ENTRY(Csi__V1__NodeStageVolumeRequest__PublishContextEntry,
              csi__v1__node_stage_volume_request__publish_context_entry__init, "devicePath", "/x");
    request.secrets = ENTRY(Csi__V1__NodeStageVolumeRequest__SecretsEntry,
                            csi__v1__node_stage_volume_request__secrets_entry__init, "user", "pw");
    request.volume_context =
        ENTRY(Csi__V1__NodeStageVolumeRequest__VolumeContextEntry,
              csi__v1__node_stage_volume_request__volume_context_entry__init, "pool", "fast");
    request.base.n_unknown_fields = 1;
    request.base.unknown_fields = &unknown;
    return &request;
}

#define WRITER CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER

static void the_driver_stages_and_publishes_a_block_device_at_our_place(void **state UNUSED)
{
    assert_ok(upstream_attach(&job, staging(WRITER), false, &err));
    const Csi__V1__NodeStageVolumeRequest *s = driver.stage;
    const Csi__V1__NodePublishVolumeRequest *p = driver.publish;

    assert_string_equal(s->volume_id, job.volume_id);
    assert_string_equal(s->staging_target_path, place.stage);
    assert_int_equal(s->volume_capability->access_type_case,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK);
    assert_int_equal(s->volume_capability->access_mode->mode,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER);
    assert_string_equal(s->publish_context[0]->value, "/x");
    assert_string_equal(s->secrets[0]->value, "pw");
    assert_string_equal(s->volume_context[0]->value, "fast");
    assert_int_equal(s->base.n_unknown_fields, 1);
    assert_int_equal(s->base.unknown_fields[0].tag, 900);
    assert_string_equal(p->volume_id, job.volume_id);
    assert_string_equal(p->staging_target_path, place.stage);
    assert_string_equal(p->target_path, place.device);
    assert_int_equal(p->volume_capability->access_type_case,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK);
    assert_string_equal(p->publish_context[0]->key, "devicePath");
    assert_string_equal(p->secrets[0]->value, "pw");
    assert_string_equal(p->volume_context[0]->value, "fast");
    assert_false(p->readonly);
}

static void a_reader_gets_the_device_read_only(void **state UNUSED)
{
    driver.knows_single_node_modes = true;
    assert_ok(upstream_attach(
        &job, staging(CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY), true,
        &err));
    assert_true(driver.publish->readonly);
    assert_int_equal(driver.stage->volume_capability->access_mode->mode,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY);
}

static void a_driver_without_staging_publishes_alone(void **state UNUSED)
{
    driver.stages = false;
    assert_ok(upstream_attach(&job, staging(WRITER), false, &err));
    assert_int_equal(driver_count(&driver, "NodeStageVolume"), 0);
    assert_string_equal(driver.publish->staging_target_path, "");
    assert_ok(upstream_detach(&job, &err));
    assert_int_equal(driver_count(&driver, "NodeUnpublishVolume"), 1);
    assert_int_equal(driver_count(&driver, "NodeUnstageVolume"), 0);
}

static void nothing_is_published_that_was_not_staged(void **state UNUSED)
{
    driver.faulty = "NodeStageVolume";
    driver.code = ERROR_INTERNAL;
    assert_refused(ERROR_INTERNAL, upstream_attach(&job, staging(WRITER), false, &err));
    assert_int_equal(driver_count(&driver, "NodePublishVolume"), 0);
}

static void detaching_goes_backwards_and_what_is_gone_is_no_error(void **state UNUSED)
{
    assert_ok(upstream_detach(&job, &err));
    assert_string_equal(driver.unpublish->target_path, place.device);
    assert_string_equal(driver.unstage->staging_target_path, place.stage);
    assert_string_equal(driver.log[driver.n_log - 1], "NodeUnstageVolume");

    driver.code = ERROR_NOT_FOUND;
    driver.faulty = "NodeUnpublishVolume";
    driver.n_log = 0;
    assert_ok(upstream_detach(&job, &err));
    assert_int_equal(driver_count(&driver, "NodeUnstageVolume"), 1);
    driver.faulty = "NodeUnstageVolume";
    assert_ok(upstream_detach(&job, &err));
}

static void what_is_still_published_is_not_unstaged(void **state UNUSED)
{
    driver.faulty = "NodeUnpublishVolume";
    driver.code = ERROR_INTERNAL;
    assert_refused(ERROR_INTERNAL, upstream_detach(&job, &err));
    assert_int_equal(driver_count(&driver, "NodeUnstageVolume"), 0);
    driver.faulty = "NodeUnstageVolume";
    assert_refused(ERROR_INTERNAL, upstream_detach(&job, &err));
}

static void texts_of_the_driver_come_as_it_wrote_them(void **state UNUSED)
{
    driver.faulty = "NodeStageVolume";
    driver.code = ERROR_ABORTED;
    driver.text = "100 % für \"a\"\n";
    assert_refused(ERROR_ABORTED, upstream_attach(&job, staging(WRITER), false, &err));
    assert_contains(err.text, "100 % für \"a\"");
}

static void much_goes_through_and_too_much_does_not(void **state UNUSED)
{
    static char much[60000], too_much[70000];
    Csi__V1__NodeStageVolumeRequest *request =
        (Csi__V1__NodeStageVolumeRequest *)(uintptr_t)staging(WRITER);

    for (size_t i = 0; i < sizeof(too_much) - 1; i++)
        too_much[i] = 'm';
    memcpy(much, too_much, sizeof(much) - 1);
    request->publish_context[0]->value = much;
    assert_ok(upstream_attach(&job, request, false, &err));
    assert_string_equal(driver.stage->publish_context[0]->value, much);
    request->publish_context[0]->value = too_much;
    assert_refused(ERROR_INVALID_ARGUMENT, upstream_attach(&job, request, false, &err));
}

static void growing_names_the_device_and_its_size(void **state UNUSED)
{
    Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;

    request.volume_id = text(job.volume_id);
    request.volume_path = text("/k/pods/x/mount");
    request.volume_capability = staging(WRITER)->volume_capability;
    assert_ok(upstream_expand(&job, &request, 123456, &err));
    assert_int_equal(driver.expand->capacity_range->required_bytes, 123456);
    assert_string_equal(driver.expand->volume_path, place.device);
    assert_string_equal(driver.expand->staging_target_path, place.stage);
    assert_int_equal(driver.expand->volume_capability->access_type_case,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK);

    request.volume_capability = NULL;
    assert_ok(upstream_expand(&job, &request, 123456, &err));
    assert_int_equal(driver.expand->volume_capability->access_type_case,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK);
    assert_int_equal(driver.expand->volume_capability->access_mode->mode,
                     CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER);

    driver.faulty = "NodeExpandVolume";
    driver.code = ERROR_UNIMPLEMENTED;
    assert_ok(upstream_expand(&job, &request, 123456, &err));
    driver.code = ERROR_OUT_OF_RANGE;
    assert_refused(ERROR_OUT_OF_RANGE, upstream_expand(&job, &request, 123456, &err));
}

/* Its quirks say which size it is asked for. */
static void a_driver_grows_nothing_before_it_has_said_its_name(void **state UNUSED)
{
    const Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;

    driver.faulty = "GetPluginInfo";
    driver.code = ERROR_INTERNAL;
    assert_refused(ERROR_INTERNAL, upstream_expand(&job, &request, 123456, &err));
    assert_int_equal(driver_count(&driver, "NodeExpandVolume"), 0);
    driver.faulty = NULL;
    assert_ok(upstream_expand(&job, &request, 123456, &err));
}

static void a_driver_that_does_not_grow_on_nodes_is_not_asked(void **state UNUSED)
{
    const Csi__V1__NodeExpandVolumeRequest request = CSI__V1__NODE_EXPAND_VOLUME_REQUEST__INIT;

    driver.expands = false;
    assert_ok(upstream_expand(&job, &request, 123456, &err));
    assert_int_equal(driver_count(&driver, "NodeExpandVolume"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_driver_stages_and_publishes_a_block_device_at_our_place),
        TEST(a_reader_gets_the_device_read_only),
        TEST(a_driver_without_staging_publishes_alone),
        TEST(nothing_is_published_that_was_not_staged),
        TEST(detaching_goes_backwards_and_what_is_gone_is_no_error),
        TEST(what_is_still_published_is_not_unstaged),
        TEST(texts_of_the_driver_come_as_it_wrote_them),
        TEST(much_goes_through_and_too_much_does_not),
        TEST(growing_names_the_device_and_its_size),
        TEST(a_driver_grows_nothing_before_it_has_said_its_name),
        TEST(a_driver_that_does_not_grow_on_nodes_is_not_asked),
    };

    return RUN_TESTS(tests);
}
