/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/principal.h"

/*
 * Who may do what: a JSON file. Pure over a principal once it is read; never changes.
 *
 *   { "version": 1,
 *     "rules": [ { "name": "nodes",
 *                  "match": { "certificate.cn": "node-*" },
 *                  "tenant": "default",
 *                  "roles": ["controller", "node"],
 *                  "volumes": ["*"],
 *                  "nodes": ["${certificate.cn}"] } ] }
 *
 * The first rule whose every claim matches decides. Patterns are those of the shell (* ? [...]);
 * certificate.cn knows * and ? and needs a letter or digit, certificate.sha256 is exact. nodes
 * belongs to the role node alone: the names such a client may give itself.
 */

#define POLICY_VERSION       1
#define POLICY_BYTES_MAX     ((size_t)1024 * 1024)
#define POLICY_RULES_MAX     256
#define POLICY_PATTERNS_MAX  64
#define POLICY_NAME_MAX      63 /* of rules and tenants */
#define POLICY_HASH_TEXT_LEN 65

enum policy_role { POLICY_CONTROLLER = 1, POLICY_NODE = 2, POLICY_ADMIN = 4 }; /* bits */

struct policy;
struct policy_rule;

/* INVALID_ARGUMENT names the rule and the key. */
MUST_USE bool policy_parse(const char *text, size_t len, struct policy **out, struct error *err);
MUST_USE bool policy_load(const char *path, struct policy **out, struct error *err);
void policy_free(struct policy **policy);
#define auto_policy CLEANUP(policy_free)

const char *policy_hash(const struct policy *policy); /* SHA-256 of the file, hex */

/* NULL when no rule matches. */
const struct policy_rule *policy_find(const struct policy *policy, const struct principal *who);
const char *policy_rule_name(const struct policy_rule *rule);
const char *policy_rule_tenant(const struct policy_rule *rule);

bool policy_has_role(const struct policy_rule *rule, unsigned roles); /* any of these */
bool policy_has_volume(const struct policy_rule *rule, const char *volume_id);
bool policy_has_node(const struct policy_rule *rule, const struct principal *who, const char *node);
