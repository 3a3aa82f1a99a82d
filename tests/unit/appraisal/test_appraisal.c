/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"
#include "tests/unit/appraisal/vouching.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <time.h>

static struct vouching v;
static struct broker_evidence shown;
static struct appraisal a;
static struct error err;
static char said[APPRAISAL_TEXT];

static int set_up(void **state UNUSED)
{
    vouching_make(&v);
    a = (struct appraisal){ .nonce = { 1 }, .key_sha256 = { 2 }, .now = time(NULL) };
    a.root = sim_pki_root(v.pki);
    a.policy = (struct bytes_view){ (const uint8_t *)v.policy, strlen(v.policy) };
    return 0;
}

static int tear_down(void **state UNUSED)
{
    broker_evidence_free(&shown);
    vouching_free(&v);
    return 0;
}

/* What the broker shows now, for the appraisal's nonce and key. */
static void show(void)
{
    broker_evidence_free(&shown);
    vouching_show(&v, a.nonce, a.key_sha256, &shown);
    a.quote = (struct bytes_view){ shown.bytes, shown.size.quote };
    a.collateral = (struct bytes_view){ shown.bytes + shown.size.quote, shown.size.collateral };
    a.event_log = (struct bytes_view){ NULL, 0 };
}

static bool judge(void)
{
    err = (struct error)ERROR_INIT;
    return appraisal_judge(&a, said, &err);
}

static void assert_refused_for(const char *word, const char *advice)
{
    assert_refused(ERROR_DENIED, judge());
    assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    assert_contains(err.text, word);
    assert_contains(err.text, advice);
}

static void a_broker_of_the_right_image_is_accepted(void **state UNUSED)
{
    show();
    assert_ok(judge());
    assert_string_equal(said, "rule brokers, image broker-1");
}

static void an_old_quote_is_refused(void **state UNUSED)
{
    show();
    a.nonce[31] ^= 1;
    assert_refused_for(": ReportData:", "an old quote");
}

static void a_quote_for_another_key_is_refused(void **state UNUSED)
{
    show();
    a.key_sha256[0] ^= 1;
    assert_refused_for(": ReportData:", "for another key");
}

static void another_image_is_refused(void **state UNUSED)
{
    v.td.rtmr[2][0] ^= 1;
    show();
    assert_refused_for(": Measurement:", "compare what runs as the broker");
}

static void a_debug_td_is_refused(void **state UNUSED)
{
    v.td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    show();
    assert_refused_for(": TdDebug:", "compare what runs as the broker");
}

static void a_changed_quote_is_refused(void **state UNUSED)
{
    show();
    shown.bytes[200] ^= 1;
    assert_refused(ERROR_DENIED, judge());
    assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
}

static void a_quote_of_another_root_is_refused(void **state UNUSED)
{
    struct sim_pki *other = sim_pki_new();

    show();
    a.root = sim_pki_root(other);
    assert_refused_for("RootUnknown", "compare what runs as the broker");
    sim_pki_free(other);
}

static void collateral_that_has_expired_is_refused(void **state UNUSED)
{
    show();
    a.now = v.tcb.next_update + 1;
    assert_refused(ERROR_DENIED, judge());
    assert_contains(err.text, "Expired");
    assert_contains(err.text, "renew the broker's collateral");
    v.tcb.issued = time(NULL) + 3600;
    a.now = time(NULL);
    vouching_publish(&v);
    show();
    assert_refused_for(": CollateralNotYetValid:", "compare the clocks");
}

static void a_revoked_platform_is_refused(void **state UNUSED)
{
    uint8_t serials[1][20];

    sim_machine_serial(v.machine, serials[0]);
    v.tcb.revoked_serials = (const uint8_t(*)[20])serials;
    v.tcb.n_revoked = 1;
    vouching_publish(&v);
    show();
    assert_refused_for(": PckCertRevoked:", "");
}

static void a_platform_that_is_out_of_date_is_refused(void **state UNUSED)
{
    v.platform.tcb_svn[0] = 0;
    v.td.tee_tcb_svn[0] = 0;
    sim_machine_free(v.machine);
    v.machine = sim_machine_new(v.pki, &v.platform);
    show();
    assert_refused_for(": Tcb", "update the broker's platform");
}

static void without_collateral_it_says_who_must_have_it(void **state UNUSED)
{
    show();
    a.collateral.len = 0;
    assert_refused_for(": CollateralMissing:", "give the broker the collateral");
    a.collateral = (struct bytes_view){ (const uint8_t *)"{\"version\":1,\"sets\":[]}", 23 };
    assert_refused_for(": CollateralMissing:", "give the broker the collateral");
    v.tcb.fmspc[0] ^= 1;
    vouching_publish(&v);
    show();
    assert_refused_for(": CollateralMissing:", "give the broker the collateral");
}

static void collateral_that_is_none_is_refused(void **state UNUSED)
{
    static const char *const texts[] = { "{", "[]", "{\"version\":2,\"sets\":[]}",
                                         "{\"version\":1,\"sets\":[{}]}" };

    show();
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        a.collateral = (struct bytes_view){ (const uint8_t *)texts[i], strlen(texts[i]) };
        assert_refused_for(": Collateral", "renew the broker's collateral");
    }
}

static void each_cut_of_the_quote_is_refused(void **state UNUSED)
{
    show();
    for (size_t len = 0; len < shown.size.quote; len += 97) {
        a.quote.len = len;
        assert_refused(ERROR_DENIED, judge());
        assert_string_equal(err.reason, BROKER_EVIDENCE_REASON);
    }
}

static void an_event_log_that_does_not_replay_is_refused(void **state UNUSED)
{
    static const uint8_t rubbish[64] = { 1 };

    show();
    a.event_log = (struct bytes_view){ rubbish, sizeof(rubbish) };
    assert_refused_for(": EventLog", "");
}

/* A broker has no owner's token to show. */
static void a_rule_for_an_owners_proof_fits_no_broker(void **state UNUSED)
{
    static char text[4096]; /* the next test sets a anew */
    char *owner = strstr(v.policy, "\"any_owner\":true");

    assert_non_null(owner);
    (void)snprintf(text, sizeof(text), "%.*s\"owner\":{\"mrowner\":[\"%096d\"]}%s",
                   (int)(owner - v.policy), v.policy, 7, owner + strlen("\"any_owner\":true"));
    a.policy = (struct bytes_view){ (const uint8_t *)text, strlen(text) };
    show();
    assert_refused_for(": Owner", "measured values alone");
}

static void a_policy_that_is_none_is_not_the_brokers_fault(void **state UNUSED)
{
    show();
    a.policy = (struct bytes_view){ (const uint8_t *)"{}", 2 };
    assert_refused(ERROR_FAILED_PRECONDITION, judge());
    assert_contains(err.text, "--broker-policy");
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(a_broker_of_the_right_image_is_accepted),
        CASE(an_old_quote_is_refused),
        CASE(a_quote_for_another_key_is_refused),
        CASE(another_image_is_refused),
        CASE(a_debug_td_is_refused),
        CASE(a_changed_quote_is_refused),
        CASE(a_quote_of_another_root_is_refused),
        CASE(collateral_that_has_expired_is_refused),
        CASE(a_revoked_platform_is_refused),
        CASE(a_platform_that_is_out_of_date_is_refused),
        CASE(without_collateral_it_says_who_must_have_it),
        CASE(collateral_that_is_none_is_refused),
        CASE(each_cut_of_the_quote_is_refused),
        CASE(an_event_log_that_does_not_replay_is_refused),
        CASE(a_rule_for_an_owners_proof_fits_no_broker),
        CASE(a_policy_that_is_none_is_not_the_brokers_fault),
    };

    return RUN_TESTS(tests);
}
