/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/proto/fixture.h"
#include "tests/unit/proto/sample.h"
#include "tests/unit/test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "csi.pb-c.h"

static bool probe(struct node *node UNUSED, struct rpc_call *call UNUSED,
                  const Csi__V1__ProbeRequest *request UNUSED,
                  Csi__V1__ProbeResponse *response UNUSED, struct error *err UNUSED)
{
    return true;
}
RPC_HANDLER(probe, struct node, Csi__V1__ProbeRequest, Csi__V1__ProbeResponse)
static const struct rpc_method identity_methods[] = { { "Probe", probe_untyped, 0 } };
static const struct rpc_service identity_service = { &csi__v1__identity__descriptor,
                                                     identity_methods, 1 };

static void each_socket_serves_only_its_own(void **state)
{
    struct fixture *f = *state;
    const struct server_binding binding = { &identity_service, &f->node };
    Csi__V1__ProbeRequest request = CSI__V1__PROBE_REQUEST__INIT;
    ProtobufCMessage *response = NULL;
    char path[80], lock[80], target[96];
    struct error err = ERROR_INIT;
    struct arena arena;

    (void)snprintf(path, sizeof(path), "%s/r.sock", f->folder);
    (void)snprintf(lock, sizeof(lock), "%s/lock2", f->folder);
    (void)snprintf(target, sizeof(target), "unix:%s", path);
    assert_true(server_listen_unix(f->server, path, lock, 0600, &binding, 1, &err));
    fixture_start(f);
    struct client *node = connect_to(f->target, NULL), *identity = connect_to(target, NULL);
    arena_init(&arena, 65536);
    assert_int_equal(ask_info(node, &err), ERROR_NONE);
    assert_int_equal(ask_info(identity, &err), ERROR_UNIMPLEMENTED);
    assert_true(client_call(identity, &csi__v1__identity__descriptor, "Probe", &request.base, 5000,
                            &arena, &response, &err));
    assert_false(client_call(node, &csi__v1__identity__descriptor, "Probe", &request.base, 5000,
                             &arena, &response, &err));
    assert_int_equal(err.code, ERROR_UNIMPLEMENTED);
    arena_wipe(&arena);
    client_free(node);
    client_free(identity);
    assert_int_equal(unlink(lock), 0);
}

static void a_second_server_cannot_steal_the_socket(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char other_lock[64];

    fixture_start(f);
    struct server *second = fixture_server(f);
    assert_false(fixture_listen(f, second, f->socket, f->lock, &err));
    assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
    assert_non_null(strstr(err.text, f->socket));
    (void)snprintf(other_lock, sizeof(other_lock), "%s/other", f->folder);
    assert_false(fixture_listen(f, second, f->socket, other_lock, &err));
    assert_int_equal(err.code, ERROR_ALREADY_EXISTS);
    server_free(second);
    assert_int_equal(unlink(other_lock), 0);

    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);

    server_free(f->server); /* now the other one may have the socket */
    f->server = fixture_server(f);
    assert_true(fixture_listen(f, f->server, f->socket, f->lock, &err));
    assert_true(server_start(f->server, &err));
    client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void leave_dead_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    assert_int_equal(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    (void)close(fd);
}

static void a_stale_socket_is_replaced_and_gets_its_mode(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct stat status;

    leave_dead_socket(f->socket);
    fixture_start(f);
    assert_int_equal(stat(f->socket, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    struct client *client = connect_to(f->target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void a_file_that_is_not_a_socket_stays(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    FILE *file = fopen(f->socket, "we");

    assert_non_null(file);
    (void)fclose(file);
    assert_false(fixture_listen(f, f->server, f->socket, f->lock, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_int_equal(unlink(f->socket), 0);
}

static void bad_places_for_a_socket_are_named(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char path[200];

    (void)snprintf(path, sizeof(path), "%s/%0107d", f->folder, 0);
    assert_false(fixture_listen(f, f->server, path, f->lock, &err));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    (void)snprintf(path, sizeof(path), "%s/no/folder.sock", f->folder);
    assert_false(fixture_listen(f, f->server, path, f->lock, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_non_null(strstr(err.text, path));
}

static void a_socket_path_of_106_bytes_works(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    char path[128], target[140];

    (void)snprintf(path, sizeof(path), "%s/%0*d", f->folder, 105 - (int)strlen(f->folder), 0);
    assert_int_equal(strlen(path), 106);
    assert_true(fixture_listen(f, f->server, path, f->lock, &err));
    assert_true(server_start(f->server, &err));
    (void)snprintf(target, sizeof(target), "unix:%s", path);
    struct client *client = connect_to(target, NULL);
    assert_int_equal(ask_info(client, &err), ERROR_NONE);
    client_free(client);
}

static void a_lost_socket_is_noticed_and_can_be_renewed(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct unix_socket fresh = UNIX_SOCKET_INIT;
    char other[80];

    fixture_start(f);
    struct client *old = connect_to(f->target, NULL);

    assert_int_equal(ask_info(old, &err), ERROR_NONE);
    assert_true(server_is_found(f->server, f->socket));
    assert_false(server_is_found(f->server, "/elsewhere"));
    assert_int_equal(unlink(f->socket), 0);
    assert_false(server_is_found(f->server, f->socket));

    (void)snprintf(other, sizeof(other), "%s/other", f->folder);
    assert_ok(unix_socket_bind(other, 0600, &fresh, &err)); /* clients would not look there */
    assert_refused(ERROR_INTERNAL, server_renew_unix(f->server, f->socket, &fresh, &err));
    unix_socket_close(&fresh);
    assert_int_equal(unlink(other), 0);

    for (int i = 0; i < 3; i++) {
        (void)unlink(f->socket);
        assert_ok(unix_socket_bind(f->socket, 0600, &fresh, &err));
        assert_refused(ERROR_INTERNAL, server_renew_unix(f->server, "/elsewhere", &fresh, &err));
        assert_ok(server_renew_unix(f->server, f->socket, &fresh, &err));
        assert_int_equal(fresh.fd, -1);
        assert_true(server_is_found(f->server, f->socket));
        struct client *client = connect_to(f->target, NULL);

        assert_int_equal(ask_info(client, &err), ERROR_NONE);
        assert_int_equal(ask_info(old, &err), ERROR_NONE);
        client_free(client);
    }
    client_free(old);
}

static void a_server_that_lives_says_so(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    fixture_start(f);
    for (int i = 0; i < 20; i++)
        assert_ok(server_check(f->server, &err));
}

static void a_server_without_threads_is_dead(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    assert_true(fixture_listen(f, f->server, f->socket, f->lock, &err));
    assert_refused(ERROR_UNAVAILABLE, server_check(f->server, &err));
    assert_contains(err.text, "its thread has hung");
    server_free(TAKE_PTR(f->server));
    f->server = fixture_server(f);
}

static void a_server_never_started_is_freed(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;

    assert_true(fixture_listen(f, f->server, f->socket, f->lock, &err));
}

static void a_server_that_does_not_run_is_unavailable(void **state)
{
    struct fixture *f = *state;
    struct error err = ERROR_INIT;
    struct client *client = connect_to(f->target, NULL);

    assert_int_equal(ask_info(client, &err), ERROR_UNAVAILABLE); /* not DEADLINE_EXCEEDED */
    fixture_start(f);
    for (int i = 0; i < 1200 && ask_info(client, &err) != ERROR_NONE; i++)
        sleep_ms(50);
    assert_int_equal(err.code, ERROR_NONE); /* the same client connects again by itself */
    client_free(client);
}

#define UNIX(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        UNIX(each_socket_serves_only_its_own),
        UNIX(a_second_server_cannot_steal_the_socket),
        UNIX(a_stale_socket_is_replaced_and_gets_its_mode),
        UNIX(a_file_that_is_not_a_socket_stays),
        UNIX(bad_places_for_a_socket_are_named),
        UNIX(a_socket_path_of_106_bytes_works),
        UNIX(a_lost_socket_is_noticed_and_can_be_renewed),
        UNIX(a_server_that_lives_says_so),
        UNIX(a_server_without_threads_is_dead),
        UNIX(a_server_never_started_is_freed),
        UNIX(a_server_that_does_not_run_is_unavailable),
    };

    (void)signal(SIGPIPE, SIG_IGN);
    return RUN_TESTS(tests);
}
