/* SPDX-License-Identifier: Apache-2.0 */
/* The part of a policy that says when a node that is silent has lost its volumes. */
#include "policy/policy_rule.h"

#include <inttypes.h>
#include <string.h>

#define SECOND_MS 1000u

static bool take_seconds(const json_t *json, uint64_t *out_ms, struct error *err)
{
    const uint64_t least = RECORD_LEASE_MIN_MS / SECOND_MS, most = RECORD_LEASE_MAX_MS / SECOND_MS;
    json_int_t seconds = json_integer_value(json);

    if (!json_is_integer(json) || seconds < (json_int_t)least || seconds > (json_int_t)most)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "must be a number of seconds from %" PRIu64 " to %" PRIu64, least, most);
    *out_ms = (uint64_t)seconds * SECOND_MS;
    return true;
}

static bool take_tenant(struct policy *policy, void *rule, const char *tenant, const json_t *json,
                        struct error *err)
{
    struct lease_rule *out = rule;

    (void)policy;
    out->tenant = tenant;
    return json_is_false(json) || take_seconds(json, &out->lease_ms, err);
}

static bool take_tenants(struct policy *policy, const json_t *json, struct error *err)
{
    void *rules = NULL;

    if (!policy_read_tenants(policy, json, sizeof(struct lease_rule), take_tenant, &rules,
                             &policy->n_lease_rules, err))
        return false;
    policy->lease_rules = rules;
    return true;
}

static bool read_leases(struct policy *policy, const json_t *json, struct error *err)
{
    static const char *const known[] = { "seconds", "tenants", NULL };
    const json_t *seconds = json_object_get(json, "seconds");
    const json_t *tenants = json_object_get(json, "tenants");

    if (!policy_check_keys(json, known, err))
        return false;
    if (!seconds && !tenants)
        return error_set(err, ERROR_INVALID_ARGUMENT, "it is empty: name seconds or tenants");
    if (seconds && !take_seconds(seconds, &policy->lease_ms, err))
        return error_wrap(err, "seconds");
    return !tenants || take_tenants(policy, tenants, err) || error_wrap(err, "tenants");
}

bool policy_read_leases(struct policy *policy, const json_t *json, struct error *err)
{
    return !json || read_leases(policy, json, err) || error_wrap(err, "leases");
}

uint64_t policy_lease_ms(const struct policy *policy, const char *tenant)
{
    for (size_t i = 0; i < policy->n_lease_rules; i++)
        if (strcmp(policy->lease_rules[i].tenant, tenant) == 0)
            return policy->lease_rules[i].lease_ms;
    return policy->lease_ms;
}
