/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/secret.h"
#include "crypt/take_over.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#include <sys/mman.h>
#include <unistd.h>

/* How the old file system is recognized. The rest needs device-mapper: tests/vm/test_take_over.c. */

#define BLOCK 4096
#define SIZE  (100ull << 20)

static int mapping = -1;
static uint8_t block[BLOCK] __attribute__((aligned(BLOCK)));
static struct volume_spec spec;

static void put_le(uint8_t *at, size_t len, uint64_t value)
{
    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void put_be(uint8_t *at, size_t len, uint64_t value)
{
    for (size_t i = 0; i < len; i++)
        at[len - 1 - i] = (uint8_t)(value >> (8 * i));
}

static void put_ext4(uint32_t shift, uint64_t blocks, bool has_high)
{
    bytes_wipe(block, BLOCK);
    put_le(block + 1024 + 0x38, 2, 0xef53);
    put_le(block + 1024 + 0x18, 4, shift);
    put_le(block + 1024 + 0x4, 4, blocks);
    put_le(block + 1024 + 0x60, 4, has_high ? 0x80 : 0);
    put_le(block + 1024 + 0x150, 4, blocks >> 32);
    memcpy(spec.fs_type, "ext4", sizeof("ext4"));
}

static void put_xfs(uint32_t block_bytes, uint64_t blocks)
{
    bytes_wipe(block, BLOCK);
    put_be(block, 4, 0x58465342); /* XFSB */
    put_be(block + 4, 4, block_bytes);
    put_be(block + 8, 8, blocks);
    memcpy(spec.fs_type, "xfs", sizeof("xfs"));
}

static bool look(uint64_t *bytes, struct error *err)
{
    return fd_pwrite_all(mapping, block, BLOCK, LAYOUT_RESERVED_BYTES, err) &&
           take_over_check_content(mapping, &spec, bytes, err);
}

static void assert_has(uint64_t wanted)
{
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;

    assert_ok(look(&bytes, &err));
    assert_int_equal(bytes, wanted);
}

static void assert_bad(const char *text)
{
    struct error err = ERROR_INIT;
    uint64_t bytes = 0;

    assert_refused(ERROR_FAILED_PRECONDITION, look(&bytes, &err));
    assert_string_equal(err.reason, "OldFileSystem");
    assert_contains(err.text, text);
}

static void ext4_says_how_large_it_is(void **state UNUSED)
{
    put_ext4(2, SIZE / 4096, true);
    assert_has(SIZE);
    put_ext4(0, 5000, false);
    assert_has(5000 * 1024);
    put_ext4(2, 1000 | 7ull << 32, false); /* the high half counts with the flag alone */
    assert_has(1000 * 4096);
}

static void xfs_says_how_large_it_is(void **state UNUSED)
{
    put_xfs(4096, SIZE / 4096);
    assert_has(SIZE);
    put_xfs(65536, 3);
    assert_has(3 * 65536);
}

static void a_raw_block_volume_may_hold_anything(void **state UNUSED)
{
    for (size_t i = 0; i < BLOCK; i++)
        block[i] = 0x77;
    spec.fs_type[0] = '\0';
    assert_has(SIZE);
}

static void another_file_system_is_refused(void **state UNUSED)
{
    put_ext4(2, 1000, true);
    memcpy(spec.fs_type, "xfs", sizeof("xfs"));
    assert_bad("adopted as xfs, but holds something else");
    put_xfs(4096, 1000);
    memcpy(spec.fs_type, "ext4", sizeof("ext4"));
    assert_bad("adopted as ext4, but holds something else");
    put_ext4(7, 1000, true);
    assert_bad("something else");
    put_xfs(511, 1000);
    assert_bad("something else");
    put_xfs(65537, 1000);
    assert_bad("something else");
}

static void a_size_that_cannot_be_is_refused(void **state UNUSED)
{
    put_ext4(2, SIZE / 4096 + 1, true);
    assert_bad("104861696 bytes, the volume only 104857600");
    put_ext4(6, UINT64_MAX, true);
    assert_bad("no sound size");
    put_ext4(2, 0, true);
    assert_bad("no sound size");
    put_xfs(65536, UINT64_MAX / 65536 + 2); /* would be small when the product wraps */
    assert_bad("no sound size");
}

static int setup(void **state UNUSED)
{
    spec = (struct volume_spec){ .integrity = INTEGRITY_NONE, .size_bytes = SIZE };
    mapping = memfd_create("mapping", MFD_CLOEXEC);
    return mapping < 0 ? -1 : ftruncate(mapping, LAYOUT_RESERVED_BYTES + BLOCK);
}

static int teardown(void **state UNUSED)
{
    close_at(&mapping);
    return 0;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(ext4_says_how_large_it_is),
        CASE(xfs_says_how_large_it_is),
        CASE(a_raw_block_volume_may_hold_anything),
        CASE(another_file_system_is_refused),
        CASE(a_size_that_cannot_be_is_refused),
    };

    return RUN_TESTS(tests);
}
