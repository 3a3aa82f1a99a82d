/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tcp_listen.h"
#include "tests/unit/test.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static struct error err;

static bool has_v6(void)
{
    const struct sockaddr_in6 where = { .sin6_family = AF_INET6,
                                        .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    return fd >= 0 && bind(fd, (const struct sockaddr *)(const void *)&where, sizeof(where)) == 0;
}

static bool answers(int family, uint16_t port)
{
    const struct sockaddr_in v4 = { .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = htons(port) };
    const struct sockaddr_in6 v6 = { .sin6_family = AF_INET6,
                                     .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                                     .sin6_port = htons(port) };
    auto_close int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    return connect(fd, family == AF_INET6 ? (const void *)&v6 : (const void *)&v4,
                   family == AF_INET6 ? sizeof(v6) : sizeof(v4)) == 0;
}

static void all_addresses_are_both_families(void **state UNUSED)
{
    static const char *const all[] = { "0.0.0.0:0", "[::]:0", ":0", "*:0" };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        struct tcp_listen listen = { .n = 0 };

        assert_ok(tcp_listen_open(all[i], &listen, &err));
        assert_true(listen.n == 1 && listen.port != 0);
        assert_true(answers(AF_INET, listen.port));
        if (has_v6())
            assert_true(answers(AF_INET6, listen.port));
        tcp_listen_close(&listen);
    }
}

static void one_address_is_one_family(void **state UNUSED)
{
    struct tcp_listen listen = { .n = 0 };

    assert_ok(tcp_listen_open("127.0.0.1:0", &listen, &err));
    assert_true(answers(AF_INET, listen.port));
    if (has_v6())
        assert_false(answers(AF_INET6, listen.port));
    tcp_listen_close(&listen);
    if (!has_v6())
        skip_because("no IPv6 here");
    assert_ok(tcp_listen_open("[::1]:0", &listen, &err));
    assert_true(answers(AF_INET6, listen.port));
    assert_false(answers(AF_INET, listen.port));
    tcp_listen_close(&listen);
}

static void clients_are_named_by_their_own_family(void **state UNUSED)
{
    struct tcp_listen listen = { .n = 0 };
    char host[ADDRESS_HOST_MAX + 1];
    int fd = -1;

    assert_ok(tcp_listen_open("[::]:0", &listen, &err));
    assert_int_equal(tcp_accept(listen.fds[0], &fd, host), TCP_NONE_WAITS);
    assert_true(answers(AF_INET, listen.port));
    struct pollfd wait = { .fd = listen.fds[0], .events = POLLIN };

    assert_int_equal(poll(&wait, 1, 5000), 1);
    assert_int_equal(tcp_accept(listen.fds[0], &fd, host), TCP_ACCEPTED);
    assert_string_equal(host, "127.0.0.1");
    wait = (struct pollfd){ .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&wait, 1, 5000), 1);
    assert_true(tcp_has_ended(fd)); /* the client has left */
    assert_false(tcp_has_ended(listen.fds[0]));
    close_at(&fd);
    tcp_listen_close(&listen);
}

static void bad_addresses_are_refused(void **state UNUSED)
{
    static const char *const bad[] = { "",           "localhost", "::1:80", "[::1:80",
                                       "127.0.0.1:", "[::1]80",   ":65536", "1.2.3.4:x",
                                       ":-1",        "*",         "[]:80" };
    struct tcp_listen listen = { .n = 0 };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, tcp_listen_open(bad[i], &listen, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, tcp_listen_open("192.0.2.1:0", &listen, &err));
}

static void taken_port_is_refused(void **state UNUSED)
{
    struct tcp_listen first = { .n = 0 }, second = { .n = 0 };
    char address[32];

    assert_ok(tcp_listen_open("127.0.0.1:0", &first, &err));
    (void)snprintf(address, sizeof(address), "*:%u", first.port);
    assert_refused(ERROR_FAILED_PRECONDITION, tcp_listen_open(address, &second, &err));
    tcp_listen_close(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_addresses_are_both_families),
        cmocka_unit_test(one_address_is_one_family),
        cmocka_unit_test(clients_are_named_by_their_own_family),
        cmocka_unit_test(bad_addresses_are_refused),
        cmocka_unit_test(taken_port_is_refused),
    };

    return RUN_TESTS(tests);
}
