/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http_request.h"
#include "tests/unit/test.h"

static struct http_request request;

static enum http_head parse(const char *text)
{
    return http_request_parse(text, strlen(text), &request);
}

static void path_and_method_are_found(void **state UNUSED)
{
    assert_int_equal(parse("GET /healthz HTTP/1.1\r\nHost: x\r\nA:\r\n\r\nrest"), HTTP_HEAD_WHOLE);
    assert_true(request.is_get);
    assert_int_equal(request.path_len, 8);
    assert_memory_equal(request.path, "/healthz", 8);
    assert_int_equal(parse("HEAD / HTTP/1.0\n\n"), HTTP_HEAD_WHOLE);
    assert_false(request.is_get);
    assert_int_equal(request.path_len, 1);
}

static void query_is_cut_off(void **state UNUSED)
{
    assert_int_equal(parse("GET /metrics?a=/b HTTP/1.1\r\n\r\n"), HTTP_HEAD_WHOLE);
    assert_int_equal(request.path_len, 8);
}

static void every_beginning_is_incomplete(void **state UNUSED)
{
    static const char text[] = "GET /readyz HTTP/1.1\r\nHost: a\tb\r\n\r\n";

    for (size_t len = 0; len < sizeof(text) - 1; len++)
        assert_int_equal(http_request_parse(text, len, &request), HTTP_HEAD_INCOMPLETE);
    assert_int_equal(parse(text), HTTP_HEAD_WHOLE);
}

static void other_things_are_bad(void **state UNUSED)
{
    static const char *const bad[] = {
        "\r\n",
        "\r\nGET / HTTP/1.1\r\n\r\n",
        "GET\r\n",
        "GET /\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET  / HTTP/1.1\r\n",
        " / HTTP/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "GET x HTTP/1.1\r\n",
        "GET http://x/ HTTP/1.1\r\n",
        "GET /\x01 HTTP/1.1\r\n",
        "GET /\xc3\xa4 HTTP/1.1\r\n",
        "PRI * HTTP/2.0\r\n",
        "\x16\x03\x01\n",
        "GET / HTTP/1.1\r\nno colon\r\n",
        "GET / HTTP/1.1\r\n: x\r\n",
        "GET / HTTP/1.1\r\nA : x\r\n",
        "GET / HTTP/1.1\r\nA: x\r\n folded: y\r\n",
        "GET / HTTP/1.1\r\nA: x\ry\r\n",
        "GET / HTTP/1.1\r\nA: \x7f\r\n",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse(bad[i]) != HTTP_HEAD_BAD)
            fail_msg("\"%s\" is not bad", bad[i]);
    assert_int_equal(http_request_parse("GET / HTTP/1.1\r\nA: \0\r\n", 22, &request),
                     HTTP_HEAD_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(path_and_method_are_found),
        cmocka_unit_test(query_is_cut_off),
        cmocka_unit_test(every_beginning_is_incomplete),
        cmocka_unit_test(other_things_are_bad),
    };

    return RUN_TESTS(tests);
}
