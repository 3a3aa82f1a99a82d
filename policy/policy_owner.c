/* SPDX-License-Identifier: Apache-2.0 */
/* The proofs of who owns a Trust Domain: measured values, a token, a certificate. */
#include "attest/reason.h"
#include "base/digest.h"
#include "policy/owner_certificate.h"
#include "policy/policy_rule.h"

#include <fnmatch.h>
#include <string.h>

/* --- reading --- */

/* A value that every TD has proves nothing. */
static bool take_owner_values(struct arena *arena, const json_t *json, enum measurement m,
                              struct owner_rule *out, struct error *err)
{
    const char *key = measurement_fields[m].key;

    if (!policy_take_values(arena, json_object_get(json, key), key, MEASUREMENT_LEN,
                            &out->values[m], err))
        return false;
    return out->values[m].n == 0 || values_pin(&out->values[m]) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "%s: zeros prove nothing, because every TD has them at first", key);
}

static bool read_event(struct arena *arena, const json_t *json, struct owner_rule *out,
                       struct error *err)
{
    uint8_t extended[2 * MEASUREMENT_LEN] = { 0 };

    if (!json)
        return true;
    if (!policy_take_text(arena, json, "rtmr3_event", &out->rtmr3_event, err) ||
        !sha384(out->rtmr3_event, strlen(out->rtmr3_event), out->rtmr3_digest, err))
        return false;
    memcpy(extended + MEASUREMENT_LEN, out->rtmr3_digest, MEASUREMENT_LEN);
    return sha384(extended, sizeof(extended), out->rtmr3_alone, err);
}

static bool take_identity_patterns(struct arena *arena, const json_t *json, const char *key,
                                   struct patterns *out, struct error *err)
{
    if (!policy_take_patterns(arena, json, key, out, err))
        return false;
    for (size_t i = 0; i < out->n; i++)
        if (!policy_check_identity_pattern(key, out->items[i], err))
            return false;
    return true;
}

static bool read_token(struct arena *arena, const json_t *json, struct token_rule *out,
                       struct error *err)
{
    static const char *const known[] = { "issuer", "audience", "subjects", "keys", NULL };
    const json_t *keys = json_object_get(json, "keys");

    if (!policy_check_keys(json, known, err) ||
        !policy_take_text(arena, json_object_get(json, "issuer"), "issuer", &out->issuer, err) ||
        !policy_take_text(arena, json_object_get(json, "audience"), "audience", &out->audience,
                          err) ||
        !take_identity_patterns(arena, json_object_get(json, "subjects"), "subjects",
                                &out->subjects, err))
        return false;
    if (!json_is_object(keys))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "keys must be the issuer's JSON Web Key Set, as printed by "
                         "kubectl get --raw /openid/v1/jwks");
    auto_free char *text = json_dumps(keys, JSON_COMPACT);
    if (!text)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "keys: out of memory");
    return token_keys_parse(text, strlen(text), &out->keys, err) || error_wrap(err, "keys");
}

static bool read_certificate(struct arena *arena, const json_t *json, struct owner_ca_rule *out,
                             struct error *err)
{
    static const char *const known[] = { "ca", "common_names", NULL };
    const char *pem = json_string_value(json_object_get(json, "ca"));

    if (!policy_check_keys(json, known, err) ||
        !take_identity_patterns(arena, json_object_get(json, "common_names"), "common_names",
                                &out->common_names, err))
        return false;
    if (!pem)
        return error_set(err, ERROR_INVALID_ARGUMENT, "ca must be PEM text");
    if (!owner_cas_parse(pem, strlen(pem), out->cas, POLICY_OWNER_CAS_MAX, &out->n, err))
        return error_wrap(err, "ca");
    for (size_t i = 0; i < out->n; i++)
        if (!cert_sha256(out->cas[i], out->sha256[i], err))
            return false;
    return true;
}

bool policy_read_owner(struct policy *policy, const json_t *json, struct owner_rule *out,
                       struct error *err)
{
    static const char *const known[] = { "mrconfigid",  "mrowner", "mrownerconfig", "rtmr3",
                                         "rtmr3_event", "token",   "certificate",   NULL };
    static const enum measurement measured[] = { MEASUREMENT_MRCONFIGID, MEASUREMENT_MROWNER,
                                                 MEASUREMENT_MROWNERCONFIG, MEASUREMENT_RTMR3 };
    const json_t *token = json_object_get(json, "token");
    const json_t *certificate = json_object_get(json, "certificate");
    struct arena *arena = &policy->arena;

    if (!policy_check_keys(json, known, err))
        return false;
    if (json_object_size(json) == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "it is empty: name at least one proof");
    for (size_t i = 0; i < ARRAY_LEN(measured); i++)
        if (!take_owner_values(arena, json, measured[i], out, err))
            return false;
    if (!read_event(arena, json_object_get(json, "rtmr3_event"), out, err))
        return false;
    out->token = token ? arena_alloc(arena, sizeof(*out->token)) : NULL;
    out->certificate = certificate ? arena_alloc(arena, sizeof(*out->certificate)) : NULL;
    if ((token && !out->token) || (certificate && !out->certificate))
        return arena_exhausted(err);
    if (token && !read_token(arena, token, out->token, err))
        return error_wrap(err, "token");
    if (certificate && !read_certificate(arena, certificate, out->certificate, err))
        return error_wrap(err, "certificate");
    return true;
}

void policy_owner_free(struct owner_rule *owner)
{
    if (owner->token)
        token_keys_free(&owner->token->keys);
    for (size_t i = 0; owner->certificate && i < owner->certificate->n; i++)
        X509_free(owner->certificate->cas[i]);
}

/* --- verifying what is shown --- */

bool policy_wants_token(const struct policy *policy)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        if (policy->rules[i].owner && policy->rules[i].owner->token)
            return true;
    return false;
}

bool policy_wants_owner_certificate(const struct policy *policy)
{
    for (size_t i = 0; i < policy->n_rules; i++)
        if (policy->rules[i].owner && policy->rules[i].owner->certificate)
            return true;
    return false;
}

bool policy_verify_token(const struct policy *policy, const char *token, size_t len,
                         struct token_claims *out, struct error *err)
{
    attest_refuse(err, REASON_TOKEN_SIGNATURE, "no rule of the policy wants a token");
    for (size_t i = 0; i < policy->n_rules; i++) {
        const struct owner_rule *owner = policy->rules[i].owner;

        if (!owner || !owner->token)
            continue;
        if (token_verify(token, len, &owner->token->keys, out, err))
            return true;
        /* other keys cannot repair its form */
        if (strcmp(err->reason, attest_reason_name(REASON_TOKEN_SIGNATURE)) != 0)
            return false;
    }
    return false;
}

bool policy_verify_owner_certificate(const struct policy *policy, const char *pem, size_t len,
                                     const uint8_t key_sha256[static 32], int64_t now,
                                     struct owner_claims *out, struct error *err)
{
    attest_refuse(err, REASON_OWNER_CERTIFICATE,
                  "no rule of the policy wants an owner's certificate");
    for (size_t i = 0; i < policy->n_rules; i++) {
        const struct owner_rule *owner = policy->rules[i].owner;

        if (!owner || !owner->certificate)
            continue;
        if (owner_certificate_verify(owner->certificate->cas, owner->certificate->n, pem, len,
                                     key_sha256, now, out, err))
            return true;
        if (err->code != ERROR_DENIED)
            return false;
    }
    return false;
}

/* --- judging --- */

/* The sender writes a token's text. Control characters in it must not reach logs and terminals. */
struct shown {
    char text[121];
};

static struct shown shown(const char *text)
{
    struct shown out = { .text = "" };

    for (size_t i = 0; i < sizeof(out.text) - 1 && text[i]; i++)
        out.text[i] = text[i];
    for (char *c = out.text; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    return out;
}

static bool has_values(const struct judgement *j, int m)
{
    return j->rule->owner->values[m].n > 0;
}

static bool check_values(const struct judgement *j, int m, struct error *err)
{
    const uint8_t *have = measurement_of(j->td, (enum measurement)m);
    char text[2 * MEASUREMENT_LEN + 1];

    if (values_have(&j->rule->owner->values[m], have))
        return true;
    hex_encode(have, MEASUREMENT_LEN, text);
    return attest_refuse(err, REASON_OWNER_MISMATCH,
                         "%s is %s, which is none of the owner's values in the rule",
                         measurement_fields[m].title, text);
}

static bool has_event(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->owner->rtmr3_event != NULL;
}

/* The first event alone was made before anybody could act in the TD. Root in any TD that runs the image can
 * extend a known text later. */
static bool check_event(const struct judgement *j, int argument, struct error *err)
{
    const struct owner_rule *rule = j->rule->owner;
    const struct td_claims *td = j->td;

    (void)argument;
    if (memcmp(td->rtmr[3], rule->rtmr3_alone, MEASUREMENT_LEN) == 0)
        return true;
    if (td->has_event_log && td->n_events > 0 &&
        memcmp(td->events[0], rule->rtmr3_digest, MEASUREMENT_LEN) == 0)
        return true;
    return attest_refuse(err, REASON_OWNER_MISMATCH,
                         td->has_event_log ? "\"%s\" is not the first event of RTMR3"
                                           : "\"%s\" is not the only extension of RTMR3, "
                                             "and no event log was sent",
                         shown(rule->rtmr3_event).text);
}

static bool fits_any(const struct patterns *patterns, const char *text)
{
    for (size_t i = 0; i < patterns->n; i++)
        if (fnmatch(patterns->items[i], text, 0) == 0)
            return true;
    return false;
}

static bool has_token(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->owner->token != NULL;
}

static bool token_has_key(const struct token_rule *rule, const struct token_claims *token)
{
    for (size_t i = 0; i < rule->keys.n; i++)
        if (bytes_are_equal(rule->keys.keys[i].sha256, token->key_sha256,
                            sizeof(token->key_sha256)))
            return true;
    return false;
}

static bool token_has_audience(const struct token_claims *token, const char *audience)
{
    for (size_t i = 0; i < token->n_audiences; i++)
        if (strcmp(token->audiences[i], audience) == 0)
            return true;
    return false;
}

static bool check_token_date(const struct token_claims *token, int64_t now, struct error *err)
{
    if (now < token->not_before - POLICY_TOKEN_LEEWAY_S)
        return attest_refuse(err, REASON_TOKEN_EXPIRED,
                             "the token is not valid yet: are the clocks of both sides right?");
    return now < token->until + POLICY_TOKEN_LEEWAY_S ||
           attest_refuse(err, REASON_TOKEN_EXPIRED, "the token expired; attest with a new one");
}

static bool check_token(const struct judgement *j, int argument, struct error *err)
{
    const struct token_rule *rule = j->rule->owner->token;
    const struct token_claims *token = j->who->token;

    (void)argument;
    if (!token)
        return attest_refuse(err, REASON_OWNER_MISSING,
                             "the rule wants a token for audience \"%s\", and none was sent",
                             shown(rule->audience).text);
    if (!token_has_key(rule, token))
        return attest_refuse(err, REASON_TOKEN_SIGNATURE,
                             "the token is not signed by a key of this rule");
    if (strcmp(token->issuer, rule->issuer) != 0)
        return attest_refuse(err, REASON_TOKEN_ISSUER, "token issuer is %s, the rule wants %s",
                             shown(token->issuer).text, shown(rule->issuer).text);
    if (!token_has_audience(token, rule->audience))
        return attest_refuse(err, REASON_TOKEN_AUDIENCE, "token audience is %s, the rule wants %s",
                             shown(token->n_audiences > 0 ? token->audiences[0] : "").text,
                             shown(rule->audience).text);
    if (!fits_any(&rule->subjects, token->subject))
        return attest_refuse(err, REASON_TOKEN_SUBJECT, "token subject is %s, the rule wants %s%s",
                             shown(token->subject).text, shown(rule->subjects.items[0]).text,
                             rule->subjects.n > 1 ? " or others" : "");
    return check_token_date(token, j->now, err);
}

static bool has_certificate(const struct judgement *j, int argument)
{
    (void)argument;
    return j->rule->owner->certificate != NULL;
}

static bool check_certificate(const struct judgement *j, int argument, struct error *err)
{
    const struct owner_ca_rule *rule = j->rule->owner->certificate;
    const struct owner_claims *owner = j->who->owner;
    bool is_pinned = false;

    (void)argument;
    if (!owner)
        return attest_refuse(err, REASON_OWNER_MISSING,
                             "the rule wants a certificate of the owner's CA, and none was sent");
    for (size_t i = 0; i < rule->n; i++)
        is_pinned |= memcmp(rule->sha256[i], owner->ca_sha256, sizeof(owner->ca_sha256)) == 0;
    if (!is_pinned)
        return attest_refuse(err, REASON_OWNER_CERTIFICATE,
                             "the owner's certificate is not from a CA of this rule");
    if (j->now > owner->until)
        return attest_refuse(err, REASON_OWNER_CERTIFICATE,
                             "the owner's certificate expired; attest with a new one");
    return fits_any(&rule->common_names, owner->common_name) ||
           attest_refuse(err, REASON_OWNER_MISMATCH,
                         "the owner's certificate is for \"%s\", the rule wants %s%s",
                         owner->common_name, shown(rule->common_names.items[0]).text,
                         rule->common_names.n > 1 ? " or others" : "");
}

const struct policy_check policy_owner_checks[POLICY_OWNER_CHECKS] = {
    { "owner's MRCONFIGID", has_values, check_values, MEASUREMENT_MRCONFIGID },
    { "owner's MROWNER", has_values, check_values, MEASUREMENT_MROWNER },
    { "owner's MROWNERCONFIG", has_values, check_values, MEASUREMENT_MROWNERCONFIG },
    { "owner's RTMR3", has_values, check_values, MEASUREMENT_RTMR3 },
    { "owner's event in RTMR3", has_event, check_event, 0 },
    { "owner's token", has_token, check_token, 0 },
    { "owner's certificate", has_certificate, check_certificate, 0 },
};
