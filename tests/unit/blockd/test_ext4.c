/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/secret.h"
#include "blockd/ext4.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint8_t superblock[EXT4_SUPERBLOCK_BYTES];

static void put(size_t offset, size_t len, uint32_t value)
{
    for (size_t i = 0; i < len; i++)
        superblock[offset + i] = (uint8_t)(value >> (8 * i));
}

static void put_checksum(void)
{
    put(0x3fc, 4, crc32c(superblock, 0x3fc));
}

/* What mkfs.ext4 writes, as far as it matters here. */
static int set_up(void **state UNUSED)
{
    bytes_wipe(superblock, sizeof(superblock));
    put(0x36, 2, 0xffff); /* no check because of the number of mounts */
    put(0x38, 2, 0xef53);
    put(0x3a, 2, 1);
    put(0x4c, 4, 1); /* revision */
    put(0x60, 4, 0x2c2);
    put(0x64, 4, 0x46b);
    put_checksum();
    return 0;
}

static void clean_file_system_needs_nothing(void **state UNUSED)
{
    assert_true(ext4_superblock_is_clean(superblock));
    put(0x34, 2, 1000); /* mounted often */
    put_checksum();
    assert_true(ext4_superblock_is_clean(superblock));
    put(0x36, 2, 1001);
    put_checksum();
    assert_true(ext4_superblock_is_clean(superblock));
}

static void everything_that_e2fsck_cares_for_is_not_clean(void **state UNUSED)
{
    static const struct {
        const char *what;
        size_t offset, len;
        uint32_t value;
    } rows[] = {
        { "another file system", 0x38, 2, 0x5846 },
        { "mounted, or the machine crashed", 0x3a, 2, 0 },
        { "clean, but with errors", 0x3a, 2, 3 },
        { "clean, but orphans are being deleted", 0x3a, 2, 5 },
        { "the journal is not empty", 0x60, 4, 0x2c6 },
        { "the orphan file is not empty", 0x64, 4, 0x1046b },
        { "an inode was being deleted", 0xe8, 4, 12 },
        { "the kernel saw an error", 0x194, 4, 1 },
        { "a check is due from time to time", 0x44, 4, 86400 },
        { "a check is due after some mounts", 0x36, 2, 1 },
        { "no checksums", 0x64, 4, 0x6b },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        (void)set_up(NULL);
        put(0x34, 2, 1);
        put(rows[i].offset, rows[i].len, rows[i].value);
        put_checksum();
        if (ext4_superblock_is_clean(superblock))
            fail_msg("taken for clean: %s", rows[i].what);
    }
}

static void changed_superblock_is_not_clean(void **state UNUSED)
{
    for (size_t at = 0; at < sizeof(superblock); at++) {
        superblock[at] ^= 0x10;
        assert_false(ext4_superblock_is_clean(superblock));
        superblock[at] ^= 0x10;
    }
    assert_true(ext4_superblock_is_clean(superblock));
}

static void device_is_read_at_the_right_place(void **state UNUSED)
{
    char path[] = "/tmp/tdvol-ext4.XXXXXX";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, EXT4_SUPERBLOCK_OFFSET), 0);
    assert_false(ext4_is_clean(path)); /* too short */
    assert_int_equal(pwrite(fd, superblock, sizeof(superblock), EXT4_SUPERBLOCK_OFFSET),
                     sizeof(superblock));
    assert_true(ext4_is_clean(path));
    assert_int_equal(unlink(path), 0);
    assert_false(ext4_is_clean(path));
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(clean_file_system_needs_nothing, set_up),
        cmocka_unit_test_setup(everything_that_e2fsck_cares_for_is_not_clean, set_up),
        cmocka_unit_test_setup(changed_superblock_is_not_clean, set_up),
        cmocka_unit_test_setup(device_is_read_at_the_right_place, set_up),
    };

    return RUN_TESTS(tests);
}
