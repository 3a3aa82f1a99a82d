/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/activate.h"
#include "crypt/device.h"
#include "crypt/header.h"
#include "record/layout.h"
#include "tests/unit/record/made_certificate.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* A volume gets its next secret when it is opened for writing, whatever happens meanwhile. */

#define MIB   (1024ull * 1024)
#define SIZE  (64 * MIB)
#define FAULT "/tmp/rotation.fault"

static struct disk *disk;             /* shared with the children that are killed */
static struct record former;          /* the record before the rotation */
static int former_start = -1;         /* and the first 8 MiB of the disk */
static struct made_certificate owner; /* of the recovery key */

static void keep_start(int from, int to)
{
    static uint8_t step[MIB];
    struct error err = ERROR_INIT;

    for (off_t at = 0; at < (off_t)(LAYOUT_HEADER_B_OFFSET + LAYOUT_HEADER_BYTES);
         at += (off_t)MIB) {
        assert_ok(fd_pread_all(from, step, MIB, at, &err));
        assert_ok(fd_pwrite_all(to, step, MIB, at, &err));
    }
    assert_int_equal(fsync(disk->file), 0);
}

static void renew(struct secret *secret)
{
    struct error err = ERROR_INIT;

    secret_wipe(secret);
    assert_ok(secret_alloc_inherited(secret, VOLUME_SECRET_LEN, &err)); /* the children need it */
    assert_ok(random_bytes(secret->bytes, VOLUME_SECRET_LEN, &err));
}

static void make(enum integrity integrity)
{
    struct error err = ERROR_INIT;

    disk_make(disk, integrity, SIZE);
    renew(&disk->secret);
    disk_must_open(disk);
    disk_must_have_filesystem(disk);
    assert_ok(block_write(disk, 0, 0x5a, &err));
    assert_ok(block_write(disk, SIZE - 4096, 0xa5, &err));
    disk_must_close(disk);
}

/* As the broker does with RotateKey. */
static void mark(void)
{
    struct error err = ERROR_INIT;

    former = disk->record;
    close_at(&former_start);
    former_start = memfd_create("former", MFD_CLOEXEC);
    keep_start(disk->file, former_start);
    renew(&disk->next_secret);
    disk->record.rotation =
        (struct record_rotation){ .key = { .generation = disk->record.key.generation + 1 } };
    assert_ok(random_bytes(disk->record.rotation.key.id, RECORD_ID_LEN, &err));
}

static void assert_content(void)
{
    struct error err = ERROR_INIT;

    assert_int_equal(disk->device.filesystem_bytes, SIZE);
    assert_ok(block_is(disk, 0, 0x5a, &err));
    assert_ok(block_is(disk, SIZE - 4096, 0xa5, &err));
}

static void assert_both_copies_are_on_record(void)
{
    struct header_found found = { .needs_repair = true };
    auto_close int raw = -1, header = -1;
    uint64_t bytes = 0;
    struct error err = ERROR_INIT;

    assert_ok(header_new(&header, &err));
    assert_ok(device_open(disk->loop.path, false, &raw, &bytes, &err));
    assert_ok(header_read(raw, &disk->record, header, &found, &err));
    assert_false(found.needs_repair);
    assert_false(found.is_next);
}

static void swap_secrets(void)
{
    struct secret own = disk->secret;

    disk->secret = disk->next_secret;
    disk->next_secret = own;
}

/* Not with the record of today; and with the record of yesterday, which only a broker gives, not with what
 * is on the disk now. */
static void assert_former_secret_is_of_no_use(void)
{
    const struct record now = disk->record;
    struct error err = ERROR_INIT;

    swap_secrets();
    assert_refused(ERROR_FAILED_PRECONDITION, disk_open(disk, true, &err));
    assert_string_equal(err.reason, "KeyMismatch");
    disk->record = former;
    assert_refused(ERROR_DATA_LOSS, disk_open(disk, true, &err));
    assert_string_equal(err.reason, "HeaderChanged");
    disk->record = now;
    swap_secrets();
}

/* The host has kept the former header, and puts it back. */
static void assert_former_header_is_refused(void)
{
    auto_close int today = memfd_create("today", MFD_CLOEXEC);
    struct error err = ERROR_INIT;

    keep_start(disk->file, today);
    keep_start(former_start, disk->file);
    for (int i = 0; i < 2; i++) {
        assert_refused(ERROR_DATA_LOSS, disk_open(disk, true, &err));
        assert_string_equal(err.reason, "HeaderChanged");
        assert_refused(ERROR_DATA_LOSS, disk_open(disk, false, &err));
        swap_secrets(); /* and somebody has the former secret, too */
    }
    keep_start(today, disk->file);
}

static void assert_rotated(void)
{
    struct error err = ERROR_INIT;

    assert_int_equal(disk->record.rotation.key.generation, 0);
    assert_int_equal(disk->record.key.generation, former.key.generation + 1);
    assert_int_equal(disk->record.n_header_digests, 1);
    assert_content();
    disk_must_close(disk);
    assert_both_copies_are_on_record();
    assert_former_secret_is_of_no_use();
    assert_former_header_is_refused();
    assert_ok(disk_open(disk, true, &err));
    assert_content();
    disk_must_close(disk);
    disk_must_open(disk);
    assert_content();
    disk_must_close(disk);
}

static void each_mode_gets_its_next_secret_when_it_is_opened(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        make(disk_modes[i]);
        for (int n = 0; n < 2; n++) {
            mark();
            disk_must_open(disk);
            assert_rotated();
        }
        disk_drop(disk);
    }
}

static void a_volume_that_is_only_read_keeps_its_secret(void **state UNUSED)
{
    uint8_t before[SHA256_LEN], after[SHA256_LEN];
    struct error err = ERROR_INIT;

    make(INTEGRITY_AEGIS128);
    mark();
    raw_hash(disk, before);
    assert_ok(disk_open(disk, true, &err));
    assert_content();
    disk_must_close(disk);
    raw_hash(disk, after);
    assert_memory_equal(before, after, SHA256_LEN);
    assert_int_equal(disk->record.rotation.key.generation, 2);
    disk_must_open(disk);
    assert_rotated();
}

static void without_the_next_secret_nothing_is_opened(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    make(INTEGRITY_NONE);
    mark();
    secret_wipe(&disk->next_secret);
    assert_refused(ERROR_INTERNAL, disk_open(disk, false, &err));
    assert_int_equal(devices_mapped(), 0);
}

/* --- recovery tokens --- */

static void set_certificate(bool is_wanted)
{
    struct record_recovery *recovery = &disk->record.recovery;

    recovery->certificate_len = is_wanted ? (uint32_t)owner.der_len : 0;
    if (is_wanted)
        memcpy(recovery->certificate, owner.der, owner.der_len);
}

static bool has_token(struct recovery_token *out)
{
    struct header_found found;
    auto_close int raw = -1, header = -1;
    uint64_t bytes = 0;
    bool has = false;
    struct error err = ERROR_INIT;

    assert_ok(header_new(&header, &err));
    assert_ok(device_open(disk->loop.path, false, &raw, &bytes, &err));
    assert_ok(header_read(raw, &disk->record, header, &found, &err));
    assert_ok(header_find_token(header, &has, out, &err));
    return has;
}

static void the_token_follows_the_policy(void **state UNUSED)
{
    static struct recovery_token tokens[2];
    static const uint8_t none[SHA256_LEN];

    make(INTEGRITY_HMAC_SHA256);
    assert_false(has_token(&tokens[0]));
    for (int i = 0; i < 2; i++) {
        mark();
        set_certificate(true);
        disk_must_open(disk);
        disk_must_close(disk);
        assert_true(has_token(&tokens[i]));
        assert_memory_equal(disk->record.recovery.sha256, tokens[i].certificate_sha256, SHA256_LEN);
    }
    assert_true(tokens[0].cms_len != tokens[1].cms_len ||
                memcmp(tokens[0].cms, tokens[1].cms, tokens[0].cms_len) != 0);
    mark(); /* and the policy names no certificate any more */
    set_certificate(false);
    disk_must_open(disk);
    assert_rotated();
    assert_memory_equal(disk->record.recovery.sha256, none, SHA256_LEN);
    assert_false(has_token(&tokens[0]));
}

/* --- when it goes wrong --- */

static void a_broker_that_is_away_costs_nothing(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    for (uint32_t call = 1; call <= 3; call++) { /* next header, rotated, opened */
        for (int after = 0; after < 2; after++) {
            make(INTEGRITY_AEGIS128);
            mark();
            disk->refuse_call = call;
            disk->refuse_after = after == 1;
            assert_refused(ERROR_UNAVAILABLE, disk_open(disk, false, &err));
            assert_int_equal(devices_mapped(), 0);
            disk->refuse_call = 0;
            assert_ok(disk_open(disk, true, &err));
            assert_content();
            disk_must_close(disk);
            disk_must_open(disk);
            assert_rotated();
            disk_drop(disk);
        }
    }
}

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
    assert_ok(volume_deactivate(&disk->name, &err));
}

struct death {
    const char *point;
    unsigned n;
};

static const struct death deaths[] = {
    { "worker.rotate.begin", 1 },    { "worker.rotate.record", 1 },
    { "worker.format.header-b", 1 }, { "worker.format.header-a", 1 },
    { "worker.rotate.state", 1 },    { "worker.rotate.state", 2 },
    { "worker.rotate.confirm", 1 },  { "worker.rotate.confirmed", 1 },
    { "worker.open.state", 1 },      { "worker.open.record", 1 },
    { "worker.open.expose", 1 },
};

static void killed_anywhere_it_opens_with_one_secret(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(deaths); i++) {
        make(disk_modes[i % ARRAY_LEN(disk_modes)]);
        mark();
        die_at(deaths[i].point, deaths[i].n);
        assert_ok(disk_open(disk, true, &err));
        assert_content();
        disk_must_close(disk);
        disk_must_open(disk);
        assert_rotated();
        disk_drop(disk);
    }
}

/* A second crash, at each point that the repetition passes. */
static void killed_twice_it_opens_with_one_secret(void **state UNUSED)
{
    static const struct death again[] = { { "worker.rotate.state", 1 },
                                          { "worker.rotate.state", 2 },
                                          { "worker.rotate.confirm", 1 } };

    for (size_t i = 1; i < 7; i++) { /* until it is confirmed */
        make(INTEGRITY_NONE);
        mark();
        die_at(deaths[i].point, deaths[i].n);
        die_at(again[i % ARRAY_LEN(again)].point, again[i % ARRAY_LEN(again)].n);
        disk_must_open(disk);
        assert_rotated();
        disk_drop(disk);
    }
}

/* The page cache of the host has written one copy in part. */
static void a_torn_copy_at_any_moment_is_mended(void **state UNUSED)
{
    static const struct {
        const char *point;
        uint64_t torn;
    } rows[] = {
        { "worker.format.header-b", LAYOUT_HEADER_B_OFFSET },
        { "worker.format.header-a", LAYOUT_HEADER_A_OFFSET },
        { "worker.rotate.confirm", LAYOUT_HEADER_A_OFFSET },
        { "worker.rotate.confirm", LAYOUT_HEADER_B_OFFSET },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        make(INTEGRITY_AEGIS128);
        mark();
        die_at(rows[i].point, 1);
        raw_flip(disk, rows[i].torn + 8192);
        disk_must_open(disk);
        assert_rotated();
        disk_drop(disk);
    }
}

/* A snapshot from before: it has the former secret, and keeps it. */
static void a_copy_from_before_keeps_its_secret(void **state UNUSED)
{
    static struct disk copy;
    struct error err = ERROR_INIT;

    make(INTEGRITY_AEGIS128);
    disk_copy(disk, &copy, "copy");
    mark();
    disk_must_open(disk);
    assert_rotated();
    assert_int_equal(copy.record.key.generation, 1);
    disk_must_open(&copy);
    assert_ok(block_is(&copy, 0, 0x5a, &err));
    disk_drop(&copy);
    disk_copy(disk, &copy, "copy"); /* and one from after it has the next */
    assert_int_equal(copy.record.key.generation, 2);
    disk_must_open(&copy);
    assert_ok(block_is(&copy, 0, 0x5a, &err));
    disk_drop(&copy);
}

static int teardown(void **state UNUSED)
{
    (void)unlink(FAULT);
    if (disk->secret.bytes)
        disk_drop(disk);
    return devices_mapped() == 0 ? 0 : -1;
}

#define CASE(test) cmocka_unit_test_teardown(test, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_mode_gets_its_next_secret_when_it_is_opened),
        CASE(a_volume_that_is_only_read_keeps_its_secret),
        CASE(without_the_next_secret_nothing_is_opened),
        CASE(the_token_follows_the_policy),
        CASE(a_broker_that_is_away_costs_nothing),
        CASE(killed_anywhere_it_opens_with_one_secret),
        CASE(killed_twice_it_opens_with_one_secret),
        CASE(a_torn_copy_at_any_moment_is_mended),
        CASE(a_copy_from_before_keeps_its_secret),
    };

    disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (disk == MAP_FAILED || setenv("TDVOL_FAULT", "@" FAULT, 1) != 0)
        return 1;
    owner = make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    int failed = RUN_TESTS(tests);
    made_certificate_free(&owner);
    return failed;
}
