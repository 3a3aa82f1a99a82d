/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/claims.h"
#include "attest/event_log.h"
#include "base/digest.h"
#include "tests/unit/attest/log.h"
#include "tests/unit/attest/vectors.h"

#include <stdlib.h>

/* A quote's fields as if it had been verified: each register is filled with its own byte. */
struct sample {
    uint8_t bytes[16][MEASUREMENT_LEN];
    uint8_t report_data[REPORT_DATA_LEN], quote[64];
    struct verified_quote verified;
    struct collateral collateral;
};

static void sample_make(struct sample *s)
{
    *s = (struct sample){ .collateral = { .root = NULL } };
    for (size_t i = 0; i < ARRAY_LEN(s->bytes); i++)
        for (size_t k = 0; k < MEASUREMENT_LEN; k++)
            s->bytes[i][k] = (uint8_t)(i + 1);
    s->report_data[63] = 99;
    s->quote[63] = 7;
    s->verified = (struct verified_quote){
        .quote = { .version = 5,
                   .signed_bytes = s->quote,
                   .signed_len = 16,
                   .pck_chain_pem = (const char *)s->quote + 32,
                   .pck_chain_len = 30,
                   .td = { .tee_tcb_svn = s->bytes[0],
                           .mrseam = s->bytes[1],
                           .td_attributes = 0x10000000,
                           .xfam = 0xe7,
                           .mrtd = s->bytes[2],
                           .mrconfigid = s->bytes[3],
                           .mrowner = s->bytes[4],
                           .mrownerconfig = s->bytes[5],
                           .rtmr = { s->bytes[6], s->bytes[7], s->bytes[8], s->bytes[9] },
                           .report_data = s->report_data } },
        .platform = { .fmspc = { 1, 2, 3 }, .sgx_type = 2 },
        .tcb = { .status = TCB_OUT_OF_DATE,
                 .date = 1234,
                 .advisories = { .ids = { "INTEL-SA-1", "INTEL-SA-2" }, .n = 2 } },
        .tcb_evaluation_number = 18,
        .qe_evaluation_number = 17,
    };
    s->collateral.sha256[0] = 0xcc;
    s->collateral.tcb.next_update = 500;
    s->collateral.qe.next_update = 400;
    s->collateral.crls.until = 600;
    s->collateral.signers.until = 700;
}

static bool claims_of(const struct sample *s, const struct log *log, struct tee_claims *out,
                      struct error *err)
{
    return tee_claims_from_td(&s->verified, &s->collateral, log ? log->bytes : NULL,
                              log ? log->len : 0, out, err);
}

static void everything_is_copied_out(void **state)
{
    struct sample s;
    struct tee_claims claims;
    struct error err = ERROR_INIT;
    uint8_t digest[32];

    (void)state;
    sample_make(&s);
    assert_ok(sha256(s.quote, 62, digest, &err));
    assert_ok(claims_of(&s, NULL, &claims, &err));
    const struct sample kept = s;
    s = (struct sample){ .collateral = { .root = NULL } }; /* claims must not point into it */

    assert_int_equal(claims.kind, TEE_TDX);
    assert_memory_equal(claims.td.mrseam, kept.bytes[1], MEASUREMENT_LEN);
    assert_memory_equal(claims.td.mrtd, kept.bytes[2], MEASUREMENT_LEN);
    assert_memory_equal(claims.td.mrconfigid, kept.bytes[3], MEASUREMENT_LEN);
    assert_memory_equal(claims.td.mrowner, kept.bytes[4], MEASUREMENT_LEN);
    assert_memory_equal(claims.td.mrownerconfig, kept.bytes[5], MEASUREMENT_LEN);
    for (size_t i = 0; i < 4; i++)
        assert_memory_equal(claims.td.rtmr[i], kept.bytes[6 + i], MEASUREMENT_LEN);
    assert_memory_equal(claims.quote_sha256, digest, 32);
    assert_int_equal(claims.collateral_sha256[0], 0xcc);
    assert_int_equal(claims.td.td_attributes, 0x10000000);
    assert_int_equal(claims.td.xfam, 0xe7);
    assert_int_equal(claims.td.fmspc[2], 3);
    assert_int_equal(claims.td.sgx_type, 2);
    assert_false(claims.td.has_platform_id);
    assert_false(claims.td.has_service_td);
    assert_false(claims.td.has_event_log);
    assert_int_equal(claims.td.tcb_status, TCB_OUT_OF_DATE);
    assert_int_equal(claims.td.tcb_date, 1234);
    assert_int_equal(claims.td.n_advisories, 2);
    assert_string_equal(claims.td.advisories[1], "INTEL-SA-2");
    assert_int_equal(claims.td.tcb_evaluation_number, 18);
    assert_int_equal(claims.td.qe_evaluation_number, 17);
    assert_int_equal(claims.collateral_until, 400);
}

static void a_service_td_of_zeros_is_none(void **state)
{
    static const uint8_t zeros[MEASUREMENT_LEN];
    struct sample s;
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    (void)state;
    sample_make(&s);
    s.verified.quote.td.mrservicetd = zeros;
    assert_ok(claims_of(&s, NULL, &claims, &err));
    assert_false(claims.td.has_service_td);
    s.verified.quote.td.mrservicetd = s.bytes[11];
    assert_ok(claims_of(&s, NULL, &claims, &err));
    assert_true(claims.td.has_service_td);
    assert_memory_equal(claims.td.mrservicetd, s.bytes[11], MEASUREMENT_LEN);
}

static void an_advisory_that_does_not_fit_is_refused_not_cut(void **state)
{
    struct sample s;
    struct tee_claims claims = { .td.xfam = 77 };
    struct error err = ERROR_INIT;

    (void)state;
    sample_make(&s);
    s.verified.tcb.advisories.ids[1] = "INTEL-SA-0123456789-0123456789-1";
    assert_refused(ERROR_DENIED, claims_of(&s, NULL, &claims, &err));
    assert_string_equal(err.reason, "CollateralMalformed");
    assert_int_equal(claims.td.xfam, 77);
    sample_make(&s);
    s.verified.tcb.has_more = true;
    assert_refused(ERROR_DENIED, claims_of(&s, NULL, &claims, &err));
    assert_string_equal(err.reason, "CollateralMalformed");
}

/* A log whose RTMR3 has n events, and registers to match. */
static void log_make(struct log *log, size_t n, struct sample *s)
{
    uint8_t rtmr[4][MEASUREMENT_LEN];
    struct error err = ERROR_INIT;

    *log = (struct log){ .len = 0 };
    log_put_spec_id(log);
    log_put_event(log, 1, 4, 1);
    log_put_event(log, 4, EVENT_NO_ACTION, 1);
    for (size_t i = 0; i < n; i++)
        log_put_event(log, 4, 4, 1);
    assert_ok(event_log_replay(log->bytes, log->len, rtmr, &err));
    for (size_t i = 0; i < 4; i++)
        memcpy(s->bytes[6 + i], rtmr[i], MEASUREMENT_LEN);
}

static void the_events_of_a_log_that_replays_are_kept(void **state)
{
    struct sample s;
    struct log log;
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    (void)state;
    sample_make(&s);
    log_make(&log, CLAIMS_EVENTS_MAX, &s);
    assert_ok(claims_of(&s, &log, &claims, &err));
    assert_true(claims.td.has_event_log);
    assert_int_equal(claims.td.n_events, CLAIMS_EVENTS_MAX); /* only events that extended RTMR3 */
    for (size_t i = 0; i < MEASUREMENT_LEN; i++)
        assert_int_equal(claims.td.events[CLAIMS_EVENTS_MAX - 1][i], i);
}

static void a_log_that_does_not_replay_is_refused(void **state)
{
    struct sample s;
    struct log log;
    struct tee_claims claims = { .td.xfam = 77 };
    struct error err = ERROR_INIT;

    (void)state;
    sample_make(&s);
    log_make(&log, 1, &s);
    for (size_t i = 0; i < 4; i++) {
        s.bytes[6 + i][47] ^= 1;
        assert_refused(ERROR_DENIED, claims_of(&s, &log, &claims, &err));
        assert_string_equal(err.reason, "EventLogMismatch");
        s.bytes[6 + i][47] ^= 1;
    }
    log.len -= 3;
    assert_refused(ERROR_DENIED, claims_of(&s, &log, &claims, &err));
    assert_string_equal(err.reason, "EventLogMalformed");
    log.len = 0;
    assert_refused(ERROR_DENIED, claims_of(&s, &log, &claims, &err));
    assert_string_equal(err.reason, "EventLogMalformed");
    log_make(&log, CLAIMS_EVENTS_MAX + 1, &s);
    assert_refused(ERROR_DENIED, claims_of(&s, &log, &claims, &err));
    assert_string_equal(err.reason, "EventLogMalformed");
    assert_contains(err.text, "more than 16");
    assert_int_equal(claims.td.xfam, 77);
}

static void a_real_quote_gives_its_claims(void **state)
{
    struct vector_set set;
    struct quote quote;
    struct verified_quote verified;
    struct tee_claims claims;
    struct error err = ERROR_INIT;
    uint8_t zeros[32] = { 0 };

    (void)state;
    NEEDS_VECTORS;
    vector_set_load("D-v5-td15-outofdate-servicetd-90c06f", &set);
    assert_ok(quote_parse((const uint8_t *)set.quote, set.quote_len, &quote, &err));
    const struct verify_request request = { .quote = &quote,
                                            .collateral = &set.collateral,
                                            .now = set.check_time };
    assert_ok(quote_verify(&request, &verified, &err));
    assert_ok(tee_claims_from_td(&verified, &set.collateral, NULL, 0, &claims, &err));
    assert_memory_equal(claims.td.mrtd, verified.quote.td.mrtd, MEASUREMENT_LEN);
    assert_int_equal(claims.td.tcb_status, TCB_OUT_OF_DATE);
    assert_true(claims.td.has_service_td);
    assert_true(claims.td.n_advisories > 0);
    assert_memory_not_equal(claims.collateral_sha256, zeros, 32);
    assert_int_equal(claims.collateral_until, collateral_next_update(&set.collateral));
    vector_set_free(&set);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_copied_out),
        cmocka_unit_test(a_service_td_of_zeros_is_none),
        cmocka_unit_test(an_advisory_that_does_not_fit_is_refused_not_cut),
        cmocka_unit_test(the_events_of_a_log_that_replays_are_kept),
        cmocka_unit_test(a_log_that_does_not_replay_is_refused),
        cmocka_unit_test(a_real_quote_gives_its_claims),
    };

    return RUN_TESTS(tests);
}
