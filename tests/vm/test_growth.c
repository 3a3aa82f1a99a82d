/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/activate.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

/* Volumes become larger. What a death or a power cut does to a growth is in test_worker_kill.c and
 * test_power_cut.c. */

#define MIB  (1024ull * 1024)
#define SIZE (48 * MIB)
#define LAST (SIZE - 4096)

static struct disk disk;

static int teardown(void **state)
{
    (void)state;
    disk_drop(&disk);
    return devices_mapped() == 0 ? 0 : -1;
}

static void volume_grows_while_open(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, LAST, 0x21, &err));
        const struct volume_spec before = disk.record.spec;
        assert_ok(layout_plan_growth(&disk.record.spec, 2 * SIZE, &err));
        assert_refused(ERROR_FAILED_PRECONDITION, /* the raw device is too small */
                       volume_grow(&disk.name, &disk.record, &disk.device, &err));
        disk.record.spec = before;
        for (uint64_t size = SIZE + 4096; size <= 2 * SIZE; size += SIZE / 2 - 2048)
            assert_ok(disk_grow(&disk, size, &err));
        assert_ok(disk_grow(&disk, 2 * SIZE, &err));
        assert_int_equal(disk.device.size_bytes, 2 * SIZE);
        assert_ok(volume_grow(&disk.name, &disk.record, &disk.device, &err));
        assert_ok(block_is(&disk, LAST, 0x21, &err));
        if (disk_modes[i] != INTEGRITY_NONE)
            assert_ok(block_is(&disk, 2 * SIZE - 8192, 0, &err));
        assert_ok(block_write(&disk, 2 * SIZE - 4096, 0x22, &err));
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_int_equal(disk.device.size_bytes, 2 * SIZE);
        assert_ok(block_is(&disk, LAST, 0x21, &err));
        assert_ok(block_is(&disk, 2 * SIZE - 4096, 0x22, &err));
        disk_must_close(&disk);
    }
}

/* The record has grown, but the volume was closed before its layers did: a crash, or a copy into a
 * larger claim. */
static void growth_is_ended_by_the_next_open(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, LAST, 0x31, &err));
        disk_must_close(&disk);
        assert_ok(layout_plan_growth(&disk.record.spec, 3 * SIZE, &err));
        disk_stretch(&disk, disk.record.spec.device_bytes);
        assert_ok(disk_open(&disk, true, &err)); /* reading alone grows nothing on the disk */
        assert_int_equal(disk.device.size_bytes, 3 * SIZE);
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_int_equal(disk.device.size_bytes, 3 * SIZE);
        assert_ok(block_is(&disk, LAST, 0x31, &err));
        assert_ok(block_write(&disk, 3 * SIZE - 4096, 0x32, &err));
        disk_must_close(&disk);
    }
}

/* Over the end of the first group, where a second map begins. */
static void volume_grows_into_the_next_groups(void **state)
{
    (void)state;
    static const uint64_t sizes[] = { (64ull << 30) - 16 * MIB, 64ull << 30, 200ull << 30,
                                      1ull << 40 };
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, 32ull << 30);
    disk_must_open(&disk);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        assert_ok(disk_grow(&disk, sizes[i], &err));
        assert_int_equal(disk.device.size_bytes, sizes[i]);
        assert_ok(block_write(&disk, sizes[i] - 4096, (uint8_t)(i + 1), &err));
    }
    disk_must_close(&disk);
    disk_must_open(&disk);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        assert_ok(block_is(&disk, sizes[i] - 4096, (uint8_t)(i + 1), &err));
}

static void larger_device_shows_the_planned_size(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_stretch(&disk, disk.record.spec.device_bytes + 64 * MIB);
        disk_must_open(&disk);
        assert_int_equal(disk.device.size_bytes, SIZE);
        assert_ok(block_write(&disk, LAST, 0x61, &err));
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, LAST, 0x61, &err));
    }
    assert_ok(layout_plan_growth(&disk.record.spec, SIZE + 32 * MIB, &err));
    assert_ok(volume_grow(&disk.name, &disk.record, &disk.device, &err));
    assert_int_equal(disk.device.size_bytes, SIZE + 32 * MIB);
    assert_ok(block_write(&disk, SIZE + 32 * MIB - 4096, 0x62, &err));
}

/* The kernel notes new blocks in the map before it makes the map longer: so many would not fit into the
 * map of a small volume. */
static void small_volume_grows_to_64_tib(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (int online = 0; online <= 1; online++) {
        disk_make(&disk, INTEGRITY_AEGIS128, 1ull << 30);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, MIB, 0x41, &err));
        if (!online)
            disk_must_close(&disk);
        assert_ok(layout_plan_growth(&disk.record.spec, VOLUME_SIZE_MAX, &err));
        disk_stretch(&disk, disk.record.spec.device_bytes);
        if (online)
            assert_ok(volume_grow(&disk.name, &disk.record, &disk.device, &err));
        else
            disk_must_open(&disk);
        assert_int_equal(disk.device.size_bytes, VOLUME_SIZE_MAX);
        assert_ok(block_is(&disk, MIB, 0x41, &err));
        assert_ok(block_write(&disk, VOLUME_SIZE_MAX - 4096, 0x42, &err));
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, VOLUME_SIZE_MAX - 4096, 0x42, &err));
        disk_must_close(&disk);
        if (!online)
            disk_drop(&disk);
    }
}

/* Keys in the form of dm-crypt's table: in hex, followed by " 0 ". */
static size_t count_keys(const char *at, const char *end)
{
    size_t n = 0, digits = 0;

    for (; end - at >= 3; at++) {
        bool is_digit = isxdigit((unsigned char)*at);

        n += !is_digit && digits >= 32 && memcmp(at, " 0 ", 3) == 0;
        digits = is_digit ? digits + 1 : 0;
    }
    return n;
}

static size_t count_keys_in_memory(void)
{
    struct error err = ERROR_INIT;
    auto_free char *maps = NULL;
    size_t len = 0, n = 0;

    assert_ok(file_read("/proc/self/maps", MIB, &maps, &len, &err));
    for (char *rest = maps, *line; (line = strsep(&rest, "\n"));) {
        void *start = NULL, *end = NULL;

        if (sscanf(line, "%p-%p rw", &start, &end) == 2 && strstr(line, " rw"))
            n += count_keys(start, end);
    }
    return n;
}

static void growth_leaves_no_key_in_memory(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_must_open(&disk);
        size_t before = count_keys_in_memory();
        assert_ok(disk_grow(&disk, 2 * SIZE, &err));
        assert_int_equal(count_keys_in_memory(), before);
    }
    size_t before = count_keys_in_memory();
    char planted[] = "00112233445566778899aabbccddeeff 0 7:0";
    assert_int_equal(count_keys_in_memory(), before + 1);
    bytes_wipe(planted, sizeof(planted));
}

static void failed_volume_does_not_grow(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(volume_fail(&disk.name, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, disk_grow(&disk, 2 * SIZE, &err));
    assert_string_equal(err.reason, "MapFailed");
    disk_must_close(&disk);
    disk_must_open(&disk);
    assert_int_equal(disk.device.size_bytes, 2 * SIZE);
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(volume_grows_while_open),
        CASE(growth_is_ended_by_the_next_open),
        CASE(volume_grows_into_the_next_groups),
        CASE(small_volume_grows_to_64_tib),
        CASE(growth_leaves_no_key_in_memory),
        CASE(failed_volume_does_not_grow),
        CASE(larger_device_shows_the_planned_size),
    };

    return RUN_TESTS(tests);
}
