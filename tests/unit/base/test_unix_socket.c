/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/unix_socket.h"
#include "tests/unit/base/folder.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct error err;
static char path[100];
static struct unix_socket made;

static int set_up(void **state)
{
    int failed = folder_make(state);

    (void)snprintf(path, sizeof(path), "%s/a.sock", folder);
    made = (struct unix_socket)UNIX_SOCKET_INIT;
    return failed;
}

static int tear_down(void **state)
{
    unix_socket_close(&made);
    return folder_remove(state);
}

static bool answers(const char *at)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, at, strlen(at) + 1);
    return connect(fd, (const struct sockaddr *)(const void *)&address, sizeof(address)) == 0;
}

static void socket_listens_with_its_mode(void **state UNUSED)
{
    struct stat status;

    assert_ok(unix_socket_bind(path, 0620, &made, &err));
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 07777, 0620);
    assert_true(answers(path));
}

static void dead_socket_is_replaced_and_a_live_one_is_not(void **state UNUSED)
{
    struct unix_socket second = UNIX_SOCKET_INIT;

    assert_ok(unix_socket_bind(path, 0600, &made, &err));
    assert_refused(ERROR_ALREADY_EXISTS, unix_socket_bind(path, 0600, &second, &err));
    assert_contains(err.text, path);
    assert_int_equal(second.fd, -1);
    unix_socket_close(&made);
    assert_false(answers(path));
    assert_ok(unix_socket_bind(path, 0600, &made, &err));
    assert_true(answers(path));
}

static void other_files_stay(void **state UNUSED)
{
    auto_free char *text = NULL;
    size_t len = 0;

    assert_ok(file_write(path, 0600, "mine", 4, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, unix_socket_bind(path, 0600, &made, &err));
    assert_contains(err.text, "is not a socket: remove it");
    assert_ok(file_read(path, 100, &text, &len, &err));
    assert_string_equal(text, "mine");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/nowhere", path), 0);
    assert_refused(ERROR_FAILED_PRECONDITION, unix_socket_bind(path, 0600, &made, &err));
    assert_int_equal(made.fd, -1);
}

static void bad_places_are_refused(void **state UNUSED)
{
    char longer[200];

    (void)snprintf(longer, sizeof(longer), "%s/%0107d", folder, 0);
    assert_refused(ERROR_INVALID_ARGUMENT, unix_socket_bind(longer, 0600, &made, &err));
    (void)snprintf(longer, sizeof(longer), "%s/no/a.sock", folder);
    assert_refused(ERROR_FAILED_PRECONDITION, unix_socket_bind(longer, 0600, &made, &err));
}

static void removed_file_has_no_place(void **state UNUSED)
{
    const char *other = folder_path("b.sock");
    char place[PATH_MAX];

    assert_ok(unix_socket_bind(path, 0600, &made, &err));
    assert_true(unix_socket_place(&made, place));
    assert_string_equal(place, path);
    assert_int_equal(rename(path, other), 0);
    assert_true(unix_socket_place(&made, place));
    assert_string_equal(place, other);
    assert_int_equal(unlink(other), 0);
    assert_false(unix_socket_place(&made, place));
    assert_ok(file_write(path, 0600, "x", 1, &err)); /* another file there is not ours */
    assert_false(unix_socket_place(&made, place));
}

static void client_reaches_who_listens(void **state UNUSED)
{
    static const char longer[] =
        "/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";
    int fd = -1;

    assert_refused(ERROR_UNAVAILABLE, unix_socket_connect(path, &fd, &err));
    assert_ok(unix_socket_bind(path, 0600, &made, &err));
    assert_ok(unix_socket_connect(path, &fd, &err));
    close(fd);
    unix_socket_close(&made);
    assert_refused(ERROR_UNAVAILABLE, unix_socket_connect(path, &fd, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, unix_socket_connect(longer, &fd, &err));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(socket_listens_with_its_mode),
        T(dead_socket_is_replaced_and_a_live_one_is_not),
        T(other_files_stay),
        T(bad_places_are_refused),
        T(removed_file_has_no_place),
        T(client_reaches_who_listens),
    };

    return RUN_TESTS(tests);
}
