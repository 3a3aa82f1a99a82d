/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/policy.h"
#include "tests/unit/policy/policy_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define RULES(rules) "{'version':1,'rules':[" rules "]}"
#define ADMIN_REST   "'tenant':'t','may':['admin'],'volumes':['*']"
#define MATCH(match) RULES("{'name':'a','match':" match "," ADMIN_REST "}")
#define NAMED        "{'name':'a','match':{'certificate.cn':'n'},"
#define IMAGE_OF(x)  POLICY("'images':{'i':{" x "}}", TD_RULE("r", "", ANY_OWNER))
#define OWNER(x)     TD_POLICY("", "'owner':{" x "}")
#define EXCEPTION(x) TD_POLICY(",'tcb':{'exceptions':[{" x "}]}", ANY_OWNER)
#define UNTIL        "'until':'2027-01-01T00:00:00Z'"

struct refusal {
    const char *text, *part;
};

static void assert_all_refused(const struct refusal *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct policy *policy = NULL;
        struct error err = ERROR_INIT;

        if (policy_from(rows[i].text, &policy, &err))
            fail_msg("accepted: %s", rows[i].text);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_null(policy);
        assert_contains(err.text, rows[i].part);
    }
}

static void an_error_names_what_is_wrong_in_the_file(void **state)
{
    static const struct refusal rows[] = {
        { "", "line" },
        { "[]", "must be a JSON object" },
        { "{'a':[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", "nested more" },
        { "{'version':1,'version':1,'rules':[]}", "duplicate" },
        { "{'rules':[]}", "version is missing" },
        { "{'version':'1','rules':[]}", "version is missing or not a number" },
        { "{'version':2,'rules':[]}", "version 1 is needed" },
        { "{'version':1}", "rules must be a list" },
        { RULES(""), "rules must be a list" },
        { RULES("3"), "rule 1 (without name): must be an object" },
        { "{'version':1,'rules':[],'extra':1}", "unknown key \"extra\"" },
        { "{'version':1,'revision':7,'rules':[]}", "revision must be" },
        { "{'version':1,'revision':'" TWELVE("0123456789ab") "','rules':[]}",
          "revision is longer" },
        { "{'version':1,'images':[],'rules':[]}", "images must be an object" },
        { "{'version':1,'images':{},'rules':[]}", "images must be an object" },
        { "{'version':1,'images':{'a b':{}},'rules':[]}", "may have only letters" },
        { "{'version':1,'images':{'a':{},'a':{}},'rules':[]}", "duplicate" },
        { "{'version':1,'images':{'a':7},'rules':[]}", "image \"a\": must be an object" },
        { "{'version':1,'images':{'a':{'mrtdd':[]}},'rules':[]}", "unknown key \"mrtdd\"" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

static void an_error_names_what_is_wrong_in_a_rule(void **state)
{
    static const struct refusal rows[] = {
        { RULES("{'name':'a','mach':{}}"), "unknown key \"mach\"" },
        { RULES("{'name':'a','roles':['node']}"), "unknown key \"roles\"" },
        { RULES("{'name':''}"), "name must be a non-empty string" },
        { RULES("{'name':'a b'}"), "name may have only letters" },
        { RULES("{'name':'a'}"), "needs td or match: without them it would fit every client" },
        { MATCH("{}"), "it would match every client" },
        { MATCH("7"), "it would match every client" },
        { MATCH("{'certificate.cn':'*'}"), "would match every caller" },
        { MATCH("{'certificate.cn':'?*-'}"), "would match every caller" },
        { MATCH("{'certificate.cn':'[a-z]*'}"), "only * and ?" },
        { MATCH("{'certificate.cn':''}"), "non-empty" },
        { MATCH("{'certificate.cn':7}"), "non-empty" },
        { MATCH("{'certificate.ou':'x'}"), "unknown claim \"certificate.ou\"" },
        { MATCH("{'certificate.sha256':'*'}"), "64 lower-case hex" },
        { MATCH("{'certificate.sha256':'" SHA256_TEXT "00'}"), "64 lower-case hex" },
        { MATCH("{'certificate.cn':'a','certificate.cn':'b'}"), "duplicate" },
        { RULES(NAMED "'tenant':'a/b'}"), "tenant may have" },
        { RULES(NAMED "'tenant':'t','may':[]}"), "\"may\" must be" },
        { RULES(NAMED "'tenant':'t','may':['root']}"), "\"root\" is none of" },
        { RULES(NAMED "'tenant':'t','may':['admin']}"), "volumes must be" },
        { RULES(NAMED "'tenant':'t','may':['open'],'volumes':['*']}"), "nodes must be" },
        { RULES(NAMED "'tenant':'t','may':['publish'],'volumes':['*']}"), "nodes must be" },
        { RULES(NAMED ADMIN_REST ",'nodes':['*']}"),
          "nodes is only for rules that may create, open, delete or publish" },
        { RULES(NAMED ADMIN_REST ",'limits':{'record':1}}"), "limits: unknown key" },
        { RULES(NAMED ADMIN_REST ",'limits':{'records':-1}}"), "whole number from 0" },
        { RULES(NAMED ADMIN_REST ",'limits':{'opens_per_minute':4294967296}}"), "to 4294967295" },
        { RULES(NAMED ADMIN_REST ",'limits':{'creates_per_minute':-1}}"), "whole number from 0" },
        { RULES(NAMED ADMIN_REST "}," NAMED ADMIN_REST "}"), "rule 2 has the name of rule 1" },
        { RULES(NAMED REST "}"), "not attested" },
        { RULES(NAMED REST ",'without_attestation':false}"), "not attested" },
        { RULES(NAMED REST ",'without_attestation':1}"), "true or false" },
        { RULES(NAMED ADMIN_REST ",'without_attestation':true}"), "without td that may open" },
        { RULES(NAMED ADMIN_REST ",'any_owner':true}"), "are only for rules with td" },
        { RULES(NAMED ADMIN_REST ",'owner':{'mrowner':['" OWN "']}}"),
          "are only for rules with td" },
        { TD_POLICY("", "'without_attestation':true,'any_owner':true"), "without td" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

static void a_td_that_is_not_pinned_is_refused(void **state)
{
    static const struct refusal rows[] = {
        { IMAGE_OF(""), "pins too little" },
        { IMAGE_OF("'mrtd':['" MRTD "']"), "pins too little" },
        { IMAGE_OF("'mrtd':['" MRTD "'],'rtmr1':['" RTMR1 "']"), "pins too little" },
        { IMAGE_OF("'rtmr1':['" RTMR1 "'],'rtmr2':['" RTMR2 "']"), "pins too little" },
        { IMAGE_OF("'mrconfigid':['" OWN "']"), "pins too little" },
        { IMAGE_OF("'mrtd':['" ZEROS "'],'mrconfigid':['" OWN "']"), "pins too little" },
        { IMAGE_OF("'mrtd':['" MRTD "'],'mrconfigid':['" ZEROS "']"), "pins too little" },
        { IMAGE_OF("'mrtd':['" MRTD "'],'mrconfigid':['" OWN "','" ZEROS "']"), "too little" },
        { IMAGE_OF("'mrtd':['" MRTD "'],'rtmr1':['" ZEROS "'],'rtmr2':['" RTMR2 "']"),
          "too little" },
        { IMAGE_OF("'mrtd':['*'],'mrconfigid':['" OWN "']"), "mrtd: value 1 must be 96 lower" },
        { IMAGE_OF("'mrtd':['" TWELVE("A0A0A0A0") "']"), "lower-case" },
        { IMAGE_OF("'mrtd':'" MRTD "'"), "mrtd must be a list" },
        { IMAGE_OF("'mrtd':[]"), "mrtd must be a list" },
        { IMAGE_OF("'mrtd':['" MRTD "00']"), "96 lower-case" },
        { IMAGE_OF(IMAGE ",'xfam':['602e7']"), "xfam must be a string of 0x" },
        { IMAGE_OF(IMAGE ",'xfam':['0x']"), "xfam must be a string of 0x" },
        { IMAGE_OF(IMAGE ",'xfam':['0x12345678901234567']"), "xfam must be a string of 0x" },
        { IMAGE_OF(IMAGE ",'xfam':[null]"), "xfam must be a string of 0x" },
        { IMAGE_OF(IMAGE ",'xfam':['0xE7']"), "xfam must be a string of 0x" },
        { IMAGE_OF(IMAGE ",'until':'2027-03-01'"), "until must be a date" },
        { IMAGE_OF(IMAGE ",'until':null"), "until must be a date" },
        { POLICY(IMAGES, "{'name':'r','td':{}," ANY_OWNER "," REST "}"), "images must be a list" },
        { POLICY(IMAGES, "{'name':'r','td':{'images':[]}," ANY_OWNER "," REST "}"), "1 to 256" },
        { POLICY(IMAGES, "{'name':'r','td':{'images':['j']}," ANY_OWNER "," REST "}"),
          "there is no image \"j\"" },
        { POLICY(IMAGES, "{'name':'r','td':{'images':[7]}," ANY_OWNER "," REST "}"), "no image" },
        { RULES(TD_RULE("r", "", ANY_OWNER)), "there is no image \"i\"" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

static void loose_demands_on_the_td_are_refused(void **state)
{
    static const struct refusal rows[] = {
        { TD_POLICY(",'mrtd':[]", ANY_OWNER), "unknown key \"mrtd\"" },
        { TD_POLICY(",'attributes':{'allowed':'0x10000001'}", ANY_OWNER), "debug mode" },
        { TD_POLICY(",'attributes':{'allowed':'0x30000000'}", ANY_OWNER), "service_tds must name" },
        { TD_POLICY(",'attributes':{'required':'0x80000000'}", ANY_OWNER),
          "allowed does not have" },
        { TD_POLICY(",'attributes':{'allowed':268435456}", ANY_OWNER), "0x and 1 to 16" },
        { TD_POLICY(",'attributes':{'mask':'0x0'}", ANY_OWNER), "attributes: unknown key" },
        { TD_POLICY(",'tcb':{'minimum_evaluation':'17'}", ANY_OWNER), "whole number" },
        { TD_POLICY(",'tcb':{'status':[]}", ANY_OWNER), "tcb: unknown key" },
        { TD_POLICY(",'tcb':{'exceptions':[]}", ANY_OWNER), "exceptions must be a list" },
        { EXCEPTION("'status':'OutOfDate','advisories':[]"), "an exception must have an end" },
        { EXCEPTION("'status':'OutOfDate','advisories':[],'until':null"), "must be a date" },
        { EXCEPTION("'status':'OutOfDate'," UNTIL), "advisories must be a list" },
        { EXCEPTION("'status':'OutOfDate','advisories':[7]," UNTIL), "non-empty string" },
        { EXCEPTION("'status':'Revoked','advisories':[]," UNTIL), "never accepted" },
        { EXCEPTION("'status':'NotSupported','advisories':[]," UNTIL), "never accepted" },
        { EXCEPTION("'status':'UpToDate','advisories':[]," UNTIL), "needs no exception" },
        { EXCEPTION("'status':'*','advisories':[]," UNTIL), "exception 1: status must be one" },
        { EXCEPTION("'status':'OutOfDate','advisories':[],'date_from':0," UNTIL), "a date" },
        { EXCEPTION("'status':'OutOfDate','advisory':[]," UNTIL), "unknown key" },
        { TD_POLICY(",'platforms':['*']", ANY_OWNER), "32 lower-case" },
        { TD_POLICY(",'service_tds':['*']", ANY_OWNER), "96 lower-case" },
        { TD_POLICY(",'minimum_sgx_type':3", ANY_OWNER), "from 0 to 2" },
        { TD_POLICY(",'event_log':'yes'", ANY_OWNER), "true or false" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

static void a_rule_for_any_owner_must_say_so(void **state)
{
    static const struct refusal rows[] = {
        { POLICY(IMAGES, "{'name':'r','td':{'images':['i']}," REST "}"), "has no owner" },
        { TD_POLICY("", "'any_owner':false"), "has no owner" },
        { TD_POLICY("", "'owner':{'mrowner':['" OWN "']},'any_owner':true"), "choose one" },
        { OWNER(""), "name at least one proof" },
        { OWNER("'cluster':'x'"), "owner: unknown key \"cluster\"" },
        { OWNER("'mrowner':['" ZEROS "']"), "mrowner: zeros" },
        { OWNER("'mrconfigid':['" OWN "','" ZEROS "']"), "mrconfigid: zeros" },
        { OWNER("'mrownerconfig':[]"), "must be a list" },
        { OWNER("'rtmr3':['" ZEROS "']"), "rtmr3: zeros" },
        { OWNER("'rtmr3_event':''"), "rtmr3_event must be a non-empty" },
        { OWNER("'token':{}"), "owner: token: issuer must be" },
        { OWNER("'token':{'issuer':'i','audience':'a','subjects':['*']}"),
          "would match every caller" },
        { OWNER("'token':{'issuer':'i','audience':'a','subjects':['s']}"), "JSON Web Key Set" },
        { OWNER("'token':{'issuer':'i','audience':'a','subjects':['s'],'keys':{'keys':[]}}"),
          "1 to 16" },
        { OWNER("'token':{'issuer':'i','audience':['a'],'subjects':['s']}"), "audience must be" },
        { OWNER("'token':{'issuer':'i','audience':'a','subjects':['s'],'key':{}}"), "unknown key" },
        { OWNER("'certificate':{'ca':'x','common_names':['*']}"), "would match every caller" },
        { OWNER("'certificate':{'ca':'x','common_names':['n']}"), "ca: the text is not PEM" },
        { OWNER("'certificate':{'common_names':['n']}"), "ca must be PEM" },
        { OWNER("'certificate':{'ca':'x'}"), "common_names must be a list" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

#define MASTER(subject) \
    POLICY(IMAGES, "{'name':'r'," subject ",'tenant':'t','may':['replicate'],'volumes':['*']}")

static void master_key_goes_to_a_known_image_of_a_known_owner_alone(void **state)
{
    static const struct refusal rows[] = {
        { MASTER("'match':{'certificate.cn':'broker'}"), "needs both td and owner" },
        { MASTER("'td':{'images':['i']}," ANY_OWNER), "needs both td and owner" },
        { MASTER("'match':{'certificate.cn':'broker'},'td':{'images':['i']}," ANY_OWNER),
          "needs both td and owner" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
    auto_policy struct policy *policy =
        policy_must(MASTER("'td':{'images':['i']},'owner':{'mrowner':['" OWN "']}"));
    assert_true(policy_may(policy_rule_at(policy, 0), POLICY_REPLICATE));
    assert_false(policy_may(policy_rule_at(policy, 0), POLICY_ANYTHING & ~POLICY_REPLICATE));
}

#define NODES(owner, node)                                    \
    POLICY(IMAGES, "{'name':'r','td':{'images':['i']}," owner \
                   ",'tenant':'t','may':['open'],'volumes':['*'],'nodes':['" node "']}")

static void a_node_name_from_a_proof_that_the_rule_lacks_is_refused(void **state)
{
    static const struct refusal rows[] = {
        { NODES(ANY_OWNER, "${token.node}"), "needs owner with a token" },
        { NODES(ANY_OWNER, "${owner.cn}"), "needs owner with a certificate" },
        { NODES(ANY_OWNER, "${certificate.cn}"), "needs match" },
        { NODES(ANY_OWNER, "${token.pod}"), "is none of" },
        { NODES(ANY_OWNER, "a-${token.node}"), "is none of" },
    };

    (void)state;
    assert_all_refused(rows, ARRAY_LEN(rows));
}

static struct certificate_claims named(const char *cn, const char *digest)
{
    struct certificate_claims out = { .sha256 = "" };

    (void)snprintf(out.common_name, sizeof(out.common_name), "%s", cn);
    (void)snprintf(out.sha256, sizeof(out.sha256), "%s", digest);
    return out;
}

static void the_first_rule_whose_every_claim_matches_decides(void **state)
{
    static const struct {
        const char *cn, *digest, *rule; /* NULL: none */
    } rows[] = {
        { "node-1", SHA256_TEXT, "both" },
        { "node-1", "", "pattern" },
        { "node-12", "", "pattern" },
        { "node-", "", "pattern" },
        { "node", SHA256_TEXT, NULL },
        { "", SHA256_TEXT, NULL },
        { "Node-1", "", NULL },
        { "xnode-1", "", NULL },
        { "single", "", "exact" },
        { "single2", "", NULL },
    };
    auto_policy struct policy *policy =
        policy_must(RULES("{'name':'both','match':{'certificate.cn':'node-*',"
                          "'certificate.sha256':'" SHA256_TEXT "'}," ADMIN_REST "},"
                          "{'name':'pattern','match':{'certificate.cn':'node-*'}," ADMIN_REST
                          "},{'name':'exact','match':{'certificate.cn':'single'}," ADMIN_REST "}"));

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct certificate_claims certificate = named(rows[i].cn, rows[i].digest);
        struct principal who = { .certificate = &certificate };

        if (rows[i].rule)
            assert_string_equal(policy_rule_name(assert_fits(policy, &who, NOW)), rows[i].rule);
        else
            assert_judged(policy, &who, NOW, "NoRule", "rule wants");
    }
    assert_judged(policy, &(struct principal){ .tee = NULL }, NOW, "NoRule", "client CA");
}

static void a_rule_gives_only_its_permissions_volumes_nodes_and_limits(void **state)
{
    auto_policy struct policy *policy = policy_must(
        "{'version':1,'revision':'seven','rules':[{'name':'a',"
        "'match':{'certificate.cn':'worker-*'},'without_attestation':true,'tenant':'acme',"
        "'may':['open','create'],'volumes':['pvc-*'],'nodes':['${certificate.cn}','spare-?'],"
        "'limits':{'records':10,'opens_per_minute':3,'creates_per_minute':4}}]}");
    struct certificate_claims certificate = named("worker-7", "");
    struct principal who = { .certificate = &certificate }, nobody = { .tee = NULL };
    const struct policy_rule *rule = assert_fits(policy, &who, NOW);
    const char *const *items = NULL;

    (void)state;
    assert_string_equal(policy_rule_tenant(rule), "acme");
    assert_string_equal(policy_rule_image(rule, &who, NOW), "");
    assert_true(policy_may(rule, POLICY_OPEN));
    assert_true(policy_may(rule, POLICY_OPEN | POLICY_ADMIN));
    assert_false(policy_may(rule, POLICY_DELETE | POLICY_ROTATE | POLICY_ADMIN));
    assert_true(policy_has_volume(rule, "pvc-1"));
    assert_false(policy_has_volume(rule, "xpvc-1"));
    assert_false(policy_has_volume(rule, ""));
    assert_true(policy_has_node(rule, &who, "worker-7"));
    assert_false(policy_has_node(rule, &who, "worker-8"));
    assert_false(policy_has_node(rule, &who, "${certificate.cn}"));
    assert_false(policy_has_node(rule, &nobody, ""));
    assert_true(policy_has_node(rule, &who, "spare-1"));
    assert_false(policy_has_node(rule, &who, "spare-12"));
    assert_int_equal(policy_rule_limits(rule)->records, 10);
    assert_int_equal(policy_rule_limits(rule)->opens_per_minute, 3);
    assert_int_equal(policy_rule_limits(rule)->creates_per_minute, 4);
    assert_int_equal(policy_rule_volumes(rule, &items), 1);
    assert_string_equal(items[0], "pvc-*");
    assert_int_equal(policy_rule_nodes(rule, &items), 2);
    assert_int_equal(strlen(policy_hash(policy)), 64);
    assert_string_equal(policy_revision(policy), "seven");
}

static void too_many_rules_are_refused(void **state)
{
    static char text[64 * 1024];
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    size_t len = (size_t)snprintf(text, sizeof(text), "{'version':1,'rules':[");

    (void)state;
    for (int i = 0; i <= POLICY_RULES_MAX; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "%s{'name':'r%d','match':{'certificate.cn':'n'}," ADMIN_REST "}",
                                i ? "," : "", i);
    (void)snprintf(text + len, sizeof(text) - len, "]}");
    assert_refused(ERROR_INVALID_ARGUMENT, policy_from(text, &policy, &err));
    assert_contains(err.text, "1 to 256");
}

static void a_missing_or_too_long_file_is_refused(void **state)
{
    char path[] = "/tmp/tdvol-policy-XXXXXX";
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    int fd = mkstemp(path);

    (void)state;
    assert_refused(ERROR_NOT_FOUND, policy_load("/nonexistent/policy.json", &policy, &err));
    assert_int_equal(ftruncate(fd, (off_t)POLICY_BYTES_MAX + 1), 0);
    assert_refused(ERROR_OUT_OF_RANGE, policy_load(path, &policy, &err));
    assert_int_equal(ftruncate(fd, 1), 0);
    assert_refused(ERROR_INVALID_ARGUMENT, policy_load(path, &policy, &err));
    assert_contains(err.text, path);
    close(fd);
    unlink(path);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_error_names_what_is_wrong_in_the_file),
        cmocka_unit_test(an_error_names_what_is_wrong_in_a_rule),
        cmocka_unit_test(a_td_that_is_not_pinned_is_refused),
        cmocka_unit_test(loose_demands_on_the_td_are_refused),
        cmocka_unit_test(a_rule_for_any_owner_must_say_so),
        cmocka_unit_test(master_key_goes_to_a_known_image_of_a_known_owner_alone),
        cmocka_unit_test(a_node_name_from_a_proof_that_the_rule_lacks_is_refused),
        cmocka_unit_test(the_first_rule_whose_every_claim_matches_decides),
        cmocka_unit_test(a_rule_gives_only_its_permissions_volumes_nodes_and_limits),
        cmocka_unit_test(too_many_rules_are_refused),
        cmocka_unit_test(a_missing_or_too_long_file_is_refused),
    };

    return RUN_TESTS(tests);
}
