/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/policy/policy_text.h"
#include "tests/unit/record/made_certificate.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#define RULE(name, tenant)                                                            \
    "{'name':'" name "','match':{'certificate.cn':'" name "'},'tenant':'" tenant "'," \
    "'may':['admin'],'volumes':['*']}"
#define WITH(recovery) \
    "{'version':1,'recovery':" recovery ",'rules':[" RULE("a", "red") "," RULE("b", "blue") "]}"

struct certificates {
    struct made_certificate first, second, weak;
};

static int setup(void **state)
{
    static struct certificates c;

    c.first = make_certificate(&(struct certificate_wish){ .kind = "P-256" });
    c.second = make_certificate(&(struct certificate_wish){ .kind = "P-384" });
    c.weak = make_certificate(&(struct certificate_wish){ .kind = "RSA-2048" });
    *state = &c;
    return 0;
}

static int teardown(void **state)
{
    struct certificates *c = *state;

    made_certificate_free(&c->first);
    made_certificate_free(&c->second);
    made_certificate_free(&c->weak);
    return 0;
}

/* text with each $ replaced by the PEM, as in JSON. The caller frees it. */
static char *with_pem(const char *text, const char *pem)
{
    json_t *json = json_string(pem);
    auto_free char *quoted = json_dumps(json, JSON_ENCODE_ANY);
    char *out = NULL;
    const char *at = strchr(text, '$');

    json_decref(json);
    assert_non_null(quoted);
    assert_non_null(at);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - text), text, quoted, at + 1) > 0);
    return out;
}

static struct policy *policy_of(const char *text, const struct made_certificate *a,
                                const struct made_certificate *b)
{
    auto_free char *once = a ? with_pem(text, a->pem) : strdup(text);
    auto_free char *twice = b ? with_pem(once, b->pem) : strdup(once);

    return policy_must(twice);
}

static void assert_has(const struct policy *policy, const char *tenant,
                       const struct made_certificate *made)
{
    const struct recovery_certificate *found = policy_recovery(policy, tenant);

    assert_non_null(found);
    assert_int_equal(found->len, made->der_len);
    assert_memory_equal(found->der, made->der, made->der_len);
}

static void each_tenant_has_its_own_or_the_one_for_all(void **state)
{
    struct certificates *c = *state;
    auto_policy struct policy *none = policy_must(WITH("{'tenants':{'red':false}}"));
    auto_policy struct policy *all = policy_of(WITH("{'certificate':$}"), &c->first, NULL);
    auto_policy struct policy *own =
        policy_of(WITH("{'certificate':$,'tenants':{'blue':$}}"), &c->first, &c->second);
    auto_policy struct policy *one = policy_of(WITH("{'tenants':{'blue':$}}"), &c->first, NULL);
    auto_policy struct policy *declined =
        policy_of(WITH("{'certificate':$,'tenants':{'blue':false}}"), &c->first, NULL);

    assert_null(policy_recovery(none, "red"));
    assert_true(policy_declines_recovery(none, "red"));
    assert_false(policy_declines_recovery(none, "blue"));
    assert_has(all, "red", &c->first);
    assert_has(all, "blue", &c->first);
    assert_has(own, "red", &c->first);
    assert_has(own, "blue", &c->second);
    assert_null(policy_recovery(one, "red"));
    assert_has(one, "blue", &c->first);
    assert_has(declined, "red", &c->first);
    assert_null(policy_recovery(declined, "blue"));
}

static void a_policy_without_recovery_has_none(void **state)
{
    auto_policy struct policy *policy = policy_must("{'version':1,'rules':[" RULE("a", "red") "]}");

    (void)state;
    assert_null(policy_recovery(policy, "red"));
    assert_false(policy_declines_recovery(policy, "red"));
}

static void an_error_names_what_is_wrong(void **state)
{
    struct certificates *c = *state;
    const struct {
        const char *text, *pem, *part;
    } rows[] = {
        { WITH("7"), NULL, "recovery: must be an object" },
        { WITH("{}"), NULL, "recovery: it is empty" },
        { WITH("{'certificates':'x'}"), NULL, "unknown key \"certificates\"" },
        { WITH("{'certificate':false}"), NULL, "recovery: certificate: must be a certificate" },
        { WITH("{'certificate':'x'}"), NULL, "not PEM" },
        { WITH("{'certificate':''}"), NULL, "empty" },
        { WITH("{'certificate':$}"), c->weak.pem, "3072" },
        { WITH("{'certificate':$}"), c->first.key_pem, "private key" },
        { WITH("{'tenants':{}}"), NULL, "tenants: must be an object with 1 to 256 tenants" },
        { WITH("{'tenants':[false]}"), NULL, "tenants: must be an object" },
        { WITH("{'tenants':{'green':false}}"), NULL, "green: no rule has this tenant" },
        { WITH("{'tenants':{'blue':true}}"), NULL, "blue: must be a certificate" },
        { WITH("{'tenants':{'blue':$}}"), c->weak.pem, "recovery: tenants: blue: " },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_free char *text =
            rows[i].pem ? with_pem(rows[i].text, rows[i].pem) : strdup(rows[i].text);
        struct policy *policy = NULL;
        struct error err = ERROR_INIT;

        if (policy_from(text, &policy, &err))
            fail_msg("accepted: %s", text);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_contains(err.text, rows[i].part);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tenant_has_its_own_or_the_one_for_all),
        cmocka_unit_test(a_policy_without_recovery_has_none),
        cmocka_unit_test(an_error_names_what_is_wrong),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
