/* SPDX-License-Identifier: Apache-2.0 */
#include "base/unix_socket.h"
#include "blockd/operation.h"
#include "blockd/worker.h"
#include "tests/unit/test.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MUCH = 1 << 20, WAIT_MS = 10000 };

static char folder[64], door[96], other[96];
static struct unix_socket server = UNIX_SOCKET_INIT;
static int front_fd = -1;
static pid_t worker_pid;

static int connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

static void serve_other(void)
{
    struct error err = ERROR_INIT;

    assert_ok(unix_socket_bind(other, 0600, &server, &err));
}

static int accept_other(void)
{
    struct pollfd fd = { .fd = server.fd, .events = POLLIN };

    assert_int_equal(poll(&fd, 1, WAIT_MS), 1);
    return accept(server.fd, NULL, NULL);
}

static void start_worker(void)
{
    const struct worker_config config = { .upstream = other, .upstream_door = door };
    static struct block_result result;
    struct error err = ERROR_INIT;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    worker_pid = fork();
    if (worker_pid == 0) {
        struct worker worker = { .config = &config, .front_fd = pair[1] };

        close(pair[0]);
        close(server.fd);
        _exit(!operation_forward(&worker, &result, &err) && err.code == ERROR_CANCELLED ? 0 : 1);
    }
    close(pair[1]);
    front_fd = pair[0];
    for (int i = 0; i < WAIT_MS && access(door, F_OK) != 0; i++)
        usleep(1000);
}

static int setup(void **state UNUSED)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/tdvol-forward-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(door, sizeof(door), "%s/door", folder);
    (void)snprintf(other, sizeof(other), "%s/other", folder);
    serve_other();
    start_worker();
    return 0;
}

/* The worker ends because its caller has gone. */
static int teardown(void **state UNUSED)
{
    int status = -1;

    close(front_fd);
    (void)waitpid(worker_pid, &status, 0);
    unix_socket_close(&server);
    (void)unlink(door);
    (void)unlink(other);
    (void)rmdir(folder);
    return status == 0 ? 0 : -1;
}

static void send_all(int fd, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        assert_true(n > 0);
        bytes += n;
        len -= (size_t)n;
    }
}

static void receive_all(int fd, const uint8_t *bytes, size_t len)
{
    uint8_t got[4096];

    while (len > 0) {
        ssize_t n = recv(fd, got, len < sizeof(got) ? len : sizeof(got), 0);

        assert_true(n > 0);
        assert_memory_equal(got, bytes, (size_t)n);
        bytes += n;
        len -= (size_t)n;
    }
}

static bool is_closed(int fd)
{
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    char byte;

    return poll(&poll_fd, 1, WAIT_MS) == 1 && recv(fd, &byte, 1, 0) <= 0;
}

static void bytes_pass_both_ways(void **state UNUSED)
{
    uint8_t *much = malloc(MUCH);
    int front = connect_to(door), driver = accept_other();

    assert_non_null(much);
    for (size_t i = 0; i < MUCH; i++)
        much[i] = (uint8_t)(i * 7 + i / 251);
    if (fork() ==
        0) { /* both ends at the same time: each is slower than the other at some moment */
        send_all(front, much, MUCH);
        _exit(0);
    }
    receive_all(driver, much, MUCH);
    send_all(driver, (const uint8_t *)"answer", 6);
    receive_all(front, (const uint8_t *)"answer", 6);
    (void)wait(NULL);
    close(front);
    close(driver);
    free(much);
}

static void the_end_of_one_side_reaches_the_other(void **state UNUSED)
{
    int front = connect_to(door), driver = accept_other();

    send_all(front, (const uint8_t *)"last", 4);
    (void)shutdown(front, SHUT_WR);
    receive_all(driver, (const uint8_t *)"last", 4);
    assert_true(is_closed(driver));
    send_all(driver, (const uint8_t *)"late", 4); /* the other way is still open */
    receive_all(front, (const uint8_t *)"late", 4);
    close(driver);
    assert_true(is_closed(front));
    close(front);
}

static void a_driver_that_is_away_closes_the_connection_and_may_come_back(void **state UNUSED)
{
    unix_socket_close(&server);
    for (int i = 0; i < 20; i++) { /* more than there is room for: none of them stays */
        int front = connect_to(door);

        assert_true(front >= 0 && is_closed(front));
        close(front);
    }
    serve_other();
    int front = connect_to(door), driver = accept_other();

    send_all(driver, (const uint8_t *)"back", 4);
    receive_all(front, (const uint8_t *)"back", 4);
    close(front);
    close(driver);
}

static void a_connection_too_many_waits_for_its_turn(void **state UNUSED)
{
    int fronts[5], drivers[5];

    for (size_t i = 0; i < ARRAY_LEN(fronts); i++)
        fronts[i] = connect_to(door);
    for (size_t i = 0; i < ARRAY_LEN(fronts) - 1; i++)
        drivers[i] = accept_other();
    struct pollfd none = { .fd = server.fd, .events = POLLIN };

    assert_int_equal(poll(&none, 1, 50), 0);
    close(fronts[0]);
    assert_true(is_closed(drivers[0]));
    close(drivers[0]);
    drivers[0] = accept_other();
    send_all(fronts[4], (const uint8_t *)"me", 2);
    receive_all(drivers[0], (const uint8_t *)"me", 2);
    for (size_t i = 0; i < ARRAY_LEN(drivers) - 1; i++)
        close(drivers[i]);
    for (size_t i = 1; i < ARRAY_LEN(fronts); i++)
        close(fronts[i]);
}

static void the_door_is_open_to_the_front_alone(void **state UNUSED)
{
    struct stat st;

    assert_int_equal(stat(door, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_uid, geteuid());
}

static void without_a_driver_there_is_no_door(void **state UNUSED)
{
    const struct worker_config config = { .upstream = NULL };
    struct worker worker = { .config = &config, .front_fd = front_fd };
    struct block_result result;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION, operation_forward(&worker, &result, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_pass_both_ways, setup, teardown),
        cmocka_unit_test_setup_teardown(the_end_of_one_side_reaches_the_other, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_driver_that_is_away_closes_the_connection_and_may_come_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_connection_too_many_waits_for_its_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(the_door_is_open_to_the_front_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_driver_there_is_no_door, setup, teardown),
    };

    return RUN_TESTS(tests);
}
