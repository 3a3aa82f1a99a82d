/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/policy.h"

#include "base/digest.h"
#include "base/file.h"
#include "policy/policy_rule.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { REVISION_MAX = 128 };

#define CLAIM_CERTIFICATE_CN     "certificate.cn"
#define CLAIM_CERTIFICATE_SHA256 "certificate.sha256"

const struct policy_permission_name policy_permissions[POLICY_PERMISSIONS] = {
    { "create", POLICY_CREATE }, { "open", POLICY_OPEN },           { "delete", POLICY_DELETE },
    { "rotate", POLICY_ROTATE }, { "admin", POLICY_ADMIN },         { "publish", POLICY_PUBLISH },
    { "unseal", POLICY_UNSEAL }, { "replicate", POLICY_REPLICATE }, { "audit", POLICY_AUDIT },
    { "backup", POLICY_BACKUP }, { "undelete", POLICY_UNDELETE },
};

/* Node names that a client's own proof gives. */
struct placeholder {
    const char *text;
    const char *needs; /* what the rule must have for it */
    bool (*is_proven)(const struct policy_rule *rule);
    const char *(*value)(const struct principal *who); /* NULL: not proven */
};

static bool has_match(const struct policy_rule *rule)
{
    return rule->n_match > 0;
}

static bool has_owner_token(const struct policy_rule *rule)
{
    return rule->owner && rule->owner->token;
}

static bool has_owner_certificate(const struct policy_rule *rule)
{
    return rule->owner && rule->owner->certificate;
}

static const char *certificate_cn(const struct principal *who)
{
    return who->certificate ? who->certificate->common_name : NULL;
}

static const char *token_node(const struct principal *who)
{
    return who->token ? who->token->node : NULL;
}

static const char *owner_cn(const struct principal *who)
{
    return who->owner ? who->owner->common_name : NULL;
}

static const struct placeholder placeholders[] = {
    { "${certificate.cn}", "match", has_match, certificate_cn },
    { "${token.node}", "owner with a token", has_owner_token, token_node },
    { "${owner.cn}", "owner with a certificate", has_owner_certificate, owner_cn },
    { NULL, NULL, NULL, NULL },
};

/* --- reading --- */

static bool take_permissions(const json_t *json, unsigned *out, struct error *err)
{
    if (json_array_size(json) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"may\" must be a non-empty list");
    for (size_t i = 0; i < json_array_size(json); i++) {
        const char *text = json_string_value(json_array_get(json, i));
        size_t k = 0;

        while (k < POLICY_PERMISSIONS && (!text || strcmp(policy_permissions[k].name, text) != 0))
            k++;
        if (k == POLICY_PERMISSIONS)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "may: \"%.64s\" is none of create, open, delete, publish, rotate, "
                             "admin, unseal, replicate, audit, backup, undelete",
                             text ? text : "(not a string)");
        *out |= (unsigned)policy_permissions[k].permission;
    }
    return true;
}

static bool check_claim_pattern(const char *claim, const char *pattern, struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (strcmp(claim, CLAIM_CERTIFICATE_SHA256) == 0)
        return (!strpbrk(pattern, "ABCDEF") && hex_decode(pattern, digest, SHA256_LEN)) ||
               error_set(err, ERROR_INVALID_ARGUMENT, "%s must be 64 lower-case hex digits", claim);
    if (strcmp(claim, CLAIM_CERTIFICATE_CN) == 0)
        return policy_check_identity_pattern(claim, pattern, err);
    return error_set(err, ERROR_INVALID_ARGUMENT, "unknown claim \"%.64s\"", claim);
}

static bool take_match(struct policy *policy, const json_t *json, struct policy_rule *rule,
                       struct error *err)
{
    const char *claim;
    json_t *value;

    if (json_object_size(json) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "it is empty: it would match every client");
    json_object_foreach((json_t *)(uintptr_t)json, claim, value)
    {
        if (rule->n_match == POLICY_MATCH_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "it has too many claims");
        if (!policy_take_text(&policy->arena, value, claim, &rule->match[rule->n_match].pattern,
                              err) ||
            !check_claim_pattern(claim, rule->match[rule->n_match].pattern, err))
            return false;
        rule->match[rule->n_match].claim = arena_strdup(&policy->arena, claim);
        if (!rule->match[rule->n_match].claim)
            return arena_exhausted(err);
        rule->n_match++;
    }
    return true;
}

static bool take_limits(const json_t *json, struct policy_limits *out, struct error *err)
{
    static const char *const known[] = { "records", "opens_per_minute", "creates_per_minute",
                                         NULL };
    uint64_t opens = 0, creates = 0;

    if (!json)
        return true;
    if (!policy_check_keys(json, known, err) ||
        !policy_take_number(json_object_get(json, "records"), "records", INT64_MAX, &out->records,
                            err) ||
        !policy_take_number(json_object_get(json, "opens_per_minute"), "opens_per_minute",
                            UINT32_MAX, &opens, err) ||
        !policy_take_number(json_object_get(json, "creates_per_minute"), "creates_per_minute",
                            UINT32_MAX, &creates, err))
        return false;
    out->opens_per_minute = (uint32_t)opens;
    out->creates_per_minute = (uint32_t)creates;
    return true;
}

static bool take_nodes(struct policy *policy, const json_t *json, struct policy_rule *rule,
                       struct error *err)
{
    if (!json && (rule->may & (POLICY_OPEN | POLICY_PUBLISH)) == 0)
        return true;
    if ((rule->may & (POLICY_CREATE | POLICY_OPEN | POLICY_DELETE | POLICY_PUBLISH)) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "nodes is only for rules that may create, open, delete or publish");
    if (!policy_take_patterns(&policy->arena, json, "nodes", &rule->nodes, err))
        return false;
    for (size_t i = 0; i < rule->nodes.n; i++) {
        const char *pattern = rule->nodes.items[i];
        const struct placeholder *p = placeholders;

        if (!strchr(pattern, '$'))
            continue;
        while (p->text && strcmp(p->text, pattern) != 0)
            p++;
        if (!p->text)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "nodes: \"%.64s\" is none of ${certificate.cn}, ${token.node}, "
                             "${owner.cn}",
                             pattern);
        if (!p->is_proven(rule))
            return error_set(err, ERROR_INVALID_ARGUMENT, "nodes: %s needs %s in the rule", p->text,
                             p->needs);
    }
    return true;
}

/* Reads who fits the rule: certificate, TD, owner. */
static bool read_subject(struct policy *policy, const json_t *json, struct policy_rule *rule,
                         struct error *err)
{
    const json_t *match = json_object_get(json, "match");
    const json_t *td = json_object_get(json, "td");
    const json_t *owner = json_object_get(json, "owner");

    if (!match && !td)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the rule needs td or match: without them it would fit every client");
    if (match && !take_match(policy, match, rule, err))
        return error_wrap(err, "match");
    rule->td = td ? arena_alloc(&policy->arena, sizeof(*rule->td)) : NULL;
    rule->owner = owner ? arena_alloc(&policy->arena, sizeof(*rule->owner)) : NULL;
    if ((td && !rule->td) || (owner && !rule->owner))
        return arena_exhausted(err);
    if (td && !policy_read_td(policy, td, rule->td, err))
        return error_wrap(err, "td");
    if (owner && !policy_read_owner(policy, owner, rule->owner, err))
        return error_wrap(err, "owner");
    return true;
}

/* A rule may fit more callers than its author expects. Its author must say so explicitly. */
static bool check_openness(const json_t *json, const struct policy_rule *rule, struct error *err)
{
    bool any_owner = false, without_attestation = false;
    const bool opens_unattested = !rule->td && (rule->may & POLICY_OPEN) != 0;

    if (!policy_take_bool(json_object_get(json, "any_owner"), "any_owner", &any_owner, err) ||
        !policy_take_bool(json_object_get(json, "without_attestation"), "without_attestation",
                          &without_attestation, err))
        return false;
    if (!rule->td && (rule->owner || any_owner))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "owner and any_owner are only for rules with td");
    if (rule->owner && any_owner)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the rule has both owner and any_owner: choose one");
    if (rule->td && !rule->owner && !any_owner)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "the rule has no owner, but others can run the same image: name a proof in "
            "owner, or set \"any_owner\": true");
    if ((rule->may & POLICY_REPLICATE) && !(rule->td && rule->owner))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the rule gives the master key, with which all volumes of all tenants "
                         "open: it needs both td and owner");
    if (opens_unattested && !without_attestation)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the rule gives keys to clients that are not attested: add td, or set "
                         "\"without_attestation\": true");
    if (!opens_unattested && without_attestation)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "without_attestation is only for rules without td that may open");
    return true;
}

static bool read_rule(struct policy *policy, const json_t *json, struct policy_rule *rule,
                      struct error *err)
{
    static const char *const known[] = { "name",   "td",     "match",     "owner",
                                         "tenant", "may",    "any_owner", "without_attestation",
                                         "nodes",  "limits", "volumes",   NULL };

    if (!policy_check_keys(json, known, err) ||
        !policy_take_name(&policy->arena, json_object_get(json, "name"), "name", &rule->name,
                          err) ||
        !read_subject(policy, json, rule, err) ||
        !policy_take_name(&policy->arena, json_object_get(json, "tenant"), "tenant", &rule->tenant,
                          err) ||
        !take_permissions(json_object_get(json, "may"), &rule->may, err) ||
        !policy_take_patterns(&policy->arena, json_object_get(json, "volumes"), "volumes",
                              &rule->volumes, err) ||
        !take_nodes(policy, json_object_get(json, "nodes"), rule, err) ||
        !check_openness(json, rule, err))
        return false;
    return take_limits(json_object_get(json, "limits"), &rule->limits, err) ||
           error_wrap(err, "limits");
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
        policy->n_rules++; /* counted before it is read, so that what it owns is freed */
        if (!read_rule(policy, json_array_get(list, i), &policy->rules[i], err))
            return error_wrap(err, "rule %zu (%s)", i + 1,
                              policy->rules[i].name ? policy->rules[i].name : "without name");
        for (size_t k = 0; k < i; k++)
            if (strcmp(policy->rules[k].name, policy->rules[i].name) == 0)
                return error_set(err, ERROR_INVALID_ARGUMENT,
                                 "rule %zu has the name of rule %zu: \"%s\"", i + 1, k + 1,
                                 policy->rules[i].name);
    }
    return true;
}

static bool read_revision(struct policy *policy, const json_t *json, struct error *err)
{
    policy->revision = "";
    if (!json)
        return true;
    if (!policy_take_text(&policy->arena, json, "revision", &policy->revision, err))
        return false;
    return strlen(policy->revision) <= REVISION_MAX ||
           error_set(err, ERROR_INVALID_ARGUMENT, "revision is longer than %d bytes", REVISION_MAX);
}

static bool read_policy(struct policy *policy, const char *text, size_t len, struct error *err)
{
    static const char *const known[] = { "version", "revision",  "images", "recovery",
                                         "leases",  "retention", "rules",  NULL };
    auto_json json_t *json = NULL;
    uint8_t digest[SHA256_LEN];

    if (!json_read_object(text, len, &json, err))
        return false;

    const json_t *version = json_object_get(json, "version");

    if (!json_is_integer(version))
        return error_set(err, ERROR_INVALID_ARGUMENT, "version is missing or not a number");
    if (json_integer_value(version) != POLICY_VERSION)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "version %lld is not known: version %d is needed",
                         (long long)json_integer_value(version), POLICY_VERSION);
    if (!policy_check_keys(json, known, err) ||
        !read_revision(policy, json_object_get(json, "revision"), err) ||
        !policy_read_images(policy, json_object_get(json, "images"), err) ||
        !read_rules(policy, json_object_get(json, "rules"), err) ||
        !policy_read_recovery(policy, json_object_get(json, "recovery"), err) ||
        !policy_read_leases(policy, json_object_get(json, "leases"), err) ||
        !policy_read_retention(policy, json_object_get(json, "retention"), err) ||
        !sha256(text, len, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), policy->hash);
    return true;
}

void policy_free(struct policy **policy)
{
    if (*policy) {
        for (size_t i = 0; i < (*policy)->n_rules; i++)
            if ((*policy)->rules[i].owner)
                policy_owner_free((*policy)->rules[i].owner);
        arena_wipe(&(*policy)->arena);
    }
    free(*policy);
    *policy = NULL;
}

bool policy_parse(const char *text, size_t len, struct policy **out, struct error *err)
{
    auto_policy struct policy *policy = calloc(1, sizeof(*policy));

    if (!policy)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "policy: out of memory");
    arena_init(&policy->arena, 8 * POLICY_BYTES_MAX);
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

/* --- asking --- */

const char *policy_hash(const struct policy *policy)
{
    return policy->hash;
}

const char *policy_revision(const struct policy *policy)
{
    return policy->revision;
}

size_t policy_rule_count(const struct policy *policy)
{
    return policy->n_rules;
}

const struct policy_rule *policy_rule_at(const struct policy *policy, size_t i)
{
    return i < policy->n_rules ? &policy->rules[i] : NULL;
}

const char *policy_rule_name(const struct policy_rule *rule)
{
    return rule->name;
}

const char *policy_rule_tenant(const struct policy_rule *rule)
{
    return rule->tenant;
}

const struct policy_limits *policy_rule_limits(const struct policy_rule *rule)
{
    return &rule->limits;
}

const char *policy_rule_image(const struct policy_rule *rule, const struct principal *who,
                              int64_t now)
{
    const struct td_claims *td = principal_td(who);
    const struct image *image = rule->td && td ? policy_best_image(rule->td, td, now) : NULL;

    return image ? image->name : "";
}

bool policy_may(const struct policy_rule *rule, unsigned wanted)
{
    return (rule->may & wanted) != 0;
}

size_t policy_rule_volumes(const struct policy_rule *rule, const char *const **out)
{
    *out = rule->volumes.items;
    return rule->volumes.n;
}

size_t policy_rule_nodes(const struct policy_rule *rule, const char *const **out)
{
    *out = rule->nodes.items;
    return rule->nodes.n;
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
    for (size_t i = 0; i < rule->nodes.n; i++) {
        const struct placeholder *p = placeholders;

        while (p->text && strcmp(p->text, rule->nodes.items[i]) != 0)
            p++;
        if (!p->text && fnmatch(rule->nodes.items[i], node, 0) == 0)
            return true;

        const char *own = p->text ? p->value(who) : NULL;
        if (own && own[0] != '\0' && strcmp(own, node) == 0)
            return true;
    }
    return false;
}
