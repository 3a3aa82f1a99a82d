/* SPDX-License-Identifier: Apache-2.0 */
#include "appraisal/appraisal.h"

#include "attest/collateral_set.h"
#include "attest/reason.h"
#include "attest/verifier.h"
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

/* --- the collateral that came along --- */

struct lending {
    const struct appraisal *a;
    struct collateral collateral;
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca;
    bool is_found;
};

static bool take_set(void *cookie, const struct collateral_set *set, struct error *err)
{
    struct lending *l = cookie;

    if (l->is_found || set->ca != l->ca || memcmp(set->fmspc, l->fmspc, FMSPC_LEN) != 0)
        return true;
    l->is_found = collateral_load(&set->source, l->a->root, &l->collateral, err);
    return l->is_found;
}

static bool malformed(struct error *err)
{
    struct error why = *err;

    return attest_refuse(err, REASON_COLLATERAL_MALFORMED, "%.300s", why.text);
}

static bool lend(void *cookie, const struct quote *quote, const struct collateral **out,
                 struct error *err)
{
    struct lending *l = cookie;
    struct bytes_view bundle = l->a->collateral;

    if (!collateral_set_needed(quote, l->fmspc, &l->ca, err))
        return false;
    if (bundle.len > 0 &&
        !collateral_bundle_walk((const char *)bundle.bytes, bundle.len, take_set, l, err))
        return err->code == ERROR_DENIED ? false : malformed(err);
    if (!l->is_found)
        return attest_refuse(err, REASON_COLLATERAL_MISSING,
                             "the broker sent no collateral for its own platform");
    *out = &l->collateral;
    return true;
}

static void take_back(void *cookie, const struct collateral *collateral)
{
    (void)cookie, (void)collateral;
}

static bool verify(const struct appraisal *a, struct tee_claims *out, struct error *err)
{
    struct lending lending = { .a = a };
    uint8_t report_data[REPORT_DATA_LEN];
    const struct verifier_request request = {
        .quote = a->quote,
        .event_log = { a->event_log.len > 0 ? a->event_log.bytes : NULL, a->event_log.len },
        .report_data = report_data,
        .lender = { lend, take_back, &lending },
        .now = a->now,
    };

    if (!statement_report_data(a->nonce, a->key_sha256, report_data, err))
        return false;
    bool ok = verifier_tdx.verify(&request, out, err);

    collateral_free(&lending.collateral);
    return ok;
}

/* --- the policy --- */

static bool read_policy(struct bytes_view text, struct policy **out, struct error *err)
{
    if (policy_parse((const char *)text.bytes, text.len, out, err))
        return true;
    err->code = ERROR_FAILED_PRECONDITION;
    return error_wrap(err, "--broker-policy");
}

static bool fit_rule(const struct policy *policy, const struct appraisal *a,
                     const struct tee_claims *claims, char said[static APPRAISAL_TEXT],
                     struct error *err)
{
    const struct principal who = { .tee = claims };
    const struct policy_rule *rule = NULL;

    if (!policy_judge(policy, &who, a->now, NULL, &rule, err))
        return false;
    (void)snprintf(said, APPRAISAL_TEXT, "rule %s, image %s", policy_rule_name(rule),
                   policy_rule_image(rule, &who, a->now));
    return true;
}

/* --- the verdict --- */

/* What an operator can do, by the reason. The first row that fits counts. */
static const char *advice_for(const char *reason)
{
    static const struct row {
        const char *begins, *advice;
    } rows[] = {
        { "CollateralMissing",
          "give the broker the collateral of its own platform (docs/collateral.md)" },
        { "Collateral",
          "renew the broker's collateral (docs/collateral.md), and compare the clocks" },
        { "Crl", "renew the broker's collateral (docs/collateral.md), and compare the clocks" },
        { "ReportData",
          "it is an old quote, or one for another key: try again, and then look at what "
          "stands between this node and the broker" },
        { "Tcb", "update the broker's platform, or make an exception in --broker-policy" },
        { "Owner",
          "a broker shows no owner's proof: the rules of --broker-policy may want measured "
          "values alone" },
        { "", "compare what runs as the broker with --broker-policy" },
    };
    size_t i = 0;

    while (strncmp(reason, rows[i].begins, strlen(rows[i].begins)) != 0)
        i++;
    return rows[i].advice;
}

/* The word of the refusal goes into the text: what counts for volumes is that the broker was refused. */
static bool refuse(struct error *err)
{
    struct error why = *err;

    return error_set_reason(err, ERROR_DENIED, BROKER_EVIDENCE_REASON,
                            "the broker's evidence is refused: %s: %.300s; %s", why.reason,
                            why.text, advice_for(why.reason));
}

bool appraisal_judge(const struct appraisal *a, char said[static APPRAISAL_TEXT], struct error *err)
{
    auto_policy struct policy *policy = NULL;
    struct tee_claims claims;

    if (!read_policy(a->policy, &policy, err))
        return false;
    if (verify(a, &claims, err) && fit_rule(policy, a, &claims, said, err))
        return true;
    return err->code == ERROR_DENIED ? refuse(err) : false;
}
