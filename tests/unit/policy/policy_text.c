/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/policy/policy_text.h"

#include "base/digest.h"

#include <stdlib.h>

bool policy_from(const char *text, struct policy **out, struct error *err)
{
    char *json = strdup(text);

    assert_non_null(json);
    for (char *c = json; *c; c++)
        if (*c == '\'')
            *c = '"';
    bool ok = policy_parse(json, strlen(json), out, err);
    free(json);
    return ok;
}

struct policy *policy_must(const char *text)
{
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;

    if (!policy_from(text, &policy, &err))
        fail_msg("%s", err.text);
    return policy;
}

void set_measurement(uint8_t out[static MEASUREMENT_LEN], const char *hex)
{
    assert_true(hex_decode(hex, out, MEASUREMENT_LEN));
}

struct tee_claims fitting_td(void)
{
    struct td_claims td = {
        .td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE,
        .xfam = 0x602e7,
        .sgx_type = 1,
        .tcb_status = TCB_UP_TO_DATE,
        .tcb_date = NOW - 1000,
        .tcb_evaluation_number = 18,
        .qe_evaluation_number = 18,
    };

    set_measurement(td.mrtd, MRTD);
    set_measurement(td.rtmr[1], RTMR1);
    set_measurement(td.rtmr[2], RTMR2);
    return (struct tee_claims){ .kind = TEE_TDX, .collateral_until = NOW + 1000, .td = td };
}

void assert_judged(const struct policy *policy, const struct principal *who, int64_t now,
                   const char *reason, const char *part)
{
    const struct policy_rule *rule = NULL;
    struct error err = ERROR_INIT;

    if (policy_judge(policy, who, now, NULL, &rule, &err))
        fail_msg("the policy accepted it; wanted %s, %s", reason, part);
    assert_null(rule);
    assert_int_equal(err.code, ERROR_DENIED);
    if (strcmp(err.reason, reason) != 0)
        fail_msg("%s instead of %s: %s", err.reason, reason, err.text);
    assert_contains(err.text, part);
}

const struct policy_rule *assert_fits(const struct policy *policy, const struct principal *who,
                                      int64_t now)
{
    const struct policy_rule *rule = NULL;
    struct error err = ERROR_INIT;

    if (!policy_judge(policy, who, now, NULL, &rule, &err))
        fail_msg("%s: %s", err.reason, err.text);
    assert_non_null(rule);
    return rule;
}
