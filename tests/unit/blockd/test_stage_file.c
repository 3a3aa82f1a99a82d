/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "blockd/stage_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/staged.XXXXXX";
static struct volume_name name;
static struct stage_file staged, got;
static struct error err;

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && volume_name_make("driver", "a", &name, &err) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    const char *argv[] = { "rm", "-rf", folder, NULL };
    return process_must(argv, 0, 0, &err) ? 0 : -1;
}

static void path_of(const char *end, char out[static PATH_MAX])
{
    (void)snprintf(out, PATH_MAX, "%s/%s%s", folder, name.text, end);
}

static void write_good(void)
{
    staged = (struct stage_file){ .version = STAGE_FILE_VERSION, .complete = true };
    (void)snprintf(staged.volume_id, sizeof(staged.volume_id), "a");
    staged.opening.close_key[CLOSE_KEY_LEN - 1] = 7;
    assert_true(stage_file_write(folder, &name, &staged, &err));
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    bool found = true;
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_false(found);
    write_good();
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_true(found && got.complete && strcmp(got.volume_id, "a") == 0);
    assert_int_equal(7, got.opening.close_key[CLOSE_KEY_LEN - 1]);
    stage_file_wipe(&got);
    assert_int_equal(0, got.opening.close_key[CLOSE_KEY_LEN - 1]);
    assert_true(stage_file_remove(folder, &name, &err));
    assert_true(stage_file_remove(folder, &name, &err));
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_false(found);
}

static void a_damaged_file_is_as_good_as_none(void **state)
{
    (void)state;
    char path[PATH_MAX];
    bool found = true;
    path_of(".volume", path);
    write_good();
    assert_int_equal(0, truncate(path, sizeof(staged) - 1));
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_false(found);
    staged.version = STAGE_FILE_VERSION + 1;
    assert_true(stage_file_write(folder, &name, &staged, &err));
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_false(found);
    staged.version = STAGE_FILE_VERSION;
    for (size_t at = offsetof(struct stage_file, end.is_marked); at;
         at = at == offsetof(struct stage_file, ended.is_set)
                  ? 0
                  : offsetof(struct stage_file, ended.is_set)) {
        ((unsigned char *)&staged)[at] = 2; /* no bool */
        assert_true(stage_file_write(folder, &name, &staged, &err));
        assert_true(stage_file_read(folder, &name, &found, &got, &err));
        assert_false(found);
        ((unsigned char *)&staged)[at] = 0;
    }
    for (size_t i = 0; i < sizeof(staged.staging_path); i++)
        staged.staging_path[i] = 'x';
    assert_true(stage_file_write(folder, &name, &staged, &err));
    assert_true(stage_file_read(folder, &name, &found, &got, &err));
    assert_false(found);
    assert_true(stage_file_remove(folder, &name, &err));
}

static void a_lease_is_kept_beside_it_and_goes_with_it(void **state)
{
    (void)state;
    struct lease_file lease = { .version = LEASE_FILE_VERSION, .lease_ms = 60000 }, back;
    char path[PATH_MAX];
    bool found = true;
    assert_true(lease_file_read(folder, &name, &found, &back, &err));
    assert_false(found || lease_file_is_over(folder, &name)); /* a lease without end */
    lease.until_ms = clock_boottime_ms() + 60000;
    assert_true(lease_file_write(folder, &name, &lease, &err));
    assert_true(lease_file_read(folder, &name, &found, &back, &err));
    assert_true(found && back.until_ms == lease.until_ms);
    assert_false(lease_file_is_over(folder, &name));
    lease.until_ms = clock_boottime_ms();
    assert_true(lease_file_write(folder, &name, &lease, &err));
    assert_true(lease_file_is_over(folder, &name));
    path_of(".lease", path);
    assert_int_equal(0, truncate(path, 3)); /* who cannot know must stop */
    assert_false(lease_file_read(folder, &name, &found, &back, &err));
    assert_true(lease_file_is_over(folder, &name));
    lease.version++;
    lease.until_ms = clock_boottime_ms() + 60000;
    assert_true(lease_file_write(folder, &name, &lease, &err));
    assert_true(lease_file_is_over(folder, &name));
    assert_true(stage_file_remove(folder, &name, &err));
    assert_false(lease_file_is_over(folder, &name));
    lease.lease_ms = 0;
    assert_true(lease_file_write(folder, &name, &lease, &err));
    assert_int_equal(-1, access(path, F_OK));
}

static void a_lock_excludes_and_its_file_goes(void **state)
{
    (void)state;
    char path[PATH_MAX];
    bool locked = false;
    int first = -1, second = -1;
    path_of(".lock", path);
    assert_true(stage_file_try_lock(folder, &name, &locked, &first, &err));
    assert_true(locked);
    assert_true(stage_file_try_lock(folder, &name, &locked, &second, &err));
    assert_false(locked);
    assert_int_equal(-1, second);
    stage_file_tidy_lock(folder, &name);
    assert_int_not_equal(0, access(path, F_OK));
    /* A new file has a new lock. The old lock still has a holder, which is about to end. */
    assert_true(stage_file_try_lock(folder, &name, &locked, &second, &err));
    assert_true(locked);
    close_at(&first);
    close_at(&second);
    stage_file_tidy_lock(folder, &name);
}

static void a_lock_stays_while_something_is_staged(void **state)
{
    (void)state;
    char path[PATH_MAX];
    bool locked = false;
    auto_close int fd = -1;
    path_of(".lock", path);
    write_good();
    assert_true(stage_file_try_lock(folder, &name, &locked, &fd, &err));
    stage_file_tidy_lock(folder, &name);
    assert_int_equal(0, access(path, F_OK));
    assert_true(stage_file_remove(folder, &name, &err));
    stage_file_tidy_lock(folder, &name);
    assert_int_not_equal(0, access(path, F_OK));
}

static void a_program_keeps_the_lock_of_its_worker(void **state)
{
    (void)state;
    bool locked = false;
    int fd = -1, second = -1;
    const char *argv[] = { "sleep", "0.3", NULL };
    pid_t pid = 0;
    assert_true(stage_file_try_lock(folder, &name, &locked, &fd, &err));
    assert_true(process_start(argv, STDERR_FILENO, 30, &pid, &err));
    close_at(&fd); /* as when the worker dies */
    assert_true(stage_file_try_lock(folder, &name, &locked, &second, &err));
    assert_false(locked);
    assert_true(stage_file_reap(folder, 5000, &err)); /* waits for the lock */
    assert_true(stage_file_try_lock(folder, &name, &locked, &second, &err));
    assert_true(locked);
    close_at(&second);
    stage_file_tidy_lock(folder, &name);
}

static void temporary_files_are_reaped(void **state)
{
    (void)state;
    char temporary[PATH_MAX], kept[PATH_MAX];
    path_of(".volume.Ab12Cd", temporary);
    path_of(".volume", kept);
    write_good();
    assert_true(file_write(temporary, 0600, "x", 1, &err));
    assert_true(stage_file_reap(folder, 0, &err));
    assert_int_not_equal(0, access(temporary, F_OK));
    assert_int_equal(0, access(kept, F_OK));
    assert_true(stage_file_remove(folder, &name, &err));
}

static bool count(void *cookie, const struct volume_name *which, const struct stage_file *what,
                  struct error *e)
{
    (void)e;
    assert_string_equal(name.text, which->text);
    assert_string_equal("a", what->volume_id);
    ++*(int *)cookie;
    return true;
}

static void only_state_files_are_listed(void **state)
{
    (void)state;
    char path[PATH_MAX];
    int n = 0;
    write_good();
    (void)snprintf(path, sizeof(path), "%s/short.volume", folder);
    assert_true(file_write(path, 0600, &staged, sizeof(staged), &err));
    path_of(".lock", path);
    assert_true(file_write(path, 0600, "", 0, &err));
    assert_true(stage_file_each(folder, count, &n, &err));
    assert_int_equal(1, n);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(a_damaged_file_is_as_good_as_none),
        cmocka_unit_test(a_lease_is_kept_beside_it_and_goes_with_it),
        cmocka_unit_test(a_lock_excludes_and_its_file_goes),
        cmocka_unit_test(a_lock_stays_while_something_is_staged),
        cmocka_unit_test(a_program_keeps_the_lock_of_its_worker),
        cmocka_unit_test(temporary_files_are_reaped),
        cmocka_unit_test(only_state_files_are_listed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
