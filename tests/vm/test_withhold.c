/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "crypt/withhold.h"
#include "record/layout.h"
#include "tests/unit/test.h"
#include "tests/vm/fixture.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* An open volume is stopped and loses its key; it goes on, or is closed. */

#define MIB  (1024ull * 1024)
#define SIZE (64 * MIB)

static struct disk *disk;

static void make(enum integrity integrity)
{
    struct error err = ERROR_INIT;

    disk_make(disk, integrity, SIZE);
    disk_must_open(disk);
    disk_must_have_filesystem(disk);
    assert_ok(block_write(disk, 0, 0x5a, &err));
}

static bool give_back(const struct secret *secret, struct error *err)
{
    const struct giving_back giving = { .record = &disk->record,
                                        .secret = secret,
                                        .next_secret = &disk->next_secret };

    return volume_give_back(&disk->name, &giving, err);
}

static bool is_withheld(void)
{
    struct error err = ERROR_INIT;
    bool out = false;

    assert_ok(volume_find_withheld(&disk->name, &out, &err));
    return out;
}

static void withhold(void)
{
    struct error err = ERROR_INIT;

    assert_ok(volume_withhold(&disk->name, &err));
    assert_true(is_withheld());
}

/* A user of the volume, who writes one block and says whether that went well. */
static pid_t start_writer(uint64_t offset, uint8_t fill)
{
    struct error err = ERROR_INIT;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(block_write(disk, offset, fill, &err) ? 0 : 1);
    return pid;
}

static bool has_ended(pid_t pid, int *status)
{
    return waitpid(pid, status, WNOHANG) == pid;
}

/* 0: its write went well. */
static int end_of(pid_t pid)
{
    int status = -1;

    for (int i = 0; i < 200; i++) {
        if (has_ended(pid, &status))
            return WEXITSTATUS(status);
        usleep(50000);
    }
    fail_msg("the writer still waits");
    return -1;
}

static void assert_nothing_happens(pid_t writer)
{
    uint8_t before[32], after[32];
    int status = 0;

    raw_hash(disk, before);
    usleep(1500000); /* a pool commits every second */
    raw_hash(disk, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_false(has_ended(writer, &status));
}

static void users_wait_until_the_key_is_back(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        struct error err = ERROR_INIT;

        make(disk_modes[i]);
        assert_false(is_withheld());
        withhold();
        pid_t writer = start_writer(8 * MIB, 0xa5);
        assert_nothing_happens(writer);
        withhold(); /* again */
        assert_nothing_happens(writer);
        assert_ok(give_back(&disk->secret, &err));
        assert_false(is_withheld());
        assert_int_equal(end_of(writer), 0);
        assert_ok(give_back(&disk->secret, &err)); /* again */
        assert_ok(block_is(disk, 0, 0x5a, &err));
        assert_ok(block_is(disk, 8 * MIB, 0xa5, &err));
        disk_must_close(disk);
        disk_must_open(disk); /* with the map, hash and mark of a clean close */
        assert_ok(block_is(disk, 0, 0x5a, &err));
        assert_ok(block_is(disk, 8 * MIB, 0xa5, &err));
        disk_must_close(disk);
        disk_drop(disk);
    }
}

static void only_the_right_secret_and_header_bring_it_back(void **state UNUSED)
{
    auto_secret struct secret wrong = SECRET_INIT;
    struct error err = ERROR_INIT;

    make(INTEGRITY_AEGIS128);
    withhold();
    pid_t writer = start_writer(8 * MIB, 0xa5);
    assert_ok(secret_random(&wrong, VOLUME_SECRET_LEN, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, give_back(&wrong, &err));
    assert_string_equal(err.reason, "KeyMismatch");
    disk->record.header_digests[0][0] ^= 1;
    assert_refused(ERROR_DATA_LOSS, give_back(&disk->secret, &err));
    disk->record.header_digests[0][0] ^= 1;
    /* What resumes suspended volumes after a crash must not, and cannot. */
    assert_refused(ERROR_FAILED_PRECONDITION, volume_resume(&disk->name, &err));
    assert_string_equal(err.reason, LEASE_LOST_REASON);
    assert_nothing_happens(writer);
    assert_ok(give_back(&disk->secret, &err));
    assert_int_equal(end_of(writer), 0);
    disk_must_close(disk);
    disk_drop(disk);
}

static void it_can_be_closed_and_nothing_more_is_written(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        uint8_t before[32], after[32];
        struct volume_end end;
        struct error err = ERROR_INIT;

        make(disk_modes[i]);
        withhold();
        raw_hash(disk, before);
        pid_t writer = start_writer(8 * MIB, 0xa5);
        usleep(200000);
        assert_ok(volume_fail(&disk->name, &err));
        assert_int_equal(end_of(writer), 1);
        assert_ok(volume_stop(&disk->name, disk->closing.block, &end, &err));
        assert_false(end.is_marked);
        assert_false(end.has_hash);
        assert_ok(volume_deactivate(&disk->name, &err));
        assert_int_equal(devices_mapped(), 0);
        raw_hash(disk, after);
        assert_memory_equal(before, after, sizeof(before));
        disk->record.is_closed = disk->record.has_clean_hash = false;
        disk_must_open(disk);
        assert_ok(block_is(disk, 0, 0x5a, &err));
        disk_must_close(disk);
        disk_drop(disk);
    }
}

/* Without a word that it is withheld: closing finds it out. */
static void closing_needs_no_key(void **state UNUSED)
{
    for (size_t i = 0; i < ARRAY_LEN(disk_modes); i++) {
        struct error err = ERROR_INIT;

        make(disk_modes[i]);
        withhold();
        assert_ok(volume_deactivate(&disk->name, &err));
        assert_int_equal(devices_mapped(), 0);
        disk_drop(disk);
    }
}

static int setup(void **state UNUSED)
{
    disk = mmap(NULL, sizeof(*disk), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return disk == MAP_FAILED ? -1 : 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(users_wait_until_the_key_is_back),
        cmocka_unit_test(only_the_right_secret_and_header_bring_it_back),
        cmocka_unit_test(it_can_be_closed_and_nothing_more_is_written),
        cmocka_unit_test(closing_needs_no_key),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, NULL);
}
