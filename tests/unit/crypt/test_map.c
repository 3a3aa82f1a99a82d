/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/device.h"
#include "crypt/map.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#include <endian.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* A map made by hand: the superblock, the index of its space map, one bitmap, and blocks in use. That
 * real maps are read is shown by tests/vm/test_hostile_disk.c. */

#define BLOCK       DEVICE_BLOCK_BYTES
#define BLOCKS      700u
#define INDEX       1u
#define BITMAP      2u
#define DATA_BLOCKS 1234ull

static uint8_t image[BLOCKS * BLOCK];

static void put_u32(size_t offset, uint32_t value)
{
    uint32_t raw = htole32(value);

    memcpy(image + offset, &raw, sizeof(raw));
}

static void put_u64(size_t offset, uint64_t value)
{
    uint64_t raw = htole64(value);

    memcpy(image + offset, &raw, sizeof(raw));
}

/* count: how often the block is used, 0 to 3 */
static void use(size_t block, unsigned count)
{
    image[BITMAP * BLOCK + 16 + block / 4] |= (uint8_t)(count << block % 4 * 2);
}

static int make(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(image); i++)
        image[i] = (uint8_t)(i / BLOCK + i % 251);
    for (size_t i = 0; i < 3 * (size_t)BLOCK; i++)
        image[i] = 0;
    put_u64(32, 27022010);
    put_u32(40, 2);
    put_u64(64, DATA_BLOCKS);
    put_u64(192, BLOCKS);
    put_u64(208, INDEX);
    put_u32(336, LAYOUT_BLOCK_BYTES / SECTOR_BYTES);
    put_u32(340, 8);
    put_u64(INDEX * BLOCK + 16, BITMAP);
    for (size_t block = 0; block < 3; block++)
        use(block, 1);
    use(5, 1);
    use(9, 3);
    for (size_t block = 20; block < 600; block++)
        use(block, 2);
    return 0;
}

static int map_file(size_t bytes)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("map", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_ok(fd_pwrite_all(fd, image, bytes, 0, &err));
    return fd;
}

static bool check(struct map_info *out, struct error *err)
{
    auto_close int fd = map_file(sizeof(image));

    return map_check(fd, out, err);
}

static bool hash(uint8_t out[static SHA256_LEN], struct error *err)
{
    auto_close int fd = map_file(sizeof(image));

    return map_hash(fd, out, err);
}

static void a_map_of_this_layout_is_accepted(void **state)
{
    struct error err = ERROR_INIT;
    struct map_info map;

    (void)state;
    assert_ok(check(&map, &err));
    assert_false(map.needs_check);
    assert_int_equal(map.data_bytes, DATA_BLOCKS * LAYOUT_BLOCK_BYTES);
    put_u32(4, 1);
    assert_ok(check(&map, &err));
    assert_true(map.needs_check);
}

static void what_is_no_map_of_this_layout_is_refused(void **state)
{
    static const struct {
        size_t offset;
        uint32_t value;
    } bad[] = { { 32, 0 },    { 36, 1 },   { 40, 1 }, { 40, 3 },
                { 336, 128 }, { 340, 16 }, { 64, 0 }, { 68, 1 } };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;
        struct map_info map;

        make(state);
        put_u32(bad[i].offset, bad[i].value);
        assert_refused(ERROR_DATA_LOSS, check(&map, &err));
        assert_string_equal(err.reason, "MapChanged");
    }
}

static void each_used_block_is_in_the_hash_and_no_other(void **state)
{
    uint8_t first[SHA256_LEN], again[SHA256_LEN];
    struct error err = ERROR_INIT;

    assert_ok(hash(first, &err));
    for (size_t block = 0; block < BLOCKS; block++) {
        bool is_used = block < 3 || block == 5 || block == 9 || (block >= 20 && block < 600);

        make(state);
        image[block * BLOCK + 4000] ^= 1;
        assert_ok(hash(again, &err));
        assert_int_equal(is_used, !bytes_are_equal(first, again, SHA256_LEN));
    }
}

static void a_block_more_or_less_in_use_changes_the_hash(void **state)
{
    uint8_t first[SHA256_LEN], more[SHA256_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hash(first, &err));
    use(10, 1);
    assert_ok(hash(more, &err));
    assert_memory_not_equal(first, more, SHA256_LEN);
}

static void a_map_that_points_outside_is_refused(void **state)
{
    static const struct {
        size_t offset;
        uint64_t value;
    } bad[] = { { 192, 1ull << 40 },    { 192, 0 },
                { 208, BLOCKS },        { 208, UINT64_MAX },
                { BLOCK + 16, BLOCKS }, { BLOCK + 16, UINT64_MAX } };
    uint8_t out[SHA256_LEN];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct error err = ERROR_INIT;

        make(state);
        put_u64(bad[i].offset, bad[i].value);
        assert_refused(ERROR_DATA_LOSS, hash(out, &err));
        assert_string_equal(err.reason, "MapChanged");
    }
}

static void a_map_that_ends_too_early_is_an_error(void **state)
{
    uint8_t out[SHA256_LEN];

    (void)state;
    for (size_t blocks = 0; blocks < 600; blocks += 37) {
        auto_close int fd = map_file(blocks * BLOCK);
        struct error err = ERROR_INIT;

        assert_false(map_hash(fd, out, &err));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_map_of_this_layout_is_accepted, make),
        cmocka_unit_test_setup(what_is_no_map_of_this_layout_is_refused, make),
        cmocka_unit_test_setup(each_used_block_is_in_the_hash_and_no_other, make),
        cmocka_unit_test_setup(a_block_more_or_less_in_use_changes_the_hash, make),
        cmocka_unit_test_setup(a_map_that_points_outside_is_refused, make),
        cmocka_unit_test_setup(a_map_that_ends_too_early_is_an_error, make),
    };

    return RUN_TESTS(tests);
}
