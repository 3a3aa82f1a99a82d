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

static void events_behind_the_end_do_not_count(void **state)
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
        /* right behind the first event, and within the zeros that could fill the table, is whole */
        if (cut.len != head)
            assert_false(replays(&cut, rtmr));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_log_replays_to_the_registers_of_its_quote),
        cmocka_unit_test(no_action_events_are_not_extended),
        cmocka_unit_test(an_event_twice_gives_another_value),
        cmocka_unit_test(events_behind_the_end_do_not_count),
        cmocka_unit_test(malformed_logs_are_refused),
        cmocka_unit_test(every_cut_inside_an_event_is_refused),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
