/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "base/reader.h"
#include "blockd/filesystem.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "record/layout.h"
#include "record/old_key.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* Volumes that cryptsetup made, as Constellation makes them and as cryptsetup does without options, are
 * taken over in place. */

#define MIB      (1024ull * 1024)
#define DEVICE   (96 * MIB)
#define FOR_XFS  (340 * MIB) /* the least that mkfs.xfs takes is 300 MiB */
#define KEY      "/tmp/old.key"
#define OTHER    "/tmp/other.key"
#define POINT    "/tmp/take-over"
#define FAULT    "/tmp/take-over.fault"
#define OLD_NAME "t-old"
#define OLD_PATH "/dev/mapper/t-old"
#define DATA     (3 * MIB)

static struct disk *disk;   /* shared with the children that are killed */
static int old_header = -1; /* what was in the first 16 MiB */

static void must_run(const char *const *argv)
{
    struct error err = ERROR_INIT;

    if (!process_must(argv, 300000, 0, &err))
        fail_msg("%s", err.text);
}

/* --- the old volume --- */

/* key: 32 raw bytes, as the key service of Constellation makes them. */
static void write_key(const char *path, uint8_t first)
{
    uint8_t key[32] = { first, 0, '\n', 0xff };
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct error err = ERROR_INIT;

    assert_true(fd >= 0);
    assert_ok(fd_pwrite_all(fd, key, sizeof(key), 0, &err));
}

static void format_as_constellation(void)
{
    must_run((const char *const[]){ "cryptsetup",
                                    "luksFormat",
                                    "--batch-mode",
                                    "--type",
                                    "luks2",
                                    "--cipher",
                                    "aes-xts-plain64",
                                    "--key-size",
                                    "512",
                                    "--hash",
                                    "sha256",
                                    "--sector-size",
                                    "4096",
                                    "--pbkdf",
                                    "argon2id",
                                    "--pbkdf-memory",
                                    "65536",
                                    "--pbkdf-parallel",
                                    "4",
                                    "--pbkdf-force-iterations",
                                    "4",
                                    "--key-file",
                                    KEY,
                                    disk->loop.path,
                                    NULL });
}

static void format_by_default(void)
{
    must_run((const char *const[]){ "cryptsetup", "luksFormat", "--batch-mode", "--key-file", KEY,
                                    disk->loop.path, NULL });
}

/* That of Constellation's state disk. */
static void add_token(void)
{
    static const char script[] = "echo '{\"type\":\"constellation-state-disk\",\"keyslots\":[],"
                                 "\"diskIsInitialized\":true}' |"
                                 " cryptsetup token import --json-file - \"$0\"";

    must_run((const char *const[]){ "sh", "-c", script, disk->loop.path, NULL });
}

static void old_open(void)
{
    must_run((const char *const[]){ "cryptsetup", "open", "--key-file", KEY, disk->loop.path,
                                    OLD_NAME, NULL });
}

static void old_close(void)
{
    must_run((const char *const[]){ "cryptsetup", "close", OLD_NAME, NULL });
}

static bool old_key_opens(void)
{
    static struct process_result result;
    struct error err = ERROR_INIT;

    assert_ok(process_run((const char *const[]){ "cryptsetup", "open", "--test-passphrase",
                                                 "--key-file", KEY, disk->loop.path, NULL },
                          300000, &result, &err));
    return result.exit_code == 0;
}

static void mount_at_point(const char *device)
{
    assert_true(mkdir(POINT, 0700) == 0 || errno == EEXIST);
    assert_int_equal(mount(device, POINT, disk->record.spec.fs_type, 0, NULL), 0);
}

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 4096);
}

static void write_data(void)
{
    auto_close int fd = open(POINT "/data", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    static uint8_t data[DATA];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < DATA; i++)
        data[i] = byte_at(i);
    assert_ok(fd_pwrite_all(fd, data, DATA, 0, &err));
}

static void assert_data(void)
{
    auto_close int fd = open(POINT "/data", O_RDONLY | O_CLOEXEC);
    static uint8_t data[DATA];
    struct error err = ERROR_INIT;

    assert_ok(fd_pread_all(fd, data, DATA, 0, &err));
    for (size_t i = 0; i < DATA; i++) {
        if (data[i] != byte_at(i))
            fail_msg("byte %zu is %#x", i, data[i]);
    }
}

static void fill_old(void)
{
    struct error err = ERROR_INIT;

    old_open();
    if (disk->record.spec.fs_type[0]) {
        assert_ok(filesystem_make(disk->record.spec.fs_type, OLD_PATH, 300000, &err));
        mount_at_point(OLD_PATH);
        write_data();
        assert_int_equal(umount(POINT), 0);
    } else {
        auto_free uint8_t *block = NULL;
        uint64_t bytes = 0;
        auto_close int fd = -1;

        assert_ok(device_open(OLD_PATH, true, &fd, &bytes, &err));
        assert_ok(device_buffer(DEVICE_BLOCK_BYTES, &block, &err));
        for (size_t i = 0; i < DEVICE_BLOCK_BYTES; i++)
            block[i] = 0x5a;
        assert_ok(fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES, 0, &err));
        assert_ok(fd_pwrite_all(fd, block, DEVICE_BLOCK_BYTES,
                                (off_t)bytes - (off_t)DEVICE_BLOCK_BYTES, &err));
    }
    old_close();
}

/* --- its record --- */

static void wrap_key(const char *path)
{
    auto_secret struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;

    assert_ok(file_read_private(path, OLD_KEY_MAX, &key, &err));
    assert_ok(old_key_wrap(&disk->record, &disk->secret, &key, &err));
}

static void adopt(const char *fs_type, uint32_t sector_bytes)
{
    const uint64_t device_bytes = strcmp(fs_type, "xfs") == 0 ? FOR_XFS : DEVICE;
    struct volume_spec *spec = &disk->record.spec;
    struct error err = ERROR_INIT;

    disk_make(disk, INTEGRITY_NONE, device_bytes);
    /* the children need it */
    secret_wipe(&disk->secret);
    assert_ok(secret_alloc_inherited(&disk->secret, VOLUME_SECRET_LEN, &err));
    assert_ok(random_bytes(disk->secret.bytes, VOLUME_SECRET_LEN, &err));
    spec->sector_bytes = sector_bytes;
    spec->backing = BACKING_DEVICE;
    (void)snprintf(spec->fs_type, sizeof(spec->fs_type), "%s", fs_type);
    assert_ok(layout_plan_take_over(spec, device_bytes, &err));
    disk_stretch(disk, device_bytes);
    disk_set_sectors(disk, sector_bytes);
    wrap_key(KEY);
}

static void keep_old_header(void)
{
    static uint8_t step[MIB];
    struct error err = ERROR_INIT;

    close_at(&old_header);
    old_header = memfd_create("old", MFD_CLOEXEC);
    for (off_t at = 0; at < (off_t)(16 * MIB); at += (off_t)MIB) {
        assert_ok(fd_pread_all(disk->file, step, MIB, at, &err));
        assert_ok(fd_pwrite_all(old_header, step, MIB, at, &err));
    }
}

static void make_old(const char *fs_type)
{
    adopt(fs_type, 4096);
    format_as_constellation();
    add_token();
    fill_old();
    keep_old_header();
}

static int teardown(void **state UNUSED)
{
    (void)umount(POINT); /* of a test that failed */
    if (access(OLD_PATH, F_OK) == 0)
        old_close();
    if (!disk->secret.bytes)
        return 0;
    disk_drop(disk);
    return devices_mapped() == 0 ? 0 : -1;
}

/* --- after it was taken over --- */

static void assert_content(void)
{
    struct error err = ERROR_INIT;

    if (disk->record.spec.fs_type[0] == '\0') {
        assert_ok(block_is(disk, 0, 0x5a, &err));
        assert_ok(block_is(disk, disk->device.size_bytes - DEVICE_BLOCK_BYTES, 0x5a, &err));
        return;
    }
    mount_at_point(disk->device.path);
    assert_data();
    assert_int_equal(umount(POINT), 0);
}

/* Not even when the host puts the old metadata back: the keyslots are gone. And nothing of them is
 * left anywhere. */
static void assert_old_key_is_gone(void)
{
    static uint8_t old[MIB], now[MIB];
    auto_free uint8_t *ours = NULL, *metadata = NULL;
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct error err = ERROR_INIT;

    assert_int_equal(fsync(disk->file), 0);
    assert_false(old_key_opens());
    for (off_t at = 0; at < (off_t)(14 * MIB); at += (off_t)MIB) {
        assert_ok(fd_pread_all(old_header, old, MIB, at, &err));
        assert_ok(fd_pread_all(disk->file, now, MIB, at, &err));
        for (size_t i = 0; i < MIB; i += 4096) {
            if (!bytes_are_zero(old + i, 4096) && bytes_are_equal(old + i, now + i, 4096))
                fail_msg("the old header is still there at %lld", (long long)at + (long long)i);
        }
    }
    assert_ok(device_buffer(HEADER_PARSED_BYTES, &metadata, &err));
    assert_ok(device_open(disk->loop.path, true, &fd, &bytes, &err));
    assert_ok(device_buffer(HEADER_PARSED_BYTES, &ours, &err));
    assert_ok(fd_pread_all(fd, ours, HEADER_PARSED_BYTES, 0, &err));
    assert_ok(fd_pread_all(old_header, metadata, HEADER_PARSED_BYTES, 0, &err));
    assert_ok(fd_pwrite_all(fd, metadata, HEADER_PARSED_BYTES, 0, &err));
    assert_false(old_key_opens());
    assert_ok(fd_pwrite_all(fd, ours, HEADER_PARSED_BYTES, 0, &err));
}

static void assert_taken_over(void)
{
    struct error err = ERROR_INIT;

    assert_int_equal(disk->record.phase, RECORD_READY);
    assert_false(disk->record.old_key.is_set);
    assert_content();
    disk_must_close(disk);
    assert_old_key_is_gone();
    disk_must_open(disk);
    assert_content();
    disk_must_close(disk);
    assert_ok(disk_open(disk, true, &err));
    disk_must_close(disk);
}

static void a_volume_of_constellation_is_taken_over(void **state UNUSED)
{
    static const char *const contents[] = { "ext4", "xfs", "" };

    for (size_t i = 0; i < ARRAY_LEN(contents); i++) {
        make_old(contents[i]);
        assert_true(old_key_opens());
        disk_must_open(disk);
        assert_int_equal(disk->device.size_bytes, disk->record.spec.size_bytes);
        assert_int_equal(disk->device.filesystem_bytes, disk->record.spec.size_bytes);
        assert_taken_over();
        disk_drop(disk);
    }
}

static void a_volume_of_cryptsetup_is_taken_over(void **state UNUSED)
{
    static const uint32_t sectors[] = { 512, 4096 };

    for (size_t i = 0; i < ARRAY_LEN(sectors); i++) {
        adopt(i == 0 ? "xfs" : "ext4", sectors[i]);
        format_by_default();
        must_run((const char *const[]){ "cryptsetup", "luksAddKey", "--batch-mode", "--pbkdf",
                                        "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file",
                                        KEY, disk->loop.path, OTHER, NULL });
        fill_old();
        keep_old_header();
        disk_must_open(disk);
        assert_taken_over();
        disk_drop(disk);
    }
}

static void it_grows_afterwards(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    make_old("ext4");
    disk_must_open(disk);
    mount_at_point(disk->device.path);
    assert_ok(disk_grow(disk, 160 * MIB, &err));
    assert_int_equal(disk->device.size_bytes, 160 * MIB);
    assert_int_equal(disk->record.spec.device_bytes, 176 * MIB);
    assert_ok(filesystem_grow("ext4", disk->device.path, POINT, 300000, &err));
    assert_data();
    assert_int_equal(umount(POINT), 0);
    disk_must_close(disk);
    disk_must_open(disk);
    assert_int_equal(disk->device.size_bytes, 160 * MIB);
    assert_content();
}

/* A file system smaller than the disk is grown at the first stage. */
static void the_size_of_the_file_system_is_known(void **state UNUSED)
{
    make_old("ext4");
    old_open();
    must_run((const char *const[]){ "resize2fs", "-f", OLD_PATH, "40M", NULL });
    old_close();
    disk_must_open(disk);
    assert_int_equal(disk->device.filesystem_bytes, 40 * MIB);
    assert_content();
}

/* --- when it goes wrong --- */

static void assert_untouched(const char *reason)
{
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    struct error err = ERROR_INIT;

    raw_hash(disk, before);
    assert_refused(ERROR_FAILED_PRECONDITION, disk_open(disk, false, &err));
    assert_string_equal(err.reason, reason);
    print_message("# %s\n", err.text);
    assert_int_equal(devices_mapped(), 0);
    assert_int_equal(disk->calls, 0);
    raw_hash(disk, after);
    assert_memory_equal(before, after, SHA256_LEN);
}

static void a_wrong_key_changes_nothing(void **state UNUSED)
{
    make_old("ext4");
    wrap_key(OTHER);
    assert_untouched("KeyMismatch");
    assert_true(old_key_opens());
    wrap_key(KEY);
    disk_must_open(disk);
    assert_content();
}

static void other_content_changes_nothing(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    make_old("ext4");
    memcpy(disk->record.spec.fs_type, "xfs", sizeof("xfs"));
    assert_untouched("OldFileSystem");
    memcpy(disk->record.spec.fs_type, "ext4", sizeof("ext4"));
    assert_ok(layout_plan_take_over(&disk->record.spec, DEVICE - 4096, &err));
    assert_untouched("OldFileSystem");
    assert_ok(layout_plan_take_over(&disk->record.spec, DEVICE, &err));
    disk->record.spec.sector_bytes = 512;
    assert_untouched("OldHeader");
    disk->record.spec.sector_bytes = 4096;
    disk_must_open(disk);
    assert_content();
}

static void replace_in_header(const char *from, const char *to)
{
    static uint8_t metadata[HEADER_PARSED_BYTES + 1];
    auto_free uint8_t *aligned = NULL;
    auto_close int fd = -1;
    uint64_t bytes = 0;
    struct error err = ERROR_INIT;

    assert_int_equal(strlen(from), strlen(to));
    assert_ok(device_buffer(HEADER_PARSED_BYTES, &aligned, &err));
    assert_ok(device_open(disk->loop.path, true, &fd, &bytes, &err));
    assert_ok(fd_pread_all(fd, aligned, HEADER_PARSED_BYTES, 0, &err));
    memcpy(metadata, aligned, HEADER_PARSED_BYTES);
    for (size_t area = 0; area < 2; area++) {
        char *at = strstr((char *)metadata + area * 16384 + 4096, from);

        assert_non_null(at);
        memcpy(at, to, strlen(to));
    }
    memcpy(aligned, metadata, HEADER_PARSED_BYTES);
    assert_ok(fd_pwrite_all(fd, aligned, HEADER_PARSED_BYTES, 0, &err));
}

static void a_hostile_header_changes_nothing(void **state UNUSED)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        { "\"encryption\":\"aes-xts-plain64\",\"key_size\":64}",
          "\"encryption\":\"cipher_null-ecb\",\"key_size\":64}" },
        { "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
          "\"encryption\":\"cipher_null-ecb\",\"sector_size\"" },
        { "\"offset\":\"16777216\"", "\"offset\":\"16781312\"" },
        { "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"8\"" },
        { "\"offset\":\"32768\"", "\"offset\":\"65536\"" }, /* the checksum shows it */
    };

    make_old("ext4");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        replace_in_header(rows[i].from, rows[i].to);
        assert_untouched("OldHeader");
        replace_in_header(rows[i].to, rows[i].from);
    }
    disk_must_open(disk);
    assert_content();
}

static void what_has_no_old_header_is_never_formatted(void **state UNUSED)
{
    adopt("ext4", 4096);
    assert_untouched("OldHeader");
    must_run((const char *const[]){ "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1",
                                    "--iter-time", "10", "--key-file", KEY, disk->loop.path,
                                    NULL });
    assert_untouched("OldHeader");
    must_run((const char *const[]){ "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2",
                                    "--offset", "65536", "--pbkdf", "pbkdf2",
                                    "--pbkdf-force-iterations", "1000", "--key-file", KEY,
                                    disk->loop.path, NULL });
    assert_untouched("OldHeader");
}

/* The broker's store was put back to before the volume was taken over. */
static void what_was_taken_over_is_not_taken_over_again(void **state UNUSED)
{
    static struct record old;

    make_old("ext4");
    old = disk->record;
    disk_must_open(disk);
    disk_must_close(disk);
    disk->record = old;
    assert_untouched("OldHeader");
}

/* The broker refuses a change, or its answer is lost. */
static void a_broker_that_is_away_costs_nothing(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    for (uint32_t call = 1; call <= 2; call++) {
        for (int after = 0; after < 2; after++) {
            make_old("ext4");
            disk->refuse_call = call;
            disk->refuse_after = after == 1;
            assert_refused(ERROR_UNAVAILABLE, disk_open(disk, false, &err));
            assert_int_equal(devices_mapped(), 0);
            disk->refuse_call = 0;
            bool is_ready = call == 2 || after == 1;
            assert_int_equal(disk->record.phase == RECORD_READY, is_ready);
            assert_int_equal(disk->record.old_key.is_set, !is_ready);
            if (!is_ready)
                assert_true(old_key_opens());
            disk_must_open(disk);
            assert_taken_over();
            disk_drop(disk);
        }
    }
}

/* In a child that is killed when it passes the point for the n-th time. */
static void die_at(const char *point, unsigned n)
{
    char rule[128];
    auto_close int fd = open(FAULT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct error err = ERROR_INIT;
    int status = 0;

    int len = snprintf(rule, sizeof(rule), "%s:kill:%u\n", point, n);
    assert_ok(fd_pwrite_all(fd, rule, (size_t)len, 0, &err));
    pid_t child = fork();
    if (child == 0)
        _exit(disk_open(disk, false, &err) ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)unlink(FAULT);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("%s (%u) was not passed: %#x", point, n, (unsigned)status);
}

static void at_each_point_one_of_the_two_headers_opens(void **state UNUSED)
{
    static const struct {
        const char *point;
        unsigned n;
        bool is_ready;
    } rows[] = {
        { "worker.take-over.begin", 1, false }, { "worker.format.reserved", 1, false },
        { "worker.format.header-b", 1, false }, { "worker.format.ready", 1, false },
        { "worker.take-over.erase", 1, true },  { "worker.open.repair", 1, true },
        { "worker.open.state", 1, true },       { "worker.open.record", 1, true },
        { "worker.open.state", 2, true },       { "worker.open.expose", 1, true },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        make_old("ext4");
        die_at(rows[i].point, rows[i].n);
        assert_int_equal(disk->record.phase == RECORD_READY, rows[i].is_ready);
        struct error err = ERROR_INIT;
        assert_ok(volume_deactivate(&disk->name, &err));
        if (!rows[i].is_ready)
            assert_true(old_key_opens());
        if (rows[i].point == rows[4].point) /* dies again while it mends */
            die_at("worker.open.repair", 1);
        disk_must_open(disk);
        assert_taken_over();
        disk_drop(disk);
    }
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_volume_of_constellation_is_taken_over),
        CASE(a_volume_of_cryptsetup_is_taken_over),
        CASE(it_grows_afterwards),
        CASE(the_size_of_the_file_system_is_known),
        CASE(a_wrong_key_changes_nothing),
        CASE(other_content_changes_nothing),
        CASE(a_hostile_header_changes_nothing),
        CASE(what_has_no_old_header_is_never_formatted),
        CASE(what_was_taken_over_is_not_taken_over_again),
        CASE(a_broker_that_is_away_costs_nothing),
        CASE(at_each_point_one_of_the_two_headers_opens),
    };

    disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (disk == MAP_FAILED || setenv("TDVOL_FAULT", "@" FAULT, 1) != 0)
        return 1;
    write_key(KEY, 1);
    write_key(OTHER, 2);
    return RUN_TESTS(tests);
}
