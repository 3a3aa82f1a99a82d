/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a policy that says whose offline key also opens a tenant's volumes. */
#include "policy/policy_rule.h"

#include <string.h>

static bool take_certificate(struct policy *policy, const json_t *json,
                             const struct recovery_certificate **out, struct error *err)
{
    const char *pem = json_string_value(json);
    struct recovery_certificate *certificate = NULL;

    if (!pem)
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be a certificate, as PEM text");
    certificate = arena_alloc(&policy->arena, sizeof(*certificate));
    if (!certificate)
        return arena_exhausted(err);
    *out = certificate;
    return recovery_certificate_read_pem(pem, strlen(pem), certificate, err);
}

static bool take_tenant(struct policy *policy, void *rule, const char *tenant, const json_t *json,
                        struct error *err)
{
    struct recovery_rule *out = rule;

    out->tenant = tenant;
    return json_is_false(json) || take_certificate(policy, json, &out->certificate, err);
}

static bool take_tenants(struct policy *policy, const json_t *json, struct error *err)
{
    void *rules = NULL;

    if (!policy_read_tenants(policy, json, sizeof(struct recovery_rule), take_tenant, &rules,
                             &policy->n_recovery_rules, err))
        return false;
    policy->recovery_rules = rules;
    return true;
}

static bool read_recovery(struct policy *policy, const json_t *json, struct error *err)
{
    static const char *const known[] = { "certificate", "tenants", NULL };
    const json_t *certificate = json_object_get(json, "certificate");
    const json_t *tenants = json_object_get(json, "tenants");

    if (!policy_check_keys(json, known, err))
        return false;
    if (!certificate && !tenants)
        return error_set(err, ERROR_INVALID_ARGUMENT, "it is empty: name a certificate or tenants");
    if (certificate && !take_certificate(policy, certificate, &policy->recovery, err))
        return error_wrap(err, "certificate");
    return !tenants || take_tenants(policy, tenants, err) || error_wrap(err, "tenants");
}

bool policy_read_recovery(struct policy *policy, const json_t *json, struct error *err)
{
    return !json || read_recovery(policy, json, err) || error_wrap(err, "recovery");
}

static const struct recovery_rule *find_rule(const struct policy *policy, const char *tenant)
{
    for (size_t i = 0; i < policy->n_recovery_rules; i++)
        if (strcmp(policy->recovery_rules[i].tenant, tenant) == 0)
            return &policy->recovery_rules[i];
    return NULL;
}

const struct recovery_certificate *policy_recovery(const struct policy *policy, const char *tenant)
{
    const struct recovery_rule *rule = find_rule(policy, tenant);

    return rule ? rule->certificate : policy->recovery;
}

bool policy_declines_recovery(const struct policy *policy, const char *tenant)
{
    const struct recovery_rule *rule = find_rule(policy, tenant);

    return rule && !rule->certificate;
}
