/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "tests/unit/base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put(const char *name, mode_t mode, const void *bytes, size_t len)
{
    struct error err = ERROR_INIT;

    assert_ok(file_write(folder_path(name), mode, bytes, len, &err));
}

static int count_entries(void)
{
    DIR *dir = opendir(folder);
    int n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    (void)closedir(dir);
    return n - 2;
}

static void written_file_is_read_back(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;

    (void)state;
    put("a", 0640, "x\0y", 3);
    assert_ok(file_read(folder_path("a"), 3, &bytes, &len, &err));
    assert_int_equal(len, 3);
    assert_memory_equal(bytes, "x\0y", 4);
}

static void large_file_is_read_whole(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    char big[10000];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)('a' + i % 23);
    put("a", 0600, big, sizeof(big));
    assert_ok(file_read(folder_path("a"), sizeof(big), &bytes, &len, &err));
    assert_int_equal(len, sizeof(big));
    assert_memory_equal(bytes, big, len);
}

static void file_larger_than_allowed_is_refused(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;
    char *bytes = NULL;
    size_t len = 7;

    (void)state;
    put("a", 0600, "1234", 4);
    assert_refused(ERROR_OUT_OF_RANGE, file_read(folder_path("a"), 3, &bytes, &len, &err));
    assert_refused(ERROR_OUT_OF_RANGE, file_read_private(folder_path("a"), 3, &s, &err));
    assert_refused(ERROR_OUT_OF_RANGE, file_read("/dev/zero", 10000, &bytes, &len, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, file_read_private("/dev/zero", 10000, &s, &err));
    assert_null(bytes);
    assert_int_equal(len, 7);
    assert_null(s.bytes);
}

static void missing_file_is_not_found(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;
    char *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_refused(ERROR_NOT_FOUND, file_read(folder_path("no"), 9, &bytes, &len, &err));
    assert_contains(err.text, "/no: No such file");
    assert_refused(ERROR_NOT_FOUND, file_read_private(folder_path("no"), 9, &s, &err));
    assert_refused(ERROR_INTERNAL, file_read(folder, 9, &bytes, &len, &err)); /* a folder */
}

static void file_without_a_size_is_read(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_ok(file_read("/proc/self/status", 65536, &bytes, &len, &err));
    assert_contains(bytes, "VmLck:");
}

static void secret_file_is_read_into_exact_length(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    auto_secret struct secret empty = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    put("a", 0600, "key", 3);
    assert_ok(file_read_private(folder_path("a"), 100, &s, &err));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.bytes, "key", 3);
    put("b", 0600, "", 0);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   file_read_private(folder_path("b"), 100, &empty, &err));
    assert_contains(err.text, "is empty");
}

static void private_file_open_to_others_is_refused(void **state)
{
    static const mode_t modes[] = { 0640, 0604, 0610, 0602, 0601, 0660 };
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        put("a", modes[i], "key", 3);
        assert_refused(ERROR_FAILED_PRECONDITION,
                       file_read_private(folder_path("a"), 100, &s, &err));
        assert_contains(err.text, "chmod 600 ");
    }
    put("a", 0400, "key", 3);
    assert_ok(file_read_private(folder_path("a"), 100, &s, &err));
}

static void private_file_of_another_user_is_refused(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    if (geteuid() != 0)
        skip_because("needs root");
    put("a", 0600, "key", 3);
    assert_int_equal(chown(folder_path("a"), 65534, 65534), 0);
    assert_refused(ERROR_FAILED_PRECONDITION, file_read_private(folder_path("a"), 100, &s, &err));
    assert_contains(err.text, "65534");
}

static void private_file_must_be_regular(void **state)
{
    auto_secret struct secret s = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(mkfifo(folder_path("fifo"), 0600), 0);
    assert_refused(ERROR_FAILED_PRECONDITION,
                   file_read_private(folder_path("fifo"), 100, &s, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, file_read_private("/dev/zero", 100, &s, &err));
}

static void write_replaces_whole_files_and_sets_the_mode(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct stat st;

    (void)state;
    put("a", 0600, "long content", 12);
    mode_t old_mask = umask(077);
    put("a", 0644, "new", 3);
    (void)umask(old_mask);
    assert_ok(file_read(folder_path("a"), 100, &bytes, &len, &err));
    assert_string_equal(bytes, "new");
    assert_int_equal(stat(folder_path("a"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(count_entries(), 1);
}

static void create_refuses_an_existing_file_and_keeps_it(void **state)
{
    struct error err = ERROR_INIT;
    auto_free char *bytes = NULL;
    size_t len = 0;

    (void)state;
    assert_ok(file_create(folder_path("a"), 0600, "old", 3, &err));
    assert_refused(ERROR_ALREADY_EXISTS, file_create(folder_path("a"), 0600, "new", 3, &err));
    assert_ok(file_read(folder_path("a"), 100, &bytes, &len, &err));
    assert_string_equal(bytes, "old");
    assert_int_equal(count_entries(), 1);
}

static void failed_write_leaves_nothing_behind(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(mkdir(folder_path("folder"), 0700), 0);
    assert_refused(ERROR_INTERNAL, file_write(folder_path("folder"), 0600, "x", 1, &err));
    assert_refused(ERROR_NOT_FOUND, file_write(folder_path("no/a"), 0600, "x", 1, &err));
    assert_int_equal(count_entries(), 1);
}

static void files_without_a_folder_in_their_name_are_written_here(void **state)
{
    struct error err = ERROR_INIT;
    char before[PATH_MAX];

    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    bool is_written = file_write("plain", 0600, "x", 1, &err);
    assert_int_equal(chdir(before), 0);
    assert_true(is_written);
    assert_int_equal(count_entries(), 1);
}

static void folders_are_made_with_their_parents(void **state)
{
    struct error err = ERROR_INIT;
    struct stat st;

    (void)state;
    assert_ok(file_make_dirs(folder_path("a/b//c/"), 0750, &err));
    assert_int_equal(stat(folder_path("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_ok(file_make_dirs(folder_path("a/b/c"), 0750, &err));
    put("f", 0600, "x", 1);
    assert_refused(ERROR_INTERNAL, file_make_dirs(folder_path("f"), 0750, &err));
    assert_int_equal(err.sys_errno, ENOTDIR);
    assert_refused(ERROR_INTERNAL, file_make_dirs(folder_path("f/x"), 0750, &err));
}

static void lock_held_elsewhere_is_aborted(void **state)
{
    struct error err = ERROR_INIT;
    auto_close int first = -1;
    auto_close int second = -1;

    (void)state;
    assert_ok(file_lock(folder_path("lock"), false, &first, &err));
    assert_refused(ERROR_ABORTED, file_lock(folder_path("lock"), false, &second, &err));
    assert_int_equal(second, -1);
    assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);
    close_at(&first);
    assert_ok(file_lock(folder_path("lock"), false, &second, &err));
}

static void waiting_for_a_lock_ends_when_it_is_free(void **state)
{
    struct error err = ERROR_INIT;
    auto_close int ours = -1;
    auto_close int after = -1;
    int ready[2], status = -1;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = -1;
        bool is_locked = file_lock(folder_path("lock"), true, &fd, &err);

        (void)!write(ready[1], "x", 1);
        (void)usleep(50000);
        _exit(is_locked ? 0 : 1);
    }
    char byte = 0;
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_refused(ERROR_ABORTED, file_lock(folder_path("lock"), false, &ours, &err));
    assert_ok(file_lock(folder_path("lock"), true, &after, &err));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void descriptors_move_all_bytes_or_say_where_they_ended(void **state)
{
    struct error err = ERROR_INIT;
    char bytes[8] = "";

    (void)state;
    put("a", 0600, "0123456789", 10);
    auto_close int fd = open(folder_path("a"), O_RDWR | O_CLOEXEC);
    assert_ok(fd_pread_all(fd, bytes, 4, 6, &err));
    assert_memory_equal(bytes, "6789", 4);
    assert_refused(ERROR_OUT_OF_RANGE, fd_pread_all(fd, bytes, 5, 6, &err));
    assert_contains(err.text, "4 of 5");
    assert_ok(fd_pwrite_all(fd, "XY", 2, 8, &err));
    assert_ok(fd_pread_all(fd, bytes, 2, 8, &err));
    assert_memory_equal(bytes, "XY", 2);
}

static void errors_of_the_device_are_named(void **state)
{
    auto_close int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    struct error err = ERROR_INIT;
    char byte = 0;

    (void)state;
    assert_refused(ERROR_RESOURCE_EXHAUSTED, fd_write_all(full, "x", 1, &err));
    assert_int_equal(err.sys_errno, ENOSPC);
    assert_refused(ERROR_INTERNAL, fd_pread_all(-1, &byte, 1, 0, &err));
    assert_refused(ERROR_INTERNAL, fd_pwrite_all(-1, &byte, 1, 0, &err));
    assert_int_equal(err.sys_errno, EBADF);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, folder_make, folder_remove)

static int pipe_with(const char *text, bool keep_open, int *writer)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], text, strlen(text)), (ssize_t)strlen(text));
    if (keep_open)
        *writer = ends[1];
    else
        (void)close(ends[1]);
    return ends[0];
}

static void descriptor_is_read_into_a_secret(void **state UNUSED)
{
    static const struct {
        const char *text;
        size_t len; /* 0: refused */
    } rows[] = { { "k\ney\n", 5 }, { "0123456789", 10 }, { "", 0 }, { "0123456789a", 0 } };
    struct error err = ERROR_INIT;
    int writer = -1;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_secret struct secret secret = SECRET_INIT;
        auto_close int fd = pipe_with(rows[i].text, false, &writer);

        if (rows[i].len == 0) {
            assert_refused(ERROR_OUT_OF_RANGE, fd_read_secret(fd, 10, &secret, &err));
            assert_null(secret.bytes);
        } else {
            assert_ok(fd_read_secret(fd, 10, &secret, &err));
            assert_int_equal(secret.len, rows[i].len);
            assert_memory_equal(secret.bytes, rows[i].text, secret.len);
        }
    }
}

static void line_ends_the_reading_of_a_terminal(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    auto_secret struct secret secret = SECRET_INIT, none = SECRET_INIT;
    auto_close int writer = -1;
    auto_close int fd = pipe_with("typed\n", true, &writer); /* its end never comes */

    assert_ok(fd_read_secret_line(fd, 100, &secret, &err));
    assert_int_equal(secret.len, 5);
    assert_memory_equal(secret.bytes, "typed", 5);
    assert_int_equal(write(writer, "\n", 1), 1);
    assert_refused(ERROR_OUT_OF_RANGE, fd_read_secret_line(fd, 100, &none, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(written_file_is_read_back),
        CASE(large_file_is_read_whole),
        CASE(file_larger_than_allowed_is_refused),
        CASE(missing_file_is_not_found),
        CASE(file_without_a_size_is_read),
        CASE(secret_file_is_read_into_exact_length),
        CASE(descriptor_is_read_into_a_secret),
        CASE(line_ends_the_reading_of_a_terminal),
        CASE(private_file_open_to_others_is_refused),
        CASE(private_file_of_another_user_is_refused),
        CASE(private_file_must_be_regular),
        CASE(write_replaces_whole_files_and_sets_the_mode),
        CASE(create_refuses_an_existing_file_and_keeps_it),
        CASE(failed_write_leaves_nothing_behind),
        CASE(files_without_a_folder_in_their_name_are_written_here),
        CASE(folders_are_made_with_their_parents),
        CASE(lock_held_elsewhere_is_aborted),
        CASE(waiting_for_a_lock_ends_when_it_is_free),
        CASE(descriptors_move_all_bytes_or_say_where_they_ended),
        CASE(errors_of_the_device_are_named),
    };

    return RUN_TESTS(tests);
}
