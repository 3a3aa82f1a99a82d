/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"
#include "base/clock.h"
#include "tests/unit/base/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

/*
 * Errors before a quote is made, in plain folders. tests/integration/native/test_attester.py tests
 * requests, with a simulated configfs-tsm.
 */

#define STALE  "tdvol-00112233445566778899aabbccddeeff"
#define STALE2 "tdvol-ffeeddccbbaa99887766554433221100"

static struct error err;
static const uint8_t report_data[REPORT_DATA_LEN] = { 1, 2, 3 };

static bool collect(const char *root)
{
    const struct attester_options options = { .tsm_root = root,
                                              .deadline_ms = clock_now_ms() + 2000 };
    struct evidence evidence = { .quote = NULL };
    bool done = attester_tdx.collect(&options, report_data, &evidence, &err);

    assert_null(evidence.quote);
    return done;
}

static void sweep(const char *root)
{
    const struct attester_options options = { .tsm_root = root };

    attester_tdx.sweep(&options);
}

static bool is_there(const char *name)
{
    return access(folder_path(name), F_OK) == 0;
}

static void make_dir(const char *name)
{
    assert_int_equal(mkdir(folder_path(name), 0700), 0);
}

static size_t entries(void)
{
    size_t n = 0;
    DIR *stream = opendir(folder);

    assert_non_null(stream);
    while (readdir(stream))
        n++;
    (void)closedir(stream);
    return n - 2;
}

static void without_configfs_the_error_says_what_to_mount(void **state UNUSED)
{
    assert_refused(ERROR_FAILED_PRECONDITION, collect(folder_path("none")));
    assert_string_equal(err.reason, "QuoteUnavailable");
    assert_contains(err.text, "mount -t configfs");
    assert_contains(err.text, folder);
}

static void a_file_instead_of_the_folder_is_refused(void **state UNUSED)
{
    auto_close int fd = open(folder_path("file"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_refused(ERROR_FAILED_PRECONDITION, collect(folder_path("file")));
}

static void a_folder_that_is_no_configfs_is_refused_and_left_empty(void **state UNUSED)
{
    assert_refused(ERROR_FAILED_PRECONDITION, collect(folder));
    assert_string_equal(err.reason, "QuoteUnavailable");
    assert_contains(err.text, "provider");
    assert_int_equal(entries(), 0);
}

static void without_permission_the_error_says_so(void **state UNUSED)
{
    if (geteuid() != 0)
        skip_because("needs root, to become another user");
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(seteuid(65534), 0);
    bool done = collect(folder);
    assert_int_equal(seteuid(0), 0);
    assert_false(done);
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_contains(err.text, "root");
    assert_int_equal(entries(), 0);
}

static void sweep_removes_folders_without_a_lock(void **state UNUSED)
{
    make_dir(STALE);
    make_dir(STALE2);
    sweep(folder);
    assert_false(is_there(STALE) || is_there(STALE2));
}

static void sweep_keeps_folders_with_a_lock(void **state UNUSED)
{
    make_dir(STALE);
    make_dir(STALE2);
    auto_close int fd = open(folder_path(STALE), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    sweep(folder);
    assert_true(is_there(STALE));
    assert_false(is_there(STALE2));
    close_at(&fd);
    sweep(folder);
    assert_false(is_there(STALE));
}

static void sweep_never_touches_foreign_folders(void **state UNUSED)
{
    static const char *const foreign[] = {
        "other",
        "tdvol",
        "tdvol-",
        "tdvol-1",
        "tdvol-00112233445566778899aabbccddeef",
        "tdvol-00112233445566778899aabbccddeeff0",
        "tdvol-00112233445566778899aabbccddeefg",
        "Tdvol-00112233445566778899aabbccddeeff",
        "entry-00112233445566778899aabbccddeeff",
    };

    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        make_dir(foreign[i]);
    sweep(folder);
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        assert_true(is_there(foreign[i]));
}

static void sweep_follows_no_link(void **state UNUSED)
{
    make_dir("target");
    assert_int_equal(symlink("target", folder_path(STALE)), 0);
    sweep(folder);
    assert_true(is_there("target") && is_there(STALE));
}

static void sweep_without_configfs_does_nothing(void **state UNUSED)
{
    sweep(folder_path("none"));
    assert_int_equal(entries(), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        CASE(without_configfs_the_error_says_what_to_mount),
        CASE(a_file_instead_of_the_folder_is_refused),
        CASE(a_folder_that_is_no_configfs_is_refused_and_left_empty),
        CASE(without_permission_the_error_says_so),
        CASE(sweep_removes_folders_without_a_lock),
        CASE(sweep_keeps_folders_with_a_lock),
        CASE(sweep_never_touches_foreign_folders),
        CASE(sweep_follows_no_link),
        CASE(sweep_without_configfs_does_nothing),
    };

    return RUN_TESTS(tests);
}
