/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/event_log.h"
#include "attest/tsm.h"
#include "base/secret.h"
#include "tests/unit/attest/log.h"
#include "tests/unit/attest/scene.h"

#include <stdlib.h>

/* What the kernel may answer, and which answers leave the process that asked. */

static struct error err;
static const uint8_t asked[REPORT_DATA_LEN] = { 1, 2, 3 };

/* The scene's quote over the bytes in asked, and a log. */
static struct evidence evidence_of(struct scene *s, const struct log *log)
{
    struct evidence evidence = { .quote = malloc(QUOTE_LEN_MAX) };

    assert_non_null(evidence.quote);
    memcpy(s->td.report_data, asked, sizeof(asked));
    scene_sign(s);
    memcpy(evidence.quote, s->quote, s->quote_len);
    evidence.quote_len = s->quote_len;
    if (log && log->len > 0) {
        evidence.event_log = malloc(log->len);
        assert_non_null(evidence.event_log);
        memcpy(evidence.event_log, log->bytes, log->len);
        evidence.event_log_len = log->len;
    }
    return evidence;
}

static void log_make(struct log *log, struct scene *s)
{
    uint8_t rtmr[4][MEASUREMENT_LEN];

    *log = (struct log){ .len = 0 };
    log_put_spec_id(log);
    log_put_event(log, 1, 4, 1);
    log_put_event(log, 3, 4, 1);
    assert_ok(event_log_replay(log->bytes, log->len, rtmr, &err));
    for (size_t i = 0; i < ARRAY_LEN(rtmr); i++)
        memcpy(s->td.rtmr[i], rtmr[i], MEASUREMENT_LEN);
}

static void a_quote_over_the_asked_report_data_is_accepted(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    auto_evidence struct evidence evidence = evidence_of(s, NULL);

    assert_ok(tsm_check(&evidence, asked, &err));
    assert_int_equal(evidence.log_fault.code, ERROR_NONE);
    bytes_wipe(evidence.quote + evidence.quote_len, 100); /* hosts append zeros */
    evidence.quote_len += 100;
    assert_ok(tsm_check(&evidence, asked, &err));
}

static void a_quote_over_other_report_data_is_refused(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    auto_evidence struct evidence evidence = evidence_of(s, NULL);
    uint8_t other[REPORT_DATA_LEN];

    memcpy(other, asked, sizeof(other));
    for (size_t i = 0; i < sizeof(other); i++) {
        other[i] ^= 1;
        assert_refused(ERROR_UNAVAILABLE, tsm_check(&evidence, other, &err));
        assert_string_equal(err.reason, ATTESTER_REASON);
        assert_contains(err.text, "another request");
        other[i] ^= 1;
    }
}

static void bytes_that_are_no_quote_are_refused(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    auto_evidence struct evidence evidence = evidence_of(s, NULL);

    evidence.quote[0] = 9;
    assert_refused(ERROR_UNAVAILABLE, tsm_check(&evidence, asked, &err));
    assert_string_equal(err.reason, ATTESTER_REASON);
    evidence.quote[0] = 4;
    evidence.quote_len -= 1;
    assert_refused(ERROR_UNAVAILABLE, tsm_check(&evidence, asked, &err));
    evidence.quote_len = 0;
    assert_refused(ERROR_UNAVAILABLE, tsm_check(&evidence, asked, &err));
    assert_contains(err.text, "empty");
}

static void a_debug_td_is_refused(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();

    s->td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    auto_evidence struct evidence evidence = evidence_of(s, NULL);
    assert_refused(ERROR_FAILED_PRECONDITION, tsm_check(&evidence, asked, &err));
    assert_string_equal(err.reason, ATTESTER_REASON);
}

static void a_log_that_replays_to_the_registers_fits(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct log log;

    log_make(&log, s);
    auto_evidence struct evidence evidence = evidence_of(s, &log);
    evidence.log_fault.code = ERROR_INTERNAL;
    assert_ok(tsm_check(&evidence, asked, &err));
    assert_int_equal(evidence.log_fault.code, ERROR_NONE);
}

/* The quote is still good. The log stays in the evidence, so that a caller can show it. */
static void a_log_that_does_not_fit_is_marked(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct log log;

    log_make(&log, s);
    s->td.rtmr[2][47] ^= 1;
    auto_evidence struct evidence evidence = evidence_of(s, &log);
    assert_ok(tsm_check(&evidence, asked, &err));
    assert_string_equal(evidence.log_fault.reason, "EventLogMismatch");
    evidence.event_log_len -= 3;
    assert_ok(tsm_check(&evidence, asked, &err));
    assert_string_equal(evidence.log_fault.reason, "EventLogMalformed");
    assert_non_null(evidence.event_log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_quote_over_the_asked_report_data_is_accepted),
        cmocka_unit_test(a_quote_over_other_report_data_is_refused),
        cmocka_unit_test(bytes_that_are_no_quote_are_refused),
        cmocka_unit_test(a_debug_td_is_refused),
        cmocka_unit_test(a_log_that_replays_to_the_registers_fits),
        cmocka_unit_test(a_log_that_does_not_fit_is_marked),
    };

    return RUN_TESTS(tests);
}
