/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "policy/policy.h"
#include "tests/unit/attest/issuer.h"
#include "tests/unit/policy/policy_text.h"

#include <stdio.h>
#include <stdlib.h>

#define OWNER(x) TD_POLICY("", "'owner':{" x "}")

static void a_measured_value_proves_the_owner(void **state)
{
    static const struct {
        const char *text, *part;
        size_t offset;
    } rows[] = {
        { OWNER("'mrconfigid':['" OWN "']"), "MRCONFIGID is",
          offsetof(struct td_claims, mrconfigid) },
        { OWNER("'mrowner':['" OTHER "','" OWN "']"), "MROWNER is",
          offsetof(struct td_claims, mrowner) },
        { OWNER("'mrownerconfig':['" OWN "']"), "MROWNERCONFIG is",
          offsetof(struct td_claims, mrownerconfig) },
        { OWNER("'rtmr3':['" OWN "']"), "RTMR3 is", offsetof(struct td_claims, rtmr[3]) },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_policy struct policy *policy = policy_must(rows[i].text);
        struct tee_claims tee = fitting_td();
        struct principal who = { .tee = &tee };

        assert_judged(policy, &who, NOW, "OwnerMismatch", rows[i].part);
        set_measurement((uint8_t *)&tee.td + rows[i].offset, RTMR1);
        assert_judged(policy, &who, NOW, "OwnerMismatch", rows[i].part);
        set_measurement((uint8_t *)&tee.td + rows[i].offset, OWN);
        (void)assert_fits(policy, &who, NOW);
    }
}

static void every_proof_that_a_rule_names_must_hold(void **state)
{
    auto_policy struct policy *policy =
        policy_must(OWNER("'mrconfigid':['" OWN "'],'mrowner':['" OWN "']"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };

    (void)state;
    set_measurement(tee.td.mrconfigid, OWN);
    assert_judged(policy, &who, NOW, "OwnerMismatch", "MROWNER");
    set_measurement(tee.td.mrowner, OWN);
    (void)assert_fits(policy, &who, NOW);
}

static void a_text_extended_into_rtmr3_proves_the_owner(void **state)
{
    auto_policy struct policy *policy = policy_must(OWNER("'rtmr3_event':'cluster 7'"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };
    uint8_t extended[2 * MEASUREMENT_LEN] = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_judged(policy, &who, NOW, "OwnerMismatch", "no event log was sent");
    /* as the only event, without a log */
    assert_ok(sha384("cluster 7", 9, extended + MEASUREMENT_LEN, &err));
    assert_ok(sha384(extended, sizeof(extended), tee.td.rtmr[3], &err));
    (void)assert_fits(policy, &who, NOW);
    /* before other events in a log; digests count only when the log replayed */
    set_measurement(tee.td.rtmr[3], OTHER);
    tee.td.n_events = 2;
    assert_ok(sha384("cluster 7", 9, tee.td.events[0], &err));
    assert_judged(policy, &who, NOW, "OwnerMismatch", "no event log was sent");
    tee.td.has_event_log = true;
    (void)assert_fits(policy, &who, NOW);
    tee.td.n_events = 0;
    assert_judged(policy, &who, NOW, "OwnerMismatch", "\"cluster 7\" is not the first event");
}

/* Root in a stranger's TD knows the text, too, and extends it when the image has done its part. */
static void a_text_extended_into_rtmr3_later_proves_nothing(void **state)
{
    auto_policy struct policy *policy = policy_must(OWNER("'rtmr3_event':'cluster 7'"));
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee };
    struct error err = ERROR_INIT;

    (void)state;
    set_measurement(tee.td.rtmr[3], OTHER);
    tee.td.has_event_log = true;
    tee.td.n_events = 3;
    assert_ok(sha384("cluster 8", 9, tee.td.events[0], &err));
    assert_ok(sha384("cluster 7", 9, tee.td.events[1], &err));
    assert_ok(sha384("cluster 7", 9, tee.td.events[2], &err));
    assert_judged(policy, &who, NOW, "OwnerMismatch", "\"cluster 7\" is not the first event");
}

/* --- tokens --- */

#define TOKEN_RULE                                                                          \
    "'token':{'issuer':'https://k8s','audience':'tdvol','subjects':['system:*:tdvol:node'," \
    "'s-?'],'keys':%s}"

static struct policy *token_policy(EVP_PKEY *key)
{
    char *jwk = jwk_of(key, "k", ""), *keys = jwks_of(jwk, NULL), *text = NULL;

    assert_true(asprintf(&text,
                         POLICY(IMAGES, "{'name':'r','td':{'images':['i']},'owner':{" TOKEN_RULE
                                        "},'tenant':'t','may':['open'],'volumes':['*'],"
                                        "'nodes':['${token.node}']}"),
                         keys) > 0);
    struct policy *policy = policy_must(text);
    free(jwk);
    free(keys);
    free(text);
    return policy;
}

static void set_text(char *to, const char *text)
{
    (void)snprintf(to, CLAIMS_TEXT_MAX + 1, "%s", text);
}

static struct token_claims token_shown(const struct policy *policy, EVP_PKEY *key)
{
    struct token_claims claims = { .until = 0 };
    struct error err = ERROR_INIT;
    char payload[512];

    (void)snprintf(payload, sizeof(payload),
                   "{\"iss\":\"https://k8s\",\"sub\":\"system:serviceaccount:tdvol:node\","
                   "\"aud\":[\"other\",\"tdvol\"],\"nbf\":%lld,\"exp\":%lld,"
                   "\"kubernetes.io\":{\"node\":{\"name\":\"n-1\"}}}",
                   (long long)NOW, (long long)NOW + 600);
    char *token = token_of("{\"alg\":\"ES256\",\"kid\":\"k\"}", payload, key);
    assert_ok(policy_verify_token(policy, token, strlen(token), &claims, &err));
    free(token);
    return claims;
}

static void a_token_fits_by_key_issuer_audience_subject_and_dates(void **state)
{
    EVP_PKEY *key = ec_key("P-256"), *other_key = ec_key("P-256");
    auto_policy struct policy *policy = token_policy(key);
    auto_policy struct policy *rotated = token_policy(other_key);
    struct tee_claims tee = fitting_td();
    const struct token_claims good = token_shown(policy, key);
    struct token_claims token = good;
    struct principal who = { .tee = &tee, .token = &token };
    const struct policy_rule *rule = assert_fits(policy, &who, NOW);

    (void)state;
    assert_true(policy_has_node(rule, &who, "n-1"));
    assert_false(policy_has_node(rule, &who, "n-2"));
    assert_judged(policy, &(struct principal){ .tee = &tee }, NOW, "OwnerMissing", "\"tdvol\"");
    assert_judged(rotated, &who, NOW, "TokenSignature", "not signed by a key of this rule");
    set_text(token.issuer, "https://k8s/");
    assert_judged(policy, &who, NOW, "TokenIssuer", "rule wants https://k8s");
    token = good;
    set_text(token.audiences[1], "tdvol2");
    assert_judged(policy, &who, NOW, "TokenAudience",
                  "token audience is other, the rule wants tdvol");
    token = good;
    set_text(token.subject, "system:serviceaccount:default:node");
    assert_judged(policy, &who, NOW, "TokenSubject", "or others");
    set_text(token.subject, "s-1");
    (void)assert_fits(policy, &who, NOW);
    token = good;
    set_text(token.node, "");
    assert_false(policy_has_node(assert_fits(policy, &who, NOW), &who, ""));
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
}

static void a_token_has_a_minute_of_leeway_at_both_ends(void **state)
{
    EVP_PKEY *key = ec_key("P-256");
    auto_policy struct policy *policy = token_policy(key);
    struct tee_claims tee = fitting_td();
    struct token_claims token = token_shown(policy, key);
    struct principal who = { .tee = &tee, .token = &token };

    (void)state;
    (void)assert_fits(policy, &who, NOW - 60);
    assert_judged(policy, &who, NOW - 61, "TokenExpired", "not valid yet");
    (void)assert_fits(policy, &who, NOW + 659);
    assert_judged(policy, &who, NOW + 660, "TokenExpired", "expired");
    EVP_PKEY_free(key);
}

/* The certificate check comes after the token check. So a rule without a shown certificate passes
 * more checks than a rule with a wrong token, but it is not nearer. */
static void a_wrong_token_is_reported_before_a_missing_proof(void **state)
{
    static const char certificate_rule[] =
        "{'name':'%s','td':{'images':['i']},'owner':{'certificate':{'ca':'%s',"
        "'common_names':['node-*']}}," REST "}";
    EVP_PKEY *key = ec_key("P-256"), *ca_key = ec_key("P-256");
    X509 *ca = certificate_of(&(struct certificate_options){ "ca", true, NOW - 9, NOW + 9, NULL },
                              ca_key, NULL, NULL);
    char *jwk = jwk_of(key, "k", ""), *keys = jwks_of(jwk, NULL), *pem = pem_in_json(ca, NULL);
    char *before = NULL, *after = NULL, *text = NULL;
    struct tee_claims tee = fitting_td();

    (void)state;
    assert_true(asprintf(&before, certificate_rule, "before", pem) > 0);
    assert_true(asprintf(&after, certificate_rule, "after", pem) > 0);
    assert_true(asprintf(&text,
                         POLICY(IMAGES, "%s,{'name':'r','td':{'images':['i']},'owner':{" TOKEN_RULE
                                        "}," REST "},%s"),
                         before, keys, after) > 0);
    auto_policy struct policy *policy = policy_must(text);
    struct token_claims token = token_shown(policy, key);
    struct principal who = { .tee = &tee, .token = &token };

    set_text(token.audiences[1], "tdvol2");
    assert_judged(policy, &who, NOW, "TokenAudience", "rule r: ");
    who.token = NULL;
    assert_judged(policy, &who, NOW, "OwnerMissing", "rule before: ");
    /* measurements come first: a shown proof does not outweigh a wrong image */
    who.token = &token;
    set_measurement(tee.td.mrtd, OTHER);
    assert_judged(policy, &who, NOW, "Measurement", "rule before: ");
    EVP_PKEY_free(key);
    EVP_PKEY_free(ca_key);
    X509_free(ca);
    free(jwk);
    free(keys);
    free(pem);
    free(before);
    free(after);
    free(text);
}

static void a_proof_is_wanted_when_a_rule_names_it(void **state)
{
    auto_policy struct policy *none = policy_must(TD_POLICY("", ANY_OWNER));
    EVP_PKEY *key = ec_key("P-256");
    auto_policy struct policy *token = token_policy(key);

    (void)state;
    assert_false(policy_wants_token(none));
    assert_false(policy_wants_owner_certificate(none));
    assert_true(policy_wants_token(token));
    assert_false(policy_wants_owner_certificate(token));
    EVP_PKEY_free(key);
}

static void a_token_that_no_rule_wants_proves_nothing(void **state)
{
    auto_policy struct policy *none = policy_must(TD_POLICY("", ANY_OWNER));
    EVP_PKEY *key = ec_key("P-256"), *other_key = ec_key("P-256");
    auto_policy struct policy *other = token_policy(other_key);
    char *token = token_of("{\"alg\":\"ES256\"}", "{}", key);
    struct token_claims claims;
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_DENIED, policy_verify_token(none, token, strlen(token), &claims, &err));
    assert_string_equal(err.reason, "TokenSignature");
    assert_refused(ERROR_DENIED, policy_verify_token(other, token, strlen(token), &claims, &err));
    assert_string_equal(err.reason, "TokenSignature");
    assert_refused(ERROR_DENIED, policy_verify_token(other, "x", 1, &claims, &err));
    assert_string_equal(err.reason, "TokenMalformed");
    EVP_PKEY_free(key);
    EVP_PKEY_free(other_key);
    free(token);
}

/* --- certificates --- */

struct chain {
    EVP_PKEY *root_key, *middle_key, *leaf_key;
    X509 *root, *middle, *leaf;
    uint8_t key_sha256[32];
};

static void chain_make(struct chain *c, const struct certificate_options *root,
                       const struct certificate_options *middle,
                       const struct certificate_options *leaf)
{
    struct error err = ERROR_INIT;

    c->root_key = ec_key("P-256");
    c->middle_key = ec_key("P-256");
    c->leaf_key = ec_key("P-256");
    c->root = certificate_of(root, c->root_key, NULL, NULL);
    c->middle = certificate_of(middle, c->middle_key, c->root, c->root_key);
    c->leaf = certificate_of(leaf, c->leaf_key, c->middle, c->middle_key);
    assert_ok(cert_key_sha256(c->leaf, c->key_sha256, &err));
}

static void chain_free(struct chain *c)
{
    X509_free(c->root);
    X509_free(c->middle);
    X509_free(c->leaf);
    EVP_PKEY_free(c->root_key);
    EVP_PKEY_free(c->middle_key);
    EVP_PKEY_free(c->leaf_key);
}

static const struct certificate_options good_root = { "owner root", true, NOW - 9000, NOW + 9000,
                                                      NULL };
static const struct certificate_options good_middle = { "owner sub", true, NOW - 900, NOW + 900,
                                                        NULL };
static const struct certificate_options good_leaf = { "node-1", false, NOW - 90, NOW + 90, NULL };

static struct policy *ca_policy(X509 *first, X509 *second)
{
    char *pem = pem_in_json(first, second), *text = NULL;

    assert_true(asprintf(&text,
                         POLICY(IMAGES, "{'name':'r','td':{'images':['i']},'owner':{'certificate':"
                                        "{'ca':'%s','common_names':['node-*']}},'tenant':'t',"
                                        "'may':['open'],'volumes':['*'],'nodes':['${owner.cn}']}"),
                         pem) > 0);
    struct policy *policy = policy_must(text);
    free(pem);
    free(text);
    return policy;
}

static bool show(const struct policy *policy, const struct chain *c, int64_t now,
                 struct owner_claims *out, struct error *err)
{
    char *pem = pem_of(c->leaf, c->middle, NULL);
    bool ok =
        policy_verify_owner_certificate(policy, pem, strlen(pem), c->key_sha256, now, out, err);

    free(pem);
    return ok;
}

static void a_certificate_of_the_owners_ca_proves_the_owner(void **state)
{
    struct chain c, other;
    struct owner_claims owner;
    struct error err = ERROR_INIT;
    struct tee_claims tee = fitting_td();
    struct principal who = { .tee = &tee, .owner = &owner };

    (void)state;
    chain_make(&c, &good_root, &good_middle, &good_leaf);
    chain_make(&other, &good_root, &good_middle, &good_leaf);
    auto_policy struct policy *policy = ca_policy(other.root, c.root);
    auto_policy struct policy *foreign = ca_policy(other.root, NULL);

    assert_true(policy_wants_owner_certificate(policy));
    assert_false(policy_wants_token(policy));
    assert_ok(show(policy, &c, NOW, &owner, &err));
    assert_string_equal(owner.common_name, "node-1");
    assert_int_equal(owner.until, NOW + 90);
    const struct policy_rule *rule = assert_fits(policy, &who, NOW);
    assert_true(policy_has_node(rule, &who, "node-1"));
    assert_false(policy_has_node(rule, &who, "node-2"));
    (void)assert_fits(policy, &who, NOW + 90);
    assert_judged(policy, &who, NOW + 91, "OwnerCertificate", "expired");
    assert_judged(foreign, &who, NOW, "OwnerCertificate", "not from a CA of this rule");
    assert_judged(policy, &(struct principal){ .tee = &tee }, NOW, "OwnerMissing", "none was sent");
    (void)snprintf(owner.common_name, sizeof(owner.common_name), "nod-1");
    assert_judged(policy, &who, NOW, "OwnerMismatch", "is for \"nod-1\", the rule wants node-*");
    chain_free(&c);
    chain_free(&other);
}

static void assert_chain_refused(const struct certificate_options *root,
                                 const struct certificate_options *middle,
                                 const struct certificate_options *leaf, const char *part)
{
    struct owner_claims owner = { .until = -7 };
    struct error err = ERROR_INIT;
    struct chain c;

    chain_make(&c, root, middle, leaf);
    auto_policy struct policy *policy = ca_policy(c.root, NULL);
    assert_refused(ERROR_DENIED, show(policy, &c, NOW, &owner, &err));
    assert_string_equal(err.reason, "OwnerCertificate");
    assert_contains(err.text, part);
    assert_int_equal(owner.until, -7);
    chain_free(&c);
}

static void a_chain_that_is_not_valid_now_is_refused(void **state)
{
    struct certificate_options root = good_root, middle = good_middle, leaf = good_leaf;

    (void)state;
    leaf.until = NOW - 1;
    assert_chain_refused(&root, &middle, &leaf, "expired");
    leaf = good_leaf;
    leaf.from = NOW + 1;
    assert_chain_refused(&root, &middle, &leaf, "not yet valid");
    leaf = good_leaf;
    middle.until = NOW - 1;
    assert_chain_refused(&root, &middle, &leaf, "certificate 1 of the owner's chain");
    middle = good_middle;
    root.until = NOW - 1;
    assert_chain_refused(&root, &middle, &leaf, "certificate 2 of the owner's chain");
}

static void a_chain_of_wrong_roles_or_digests_is_refused(void **state)
{
    struct certificate_options root = good_root, middle = good_middle, leaf = good_leaf;

    (void)state;
    middle.is_ca = false;
    assert_chain_refused(&root, &middle, &leaf, "CA");
    middle = good_middle;
    leaf.is_ca = true;
    assert_chain_refused(&root, &middle, &leaf, "is a CA certificate");
    leaf = good_leaf;
    leaf.digest = "SHA1";
    assert_chain_refused(&root, &middle, &leaf, "digest algorithm too weak");
}

static void a_chain_of_another_key_or_ca_is_refused(void **state)
{
    struct chain c, other;
    struct owner_claims owner;
    struct error err = ERROR_INIT;

    (void)state;
    chain_make(&c, &good_root, &good_middle, &good_leaf);
    chain_make(&other, &good_root, &good_middle, &good_leaf);
    auto_policy struct policy *policy = ca_policy(c.root, NULL);
    auto_policy struct policy *none = policy_must(TD_POLICY("", ANY_OWNER));

    /* a valid chain that was stolen: the session has another key */
    memcpy(c.key_sha256, other.key_sha256, 32);
    assert_refused(ERROR_DENIED, show(policy, &c, NOW, &owner, &err));
    assert_contains(err.text, "for another key");
    assert_refused(ERROR_DENIED, show(policy, &other, NOW, &owner, &err));
    assert_contains(err.text, "certificate 1 of the owner's chain");
    assert_refused(ERROR_DENIED, show(none, &other, NOW, &owner, &err));
    assert_string_equal(err.reason, "OwnerCertificate");

    /* the CA's own certificate proves no owner */
    char *pem = pem_of(c.root, NULL, NULL);
    assert_ok(cert_key_sha256(c.root, c.key_sha256, &err));
    assert_refused(ERROR_DENIED, policy_verify_owner_certificate(policy, pem, strlen(pem),
                                                                 c.key_sha256, NOW, &owner, &err));
    assert_contains(err.text, "is a CA certificate");
    free(pem);

    static const char *const texts[] = { "", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n" };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_refused(ERROR_DENIED,
                       policy_verify_owner_certificate(policy, texts[i], strlen(texts[i]),
                                                       c.key_sha256, NOW, &owner, &err));
        assert_string_equal(err.reason, "OwnerCertificate");
    }
    chain_free(&c);
    chain_free(&other);
}

static void a_pinned_certificate_must_be_a_ca(void **state)
{
    struct chain c;
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    char *text = NULL;

    (void)state;
    chain_make(&c, &good_root, &good_middle, &good_leaf);
    char *pem = pem_in_json(c.root, c.leaf);
    assert_true(asprintf(&text, OWNER("'certificate':{'ca':'%s','common_names':['n']}"), pem) > 0);
    assert_refused(ERROR_INVALID_ARGUMENT, policy_from(text, &policy, &err));
    assert_contains(err.text, "ca: certificate 2 is not a CA certificate");
    free(text);
    assert_true(asprintf(&text,
                         OWNER("'certificate':{'ca':'%s-----BEGIN PRIVATE KEY-----',"
                               "'common_names':['n']}"),
                         pem) > 0);
    assert_refused(ERROR_INVALID_ARGUMENT, policy_from(text, &policy, &err));
    assert_contains(err.text, "private key");
    free(text);
    free(pem);
    chain_free(&c);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_measured_value_proves_the_owner),
        cmocka_unit_test(every_proof_that_a_rule_names_must_hold),
        cmocka_unit_test(a_text_extended_into_rtmr3_proves_the_owner),
        cmocka_unit_test(a_text_extended_into_rtmr3_later_proves_nothing),
        cmocka_unit_test(a_token_fits_by_key_issuer_audience_subject_and_dates),
        cmocka_unit_test(a_token_has_a_minute_of_leeway_at_both_ends),
        cmocka_unit_test(a_wrong_token_is_reported_before_a_missing_proof),
        cmocka_unit_test(a_proof_is_wanted_when_a_rule_names_it),
        cmocka_unit_test(a_token_that_no_rule_wants_proves_nothing),
        cmocka_unit_test(a_certificate_of_the_owners_ca_proves_the_owner),
        cmocka_unit_test(a_chain_that_is_not_valid_now_is_refused),
        cmocka_unit_test(a_chain_of_wrong_roles_or_digests_is_refused),
        cmocka_unit_test(a_chain_of_another_key_or_ca_is_refused),
        cmocka_unit_test(a_pinned_certificate_must_be_a_ca),
    };

    return RUN_TESTS(tests);
}
