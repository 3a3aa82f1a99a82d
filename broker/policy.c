/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy.h"

#include "base/arena.h"
#include "base/digest.h"
#include "base/file.h"

#include <ctype.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

struct patterns {
    size_t n;
    const char **items;
};

struct policy_rule {
    const char *name, *tenant;
    unsigned roles;
    size_t n_match;
    struct {
        const char *claim, *pattern;
    } match[PRINCIPAL_CLAIMS_MAX];
    struct patterns volumes, nodes;
};

struct policy {
    struct arena arena; /* everything below */
    char hash[POLICY_HASH_TEXT_LEN];
    struct policy_rule *rules;
    size_t n_rules;
};

static const struct {
    const char *name;
    enum policy_role role;
} roles[] = {
    { "controller", POLICY_CONTROLLER },
    { "node", POLICY_NODE },
    { "admin", POLICY_ADMIN },
};

static void json_free(json_t **json)
{
    json_decref(*json);
}
#define auto_json CLEANUP(json_free)

/* --- reading --- */

static bool take_text(struct policy *policy, const json_t *json, const char *key, const char **out,
                      struct error *err)
{
    const char *text = json_string_value(json);

    if (!text || text[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a non-empty string", key);
    *out = arena_strdup(&policy->arena, text);
    if (*out)
        return true;
    arena_exhausted(err);
    return false;
}

/* Names go into logs, listings and lookups: letters, digits, and . _ - */
static bool take_name(struct policy *policy, const json_t *json, const char *key, const char **out,
                      struct error *err)
{
    if (!take_text(policy, json, key, out, err))
        return false;
    if (strlen(*out) > POLICY_NAME_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %d bytes", key,
                         POLICY_NAME_MAX);
    for (const char *c = *out; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s may have letters, digits, '.', '_' and '-' alone", key);
    return true;
}

static bool take_patterns(struct policy *policy, const json_t *json, const char *key,
                          struct patterns *out, struct error *err)
{
    size_t n = json_array_size(json);

    if (n == 0 || n > POLICY_PATTERNS_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s must be a list of 1 to %d patterns", key,
                         POLICY_PATTERNS_MAX);
    out->items = arena_alloc(&policy->arena, n * sizeof(*out->items));
    if (!out->items)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++)
        if (!take_text(policy, json_array_get(json, i), key, &out->items[i], err))
            return false;
    out->n = n;
    return true;
}

static bool take_roles(const json_t *json, unsigned *out, struct error *err)
{
    if (json_array_size(json) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "roles must be a non-empty list");
    for (size_t i = 0; i < json_array_size(json); i++) {
        const char *text = json_string_value(json_array_get(json, i));
        size_t k = 0;

        while (k < ARRAY_LEN(roles) && (!text || strcmp(roles[k].name, text) != 0))
            k++;
        if (k == ARRAY_LEN(roles))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "roles: \"%s\" is none of controller, node, admin",
                             text ? text : "(not a string)");
        *out |= (unsigned)roles[k].role;
    }
    return true;
}

/* A rule that every client of the CA fits is a mistake that hands out all keys. */
static bool check_claim_pattern(const char *claim, const char *pattern, struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!principal_claim_is_known(claim))
        return error_set(err, ERROR_INVALID_ARGUMENT, "match: unknown claim \"%s\"", claim);
    if (strcmp(claim, CLAIM_CERTIFICATE_SHA256) == 0) {
        bool is_lower = strpbrk(pattern, "ABCDEF") == NULL;

        return (is_lower && hex_decode(pattern, digest, SHA256_LEN)) ||
               error_set(err, ERROR_INVALID_ARGUMENT, "match: %s must be 64 lower-case hex digits",
                         claim);
    }
    if (strpbrk(pattern, "[]\\"))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "match: %s: only * and ? are possible in \"%s\"", claim, pattern);
    for (const char *c = pattern; *c; c++)
        if (isalnum((unsigned char)*c))
            return true;
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "match: %s: \"%s\" would match any client: name at least a part", claim,
                     pattern);
}

static bool take_match(struct policy *policy, json_t *json, struct policy_rule *rule,
                       struct error *err)
{
    const char *claim;
    json_t *value;

    if (json_object_size(json) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "match is missing or empty: it would match any client");
    json_object_foreach(json, claim, value)
    {
        if (rule->n_match == PRINCIPAL_CLAIMS_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "match: too many claims");
        if (!take_text(policy, value, claim, &rule->match[rule->n_match].pattern, err) ||
            !check_claim_pattern(claim, rule->match[rule->n_match].pattern, err))
            return false;
        rule->match[rule->n_match].claim = arena_strdup(&policy->arena, claim);
        if (!rule->match[rule->n_match].claim)
            return arena_exhausted(err);
        rule->n_match++;
    }
    return true;
}

/* So that a misspelt key does not silently mean its absence. */
static bool check_keys(json_t *json, const char *const *known, struct error *err)
{
    const char *key;
    json_t *value;

    json_object_foreach(json, key, value)
    {
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (!*k)
            return error_set(err, ERROR_INVALID_ARGUMENT, "unknown key \"%s\"", key);
    }
    return true;
}

static bool read_rule(struct policy *policy, json_t *json, struct policy_rule *rule,
                      struct error *err)
{
    static const char *const known[] = { "name",    "match", "tenant", "roles",
                                         "volumes", "nodes", NULL };
    const json_t *nodes = json_object_get(json, "nodes");

    if (!json_is_object(json))
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be an object");
    if (!check_keys(json, known, err) ||
        !take_name(policy, json_object_get(json, "name"), "name", &rule->name, err) ||
        !take_match(policy, json_object_get(json, "match"), rule, err) ||
        !take_name(policy, json_object_get(json, "tenant"), "tenant", &rule->tenant, err) ||
        !take_roles(json_object_get(json, "roles"), &rule->roles, err) ||
        !take_patterns(policy, json_object_get(json, "volumes"), "volumes", &rule->volumes, err))
        return false;
    if ((rule->roles & POLICY_NODE) == 0 && nodes)
        return error_set(err, ERROR_INVALID_ARGUMENT, "nodes is for the role node alone");
    if ((rule->roles & POLICY_NODE) == 0)
        return true;
    return take_patterns(policy, nodes, "nodes", &rule->nodes, err);
}

static bool read_rules(struct policy *policy, const json_t *list, struct error *err)
{
    size_t n = json_array_size(list);

    if (n == 0 || n > POLICY_RULES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "rules must be a list of 1 to %d rules",
                         POLICY_RULES_MAX);
    policy->rules = arena_alloc(&policy->arena, n * sizeof(*policy->rules));
    if (!policy->rules)
        return arena_exhausted(err);
    for (size_t i = 0; i < n; i++) {
        if (!read_rule(policy, json_array_get(list, i), &policy->rules[i], err))
            return error_wrap(err, "rule %zu (%s)", i + 1,
                              policy->rules[i].name ? policy->rules[i].name : "without name");
        for (size_t k = 0; k < i; k++)
            if (strcmp(policy->rules[k].name, policy->rules[i].name) == 0)
                return error_set(err, ERROR_INVALID_ARGUMENT,
                                 "rule %zu has the name of rule %zu: \"%s\"", i + 1, k + 1,
                                 policy->rules[i].name);
        policy->n_rules++;
    }
    return true;
}

static bool read_policy(struct policy *policy, const char *text, size_t len, struct error *err)
{
    static const char *const known[] = { "version", "rules", NULL };
    json_error_t problem;
    auto_json json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &problem);
    uint8_t digest[SHA256_LEN];

    if (!json)
        return error_set(err, ERROR_INVALID_ARGUMENT, "line %d: %s", problem.line, problem.text);
    if (!json_is_object(json))
        return error_set(err, ERROR_INVALID_ARGUMENT, "must be a JSON object");

    const json_t *version = json_object_get(json, "version");

    if (!json_is_integer(version))
        return error_set(err, ERROR_INVALID_ARGUMENT, "version is missing or not a number");
    if (json_integer_value(version) != POLICY_VERSION)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "version %lld is not known: this broker knows version %d",
                         (long long)json_integer_value(version), POLICY_VERSION);
    if (!check_keys(json, known, err) || !read_rules(policy, json_object_get(json, "rules"), err) ||
        !sha256(text, len, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), policy->hash);
    return true;
}

void policy_free(struct policy **policy)
{
    if (*policy)
        arena_wipe(&(*policy)->arena);
    free(*policy);
    *policy = NULL;
}

bool policy_parse(const char *text, size_t len, struct policy **out, struct error *err)
{
    auto_policy struct policy *policy = calloc(1, sizeof(*policy));

    if (!policy)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "policy: out of memory");
    arena_init(&policy->arena, 4 * POLICY_BYTES_MAX);
    if (!read_policy(policy, text, len, err))
        return error_wrap(err, "policy");
    *out = TAKE_PTR(policy);
    return true;
}

bool policy_load(const char *path, struct policy **out, struct error *err)
{
    auto_free char *text = NULL;
    size_t len = 0;

    return file_read(path, POLICY_BYTES_MAX, &text, &len, err) &&
           (policy_parse(text, len, out, err) || error_wrap(err, "%s", path));
}

/* --- deciding --- */

const char *policy_hash(const struct policy *policy)
{
    return policy->hash;
}

const char *policy_rule_name(const struct policy_rule *rule)
{
    return rule->name;
}

const char *policy_rule_tenant(const struct policy_rule *rule)
{
    return rule->tenant;
}

static bool rule_matches(const struct policy_rule *rule, const struct principal *who)
{
    for (size_t i = 0; i < rule->n_match; i++) {
        const char *value = principal_claim(who, rule->match[i].claim);

        if (!value || fnmatch(rule->match[i].pattern, value, 0) != 0)
            return false;
    }
    return true;
}

const struct policy_rule *policy_find(const struct policy *policy, const struct principal *who)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        if (rule_matches(&policy->rules[i], who))
            return &policy->rules[i];
    return NULL;
}

bool policy_has_role(const struct policy_rule *rule, unsigned wanted)
{
    return (rule->roles & wanted) != 0;
}

bool policy_has_volume(const struct policy_rule *rule, const char *volume_id)
{
    for (size_t i = 0; i < rule->volumes.n; i++)
        if (fnmatch(rule->volumes.items[i], volume_id, 0) == 0)
            return true;
    return false;
}

bool policy_has_node(const struct policy_rule *rule, const struct principal *who, const char *node)
{
    const char *own = principal_claim(who, CLAIM_CERTIFICATE_CN);

    for (size_t i = 0; i < rule->nodes.n; i++) {
        const char *pattern = rule->nodes.items[i];

        if (strcmp(pattern, "${" CLAIM_CERTIFICATE_CN "}") == 0) {
            if (own && strcmp(own, node) == 0)
                return true;
        } else if (fnmatch(pattern, node, 0) == 0) {
            return true;
        }
    }
    return false;
}
