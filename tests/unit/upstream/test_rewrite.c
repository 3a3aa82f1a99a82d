/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/test.h"
#include "upstream/rewrite.h"

#define MODE(name) CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__##name

static struct arena arena = { .limit = 1 << 16 };
static Csi__V1__VolumeCapability__MountVolume mount =
    CSI__V1__VOLUME_CAPABILITY__MOUNT_VOLUME__INIT;
static Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;

static Csi__V1__VolumeCapability mounted(int wanted)
{
    Csi__V1__VolumeCapability capability = CSI__V1__VOLUME_CAPABILITY__INIT;

    mode.mode = (Csi__V1__VolumeCapability__AccessMode__Mode)wanted;
    capability.access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT;
    capability.mount = &mount;
    capability.access_mode = &mode;
    return capability;
}

static void a_mount_becomes_a_block_volume_and_the_original_stays(void **state UNUSED)
{
    const Csi__V1__VolumeCapability original = mounted(MODE(SINGLE_NODE_WRITER));
    const Csi__V1__VolumeCapability *out = rewrite_as_block(&original, true, &arena);

    assert_non_null(out);
    assert_int_equal(out->access_type_case, CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK);
    assert_ptr_equal(out->block->base.descriptor,
                     &csi__v1__volume_capability__block_volume__descriptor);
    assert_int_equal(out->access_mode->mode, MODE(SINGLE_NODE_WRITER));
    assert_int_equal(original.access_type_case, CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT);
    assert_ptr_equal(original.mount, &mount);
}

static void modes_that_the_driver_lacks_become_the_one_that_all_have(void **state UNUSED)
{
    static const struct {
        int asked;
        bool is_known;
        int sent;
    } cases[] = {
        { MODE(SINGLE_NODE_SINGLE_WRITER), true, MODE(SINGLE_NODE_SINGLE_WRITER) },
        { MODE(SINGLE_NODE_SINGLE_WRITER), false, MODE(SINGLE_NODE_WRITER) },
        { MODE(SINGLE_NODE_MULTI_WRITER), false, MODE(SINGLE_NODE_WRITER) },
        { MODE(MULTI_NODE_READER_ONLY), false, MODE(MULTI_NODE_READER_ONLY) },
        { MODE(SINGLE_NODE_READER_ONLY), false, MODE(SINGLE_NODE_READER_ONLY) },
        { 77, false, 77 },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const Csi__V1__VolumeCapability original = mounted(cases[i].asked);
        const Csi__V1__VolumeCapability *out =
            rewrite_as_block(&original, cases[i].is_known, &arena);

        assert_int_equal(out->access_mode->mode, cases[i].sent);
        assert_int_equal(mode.mode, cases[i].asked);
    }
}

static void fields_of_a_newer_version_stay(void **state UNUSED)
{
    static uint8_t bytes[] = { 1 };
    static ProtobufCMessageUnknownField unknown = { 900, PROTOBUF_C_WIRE_TYPE_VARINT, 1, bytes };
    Csi__V1__VolumeCapability original = mounted(MODE(SINGLE_NODE_SINGLE_WRITER));

    original.base.n_unknown_fields = 1;
    original.base.unknown_fields = &unknown;
    const Csi__V1__VolumeCapability *out = rewrite_as_block(&original, false, &arena);

    assert_int_equal(out->base.n_unknown_fields, 1);
    assert_ptr_equal(out->base.unknown_fields, &unknown);
}

static void a_missing_access_mode_is_left_to_the_driver(void **state UNUSED)
{
    Csi__V1__VolumeCapability original = mounted(0);

    original.access_mode = NULL;
    assert_null(rewrite_as_block(&original, false, &arena)->access_mode);
}

static void no_memory_is_said(void **state UNUSED)
{
    const Csi__V1__VolumeCapability original = mounted(MODE(SINGLE_NODE_WRITER));
    struct arena none = { .limit = 8 };

    assert_null(rewrite_as_block(&original, true, &none));
}

static int teardown(void **state UNUSED)
{
    arena_wipe(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mount_becomes_a_block_volume_and_the_original_stays),
        cmocka_unit_test(modes_that_the_driver_lacks_become_the_one_that_all_have),
        cmocka_unit_test(fields_of_a_newer_version_stay),
        cmocka_unit_test(a_missing_access_mode_is_left_to_the_driver),
        cmocka_unit_test(no_memory_is_said),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, teardown);
}
