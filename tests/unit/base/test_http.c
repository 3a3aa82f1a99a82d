/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/http.h"
#include "tests/unit/test.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BIG_BYTES ((size_t)1024 * 1024) /* more than fits into the kernel's buffers here */

static struct http_server *server;
static struct error err;

static unsigned print_small(void *cookie UNUSED, FILE *out)
{
    (void)fputs("ok\n", out);
    return HTTP_OK;
}

static unsigned print_ill(void *cookie UNUSED, FILE *out)
{
    (void)fputs("ill\n", out);
    return HTTP_UNAVAILABLE;
}

static unsigned print_big(void *cookie UNUSED, FILE *out)
{
    fprintf(out, "%*d", (int)BIG_BYTES, 0);
    return HTTP_OK;
}

static const struct http_page pages[] = {
    { "/small", NULL, false, print_small },
    { "/ill", NULL, false, print_ill },
    { "/big", HTTP_TYPE_METRICS, true, print_big },
};

static int set_up(void **state UNUSED)
{
    return http_server_start(":0", pages, ARRAY_LEN(pages), NULL, &server, &err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    http_server_stop(server);
    return 0;
}

/* A connection from 127.0.0.from. */
static int dial(unsigned from)
{
    const struct sockaddr_in where = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                       .sin_port = htons(http_server_port(server)) };
    const struct sockaddr_in own = { .sin_family = AF_INET,
                                     .sin_addr.s_addr = htonl((127u << 24) + from) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&own, sizeof(own)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)(const void *)&where, sizeof(where)), 0);
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* All that comes until the end; at most 10 s. */
static const char *hear(int fd)
{
    static char text[4096];
    size_t used = 0;
    struct pollfd wait = { .fd = fd, .events = POLLIN };

    while (used < sizeof(text) - 1 && poll(&wait, 1, 10000) == 1) {
        ssize_t n = recv(fd, text + used, sizeof(text) - 1 - used, 0);

        if (n <= 0)
            break;
        used += (size_t)n;
    }
    text[used] = '\0';
    return text;
}

static bool has_ended(int fd, int wait_ms)
{
    struct pollfd wait = { .fd = fd, .events = POLLIN };
    char byte;

    return poll(&wait, 1, wait_ms) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

static void expect_quick(unsigned from)
{
    uint64_t begun_ms = clock_now_ms();
    auto_close int fd = dial(from);

    say(fd, "GET /small HTTP/1.1\r\n\r\n");
    assert_contains(hear(fd), "\r\n\r\nok\n");
    assert_true(clock_now_ms() - begun_ms < 2000);
}

static void pages_have_status_and_type(void **state UNUSED)
{
    auto_close int small = dial(1), ill = dial(1), big = dial(1);

    say(small, "GET /small?x HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_string_equal(hear(small),
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"
                        "Content-Length: 3\r\nCache-Control: no-store\r\n"
                        "Connection: close\r\n\r\nok\n");
    say(ill, "GET /ill HTTP/1.0\r\n\r\n");
    assert_contains(hear(ill), "HTTP/1.1 503 Service Unavailable\r\n");
    say(big, "GET /big HTTP/1.0\r\n\r\n");
    assert_contains(hear(big), "Content-Type: text/plain; version=0.0.4\r\n"
                               "Content-Length: 1048576\r\n");
}

static void ipv6_is_served_at_the_same_port(void **state UNUSED)
{
    const struct sockaddr_in6 where = { .sin6_family = AF_INET6,
                                        .sin6_addr = IN6ADDR_LOOPBACK_INIT,
                                        .sin6_port = htons(http_server_port(server)) };
    auto_close int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)(const void *)&where, sizeof(where)) != 0)
        skip_because("no IPv6 here");
    say(fd, "GET /small HTTP/1.1\r\n\r\n");
    assert_contains(hear(fd), " 200 OK");
}

static void other_requests_are_refused(void **state UNUSED)
{
    static const struct {
        const char *request, *answer;
    } cases[] = {
        { "GET /other HTTP/1.1\r\n\r\n", "HTTP/1.1 404 " },
        { "GET /smaller HTTP/1.1\r\n\r\n", "HTTP/1.1 404 " },
        { "POST /small HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "Allow: GET\r\n" },
        { "\x16\x03\x01\x02\n", "HTTP/1.1 400 " },
        { "GET /small\r\n\r\n", "HTTP/1.1 400 " },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_close int fd = dial(1);

        say(fd, cases[i].request);
        assert_contains(hear(fd), cases[i].answer);
    }
}

static void huge_request_is_answered_and_ended(void **state UNUSED)
{
    auto_close int fd = dial(1);
    static char more[64 * 1024];

    (void)snprintf(more, sizeof(more), "%*d", (int)sizeof(more) - 1, 0);
    say(fd, "GET /small HTTP/1.1\r\nX: ");
    say(fd, more);
    assert_contains(hear(fd), "HTTP/1.1 431 ");
    expect_quick(1);
}

static void half_closed_client_gets_its_answer(void **state UNUSED)
{
    auto_close int fd = dial(1), early = dial(1);

    say(fd, "GET /small HTTP/1.1\r\n\r\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_contains(hear(fd), "\r\n\r\nok\n");
    say(early, "GET /small");
    assert_int_equal(shutdown(early, SHUT_WR), 0);
    assert_string_equal(hear(early), "");
}

static void slow_drip_ends_at_the_deadline(void **state UNUSED)
{
    const struct timespec step = { .tv_nsec = 100L * 1000 * 1000 };
    uint64_t begun_ms = clock_now_ms();
    auto_close int fd = dial(1);

    say(fd, "GET /small HTTP/1.1\r\nX: ");
    while (send(fd, "a", 1, MSG_NOSIGNAL) == 1 && clock_now_ms() - begun_ms < 10000)
        (void)nanosleep(&step, NULL);
    uint64_t took_ms = clock_now_ms() - begun_ms;

    assert_true(took_ms >= HTTP_SECONDS * 1000 && took_ms < HTTP_SECONDS * 1000 + 1500);
}

static void answer_that_nobody_reads_ends_at_the_deadline(void **state UNUSED)
{
    const struct timespec early = { .tv_sec = HTTP_SECONDS - 2 }, late = { .tv_sec = 3 };
    auto_close int fd = dial(1);
    struct pollfd gone = { .fd = fd, .events = POLLRDHUP };

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)), 0);
    say(fd, "GET /big HTTP/1.1\r\n\r\n");
    expect_quick(1);
    (void)nanosleep(&early, NULL);
    assert_int_equal(poll(&gone, 1, 0), 0);
    (void)nanosleep(&late, NULL);
    assert_int_equal(poll(&gone, 1, 0), 1);
    assert_true(gone.revents & POLLERR);
}

static void one_network_keeps_only_its_share(void **state UNUSED)
{
    int fds[3 * HTTP_CONNECTIONS_EACH];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = dial(2);
    auto_close int other = dial(3);

    for (size_t i = 0; i < ARRAY_LEN(fds) - HTTP_CONNECTIONS_EACH; i++)
        assert_true(has_ended(fds[i], 1000));
    assert_false(has_ended(fds[ARRAY_LEN(fds) - 1], 50));
    expect_quick(2);
    expect_quick(4);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
    say(other, "GET /small HTTP/1.1\r\n\r\n");
    assert_contains(hear(other), " 200 OK");
}

static void full_house_serves_the_newcomer(void **state UNUSED)
{
    int fds[2 * HTTP_CONNECTIONS_MAX];

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial(10 + (unsigned)i % 100);
        say(fds[i], "GET /small HTTP");
    }
    expect_quick(1);
    expect_quick(9);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
}

static void crowd_takes_little_memory(void **state UNUSED)
{
    static const char request[] = "GET /big HTTP/1.1\r\n\r\n";
    int fds[HTTP_CONNECTIONS_MAX];
    size_t n_busy = 0;

    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        fds[i] = dial(10 + (unsigned)i);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &(int){ 4096 }, sizeof(int)), 0);
        say(fds[i], request);
    }
    expect_quick(1);
    for (size_t i = 1; i < ARRAY_LEN(fds); i++) {
        char text[64] = "";

        if (recv(fds[i], text, sizeof(text) - 1, 0) > 0 && strstr(text, " 503 "))
            n_busy++;
    }
    assert_true(n_busy >= ARRAY_LEN(fds) - 1 - HTTP_ANSWERS_BYTES / BIG_BYTES - 1);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        (void)close(fds[i]);
}

static double cpu_seconds(void)
{
    struct timespec used = { .tv_sec = 0 };

    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used), 0);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Lets the process have no more descriptors while a client waits. */
static void missing_descriptors_neither_kill_nor_spin(void **state UNUSED)
{
    const struct timespec pause = { .tv_nsec = 500L * 1000 * 1000 };
    struct rlimit before, none;
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct sockaddr_in where = { .sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                       .sin_port = htons(http_server_port(server)) };

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3; /* all of ours stay open; no new one can be made */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    double used = cpu_seconds();

    assert_int_equal(connect(client, (const struct sockaddr *)(const void *)&where, sizeof(where)),
                     0);
    say(client, "GET /small HTTP/1.1\r\n\r\n");
    (void)nanosleep(&pause, NULL);
    assert_true(cpu_seconds() - used < 0.1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_contains(hear(client), " 200 OK");
    (void)close(client);
}

static void bad_address_is_refused(void **state UNUSED)
{
    struct http_server *other = NULL;

    assert_refused(ERROR_INVALID_ARGUMENT,
                   http_server_start("nowhere", pages, ARRAY_LEN(pages), NULL, &other, &err));
    assert_null(other);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(pages_have_status_and_type),
        T(ipv6_is_served_at_the_same_port),
        T(other_requests_are_refused),
        T(huge_request_is_answered_and_ended),
        T(half_closed_client_gets_its_answer),
        T(slow_drip_ends_at_the_deadline),
        T(answer_that_nobody_reads_ends_at_the_deadline),
        T(one_network_keeps_only_its_share),
        T(full_house_serves_the_newcomer),
        T(crowd_takes_little_memory),
        T(missing_descriptors_neither_kill_nor_spin),
        T(bad_address_is_refused),
    };

    return RUN_TESTS(tests);
}
