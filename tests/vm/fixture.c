/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/vm/fixture.h"

#include "base/clock.h"
#include "base/file.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/layer.h"
#include "crypt/table.h"
#include "record/layout.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_STEP (1u << 20)

static void apply(struct record *record, const struct record_change *change)
{
    switch ((enum record_change_kind)change->kind) {
    case RECORD_CHANGE_READY:
        record->phase = RECORD_READY;
        memcpy(record->header_digests[0], change->header_digest, SHA256_LEN);
        record->n_header_digests = 1;
        record->old_key = (struct record_old_key){ .is_set = false };
        record->recovery = (struct record_recovery){ .certificate_len = 0 };
        memcpy(record->recovery.sha256, change->recovery_sha256, SHA256_LEN);
        return;
    case RECORD_CHANGE_OPENED:
        record->open_counter = change->open_counter;
        record->has_clean_hash = record->is_closed = false;
        record->origin.is_set = false;
        return;
    case RECORD_CHANGE_NEXT_HEADER:
        record->rotation.has_header = true;
        memcpy(record->rotation.header_digest, change->header_digest, SHA256_LEN);
        memcpy(record->rotation.recovery_sha256, change->recovery_sha256, SHA256_LEN);
        return;
    case RECORD_CHANGE_ROTATED:
        assert_memory_equal(record->rotation.header_digest, change->header_digest, SHA256_LEN);
        record->key = record->rotation.key;
        memcpy(record->header_digests[0], change->header_digest, SHA256_LEN);
        record->n_header_digests = 1;
        memcpy(record->recovery.sha256, record->rotation.recovery_sha256, SHA256_LEN);
        record->recovery.certificate_len = 0;
        record->rotation = (struct record_rotation){ .has_header = false };
        return;
    case RECORD_CHANGE_CLOSED:
    case RECORD_CHANGE_GROWN:
    case RECORD_CHANGE_KIND_COUNT:
        break;
    }
    fail_msg("change %u is not for a worker", change->kind);
}

static bool keep(void *cookie, const struct record_change *change, struct record *record,
                 struct error *err)
{
    struct disk *disk = cookie;
    bool refused = ++disk->calls == disk->refuse_call;

    if (refused && !disk->refuse_after)
        return error_set(err, ERROR_UNAVAILABLE, "no broker");
    apply(&disk->record, change);
    if (change->kind == RECORD_CHANGE_ROTATED) {
        struct secret former = disk->secret;

        disk->secret = disk->next_secret;
        disk->next_secret = former;
    }
    if (disk->changed)
        disk->changed(disk);
    if (refused)
        return error_set(err, ERROR_UNAVAILABLE, "no answer");
    *record = disk->record;
    return true;
}

struct record_keeper disk_keeper(struct disk *disk)
{
    return (struct record_keeper){ keep, disk };
}

static void disk_attach(struct disk *disk, const char *volume_id)
{
    struct error err = ERROR_INIT;
    const char *folder = getenv("TDVOL_VM_SCRATCH");

    disk->file = open(folder ? folder : "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (disk->file < 0) /* hostfs has no O_TMPFILE */
        disk->file = memfd_create("disk", MFD_CLOEXEC);
    assert_true(disk->file >= 0);
    assert_int_equal(ftruncate(disk->file, (off_t)disk->record.spec.device_bytes), 0);
    disk->loop = (struct loop_device)LOOP_DEVICE_INIT;
    assert_ok(loop_attach(disk->file, false, &disk->loop, &err));
    assert_ok(volume_name_make("test.tdvol", volume_id, &disk->name, &err));
}

const enum integrity disk_modes[3] = { INTEGRITY_NONE, INTEGRITY_AEGIS128, INTEGRITY_HMAC_SHA256 };

static void drop_former(struct disk *disk)
{
    if (disk->secret.bytes)
        disk_drop(disk);
}

void disk_make(struct disk *disk, enum integrity integrity, uint64_t size_bytes)
{
    struct error err = ERROR_INIT;

    drop_former(disk);
    *disk = (struct disk){ .file = -1 };
    disk->record = (struct record){
        .volume_id = "volume",
        .kind = RECORD_VOLUME,
        .version = 1,
        .key = { .generation = 1 },
        .phase = RECORD_FORMATTING,
        .format = { .attempt = 1 },
        .spec = { .name = "volume",
                  .backing = BACKING_FILE,
                  .integrity = integrity,
                  .provisioning = PROVISIONING_THIN,
                  .workqueue = WORKQUEUE_AUTO },
    };
    assert_ok(layout_plan(&disk->record.spec, size_bytes, &err));
    assert_ok(random_bytes(disk->record.id, RECORD_ID_LEN, &err));
    assert_ok(random_bytes(disk->record.key.id, RECORD_ID_LEN, &err));
    assert_ok(secret_random(&disk->secret, VOLUME_SECRET_LEN, &err));
    disk_attach(disk, "volume");
}

void disk_drop(struct disk *disk)
{
    struct error err = ERROR_INIT;

    assert_ok(volume_deactivate(&disk->name, &err));
    loop_release(&disk->loop);
    close_at(&disk->file);
    secret_wipe(&disk->secret);
    secret_wipe(&disk->next_secret);
}

/* Without the holes of the file: the new disk has zeros there already. */
static void copy_written(const struct disk *from, const struct disk *to)
{
    for (off_t start, end = 0; (start = lseek(from->file, end, SEEK_DATA)) >= 0;) {
        end = lseek(from->file, start, SEEK_HOLE);
        start -= start % DEVICE_BLOCK_BYTES;
        raw_copy(from, to, (uint64_t)start,
                 round_up_u64((uint64_t)(end - start), DEVICE_BLOCK_BYTES));
    }
}

void disk_copy(const struct disk *from, struct disk *to, const char *volume_id)
{
    struct error err = ERROR_INIT;

    drop_former(to);
    *to = (struct disk){ .file = -1, .record = from->record };
    assert_ok(secret_alloc(&to->secret, VOLUME_SECRET_LEN, &err));
    memcpy(to->secret.bytes, from->secret.bytes, VOLUME_SECRET_LEN);
    disk_attach(to, volume_id);
    copy_written(from, to);
}

void disk_must_have_filesystem(struct disk *disk)
{
    const struct record_keeper keeper = { keep, disk };
    struct record record = disk->record;
    struct error err = ERROR_INIT;

    assert_ok(
        volume_filesystem_made(&disk->name, &record, &disk->secret, &keeper, &disk->closing, &err));
}

bool disk_open(struct disk *disk, bool read_only, struct error *err)
{
    const struct record_keeper keeper = disk_keeper(disk);
    struct record record = disk->record;

    disk->calls = 0;
    auto_loop struct loop_device overlay = LOOP_DEVICE_INIT;
    if (read_only && !loop_attach_memory(volume_overlay_bytes(&record.spec), &overlay, err))
        return false;
    const struct volume_opening opening = { .device_path = disk->device_path ? disk->device_path
                                                                             : disk->loop.path,
                                            .overlay_path = read_only ? overlay.path : NULL,
                                            .record = &record,
                                            .secret = &disk->secret,
                                            .next_secret = &disk->next_secret,
                                            .keeper = &keeper };
    return volume_activate(&disk->name, &opening, &disk->device, &disk->closing, err);
}

/* Reading through a suspended layer would wait for ever. */
static bool is_suspended(const struct disk *disk)
{
    for (enum layer layer = LAYER_TOP; layer < LAYER_COUNT; layer++) {
        struct table_info info;
        struct error err = ERROR_INIT;

        assert_ok(layer_info(&disk->name, layer, &info, &err));
        if (info.suspended)
            return true;
    }
    return false;
}

bool disk_close(struct disk *disk, struct error *err)
{
    struct volume_end end;
    bool has_closing = disk->closing.is_set && !is_suspended(disk);

    if (!volume_stop(&disk->name, has_closing ? disk->closing.block : NULL, &end, err) ||
        !volume_deactivate(&disk->name, err))
        return false;
    disk->has_hash = disk->record.has_clean_hash = end.has_hash;
    disk->record.is_closed = end.is_marked;
    memcpy(disk->record.clean_hash, end.hash, SHA256_LEN);
    return true;
}

void disk_must_open(struct disk *disk)
{
    struct error err = ERROR_INIT;

    assert_ok(disk_open(disk, false, &err));
}

void disk_must_close(struct disk *disk)
{
    struct error err = ERROR_INIT;

    assert_ok(disk_close(disk, &err));
}

void disk_set_sectors(const struct disk *disk, unsigned long sector_bytes)
{
    int found = 0;

    assert_int_equal(ioctl(disk->loop.fd, BLKSSZGET, &found), 0);
    if (found != (int)sector_bytes)
        assert_int_equal(ioctl(disk->loop.fd, LOOP_SET_BLOCK_SIZE, sector_bytes), 0);
    assert_int_equal(ioctl(disk->loop.fd, BLKSSZGET, &found), 0);
    assert_int_equal(found, sector_bytes);
}

void disk_stretch(const struct disk *disk, uint64_t bytes)
{
    struct stat st;
    struct error err = ERROR_INIT;

    assert_int_equal(ftruncate(disk->file, (off_t)bytes), 0);
    assert_int_equal(fstat(disk->file, &st), 0);
    assert_ok(loop_refresh(&st, &err));
}

/* As NodeExpandVolume does: first the raw device, then the record, then the live layers. */
bool disk_grow(struct disk *disk, uint64_t size_bytes, struct error *err)
{
    if (!layout_plan_growth(&disk->record.spec, size_bytes, err))
        return false;
    disk_stretch(disk, disk->record.spec.device_bytes);
    return volume_grow(&disk->name, &disk->record, &disk->device, err);
}

static bool device_block(const struct disk *disk, uint64_t offset, uint8_t *block, bool write,
                         struct error *err)
{
    auto_close int fd = -1;
    uint64_t bytes;

    if (!device_open(disk->device.path, write, &fd, &bytes, err))
        return false;
    return write ? fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)offset, err) &&
                       device_flush(fd, err)
                 : fd_pread_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)offset, err);
}

bool block_write(const struct disk *disk, uint64_t offset, uint8_t fill, struct error *err)
{
    auto_free uint8_t *block = NULL;

    if (!device_buffer(DEVICE_BLOCK_BYTES, &block, err))
        return false;
    for (size_t i = 0; i < DEVICE_BLOCK_BYTES; i++)
        block[i] = fill;
    return device_block(disk, offset, block, true, err);
}

bool block_is(const struct disk *disk, uint64_t offset, uint8_t fill, struct error *err)
{
    auto_free uint8_t *block = NULL;

    if (!device_buffer(DEVICE_BLOCK_BYTES, &block, err) ||
        !device_block(disk, offset, block, false, err))
        return false;
    for (size_t i = 0; i < DEVICE_BLOCK_BYTES; i++) {
        if (block[i] != fill)
            return error_set(err, ERROR_DATA_LOSS, "byte %zu is %#x, not %#x", i, block[i], fill);
    }
    return true;
}

/* Bytes of tags before each area of data, and of data in it. */
#define RUN_BYTES  (128u * 1024)
#define AREA_BYTES (16u * 1024 * 1024)

static uint64_t area_offset(const struct disk *disk, uint64_t mapping_offset)
{
    return LAYOUT_DATA_OFFSET + DEVICE_BLOCK_BYTES +
           (uint64_t)disk->record.spec.journal_sectors * SECTOR_BYTES +
           mapping_offset / AREA_BYTES * (RUN_BYTES + AREA_BYTES);
}

uint64_t raw_offset(const struct disk *disk, uint64_t mapping_offset)
{
    return area_offset(disk, mapping_offset) + RUN_BYTES + mapping_offset % AREA_BYTES;
}

uint64_t raw_tag_offset(const struct disk *disk, uint64_t mapping_offset)
{
    return area_offset(disk, mapping_offset) +
           mapping_offset % AREA_BYTES / 4096 * 32 / 4096 * 4096;
}

void raw_flip(const struct disk *disk, uint64_t offset)
{
    auto_close int fd = -1;
    auto_free uint8_t *block = NULL;
    uint64_t bytes, start = offset / DEVICE_BLOCK_BYTES * DEVICE_BLOCK_BYTES;
    struct error err = ERROR_INIT;

    assert_ok(device_open(disk->loop.path, true, &fd, &bytes, &err));
    assert_ok(device_buffer(DEVICE_BLOCK_BYTES, &block, &err));
    assert_ok(fd_pread_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)start, &err));
    block[offset - start] ^= 1;
    assert_ok(fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES, (off_t)start, &err));
}

void raw_hash(const struct disk *disk, uint8_t out[static 32])
{
    auto_sha256 struct sha256_stream stream = { .context = NULL };
    auto_free uint8_t *buffer = NULL;
    struct error err = ERROR_INIT;

    assert_int_equal(fsync(disk->file), 0);
    assert_ok(device_buffer(COPY_STEP, &buffer, &err));
    assert_ok(sha256_start(&stream, &err));
    for (uint64_t at = 0; at < disk->record.spec.device_bytes;) {
        ssize_t n = pread(disk->file, buffer, COPY_STEP, (off_t)at);

        assert_true(n > 0);
        assert_ok(sha256_add(&stream, buffer, (size_t)n, &err));
        at += (uint64_t)n;
    }
    assert_ok(sha256_finish(&stream, out, &err));
}

void raw_copy(const struct disk *from, const struct disk *to, uint64_t offset, uint64_t len)
{
    auto_close int out = -1;
    auto_free uint8_t *buffer = NULL;
    uint64_t bytes;
    struct error err = ERROR_INIT;

    assert_ok(device_buffer(COPY_STEP, &buffer, &err));
    assert_ok(device_open(to->loop.path, true, &out, &bytes, &err));
    for (uint64_t done = 0; done < len;) {
        size_t step = len - done < COPY_STEP ? (size_t)(len - done) : COPY_STEP;

        assert_ok(fd_pread_all(from->file, buffer, step, (off_t)(offset + done), &err));
        assert_ok(fd_pwrite_all(out, buffer, step, (off_t)(offset + done), &err));
        done += step;
    }
}

static bool count(void *cookie, const char *name, uint32_t events UNUSED, struct error *err UNUSED)
{
    size_t *n = cookie;

    print_message("# mapped: %s\n", name);
    ++*n;
    return true;
}

size_t devices_mapped(void)
{
    size_t n = 0;
    struct error err = ERROR_INIT;

    assert_ok(table_each("", count, &n, &err));
    return n;
}
