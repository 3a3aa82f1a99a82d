/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "policy/policy.h"
#include "tests/unit/policy/policy_text.h"

#include <stdio.h>

static void judged(const char *text, const struct tee_claims *tee, const char *reason,
                   const char *part)
{
    auto_policy struct policy *policy = policy_must(text);

    assert_judged(policy, &(struct principal){ .tee = tee }, NOW, reason, part);
}

static void fits(const char *text, const struct tee_claims *tee)
{
    auto_policy struct policy *policy = policy_must(text);

    (void)assert_fits(policy, &(struct principal){ .tee = tee }, NOW);
}

static void a_td_of_a_pinned_image_fits(void **state)
{
    auto_policy struct policy *policy = policy_must(TD_POLICY("", ANY_OWNER));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };
    const struct policy_rule *rule = assert_fits(policy, &who, NOW);

    (void)state;
    assert_string_equal(policy_rule_name(rule), "r");
    assert_string_equal(policy_rule_image(rule, &who, NOW), "i");
    assert_true(policy_may(rule, POLICY_OPEN));
}

static void a_caller_without_a_quote_is_not_attested(void **state)
{
    auto_policy struct policy *policy = policy_must(TD_POLICY("", ANY_OWNER));
    struct certificate_claims certificate = { .common_name = "n" };

    (void)state;
    assert_judged(policy, &(struct principal){ .tee = NULL }, NOW, "NotAttested", "quote");
    assert_judged(policy, &(struct principal){ .certificate = &certificate }, NOW, "NotAttested",
                  "rule r: ");
}

static void each_measurement_must_be_among_its_values(void **state)
{
    static const struct {
        size_t offset;
        const char *title;
    } rows[] = {
        { offsetof(struct td_claims, mrtd), "MRTD is 0b0b" },
        { offsetof(struct td_claims, rtmr[0]), "RTMR0 is 0b0b" },
        { offsetof(struct td_claims, rtmr[1]), "RTMR1 is 0b0b" },
        { offsetof(struct td_claims, rtmr[2]), "RTMR2 is 0b0b" },
        { offsetof(struct td_claims, rtmr[3]), "RTMR3 is 0b0b" },
        { offsetof(struct td_claims, mrconfigid), "MRCONFIGID is 0b0b" },
        { offsetof(struct td_claims, mrowner), "MROWNER is 0b0b" },
        { offsetof(struct td_claims, mrownerconfig), "MROWNERCONFIG is 0b0b" },
        { offsetof(struct td_claims, mrseam), "MRSEAM is 0b0b" },
    };
    static const char all[] = POLICY("'images':{'i':{" IMAGE ",'rtmr0':['" ZEROS "'],'rtmr3':['" OWN
                                     "','" ZEROS "'],'mrconfigid':['" ZEROS "'],'mrowner':['" ZEROS
                                     "'],'mrownerconfig':['" ZEROS "'],'mrseam':['" ZEROS "']}}",
                                     TD_RULE("r", "", ANY_OWNER));
    struct tee_claims tee = fitting_td();

    (void)state;
    fits(all, &tee);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        tee = fitting_td();
        set_measurement((uint8_t *)&tee.td + rows[i].offset, OTHER);
        judged(all, &tee, "Measurement", rows[i].title);
    }
}

static void a_measurement_that_is_not_pinned_does_not_matter(void **state)
{
    struct tee_claims tee = fitting_td();

    (void)state;
    set_measurement(tee.td.rtmr[0], OTHER);
    set_measurement(tee.td.rtmr[3], OTHER);
    set_measurement(tee.td.mrseam, OTHER);
    set_measurement(tee.td.mrconfigid, OTHER);
    fits(TD_POLICY("", ANY_OWNER), &tee);
}

static void values_of_two_images_do_not_mix(void **state)
{
    static const char text[] =
        POLICY("'images':{'old':{" IMAGE "},'new':{'mrtd':['" MRTD "'],'rtmr1':['" OTHER
               "'],'rtmr2':['" OWN "']}}",
               "{'name':'r','td':{'images':['old','new']}," ANY_OWNER "," REST "}");
    auto_policy struct policy *policy = policy_must(text);
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };

    (void)state;
    assert_string_equal(policy_rule_image(assert_fits(policy, &who, NOW), &who, NOW), "old");
    set_measurement(tee.td.rtmr[2], OWN);
    assert_judged(policy, &who, NOW, "Measurement", "image");
    set_measurement(tee.td.rtmr[1], OTHER);
    assert_string_equal(policy_rule_image(assert_fits(policy, &who, NOW), &who, NOW), "new");
}

static void an_image_ends_at_its_until(void **state)
{
    auto_policy struct policy *policy =
        policy_must(POLICY("'images':{'old':{" IMAGE ",'until':'2026-11-23T00:00:00Z'}}",
                           "{'name':'r','td':{'images':['old']}," ANY_OWNER "," REST "}"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };
    int64_t now = 0;

    (void)state;
    assert_true(clock_parse("2026-11-23T00:00:00Z", &now));
    assert_int_equal(now, NOW);
    (void)assert_fits(policy, &who, NOW - 1);
    assert_judged(policy, &who, NOW, "ImageExpired", "image \"old\"");
    assert_judged(policy, &who, NOW + 1, "ImageExpired", "until");
}

static void a_current_image_is_preferred_to_an_ended_image(void **state)
{
    auto_policy struct policy *policy = policy_must(
        POLICY("'images':{'old':{" IMAGE ",'until':'2020-01-01T00:00:00Z'},'new':{" IMAGE "}}",
               "{'name':'r','td':{'images':['old','new']}," ANY_OWNER "," REST "}"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };

    (void)state;
    assert_string_equal(policy_rule_image(assert_fits(policy, &who, NOW), &who, NOW), "new");
}

static void debug_is_refused_with_any_mask(void **state)
{
    struct tee_claims tee = fitting_td();

    (void)state;
    tee.td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    judged(TD_POLICY("", ANY_OWNER), &tee, "TdDebug", "debug mode");
    judged(TD_POLICY(",'attributes':{'required':'0x0','allowed':'0xfffffffedffffffe'}", ANY_OWNER),
           &tee, "TdDebug", "debug mode");
}

static void attributes_are_those_of_the_mask(void **state)
{
    static const uint64_t refused[] = { 0, TD_ATTRIBUTE_PKS,
                                        TD_ATTRIBUTE_SEPT_VE_DISABLE | 1ull << 63,
                                        TD_ATTRIBUTE_SEPT_VE_DISABLE | 2 };
    static const char paravisor[] =
        TD_POLICY(",'attributes':{'required':'0x0','allowed':'0x8000000000000000'}", ANY_OWNER);
    struct tee_claims tee = fitting_td();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        tee.td.td_attributes = refused[i];
        judged(TD_POLICY("", ANY_OWNER), &tee, "TdAttributes", "the rule requires 0x10000000");
    }
    tee.td.td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE | TD_ATTRIBUTE_PKS | TD_ATTRIBUTE_LASS;
    fits(TD_POLICY("", ANY_OWNER), &tee);
    tee.td.td_attributes = 0;
    fits(paravisor, &tee);
    tee.td.td_attributes = 1ull << 63;
    fits(paravisor, &tee);
    tee.td.td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE;
    judged(paravisor, &tee, "TdAttributes", "allows 0x8000000000000000");
}

static void xfam_is_the_images_or_within_the_default(void **state)
{
    static const char pinned[] =
        POLICY("'images':{'i':{" IMAGE ",'xfam':['0xe7','0x602e7']}}", TD_RULE("r", "", ANY_OWNER));
    struct tee_claims tee = fitting_td();

    (void)state;
    fits(pinned, &tee);
    tee.td.xfam = 0x618e7;
    fits(TD_POLICY("", ANY_OWNER), &tee);
    judged(pinned, &tee, "TdXfam", "0x618e7");
    tee.td.xfam = 0x602e5; /* without SSE */
    judged(TD_POLICY("", ANY_OWNER), &tee, "TdXfam", "0x602e5");
    tee.td.xfam = 0x10602e7;
    judged(TD_POLICY("", ANY_OWNER), &tee, "TdXfam", "0x10602e7");
}

static void a_service_td_must_be_named(void **state)
{
    static const char named[] =
        TD_POLICY(",'service_tds':['" OWN "'],'attributes':{'allowed':'0x30000000'}", ANY_OWNER);
    struct tee_claims tee = fitting_td();

    (void)state;
    tee.td.has_service_td = true;
    set_measurement(tee.td.mrservicetd, OWN);
    judged(TD_POLICY("", ANY_OWNER), &tee, "TdServiceTd", "does not name it");
    fits(named, &tee);
    tee.td.td_attributes |= TD_ATTRIBUTE_MIGRATABLE;
    fits(named, &tee);
    set_measurement(tee.td.mrservicetd, OTHER);
    judged(named, &tee, "TdServiceTd", "does not name it");
    /* a service TD may be bound later, after this quote */
    tee.td.has_service_td = false;
    judged(named, &tee, "TdServiceTd", "can migrate");
}

static void platforms_and_sgx_types_are_those_of_the_rule(void **state)
{
    static const char pinned[] = TD_POLICY(",'platforms':['" PLATFORM_ID "']", ANY_OWNER);
    struct tee_claims tee = fitting_td();

    (void)state;
    judged(pinned, &tee, "Platform", "has no platform id");
    tee.td.has_platform_id = true;
    judged(pinned, &tee, "Platform", "platform 0000");
    for (size_t i = 0; i < PLATFORM_ID_LEN; i++)
        tee.td.platform_id[i] = (uint8_t)(i * 0x11);
    fits(pinned, &tee);
    judged(TD_POLICY(",'minimum_sgx_type':2", ANY_OWNER), &tee, "Platform", "SGX type 1");
    tee.td.sgx_type = 2;
    fits(TD_POLICY(",'minimum_sgx_type':2", ANY_OWNER), &tee);
}

static void every_status_except_up_to_date_is_refused_with_its_own_word(void **state)
{
    static const struct {
        enum tcb_status status;
        const char *reason;
    } rows[] = {
        { TCB_SW_HARDENING_NEEDED, "TcbSwHardeningNeeded" },
        { TCB_CONFIGURATION_NEEDED, "TcbConfigurationNeeded" },
        { TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED, "TcbConfigurationNeeded" },
        { TCB_OUT_OF_DATE, "TcbOutOfDate" },
        { TCB_OUT_OF_DATE_CONFIGURATION_NEEDED, "TcbOutOfDate" },
        { TCB_REVOKED, "TcbRevoked" },
        { TCB_RELAUNCH_ADVISED, "TcbRelaunchAdvised" },
        { TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED, "TcbRelaunchAdvised" },
        { TCB_NOT_SUPPORTED, "TcbNotSupported" },
    };
    struct tee_claims tee = fitting_td();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        tee.td.tcb_status = rows[i].status;
        judged(TD_POLICY("", ANY_OWNER), &tee, rows[i].reason, "no exception for it");
    }
}

#define EXCEPTIONS(x) TD_POLICY(",'tcb':{'exceptions':[" x "]}", ANY_OWNER)
#define EXCEPTION(status, advisories, rest) \
    "{'status':'" status "','advisories':[" advisories "]" rest "}"

static void advise(struct tee_claims *tee, const char *advisory)
{
    (void)snprintf(tee->td.advisories[tee->td.n_advisories++], CLAIMS_ADVISORY_MAX + 1, "%s",
                   advisory);
}

static void an_exception_holds_only_for_its_status_advisories_and_dates(void **state)
{
    static const char text[] =
        EXCEPTIONS(EXCEPTION("OutOfDate", "'INTEL-SA-1','INTEL-SA-2'",
                             ",'date_from':'2026-11-22T23:00:00Z','until':'2026-11-23T00:00:10Z'"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };
    auto_policy struct policy *policy = policy_must(text);

    (void)state;
    tee.td.tcb_status = TCB_OUT_OF_DATE;
    tee.td.tcb_date = NOW - 3600;
    advise(&tee, "INTEL-SA-2");
    (void)assert_fits(policy, &who, NOW);
    (void)assert_fits(policy, &who, NOW + 9);
    assert_judged(policy, &who, NOW + 10, "TcbOutOfDate", "has ended");
    tee.td.tcb_date = NOW - 3601;
    assert_judged(policy, &who, NOW, "TcbOutOfDate", "older than the exception's date_from");
    tee.td.tcb_date = NOW;
    advise(&tee, "INTEL-SA-12");
    assert_judged(policy, &who, NOW, "TcbOutOfDate", "does not list advisory INTEL-SA-12");
    tee.td.n_advisories = 0;
    (void)assert_fits(policy, &who, NOW);
    tee.td.tcb_status = TCB_OUT_OF_DATE_CONFIGURATION_NEEDED;
    assert_judged(policy, &who, NOW, "TcbOutOfDate", "no exception for it");
    tee.td.tcb_status = TCB_REVOKED;
    assert_judged(policy, &who, NOW, "TcbRevoked", "no exception for it");
}

static void an_exception_without_advisories_covers_none(void **state)
{
    static const char text[] =
        EXCEPTIONS(EXCEPTION("TDRelaunchAdvised", "", ",'until':'2027-01-01T00:00:00Z'"));
    struct tee_claims tee = fitting_td();

    (void)state;
    tee.td.tcb_status = TCB_RELAUNCH_ADVISED;
    fits(text, &tee);
    advise(&tee, "INTEL-SA-1");
    judged(text, &tee, "TcbRelaunchAdvised", "INTEL-SA-1");
}

static void the_second_exception_for_a_status_counts_too(void **state)
{
    static const char text[] =
        EXCEPTIONS(EXCEPTION("OutOfDate", "", ",'until':'2020-01-01T00:00:00Z'") "," EXCEPTION(
            "OutOfDate", "", ",'until':'2027-01-01T00:00:00Z'"));
    struct tee_claims tee = fitting_td();

    (void)state;
    tee.td.tcb_status = TCB_OUT_OF_DATE;
    fits(text, &tee);
}

static void old_evaluation_data_is_refused(void **state)
{
    static const char text[] = TD_POLICY(",'tcb':{'minimum_evaluation':18}", ANY_OWNER);
    struct tee_claims tee = fitting_td();

    (void)state;
    fits(text, &tee);
    tee.td.qe_evaluation_number = 17;
    judged(text, &tee, "EvaluationTooLow", "18 (TCB info) and 17 (QE identity)");
    tee.td.qe_evaluation_number = 18;
    tee.td.tcb_evaluation_number = 17;
    judged(text, &tee, "EvaluationTooLow", "17 (TCB info) and 18 (QE identity)");
}

static void a_wanted_event_log_must_be_sent(void **state)
{
    struct tee_claims tee = fitting_td();

    (void)state;
    judged(TD_POLICY(",'event_log':true", ANY_OWNER), &tee, "EventLogMissing", "none was sent");
    fits(TD_POLICY(",'event_log':false", ANY_OWNER), &tee);
    tee.td.has_event_log = true;
    fits(TD_POLICY(",'event_log':true", ANY_OWNER), &tee);
}

static void a_rule_with_match_and_td_wants_both(void **state)
{
    static const char text[] =
        POLICY(IMAGES, "{'name':'r','match':{'certificate.cn':'n'},'td':{'images':['i']}," ANY_OWNER
                       "," REST "}");
    auto_policy struct policy *policy = policy_must(text);
    struct certificate_claims n = { .common_name = "n" }, m = { .common_name = "m" };
    struct tee_claims tee = fitting_td();

    (void)state;
    (void)assert_fits(policy, &(struct principal){ .certificate = &n, .tee = &tee }, NOW);
    assert_judged(policy, &(struct principal){ .tee = &tee }, NOW, "NoRule", "client CA");
    assert_judged(policy, &(struct principal){ .certificate = &m, .tee = &tee }, NOW, "NoRule",
                  "certificate.cn is \"m\"");
    assert_judged(policy, &(struct principal){ .certificate = &n }, NOW, "NotAttested", "quote");
}

static void the_rule_that_came_furthest_gives_the_reason(void **state)
{
    static const char text[] = POLICY(
        "'images':{'i':{" IMAGE "},'j':{'mrtd':['" OTHER "'],'mrconfigid':['" OWN "']}}",
        "{'name':'first','td':{'images':['j']}," ANY_OWNER "," REST
        "}," TD_RULE("second", ",'event_log':true", ANY_OWNER) "," TD_RULE(
            "third", "",
            "'owner':{'mrowner':['" OWN
            "']}") ","
                   "{'name':'admin','match':{'certificate.cn':'a'},'tenant':'t','may':['admin'],"
                   "'volumes':['*']}");
    auto_policy struct policy *policy = policy_must(text);
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };

    (void)state;
    assert_judged(policy, &who, NOW, "OwnerMismatch", "rule third: MROWNER");
    tee.td.tcb_status = TCB_OUT_OF_DATE;
    assert_judged(policy, &who, NOW, "TcbOutOfDate", "rule second: ");
    set_measurement(tee.td.mrtd, OTHER);
    assert_judged(policy, &who, NOW, "Measurement", "rule first: MRCONFIGID");
}

struct traced {
    size_t steps, refused;
    char text[8192];
};

static void on_step(void *cookie, const char *rule, const char *check, bool ok, const char *detail)
{
    struct traced *t = cookie;
    size_t len = strlen(t->text);

    t->steps++;
    t->refused += !ok;
    assert_int_equal(ok, detail == NULL);
    (void)snprintf(t->text + len, sizeof(t->text) - len, "%s %s %s %s\n", rule,
                   ok ? "ok" : "REFUSED", check, detail ? detail : "");
}

static void a_trace_shows_every_check_of_every_rule(void **state)
{
    static const char text[] = POLICY(
        IMAGES, TD_RULE("a", ",'event_log':true", "'owner':{'mrowner':['" OWN "']}") "," TD_RULE(
                    "b", "", ANY_OWNER) "," TD_RULE("c", "", ANY_OWNER));
    auto_policy struct policy *policy = policy_must(text);
    struct tee_claims tee = fitting_td();
    struct traced traced = { .steps = 0 };
    const struct policy_trace trace = { .step = on_step, .cookie = &traced };
    const struct policy_rule *rule = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(policy_judge(policy, &(struct principal){ .tee = &tee }, NOW, &trace, &rule, &err));
    assert_string_equal(policy_rule_name(rule), "b");
    assert_int_equal(traced.refused, 2);
    assert_contains(traced.text, "a ok attested");
    assert_contains(traced.text, "a ok MRTD");
    assert_contains(traced.text, "a REFUSED event log the rule wants the event log");
    assert_contains(traced.text, "a REFUSED owner's MROWNER MROWNER is 0000");
    assert_contains(traced.text, "b ok TCB");
    assert_contains(traced.text, "c ok TCB");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_td_of_a_pinned_image_fits),
        cmocka_unit_test(a_caller_without_a_quote_is_not_attested),
        cmocka_unit_test(each_measurement_must_be_among_its_values),
        cmocka_unit_test(a_measurement_that_is_not_pinned_does_not_matter),
        cmocka_unit_test(values_of_two_images_do_not_mix),
        cmocka_unit_test(an_image_ends_at_its_until),
        cmocka_unit_test(a_current_image_is_preferred_to_an_ended_image),
        cmocka_unit_test(debug_is_refused_with_any_mask),
        cmocka_unit_test(attributes_are_those_of_the_mask),
        cmocka_unit_test(xfam_is_the_images_or_within_the_default),
        cmocka_unit_test(a_service_td_must_be_named),
        cmocka_unit_test(platforms_and_sgx_types_are_those_of_the_rule),
        cmocka_unit_test(every_status_except_up_to_date_is_refused_with_its_own_word),
        cmocka_unit_test(an_exception_holds_only_for_its_status_advisories_and_dates),
        cmocka_unit_test(an_exception_without_advisories_covers_none),
        cmocka_unit_test(the_second_exception_for_a_status_counts_too),
        cmocka_unit_test(old_evaluation_data_is_refused),
        cmocka_unit_test(a_wanted_event_log_must_be_sent),
        cmocka_unit_test(a_rule_with_match_and_td_wants_both),
        cmocka_unit_test(the_rule_that_came_furthest_gives_the_reason),
        cmocka_unit_test(a_trace_shows_every_check_of_every_rule),
    };

    return RUN_TESTS(tests);
}
