/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_wire.h"
#include "tests/unit/test.h"

#include <string.h>

static void a_prefix_is_read_as_written(void **state)
{
    static const size_t lengths[] = { 0, 1, 255, 256, 65536, UINT32_MAX };
    uint8_t bytes[GRPC_WIRE_PREFIX_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        grpc_wire_write_prefix(lengths[i], bytes);
        assert_true(grpc_wire_read_prefix(bytes).len == lengths[i]);
        assert_false(grpc_wire_read_prefix(bytes).is_compressed);
    }
    bytes[0] = 1;
    assert_true(grpc_wire_read_prefix(bytes).is_compressed);
}

static void timeouts_become_milliseconds(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = { { "1H", 3600000 }, { "2M", 120000 }, { "3S", 3000 },
                 { "250m", 250 },   { "1u", 1 },      { "1001u", 2 },
                 { "999999n", 1 },  { "0n", 0 },      { "99999999H", 359999996400000 } };
    uint64_t ms = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(grpc_wire_read_timeout(good[i].text, strlen(good[i].text), &ms));
        assert_true(ms == good[i].ms);
    }
}

static void other_timeouts_are_refused(void **state)
{
    static const char *const bad[] = { "",    "S",   "1",    "1s",  "-1S",
                                       "+1S", "1 S", "1.5S", "1SS", "123456789S" };
    uint64_t ms = 7;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(grpc_wire_read_timeout(bad[i], strlen(bad[i]), &ms));
    assert_true(ms == 7);
}

static void only_grpc_is_grpc(void **state)
{
    static const char *const good[] = { "application/grpc", "application/grpc+proto",
                                        "application/grpc;charset=utf-8" };
    static const char *const bad[] = { "", "application/grp", "application/grpc-web",
                                       "application/json", "text/application/grpc" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_true(grpc_wire_is_content_type(good[i], strlen(good[i])));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(grpc_wire_is_content_type(bad[i], strlen(bad[i])));
}

static void messages_are_escaped(void **state)
{
    static const char text[] = "100% \xE2\x82\xAC~\n\x7F";
    char out[GRPC_WIRE_ESCAPED_MAX(sizeof(text))];
    size_t len = grpc_wire_escape(text, sizeof(text) - 1, out);

    (void)state;
    assert_int_equal(len, strlen("100%25 %E2%82%AC~%0A%7F"));
    assert_memory_equal(out, "100%25 %E2%82%AC~%0A%7F", len);
}

static void messages_are_read_back(void **state)
{
    static const struct {
        const char *text, *read;
    } rows[] = { { "", "" },        { "100%25 %E2%82%AC~%0A%7F", "100% \xE2\x82\xAC~\n\x7F" },
                 { "%e2", "\xE2" }, { "%", "%" },
                 { "%4", "%4" },    { "%4g", "%4g" },
                 { "%%41", "%A" },  { "a%00b", "a?b" } };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        grpc_wire_unescape(rows[i].text, strlen(rows[i].text), out);
        assert_string_equal(out, rows[i].read);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_is_read_as_written),
        cmocka_unit_test(timeouts_become_milliseconds),
        cmocka_unit_test(other_timeouts_are_refused),
        cmocka_unit_test(only_grpc_is_grpc),
        cmocka_unit_test(messages_are_escaped),
        cmocka_unit_test(messages_are_read_back),
    };

    return RUN_TESTS(tests);
}
