/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/process.h"
#include "blockd/backing_file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB 1048576LL

static char folder[] = "/tmp/backing.XXXXXX";
static int folder_fd = -1;
static struct error err;

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && backing_open_folder(folder, &folder_fd, &err) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    const char *argv[] = { "rm", "-rf", folder, NULL };
    close_at(&folder_fd);
    return process_must(argv, 0, 0, &err) ? 0 : -1;
}

static void ids_that_are_no_file_names_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "A",
        "a.b",
        "a b",
        "a\n",
        "\xc3\xa4",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    };
    bool already = false;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_false(backing_check_id(bad[i], &err));
        assert_false(backing_create(folder_fd, bad[i], MIB, false, &already, &err));
        assert_int_equal(ERROR_INVALID_ARGUMENT, err.code);
    }
    assert_true(backing_check_id("vol-0123456789abcdef", &err));
}

static void a_folder_that_others_can_write_is_refused(void **state)
{
    (void)state;
    int fd = -1;
    assert_int_equal(0, chmod(folder, 0770));
    assert_false(backing_open_folder(folder, &fd, &err));
    assert_int_equal(ERROR_FAILED_PRECONDITION, err.code);
    assert_int_equal(0, chmod(folder, 0700));
    assert_false(backing_open_folder("/nowhere", &fd, &err));
    assert_int_equal(ERROR_NOT_FOUND, err.code);
}

static void a_file_has_exactly_its_size(void **state)
{
    (void)state;
    bool already = true;
    auto_close int fd = -1;
    struct stat st;
    uint64_t bytes = 0;
    assert_true(backing_create(folder_fd, "a", MIB + 4096, true, &already, &err));
    assert_false(already);
    assert_true(backing_create(folder_fd, "a", MIB + 4096, true, &already, &err));
    assert_true(already);
    assert_true(backing_open(folder_fd, "a", true, &fd, &st, &err));
    assert_int_equal(MIB + 4096, st.st_size);
    assert_true(backing_grow(folder_fd, "a", 2ULL * MIB, true, &bytes, &err));
    assert_int_equal(2 * MIB, bytes);
    assert_true(backing_grow(folder_fd, "a", MIB, true, &bytes, &err));
    assert_int_equal(2 * MIB, bytes);
    assert_true(backing_delete(folder_fd, "a", &already, &err));
    assert_false(already);
    assert_true(backing_delete(folder_fd, "a", &already, &err));
    assert_true(already);
    assert_false(backing_grow(folder_fd, "a", MIB, true, &bytes, &err));
    assert_int_equal(ERROR_NOT_FOUND, err.code);
}

static void a_link_in_place_of_a_file_is_not_followed(void **state)
{
    (void)state;
    int fd = -1;
    struct stat st;
    bool already = false;
    assert_int_equal(0, symlinkat("/etc/passwd", folder_fd, "link.img"));
    assert_false(backing_open(folder_fd, "link", true, &fd, &st, &err));
    assert_false(backing_create(folder_fd, "link", MIB, false, &already, &err));
    assert_int_equal(ERROR_ALREADY_EXISTS, err.code);
    assert_int_equal(0, unlinkat(folder_fd, "link.img", 0));
}

static void a_copy_is_equal_and_has_its_holes(void **state)
{
    (void)state;
    bool already = false;
    struct stat st;
    auto_close int source = -1, target = -1;
    assert_true(backing_create(folder_fd, "s", 8 * MIB, false, &already, &err));
    assert_true(backing_open(folder_fd, "s", false, &source, &st, &err));
    assert_true(fd_pwrite_all(source, "first", 5, 0, &err));
    assert_true(fd_pwrite_all(source, "middle", 6, 3 * MIB + 4095, &err));
    assert_true(fd_pwrite_all(source, "end", 3, 8 * MIB - 3, &err));
    {
        auto_backing_copy struct backing_copy copy = BACKING_COPY_INIT;

        assert_true(backing_copy_begin(folder_fd, "s", "t", &already, &copy, &err));
        assert_false(already);
        assert_true(backing_copy_data(&copy, &err));
        assert_true(backing_copy_commit(&copy, &err));
    }
    assert_true(backing_open(folder_fd, "t", true, &target, &st, &err));
    assert_int_equal(8 * MIB, st.st_size);
    assert_true(st.st_blocks * 512 < MIB);
    for (off_t at = 0; at < 8 * MIB; at += 65536) {
        static char a[65536], b[65536];

        assert_true(fd_pread_all(source, a, sizeof(a), at, &err));
        assert_true(fd_pread_all(target, b, sizeof(b), at, &err));
        assert_memory_equal(a, b, sizeof(a));
    }
    struct backing_copy copy = BACKING_COPY_INIT;
    assert_true(backing_copy_begin(folder_fd, "s", "t", &already, &copy, &err));
    assert_true(already);
    backing_copy_drop(&copy);
}

static void a_copy_that_was_not_finished_leaves_nothing(void **state)
{
    (void)state;
    bool already = false;
    struct backing_copy copy = BACKING_COPY_INIT;
    assert_true(backing_create(folder_fd, "u", MIB, false, &already, &err));
    assert_true(backing_copy_begin(folder_fd, "u", "v", &already, &copy, &err));
    assert_true(backing_copy_data(&copy, &err));
    assert_int_equal(0, faccessat(folder_fd, "v.img.part", F_OK, 0));
    backing_copy_drop(&copy);
    assert_int_not_equal(0, faccessat(folder_fd, "v.img.part", F_OK, 0));
    assert_int_not_equal(0, faccessat(folder_fd, "v.img", F_OK, 0));
}

/* A caller's locals end in any order. */
static void a_copy_removes_its_file_after_the_folder_was_closed(void **state)
{
    (void)state;
    bool already = false;
    int fd = -1;
    struct backing_copy copy = BACKING_COPY_INIT;
    assert_true(backing_open_folder(folder, &fd, &err));
    assert_true(backing_create(fd, "x", MIB, false, &already, &err));
    assert_true(backing_copy_begin(fd, "x", "y", &already, &copy, &err));
    close_at(&fd);
    backing_copy_drop(&copy);
    assert_int_not_equal(0, faccessat(folder_fd, "y.img.part", F_OK, 0));
    assert_int_equal(-1, copy.folder_fd);
}

static void delete_removes_what_a_killed_worker_left(void **state)
{
    (void)state;
    bool already = false;
    close(openat(folder_fd, "z.img.part", O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_true(backing_delete(folder_fd, "z", &already, &err));
    assert_true(already);
    assert_int_not_equal(0, faccessat(folder_fd, "z.img.part", F_OK, 0));
}

/* The file system's limit in a real life; here it is the process's. */
static void a_size_that_no_file_can_have_is_out_of_range(void **state)
{
    (void)state;
    const uint64_t most = 2 * MIB;
    struct rlimit before, limit;
    bool already = false;
    uint64_t bytes = 0;
    struct stat st;
    assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &before));
    limit = (struct rlimit){ most, before.rlim_max };
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &limit));
    for (int reserve = 0; reserve <= 1; reserve++) {
        assert_false(backing_create(folder_fd, "big", 2 * most, reserve, &already, &err));
        assert_int_equal(ERROR_OUT_OF_RANGE, err.code);
        assert_int_not_equal(0, faccessat(folder_fd, "big.img.part", F_OK, 0));
        assert_true(backing_create(folder_fd, "grows", MIB, false, &already, &err));
        assert_false(backing_grow(folder_fd, "grows", 2 * most, reserve, &bytes, &err));
        assert_int_equal(ERROR_OUT_OF_RANGE, err.code);
        assert_int_equal(0, fstatat(folder_fd, "grows.img", &st, 0));
        assert_int_equal(MIB, st.st_size);
    }
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
}

static void a_folder_with_nothing_but_lost_and_found_is_empty(void **state)
{
    (void)state;
    bool found = true, already = false;
    char path[] = "/tmp/backing-empty.XXXXXX";
    auto_close int fd = -1;
    assert_non_null(mkdtemp(path));
    assert_true(backing_open_folder(path, &fd, &err));
    assert_true(backing_find_any(fd, &found, &err));
    assert_false(found);
    assert_int_equal(0, mkdirat(fd, "lost+found", 0700));
    assert_true(backing_find_any(fd, &found, &err));
    assert_false(found);
    assert_true(backing_create(fd, "a", MIB, false, &already, &err));
    assert_true(backing_find_any(fd, &found, &err));
    assert_true(found);
    assert_true(backing_delete(fd, "a", &already, &err));
    assert_int_equal(0, unlinkat(fd, "lost+found", AT_REMOVEDIR));
    assert_int_equal(0, rmdir(path));
}

static bool remove_one(void *cookie, const char *volume_id, struct error *e)
{
    ++*(int *)cookie;
    assert_string_equal("w", volume_id);
    return backing_remove_rest(folder_fd, volume_id, e);
}

static void rests_of_killed_workers_are_found(void **state)
{
    (void)state;
    static const char *const names[] = { "w.img.part", "w.img", "part", ".img.part" };
    static const bool stays[] = { false, true, true, true };
    int n = 0;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        close(openat(folder_fd, names[i], O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_true(backing_each_rest(folder_fd, remove_one, &n, &err));
    assert_int_equal(1, n);
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        assert_int_equal(stays[i], faccessat(folder_fd, names[i], F_OK, 0) == 0);
    assert_true(backing_remove_rest(folder_fd, "w", &err));
    assert_false(backing_remove_rest(folder_fd, "../w", &err));
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_that_are_no_file_names_are_refused),
        cmocka_unit_test(a_folder_that_others_can_write_is_refused),
        cmocka_unit_test(a_file_has_exactly_its_size),
        cmocka_unit_test(a_link_in_place_of_a_file_is_not_followed),
        cmocka_unit_test(a_copy_is_equal_and_has_its_holes),
        cmocka_unit_test(a_copy_that_was_not_finished_leaves_nothing),
        cmocka_unit_test(a_copy_removes_its_file_after_the_folder_was_closed),
        cmocka_unit_test(delete_removes_what_a_killed_worker_left),
        cmocka_unit_test(a_size_that_no_file_can_have_is_out_of_range),
        cmocka_unit_test(a_folder_with_nothing_but_lost_and_found_is_empty),
        cmocka_unit_test(rests_of_killed_workers_are_found),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
