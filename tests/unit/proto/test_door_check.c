/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/tcp_listen.h"
#include "base/thread.h"
#include "proto/door_check.h"
#include "tests/unit/test.h"

#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

static struct tcp_listen listening;
static struct door_pulse pulse;
static struct sockaddr_storage own;
static struct error err;
static atomic_bool is_ending;
static pthread_t other;

static int set_up(void **state UNUSED)
{
    atomic_store(&is_ending, false);
    atomic_store(&pulse.accepted, 7);
    door_pulse_beat(&pulse);
    return tcp_listen_open("127.0.0.1:0", &listening, &err) &&
                   door_check_find(listening.fds[0], &own)
               ? 0
               : -1;
}

static int tear_down(void **state UNUSED)
{
    tcp_listen_close(&listening);
    return 0;
}

static void own_address_is_found(void **state UNUSED)
{
    static const char *const all[] = { "0.0.0.0:0", "[::]:0" };
    const struct sockaddr_in *v4 = (const void *)&own;

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct tcp_listen listen = { .n = 0 };

        assert_ok(tcp_listen_open(all[i], &listen, &err));
        assert_true(door_check_find(listen.fds[0], &own));
        assert_int_equal(own.ss_family, AF_INET);
        assert_int_equal(ntohl(v4->sin_addr.s_addr), INADDR_LOOPBACK);
        assert_int_equal(ntohs(v4->sin_port), listen.port);
        tcp_listen_close(&listen);
    }
}

/* Takes one client and ends the connection, with or without a word. */
static void *take_one(void *cookie)
{
    struct pollfd wait = { .fd = listening.fds[0], .events = POLLIN };
    char host[ADDRESS_HOST_MAX + 1];
    auto_close int fd = -1;

    if (poll(&wait, 1, 5000) == 1 && tcp_accept(wait.fd, &fd, host) == TCP_ACCEPTED && cookie)
        (void)send(fd, "x", 1, MSG_NOSIGNAL);
    return NULL;
}

static void answer_or_end_is_life(void **state UNUSED)
{
    static char word;

    for (size_t i = 0; i < 2; i++) {
        assert_ok(thread_start(&other, "other", take_one, i ? &word : NULL, &err));
        assert_ok(door_check_address(&pulse, &own, &err));
        assert_int_equal(pthread_join(other, NULL), 0);
    }
}

/* A poller that turns, and accepts others (cookie: or does not). */
static void *turn(void *cookie)
{
    while (!atomic_load(&is_ending)) {
        door_pulse_beat(&pulse);
        if (cookie)
            door_pulse_accepted(&pulse);
        (void)poll(NULL, 0, 100);
    }
    return NULL;
}

static bool check_beside(void *accepts)
{
    assert_ok(thread_start(&other, "other", turn, accepts, &err));
    bool lives = door_check_address(&pulse, &own, &err);

    atomic_store(&is_ending, true);
    assert_int_equal(pthread_join(other, NULL), 0);
    return lives;
}

static void crowd_is_life(void **state UNUSED)
{
    assert_ok(check_beside(&own));
}

static void listener_that_never_accepts_is_dead(void **state UNUSED)
{
    assert_refused(ERROR_UNAVAILABLE, check_beside(NULL));
    assert_contains(err.text, "accepts no connections");
}

static void closed_listener_is_dead(void **state UNUSED)
{
    tcp_listen_close(&listening);
    assert_refused(ERROR_UNAVAILABLE, door_check_address(&pulse, &own, &err));
    assert_contains(err.text, "accepts no connections");
}

static void poller_that_hangs_is_dead(void **state UNUSED)
{
    atomic_store(&pulse.beat_ms, clock_now_ms() - DOOR_PULSE_MS - 1000);
    assert_refused(ERROR_UNAVAILABLE, door_check_address(&pulse, &own, &err));
    assert_contains(err.text, "its thread has hung for ");
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(own_address_is_found),    T(answer_or_end_is_life),
        T(crowd_is_life),           T(listener_that_never_accepts_is_dead),
        T(closed_listener_is_dead), T(poller_that_hangs_is_dead),
    };

    return RUN_TESTS(tests);
}
