/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the rule that a caller fits. The checks of every rule have one fixed order, the cheap
 * ones first. */
#include "attest/reason.h"
#include "policy/policy_rule.h"

#include <fnmatch.h>
#include <string.h>

static bool needs_certificate(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->n_match > 0;
}

/* The value of a claim; "" when it was not proven. */
static const char *claim_of(const struct certificate_claims *certificate, const char *claim)
{
    return strcmp(claim, "certificate.cn") == 0 ? certificate->common_name : certificate->sha256;
}

static bool check_certificate(const struct judgement *j, int argument, struct error *err)
{
    const struct certificate_claims *certificate = j->who->certificate;

    (void)argument;
    if (!certificate)
        return attest_refuse(
            err, REASON_NO_RULE,
            "the rule wants a certificate of the broker's client CA, and none was shown");
    for (size_t i = 0; i < j->rule->n_match; i++) {
        const char *value = claim_of(certificate, j->rule->match[i].claim);

        if (value[0] == '\0' || fnmatch(j->rule->match[i].pattern, value, 0) != 0)
            return attest_refuse(err, REASON_NO_RULE, "%s is \"%.130s\", the rule wants \"%.130s\"",
                                 j->rule->match[i].claim, value, j->rule->match[i].pattern);
    }
    return true;
}

static bool needs_td(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->td != NULL;
}

static bool check_attested(const struct judgement *j, int argument, struct error *err)
{
    (void)argument;
    return j->td || attest_refuse(err, REASON_NOT_ATTESTED,
                                  "the rule is for attested Trust Domains, and this caller "
                                  "has not shown a quote");
}

static const struct policy_check first_checks[] = {
    { "certificate", needs_certificate, check_certificate, 0 },
    { "attested", needs_td, check_attested, 0 },
};

/* The verdict on one rule: how many checks it passed before the first failed one, and the error of
 * that one. */
struct verdict {
    bool fits;
    size_t passed;
    struct error err;
};

static void run_checks(const struct judgement *j, const struct policy_check *checks, size_t n,
                       const struct policy_trace *trace, struct verdict *v)
{
    for (size_t i = 0; i < n && (v->fits || trace); i++) {
        struct error err = ERROR_INIT;

        if (checks[i].applies && !checks[i].applies(j, checks[i].argument)) {
            v->passed += v->fits;
            continue;
        }
        bool ok = checks[i].run(j, checks[i].argument, &err);
        if (trace)
            trace->step(trace->cookie, j->rule->name, checks[i].name, ok, ok ? NULL : err.text);
        if (v->fits && !ok)
            v->err = err;
        v->fits = v->fits && ok;
        v->passed += v->fits;
    }
}

static void judge_rule(struct judgement *j, const struct policy_trace *trace, struct verdict *v)
{
    *v = (struct verdict){ .fits = true, .err = ERROR_INIT };
    j->image = j->rule->td && j->td ? policy_best_image(j->rule->td, j->td, j->now) : NULL;
    run_checks(j, first_checks, ARRAY_LEN(first_checks), trace, v);
    if (!j->image)
        return;
    run_checks(j, policy_td_checks, POLICY_TD_CHECKS, trace, v);
    if (j->rule->owner)
        run_checks(j, policy_owner_checks, POLICY_OWNER_CHECKS, trace, v);
}

/* A wrong proof tells the caller more than the missing proof of another rule. */
static bool has_wrong_proof(const struct verdict *v)
{
    static const size_t before =
        ARRAY_LEN(first_checks) + POLICY_TD_CHECKS + (size_t)POLICY_OWNER_SHOWN;

    return v->passed >= before &&
           strcmp(v->err.reason, attest_reason_name(REASON_OWNER_MISSING)) != 0;
}

static bool came_further(const struct verdict *v, const struct verdict *than)
{
    bool wrong = has_wrong_proof(v);

    return wrong == has_wrong_proof(than) ? v->passed > than->passed : wrong;
}

bool policy_judge(const struct policy *policy, const struct principal *who, int64_t now,
                  const struct policy_trace *trace, const struct policy_rule **out,
                  struct error *err)
{
    const struct policy_rule *found = NULL, *furthest = NULL;
    struct verdict best = { .passed = 0, .err = ERROR_INIT };

    for (size_t i = 0; i < policy->n_rules && (!found || trace); i++) {
        struct judgement j = {
            .rule = &policy->rules[i], .who = who, .td = principal_td(who), .now = now
        };
        struct verdict v;

        judge_rule(&j, trace, &v);
        if (v.fits && !found)
            found = j.rule;
        if (!v.fits && (!furthest || came_further(&v, &best))) {
            furthest = j.rule;
            best = v;
        }
    }
    if (found) {
        *out = found;
        return true;
    }
    if (!furthest) /* never: a policy has at least one rule */
        return attest_refuse(err, REASON_NO_RULE, "no rule fits");
    *err = best.err;
    return error_wrap(err, "rule %s", furthest->name);
}

bool policy_blame_proof(struct error *err, const struct error *unproven)
{
    static const enum attest_reason owners[] = { REASON_OWNER_MISSING, REASON_OWNER_MISMATCH };

    for (size_t i = 0; unproven->code != ERROR_NONE && i < ARRAY_LEN(owners); i++) {
        if (strcmp(err->reason, attest_reason_name(owners[i])) != 0)
            continue;
        *err = *unproven;
        return true;
    }
    return false;
}
