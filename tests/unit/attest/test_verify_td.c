/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

static void debug_td_is_refused_with_any_other_attributes(void **state)
{
    static const uint64_t others[] = { 0, TD_ATTRIBUTE_SEPT_VE_DISABLE,
                                       TD_ATTRIBUTE_SEPT_VE_DISABLE | TD_ATTRIBUTE_PKS,
                                       ~(uint64_t)0 };

    (void)state;
    for (uint16_t version = 4; version <= 5; version++)
        for (size_t i = 0; i < ARRAY_LEN(others); i++) {
            auto_scene struct scene *s = scene_new();

            s->td.version = version;
            s->td.body_type = 3;
            s->td.td_attributes = others[i] | TD_ATTRIBUTE_DEBUG;
            expect_verdict("debug", scene_run(s), "TdDebug");
        }
}

/* Each of the 64 bits, together with the bit that must be set. */
static void attributes_beyond_the_usual_are_refused(void **state)
{
    static const uint64_t allowed =
        TD_ATTRIBUTE_SEPT_VE_DISABLE | TD_ATTRIBUTE_PKS | TD_ATTRIBUTE_LASS;

    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        auto_scene struct scene *s = scene_new();
        const char *wanted = bit == 0 ? "TdDebug" : allowed >> bit & 1u ? "" : "TdAttributes";
        char name[32];

        s->td.td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE | 1ull << bit;
        (void)snprintf(name, sizeof(name), "attribute %u", bit);
        expect_verdict(name, scene_run(s), wanted);
    }
}

static void td_without_sept_ve_disable_is_refused(void **state)
{
    static const uint64_t attributes[] = { 0, TD_ATTRIBUTE_PKS, TD_ATTRIBUTE_LASS };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
        auto_scene struct scene *s = scene_new();

        s->td.td_attributes = attributes[i];
        expect_verdict("no SEPT_VE_DISABLE", scene_run(s), "TdAttributes");
    }
}

static void xfam_beyond_the_usual_is_refused(void **state)
{
    static const uint64_t seen[] = { 0x602e7, 0x642e7, 0x61ae7, 0x600e7, 0x618e7, 0x207 };
    static const uint64_t allowed = 0x6dbe7;
    auto_scene struct scene *s = scene_new();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(seen); i++) {
        s->td.xfam = seen[i];
        expect_verdict("seen on real machines", scene_run(s), "");
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        char name[32];

        s->td.xfam = 0x3 | 1ull << bit;
        (void)snprintf(name, sizeof(name), "XFAM bit %u", bit);
        expect_verdict(name, scene_run(s), allowed >> bit & 1u ? "" : "TdXfam");
    }
    for (uint64_t low = 0; low < 3; low++) {
        s->td.xfam = (allowed & ~3ull) | low;
        expect_verdict("x87 or SSE missing", scene_run(s), "TdXfam");
    }
}

static void service_td_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->td.version = 5;
    s->td.body_type = 3;
    for (size_t i = 0; i < MEASUREMENT_LEN; i++) {
        s->td.mrservicetd[i] = 1;
        expect_verdict("MRSERVICETD", scene_run(s), "TdServiceTd");
        s->td.mrservicetd[i] = 0;
    }
    expect_verdict("none", scene_run(s), "");
}

/* A policy compares fields, so each field must come from its own place in the quote. */
static void fields_of_the_td_are_those_that_were_signed(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct sim_td *td = &s->td;
    const struct td_report *got = &s->verified.quote.td;
    uint8_t *const fields[] = { td->mrseam,  td->mrtd,    td->mrconfigid,
                                td->mrowner, td->rtmr[0], td->rtmr[1],
                                td->rtmr[2], td->rtmr[3], td->mrownerconfig };

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(fields); f++)
        for (size_t i = 0; i < MEASUREMENT_LEN; i++)
            fields[f][i] = (uint8_t)(f * 16 + i);
    for (size_t i = 0; i < REPORT_DATA_LEN; i++)
        td->report_data[i] = (uint8_t)(255 - i);
    td->version = 5;
    td->body_type = 3;
    td->tee_tcb_svn2[0] = 9;
    expect_verdict("before", scene_run(s), "");
    const uint8_t *const wanted_order[] = { got->mrseam,  got->mrtd,    got->mrconfigid,
                                            got->mrowner, got->rtmr[0], got->rtmr[1],
                                            got->rtmr[2], got->rtmr[3], got->mrownerconfig };
    for (size_t f = 0; f < ARRAY_LEN(fields); f++)
        assert_memory_equal(wanted_order[f], fields[f], MEASUREMENT_LEN);
    assert_memory_equal(got->report_data, td->report_data, REPORT_DATA_LEN);
    assert_memory_equal(got->tee_tcb_svn, td->tee_tcb_svn, TCB_SVN_LEN);
    assert_memory_equal(got->tee_tcb_svn2, td->tee_tcb_svn2, TCB_SVN_LEN);
    assert_true(got->td_attributes == td->td_attributes && got->xfam == td->xfam);
}

/* A refusal leaves the caller's result unchanged. */
static void refused_quote_writes_no_result(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    expect_verdict("before", scene_run(s), "");
    const struct verified_quote before = s->verified;
    s->td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    expect_verdict("debug", scene_run(s), "TdDebug");
    assert_memory_equal(&s->verified, &before, sizeof(before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(debug_td_is_refused_with_any_other_attributes),
        cmocka_unit_test(attributes_beyond_the_usual_are_refused),
        cmocka_unit_test(td_without_sept_ve_disable_is_refused),
        cmocka_unit_test(xfam_beyond_the_usual_is_refused),
        cmocka_unit_test(service_td_is_refused),
        cmocka_unit_test(fields_of_the_td_are_those_that_were_signed),
        cmocka_unit_test(refused_quote_writes_no_result),
    };

    return RUN_TESTS(tests);
}
