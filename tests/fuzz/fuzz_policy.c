/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/policy.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

/* Every policy refuses a caller who proved nothing, a debug TD, and a TD that measured nothing. It
 * gives keys without a quote only when its text says so. */

static bool fits(const struct policy *policy, const struct principal *who)
{
    const struct policy_rule *rule = NULL;
    struct error err = ERROR_INIT;
    bool ok = policy_judge(policy, who, 1795392000, NULL, &rule, &err);

    if (ok != (rule != NULL) || (!ok && (err.code != ERROR_DENIED || err.reason[0] == '\0')))
        abort();
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char admission[] = "without_attestation";
    struct error err = ERROR_INIT;
    auto_policy struct policy *policy = NULL;
    const struct tee_claims debug = { .kind = TEE_TDX,
                                      .td = { .td_attributes = TD_ATTRIBUTE_DEBUG, .xfam = 3 } };
    const struct tee_claims empty = {
        .kind = TEE_TDX, .td = { .td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE, .xfam = 3 }
    };
    struct tee_claims other = empty;
    const struct certificate_claims named = { .common_name = "admin" };

    if (!policy_parse((const char *)bytes, len, &policy, &err)) {
        if (err.code == ERROR_NONE || err.text[0] == '\0')
            abort();
        return 0;
    }
    if (fits(policy, &(struct principal){ .tee = NULL }) ||
        fits(policy, &(struct principal){ .tee = &debug }) ||
        fits(policy, &(struct principal){ .tee = &empty }))
        abort();
    other.kind = 0;
    if (fits(policy, &(struct principal){ .tee = &other }))
        abort();
    (void)fits(policy, &(struct principal){ .certificate = &named });
    for (size_t i = 0; i < policy_rule_count(policy); i++) {
        const struct policy_rule *rule = policy_rule_at(policy, i);

        if (policy_rule_name(rule)[0] == '\0' || policy_rule_tenant(rule)[0] == '\0')
            abort();
    }
    const struct policy_rule *rule = NULL;
    if (policy_judge(policy, &(struct principal){ .certificate = &named }, 0, NULL, &rule, &err) &&
        policy_may(rule, POLICY_OPEN) && !memmem(bytes, len, admission, strlen(admission)) &&
        !memchr(bytes, '\\', len)) /* an escape may spell the word differently */
        abort();
    return 0;
}
