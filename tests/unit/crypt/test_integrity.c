/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/integrity.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#define STABLE_BYTES 40u

/* As kernel 6.1 wrote it for a volume of 64 MiB: magic, version 4, interleave 2^15, 32-byte tags,
 * 31 journal sections, 167936 sectors of data, fixed padding, 8 sectors per block. */
static const uint8_t written[INTEGRITY_SUPERBLOCK_BYTES] = {
    'i', 'n', 't',  'e', 'g', 'r', 't', 0, 4, 15, 32, 0, 31, 0, 0,
    0,   0,   0x90, 2,   0,   0,   0,   0, 0, 8,  0,  0, 0,  3,
};

static struct volume_spec spec_of_64_mib(void)
{
    struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128 };
    struct error err = ERROR_INIT;

    assert_ok(layout_plan(&spec, 64u << 20, &err));
    return spec;
}

static void superblock_as_planned_is_accepted(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_spec spec = spec_of_64_mib();
    assert_ok(integrity_check(written, &spec, &err));
}

static void every_stable_byte_changed_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_spec spec = spec_of_64_mib();
    uint8_t block[INTEGRITY_SUPERBLOCK_BYTES];
    memcpy(block, written, sizeof(block));
    for (size_t i = 0; i < STABLE_BYTES; i++) {
        /* log2_blocks_per_bitmap_bit and padding have no effect without the bitmap flag */
        if (i >= 29 && i < 32)
            continue;
        block[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, integrity_check(block, &spec, &err));
        assert_string_equal(err.reason, "HeaderChanged");
        block[i] ^= 1;
    }
}

/* The volume has grown, but was closed before its mapping was made longer. */
static void superblock_of_a_smaller_size_is_accepted(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_spec spec = spec_of_64_mib();
    assert_ok(layout_plan_growth(&spec, 1u << 30, &err));
    assert_ok(integrity_check(written, &spec, &err));
}

static void superblock_of_a_larger_size_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_spec spec = spec_of_64_mib();
    spec.mapping_bytes -= 4096;
    assert_refused(ERROR_DATA_LOSS, integrity_check(written, &spec, &err));
    assert_contains(err.text, "data sectors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(superblock_as_planned_is_accepted),
        cmocka_unit_test(every_stable_byte_changed_is_refused),
        cmocka_unit_test(superblock_of_a_smaller_size_is_accepted),
        cmocka_unit_test(superblock_of_a_larger_size_is_refused),
    };

    return RUN_TESTS(tests);
}
