/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/event_log.h"
#include "tests/unit/attest/log.h"
#include "tests/unit/attest/vectors.h"

#include <stdlib.h>
#include <string.h>

static void real_log_replays_to_the_registers_of_its_quote(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t rtmr[4][MEASUREMENT_LEN];
    struct quote quote;
    size_t log_len = 0, quote_len = 0;

    (void)state;
    NEEDS_VECTORS;
    char *log = vector_file("eventlog/ccel_ccel_data.dat", &log_len);
    char *bytes = vector_file("eventlog/ccel_cos-113-tdx-quote.dat", &quote_len);
    assert_true(quote_parse((const uint8_t *)bytes, quote_len, &quote, &err));
    assert_true(event_log_replay((const uint8_t *)log, log_len, rtmr, &err));
    for (size_t i = 0; i < 4; i++)
        assert_memory_equal(rtmr[i], quote.td.rtmr[i], MEASUREMENT_LEN);
    free(log);
    free(bytes);
}

static bool replays(const struct log *l, uint8_t rtmr[4][MEASUREMENT_LEN])
{
    struct error err = ERROR_INIT;
    bool ok = event_log_replay(l->bytes, l->len, rtmr, &err);

    assert_true(ok || (err.code == ERROR_INVALID_ARGUMENT && err.text[0] != '\0'));
    return ok;
}

static void real_log_does_not_replay_to_another_quote(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t rtmr[4][MEASUREMENT_LEN];
    struct quote quote;
    size_t log_len = 0, quote_len = 0;

    (void)state;
    NEEDS_VECTORS;
    char *log = vector_file("eventlog/ccel_ccel_data.dat", &log_len);
    char *bytes = vector_file("quotes/A-v4-uptodate-b0c06f/quote.bin", &quote_len);
    assert_true(quote_parse((const uint8_t *)bytes, quote_len, &quote, &err));
    assert_true(event_log_replay((const uint8_t *)log, log_len, rtmr, &err));
    for (size_t i = 0; i < 3; i++) /* neither uses the fourth */
        assert_memory_not_equal(rtmr[i], quote.td.rtmr[i], MEASUREMENT_LEN);
    free(log);
    free(bytes);
}

static void no_action_events_are_not_extended(void **state)
{
    struct log l = { .len = 0 };
    uint8_t rtmr[4][MEASUREMENT_LEN], zero[MEASUREMENT_LEN] = { 0 };

    (void)state;
    log_put_spec_id(&l);
    log_put_event(&l, 1, 3, 1);
    log_put_event(&l, 2, 4, 1);
    assert_true(replays(&l, rtmr));
    assert_memory_equal(rtmr[0], zero, sizeof(zero));
    assert_memory_not_equal(rtmr[1], zero, sizeof(zero));
}

static void an_event_twice_gives_another_value(void **state)
{
    struct log l = { .len = 0 };
    uint8_t once[4][MEASUREMENT_LEN], twice[4][MEASUREMENT_LEN];

    (void)state;
    log_put_spec_id(&l);
    log_put_event(&l, 4, 4, 1);
    assert_true(replays(&l, once));
    log_put_event(&l, 4, 4, 1);
    assert_true(replays(&l, twice));
    assert_memory_not_equal(once[3], twice[3], MEASUREMENT_LEN);
}

static void events_after_the_end_do_not_count(void **state)
{
    struct log l = { .len = 0 };
    uint8_t before[4][MEASUREMENT_LEN], after[4][MEASUREMENT_LEN];

    (void)state;
    log_put_spec_id(&l);
    log_put_event(&l, 1, 4, 1);
    assert_true(replays(&l, before));
    log_put_u32(&l, 0xffffffff);
    log_put_event(&l, 1, 4, 1);
    assert_true(replays(&l, after));
    assert_memory_equal(before, after, sizeof(before));
}

static void malformed_logs_are_refused(void **state)
{
    struct log l = { .len = 0 };
    uint8_t rtmr[4][MEASUREMENT_LEN];

    (void)state;
    log_put_event(&l, 1, 4, 1);
    assert_false(replays(&l, rtmr)); /* no Spec ID event */
    l.len = 0;
    log_put_spec_id(&l);
    log_put_event(&l, 5, 4, 1);
    assert_false(replays(&l, rtmr)); /* no such register */
    l.len = 0;
    log_put_spec_id(&l);
    log_put_event(&l, 1, 4, 0);
    assert_false(replays(&l, rtmr));
    l.len = 0;
    log_put_spec_id(&l);
    log_put_event(&l, 1, 4, 0x80000000u);
    assert_false(replays(&l, rtmr));
}

/* Overwrites one field in the log's only event. */
static void events_with_a_wrong_field_are_refused(void **state)
{
    static const struct {
        const char *name;
        size_t at; /* from the start of the event */
        uint32_t value;
    } cases[] = {
        { "register 5", 0, 5 },
        { "register -2", 0, 0xfffffffe },
        { "no digests", 8, 0 },
        { "nine digests", 8, 9 },
        { "2^31 digests", 8, 0x80000000 },
        { "-1 digests", 8, 0xffffffff },
        { "two digests, but one is there", 8, 2 },
        { "SHA-256, which the log does not declare", 12, 0x0100000b },
        { "algorithm 0", 12, 0x01000000 },
        { "data of one byte more", 62, 3 },
        { "data of 2^31 bytes", 62, 0x80000000 },
        { "data of -1 bytes", 62, 0xffffffff },
    };
    uint8_t rtmr[4][MEASUREMENT_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct log l = { .len = 0 };

        log_put_spec_id(&l);
        size_t event = l.len;
        log_put_event(&l, 1, 4, 1);
        assert_true(replays(&l, rtmr));
        struct log field = { .len = 0 };
        log_put_u32(&field, cases[i].value);
        memcpy(l.bytes + event + cases[i].at, field.bytes, field.len);
        if (replays(&l, rtmr))
            fail_msg("%s", cases[i].name);
    }
}

static void spec_id_events_with_a_wrong_field_are_refused(void **state)
{
    static const struct {
        const char *name;
        size_t at;
        uint32_t value;
    } cases[] = {
        { "another type", 4, 4 },
        { "data of -1 bytes", 28, 0xffffffff },
        { "data that ends early", 28, 20 },
        { "another signature", 32, 0x43455053 }, /* "SPEC" */
        { "no algorithms", 56, 0 },
        { "nine algorithms", 56, 9 },
        { "-1 algorithms", 56, 0xffffffff },
        { "more algorithms than are there", 56, 2 },
        { "SHA-384 of 32 bytes", 60, 0x0020000c },
    };
    uint8_t rtmr[4][MEASUREMENT_LEN];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct log l = { .len = 0 }, field = { .len = 0 };

        log_put_spec_id(&l);
        log_put_event(&l, 1, 4, 1);
        assert_true(replays(&l, rtmr));
        log_put_u32(&field, cases[i].value);
        memcpy(l.bytes + cases[i].at, field.bytes, field.len);
        if (replays(&l, rtmr))
            fail_msg("%s", cases[i].name);
    }
}

static void an_endless_log_is_refused_unread(void **state)
{
    const size_t len = 64u * 1024 * 1024;
    uint8_t rtmr[4][MEASUREMENT_LEN];
    struct error err = ERROR_INIT;
    struct log l = { .len = 0 };

    (void)state;
    uint8_t *bytes = calloc(1, len);
    assert_non_null(bytes);
    log_put_spec_id(&l);
    log_put_event(&l, 1, 4, 1);
    memcpy(bytes, l.bytes, l.len);
    assert_true(event_log_replay(bytes, EVENT_LOG_LEN_MAX, rtmr, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   event_log_replay(bytes, EVENT_LOG_LEN_MAX + 1, rtmr, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, event_log_replay(bytes, len, rtmr, &err));
    free(bytes);
}

static void too_many_events_are_refused(void **state)
{
    uint8_t rtmr[4][MEASUREMENT_LEN];
    struct error err = ERROR_INIT;
    struct log head = { .len = 0 }, event = { .len = 0 };

    (void)state;
    log_put_spec_id(&head);
    log_put_event(&event, 1, 4, 1);
    uint8_t *bytes = malloc(head.len + (EVENT_COUNT_MAX + 1) * event.len);
    assert_non_null(bytes);
    memcpy(bytes, head.bytes, head.len);
    for (size_t i = 0; i <= EVENT_COUNT_MAX; i++)
        memcpy(bytes + head.len + i * event.len, event.bytes, event.len);
    assert_true(event_log_replay(bytes, head.len + EVENT_COUNT_MAX * event.len, rtmr, &err));
    assert_refused(
        ERROR_INVALID_ARGUMENT,
        event_log_replay(bytes, head.len + (EVENT_COUNT_MAX + 1) * event.len, rtmr, &err));
    free(bytes);
}

/* A replay proves only digests: changed data replays, a changed digest does not. */
static void a_replay_proves_only_digests(void **state)
{
    uint8_t before[4][MEASUREMENT_LEN], after[4][MEASUREMENT_LEN];
    struct log l = { .len = 0 };

    (void)state;
    log_put_spec_id(&l);
    size_t event = l.len;
    log_put_event(&l, 2, 4, 1);
    assert_true(replays(&l, before));
    l.bytes[l.len - 1] ^= 1;
    assert_true(replays(&l, after));
    assert_memory_equal(before, after, sizeof(before));
    for (size_t i = 0; i < MEASUREMENT_LEN; i++) {
        l.bytes[event + 14 + i] ^= 1;
        assert_true(replays(&l, after));
        assert_memory_not_equal(before[1], after[1], MEASUREMENT_LEN);
        l.bytes[event + 14 + i] ^= 1;
    }
}

static void order_of_events_counts(void **state)
{
    uint8_t one[4][MEASUREMENT_LEN], other[4][MEASUREMENT_LEN];
    struct log l = { .len = 0 }, first = { .len = 0 }, second = { .len = 0 };

    (void)state;
    log_put_event(&first, 1, 4, 1);
    log_put_event(&second, 1, 4, 1);
    second.bytes[20] ^= 1;
    log_put_spec_id(&l);
    size_t head = l.len;
    memcpy(l.bytes + head, first.bytes, first.len);
    memcpy(l.bytes + head + first.len, second.bytes, second.len);
    l.len = head + first.len + second.len;
    assert_true(replays(&l, one));
    memcpy(l.bytes + head, second.bytes, second.len);
    memcpy(l.bytes + head + second.len, first.bytes, first.len);
    assert_true(replays(&l, other));
    assert_memory_not_equal(one[0], other[0], MEASUREMENT_LEN);
}

static void every_cut_inside_an_event_is_refused(void **state)
{
    struct log l = { .len = 0 };
    uint8_t rtmr[4][MEASUREMENT_LEN];

    (void)state;
    log_put_spec_id(&l);
    size_t head = l.len;
    log_put_event(&l, 1, 4, 1);
    struct log cut = l;
    for (cut.len = 0; cut.len < l.len; cut.len++)
        /* a log that ends after the first event is whole */
        if (cut.len != head)
            assert_false(replays(&cut, rtmr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_log_replays_to_the_registers_of_its_quote),
        cmocka_unit_test(real_log_does_not_replay_to_another_quote),
        cmocka_unit_test(no_action_events_are_not_extended),
        cmocka_unit_test(an_event_twice_gives_another_value),
        cmocka_unit_test(events_after_the_end_do_not_count),
        cmocka_unit_test(order_of_events_counts),
        cmocka_unit_test(a_replay_proves_only_digests),
        cmocka_unit_test(malformed_logs_are_refused),
        cmocka_unit_test(events_with_a_wrong_field_are_refused),
        cmocka_unit_test(spec_id_events_with_a_wrong_field_are_refused),
        cmocka_unit_test(an_endless_log_is_refused_unread),
        cmocka_unit_test(too_many_events_are_refused),
        cmocka_unit_test(every_cut_inside_an_event_is_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
