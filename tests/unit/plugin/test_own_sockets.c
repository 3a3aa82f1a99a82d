/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/own_sockets.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fake *f;
static struct server *server;
static struct own_sockets *sockets;
static struct error err;
static char folder[32], path[64], lock[64];
static atomic_uint n_made;
static atomic_bool is_lazy;

/* A worker that makes the socket, or (is_lazy) only says so. */
static bool make(void *cookie UNUSED, const struct block_run *run, struct block_result *out,
                 struct error *e)
{
    struct unix_socket made = UNIX_SOCKET_INIT;

    atomic_fetch_add(&n_made, 1);
    *out = (struct block_result){ .n_fds = 0 };
    if (run->request->operation != BLOCK_SOCKET || run->request->deadline_ms == 0)
        return error_set(e, ERROR_INTERNAL, "not what is wanted");
    if (atomic_load(&is_lazy))
        return true;
    if (!unix_socket_bind(run->request->path, 0600, &made, e))
        return false;
    out->n_fds = BLOCK_FDS_MAX;
    out->fds[0] = made.fd;
    out->fds[1] = made.file_fd;
    return true;
}

static int set_up(void **state UNUSED)
{
    const struct server_options options = {
        .n_workers = 1, .limits = { .message_bytes = 4096, .string_bytes = 128, .map_bytes = 1024 }
    };
    struct server_binding binding = { &identity_service, NULL };
    struct own_sockets_options own = { .paths = { path, NULL } };

    f = fake_new();
    f->plugin.workers = (struct workers){ .run = make };
    atomic_store(&n_made, 0);
    atomic_store(&is_lazy, false);
    (void)snprintf(folder, sizeof(folder), "/tmp/tdvol-own-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/s", folder);
    (void)snprintf(lock, sizeof(lock), "%s/lock", folder);
    binding.object = &f->plugin;
    assert_ok(server_new(&options, &server, &err));
    assert_ok(server_listen_unix(server, path, lock, 0600, &binding, 1, &err));
    assert_ok(server_start(server, &err));
    own.plugin = &f->plugin;
    own.server = server;
    return own_sockets_start(&own, &sockets, &err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    own_sockets_free(sockets);
    server_free(server);
    fake_free(f);
    (void)unlink(path);
    (void)unlink(lock);
    return rmdir(folder);
}

static bool becomes(bool holds)
{
    for (int i = 0; i < 1000; i++) {
        err = (struct error)ERROR_INIT;
        if (own_sockets_hold(sockets, &err) == holds)
            return true;
        (void)poll(NULL, 0, 10);
    }
    return false;
}

static void socket_in_its_place_is_left_alone(void **state UNUSED)
{
    (void)poll(NULL, 0, 2500);
    assert_true(becomes(true));
    assert_int_equal(atomic_load(&n_made), 0);
}

static void lost_socket_is_made_again(void **state UNUSED)
{
    assert_int_equal(unlink(path), 0);
    for (int i = 0; i < 1000 && !server_is_found(server, path); i++)
        (void)poll(NULL, 0, 10);
    assert_true(server_is_found(server, path));
    assert_true(becomes(true));
    assert_int_equal(atomic_load(&n_made), 1);
}

static void foreign_file_is_told_and_stays(void **state UNUSED)
{
    char other[PATH_MAX];
    struct stat status;

    (void)snprintf(other, sizeof(other), "%s.other", path);
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(renameat2(AT_FDCWD, other, AT_FDCWD, path, RENAME_EXCHANGE), 0);
    assert_int_equal(unlink(other), 0);
    assert_true(becomes(false));
    assert_contains(err.text, "is gone and cannot be made again: ");
    assert_contains(err.text, "is not a socket: remove it");
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    assert_int_equal(rmdir(path), 0);
    assert_true(becomes(true));
}

static void worker_that_makes_nothing_is_told(void **state UNUSED)
{
    atomic_store(&is_lazy, true);
    assert_int_equal(unlink(path), 0);
    assert_true(becomes(false));
    assert_contains(err.text, "the worker made no socket");
}

static void after_the_end_no_socket_is_made(void **state UNUSED)
{
    own_sockets_end(sockets);
    assert_int_equal(unlink(path), 0);
    (void)poll(NULL, 0, 2500);
    assert_int_equal(atomic_load(&n_made), 0);
    assert_true(own_sockets_hold(sockets, &err)); /* as it was last seen */
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(socket_in_its_place_is_left_alone), T(lost_socket_is_made_again),
        T(foreign_file_is_told_and_stays),    T(worker_that_makes_nothing_is_told),
        T(after_the_end_no_socket_is_made),
    };

    return RUN_TESTS(tests);
}
