/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/policy/policy_text.h"

#define RULE(name, tenant)                                                            \
    "{'name':'" name "','match':{'certificate.cn':'" name "'},'tenant':'" tenant "'," \
    "'may':['admin'],'volumes':['*']}"
#define WITH(leases) \
    "{'version':1,'leases':" leases ",'rules':[" RULE("a", "red") "," RULE("b", "blue") "]}"

#define KEEPING(retention) \
    "{'version':1,'retention':" retention ",'rules':[" RULE("a", "red") "," RULE("b", "blue") "]}"

static void each_tenant_has_its_own_or_the_one_for_all(void **state UNUSED)
{
    auto_policy struct policy *all = policy_must(WITH("{'seconds':60}"));
    auto_policy struct policy *own = policy_must(WITH("{'seconds':60,'tenants':{'blue':3600}}"));
    auto_policy struct policy *one = policy_must(WITH("{'tenants':{'blue':30}}"));
    auto_policy struct policy *declined =
        policy_must(WITH("{'seconds':60,'tenants':{'blue':false}}"));

    assert_int_equal(policy_lease_ms(all, "red"), 60000);
    assert_int_equal(policy_lease_ms(all, "blue"), 60000);
    assert_int_equal(policy_lease_ms(own, "red"), 60000);
    assert_int_equal(policy_lease_ms(own, "blue"), RECORD_LEASE_MAX_MS);
    assert_int_equal(policy_lease_ms(one, "red"), 0);
    assert_int_equal(policy_lease_ms(one, "blue"), RECORD_LEASE_MIN_MS);
    assert_int_equal(policy_lease_ms(declined, "red"), 60000);
    assert_int_equal(policy_lease_ms(declined, "blue"), 0);
}

static void keys_are_kept_for_a_tenants_time_or_for_that_of_all(void **state UNUSED)
{
    auto_policy struct policy *own =
        policy_must(KEEPING("{'seconds':604800,'tenants':{'blue':1}}"));
    auto_policy struct policy *declined =
        policy_must(KEEPING("{'seconds':7,'tenants':{'blue':false}}"));

    assert_int_equal(policy_retention_ms(own, "red"), UINT64_C(604800000));
    assert_int_equal(policy_retention_ms(own, "blue"), 1000);
    assert_int_equal(policy_lease_ms(own, "red"), 0);
    assert_int_equal(policy_retention_ms(declined, "red"), 7000);
    assert_int_equal(policy_retention_ms(declined, "blue"), 0);
}

static void without_a_word_leases_are_never_over(void **state UNUSED)
{
    auto_policy struct policy *policy = policy_must("{'version':1,'rules':[" RULE("a", "red") "]}");

    assert_int_equal(policy_lease_ms(policy, "red"), 0);
    assert_int_equal(policy_retention_ms(policy, "red"), 0);
}

static void an_error_names_what_is_wrong(void **state UNUSED)
{
    static const struct {
        const char *text, *part;
    } rows[] = {
        { WITH("60"), "leases: must be an object" },
        { WITH("{}"), "leases: it is empty" },
        { WITH("{'second':60}"), "unknown key \"second\"" },
        { WITH("{'seconds':29}"), "leases: seconds: must be a number of seconds from 30 to 3600" },
        { WITH("{'seconds':3601}"), "from 30 to 3600" },
        { WITH("{'seconds':-60}"), "from 30 to 3600" },
        { WITH("{'seconds':60.5}"), "from 30 to 3600" },
        { WITH("{'seconds':'60'}"), "from 30 to 3600" },
        { WITH("{'seconds':false}"), "from 30 to 3600" },
        { WITH("{'tenants':{}}"), "tenants: must be an object with 1 to 256 tenants" },
        { WITH("{'tenants':[60]}"), "tenants: must be an object" },
        { WITH("{'tenants':{'green':60}}"), "tenants: green: no rule has this tenant" },
        { WITH("{'tenants':{'blue':true}}"), "blue: must be a number of seconds" },
        { WITH("{'tenants':{'blue':0}}"), "blue: must be a number of seconds" },
        { KEEPING("7"), "retention: must be an object" },
        { KEEPING("{}"), "retention: it is empty" },
        { KEEPING("{'days':7}"), "unknown key \"days\"" },
        { KEEPING("{'seconds':0}"), "retention: seconds: must be a number of seconds from 1 to" },
        { KEEPING("{'seconds':-1}"), "from 1 to 31622400" },
        { KEEPING("{'seconds':31622401}"), "from 1 to 31622400" },
        { KEEPING("{'seconds':'7d'}"), "must be a number of seconds" },
        { KEEPING("{'tenants':{'green':60}}"), "green: no rule has this tenant" },
        { KEEPING("{'tenants':{'blue':0}}"), "blue: must be a number of seconds" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct policy *policy = NULL;
        struct error err = ERROR_INIT;

        if (policy_from(rows[i].text, &policy, &err))
            fail_msg("accepted: %s", rows[i].text);
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_contains(err.text, rows[i].part);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_tenant_has_its_own_or_the_one_for_all),
        cmocka_unit_test(keys_are_kept_for_a_tenants_time_or_for_that_of_all),
        cmocka_unit_test(without_a_word_leases_are_never_over),
        cmocka_unit_test(an_error_names_what_is_wrong),
    };

    return RUN_TESTS(tests);
}
