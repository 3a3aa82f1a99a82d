/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/note.h"
#include "base/file.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/note.XXXXXX", path[64];
static struct error err;
static uint64_t age_ms;

static int set_up(void **state UNUSED)
{
    memcpy(folder, "/tmp/note.XXXXXX", sizeof(folder));
    (void)snprintf(path, sizeof(path), "%s/brokers.noted", mkdtemp(folder));
    return 0;
}

static int tear_down(void **state UNUSED)
{
    char lock[64];

    (void)snprintf(lock, sizeof(lock), "%s/brokers.turn", folder);
    (void)unlink(lock);
    (void)unlink(path);
    return rmdir(folder);
}

static struct appraisal_subject subject(uint8_t key, uint8_t policy)
{
    return (struct appraisal_subject){ { key }, { policy } };
}

static void write_note(uint8_t key, uint8_t policy, uint64_t now_ms)
{
    const struct appraisal_subject s = subject(key, policy);

    assert_ok(appraisal_note_write(folder, &s, now_ms, &err));
}

static bool has(uint8_t key, uint8_t policy, uint64_t now_ms)
{
    const struct appraisal_subject s = subject(key, policy);

    return appraisal_note_find(folder, &s, now_ms, &age_ms);
}

static void a_note_is_good_for_an_hour(void **state UNUSED)
{
    assert_false(has(1, 1, 1000));
    write_note(1, 1, 1000);
    assert_true(has(1, 1, 1000));
    assert_int_equal(age_ms, 0);
    assert_true(has(1, 1, 1000 + APPRAISAL_GOOD_MS - 1));
    assert_int_equal(age_ms, APPRAISAL_GOOD_MS - 1);
    assert_false(has(1, 1, 1000 + APPRAISAL_GOOD_MS));
    assert_false(has(1, 1, 999)); /* a clock does not go back within a boot */
    write_note(1, 1, 1000 + APPRAISAL_GOOD_MS);
    assert_true(has(1, 1, 1000 + APPRAISAL_GOOD_MS));
}

static void one_that_is_dropped_is_gone_and_no_other(void **state UNUSED)
{
    const struct appraisal_subject first = subject(1, 1), third = subject(3, 1);

    write_note(1, 1, 1000);
    write_note(2, 1, 1000);
    assert_ok(appraisal_note_drop(folder, &first, &err));
    assert_ok(appraisal_note_drop(folder, &third, &err)); /* there is none */
    assert_false(has(1, 1, 1000));
    assert_true(has(2, 1, 1000));
}

static void it_is_for_one_key_and_one_policy(void **state UNUSED)
{
    write_note(1, 1, 1000);
    assert_false(has(2, 1, 1000));
    assert_false(has(1, 2, 1000));
    write_note(2, 1, 1000);
    assert_true(has(1, 1, 1000) && has(2, 1, 1000));
}

static void with_many_the_oldest_goes(void **state UNUSED)
{
    for (uint8_t i = 0; i <= APPRAISAL_NOTES_MAX; i++)
        write_note(i, 1, 1000u + i);
    assert_false(has(0, 1, 2000));
    for (uint8_t i = 1; i <= APPRAISAL_NOTES_MAX; i++)
        assert_true(has(i, 1, 2000));
}

/* Only root may have such a note. */
static void nobody_else_can_read_it(void **state UNUSED)
{
    struct stat st;

    write_note(1, 1, 1000);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

static void change_file(size_t at, const char *with, size_t cut)
{
    auto_free char *bytes = NULL;
    size_t len = 0;

    assert_ok(file_read(path, 65536, &bytes, &len, &err));
    assert_true(at + strlen(with) <= len);
    for (size_t i = 0; with[i]; i++)
        bytes[at + i] = with[i];
    assert_ok(file_write(path, 0600, bytes, len - cut, &err));
}

static void of_another_boot_or_version_or_size_it_is_none(void **state UNUSED)
{
    write_note(1, 1, 1000);
    change_file(0, "\x01", 0);
    assert_true(has(1, 1, 1000));
    change_file(4, "00000000", 0); /* the boot's id */
    assert_false(has(1, 1, 1000));
    write_note(1, 1, 1000); /* it does not stay in the way */
    change_file(0, "\x02", 0);
    assert_false(has(1, 1, 1000));
    write_note(1, 1, 1000);
    change_file(0, "\x01", 1);
    assert_false(has(1, 1, 1000));
}

static void what_cannot_be_written_is_told(void **state UNUSED)
{
    const struct appraisal_subject s = subject(1, 1);

    assert_refused(ERROR_NOT_FOUND, appraisal_note_write("/nonexistent", &s, 1000, &err));
    assert_contains(err.text, "note the broker's evidence");
    assert_false(appraisal_note_find("/nonexistent", &s, 1000, &age_ms));
}

static void one_at_a_time_asks(void **state UNUSED)
{
    int fd = -1, second = -1;

    assert_ok(appraisal_lock(folder, &fd, &err));
    assert_refused(ERROR_ABORTED, appraisal_lock(folder, &second, &err));
    close(fd);
    assert_ok(appraisal_lock(folder, &second, &err));
    close(second);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(a_note_is_good_for_an_hour),       CASE(one_that_is_dropped_is_gone_and_no_other),
        CASE(it_is_for_one_key_and_one_policy), CASE(with_many_the_oldest_goes),
        CASE(nobody_else_can_read_it),          CASE(of_another_boot_or_version_or_size_it_is_none),
        CASE(what_cannot_be_written_is_told),   CASE(one_at_a_time_asks),
    };

    return RUN_TESTS(tests);
}
