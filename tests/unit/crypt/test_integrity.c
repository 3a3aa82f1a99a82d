/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/integrity.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#include <sys/mman.h>
#include <unistd.h>

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

/* A disk with nothing but this superblock. */
static int disk_of(const uint8_t *superblock)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("disk", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_ok(fd_pwrite_all(fd, superblock, INTEGRITY_SUPERBLOCK_BYTES, LAYOUT_DATA_OFFSET, &err));
    return fd;
}

static void sizes_are_read_where_there_is_no_record(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    const struct volume_spec planned = spec_of_64_mib();
    struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128, .sector_bytes = 4096 };
    auto_close int fd = disk_of(written);

    assert_ok(integrity_read_sizes(fd, &spec, &err));
    assert_int_equal(spec.size_bytes, planned.size_bytes);
    assert_int_equal(spec.mapping_bytes, planned.mapping_bytes);
    assert_int_equal(spec.journal_sectors, planned.journal_sectors);
    assert_int_equal(spec.interleave_sectors, planned.interleave_sectors);
    assert_int_equal(layout_device_bytes(&spec), planned.device_bytes);
}

static void sizes_of_no_volume_are_refused(void **state)
{
    (void)state;
    uint8_t block[INTEGRITY_SUPERBLOCK_BYTES];
    static const struct {
        size_t at;
        uint8_t value;
    } changes[] = { { 0, 0 },  { 8, 5 },    { 9, 14 },  { 10, 16 },   { 12, 0 }, { 13, 1 },
                    { 16, 8 }, { 22, 0x1 }, { 24, 10 }, { 23, 0xff }, { 28, 0 }, { 32, 1 } };
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        struct volume_spec spec = { .integrity = INTEGRITY_AEGIS128, .sector_bytes = 4096 };
        struct error err = ERROR_INIT;

        memcpy(block, written, sizeof(block));
        block[changes[i].at] = changes[i].value;
        auto_close int fd = disk_of(block);

        assert_refused(ERROR_DATA_LOSS, integrity_read_sizes(fd, &spec, &err));
        assert_string_equal(err.reason, "HeaderChanged");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(superblock_as_planned_is_accepted),
        cmocka_unit_test(every_stable_byte_changed_is_refused),
        cmocka_unit_test(superblock_of_a_smaller_size_is_accepted),
        cmocka_unit_test(sizes_are_read_where_there_is_no_record),
        cmocka_unit_test(sizes_of_no_volume_are_refused),
        cmocka_unit_test(superblock_of_a_larger_size_is_refused),
    };

    return RUN_TESTS(tests);
}
