/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/option.h"
#include "base/process.h"
#include "base/reader.h"
#include "blockd/filesystem.h"
#include "blockd/kernel_log.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/table.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The power fails. dm-log-writes below the volume logs each write that reaches the disk, while the
 * volume is formatted, used, and grown. Then the disk is made again up to one point of the log
 * after the other, and each time the volume must open with all data that was synced before, with
 * zeros where nothing was ever written, and without an error of authentication. TDVOL_CUTS: at how
 * many points.
 */

#define MIB       (1024ull * 1024)
#define SIZE      (48 * MIB)
#define GROWN     (160 * MIB)
#define FILES     30u
#define FILE_MAX  (400u * 1024)
#define LOG_BYTES (1024 * MIB)
#define STATES    64u
#define STEP      MIB
#define BLOCK     DEVICE_BLOCK_BYTES
#define POINT     "/tmp/power"
#define DEVICE    "/dev/mapper/t-log"

/* include/linux of the kernel has no header for it: drivers/md/dm-log-writes.c. All little-endian. */
#define LOG_MAGIC     0x6a736677736872ull
#define ENTRY_DISCARD 4u
#define ENTRY_MARK    8u
#define ENTRY_BYTES   32u

static struct disk disk, replay, cut;
static int log_file = -1;
static struct loop_device log_loop = LOOP_DEVICE_INIT;
static uint32_t log_sector; /* bytes: the unit of the log, as the device has it */

/* What the broker had recorded, in order; a mark in the log says when. */
static struct record states[STATES];
static size_t n_states;
static struct record fresh; /* the broker's answer to a second attempt to format */

static bool is_zero[GROWN / BLOCK]; /* the blocks of the exposed device that were never written */
static int kernel_log = -1;

static void mark(const char *name, size_t number)
{
    char message[64];
    struct error err = ERROR_INIT;

    (void)snprintf(message, sizeof(message), "mark %s-%zu", name, number);
    assert_ok(table_message("t-log", message, &err));
}

static void keep_state(const struct disk *changed)
{
    assert_true(n_states < STATES);
    states[n_states] = changed->record;
    mark("state", n_states++);
}

static void must_run(const char *const *argv)
{
    struct error err = ERROR_INIT;

    if (!process_must(argv, 120000, 0, &err))
        fail_msg("%s", err.text);
}

/* --- the life that is logged --- */

static void start_log(uint64_t last_bytes)
{
    struct error err = ERROR_INIT;
    auto_free struct table *table = NULL;
    struct volume_spec most = { .integrity = disk.record.spec.integrity };

    assert_ok(layout_plan(&most, last_bytes, &err));
    disk_stretch(&disk, most.device_bytes);
    log_file = memfd_create("log", MFD_CLOEXEC);
    assert_true(log_file >= 0 && ftruncate(log_file, (off_t)LOG_BYTES) == 0);
    assert_ok(loop_attach(log_file, false, &log_loop, &err));
    assert_ok(table_new(&table, &err));
    assert_ok(table_add(table, most.device_bytes / SECTOR_BYTES, &err, "log-writes", "%s %s",
                        disk.loop.path, log_loop.path));
    assert_ok(table_create("t-log", table, false, &err));
    disk.device_path = DEVICE;
    disk.changed = keep_state;
}

static size_t file_bytes(size_t i)
{
    return (i * 53129 + 4096) % FILE_MAX + 1;
}

static void write_file(size_t i)
{
    static uint8_t bytes[FILE_MAX];
    char path[64];
    struct error err = ERROR_INIT;

    for (size_t at = 0; at < file_bytes(i); at++)
        bytes[at] = (uint8_t)(at * 7 + i);
    (void)snprintf(path, sizeof(path), POINT "/%zu", i);
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_ok(fd_pwrite_all(fd, bytes, file_bytes(i), 0, &err));
    assert_int_equal(fsync(fd), 0);
    mark("synced", i);
}

static void grow(uint64_t size_bytes)
{
    struct error err = ERROR_INIT;

    assert_ok(layout_plan_growth(&disk.record.spec, size_bytes, &err));
    keep_state(&disk);
    assert_ok(volume_grow(&disk.name, &disk.record, &disk.device, &err));
}

/* --- what was never written --- */

static bool are_zeros(const uint8_t *bytes, size_t len)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Calls each() for every block of the exposed device. A sector without a good tag cannot be read. */
static void read_blocks(const struct disk *volume, void (*each)(size_t i, bool is_zeros))
{
    struct error err = ERROR_INIT;
    auto_free uint8_t *bytes = NULL;
    auto_close int fd = -1;
    uint64_t size = 0;

    assert_ok(device_buffer(STEP, &bytes, &err));
    assert_ok(device_open(volume->device.path, false, &fd, &size, &err));
    for (uint64_t at = 0; at < size; at += STEP) {
        assert_ok(fd_pread_all(fd, bytes, STEP, (off_t)at, &err));
        for (size_t i = 0; i < STEP / BLOCK; i++)
            each(at / BLOCK + i, are_zeros(bytes + i * BLOCK, BLOCK));
    }
}

/* Nothing in this life makes zeros of other data. */
static void keep_zero(size_t i, bool is_zeros)
{
    is_zero[i] = is_zeros;
}

static void check_zero(size_t i, bool is_zeros)
{
    if (is_zero[i] && !is_zeros)
        fail_msg("block %zu was never written and is not zero", i);
}

static void check_kernel_log(void)
{
    char record[8192], device[KERNEL_LOG_DEVICE_LEN];

    for (ssize_t len; (len = read(kernel_log, record, sizeof(record) - 1)) > 0 || errno == EPIPE;) {
        record[len > 0 ? len : 0] = '\0';
        if (kernel_log_integrity_error(record, device))
            fail_msg("%s", record);
    }
}

/* --- a file system, and two growths --- */

static void grow_all(uint64_t size_bytes)
{
    struct error err = ERROR_INIT;

    grow(size_bytes);
    assert_ok(filesystem_grow("ext4", disk.device.path, POINT, 60000, &err));
}

static void use_files(void)
{
    struct error err = ERROR_INIT;

    assert_ok(filesystem_make("ext4", disk.device.path, 60000, &err));
    disk_must_have_filesystem(&disk);
    assert_true(mkdir(POINT, 0700) == 0 || errno == EEXIST);
    assert_int_equal(mount(disk.device.path, POINT, "ext4", 0, NULL), 0);
    for (size_t i = 0; i < FILES; i++) {
        write_file(i);
        if (i == FILES / 3)
            grow_all(GROWN / 2);
        if (i == FILES * 2 / 3)
            grow_all(GROWN);
    }
    assert_int_equal(umount(POINT), 0);
    read_blocks(&disk, keep_zero);
}

/* --- the log --- */

struct entry {
    uint64_t sector, n_sectors, flags, data_len;
    off_t data; /* in the log */
};

/* The entry at *offset, which then becomes that of the next one. */
static void read_entry(off_t *offset, struct entry *out)
{
    uint8_t raw[ENTRY_BYTES];
    struct error err = ERROR_INIT;

    assert_ok(fd_pread_all(log_file, raw, sizeof(raw), *offset, &err));
    *out = (struct entry){ u64le(raw), u64le(raw + 8), u64le(raw + 16), u64le(raw + 24), 0 };
    out->data = *offset + (out->flags & ENTRY_MARK ? (off_t)ENTRY_BYTES : (off_t)log_sector);
    *offset += log_sector;
    if (!(out->flags & (ENTRY_DISCARD | ENTRY_MARK)))
        *offset += (off_t)(out->n_sectors * log_sector);
}

static uint64_t read_log_super(void)
{
    uint8_t raw[ENTRY_BYTES];
    struct error err = ERROR_INIT;

    assert_ok(fd_pread_all(log_file, raw, sizeof(raw), 0, &err));
    assert_int_equal(u64le(raw), LOG_MAGIC);
    log_sector = u32le(raw + 24);
    return u64le(raw + 16);
}

/* What holds at one point of the log. */
struct moment {
    size_t state, synced; /* the last ones so far; one more than their numbers */
};

static size_t number_of(const char *text)
{
    uint64_t number = 0;

    assert_true(parse_u64(text, &number));
    return (size_t)number;
}

static void apply(const struct entry *entry, struct moment *moment)
{
    static uint8_t bytes[4 * MIB];
    struct error err = ERROR_INIT;

    if (entry->flags & ENTRY_MARK) {
        char name[64] = "";

        assert_true(entry->data_len < sizeof(name));
        assert_ok(fd_pread_all(log_file, name, entry->data_len, entry->data, &err));
        size_t *last = strncmp(name, "state-", 6) == 0    ? &moment->state
                       : strncmp(name, "synced-", 7) == 0 ? &moment->synced
                                                          : NULL;
        if (last) /* not the mark that the kernel makes at the end */
            *last = number_of(strchr(name, '-') + 1) + 1;
        return;
    }
    assert_int_equal(entry->flags & ENTRY_DISCARD, 0);
    size_t len = (size_t)entry->n_sectors * log_sector;
    off_t to = (off_t)(entry->sector * log_sector);
    for (size_t done = 0, step; done < len; done += step) {
        step = len - done < sizeof(bytes) ? len - done : sizeof(bytes);
        assert_ok(fd_pread_all(log_file, bytes, step, entry->data + (off_t)done, &err));
        assert_ok(fd_pwrite_all(replay.file, bytes, step, to + (off_t)done, &err));
    }
}

/* --- after the power cut --- */

static void check_file(size_t i)
{
    static uint8_t bytes[FILE_MAX];
    char path[64];
    struct error err = ERROR_INIT;

    (void)snprintf(path, sizeof(path), POINT "/%zu", i);
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_ok(fd_pread_all(fd, bytes, file_bytes(i), 0, &err));
    for (size_t at = 0; at < file_bytes(i); at++)
        assert_int_equal(bytes[at], (uint8_t)(at * 7 + i));
}

static void check_data(size_t n_synced)
{
    char input[96];
    struct error err = ERROR_INIT;

    assert_int_equal(mount(cut.device.path, POINT, "ext4", 0, NULL), 0);
    for (size_t i = 0; i < n_synced; i++)
        check_file(i);
    /* What the next stage does: the growth of the file system may have been cut off. */
    assert_ok(filesystem_grow("ext4", cut.device.path, POINT, 60000, &err));
    for (size_t i = 0; i < n_synced; i++)
        check_file(i);
    assert_int_equal(umount(POINT), 0);
    must_run((const char *const[]){ "e2fsck", "-fn", cut.device.path, NULL });
    (void)snprintf(input, sizeof(input), "if=%s", cut.device.path);
    must_run((const char *const[]){ "dd", input, "of=/dev/null", "bs=1M", "iflag=direct",
                                    "status=none", NULL });
}

static void check_files(size_t n_synced)
{
    read_blocks(&cut, check_zero);
    if (cut.device.filesystem_bytes > 0)
        check_data(n_synced);
    else
        assert_int_equal(n_synced, 0);
}

/* --- blocks alone, and a growth into the second group of the layout --- */

#define GROUP       (64ull << 30)
#define BELOW_GROUP (GROUP - 16 * MIB)
#define ABOVE_GROUP (GROUP + 64 * MIB)

/* The later half lies in what is new. */
static uint64_t block_offset(size_t i)
{
    return i < FILES / 2 ? i * (BELOW_GROUP / FILES * 2) / BLOCK * BLOCK
                         : BELOW_GROUP + (i - FILES / 2) * 5 * MIB;
}

static void use_blocks(void)
{
    struct error err = ERROR_INIT;

    disk_must_have_filesystem(&disk);
    for (size_t i = 0; i < FILES; i++) {
        if (i == FILES / 2)
            grow(ABOVE_GROUP);
        assert_ok(block_write(&disk, block_offset(i), (uint8_t)(i + 1), &err));
        mark("synced", i);
    }
}

static void check_blocks(size_t n_synced)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < FILES && block_offset(i) < cut.device.size_bytes; i++) {
        if (i < n_synced)
            assert_ok(block_is(&cut, block_offset(i), (uint8_t)(i + 1), &err));
        /* In the same block of the pool, and in the one behind it. */
        assert_ok(block_is(&cut, block_offset(i) + BLOCK, 0, &err));
        assert_ok(block_is(&cut, block_offset(i) + LAYOUT_BLOCK_BYTES, 0, &err));
    }
}

/* --- one life, and its end at every moment --- */

struct life {
    enum integrity integrity;
    const char *fs_type;
    uint64_t first_bytes, last_bytes;
    void (*use)(void);              /* writes, and marks what is synced */
    void (*check)(size_t n_synced); /* looks at cut */
};

static void live(const struct life *life)
{
    struct error err = ERROR_INIT;

    disk_make(&disk, life->integrity, life->first_bytes);
    (void)snprintf(disk.record.spec.fs_type, sizeof(disk.record.spec.fs_type), "%s", life->fs_type);
    start_log(life->last_bytes);
    disk_must_open(&disk);
    life->use();
    disk_must_close(&disk);
    assert_ok(table_remove("t-log", &err));
}

static void open_after_the_cut(const struct life *life, const struct moment *moment)
{
    struct error err = ERROR_INIT;

    disk_copy(&replay, &cut, "cut");
    cut.record = moment->state > 0 ? states[moment->state - 1] : fresh;
    assert_ok(disk_open(&cut, false, &err));
    assert_int_equal(cut.device.size_bytes, cut.record.spec.size_bytes);
    life->check(moment->synced);
    disk_drop(&cut);
    check_kernel_log();
}

static void cut_everywhere(const struct life *life)
{
    const char *wanted = getenv("TDVOL_CUTS");
    size_t n_cuts = wanted ? number_of(wanted) : 40;
    struct moment moment = { 0, 0 };

    kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(kernel_log >= 0 && lseek(kernel_log, 0, SEEK_END) >= 0);
    live(life);
    fresh = states[0];
    fresh.phase = RECORD_FORMATTING;
    fresh.n_header_digests = 0;
    fresh.open_counter = 0;
    fresh.format.attempt = 2;
    disk_copy(&disk, &replay, "replay"); /* for its size and key: the content begins with zeros */
    uint64_t n = read_log_super(), bytes = disk.record.spec.device_bytes;
    off_t offset = log_sector;
    assert_int_equal(ftruncate(replay.file, 0), 0);
    assert_int_equal(ftruncate(replay.file, (off_t)bytes), 0);
    print_message("# %llu entries in the log, %zu states of the record, cut at %zu points\n",
                  (unsigned long long)n, n_states, n_cuts);
    for (uint64_t i = 0, next = 0; i < n; i++) {
        struct entry entry;

        read_entry(&offset, &entry);
        apply(&entry, &moment);
        if (i < next && i + 1 < n)
            continue;
        next = i + n / n_cuts + 1;
        open_after_the_cut(life, &moment);
    }
    assert_int_equal(moment.synced, FILES);
    disk_drop(&replay);
    loop_release(&log_loop);
    close_at(&log_file);
    close_at(&kernel_log);
    n_states = 0;
    disk_drop(&disk);
}

static void an_aegis128_volume_survives_power_cuts(void **state)
{
    (void)state;
    cut_everywhere(
        &(struct life){ INTEGRITY_AEGIS128, "ext4", SIZE, GROWN, use_files, check_files });
}

static void an_hmac_volume_survives_power_cuts(void **state)
{
    (void)state;
    cut_everywhere(
        &(struct life){ INTEGRITY_HMAC_SHA256, "ext4", SIZE, GROWN, use_files, check_files });
}

static void a_growth_into_the_next_group_survives_power_cuts(void **state)
{
    (void)state;
    cut_everywhere(&(struct life){ INTEGRITY_AEGIS128, "", BELOW_GROUP, ABOVE_GROUP, use_blocks,
                                   check_blocks });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_aegis128_volume_survives_power_cuts),
        cmocka_unit_test(an_hmac_volume_survives_power_cuts),
        cmocka_unit_test(a_growth_into_the_next_group_survives_power_cuts),
    };

    return RUN_TESTS(tests);
}
