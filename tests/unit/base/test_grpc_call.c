/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/grpc_call.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The server writes frames of HTTP/2 by hand. Answers of real ones: unit/upstream/test_node.c. */
enum {
    HEADERS = 1,
    DATA = 0,
    RST_STREAM = 3,
    SETTINGS = 4,
    PUSH_PROMISE = 5,
    PING = 6,
    GOAWAY = 7
};
enum { END_STREAM = 1, END_HEADERS = 4, ANSWER_BYTES = 64 };

static int client_fd, server_fd, caller_fd, caller_end;
static uint8_t script[1 << 17], bytes[ANSWER_BYTES];
static size_t script_len;
static struct grpc_answer answer;
static struct grpc_question question;
static struct error err;

static int setup(void **state UNUSED)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    client_fd = pair[0];
    server_fd = pair[1];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    caller_fd = pair[0];
    caller_end = pair[1];
    script_len = 0;
    answer = (struct grpc_answer){ .bytes = bytes, .size = sizeof(bytes) };
    question = (struct grpc_question){ .path = "/a.B/C",
                                       .deadline_ms = clock_now_ms() + 5000,
                                       .caller_fd = caller_fd };
    err = (struct error)ERROR_INIT;
    return 0;
}

static int teardown(void **state UNUSED)
{
    close(client_fd);
    close(server_fd);
    close(caller_fd);
    close(caller_end);
    return 0;
}

static void frame(uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len)
{
    const uint8_t head[] = { (uint8_t)(len >> 16),
                             (uint8_t)(len >> 8),
                             (uint8_t)len,
                             type,
                             flags,
                             (uint8_t)(stream >> 24),
                             (uint8_t)(stream >> 16),
                             (uint8_t)(stream >> 8),
                             (uint8_t)stream };

    assert_true(script_len + sizeof(head) + len <= sizeof(script));
    memcpy(script + script_len, head, sizeof(head));
    if (len > 0)
        memcpy(script + script_len + sizeof(head), payload, len);
    script_len += sizeof(head) + len;
}

/* One header, literal, without an index. */
static size_t header(uint8_t *at, const char *name, const char *value)
{
    size_t n = 0;

    at[n++] = 0;
    at[n++] = (uint8_t)strlen(name);
    memcpy(at + n, name, strlen(name));
    n += strlen(name);
    at[n++] = (uint8_t)strlen(value);
    memcpy(at + n, value, strlen(value));
    return n + strlen(value);
}

static void headers(void)
{
    uint8_t block[128] = { 0x88 }; /* :status 200 */
    size_t n = 1;

    n += header(block + n, "content-type", "application/grpc");
    frame(SETTINGS, 0, 0, NULL, 0);
    frame(HEADERS, END_HEADERS, 1, block, n);
}

static void trailers(const char *status, const char *text)
{
    uint8_t block[128];
    size_t n = header(block, "grpc-status", status);

    if (text)
        n += header(block + n, "grpc-message", text);
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block, n);
}

static void whole_answer(void)
{
    headers();
    frame(DATA, 0, 1, "\0\0\0\0\2hi", 7);
    trailers("0", NULL);
}

static bool run(void)
{
    assert_int_equal(write(server_fd, script, script_len), (ssize_t)script_len);
    return grpc_call_run(client_fd, &question, &answer, &err);
}

static bool run_and_end(void)
{
    assert_int_equal(write(server_fd, script, script_len), (ssize_t)script_len);
    (void)shutdown(server_fd, SHUT_WR);
    return grpc_call_run(client_fd, &question, &answer, &err);
}

static void an_answer_comes_with_its_bytes(void **state UNUSED)
{
    whole_answer();
    assert_ok(run());
    assert_int_equal(answer.status, 0);
    assert_int_equal(answer.len, 2);
    assert_memory_equal(bytes, "hi", 2);
}

static void an_answer_may_come_in_pieces(void **state UNUSED)
{
    headers();
    frame(DATA, 0, 1, "\0\0", 2);
    frame(DATA, 0, 1, "", 0);
    frame(PING, 0, 0, "12345678", 8);
    frame(DATA, 0, 1, "\0\0\2h", 4);
    frame(DATA, 0, 1, "i", 1);
    trailers("0", NULL);
    assert_ok(run());
    assert_int_equal(answer.len, 2);
    assert_memory_equal(bytes, "hi", 2);
}

static void a_status_comes_with_its_text(void **state UNUSED)
{
    headers();
    trailers("5", "no%20such thing");
    assert_ok(run());
    assert_int_equal(answer.status, 5);
    assert_string_equal(answer.text, "no%20such thing");
}

static void what_is_not_printable_is_replaced(void **state UNUSED)
{
    headers();
    trailers("13", "a\xc3\xa4\tb");
    assert_ok(run());
    assert_string_equal(answer.text, "a???b");
}

static void an_answer_without_a_status_is_none(void **state UNUSED)
{
    headers();
    frame(DATA, END_STREAM, 1, "\0\0\0\0\2hi", 7);
    assert_refused(ERROR_INTERNAL, run());
}

static void wrong_statuses_are_none(void **state UNUSED)
{
    static const char *const wrong[] = { "", "-1", "1x", "0000", "99999999999" };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        if (i > 0) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        headers();
        trailers(wrong[i], NULL);
        assert_refused(ERROR_INTERNAL, run());
    }
}

static void a_message_that_is_not_whole_is_refused(void **state UNUSED)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = { { "", 0 },
                 { "\0\0\0\0", 4 },
                 { "\0\0\0\0\3hi", 7 },
                 { "\0\0\0\0\1hi", 7 },
                 { "\1\0\0\0\2hi", 7 },
                 { "\0\xff\xff\xff\xffhi", 7 } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (i > 0) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        headers();
        frame(DATA, 0, 1, rows[i].bytes, rows[i].len);
        trailers("0", NULL);
        assert_refused(ERROR_INTERNAL, run());
    }
}

static void more_than_there_is_room_for_is_refused(void **state UNUSED)
{
    static const uint8_t much[5 + ANSWER_BYTES + 1] = { 0, 0, 0, 0, ANSWER_BYTES + 1 };

    headers();
    frame(DATA, 0, 1, much, sizeof(much));
    trailers("0", NULL);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, run());
}

static void the_end_of_the_connection_ends_the_call(void **state UNUSED)
{
    assert_refused(ERROR_UNAVAILABLE, run_and_end());
    (void)teardown(NULL);
    (void)setup(NULL);
    headers();
    assert_refused(ERROR_UNAVAILABLE, run_and_end());
    (void)teardown(NULL);
    (void)setup(NULL);
    close(server_fd);
    server_fd = -1;
    assert_refused(ERROR_UNAVAILABLE, grpc_call_run(client_fd, &question, &answer, &err));
}

static void a_stream_that_is_reset_ends_the_call(void **state UNUSED)
{
    headers();
    frame(RST_STREAM, 0, 1, "\0\0\0\7", 4);
    assert_refused(ERROR_UNAVAILABLE, run()); /* REFUSED_STREAM */
    (void)teardown(NULL);
    (void)setup(NULL);
    headers();
    frame(RST_STREAM, 0, 1, "\0\0\0\2", 4);
    assert_refused(ERROR_INTERNAL, run());
}

static void a_server_that_goes_away_ends_the_call(void **state UNUSED)
{
    frame(SETTINGS, 0, 0, NULL, 0);
    frame(GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
    assert_refused(ERROR_UNAVAILABLE, run());
}

static void what_is_no_http2_is_refused(void **state UNUSED)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\n\r\nno, no, no, no, no, no, no, no";

    memcpy(script, text, sizeof(text));
    script_len = sizeof(text);
    assert_false(run_and_end());
    assert_true(err.code == ERROR_INTERNAL || err.code == ERROR_UNAVAILABLE);
}

static void streams_of_the_server_are_refused(void **state UNUSED)
{
    uint8_t promise[64] = { 0, 0, 0, 2, 0x82, 0x84, 0x86 };

    headers();
    frame(PUSH_PROMISE, END_HEADERS, 1, promise, 7);
    trailers("0", NULL);
    assert_false(run_and_end());
}

static void a_slow_one_ends_at_the_deadline(void **state UNUSED)
{
    uint64_t began_ms = clock_now_ms();

    question.deadline_ms = began_ms + 200;
    headers();
    assert_refused(ERROR_DEADLINE_EXCEEDED, run());
    assert_in_range(clock_now_ms() - began_ms, 190, 2000);
}

static void a_caller_that_goes_ends_the_call(void **state UNUSED)
{
    close(caller_end);
    caller_end = -1;
    assert_refused(ERROR_CANCELLED, grpc_call_run(client_fd, &question, &answer, &err));
}

/* Reads, and answers nothing of use for as long as the client takes it. */
static void *flood(void *cookie UNUSED)
{
    uint8_t sink[4096];

    while (send(server_fd, script, script_len, MSG_NOSIGNAL) > 0)
        while (recv(server_fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
            ;
    return NULL;
}

static void check_flood(void)
{
    pthread_t thread;

    question.deadline_ms = clock_now_ms() + 60000;
    assert_int_equal(pthread_create(&thread, NULL, flood, NULL), 0);
    assert_false(grpc_call_run(client_fd, &question, &answer, &err));
    assert_int_not_equal(err.code, ERROR_DEADLINE_EXCEEDED);
    (void)shutdown(client_fd, SHUT_RDWR);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void an_endless_answer_is_cut_off(void **state UNUSED)
{
    frame(SETTINGS, 0, 0, NULL, 0);
    check_flood();
}

static void endless_pings_are_cut_off(void **state UNUSED)
{
    frame(SETTINGS, 0, 0, NULL, 0);
    frame(PING, 0, 0, "12345678", 8);
    check_flood();
}

/* The request, and what it must not be before the server gives room for it. */
static void *read_request(void *cookie)
{
    size_t *got = cookie;
    static uint8_t buffer[65536];
    ssize_t n;

    while ((n = recv(server_fd, buffer, sizeof(buffer), 0)) > 0)
        *got += (size_t)n;
    return NULL;
}

static void a_large_request_waits_for_room(void **state UNUSED)
{
    const size_t large = 200 * 1024;
    uint8_t *request = calloc(1, large);
    pthread_t thread;
    size_t got = 0;

    assert_non_null(request);
    question.request = request;
    question.len = large;
    frame(SETTINGS, 0, 0, NULL, 0);
    assert_int_equal(write(server_fd, script, script_len), (ssize_t)script_len);
    assert_int_equal(pthread_create(&thread, NULL, read_request, &got), 0);
    question.deadline_ms = clock_now_ms() + 300;
    assert_refused(ERROR_DEADLINE_EXCEEDED,
                   grpc_call_run(client_fd, &question, &answer, &err)); /* 64 KiB at first */
    (void)shutdown(client_fd, SHUT_RDWR);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(got, 65535, 66535);
    free(request);
}

/* The same numbers in every run. */
static size_t number_below(size_t limit)
{
    static uint64_t seed = 7;

    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (size_t)(seed >> 33) % limit;
}

static void noise_never_breaks_it(void **state UNUSED)
{
    for (int round = 0; round < 2000; round++) {
        if (round > 0) {
            (void)teardown(NULL);
            (void)setup(NULL);
        }
        whole_answer();
        for (int i = 0; i < 1 + round % 4; i++)
            script[number_below(script_len)] = (uint8_t)number_below(256);
        if (run_and_end() && answer.status == 0)
            assert_in_range(answer.len, 0, sizeof(bytes));
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_comes_with_its_bytes),
        TEST(an_answer_may_come_in_pieces),
        TEST(a_status_comes_with_its_text),
        TEST(what_is_not_printable_is_replaced),
        TEST(an_answer_without_a_status_is_none),
        TEST(wrong_statuses_are_none),
        TEST(a_message_that_is_not_whole_is_refused),
        TEST(more_than_there_is_room_for_is_refused),
        TEST(the_end_of_the_connection_ends_the_call),
        TEST(a_stream_that_is_reset_ends_the_call),
        TEST(a_server_that_goes_away_ends_the_call),
        TEST(what_is_no_http2_is_refused),
        TEST(streams_of_the_server_are_refused),
        TEST(a_slow_one_ends_at_the_deadline),
        TEST(a_caller_that_goes_ends_the_call),
        TEST(an_endless_answer_is_cut_off),
        TEST(endless_pings_are_cut_off),
        TEST(a_large_request_waits_for_room),
        TEST(noise_never_breaks_it),
    };

    return RUN_TESTS(tests);
}
