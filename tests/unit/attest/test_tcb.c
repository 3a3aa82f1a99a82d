/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/tcb.h"
#include "tests/unit/attest/vectors.h"

#include <stdio.h>
#include <string.h>

/*
 * A second model of the evaluation, written from Intel's description and not from tcb.c. A status
 * is a set of independent facts, and the parts are merged fact by fact.
 */
struct facts {
    bool old, configuration, hardening, revoked, unsupported;
};

static const struct facts facts_of[] = {
    [TCB_UP_TO_DATE] = { 0 },
    [TCB_SW_HARDENING_NEEDED] = { .hardening = true },
    [TCB_CONFIGURATION_NEEDED] = { .configuration = true },
    [TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED] = { .configuration = true, .hardening = true },
    [TCB_OUT_OF_DATE] = { .old = true },
    [TCB_OUT_OF_DATE_CONFIGURATION_NEEDED] = { .old = true, .configuration = true },
    [TCB_REVOKED] = { .revoked = true },
    [TCB_NOT_SUPPORTED] = { .unsupported = true },
};

static enum tcb_status status_of(struct facts f)
{
    if (f.revoked)
        return TCB_REVOKED;
    if (f.old)
        return f.configuration ? TCB_OUT_OF_DATE_CONFIGURATION_NEEDED : TCB_OUT_OF_DATE;
    if (f.configuration)
        return f.hardening ? TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED : TCB_CONFIGURATION_NEEDED;
    return f.hardening ? TCB_SW_HARDENING_NEEDED : TCB_UP_TO_DATE;
}

static const enum tcb_status part_statuses[] = { TCB_UP_TO_DATE, TCB_OUT_OF_DATE, TCB_REVOKED };

/* A platform, and levels chosen so that one byte of the SVN picks the status. */
struct machine {
    struct tcb_level platform_levels[7], module_levels[3], qe_levels[3];
    struct tdx_module_identity module;
    struct tcb_info info;
    struct qe_identity qe;
    struct pck_platform platform;
};

/* tdx[2] picks the platform's level, svn[0] the module's, isv_svn the QE's. A higher number picks
 * an earlier level. */
static void machine_make(struct machine *m)
{
    *m = (struct machine){ .module = { .major = 1 } };
    for (uint8_t i = 0; i < 7; i++) {
        m->platform_levels[i] =
            (struct tcb_level){ .status = (enum tcb_status)i, .date = 1000 + i };
        m->platform_levels[i].tdx[2] = (uint8_t)(7 - i);
        /* for a versioned module these two must not count */
        m->platform_levels[i].tdx[0] = 200;
        m->platform_levels[i].tdx[1] = 200;
    }
    for (uint16_t i = 0; i < 3; i++) {
        m->module_levels[i] = (struct tcb_level){ .status = part_statuses[i],
                                                  .isv_svn = (uint16_t)(3 - i),
                                                  .date = 500 + i };
        m->qe_levels[i] = (struct tcb_level){ .status = part_statuses[i],
                                              .isv_svn = (uint16_t)(3 - i),
                                              .date = 700 + i };
    }
    m->module.levels = m->module_levels;
    m->module.n_levels = 3;
    m->info = (struct tcb_info){
        .modules = &m->module, .n_modules = 1, .levels = m->platform_levels, .n_levels = 7
    };
    m->qe = (struct qe_identity){ .levels = m->qe_levels, .n_levels = 3 };
}

/* platform: 0 to 6, or 7 when no level fits; module: 0 to 2, or 3 when no level fits. */
static void make_svn(uint8_t svn[TCB_SVN_LEN], unsigned platform, unsigned module)
{
    for (size_t i = 0; i < TCB_SVN_LEN; i++)
        svn[i] = 0;
    svn[0] = (uint8_t)(3 - module);
    svn[1] = 1;
    svn[2] = (uint8_t)(7 - platform);
}

static struct facts model_one(unsigned platform, unsigned module, unsigned qe)
{
    const enum tcb_status part[] = { TCB_UP_TO_DATE, TCB_OUT_OF_DATE, TCB_REVOKED,
                                     TCB_NOT_SUPPORTED };
    struct facts f = facts_of[platform == 7 ? TCB_NOT_SUPPORTED : (enum tcb_status)platform];

    f.old |= facts_of[part[module]].old | facts_of[part[qe]].old;
    f.revoked |= facts_of[part[module]].revoked | facts_of[part[qe]].revoked;
    f.unsupported |= facts_of[part[module]].unsupported | facts_of[part[qe]].unsupported;
    return f;
}

static enum tcb_status model_both(struct facts launch, struct facts current)
{
    if (launch.unsupported || current.unsupported)
        return TCB_NOT_SUPPORTED;
    /* it does not matter which of the two modules is revoked */
    if (current.revoked || launch.revoked)
        return TCB_REVOKED;
    if (launch.old && !current.old)
        return launch.configuration || current.configuration
                   ? TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
                   : TCB_RELAUNCH_ADVISED;
    return status_of(launch);
}

static void every_combination_agrees_with_the_model(void **state)
{
    struct machine m;
    struct tcb_verdict verdict;
    size_t cases = 0;

    (void)state;
    machine_make(&m);
    for (unsigned n = 0; n < 8 * 4 * 4 * 8 * 4; n++) {
        unsigned platform = n % 8, module = n / 8 % 4, qe = n / 32 % 4;
        unsigned platform2 = n / 128 % 8, module2 = n / 1024 % 4;
        uint8_t svn[TCB_SVN_LEN], svn2[TCB_SVN_LEN];
        struct facts launch = model_one(platform, module, qe);
        struct facts current = model_one(platform2, module2, qe);

        make_svn(svn, platform, module);
        make_svn(svn2, platform2, module2);
        tcb_evaluate(&m.info, &m.qe, &m.platform, svn, svn2, (uint16_t)(3 - qe), &verdict);
        assert_int_equal(verdict.status, model_both(launch, current));
        tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, (uint16_t)(3 - qe), &verdict);
        assert_int_equal(verdict.status,
                         launch.unsupported ? TCB_NOT_SUPPORTED : status_of(launch));
        cases++;
    }
    assert_int_equal(cases, 4096);
}

static void the_oldest_date_and_all_advisories_count(void **state)
{
    struct machine m;
    struct tcb_verdict verdict;
    uint8_t svn[TCB_SVN_LEN];

    (void)state;
    machine_make(&m);
    m.platform_levels[0].advisories = (struct advisories){ { "INTEL-SA-1", "INTEL-SA-2" }, 2 };
    m.qe_levels[0].advisories = (struct advisories){ { "INTEL-SA-2", "INTEL-SA-3" }, 2 };
    make_svn(svn, 0, 0);
    tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
    assert_int_equal(verdict.date, 500);
    assert_int_equal(verdict.advisories.n, 3);
    assert_string_equal(verdict.advisories.ids[2], "INTEL-SA-3");
    assert_false(verdict.has_more);
}

/* A cut list would hide an advisory, and an exception for the others would cover it. */
static void the_verdict_tells_that_advisories_did_not_fit(void **state)
{
    static char names[ADVISORIES_MAX][8];
    struct machine m;
    struct tcb_verdict verdict;
    uint8_t svn[TCB_SVN_LEN];

    (void)state;
    machine_make(&m);
    for (size_t i = 0; i < ADVISORIES_MAX; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "SA-%zu", i);
        m.platform_levels[0].advisories.ids[i] = names[i];
    }
    m.platform_levels[0].advisories.n = ADVISORIES_MAX;
    m.qe_levels[0].advisories = (struct advisories){ { "SA-1" }, 1 };
    make_svn(svn, 0, 0);
    tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
    assert_false(verdict.has_more);
    m.qe_levels[0].advisories.ids[0] = "SA-another";
    tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
    assert_true(verdict.has_more);
    assert_int_equal(verdict.advisories.n, ADVISORIES_MAX);
}

static void unversioned_module_is_judged_by_all_components(void **state)
{
    struct machine m;
    struct tcb_verdict verdict;
    uint8_t svn[TCB_SVN_LEN] = { 199, 0, 7 };

    (void)state;
    machine_make(&m);
    for (size_t i = 0; i < 7; i++)
        m.platform_levels[i].tdx[1] = 0;
    tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
    assert_int_equal(verdict.status, TCB_NOT_SUPPORTED);
    svn[0] = 200;
    tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
    assert_int_equal(verdict.status, TCB_UP_TO_DATE);
}

static void platform_below_a_component_or_pce_has_no_level(void **state)
{
    struct machine m;
    struct tcb_verdict verdict;
    uint8_t svn[TCB_SVN_LEN];

    (void)state;
    machine_make(&m);
    make_svn(svn, 0, 0);
    for (size_t component = 0; component <= TCB_SVN_LEN; component++) {
        machine_make(&m);
        for (size_t i = 0; i < 7; i++) {
            if (component < TCB_SVN_LEN)
                m.platform_levels[i].sgx[component] = 5;
            else
                m.platform_levels[i].pce_svn = 5;
        }
        tcb_evaluate(&m.info, &m.qe, &m.platform, svn, NULL, 3, &verdict);
        assert_int_equal(verdict.status, TCB_NOT_SUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_agrees_with_the_model),
        cmocka_unit_test(the_oldest_date_and_all_advisories_count),
        cmocka_unit_test(the_verdict_tells_that_advisories_did_not_fit),
        cmocka_unit_test(unversioned_module_is_judged_by_all_components),
        cmocka_unit_test(platform_below_a_component_or_pce_has_no_level),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
