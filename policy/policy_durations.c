/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a policy that are durations: when a node that is silent has lost its volumes, and how long the keys of
 * deleted volumes are kept. */
#include "policy/policy_rule.h"

#include <inttypes.h>
#include <string.h>

#define SECOND_MS 1000u

struct duration_limits {
    uint64_t least, most; /* in seconds */
};

static const struct duration_limits lease_limits = { RECORD_LEASE_MIN_MS / SECOND_MS,
                                                     RECORD_LEASE_MAX_MS / SECOND_MS };
static const struct duration_limits retention_limits = { POLICY_RETENTION_MIN_S,
                                                         POLICY_RETENTION_MAX_S };

static bool take_seconds(const json_t *json, const struct duration_limits *limits, uint64_t *out_ms,
                         struct error *err)
{
    json_int_t seconds = json_integer_value(json);

    if (!json_is_integer(json) || seconds < (json_int_t)limits->least ||
        seconds > (json_int_t)limits->most)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "must be a number of seconds from %" PRIu64 " to %" PRIu64, limits->least,
                         limits->most);
    *out_ms = (uint64_t)seconds * SECOND_MS;
    return true;
}

static bool take_rule(struct duration_rule *out, const char *tenant, const json_t *json,
                      const struct duration_limits *limits, struct error *err)
{
    out->tenant = tenant;
    return json_is_false(json) || take_seconds(json, limits, &out->ms, err);
}

static bool take_lease(struct policy *policy UNUSED, void *rule, const char *tenant,
                       const json_t *json, struct error *err)
{
    return take_rule(rule, tenant, json, &lease_limits, err);
}

static bool take_retention(struct policy *policy UNUSED, void *rule, const char *tenant,
                           const json_t *json, struct error *err)
{
    return take_rule(rule, tenant, json, &retention_limits, err);
}

typedef bool take_duration(struct policy *policy, void *rule, const char *tenant,
                           const json_t *json, struct error *err);

static bool take_tenants(struct policy *policy, const json_t *json, take_duration *take,
                         struct durations *out, struct error *err)
{
    void *rules = NULL;

    if (!policy_read_tenants(policy, json, sizeof(struct duration_rule), take, &rules,
                             &out->n_rules, err))
        return false;
    out->rules = rules;
    return true;
}

static bool read_durations(struct policy *policy, const json_t *json,
                           const struct duration_limits *limits, take_duration *take,
                           struct durations *out, struct error *err)
{
    static const char *const known[] = { "seconds", "tenants", NULL };
    const json_t *seconds = json_object_get(json, "seconds");
    const json_t *tenants = json_object_get(json, "tenants");

    if (!policy_check_keys(json, known, err))
        return false;
    if (!seconds && !tenants)
        return error_set(err, ERROR_INVALID_ARGUMENT, "it is empty: name seconds or tenants");
    if (seconds && !take_seconds(seconds, limits, &out->ms, err))
        return error_wrap(err, "seconds");
    return !tenants || take_tenants(policy, tenants, take, out, err) || error_wrap(err, "tenants");
}

bool policy_read_leases(struct policy *policy, const json_t *json, struct error *err)
{
    return !json || read_durations(policy, json, &lease_limits, take_lease, &policy->leases, err) ||
           error_wrap(err, "leases");
}

bool policy_read_retention(struct policy *policy, const json_t *json, struct error *err)
{
    return !json ||
           read_durations(policy, json, &retention_limits, take_retention, &policy->retention,
                          err) ||
           error_wrap(err, "retention");
}

static uint64_t find(const struct durations *durations, const char *tenant)
{
    for (size_t i = 0; i < durations->n_rules; i++)
        if (strcmp(durations->rules[i].tenant, tenant) == 0)
            return durations->rules[i].ms;
    return durations->ms;
}

uint64_t policy_lease_ms(const struct policy *policy, const char *tenant)
{
    return find(&policy->leases, tenant);
}

uint64_t policy_retention_ms(const struct policy *policy, const char *tenant)
{
    return find(&policy->retention, tenant);
}
