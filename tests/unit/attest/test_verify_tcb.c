/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#define DATE "2025-05-14T00:00:00Z"

/* --- modules --- */

static void modules_of_someone_else_are_refused(void **state)
{
    static const char levels[] =
        "\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\":[{\"tcb\":{\"isvsvn\":5}";
    static const char no_mask[] =
        "\"attributesMask\":\"0000000000000000\",\"tcbLevels\":[{\"tcb\":{\"isvsvn\":5}";
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->td.mrsignerseam[47] = 1;
    expect_verdict("MRSIGNERSEAM", scene_run(s), "TdxModuleSigner");
    s->td.mrsignerseam[47] = 0;
    for (size_t bit = 0; bit < 64; bit++) {
        s->td.seam_attributes[bit / 8] = (uint8_t)(1u << bit % 8);
        expect_verdict("SEAMATTRIBUTES", scene_run(s), "TdxModuleAttributes");
        s->td.seam_attributes[bit / 8] = 0;
    }
    s->td.seam_attributes[3] = 8;
    scene_sign(s);
    scene_publish(s);
    scene_edit_tcb_info(s, levels, no_mask, NULL);
    expect_verdict("bit out of the mask", scene_judge(s), "TdxModuleAttributes");
}

static void modules_are_found_by_their_major_version(void **state)
{
    static const struct sim_level level = { .isv_svn = 1, .date = DATE, .status = "UpToDate" };
    static const struct {
        const char *name, *id; /* NULL: no identities at all */
        uint8_t major, running;
        const char *reason;
    } cases[] = {
        { "the module", "TDX_03", 3, 3, "" },
        { "no identities", NULL, 3, 3, "TdxModuleUnknown" },
        { "no identities, unversioned", NULL, 0, 0, "" },
        { "another identity", "TDX_02", 3, 3, "TdxModuleUnknown" },
        { "hex, upper case", "TDX_0A", 10, 10, "" },
        { "hex, lower case", "TDX_0a", 10, 10, "" },
        { "hex, not decimal", "TDX_10", 10, 10, "TdxModuleUnknown" },
        { "unknown running module", "TDX_03", 3, 4, "TdxModuleUnknown" },
        { "unknown launching module", "TDX_03", 4, 3, "TdxModuleUnknown" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        const struct sim_module module = { cases[i].id, &level, 1 };

        s->tcb.modules = &module;
        s->tcb.n_modules = cases[i].id ? 1 : 0;
        s->td.version = 5;
        s->td.body_type = 3;
        s->td.tee_tcb_svn[1] = cases[i].major;
        s->td.tee_tcb_svn2[1] = cases[i].running;
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
    }
}

/* --- levels --- */

#define UP                                                              \
    {                                                                   \
        .sgx = { 3 }, .pce_svn = 13, .date = DATE, .status = "UpToDate" \
    }
#define OLD                                                              \
    {                                                                    \
        .sgx = { 2 }, .pce_svn = 13, .date = DATE, .status = "OutOfDate" \
    }
#define OLDEST                                                        \
    {                                                                 \
        .sgx = { 1 }, .pce_svn = 5, .date = DATE, .status = "Revoked" \
    }

static void order_of_levels_does_not_matter(void **state)
{
    static const struct sim_level orders[][3] = {
        { UP, OLD, OLDEST }, { UP, OLDEST, OLD }, { OLD, UP, OLDEST },
        { OLD, OLDEST, UP }, { OLDEST, UP, OLD }, { OLDEST, OLD, UP },
    };
    static const char *const reasons[] = { "TcbNotSupported", "TcbRevoked", "TcbOutOfDate", "" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(orders); i++)
        for (size_t svn = 0; svn < ARRAY_LEN(reasons); svn++) {
            auto_scene struct scene *s = scene_new();

            s->platform.tcb_svn[0] = (uint8_t)svn;
            scene_replace_machine(s);
            s->tcb.levels = orders[i];
            s->tcb.n_levels = 3;
            expect_verdict("order", scene_run(s), reasons[svn]);
        }
}

static void order_of_module_levels_does_not_matter(void **state)
{
    static const struct sim_level levels[] = {
        { .isv_svn = 2, .date = DATE, .status = "Revoked" },
        { .isv_svn = 5, .date = DATE, .status = "UpToDate" },
        { .isv_svn = 3, .date = DATE, .status = "OutOfDate" },
    };
    static const struct sim_module module = { "TDX_03", levels, ARRAY_LEN(levels) };
    static const char *const reasons[] = {
        "TcbNotSupported", "TcbNotSupported", "TcbRevoked", "TcbOutOfDate", "TcbOutOfDate", "", ""
    };
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->tcb.modules = &module;
    s->tcb.n_modules = 1;
    for (size_t svn = 0; svn < ARRAY_LEN(reasons); svn++) {
        s->td.tee_tcb_svn[0] = (uint8_t)svn;
        expect_verdict("module SVN", scene_run(s), reasons[svn]);
    }
}

static void levels_that_are_there_twice_or_not_at_all_are_refused(void **state)
{
    static const struct sim_level twice[] = {
        UP, OLD, { .sgx = { 2 }, .pce_svn = 13, .date = DATE, .status = "UpToDate" }
    };
    static const struct sim_level same[] = { UP, UP };
    static const struct sim_level qe_twice[] = {
        { .isv_svn = 4, .date = DATE, .status = "UpToDate" },
        { .isv_svn = 4, .date = DATE, .status = "Revoked" },
    };
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->tcb.levels = twice;
    s->tcb.n_levels = 3;
    expect_verdict("with two statuses", scene_run(s), "CollateralMalformed");
    s->tcb.levels = same;
    s->tcb.n_levels = 2;
    expect_verdict("the same", scene_run(s), "CollateralMalformed");
    s->tcb.n_levels = 0;
    expect_verdict("none", scene_run(s), "CollateralMalformed");
    s->tcb.n_levels = 1;
    s->tcb.qe_levels = qe_twice;
    s->tcb.n_qe_levels = 2;
    expect_verdict("of the QE", scene_run(s), "CollateralMalformed");
    s->tcb.n_qe_levels = 0;
    expect_verdict("none of the QE", scene_run(s), "CollateralMalformed");
}

/* One number after the other is one below the only level. */
static void every_number_below_the_lowest_level_counts(void **state)
{
    static const struct sim_level level = {
        .sgx = { 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9 },
        .tdx = { 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9 },
        .pce_svn = 9,
        .date = DATE,
        .status = "UpToDate"
    };

    (void)state;
    for (size_t at = 0; at <= 2 * TCB_SVN_LEN; at++) {
        auto_scene struct scene *s = scene_new();

        s->tcb.levels = &level;
        s->tcb.n_levels = 1;
        s->platform.pce_svn = at == 2 * TCB_SVN_LEN ? 8 : 9;
        for (size_t i = 0; i < TCB_SVN_LEN; i++) {
            s->platform.tcb_svn[i] = i == at ? 8 : 9;
            s->td.tee_tcb_svn[i] = i + TCB_SVN_LEN == at ? 8 : 9;
        }
        s->td.tee_tcb_svn[1] = 3; /* the module's own levels judge its two SVNs, bytes 0 and 1 */
        scene_replace_machine(s);
        bool is_module = at == TCB_SVN_LEN || at == TCB_SVN_LEN + 1;
        expect_verdict("one below", scene_run(s), is_module ? "" : "TcbNotSupported");
    }
}

static void each_status_has_its_reason(void **state)
{
    static const struct {
        const char *platform, *module, *qe, *reason;
    } cases[] = {
        { "UpToDate", "UpToDate", "UpToDate", "" },
        { "SWHardeningNeeded", "UpToDate", "UpToDate", "TcbSwHardeningNeeded" },
        { "ConfigurationNeeded", "UpToDate", "UpToDate", "TcbConfigurationNeeded" },
        { "ConfigurationAndSWHardeningNeeded", "UpToDate", "UpToDate", "TcbConfigurationNeeded" },
        { "OutOfDate", "UpToDate", "UpToDate", "TcbOutOfDate" },
        { "OutOfDateConfigurationNeeded", "UpToDate", "UpToDate", "TcbOutOfDate" },
        { "Revoked", "UpToDate", "UpToDate", "TcbRevoked" },
        { "UpToDate", "OutOfDate", "UpToDate", "TcbOutOfDate" },
        { "UpToDate", "UpToDate", "OutOfDate", "TcbOutOfDate" },
        { "UpToDate", "Revoked", "UpToDate", "TcbRevoked" },
        { "UpToDate", "UpToDate", "Revoked", "TcbRevoked" },
        { "OutOfDate", "OutOfDate", "Revoked", "TcbRevoked" },
        { "Fine", "UpToDate", "UpToDate", "CollateralMalformed" },
        { "TDRelaunchAdvised", "UpToDate", "UpToDate", "CollateralMalformed" },
        { "NotSupported", "UpToDate", "UpToDate", "CollateralMalformed" },
        { "", "UpToDate", "UpToDate", "CollateralMalformed" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        const struct sim_level level = { .date = DATE, .status = cases[i].platform };
        const struct sim_level module_level = { .date = DATE, .status = cases[i].module };
        const struct sim_level qe_level = { .date = DATE, .status = cases[i].qe };
        const struct sim_module module = { "TDX_03", &module_level, 1 };

        s->tcb.levels = &level;
        s->tcb.modules = &module;
        s->tcb.qe_levels = &qe_level;
        s->tcb.n_levels = s->tcb.n_modules = s->tcb.n_qe_levels = 1;
        expect_verdict(cases[i].platform, scene_run(s), cases[i].reason);
        /* a policy may allow the others, but not a revoked level */
        if (strcmp(cases[i].reason, "CollateralMalformed") != 0)
            assert_int_equal(s->is_verified, strcmp(cases[i].reason, "TcbRevoked") != 0);
    }
}

static void newer_running_module_advises_a_relaunch(void **state)
{
    static const struct sim_level module_levels[] = {
        { .isv_svn = 5, .date = DATE, .status = "UpToDate" },
        { .isv_svn = 3, .date = DATE, .status = "OutOfDate" },
        { .isv_svn = 2, .date = DATE, .status = "Revoked" },
    };
    static const struct sim_module module = { "TDX_03", module_levels, 3 };
    static const struct {
        const char *name, *platform;
        uint8_t launch, running;
        enum tcb_status status;
        const char *reason;
    } cases[] = {
        { "both new", "UpToDate", 5, 6, TCB_UP_TO_DATE, "" },
        { "old, new", "UpToDate", 3, 5, TCB_RELAUNCH_ADVISED, "TcbRelaunchAdvised" },
        { "old, new, configuration", "ConfigurationNeeded", 3, 5,
          TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED, "TcbRelaunchAdvised" },
        { "both old", "UpToDate", 3, 4, TCB_OUT_OF_DATE, "TcbOutOfDate" },
        { "new, old", "UpToDate", 5, 3, TCB_UP_TO_DATE, "" },
        { "old, too old", "UpToDate", 3, 1, TCB_NOT_SUPPORTED, "TcbNotSupported" },
        { "new, too old", "UpToDate", 5, 1, TCB_NOT_SUPPORTED, "TcbNotSupported" },
        { "too old, new", "UpToDate", 1, 5, TCB_NOT_SUPPORTED, "TcbNotSupported" },
        { "revoked, new", "UpToDate", 2, 5, TCB_REVOKED, "TcbRevoked" },
        { "new, revoked", "UpToDate", 5, 2, TCB_REVOKED, "TcbRevoked" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        const struct sim_level level = { .date = DATE, .status = cases[i].platform };

        s->tcb.levels = &level;
        s->tcb.modules = &module;
        s->tcb.n_levels = s->tcb.n_modules = 1;
        s->td.version = 5;
        s->td.body_type = 3;
        s->td.tee_tcb_svn[0] = cases[i].launch;
        s->td.tee_tcb_svn2[0] = cases[i].running;
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
        if (cases[i].status < TCB_REVOKED || cases[i].status == TCB_RELAUNCH_ADVISED ||
            cases[i].status == TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
            assert_int_equal(s->verified.tcb.status, cases[i].status);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modules_of_someone_else_are_refused),
        cmocka_unit_test(modules_are_found_by_their_major_version),
        cmocka_unit_test(order_of_levels_does_not_matter),
        cmocka_unit_test(order_of_module_levels_does_not_matter),
        cmocka_unit_test(levels_that_are_there_twice_or_not_at_all_are_refused),
        cmocka_unit_test(every_number_below_the_lowest_level_counts),
        cmocka_unit_test(each_status_has_its_reason),
        cmocka_unit_test(newer_running_module_advises_a_relaunch),
    };

    return RUN_TESTS(tests);
}
