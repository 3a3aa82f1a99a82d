/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/json.h"
#include "base/arena.h"
#include "policy/policy.h"

/*
 * The inside of a policy, for the files that read it (policy.c; policy_td.c and policy_owner.c for
 * their parts) and the file that judges by it (policy_judge.c). Everything is kept in the policy's
 * arena, except keys and certificates, which OpenSSL allocates.
 */
#define POLICY_VALUES_MAX     64 /* of one measurement, platforms, exceptions */
#define POLICY_OWNER_CAS_MAX  8  /* of one rule */
#define POLICY_MATCH_MAX      2  /* claims of a certificate */
#define POLICY_TOKEN_LEEWAY_S 60 /* between the clocks of issuer and broker */

struct patterns {
    size_t n;
    const char **items;
};

/* Binary values of the same length, one after the other. */
struct values {
    size_t n, len;
    const uint8_t *bytes;
};

struct numbers {
    size_t n;
    const uint64_t *items;
};

/* The measurements of a TD that a policy can name, in the order in which they are judged. */
enum measurement {
    MEASUREMENT_MRTD,
    MEASUREMENT_RTMR0,
    MEASUREMENT_RTMR1,
    MEASUREMENT_RTMR2,
    MEASUREMENT_RTMR3,
    MEASUREMENT_MRCONFIGID,
    MEASUREMENT_MROWNER,
    MEASUREMENT_MROWNERCONFIG,
    MEASUREMENT_MRSEAM,
    MEASUREMENT_COUNT
};
struct measurement_field {
    const char *key;   /* "mrtd" */
    const char *title; /* "MRTD" */
    size_t offset;     /* in struct td_claims */
};
extern const struct measurement_field measurement_fields[MEASUREMENT_COUNT];
const uint8_t *measurement_of(const struct td_claims *td, enum measurement m);

struct image {
    const char *name;
    struct values values[MEASUREMENT_COUNT]; /* n is 0: any */
    struct numbers xfam;                     /* n is 0: the default mask */
    int64_t until;                           /* seconds since 1970; not accepted from then on */
};

struct tcb_exception {
    enum tcb_status status;
    struct patterns advisories; /* exact names */
    int64_t date_from, until;   /* until is not included */
};

struct td_rule {
    size_t n_images;
    const struct image **images;
    uint64_t attributes_required, attributes_allowed;
    uint32_t minimum_evaluation;
    size_t n_exceptions;
    struct tcb_exception *exceptions;
    struct values platforms, service_tds;
    uint8_t minimum_sgx_type;
    bool needs_event_log;
};

struct token_rule {
    const char *issuer, *audience;
    struct patterns subjects;
    struct token_keys keys;
};

struct owner_ca_rule {
    size_t n;
    X509 *cas[POLICY_OWNER_CAS_MAX];
    uint8_t sha256[POLICY_OWNER_CAS_MAX][32];
    struct patterns common_names;
};

struct owner_rule {
    struct values values[MEASUREMENT_COUNT]; /* mrconfigid, mrowner, mrownerconfig, rtmr3 */
    const char *rtmr3_event;                 /* NULL: none */
    uint8_t rtmr3_digest[MEASUREMENT_LEN];   /* SHA-384 of it */
    uint8_t rtmr3_alone[MEASUREMENT_LEN];    /* RTMR3 when it was the only extension */
    struct token_rule *token;                /* NULL: none */
    struct owner_ca_rule *certificate;       /* NULL: none */
};

struct policy_rule {
    const char *name, *tenant;
    unsigned may;
    size_t n_match;
    struct {
        const char *claim, *pattern;
    } match[POLICY_MATCH_MAX];
    struct td_rule *td;       /* NULL: for clients that are not attested */
    struct owner_rule *owner; /* NULL: none, or any_owner */
    struct patterns volumes, nodes;
    struct policy_limits limits;
};

struct recovery_rule {
    const char *tenant;
    const struct recovery_certificate *certificate; /* NULL: none */
};

struct duration_rule {
    const char *tenant;
    uint64_t ms; /* 0: false */
};

/* Of leases or of retention. */
struct durations {
    uint64_t ms; /* of tenants that are not in the list; 0: leases are never over, no key is kept */
    struct duration_rule *rules;
    size_t n_rules;
};

struct policy {
    struct arena arena;
    char hash[POLICY_HASH_TEXT_LEN];
    const char *revision;
    struct image *images;
    size_t n_images;
    struct policy_rule *rules;
    size_t n_rules;
    const struct recovery_certificate
        *recovery; /* of tenants that are not in the list; NULL: none */
    struct recovery_rule *recovery_rules;
    size_t n_recovery_rules;
    struct durations leases, retention;
};

/* --- reading (policy_read.c); INVALID_ARGUMENT names the key --- */

/* Refuses unknown keys, because a misspelt key would silently count as absent. known ends with
 * NULL. */
MUST_USE bool policy_check_keys(const json_t *json, const char *const *known, struct error *err);
MUST_USE bool policy_take_text(struct arena *arena, const json_t *json, const char *key,
                               const char **out, struct error *err);
/* Names go into logs, listings and lookups: letters, digits, and . _ - */
MUST_USE bool policy_take_name(struct arena *arena, const json_t *json, const char *key,
                               const char **out, struct error *err);
MUST_USE bool policy_take_patterns(struct arena *arena, const json_t *json, const char *key,
                                   struct patterns *out, struct error *err);
/* For patterns that choose who the caller is: only * and ?, never a pattern for every caller. */
MUST_USE bool policy_check_identity_pattern(const char *key, const char *pattern,
                                            struct error *err);
/* A list of lower-case hex; json NULL leaves *out empty. */
MUST_USE bool policy_take_values(struct arena *arena, const json_t *json, const char *key,
                                 size_t len, struct values *out, struct error *err);
/* A list of "0x..." */
MUST_USE bool policy_take_masks(struct arena *arena, const json_t *json, const char *key,
                                struct numbers *out, struct error *err);
/* "0x602e7"; json NULL leaves *out as it is. */
MUST_USE bool policy_take_mask(const json_t *json, const char *key, uint64_t *out,
                               struct error *err);
/* A date; json NULL leaves *out as it is. */
MUST_USE bool policy_take_date(const json_t *json, const char *key, int64_t *out,
                               struct error *err);
MUST_USE bool policy_take_number(const json_t *json, const char *key, uint64_t max, uint64_t *out,
                                 struct error *err);
MUST_USE bool policy_take_bool(const json_t *json, const char *key, bool *out, struct error *err);
bool values_have(const struct values *values, const uint8_t *bytes);
/* True for one value or more, none of them zeros: a register that measured nothing is all zeros. */
bool values_pin(const struct values *values);

/* The names below "tenants" of a part of the policy; false for a tenant stands for an empty rule. take
 * gets each tenant's rule, zeroed but for what it sets, and a copy of the name that lives as long as the
 * policy. *rules: as many as *n, of rule_bytes each. After the rules of the policy: a tenant that none of
 * them has is refused. */
MUST_USE bool policy_read_tenants(struct policy *policy, const json_t *json, size_t rule_bytes,
                                  bool (*take)(struct policy *policy, void *rule,
                                               const char *tenant, const json_t *json,
                                               struct error *err),
                                  void **rules, size_t *n, struct error *err);

/* After the rules: a tenant that no rule has is refused. json may be NULL. */
MUST_USE bool policy_read_recovery(struct policy *policy, const json_t *json, struct error *err);

/* The same for leases. */
MUST_USE bool policy_read_leases(struct policy *policy, const json_t *json, struct error *err);
/* And for the time that keys of deleted volumes are kept. */
MUST_USE bool policy_read_retention(struct policy *policy, const json_t *json, struct error *err);

/* --- the parts of a rule --- */

MUST_USE bool policy_read_images(struct policy *policy, const json_t *json, struct error *err);
MUST_USE bool policy_read_td(struct policy *policy, const json_t *json, struct td_rule *out,
                             struct error *err);
MUST_USE bool policy_read_owner(struct policy *policy, const json_t *json, struct owner_rule *out,
                                struct error *err);
void policy_owner_free(struct owner_rule *owner);

/* --- judging; DENIED with a reason --- */

struct judgement {
    const struct policy_rule *rule;
    const struct principal *who;
    const struct td_claims *td; /* of who; NULL: who has shown no quote of a Trust Domain */
    const struct image *image;  /* the rule's image that fits best; NULL: no td */
    int64_t now;
};

/* The image that fits wholly, or else the image with the most measurements that fit. */
const struct image *policy_best_image(const struct td_rule *rule, const struct td_claims *td,
                                      int64_t now);
/* One check of a rule that has td or owner. argument is from the check's row in its table. */
typedef bool policy_check_run(const struct judgement *j, int argument, struct error *err);
typedef bool policy_check_applies(const struct judgement *j, int argument);
struct policy_check {
    const char *name;
    policy_check_applies *applies; /* NULL: it applies to every rule with this part */
    policy_check_run *run;
    int argument;
};
#define POLICY_TD_CHECKS    19
#define POLICY_OWNER_CHECKS 7
#define POLICY_OWNER_SHOWN  5 /* from this index on: proofs that are shown together with the quote */
extern const struct policy_check policy_td_checks[POLICY_TD_CHECKS];
extern const struct policy_check policy_owner_checks[POLICY_OWNER_CHECKS];
