/* SPDX-License-Identifier: Apache-2.0 */
#include "record/check.h"
#include "record/layout.h"
#include "tests/unit/record/sample.h"
#include "tests/unit/test.h"

#define GIB (1ull << 30)

static void a_sound_record_is_one_in_every_phase(void **state)
{
    struct record r = sample_record();
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(record_check(&r, &err));
    r.phase = RECORD_DELETING;
    assert_ok(record_check(&r, &err));
    r.n_header_digests = r.n_extents = 0;
    for (int phase = RECORD_NEW; phase <= RECORD_FORMATTING; phase++) {
        r.phase = (enum record_phase)phase;
        assert_ok(record_check(&r, &err));
    }
    r.phase = RECORD_ERASED;
    r.key = (struct record_key){ .generation = 0 };
    assert_ok(record_check(&r, &err));
}

static void each_wrong_field_of_a_record_is_named(void **state)
{
    static struct record bad[10];
    static const char *const named[ARRAY_LEN(bad)] = {
        "volume_id", "kind",       "phase",   "version",      "key.generation",
        "digest",    "no attempt", "extents", "counter_high", "key.generation",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = sample_record();
    bad[0].volume_id[0] = '\0';
    bad[1].kind = 3;
    bad[2].phase = 6;
    bad[3].version = 0;
    bad[4].key.generation = 0;
    bad[5].n_header_digests = 0;
    bad[6].phase = RECORD_FORMATTING;
    bad[6].format.attempt = 0;
    bad[7].n_extents = 1;
    bad[8].origin.counter_low = 15;
    bad[9].phase = RECORD_ERASED; /* but it still has a key */
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, record_check(&bad[i], &err));
        assert_contains(err.text, named[i]);
    }
}

static void each_wrong_field_of_a_spec_is_refused(void **state)
{
    struct volume_spec bad[18];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        bad[i] = sample_record().spec;
    bad[0].name[0] = '\0';
    bad[1].integrity = 0;
    bad[2].integrity = 4;
    bad[3].initialisation = 0;
    bad[4].initialisation = 3;
    bad[5].discard = true; /* not allowed with integrity */
    bad[6].sector_bytes = 512;
    bad[7].backing = 0;
    bad[8].backing = 2;
    bad[9].size_bytes = 0;
    bad[10].size_bytes += 512;
    bad[11].size_bytes = VOLUME_SIZE_MAX + 4096;
    bad[12].size_bytes = UINT64_MAX - 4095;
    bad[13].mapping_bytes = bad[13].size_bytes;
    bad[14].mapping_bytes = UINT64_MAX;
    bad[15].device_bytes = bad[15].mapping_bytes;
    bad[16].device_bytes = UINT64_MAX;
    bad[17].device_bytes = 0;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, volume_spec_check(&bad[i], &err));
    }
}

static void an_unknown_layout_is_named_with_the_known_one(void **state)
{
    struct volume_spec spec = sample_record().spec;
    struct error err = ERROR_INIT;

    (void)state;
    spec.layout_version = 2;
    assert_refused(ERROR_FAILED_PRECONDITION, volume_spec_check(&spec, &err));
    assert_contains(err.text, "layout version 2 is not known here: this is version 1");
}

#define REGION(bytes) .region_bytes = layout_region_bytes(bytes)

static void extents_cover_the_volume_each_with_a_slot_of_its_own(void **state)
{
    const struct {
        uint32_t n;
        struct volume_extent items[2];
    } bad[] = {
        { 0, { { 0 } } },
        { 1, { { .length_bytes = GIB - 4096, REGION(GIB) } } },
        { 1, { { .start_bytes = 4096, .length_bytes = GIB - 4096, REGION(GIB) } } },
        { 1, { { .length_bytes = 2 * GIB, REGION(2 * GIB) } } },
        { 1, { { .length_bytes = UINT64_MAX, REGION(GIB) } } },
        { 1, { { .length_bytes = GIB, .slot = 2, REGION(GIB) } } },
        { 1, { { .length_bytes = GIB, .slot = 0x20000000, REGION(GIB) } } },
        { 1, { { .length_bytes = GIB, .slot = UINT32_MAX, .done = true } } },
        { 1, { { .length_bytes = GIB } } },
        { 1, { { .length_bytes = GIB, .region_bytes = 3 } } },
        { 2, { { .length_bytes = GIB, REGION(GIB) }, { .start_bytes = GIB, .slot = 1 } } },
        { 2,
          { { .length_bytes = GIB / 2, REGION(GIB / 2) },
            { .start_bytes = GIB / 2, .length_bytes = GIB / 2, REGION(GIB / 2) } } }, /* slot 0 */
        { 2,
          { { .length_bytes = GIB / 2, REGION(GIB / 2) },
            { .start_bytes = GIB / 2 + 4096,
              .length_bytes = GIB / 2 - 4096,
              .slot = 1,
              REGION(GIB / 2) } } },
        { 2,
          { { .length_bytes = GIB - 4096, REGION(GIB) },
            { .start_bytes = GIB - 4096, .length_bytes = 4096, .slot = 1, REGION(4096) } } },
        { 2,
          { { .length_bytes = GIB, REGION(GIB) },
            { .start_bytes = GIB, .length_bytes = UINT64_MAX, .slot = 1, REGION(GIB) } } },
        { RECORD_EXTENTS_MAX + 1, { { .length_bytes = GIB, REGION(GIB) } } },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT,
                       volume_extents_check(bad[i].items, bad[i].n, INTEGRITY_AEGIS128, GIB, &err));
    }
}

static void only_without_integrity_there_may_be_no_extents(void **state)
{
    const struct volume_extent one = { .length_bytes = GIB, REGION(GIB) };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(volume_extents_check(NULL, 0, INTEGRITY_NONE, GIB, &err));
    assert_ok(volume_extents_check(&one, 1, INTEGRITY_HMAC_SHA256, GIB, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   volume_extents_check(NULL, 0, INTEGRITY_HMAC_SHA256, GIB, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_record_is_one_in_every_phase),
        cmocka_unit_test(each_wrong_field_of_a_record_is_named),
        cmocka_unit_test(each_wrong_field_of_a_spec_is_refused),
        cmocka_unit_test(an_unknown_layout_is_named_with_the_known_one),
        cmocka_unit_test(extents_cover_the_volume_each_with_a_slot_of_its_own),
        cmocka_unit_test(only_without_integrity_there_may_be_no_extents),
    };

    return RUN_TESTS(tests);
}
