/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "proto/grpc_ping.h"
#include "tests/unit/test.h"

#include <sys/socket.h>
#include <unistd.h>

#define ACK(word) "\0\0\10\6\1\0\0\0\0" word
/* Each answer is there before the greeting is sent; the test needs no second thread. */
static bool ping(const char *answer, size_t len)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    auto_close int ours = pair[0];
    auto_close int theirs = pair[1];

    assert_int_equal(send(theirs, answer, len, 0), len);
    return grpc_ping(ours, 200);
}
#define PING(text) ping(text, sizeof(text) - 1)

static void acknowledged_ping_is_life(void **state UNUSED)
{
    assert_true(PING(ACK("aliveyet")));
    /* SETTINGS with a payload, its acknowledgement, a PING of the server, then ours */
    assert_true(PING("\0\0\6\4\0\0\0\0\0abcdef"
                     "\0\0\0\4\1\0\0\0\0"
                     "\0\0\10\6\0\0\0\0\0whatever" ACK("aliveyet")));
}

static void everything_else_is_none(void **state UNUSED)
{
    assert_false(PING(ACK("otherone")));
    assert_false(PING("\0\0\0\4\0\0\0\0\0"));
    assert_false(PING("\0\0\10\6\1\0\0\0\0ali"));
    assert_false(PING("\377\377\377\0\0\0\0\0\0"));
    assert_false(PING("HTTP/1.1 400 Bad Request\r\n\r\n"));
    assert_false(PING("\0"));
}

static void end_is_noticed_at_once(void **state UNUSED)
{
    int pair[2];
    uint64_t begun_ms = clock_now_ms();

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    (void)close(pair[1]);
    assert_false(grpc_ping(pair[0], 5000));
    assert_true(clock_now_ms() - begun_ms < 1000);
    (void)close(pair[0]);
}

static void silence_ends_in_time(void **state UNUSED)
{
    int pair[2];
    uint64_t begun_ms = clock_now_ms();

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_false(grpc_ping(pair[0], 300));
    assert_true(clock_now_ms() - begun_ms >= 300 && clock_now_ms() - begun_ms < 2000);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_ping_is_life),
        cmocka_unit_test(everything_else_is_none),
        cmocka_unit_test(end_is_noticed_at_once),
        cmocka_unit_test(silence_ends_in_time),
    };

    return RUN_TESTS(tests);
}
