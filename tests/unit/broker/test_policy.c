/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/policy.h"
#include "tests/unit/test.h"

#include <stdio.h>

#define RULE_REST    "\"tenant\":\"t\",\"roles\":[\"admin\"],\"volumes\":[\"*\"]"
#define RULES(...)   "{\"version\":1,\"rules\":[" __VA_ARGS__ "]}"
#define MATCH(match) RULES("{\"name\":\"a\",\"match\":" match "," RULE_REST "}")
#define HEX64        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static bool parse(const char *text, struct policy **out, struct error *err)
{
    return policy_parse(text, strlen(text), out, err);
}

static void a_bad_policy_is_refused_naming_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        { "", "line" },
        { "[]", "must be a JSON object" },
        { "{\"version\":1,\"version\":1,\"rules\":[]}", "duplicate" },
        { "{\"rules\":[]}", "version is missing" },
        { "{\"version\":\"1\",\"rules\":[]}", "version is missing" },
        { "{\"version\":2,\"rules\":[]}", "version 2 is not known" },
        { "{\"version\":1}", "rules must be a list" },
        { "{\"version\":1,\"rules\":{}}", "rules must be a list" },
        { RULES(""), "rules must be a list" },
        { "{\"version\":1,\"rules\":[],\"extra\":1}", "unknown key \"extra\"" },
        { RULES("3"), "rule 1 (without name): must be an object" },
        { RULES("{\"name\":\"a\",\"mach\":{}}"), "rule 1 (without name): unknown key \"mach\"" },
        { RULES("{\"name\":\"\"}"), "name must be a non-empty string" },
        { RULES("{\"name\":\"a b\"}"), "name may have letters" },
        { RULES("{\"name\":\"a\"}"), "it would match any client" },
        { MATCH("{}"), "it would match any client" },
        { MATCH("{\"certificate.cn\":\"*\"}"), "would match any client" },
        { MATCH("{\"certificate.cn\":\"?*-\"}"), "would match any client" },
        { MATCH("{\"certificate.cn\":\"[a-z]*\"}"), "only * and ?" },
        { MATCH("{\"certificate.cn\":\"\"}"), "non-empty" },
        { MATCH("{\"certificate.cn\":7}"), "non-empty" },
        { MATCH("{\"certificate.ou\":\"x\"}"), "unknown claim \"certificate.ou\"" },
        { MATCH("{\"certificate.sha256\":\"*\"}"), "64 lower-case hex" },
        { MATCH("{\"certificate.sha256\":\"" HEX64 "00\"}"), "64 lower-case hex" },
        { MATCH("{\"certificate.cn\":\"a\",\"certificate.cn\":\"b\"}"), "duplicate" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"a/b\"}"),
          "tenant may have" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"t\","
                "\"roles\":[]}"),
          "roles must be" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"t\","
                "\"roles\":[\"root\"]}"),
          "\"root\" is none of" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"t\","
                "\"roles\":[\"admin\"]}"),
          "volumes must be" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"t\","
                "\"roles\":[\"node\"],\"volumes\":[\"*\"]}"),
          "nodes must be" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"},\"tenant\":\"t\","
                "\"roles\":[\"admin\"],\"volumes\":[\"*\"],\"nodes\":[\"*\"]}"),
          "nodes is for the role node" },
        { RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"n\"}," RULE_REST "},"
                "{\"name\":\"a\",\"match\":{\"certificate.cn\":\"m\"}," RULE_REST "}"),
          "rule 2 has the name of rule 1" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct policy *policy = NULL;
        struct error err = ERROR_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, parse(rows[i].text, &policy, &err));
        assert_null(policy);
        assert_contains(err.text, rows[i].part);
    }
}

static struct principal named(const char *cn, const char *digest)
{
    struct principal who = { .n = 0 };
    struct error err = ERROR_INIT;

    assert_ok(principal_add(&who, CLAIM_CERTIFICATE_CN, cn, &err));
    assert_ok(principal_add(&who, CLAIM_CERTIFICATE_SHA256, digest, &err));
    return who;
}

static void the_first_rule_whose_every_claim_matches_decides(void **state)
{
    static const struct {
        const char *cn, *digest, *rule; /* NULL: none */
    } rows[] = {
        { "node-1", HEX64, "both" }, { "node-1", "", "pattern" }, { "node-12", "", "pattern" },
        { "node-", "", "pattern" },  { "node", HEX64, NULL },     { "", HEX64, NULL },
        { "Node-1", "", NULL },      { "xnode-1", "", NULL },     { "single", "", "exact" },
        { "single2", "", NULL },
    };
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(parse(
        RULES("{\"name\":\"both\",\"match\":{\"certificate.cn\":\"node-*\","
              "\"certificate.sha256\":\"" HEX64 "\"}," RULE_REST "},"
              "{\"name\":\"pattern\",\"match\":{\"certificate.cn\":\"node-*\"}," RULE_REST
              "},{\"name\":\"exact\",\"match\":{\"certificate.cn\":\"single\"}," RULE_REST "}"),
        &policy, &err));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct principal who = named(rows[i].cn, rows[i].digest);
        const struct policy_rule *rule = policy_find(policy, &who);

        if (!rows[i].rule)
            assert_null(rule);
        else
            assert_string_equal(policy_rule_name(rule), rows[i].rule);
    }
}

static void a_rule_gives_its_roles_volumes_and_nodes_alone(void **state)
{
    auto_policy struct policy *policy = NULL;
    struct principal who = named("worker-7", "");
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(parse(RULES("{\"name\":\"a\",\"match\":{\"certificate.cn\":\"worker-*\"},"
                          "\"tenant\":\"acme\",\"roles\":[\"node\"],\"volumes\":[\"pvc-*\"],"
                          "\"nodes\":[\"${certificate.cn}\",\"spare-?\"]}"),
                    &policy, &err));
    const struct policy_rule *rule = policy_find(policy, &who);

    assert_non_null(rule);
    assert_string_equal(policy_rule_tenant(rule), "acme");
    assert_true(policy_has_role(rule, POLICY_NODE));
    assert_true(policy_has_role(rule, POLICY_NODE | POLICY_ADMIN));
    assert_false(policy_has_role(rule, POLICY_CONTROLLER | POLICY_ADMIN));
    assert_true(policy_has_volume(rule, "pvc-1"));
    assert_false(policy_has_volume(rule, "xpvc-1"));
    assert_false(policy_has_volume(rule, ""));
    assert_true(policy_has_node(rule, &who, "worker-7"));
    assert_false(policy_has_node(rule, &who, "worker-8"));
    assert_true(policy_has_node(rule, &who, "spare-1"));
    assert_false(policy_has_node(rule, &who, "spare-12"));
    assert_int_equal(strlen(policy_hash(policy)), 64);
}

static void too_many_rules_are_refused(void **state)
{
    static char text[64 * 1024];
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    size_t len = (size_t)snprintf(text, sizeof(text), "{\"version\":1,\"rules\":[");

    (void)state;
    for (int i = 0; i <= POLICY_RULES_MAX; i++)
        len += (size_t)snprintf(
            text + len, sizeof(text) - len,
            "%s{\"name\":\"r%d\",\"match\":{\"certificate.cn\":\"n\"}," RULE_REST "}", i ? "," : "",
            i);
    snprintf(text + len, sizeof(text) - len, "]}");
    assert_refused(ERROR_INVALID_ARGUMENT, parse(text, &policy, &err));
    assert_contains(err.text, "1 to 256");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_policy_is_refused_naming_what_is_wrong),
        cmocka_unit_test(the_first_rule_whose_every_claim_matches_decides),
        cmocka_unit_test(a_rule_gives_its_roles_volumes_and_nodes_alone),
        cmocka_unit_test(too_many_rules_are_refused),
    };

    return RUN_TESTS(tests);
}
