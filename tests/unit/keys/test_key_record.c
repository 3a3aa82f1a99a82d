/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/key_record.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#define DRIVER "csi.example.org"
#define ID     "vaaaaaaaaaaaaaaaaaaaaaaaaaa"

static struct error err;

/* A good answer, of which each test spoils one thing. */
struct answer {
    Tdvol__Keybroker__V1__Record record;
    Tdvol__Keybroker__V1__VolumeSpec spec;
    Tdvol__Keybroker__V1__Extent extents[RECORD_EXTENTS_MAX + 1];
    Tdvol__Keybroker__V1__Extent *extent_list[RECORD_EXTENTS_MAX + 1];
    Tdvol__Keybroker__V1__Origin origin;
    ProtobufCBinaryData digests[RECORD_DIGESTS_MAX + 1];
    uint8_t bytes[SHA256_LEN];
    char long_text[300];
};

static ProtobufCBinaryData bytes(struct answer *a, size_t len)
{
    return (ProtobufCBinaryData){ .len = len, .data = a->bytes };
}

static void make(struct answer *a)
{
    struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128,
                                .initialisation = INITIALISATION_BACKGROUND };

    *a = (struct answer){ .long_text = "" };
    for (size_t i = 0; i < sizeof(a->long_text) - 1; i++)
        a->long_text[i] = 'x';
    assert_ok(layout_plan(&spec, 64u << 20, &err));
    (void)snprintf(spec.fs_type, sizeof(spec.fs_type), "ext4");
    tdvol__keybroker__v1__record__init(&a->record);
    key_record_spec_to_message(&spec, "name", "node-1", &a->spec);
    a->spec.fs_type = (char *)(uintptr_t) "ext4";
    a->record.spec = &a->spec;
    a->record.driver = (char *)(uintptr_t)DRIVER;
    a->record.volume_id = (char *)(uintptr_t)ID;
    a->record.record_version = 1;
    a->record.version = 7;
    a->record.generation = 1;
    a->record.kind = TDVOL__KEYBROKER__V1__KIND__KIND_VOLUME;
    a->record.phase = TDVOL__KEYBROKER__V1__PHASE__PHASE_READY;
    a->record.record_id = a->record.key_id = bytes(a, RECORD_ID_LEN);
    for (size_t i = 0; i < ARRAY_LEN(a->digests); i++)
        a->digests[i] = bytes(a, SHA256_LEN);
    a->record.header_digests = a->digests;
    a->record.n_header_digests = 1;
    for (size_t i = 0; i < ARRAY_LEN(a->extents); i++) {
        tdvol__keybroker__v1__extent__init(&a->extents[i]);
        a->extents[i].start_bytes = i * 4096;
        a->extents[i].length_bytes = 4096;
        a->extents[i].region_bytes = 65536;
        a->extent_list[i] = &a->extents[i];
    }
    a->record.extents = a->extent_list;
    a->record.n_extents = 1;
    tdvol__keybroker__v1__origin__init(&a->origin);
    a->origin.record_id = bytes(a, RECORD_ID_LEN);
}

static bool reads(const struct answer *a)
{
    struct key_record out;

    return key_record_from_message(&a->record, DRIVER, ID, &out, &err);
}

static void good_record_is_taken_whole(void **state UNUSED)
{
    struct answer a;
    struct key_record out;

    make(&a);
    a.origin.counter_low = 3;
    a.origin.counter_high = 4;
    a.record.origin = &a.origin;
    a.record.open_counter = 9;
    a.record.clean_hash = bytes(&a, SHA256_LEN);
    assert_ok(key_record_from_message(&a.record, DRIVER, ID, &out, &err));
    assert_string_equal(out.volume.volume_id, ID);
    assert_string_equal(out.name, "name");
    assert_string_equal(out.location, "node-1");
    assert_int_equal(out.volume.version, 7);
    assert_int_equal(out.volume.spec.size_bytes, 64 << 20);
    assert_int_equal(out.volume.open_counter, 9);
    assert_true(out.volume.has_clean_hash);
    assert_true(out.volume.origin.is_set);
    assert_int_equal(out.volume.origin.counter_high, 4);
    assert_int_equal(out.volume.n_extents, 1);
}

#define SPOIL(expression)                          \
    do {                                           \
        struct answer a;                           \
        make(&a);                                  \
        expression;                                \
        assert_refused(ERROR_INTERNAL, reads(&a)); \
    } while (0)

static void spoilt_identity_is_refused(void **state UNUSED)
{
    SPOIL(a.record.driver = a.long_text);
    SPOIL(a.record.volume_id = a.long_text);
    SPOIL(a.record.source_volume_id = a.long_text);
    SPOIL(a.record.volume_id = (char *)(uintptr_t) "");
    SPOIL(a.record.version = 0);
    SPOIL(a.record.generation = 0);
    SPOIL(a.record.kind = (Tdvol__Keybroker__V1__Kind)3);
    SPOIL(a.record.kind = (Tdvol__Keybroker__V1__Kind)-1);
    SPOIL(a.record.phase = (Tdvol__Keybroker__V1__Phase)0);
    SPOIL(a.record.phase = (Tdvol__Keybroker__V1__Phase)6);
    SPOIL(a.record.record_id = bytes(&a, 15));
    SPOIL(a.record.record_id = bytes(&a, 0));
    SPOIL(a.record.key_id = bytes(&a, 17));
    SPOIL(a.record.phase = TDVOL__KEYBROKER__V1__PHASE__PHASE_FORMATTING);
}

static void record_of_another_volume_is_refused(void **state UNUSED)
{
    SPOIL(a.record.volume_id = (char *)(uintptr_t) "vbbbbbbbbbbbbbbbbbbbbbbbbbb");
    SPOIL(a.record.driver = (char *)(uintptr_t) "csi.other.org");
}

static void spoilt_spec_is_refused(void **state UNUSED)
{
    SPOIL(a.record.spec = NULL);
    SPOIL(a.spec.integrity = (Tdvol__Keybroker__V1__Integrity)4);
    SPOIL(a.spec.integrity = (Tdvol__Keybroker__V1__Integrity)0);
    SPOIL(a.spec.initialisation = (Tdvol__Keybroker__V1__Initialisation)3);
    SPOIL(a.spec.sector_bytes = 512);
    SPOIL(a.spec.discard = true);
    SPOIL(a.spec.fs_type = (char *)(uintptr_t) "ext4,discard");
    SPOIL(a.spec.fs_type = a.long_text);
    SPOIL(a.spec.name = a.long_text);
    SPOIL(a.spec.location = a.long_text);
    SPOIL(a.spec.size_bytes = 0);
    SPOIL(a.spec.size_bytes += 512);
    SPOIL(a.spec.size_bytes = UINT64_MAX & ~4095ull);
    SPOIL(a.spec.mapping_bytes = a.spec.size_bytes);
    SPOIL(a.spec.mapping_bytes = a.spec.device_bytes);
    SPOIL(a.spec.device_bytes = UINT64_MAX);
    SPOIL(a.spec.device_bytes = 0);
}

static void spoilt_lists_are_refused(void **state UNUSED)
{
    SPOIL(a.record.n_extents = RECORD_EXTENTS_MAX + 1);
    SPOIL(a.record.n_header_digests = RECORD_DIGESTS_MAX + 1);
    SPOIL(a.record.n_header_digests = 0);
    SPOIL(a.digests[0].len = 31);
    SPOIL(a.record.clean_hash = bytes(&a, 31));
    SPOIL(a.extents[0].start_bytes = 4096);
    SPOIL(a.extents[0].length_bytes = 0);
    SPOIL(a.extents[0].length_bytes = UINT64_MAX);
    SPOIL(a.extents[0].slot = 2);
    SPOIL(a.extents[0].region_bytes = 65537);
    SPOIL(a.extents[0].region_bytes = 0);
    SPOIL(a.record.origin = &a.origin; a.origin.record_id.len = 3);
    SPOIL(a.record.origin = &a.origin; a.origin.counter_low = 5);
}

static void unknown_versions_name_the_one_that_is_known(void **state UNUSED)
{
    struct answer a;

    make(&a);
    a.record.record_version = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, reads(&a));
    assert_contains(err.text, "version 1");
    make(&a);
    a.spec.layout_version = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, reads(&a));
    assert_contains(err.text, "version 1");
}

static void no_record_at_all_is_refused(void **state UNUSED)
{
    struct key_record out;

    assert_refused(ERROR_INTERNAL, key_record_from_message(NULL, DRIVER, ID, &out, &err));
}

static void erased_record_is_not_found(void **state UNUSED)
{
    struct answer a;

    make(&a);
    a.record.phase = TDVOL__KEYBROKER__V1__PHASE__PHASE_ERASED;
    assert_refused(ERROR_NOT_FOUND, reads(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_record_is_taken_whole),
        cmocka_unit_test(spoilt_identity_is_refused),
        cmocka_unit_test(record_of_another_volume_is_refused),
        cmocka_unit_test(spoilt_spec_is_refused),
        cmocka_unit_test(spoilt_lists_are_refused),
        cmocka_unit_test(unknown_versions_name_the_one_that_is_known),
        cmocka_unit_test(no_record_at_all_is_refused),
        cmocka_unit_test(erased_record_is_not_found),
    };

    return RUN_TESTS(tests);
}
