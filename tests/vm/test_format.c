/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <unistd.h>

/* What is formatted, and what never is. */

#define MIB  (1024ull * 1024)
#define SIZE (48 * MIB)

static struct disk disk;

static int teardown(void **state)
{
    (void)state;
    disk_drop(&disk);
    return devices_mapped() == 0 ? 0 : -1;
}

static void failed_format_is_done_again(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk.refuse_call = 1;
    assert_refused(ERROR_UNAVAILABLE, disk_open(&disk, false, &err));
    disk.refuse_call = 0;
    assert_int_equal(devices_mapped(), 0);
    disk.record.format.attempt = 2;
    disk_must_open(&disk);
    assert_ok(block_is(&disk, 0, 0, &err));
    disk_must_close(&disk);
    disk_must_open(&disk);
}

/* What the tests below do to the disk of a volume that holds data. */
static void nothing(void)
{
}

static void lose(uint64_t offset, uint64_t len)
{
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    uint64_t bytes = 0;

    assert_ok(device_open(disk.loop.path, true, &fd, &bytes, &err));
    assert_ok(device_write_zeros(fd, offset, len, &err) && device_flush(fd, &err));
}

static void lose_header_a(void)
{
    lose(LAYOUT_HEADER_A_OFFSET, LAYOUT_HEADER_BYTES);
}

static void lose_header_b(void)
{
    lose(LAYOUT_HEADER_B_OFFSET, LAYOUT_HEADER_BYTES);
}

static void lose_keyslots(void)
{
    lose(LAYOUT_HEADER_A_OFFSET + HEADER_PARSED_BYTES, 256u * 1024);
    lose(LAYOUT_HEADER_B_OFFSET + HEADER_PARSED_BYTES, 256u * 1024);
}

static void lose_states(void)
{
    for (uint64_t at = LAYOUT_STATE_A_OFFSET; at <= LAYOUT_STATE_B_OFFSET;
         at += LAYOUT_STATE_B_OFFSET)
        lose(raw_offset(&disk, at), LAYOUT_STATE_BYTES);
}

static void grow_it(void)
{
    struct error err = ERROR_INIT;

    disk_must_open(&disk);
    assert_ok(disk_grow(&disk, 2 * SIZE, &err));
    disk_must_close(&disk);
}

/* The broker's store was put back to the moment at which the volume was being formatted. */
static void assert_never_formatted(enum integrity integrity, void (*change)(void))
{
    struct error err = ERROR_INIT;
    uint8_t before[SHA256_LEN], after[SHA256_LEN];

    disk_make(&disk, integrity, SIZE);
    struct record old = disk.record;
    disk_must_open(&disk);
    assert_ok(block_write(&disk, MIB, 0x31, &err));
    disk_must_close(&disk);
    change();
    struct record newest = disk.record;
    raw_hash(&disk, before);
    disk.record = old;
    for (disk.record.format.attempt = 1; disk.record.format.attempt < 4;
         disk.record.format.attempt++) {
        assert_refused(ERROR_FAILED_PRECONDITION, disk_open(&disk, false, &err));
        assert_string_equal(err.reason, "UsedBefore");
        assert_int_equal(devices_mapped(), 0);
    }
    disk.record = newest;
    raw_hash(&disk, after);
    assert_memory_equal(before, after, SHA256_LEN);
}

static void what_was_exposed_is_never_formatted_though_the_store_was_put_back(void **state)
{
    (void)state;
    static void (*const harmless[])(void) = { nothing, lose_header_a, lose_header_b, grow_it };
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes) * ARRAY_LEN(harmless); i++) {
        assert_never_formatted(disk_modes[i / ARRAY_LEN(harmless)],
                               harmless[i % ARRAY_LEN(harmless)]);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, MIB, 0x31, &err));
        disk_must_close(&disk);
    }
    assert_never_formatted(INTEGRITY_AEGIS128, lose_keyslots);
    assert_never_formatted(INTEGRITY_AEGIS128, lose_states);
}

/* A power cut while the first header, copy B, was written: less or more of it is on the disk. */
static void torn_header_of_a_format_is_formatted_over(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const uint64_t ends[] = { 4096, 16384, 20480, 32768, 262144, 1048576 };
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
        disk.refuse_call = 1;
        assert_refused(ERROR_UNAVAILABLE, disk_open(&disk, false, &err));
        disk.refuse_call = 0;
        lose_header_a();
        lose(LAYOUT_HEADER_B_OFFSET + ends[i], LAYOUT_HEADER_BYTES - ends[i]);
        disk_must_open(&disk);
        disk_must_close(&disk);
    }
}

static void known_signatures_are_not_formatted_over(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const struct {
        off_t offset;
        const char *bytes;
        size_t len;
    } signatures[] = {
        { 1024 + 56, "\x53\xef", 2 },                      /* ext */
        { 0, "LUKS\xba\xbe\0\1", 8 },                      /* LUKS 1 */
        { LAYOUT_HEADER_B_OFFSET, "LUKS\xba\xbe\0\2", 8 }, /* ours, torn */
        { 512 + 24, "LVM2 001", 8 },                       /* no LVM label: allowed */
    };
    for (size_t i = 0; i < ARRAY_LEN(signatures); i++) {
        disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
        disk.record.format.attempt = 2;
        bool is_garbage = i + 1 == ARRAY_LEN(signatures);
        assert_ok(fd_pwrite_all(disk.file, signatures[i].bytes, signatures[i].len,
                                signatures[i].offset, &err));
        if (i == 0) {
            /* libblkid wants to see these fields in an ext2 superblock. */
            static const uint8_t numbers[] = { 0, 4, 0, 0, 0, 16 };

            assert_ok(fd_pwrite_all(disk.file, numbers, sizeof(numbers), 1024, &err));
        }
        assert_int_equal(fsync(disk.file), 0);
        if (is_garbage) {
            disk_must_open(&disk);
            return;
        }
        assert_refused(ERROR_FAILED_PRECONDITION, disk_open(&disk, false, &err));
        assert_string_equal(err.reason, "DeviceNotEmpty");
        disk_drop(&disk);
    }
}

static void device_too_small_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk.record.spec.device_bytes += 4096;
    assert_refused(ERROR_FAILED_PRECONDITION, disk_open(&disk, false, &err));
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(failed_format_is_done_again),
        CASE(what_was_exposed_is_never_formatted_though_the_store_was_put_back),
        CASE(torn_header_of_a_format_is_formatted_over),
        CASE(known_signatures_are_not_formatted_over),
        CASE(device_too_small_is_refused),
    };

    return RUN_TESTS(tests);
}
