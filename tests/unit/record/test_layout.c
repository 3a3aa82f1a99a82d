/* SPDX-License-Identifier: Apache-2.0 */
#include "record/layout.h"
#include "tests/unit/test.h"

static const enum integrity modes[] = { INTEGRITY_AEGIS128, INTEGRITY_HMAC_SHA256, INTEGRITY_NONE };

static const uint64_t sizes[] = {
    1ull << 20, (1ull << 20) + 4096, 16ull << 20,          (16ull << 20) - 4096, 100000000,
    1ull << 30, (1ull << 30) + 8192, (8ull << 30) + 12288, 10ull << 30,          100ull << 30,
    1ull << 40, (1ull << 40) + 4096, 3333333333333,        16ull << 40,          64ull << 40,
};

static struct volume_spec plan(enum integrity integrity, uint64_t size_bytes)
{
    struct volume_spec spec = { .integrity = integrity };
    struct error err = ERROR_INIT;

    assert_ok(layout_plan(&spec, size_bytes, &err));
    return spec;
}

/* The number of data sectors that dm-integrity finds on a device. Computed as the kernel does it,
 * bit by bit: the largest number whose last sector still lies on the device. */
static uint64_t kernel_data_sectors(const struct volume_spec *spec)
{
    const uint64_t start = LAYOUT_DATA_OFFSET / 512, device = spec->device_bytes / 512;
    const uint64_t section = 8 + 32 * 8, sections = spec->journal_sectors / section;
    const uint64_t run = (32 * 4096 + 4095) / 4096 * 4096 / 512;
    uint64_t data = 0;

    for (int bit = 62; bit >= 3; bit--) {
        uint64_t last = (data | 1ull << bit) - 1;
        uint64_t area = last / spec->interleave_sectors;
        uint64_t sector = start + 8 + sections * section + last + (area + 1) * run;

        if (sector < device)
            data |= 1ull << bit;
    }
    return data;
}

static void mapping_has_exactly_the_planned_size(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct volume_spec spec = plan(INTEGRITY_AEGIS128, sizes[i]);

        assert_int_equal(kernel_data_sectors(&spec) * 512, spec.mapping_bytes);
        assert_int_equal(spec.journal_sectors % 264, 0);
    }
}

static void volume_is_at_least_as_large_as_asked_for(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct volume_spec spec = plan(modes[m], sizes[i]);

            assert_true(spec.size_bytes >= sizes[i] && spec.size_bytes < sizes[i] + 4096);
            assert_true(spec.mapping_bytes >= spec.size_bytes + LAYOUT_RESERVED_BYTES);
            if (modes[m] == INTEGRITY_NONE)
                assert_int_equal(spec.mapping_bytes, spec.size_bytes + LAYOUT_RESERVED_BYTES);
            assert_int_equal(spec.device_bytes % 4096, 0);
        }
    }
}

static void both_authenticated_modes_take_the_same_space(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct volume_spec aegis = plan(INTEGRITY_AEGIS128, sizes[i]);
        struct volume_spec hmac = plan(INTEGRITY_HMAC_SHA256, sizes[i]);

        assert_int_equal(aegis.device_bytes, hmac.device_bytes);
    }
}

static void usable_size_is_the_largest_that_fits(void **state)
{
    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
        for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
            struct volume_spec spec = plan(modes[m], sizes[i]);
            uint64_t less = layout_usable_bytes(&spec, spec.device_bytes - 1);
            uint64_t usable = layout_usable_bytes(&spec, spec.device_bytes);

            assert_in_range(usable, spec.size_bytes, VOLUME_SIZE_MAX);
            assert_int_equal(plan(modes[m], usable).device_bytes, spec.device_bytes);
            assert_true(less < spec.size_bytes);
            assert_true(less == 0 || plan(modes[m], less).device_bytes < spec.device_bytes);
        }
    }
    const struct volume_spec aegis128 = { .integrity = INTEGRITY_AEGIS128 };
    const struct volume_spec none = { .integrity = INTEGRITY_NONE };
    assert_int_equal(layout_usable_bytes(&aegis128, 0), 0);
    assert_int_equal(layout_usable_bytes(&none, 6u << 20), 0);
    assert_int_equal(layout_usable_bytes(&none, UINT64_MAX), VOLUME_SIZE_MAX);
}

/* dm-integrity always has one section of journal (264 sectors), but no volume needs more unless it
 * uses it. */
static void volume_without_journal_is_smaller(void **state)
{
    struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128, .no_journal = true };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(layout_plan(&spec, 1ull << 30, &err));
    assert_int_equal(spec.journal_sectors, 264);
    assert_int_equal(spec.mapping_bytes, plan(INTEGRITY_AEGIS128, 1ull << 30).mapping_bytes);
    assert_true(spec.device_bytes < plan(INTEGRITY_AEGIS128, 1ull << 30).device_bytes);
    assert_int_equal(layout_usable_bytes(&spec, spec.device_bytes), spec.size_bytes);
    assert_int_equal(kernel_data_sectors(&spec), spec.mapping_bytes / 512);
    assert_ok(layout_plan_growth(&spec, 1ull << 40, &err));
    assert_int_equal(spec.journal_sectors, 264);
}

static void sizes_beyond_the_limits_are_refused(void **state)
{
    (void)state;
    struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128, .size_bytes = 7 };
    struct error err = ERROR_INIT;
    assert_refused(ERROR_OUT_OF_RANGE, layout_plan(&spec, 0, &err));
    assert_refused(ERROR_OUT_OF_RANGE, layout_plan(&spec, VOLUME_SIZE_MIN - 1, &err));
    assert_refused(ERROR_OUT_OF_RANGE, layout_plan(&spec, VOLUME_SIZE_MAX + 1, &err));
    assert_refused(ERROR_OUT_OF_RANGE, layout_plan(&spec, UINT64_MAX, &err));
    assert_int_equal(spec.size_bytes, 7);
}

static void unknown_integrity_mode_is_refused(void **state)
{
    (void)state;
    struct volume_spec spec = { .integrity = 4 };
    struct error err = ERROR_INIT;
    assert_refused(ERROR_INVALID_ARGUMENT, layout_plan(&spec, 1u << 20, &err));
}

/* The groups follow each other without a gap, hold the whole volume, and end with the mapping. */
static void groups_hold_the_volume_and_fill_the_mapping(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct volume_spec spec = plan(INTEGRITY_AEGIS128, sizes[i]);
        struct layout_group g[LAYOUT_GROUPS_MAX];
        size_t n = layout_groups(spec.size_bytes, g);
        uint64_t end = LAYOUT_RESERVED_BYTES, data = 0;

        assert_in_range(n, 1, LAYOUT_GROUPS_MAX);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(g[k].map_offset, end);
            assert_int_equal(g[k].data_offset, end + g[k].map_bytes);
            assert_int_equal(g[k].data_bytes % LAYOUT_BLOCK_BYTES, 0);
            assert_true(g[k].map_bytes >= g[k].data_bytes / LAYOUT_BLOCK_BYTES * 64);
            end = g[k].data_offset + g[k].data_bytes;
            data += g[k].data_bytes;
        }
        assert_in_range(data, spec.size_bytes, spec.size_bytes + LAYOUT_BLOCK_BYTES - 1);
        assert_int_equal(end, spec.mapping_bytes);
    }
}

/* What lies on the disk stays where it is: all groups but the last are the same afterwards, and the
 * last one only becomes longer. */
static void growth_moves_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        for (size_t j = 0; j < ARRAY_LEN(sizes); j++) {
            struct layout_group before[LAYOUT_GROUPS_MAX], after[LAYOUT_GROUPS_MAX];
            struct volume_spec spec = plan(INTEGRITY_AEGIS128, sizes[i]), grown = spec;
            struct error err = ERROR_INIT;

            if (sizes[j] < spec.size_bytes) {
                assert_refused(ERROR_OUT_OF_RANGE, layout_plan_growth(&grown, sizes[j], &err));
                continue;
            }
            assert_ok(layout_plan_growth(&grown, sizes[j], &err));
            assert_int_equal(grown.journal_sectors, spec.journal_sectors);
            assert_true(grown.device_bytes >= spec.device_bytes);
            assert_int_equal(kernel_data_sectors(&grown) * 512, grown.mapping_bytes);
            size_t n = layout_groups(spec.size_bytes, before);
            assert_true(layout_groups(grown.size_bytes, after) >= n);
            assert_memory_equal(before, after, (n - 1) * sizeof(before[0]));
            assert_int_equal(before[n - 1].map_bytes, after[n - 1].map_bytes);
            assert_int_equal(before[n - 1].data_offset, after[n - 1].data_offset);
            assert_true(before[n - 1].data_bytes <= after[n - 1].data_bytes);
        }
    }
}

/* The data stays where it is, and the reserved part lies before it. */
static void the_size_follows_from_the_mapping(void **state)
{
    static const uint64_t asked[] = { 1ull << 20,           (1ull << 20) + 4096,
                                      48ull << 20,          64ull << 30,
                                      (64ull << 30) - 4096, (64ull << 30) - (16u << 20),
                                      (64ull << 30) + 1,    3333333333333,
                                      64ull << 40 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        struct volume_spec with = { .integrity = INTEGRITY_AEGIS128 };
        struct volume_spec without = { .integrity = INTEGRITY_NONE };
        struct error err = ERROR_INIT;
        uint64_t found = 0;

        assert_ok(layout_plan(&with, asked[i], &err));
        assert_ok(layout_plan(&without, asked[i], &err));
        assert_true(layout_find_size(INTEGRITY_AEGIS128, with.mapping_bytes, &found));
        assert_int_equal(found, round_up_u64(with.size_bytes, LAYOUT_BLOCK_BYTES));
        assert_true(layout_find_size(INTEGRITY_NONE, without.mapping_bytes, &found));
        assert_int_equal(found, without.size_bytes);
    }
}

static void mappings_of_no_volume_have_no_size(void **state)
{
    static const uint64_t mappings[] = {
        0, 1, LAYOUT_RESERVED_BYTES, LAYOUT_RESERVED_BYTES + LAYOUT_MAP_BYTES,
        LAYOUT_RESERVED_BYTES + LAYOUT_MAP_BYTES + (1u << 20) + 4096,
        /* it ends in the map of the second group */
        LAYOUT_RESERVED_BYTES + (64ull << 30) + LAYOUT_MAP_BYTES, 1ull << 60, INT64_MAX, UINT64_MAX
    };
    uint64_t found = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(mappings); i++)
        assert_false(layout_find_size(INTEGRITY_HMAC_SHA256, mappings[i], &found));
    assert_false(layout_find_size(INTEGRITY_NONE, LAYOUT_RESERVED_BYTES + 4096, &found));
    assert_false(layout_find_size(INTEGRITY_NONE, UINT64_MAX, &found));
    assert_int_equal(found, 7);
}

static void what_is_taken_over_ends_with_its_device(void **state)
{
    static const uint64_t devices[] = { 17ull << 20, (17ull << 20) + 4608, 1ull << 30,
                                        (64ull << 40) + (16u << 20) };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        struct volume_spec spec = { .integrity = INTEGRITY_NONE, .sector_bytes = 512 };

        assert_ok(layout_plan_take_over(&spec, devices[i], &err));
        assert_true(spec.taken_over);
        assert_int_equal(spec.sector_bytes, 512);
        assert_int_equal(spec.size_bytes, (devices[i] - (16u << 20)) / 4096 * 4096);
        assert_int_equal(spec.device_bytes, (16u << 20) + spec.size_bytes);
        assert_int_equal(layout_data_offset(&spec) + LAYOUT_RESERVED_BYTES, 16u << 20);
        assert_int_equal(layout_data_offset(&spec) + spec.mapping_bytes, spec.device_bytes);
        /* the first sector of the data has number 0 */
        assert_int_equal(layout_iv_offset(&spec) + LAYOUT_RESERVED_BYTES / 512, 0);
        assert_int_equal(layout_usable_bytes(&spec, devices[i]), spec.size_bytes);
    }
    struct volume_spec grown = { .integrity = INTEGRITY_NONE, .sector_bytes = 4096 };
    assert_ok(layout_plan_take_over(&grown, 1ull << 30, &err));
    assert_ok(layout_plan_growth(&grown, 2ull << 30, &err));
    assert_int_equal(grown.device_bytes, (2ull << 30) + (16u << 20));
}

static void what_cannot_be_taken_over_is_refused(void **state)
{
    static const uint64_t devices[] = { 0, 16u << 20, (17u << 20) - 1,
                                        (64ull << 40) + (16u << 20) + 4096, UINT64_MAX };
    struct volume_spec aegis128 = { .integrity = INTEGRITY_AEGIS128, .sector_bytes = 4096 };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        struct volume_spec spec = { .integrity = INTEGRITY_NONE, .sector_bytes = 4096 };

        assert_refused(ERROR_OUT_OF_RANGE, layout_plan_take_over(&spec, devices[i], &err));
    }
    assert_refused(ERROR_INVALID_ARGUMENT, layout_plan_take_over(&aegis128, 1ull << 30, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mapping_has_exactly_the_planned_size),
        cmocka_unit_test(volume_is_at_least_as_large_as_asked_for),
        cmocka_unit_test(both_authenticated_modes_take_the_same_space),
        cmocka_unit_test(usable_size_is_the_largest_that_fits),
        cmocka_unit_test(volume_without_journal_is_smaller),
        cmocka_unit_test(sizes_beyond_the_limits_are_refused),
        cmocka_unit_test(unknown_integrity_mode_is_refused),
        cmocka_unit_test(groups_hold_the_volume_and_fill_the_mapping),
        cmocka_unit_test(growth_moves_nothing),
        cmocka_unit_test(the_size_follows_from_the_mapping),
        cmocka_unit_test(mappings_of_no_volume_have_no_size),
        cmocka_unit_test(what_is_taken_over_ends_with_its_device),
        cmocka_unit_test(what_cannot_be_taken_over_is_refused),
    };

    return RUN_TESTS(tests);
}
