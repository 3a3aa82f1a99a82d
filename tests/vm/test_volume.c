/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/layer.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MIB       (1024ull * 1024)
#define SIZE      (48 * MIB)
#define FAR_BLOCK (SIZE - 8192)
#define LAST      (SIZE - 4096)

static struct disk disk;

static int teardown(void **state)
{
    (void)state;
    disk_drop(&disk);
    return devices_mapped() == 0 ? 0 : -1;
}

static void data_survive_closing_in_every_mode(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_must_open(&disk);
        assert_int_equal(disk.device.size_bytes, SIZE);
        assert_int_equal(disk.device.filesystem_bytes, 0);
        assert_int_equal(disk.record.open_counter, 1);
        assert_ok(block_write(&disk, 0, 0xaa, &err));
        assert_ok(block_write(&disk, LAST, 0xbb, &err));
        const struct record_keeper keeper = disk_keeper(&disk);
        assert_ok(volume_filesystem_made(&disk.name, &disk.record, &disk.secret, &keeper,
                                         &disk.closing, &err));
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_int_equal(disk.device.filesystem_bytes, SIZE);
        assert_int_equal(disk.record.open_counter, 3);
        assert_ok(block_is(&disk, 0, 0xaa, &err));
        assert_ok(block_is(&disk, LAST, 0xbb, &err));
        disk_must_close(&disk);
    }
}

static void unwritten_blocks_of_an_authenticated_volume_are_zeros(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(block_is(&disk, 0, 0, &err));
    assert_ok(block_is(&disk, FAR_BLOCK, 0, &err));
    assert_ok(block_is(&disk, LAST, 0, &err));
}

static void mapping_has_the_planned_size(void **state)
{
    (void)state;
    static const uint64_t sizes[] = { MIB,          MIB + 4096,   15 * MIB,   16 * MIB - 4096,
                                      100000000,    513 * MIB,    1024 * MIB, 8192 * MIB - 8192,
                                      10240 * MIB,  100000 * MIB, 1ull << 40, (1ull << 40) + 4096,
                                      3333333333333 };
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        disk_make(&disk, i % 2 ? INTEGRITY_AEGIS128 : INTEGRITY_HMAC_SHA256, sizes[i]);
        disk_must_open(&disk);
        assert_true(disk.device.size_bytes >= sizes[i]);
        assert_ok(block_is(&disk, disk.device.size_bytes - 4096, 0, &err));
        assert_ok(block_is(&disk, disk.device.size_bytes - 8192, 0, &err));
        disk_must_close(&disk);
    }
}

static void volume_of_64_tib_opens(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, VOLUME_SIZE_MAX);
    disk_must_open(&disk);
    assert_int_equal(disk.device.size_bytes, VOLUME_SIZE_MAX);
    assert_ok(block_write(&disk, VOLUME_SIZE_MAX / 2, 0x77, &err));
    assert_ok(block_is(&disk, VOLUME_SIZE_MAX / 2, 0x77, &err));
    assert_ok(block_is(&disk, VOLUME_SIZE_MAX - 4096, 0, &err));
}

/* Worst for the map: as many blocks as the first group has, written one by one in an order that
 * leaves every B-tree node half full. What lies below the pool only takes what is written. */
static void map_of_a_group_takes_all_its_blocks(void **state)
{
    (void)state;
    const uint64_t bytes = 64ull << 30, n = bytes / LAYOUT_BLOCK_BYTES;
    struct error err = ERROR_INIT;
    auto_free struct table *map = NULL, *zero = NULL, *pool = NULL, *thin = NULL;
    disk_make(&disk, INTEGRITY_NONE, 16 * MIB); /* its disk holds the map */
    assert_ok(table_new(&map, &err) && table_new(&zero, &err) && table_new(&pool, &err) &&
              table_new(&thin, &err));
    assert_ok(table_add(map, LAYOUT_MAP_BYTES / 512, &err, "linear", "%s 0", disk.loop.path));
    assert_ok(table_add(zero, bytes / 512, &err, "zero", "%s", ""));
    assert_ok(table_add(pool, bytes / 512, &err, "thin-pool",
                        "/dev/mapper/t-map /dev/mapper/t-zero %u 0 1 skip_block_zeroing",
                        LAYOUT_BLOCK_BYTES / 512));
    assert_ok(table_add(thin, bytes / 512, &err, "thin", "/dev/mapper/t-pool 0"));
    assert_ok(table_create("t-map", map, false, &err) && table_create("t-zero", zero, false, &err));
    assert_ok(table_create("t-pool", pool, false, &err));
    assert_ok(table_message("t-pool", "create_thin 0", &err));
    assert_ok(table_create("t-thin", thin, false, &err));
    uint64_t size;
    auto_close int fd = -1;
    auto_free uint8_t *block = NULL;
    assert_ok(device_buffer(DEVICE_BLOCK_BYTES, &block, &err));
    assert_ok(device_open("/dev/mapper/t-thin", true, &fd, &size, &err));
    for (uint64_t step = 64; step > 0; step /= 2) {
        for (uint64_t i = step == 64 ? 0 : step; i < n; i += step == 64 ? step : 2 * step)
            assert_ok(fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)(i * LAYOUT_BLOCK_BYTES),
                                    &err));
    }
    assert_ok(device_flush(fd, &err));
    close_at(&fd);
    struct table_target status;
    assert_ok(table_get_status("t-pool", &status, &err));
    print_message("# %s\n", status.params);
    assert_contains(status.params, " rw ");
    assert_ok(table_remove("t-thin", &err) && table_remove("t-pool", &err) &&
              table_remove("t-map", &err) && table_remove("t-zero", &err));
}

static int discard(uint64_t offset, uint64_t len, unsigned long request)
{
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    uint64_t bytes, range[2] = { offset, len };

    assert_ok(device_open(disk.device.path, true, &fd, &bytes, &err));
    return ioctl(fd, request, range) == 0 ? 0 : errno;
}

static void discards_of_authenticated_volumes_are_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 4 * MIB, 0x33, &err));
    assert_int_equal(discard(4 * MIB, MIB, BLKDISCARD), EOPNOTSUPP);
    assert_int_equal(discard(LAST, 4096, BLKDISCARD), EOPNOTSUPP);
    assert_ok(block_is(&disk, 4 * MIB, 0x33, &err));
    assert_int_equal(discard(4 * MIB, MIB, BLKZEROOUT), 0);
    assert_ok(block_is(&disk, 4 * MIB, 0, &err));
    assert_ok(volume_suspend(&disk.name, &err) && volume_resume(&disk.name, &err));
    assert_int_equal(discard(4 * MIB, MIB, BLKDISCARD), EOPNOTSUPP);
}

static void discards_without_integrity_follow_the_record(void **state)
{
    (void)state;
    disk_make(&disk, INTEGRITY_NONE, SIZE);
    disk_must_open(&disk);
    assert_int_equal(discard(4 * MIB, MIB, BLKDISCARD), EOPNOTSUPP);
    disk_must_close(&disk);
    disk.record.spec.discard = true;
    disk_must_open(&disk);
    assert_int_equal(discard(4 * MIB, MIB, BLKDISCARD), 0);
}

static void volume_in_use_stays_whole(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    uint64_t bytes;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(device_open(disk.device.path, true, &fd, &bytes, &err));
    assert_refused(ERROR_ABORTED, disk_close(&disk, &err));
    assert_ok(block_is(&disk, MIB, 0, &err));
    assert_refused(ERROR_ALREADY_EXISTS, disk_open(&disk, false, &err));
    close_at(&fd);
    disk_must_close(&disk);
    disk_must_close(&disk);
}

/* A snapshot of an attached disk looks like this: journals not replayed, the map behind. */
static void dirty_copy_opens_read_only_and_stays_as_it_is(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct disk copy = { .file = -1 };
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    for (uint64_t at = 0; at < 8 * MIB; at += MIB)
        assert_ok(block_write(&disk, at, (uint8_t)(at / MIB + 1), &err));
    disk_copy(&disk, &copy, "copy");
    raw_hash(&copy, before);
    assert_ok(disk_open(&copy, true, &err));
    assert_int_equal(copy.calls, 0);
    assert_true(copy.device.read_only);
    for (uint64_t at = 0; at < 8 * MIB; at += MIB)
        assert_ok(block_is(&copy, at, (uint8_t)(at / MIB + 1), &err));
    disk_must_close(&copy);
    assert_false(copy.has_hash);
    raw_hash(&copy, after);
    assert_memory_equal(before, after, SHA256_LEN);
    disk_drop(&copy);
}

static void read_only_block_volume_takes_no_writes(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    uint64_t bytes;
    disk_make(&disk, INTEGRITY_NONE, SIZE);
    disk_must_open(&disk);
    disk_must_close(&disk);
    assert_ok(disk_open(&disk, true, &err));
    assert_false(device_open(disk.device.path, true, &fd, &bytes, &err) &&
                 block_write(&disk, 0, 1, &err));
}

/* The replay of a file system's journal goes into memory, which can become full. */
static void overlay_that_runs_full_is_reported(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_status status;
    auto_close int fd = -1;
    uint64_t bytes;
    disk_make(&disk, INTEGRITY_NONE, 192 * MIB);
    (void)snprintf(disk.record.spec.fs_type, sizeof(disk.record.spec.fs_type), "ext4");
    disk_must_open(&disk);
    disk_must_close(&disk);
    assert_ok(disk_open(&disk, true, &err));
    assert_ok(device_open(disk.device.path, true, &fd, &bytes, &err));
    assert_ok(device_write_zeros(fd, 0, 64 * MIB, &err));
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_false(status.overlay_overflow);
    assert_false(device_write_zeros(fd, 64 * MIB, 120 * MIB, &err) && device_flush(fd, &err));
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_true(status.overlay_overflow && status.is_read_only);
}

static void suspended_volume_is_whole_on_its_disk(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_status status;
    struct disk copy = { .file = -1 };
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, MIB, 0x5a, &err));
    assert_ok(volume_suspend(&disk.name, &err));
    disk_copy(&disk, &copy, "copy");
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_true(status.is_suspended);
    assert_ok(volume_resume(&disk.name, &err));
    assert_ok(volume_resume(&disk.name, &err));
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_false(status.is_suspended);
    disk_must_open(&copy);
    assert_ok(block_is(&copy, MIB, 0x5a, &err));
    disk_must_close(&copy);
    disk_drop(&copy);
}

static void suspended_rest_of_a_stack_is_closed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 0, 0x44, &err));
    assert_ok(volume_suspend(&disk.name, &err));
    assert_ok(table_remove(disk.name.text, &err));
    disk_must_close(&disk);
    assert_int_equal(devices_mapped(), 0);
    disk_must_open(&disk);
    assert_ok(block_is(&disk, 0, 0x44, &err));
}

static void half_built_stack_is_replaced(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 0, 0x44, &err));
    assert_ok(table_remove(disk.name.text, &err));
    disk_must_open(&disk);
    assert_ok(block_is(&disk, 0, 0x44, &err));
}

/* While it formats dm-integrity, libcryptsetup uses a device name of its own. */
static void rest_of_a_killed_format_is_removed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_free struct table *window = NULL, *linear = NULL;
    struct layer_name lower;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    lower = layer_name(&disk.name, LAYER_BOTTOM);
    assert_ok(table_new(&window, &err) && table_new(&linear, &err));
    assert_ok(table_add(window, 8192, &err, "linear", "%s 0", disk.loop.path));
    assert_ok(table_create(lower.text, window, false, &err));
    assert_ok(table_add(linear, 8192, &err, "linear", "/dev/mapper/%s 0", lower.text));
    assert_ok(table_create("temporary-cryptsetup-test", linear, false, &err));
    disk_must_close(&disk);
    assert_int_equal(devices_mapped(), 0);
}

/* A worker died while it created the device: the name is there, but no table. */
static void device_without_a_table_hinders_no_close(void **state)
{
    static const enum layer layers[] = { LAYER_POOL, LAYER_BOTTOM };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
        struct error err = ERROR_INIT;
        struct process_result result;

        disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
        disk_must_open(&disk);
        assert_ok(layers_remove(&disk.name, LAYER_TOP, layers[i], &err));
        struct layer_name name = layer_name(&disk.name, layers[i]);
        const char *argv[] = { "dmsetup", "create", "--notable", name.text, NULL };
        assert_ok(process_run(argv, 20000, &result, &err));
        assert_int_equal(result.exit_code, 0);
        disk_must_close(&disk);
        assert_false(disk.has_hash);
        disk_must_open(&disk);
        disk_must_close(&disk);
        disk_drop(&disk);
    }
    disk_make(&disk, INTEGRITY_NONE, SIZE);
}

/* A disk may have other sectors than our own loop devices. What was written on one kind is
 * read on the other. */
static void live_on_sectors(unsigned long first_bytes, unsigned long then_bytes)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_set_sectors(&disk, first_bytes);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, MIB, 0x71, &err));
        disk_must_close(&disk);
        disk_set_sectors(&disk, then_bytes);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, MIB, 0x71, &err));
        assert_ok(disk_grow(&disk, 2 * SIZE, &err));
        assert_ok(block_write(&disk, 2 * SIZE - 4096, 0x72, &err));
        disk_must_close(&disk);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, 2 * SIZE - 4096, 0x72, &err));
        disk_must_close(&disk);
    }
}

static void volume_lives_on_sectors_of_4096_bytes(void **state)
{
    (void)state;
    live_on_sectors(4096, 4096);
}

static void volume_lives_on_sectors_of_512_bytes(void **state)
{
    (void)state;
    live_on_sectors(512, 512);
}

static void volume_moves_between_sectors_of_4096_and_512_bytes(void **state)
{
    (void)state;
    live_on_sectors(4096, 512);
    disk_drop(&disk);
    live_on_sectors(512, 4096);
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(data_survive_closing_in_every_mode),
        CASE(unwritten_blocks_of_an_authenticated_volume_are_zeros),
        CASE(mapping_has_the_planned_size),
        CASE(volume_of_64_tib_opens),
        CASE(map_of_a_group_takes_all_its_blocks),
        CASE(discards_of_authenticated_volumes_are_refused),
        CASE(discards_without_integrity_follow_the_record),
        CASE(volume_in_use_stays_whole),
        CASE(dirty_copy_opens_read_only_and_stays_as_it_is),
        CASE(read_only_block_volume_takes_no_writes),
        CASE(overlay_that_runs_full_is_reported),
        CASE(suspended_volume_is_whole_on_its_disk),
        CASE(suspended_rest_of_a_stack_is_closed),
        CASE(half_built_stack_is_replaced),
        CASE(rest_of_a_killed_format_is_removed),
        CASE(device_without_a_table_hinders_no_close),
        CASE(volume_lives_on_sectors_of_4096_bytes),
        CASE(volume_lives_on_sectors_of_512_bytes),
        CASE(volume_moves_between_sectors_of_4096_and_512_bytes),
    };

    return RUN_TESTS(tests);
}
