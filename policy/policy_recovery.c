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

bool policy_has_tenant(const struct policy *policy, const char *tenant)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        if (strcmp(policy->rules[i].tenant, tenant) == 0)
            return true;
    return false;
}

static bool take_tenant(struct policy *policy, const char *tenant, const json_t *json,
                        struct error *err)
{
    struct recovery_rule *rule = &policy->recovery_rules[policy->n_recovery_rules];

    if (!policy_has_tenant(policy, tenant))
        return error_set(err, ERROR_INVALID_ARGUMENT, "no rule has this tenant");
    rule->tenant = arena_strdup(&policy->arena, tenant);
    if (!rule->tenant)
        return arena_exhausted(err);
    policy->n_recovery_rules++;
    return json_is_false(json) || take_certificate(policy, json, &rule->certificate, err);
}

static bool take_tenants(struct policy *policy, const json_t *json, struct error *err)
{
    size_t n = json_object_size(json);
    const char *tenant;
    json_t *value;

    if (n == 0 || n > POLICY_RULES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be an object with 1 to %d tenants",
                         POLICY_RULES_MAX);
    policy->recovery_rules = arena_alloc(&policy->arena, n * sizeof(*policy->recovery_rules));
    if (!policy->recovery_rules)
        return arena_exhausted(err);
    json_object_foreach((json_t *)(uintptr_t)json, tenant, value)
    {
        if (!take_tenant(policy, tenant, value, err))
            return error_wrap(err, "%.*s", POLICY_NAME_MAX, tenant);
    }
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
