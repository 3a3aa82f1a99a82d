/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/layer.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Whoever writes the disk below the volume does the worst. */

#define MIB  (1024ull * 1024)
#define SIZE (48 * MIB)

/* Where the first block that is written lies in the mapping: the pool takes them in order. */
#define MAP        LAYOUT_RESERVED_BYTES
#define FIRST_DATA (LAYOUT_RESERVED_BYTES + LAYOUT_MAP_BYTES)

static struct disk disk;
static struct disk saved;

static int teardown(void **state)
{
    (void)state;
    disk_drop(&disk);
    if (saved.secret.bytes)
        disk_drop(&saved);
    return devices_mapped() == 0 ? 0 : -1;
}

static void make_closed(enum integrity integrity)
{
    struct error err = ERROR_INIT;

    disk_make(&disk, integrity, SIZE);
    disk_must_open(&disk);
    assert_ok(block_write(&disk, MIB, 0x31, &err));
    disk_must_close(&disk);
}

/* The volume is refused for this reason, for writing and for reading. Nothing is mapped or
 * written. */
static void assert_refused_open(enum error_code code, const char *reason)
{
    uint8_t before[SHA256_LEN], after[SHA256_LEN];

    raw_hash(&disk, before);
    for (int read_only = 0; read_only <= 1; read_only++) {
        struct error err = ERROR_INIT;

        assert_refused(code, disk_open(&disk, read_only, &err));
        assert_string_equal(err.reason, reason);
        assert_int_equal(disk.calls, 0);
        assert_int_equal(devices_mapped(), 0);
    }
    raw_hash(&disk, after);
    assert_memory_equal(before, after, SHA256_LEN);
}

static void flipped_bit_is_an_error_and_never_wrong_data(void **state)
{
    (void)state;
    static const enum integrity modes[] = { INTEGRITY_AEGIS128, INTEGRITY_HMAC_SHA256 };
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        make_closed(modes[i]);
        raw_flip(&disk, raw_offset(&disk, FIRST_DATA) + 17);
        disk_must_open(&disk);
        assert_false(block_is(&disk, MIB, 0x31, &err));
        assert_true(err.sys_errno == EILSEQ || err.sys_errno == EIO);
        assert_ok(block_is(&disk, MIB + 4096, 0, &err));
        disk_must_close(&disk);
        raw_flip(&disk, raw_offset(&disk, FIRST_DATA) + 17);
        disk_must_open(&disk);
        assert_ok(block_is(&disk, MIB, 0x31, &err));
        disk_must_close(&disk);
        raw_flip(&disk, raw_tag_offset(&disk, FIRST_DATA));
        disk_must_open(&disk);
        disk_must_close(&disk);
    }
}

static void one_changed_header_copy_is_survived_and_repaired(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const uint64_t places[] = { LAYOUT_HEADER_A_OFFSET + 4200,
                                       LAYOUT_HEADER_B_OFFSET + 2000000 };
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    make_closed(INTEGRITY_AEGIS128);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        raw_flip(&disk, places[i]);
        raw_hash(&disk, before);
        assert_ok(disk_open(&disk, true, &err));
        assert_ok(block_is(&disk, MIB, 0x31, &err));
        disk_must_close(&disk);
        raw_hash(&disk, after);
        assert_memory_equal(before, after, SHA256_LEN);
        disk_must_open(&disk);
        disk_must_close(&disk);
    }
    /* Each copy was repaired while the other one was good. */
    raw_flip(&disk, places[0]);
    disk_must_open(&disk);
    assert_ok(block_is(&disk, MIB, 0x31, &err));
}

static void both_copies_changed_are_refused(void **state)
{
    (void)state;
    make_closed(INTEGRITY_AEGIS128);
    raw_flip(&disk, LAYOUT_HEADER_A_OFFSET + 4200);
    raw_flip(&disk, LAYOUT_HEADER_B_OFFSET + 2097151);
    assert_refused_open(ERROR_DATA_LOSS, "HeaderChanged");
}

static void blank_disk_of_a_ready_volume_is_never_formatted(void **state)
{
    (void)state;
    make_closed(INTEGRITY_AEGIS128);
    assert_int_equal(ftruncate(disk.file, 0), 0);
    assert_int_equal(ftruncate(disk.file, (off_t)disk.record.spec.device_bytes), 0);
    assert_refused_open(ERROR_DATA_LOSS, "HeaderChanged");
}

static void changed_integrity_superblock_is_refused(void **state)
{
    (void)state;
    make_closed(INTEGRITY_AEGIS128);
    raw_flip(&disk, LAYOUT_DATA_OFFSET + 24); /* a flag */
    assert_refused_open(ERROR_DATA_LOSS, "HeaderChanged");
}

static void header_of_another_volume_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    disk_make(&saved, INTEGRITY_AEGIS128, SIZE);
    assert_ok(volume_name_make("test.tdvol", "saved", &saved.name, &err));
    disk_must_open(&saved);
    disk_must_close(&saved);
    raw_copy(&saved, &disk, 0, disk.record.spec.device_bytes);
    assert_refused_open(ERROR_DATA_LOSS, "HeaderChanged");
}

static void wrong_key_opens_nothing(void **state)
{
    (void)state;
    make_closed(INTEGRITY_AEGIS128);
    disk.secret.bytes[0] ^= 1;
    assert_refused_open(ERROR_FAILED_PRECONDITION, "KeyMismatch");
}

static void restored_disk_is_noticed(void **state)
{
    (void)state;
    static const enum integrity modes[] = { INTEGRITY_NONE, INTEGRITY_AEGIS128 };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        make_closed(modes[i]);
        disk_copy(&disk, &saved, "saved");
        disk_must_open(&disk);
        disk_must_close(&disk);
        raw_copy(&saved, &disk, 0, disk.record.spec.device_bytes);
        assert_refused_open(ERROR_DATA_LOSS, "RolledBack");
    }
}

/* A pod may run for months: then the copy is as old as that. */
static void copy_from_before_the_close_is_noticed(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        disk_make(&disk, disk_modes[i], SIZE);
        disk_must_open(&disk);
        assert_ok(block_write(&disk, 4 * MIB, 0x11, &err));
        assert_ok(volume_suspend(&disk.name, &err));
        disk_copy(&disk, &saved, "saved");
        assert_ok(volume_resume(&disk.name, &err));
        assert_ok(block_write(&disk, 4 * MIB, 0x22, &err));
        disk_must_close(&disk);
        assert_true(disk.record.is_closed);
        raw_copy(&saved, &disk, 0, disk.record.spec.device_bytes);
        assert_refused_open(ERROR_DATA_LOSS, "RolledBack");
    }
}

/* Otherwise the next stage would make a file system over the user's data. */
static void state_without_file_system_cannot_be_put_back(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
    const struct record_keeper keeper = disk_keeper(&disk);
    disk_must_open(&disk);
    disk_must_close(&disk);
    disk_must_open(&disk);
    disk_copy(&disk, &saved, "saved");
    assert_ok(volume_filesystem_made(&disk.name, &disk.record, &disk.secret, &keeper, &disk.closing,
                                     &err));
    disk_must_close(&disk);
    for (uint64_t at = LAYOUT_STATE_A_OFFSET; at <= LAYOUT_STATE_B_OFFSET;
         at += LAYOUT_STATE_B_OFFSET) {
        raw_copy(&saved, &disk, raw_offset(&disk, at), LAYOUT_STATE_BYTES);
        raw_copy(&saved, &disk, raw_tag_offset(&disk, at), 4096);
    }
    assert_refused_open(ERROR_DATA_LOSS, "RolledBack");
}

/* One good copy is enough: the volume is neither rolled back, nor formatted over the user's
 * data. */
static void lost_state_block_is_survived(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const uint64_t copies[] = { LAYOUT_STATE_A_OFFSET, LAYOUT_STATE_B_OFFSET };
    for (size_t i = 0; i < ARRAY_LEN(copies); i++) {
        disk_make(&disk, INTEGRITY_AEGIS128, SIZE);
        disk_must_open(&disk);
        disk_must_have_filesystem(&disk);
        disk_must_close(&disk);
        raw_flip(&disk, raw_offset(&disk, copies[i]) + 17);
        disk_must_open(&disk);
        assert_int_equal(disk.device.filesystem_bytes, SIZE);
        disk_must_close(&disk);
        raw_flip(&disk, raw_offset(&disk, copies[0]) + 17);
        raw_flip(&disk, raw_offset(&disk, copies[1]) + 17);
        assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
        assert_string_equal(err.reason, "StateDamaged");
    }
}

static void disk_of_a_sister_volume_is_refused(void **state)
{
    (void)state;
    make_closed(INTEGRITY_AEGIS128);
    disk.record.id[3] ^= 1;
    assert_refused_open(ERROR_DATA_LOSS, "WrongVolume");
}

static void copy_opens_once_with_its_source_s_state(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    disk_copy(&disk, &saved, "saved");
    saved.record.id[3] ^= 1;
    saved.record.open_counter = 0;
    saved.record.has_clean_hash = false;
    saved.record.origin =
        (struct volume_origin){ .is_set = true, .counter_low = 1, .counter_high = 1 };
    memcpy(saved.record.origin.record_id, disk.record.id, RECORD_ID_LEN);
    disk_must_open(&saved);
    assert_ok(block_is(&saved, MIB, 0x31, &err));
    assert_int_equal(saved.record.open_counter, 1);
    disk_must_close(&saved);
    disk_must_open(&saved);
    assert_int_equal(saved.record.open_counter, 2);
    disk_must_close(&saved);
    /* Now the disk belongs to the copy, and the record of its source refuses it. */
    raw_copy(&saved, &disk, 0, disk.record.spec.device_bytes);
    assert_refused_open(ERROR_DATA_LOSS, "WrongVolume");
}

static void unreachable_broker_leaves_the_volume_openable(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    for (int after = 0; after <= 1; after++) {
        disk.refuse_call = 1;
        disk.refuse_after = after;
        assert_refused(ERROR_UNAVAILABLE, disk_open(&disk, false, &err));
        assert_int_equal(devices_mapped(), 0);
        disk.refuse_call = 0;
        disk_must_open(&disk);
        assert_ok(block_is(&disk, MIB, 0x31, &err));
        disk_must_close(&disk);
    }
}

/* The map and its tags from another state of the disk. The tags of 128 blocks share one block; the
 * map begins and ends on such a boundary. */
static void replay_map(void)
{
    raw_copy(&saved, &disk, raw_offset(&disk, MAP), LAYOUT_MAP_BYTES);
    raw_copy(&saved, &disk, raw_tag_offset(&disk, MAP), LAYOUT_MAP_BYTES / 128);
}

static void replayed_map_is_noticed_after_a_clean_close(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    disk_copy(&disk, &saved, "saved");
    disk_must_open(&disk);
    assert_ok(block_write(&disk, 20 * MIB, 0x20, &err));
    disk_must_close(&disk);
    assert_true(disk.has_hash);
    replay_map();
    assert_refused_open(ERROR_DATA_LOSS, "MapChanged");
}

/* The record becomes that of a copy, as the broker makes it of a source that is closed. */
static void become_copy(struct disk *copy)
{
    copy->record.origin = (struct volume_origin){ .is_set = true,
                                                  .counter_low = copy->record.open_counter,
                                                  .counter_high = copy->record.open_counter + 1 };
    memcpy(copy->record.origin.record_id, copy->record.id, RECORD_ID_LEN);
    copy->record.id[3] ^= 1;
}

static void copy_of_a_closed_volume_cannot_be_exchanged_for_an_older_one(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    assert_ok(volume_suspend(&disk.name, &err));
    disk_copy(&disk, &saved, "saved");
    assert_ok(volume_resume(&disk.name, &err));
    assert_ok(block_write(&disk, 20 * MIB, 0x20, &err));
    disk_must_close(&disk);
    become_copy(&disk); /* in place: the disk is what the copy's would be */
    saved.record = disk.record;
    assert_refused(ERROR_DATA_LOSS, disk_open(&saved, false, &err));
    assert_string_equal(err.reason, "RolledBack");
    replay_map();
    assert_refused_open(ERROR_DATA_LOSS, "MapChanged");
}

static void blank_map_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    uint64_t bytes;
    make_closed(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    assert_ok(layers_remove(&disk.name, LAYER_TOP, LAYER_DATA, &err));
    assert_ok(device_open(layer_path(&disk.name, LAYER_MAP).text, true, &fd, &bytes, &err));
    assert_ok(device_write_zeros(fd, 0, LAYOUT_MAP_BYTES, &err));
    close_at(&fd);
    disk_must_close(&disk);
    disk.record.has_clean_hash = false;
    assert_refused_open(ERROR_DATA_LOSS, "MapChanged");
}

/* What the kernel does when it could not write the map once: it sets the first flag in the
 * superblock, whose checksum (drivers/md/dm-thin-metadata.c) lies in front. */
static void mark_map(const uint8_t *root)
{
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    auto_free uint8_t *super = NULL;
    uint64_t bytes;

    disk_must_open(&disk);
    assert_ok(layers_remove(&disk.name, LAYER_TOP, LAYER_DATA, &err));
    assert_ok(device_open(layer_path(&disk.name, LAYER_MAP).text, true, &fd, &bytes, &err));
    assert_ok(device_buffer(DEVICE_BLOCK_BYTES, &super, &err));
    assert_ok(fd_pread_all(fd, super, DEVICE_BLOCK_BYTES, 0, &err));
    super[4] |= 1;
    if (root)
        memcpy(super + 320, root, 8);
    uint32_t checksum = htole32(crc32c(super + 4, DEVICE_BLOCK_BYTES - 4) ^ 160774u);
    memcpy(super, &checksum, sizeof(checksum));
    assert_ok(fd_pwrite_all(fd, super, DEVICE_BLOCK_BYTES, 0, &err));
    assert_ok(device_flush(fd, &err));
    close_at(&fd);
    disk_must_close(&disk);
    disk.record.has_clean_hash = false;
}

static void marked_map_is_checked_and_used_when_it_is_sound(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    make_closed(INTEGRITY_AEGIS128);
    mark_map(NULL);
    disk_must_open(&disk);
    assert_ok(block_is(&disk, MIB, 0x31, &err));
    assert_ok(block_write(&disk, 20 * MIB, 0x32, &err));
    disk_must_close(&disk);
    disk_must_open(&disk);
    assert_ok(block_is(&disk, 20 * MIB, 0x32, &err));
}

static void marked_map_is_left_alone_when_it_is_damaged(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    static const uint8_t nowhere[8] = { 3 };
    make_closed(INTEGRITY_AEGIS128);
    mark_map(nowhere); /* the root of the map is no map */
    assert_refused(ERROR_DATA_LOSS, disk_open(&disk, false, &err));
    assert_string_equal(err.reason, "MapDamaged");
    assert_int_equal(devices_mapped(), 0);
}

/* The map can be read, but can no longer be written. */
static void refuse_map_writes(void)
{
    struct error err = ERROR_INIT;
    struct table_info crypt;
    struct layer_name map = layer_name(&disk.name, LAYER_MAP);
    auto_free struct table *table = NULL;

    assert_ok(layer_info(&disk.name, LAYER_CRYPT, &crypt, &err));
    assert_ok(table_new(&table, &err));
    assert_ok(table_add(table, LAYOUT_MAP_BYTES / 512, &err, "flakey",
                        "%u:%u %llu 0 1000 1 error_writes", major(crypt.number),
                        minor(crypt.number), MAP / 512ull));
    assert_ok(table_swap(map.text, table, false, TABLE_FLUSH, &err));
}

/* Does not wait for the data to be safe: the pool acknowledges it and later forgets it. */
static void write_unflushed(uint64_t offset)
{
    struct error err = ERROR_INIT;
    auto_close int fd = -1;
    auto_free uint8_t *block = NULL;
    uint64_t bytes;

    assert_ok(device_buffer(DEVICE_BLOCK_BYTES, &block, &err));
    block[0] = 0x44;
    assert_ok(device_open(disk.device.path, true, &fd, &bytes, &err));
    assert_ok(fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)offset, &err));
}

static void map_that_cannot_be_written_fails_the_volume(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_status status = { .is_active = false };
    make_closed(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    refuse_map_writes();
    write_unflushed(30 * MIB);
    for (int i = 0; i < 100 && !status.map_failed; i++) {
        usleep(100000);
        assert_ok(volume_status(&disk.name, &status, &err));
    }
    assert_true(status.map_failed);
    assert_ok(volume_fail(&disk.name, &err));
    assert_false(block_is(&disk, 30 * MIB, 0, &err));
    assert_int_equal(err.sys_errno, EIO);
    assert_false(block_is(&disk, MIB, 0x31, &err));
    assert_int_equal(err.sys_errno, EIO);
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_true(status.map_failed);
    disk_must_close(&disk);
    assert_false(disk.has_hash);
    /* Data that was flushed before is still there. */
    disk_must_open(&disk);
    assert_ok(block_is(&disk, MIB, 0x31, &err));
}

/* The device below never answers again. Failing and closing the volume must not wait for it. */
static void lost_device_is_let_go(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    struct volume_status status;
    make_closed(INTEGRITY_AEGIS128);
    disk_must_open(&disk);
    assert_int_equal(ftruncate(disk.file, 0), 0);
    assert_ok(volume_fail(&disk.name, &err));
    assert_ok(volume_status(&disk.name, &status, &err));
    assert_true(status.is_active && status.map_failed);
    disk_must_close(&disk);
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(flipped_bit_is_an_error_and_never_wrong_data),
        CASE(one_changed_header_copy_is_survived_and_repaired),
        CASE(both_copies_changed_are_refused),
        CASE(blank_disk_of_a_ready_volume_is_never_formatted),
        CASE(changed_integrity_superblock_is_refused),
        CASE(header_of_another_volume_is_refused),
        CASE(wrong_key_opens_nothing),
        CASE(restored_disk_is_noticed),
        CASE(copy_from_before_the_close_is_noticed),
        CASE(lost_state_block_is_survived),
        CASE(state_without_file_system_cannot_be_put_back),
        CASE(disk_of_a_sister_volume_is_refused),
        CASE(copy_of_a_closed_volume_cannot_be_exchanged_for_an_older_one),
        CASE(copy_opens_once_with_its_source_s_state),
        CASE(unreachable_broker_leaves_the_volume_openable),
        CASE(replayed_map_is_noticed_after_a_clean_close),
        CASE(blank_map_is_refused),
        CASE(marked_map_is_checked_and_used_when_it_is_sound),
        CASE(marked_map_is_left_alone_when_it_is_damaged),
        CASE(map_that_cannot_be_written_fails_the_volume),
        CASE(lost_device_is_let_go),
    };

    return RUN_TESTS(tests);
}
