/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"
#include "policy/token.h"
#include "record/recovery_certificate.h"

/*
 * Who may do what: a JSON file, described by docs/policy.schema.json and docs/policy.md. Once read,
 * a policy never changes. Its judgement depends only on the principal and the time.
 *
 *   { "version": 1,
 *     "revision": "2026-11-02 image 41",                      for people; optional
 *     "images": {                                             reference values, by name
 *       "node-41": { "mrtd": ["91eb..."], "rtmr1": ["..."], "rtmr2": ["..."],
 *                    "xfam": ["0x602e7"], "until": "2027-03-01T00:00:00Z" } },
 *     "recovery": { "certificate": "-----BEGIN CERTIFICATE-----...",     of all tenants; optional
 *                   "tenants": { "blue": "-----BEGIN ...", "green": false } },
 *     "leases": { "seconds": 60, "tenants": { "blue": 300, "green": false } },     optional
 *     "retention": { "seconds": 604800, "tenants": { "blue": 3600, "green": false } },   optional
 *     "rules": [
 *       { "name": "nodes",
 *         "td": { "images": ["node-41", "node-42"],
 *                 "attributes": { "required": "0x10000000", "allowed": "0x50000000" },
 *                 "tcb": { "minimum_evaluation": 17,
 *                          "exceptions": [ { "status": "OutOfDate", "advisories": ["INTEL-SA-1"],
 *                                            "date_from": "2024-03-13T00:00:00Z",
 *                                            "until": "2027-01-31T00:00:00Z" } ] },
 *                 "platforms": ["<32 hex digits>"],           platform instance ids; optional
 *                 "service_tds": ["<96 hex digits>"],         none is allowed by default
 *                 "minimum_sgx_type": 1,                      2: memory with integrity; optional
 *                 "event_log": true },                        must be sent, and replay; optional
 *         "owner": { "token": { "issuer": "https://...", "audience": "tdvol",
 *                               "subjects": ["system:serviceaccount:tdvol:tdvol-node"],
 *                               "keys": { "keys": [ ... ] } } },
 *         "tenant": "default",
 *         "may": ["create", "open", "delete"],
 *         "volumes": ["*"],
 *         "nodes": ["${token.node}"],
 *         "limits": { "records": 10000, "opens_per_minute": 600, "creates_per_minute": 60 } },
 *       { "name": "admin", "match": { "certificate.cn": "admin" }, "tenant": "default",
 *         "may": ["admin"], "volumes": ["*"] } ] }
 *
 * A rule has "td", or "match" (a certificate of the broker's client CA), or both. Within "owner"
 * every member must hold: mrconfigid, mrowner, mrownerconfig (lists of values), rtmr3 (values) or
 * rtmr3_event (a text whose SHA-384 was extended into RTMR3 first), token, certificate ({"ca": PEM,
 * "common_names": [...]}). "any_owner": true says that the rule has no "owner" on purpose. "open"
 * without "td" needs "without_attestation": true; "replicate" needs "td" and "owner". The first rule
 * that fits decides. "until" is the first second that is no longer accepted.
 *
 * Volumes that a tenant's nodes format can also be opened with the key of its recovery certificate:
 * the one below "tenants", where false means none, or else "certificate". It belongs to the tenant and
 * not to a rule, because several rules may have one tenant: which one a node fits must not decide who
 * can recover a volume.
 *
 * The lease of a volume with fencing=suspend is over when its node does not renew it for as many seconds;
 * false: never. It belongs to the tenant for the same reason. So does the retention: the key of a deleted
 * volume is kept for as many seconds; false: it is destroyed at once.
 */
#define POLICY_VERSION       1
#define POLICY_BYTES_MAX     ((size_t)1024 * 1024)
#define POLICY_RULES_MAX     256
#define POLICY_IMAGES_MAX    256
#define POLICY_PATTERNS_MAX  64
#define POLICY_NAME_MAX      63 /* of rules, images and tenants */
#define POLICY_HASH_TEXT_LEN 65

enum policy_permission {                    /* bits */
                         POLICY_CREATE = 1, /* records of volumes, snapshots and clones */
                         POLICY_OPEN = 2,   /* keys */
                         POLICY_DELETE = 4,
                         POLICY_ROTATE = 8,
                         POLICY_ADMIN =
                             16, /* sees and deletes every record of the tenant, releases leases */
                         POLICY_PUBLISH = 32,    /* says which nodes may open a volume that moves */
                         POLICY_UNSEAL = 64,     /* brings the master key, or a share of it */
                         POLICY_REPLICATE = 128, /* gets the master key */
                         POLICY_AUDIT = 256,     /* learns where audit logs end */
                         POLICY_BACKUP = 512,    /* has the broker write backups of its store */
                         POLICY_UNDELETE = 1024, /* brings deleted volumes back whose key is kept */
};
/* Their words in a policy's "may". */
struct policy_permission_name {
    const char *name;
    enum policy_permission permission;
};
#define POLICY_PERMISSIONS 11
extern const struct policy_permission_name policy_permissions[POLICY_PERMISSIONS];

#define POLICY_ANYTHING                                                                            \
    (POLICY_CREATE | POLICY_OPEN | POLICY_DELETE | POLICY_ROTATE | POLICY_ADMIN | POLICY_PUBLISH | \
     POLICY_UNSEAL | POLICY_REPLICATE | POLICY_AUDIT | POLICY_BACKUP | POLICY_UNDELETE)

struct policy_limits {
    uint64_t records; /* of the tenant that are not erased; 0: no limit */
    /* Of the tenant, at one broker; 0: no limit. */
    uint32_t opens_per_minute;
    uint32_t creates_per_minute; /* records that were not there before */
};

struct policy;
struct policy_rule;

/* INVALID_ARGUMENT names the rule and the key. Refuses a rule that every TD would fit: its images
 * must pin MRTD with RTMR1 and RTMR2, or MRTD with MRCONFIGID. Refuses a rule that every owner
 * would fit, unless it says so. */
MUST_USE bool policy_parse(const char *text, size_t len, struct policy **out, struct error *err);
MUST_USE bool policy_load(const char *path, struct policy **out, struct error *err);
void policy_free(struct policy **policy);
#define auto_policy CLEANUP(policy_free)

const char *policy_hash(const struct policy *policy);     /* SHA-256 of the file, hex */
const char *policy_revision(const struct policy *policy); /* "" when it has none */

/* The recovery certificate of a tenant's new volumes; NULL: it has none. */
const struct recovery_certificate *policy_recovery(const struct policy *policy, const char *tenant);
/* Whether the policy says that a tenant shall have none. */
bool policy_declines_recovery(const struct policy *policy, const char *tenant);

/* How long a lease of a tenant's volumes with fencing=suspend is good without a renewal; 0: it is never
 * over. Otherwise within the limits of record/record.h. */
uint64_t policy_lease_ms(const struct policy *policy, const char *tenant);

/* How long the key of a tenant's deleted volume or snapshot is kept; 0: it is destroyed at once. */
#define POLICY_RETENTION_MIN_S 1
#define POLICY_RETENTION_MAX_S (366u * 24 * 3600)
uint64_t policy_retention_ms(const struct policy *policy, const char *tenant);

/* Called for each check of each rule, for "tdvolctl policy test". detail is NULL when ok. */
struct policy_trace {
    void (*step)(void *cookie, const char *rule, const char *check, bool ok, const char *detail);
    void *cookie;
};

/*
 * Finds the first rule that fits at now (seconds since 1970). False: DENIED, with the reason and
 * text of the rule that came furthest. A rule whose token or certificate was shown and is wrong
 * counts as further than a rule whose proof was not shown. trace may be NULL. With a trace, a
 * failed check does not end a rule: its other checks run, too.
 */
MUST_USE bool policy_judge(const struct policy *policy, const struct principal *who, int64_t now,
                           const struct policy_trace *trace, const struct policy_rule **out,
                           struct error *err);

/*
 * An owner's proof is verified once, when it is shown, against the keys or CAs of all rules. A
 * judgement then checks that the key or CA belongs to its rule. A proof that no rule wants, or that
 * is wrong, counts as not shown, because nodes send their proofs even when their own rule does not
 * want them. DENIED: the reasons of policy/token.h for a token, OwnerCertificate for a certificate.
 * The certificate's key must have the hash key_sha256.
 */
bool policy_wants_token(const struct policy *policy);
bool policy_wants_owner_certificate(const struct policy *policy);
MUST_USE bool policy_verify_token(const struct policy *policy, const char *token, size_t len,
                                  struct token_claims *out, struct error *err);
MUST_USE bool policy_verify_owner_certificate(const struct policy *policy, const char *pem,
                                              size_t len, const uint8_t key_sha256[static 32],
                                              int64_t now, struct owner_claims *out,
                                              struct error *err);

size_t policy_rule_count(const struct policy *policy);
const struct policy_rule *policy_rule_at(const struct policy *policy, size_t i);
/* Call it after a failed judgement. unproven is why the shown proof was wrong (code ERROR_NONE:
 * none was shown). When only the owner's proof was lacking, its sender should know that fault: *err
 * becomes *unproven. True when it did. */
bool policy_blame_proof(struct error *err, const struct error *unproven);

const char *policy_rule_name(const struct policy_rule *rule);
const char *policy_rule_tenant(const struct policy_rule *rule);
const char *policy_rule_image(const struct policy_rule *rule, const struct principal *who,
                              int64_t now); /* the image that fits; "" for rules without td */
const struct policy_limits *policy_rule_limits(const struct policy_rule *rule);
/* The rule's patterns, to show them to people; each returns their number. */
size_t policy_rule_volumes(const struct policy_rule *rule, const char *const **out);
size_t policy_rule_nodes(const struct policy_rule *rule, const char *const **out);
bool policy_may(const struct policy_rule *rule, unsigned permissions); /* true for any of these */
bool policy_has_volume(const struct policy_rule *rule, const char *volume_id);
bool policy_has_node(const struct policy_rule *rule, const struct principal *who, const char *node);
