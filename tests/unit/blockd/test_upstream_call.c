/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/operation.h"
#include "blockd/place.h"
#include "blockd/upstream_call.h"
#include "blockd/worker.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>

/* What a front may do that was taken over: it says what it likes in protobuf. */
#define DIR "/k/up"

static struct block_request request;
static struct device_place place;
static struct volume_name name;
static struct secret out;
static size_t len;
static struct error err;

static int setup(void **state UNUSED)
{
    request = (struct block_request){ .operation = BLOCK_UPSTREAM_CALL, .volume_id = "vol" };
    request.upstream =
        (struct block_upstream){ .method = BLOCK_NODE_PUBLISH, .access_mode = 1, .stages = true };
    err = (struct error)ERROR_INIT;
    out = (struct secret)SECRET_INIT;
    assert_ok(volume_name_make("d", "vol", &name, &err) && place_of(DIR, &name, &place, &err));
    return 0;
}

static int teardown(void **state UNUSED)
{
    secret_wipe(&out);
    return 0;
}

static bool compose(const void *body, size_t body_len)
{
    secret_wipe(&out);
    err = (struct error)ERROR_INIT;
    request.upstream.body_len = (uint32_t)body_len;
    return upstream_compose(&request, &name, DIR, body, &out, &len, &err);
}

/* The bytes of one field of text, as in protobuf. */
static size_t text_field(uint8_t *at, uint8_t number, const char *text)
{
    at[0] = (uint8_t)(number << 3 | 2);
    at[1] = (uint8_t)strlen(text);
    for (size_t i = 0; text[i]; i++)
        at[2 + i] = (uint8_t)text[i];
    return 2 + strlen(text);
}

/* How often the request has exactly this field. */
static size_t count(uint8_t number, const char *text)
{
    uint8_t field[256];
    size_t n = text_field(field, number, text), found = 0;

    for (size_t at = 0; at + n <= len; at++)
        found += memcmp(out.bytes + at, field, n) == 0;
    return found;
}

static bool has_bytes(const char *text)
{
    return memmem(out.bytes, len, text, strlen(text)) != NULL;
}

static void the_volume_and_its_places_are_ours_to_say(void **state UNUSED)
{
    uint8_t body[256];
    size_t n = text_field(body, 1, "other");

    n += text_field(body + n, 4, "/etc");
    n += text_field(body + n, 3, "/var");
    n += text_field(body + n, 5, "\x12\x06\x0a\x04xfsx"); /* a file system */
    n += text_field(body + n, 2, "context");
    n += text_field(body + n, 4, "/bin"); /* the last one counts for readers */
    assert_ok(compose(body, n));
    assert_int_equal(count(1, "vol"), 1);
    assert_int_equal(count(3, place.stage), 1);
    assert_int_equal(count(4, place.device), 1);
    assert_int_equal(count(2, "context"), 1);
    assert_false(has_bytes("other") || has_bytes("/etc") || has_bytes("/var") ||
                 has_bytes("/bin") || has_bytes("xfsx"));
    assert_memory_equal(out.bytes + len - 8, "\x2a\x06\x0a\x00\x1a\x02\x08\x01", 8);
}

static void each_method_has_its_own_numbers(void **state UNUSED)
{
    static const struct {
        enum block_upstream_method method;
        uint8_t stage, device, capability;
    } rows[] = { { BLOCK_NODE_STAGE, 3, 0, 4 },
                 { BLOCK_NODE_PUBLISH, 3, 4, 5 },
                 { BLOCK_NODE_UNPUBLISH, 0, 2, 0 },
                 { BLOCK_NODE_UNSTAGE, 2, 0, 0 },
                 { BLOCK_NODE_EXPAND, 4, 2, 5 } };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        request.upstream.method = rows[i].method;
        assert_ok(compose(NULL, 0));
        assert_int_equal(count(1, "vol"), 1);
        assert_int_equal(has_bytes(place.stage), rows[i].stage != 0);
        assert_int_equal(has_bytes(place.device), rows[i].device != 0);
        assert_int_equal(rows[i].stage && count(rows[i].stage, place.stage) != 1, 0);
        assert_int_equal(rows[i].device && count(rows[i].device, place.device) != 1, 0);
        assert_int_equal(memmem(out.bytes, len, "\x0a\x00\x1a\x02\x08\x01", 6) != NULL,
                         rows[i].capability != 0);
    }
}

static void a_driver_that_does_not_stage_gets_no_staging_place(void **state UNUSED)
{
    request.upstream.stages = false;
    assert_ok(compose(NULL, 0));
    assert_false(has_bytes(place.stage));
    assert_int_equal(count(4, place.device), 1);
}

static void what_could_swallow_our_fields_is_refused(void **state UNUSED)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = {
        { "\x12", 1 },                      /* a field without its length */
        { "\x12\x7f\x41", 3 },              /* longer than what is there */
        { "\x80", 1 },                      /* an endless number */
        { "\x08", 1 },                      /* a number that is missing */
        { "\x11\x01\x02", 3 },              /* half of eight bytes */
        { "\x15\x01\x02", 3 },              /* half of four bytes */
        { "\x13", 1 },                      /* a group */
        { "\x14", 1 },                      /* the end of one */
        { "\x17\x00", 2 },                  /* no such type */
        { "\x02\x00", 2 },                  /* field 0 */
        { "\xa2\x00\x01x", 4 },             /* field 4, its tag in too many bytes */
        { "\xa2\x80\x80\x80\x10\x01x", 7 }, /* field 4 for who reads 32 bits of it */
        { "\x12\x81\x00x", 4 },             /* a length in too many bytes */
        { "\x12\x81\x80\x80\x80\x10x", 7 }, /* a length beyond 32 bits */
        { "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11 }, /* a number beyond 64 bits */
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (compose(rows[i].bytes, rows[i].len))
            fail_msg("row %zu", i);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_null(out.bytes);
    }
}

static void fields_of_later_versions_stay(void **state UNUSED)
{
    static const uint8_t body[] = "\xa0\x38\x05\xf9\x01\x01\x02\x03\x04\x05\x06\x07\x08";

    assert_ok(compose(body, sizeof(body) - 1));
    assert_non_null(memmem(out.bytes, len, body, sizeof(body) - 1));
}

static void questions_have_no_body(void **state UNUSED)
{
    for (int m = BLOCK_GET_PLUGIN_INFO; m <= BLOCK_NODE_GET_INFO; m++) {
        request.upstream.method = (uint32_t)m;
        assert_ok(compose(NULL, 0));
        assert_int_equal(len, 0);
        assert_refused(ERROR_INVALID_ARGUMENT, compose("\x0a\x01x", 3));
    }
}

static void access_modes_are_small(void **state UNUSED)
{
    request.upstream.access_mode = 128;
    assert_refused(ERROR_INVALID_ARGUMENT, compose(NULL, 0));
}

static void what_takes_a_device_away_is_known(void **state UNUSED)
{
    for (int m = 1; m < BLOCK_UPSTREAM_METHOD_COUNT; m++) {
        assert_non_null(block_upstream_path((enum block_upstream_method)m));
        assert_int_equal(upstream_takes_away((enum block_upstream_method)m),
                         m == BLOCK_NODE_UNPUBLISH || m == BLOCK_NODE_UNSTAGE);
    }
    assert_null(block_upstream_path((enum block_upstream_method)0));
    assert_null(block_upstream_path(BLOCK_UPSTREAM_METHOD_COUNT));
}

static void an_operation_makes_its_own_calls_alone(void **state UNUSED)
{
    const struct worker_config config = { .upstream = "/none", .upstream_dir = DIR };
    struct worker worker = { .config = &config, .front_fd = -1, .request = &request };
    struct block_result result;

    for (uint32_t m = 0; m < BLOCK_UPSTREAM_METHOD_COUNT; m++) {
        operation_fn *wrong =
            m >= BLOCK_NODE_STAGE ? operation_upstream_read : operation_upstream_call;

        request.upstream.method = m;
        assert_refused(ERROR_INVALID_ARGUMENT, wrong(&worker, &result, &err));
    }
    request.upstream.method = 0;
    assert_refused(ERROR_INVALID_ARGUMENT, operation_upstream_read(&worker, &result, &err));
}

static void without_a_driver_nothing_is_asked(void **state UNUSED)
{
    const struct worker_config config = { .upstream = NULL };
    struct worker worker = { .config = &config, .front_fd = -1, .request = &request };
    struct block_result result;

    request.upstream.method = BLOCK_PROBE_PLUGIN;
    assert_refused(ERROR_FAILED_PRECONDITION, operation_upstream_read(&worker, &result, &err));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_volume_and_its_places_are_ours_to_say),
        TEST(each_method_has_its_own_numbers),
        TEST(a_driver_that_does_not_stage_gets_no_staging_place),
        TEST(what_could_swallow_our_fields_is_refused),
        TEST(fields_of_later_versions_stay),
        TEST(questions_have_no_body),
        TEST(access_modes_are_small),
        TEST(what_takes_a_device_away_is_known),
        TEST(an_operation_makes_its_own_calls_alone),
        TEST(without_a_driver_nothing_is_asked),
    };

    return RUN_TESTS(tests);
}
