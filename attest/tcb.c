/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/tcb.h"

#include <string.h>

static const char *const status_names[TCB_STATUS_COUNT] = {
    [TCB_UP_TO_DATE] = "UpToDate",
    [TCB_SW_HARDENING_NEEDED] = "SWHardeningNeeded",
    [TCB_CONFIGURATION_NEEDED] = "ConfigurationNeeded",
    [TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED] = "ConfigurationAndSWHardeningNeeded",
    [TCB_OUT_OF_DATE] = "OutOfDate",
    [TCB_OUT_OF_DATE_CONFIGURATION_NEEDED] = "OutOfDateConfigurationNeeded",
    [TCB_REVOKED] = "Revoked",
    [TCB_RELAUNCH_ADVISED] = "TDRelaunchAdvised",
    [TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED] = "TDRelaunchAdvisedConfigurationNeeded",
    [TCB_NOT_SUPPORTED] = "NotSupported",
};

const char *tcb_status_name(enum tcb_status status)
{
    return (unsigned)status < TCB_STATUS_COUNT ? status_names[status] : "";
}

const struct tdx_module_identity *tcb_module_identity(const struct tcb_info *info,
                                                      const uint8_t svn[static TCB_SVN_LEN])
{
    if (svn[1] == 0)
        return &info->module;
    for (size_t i = 0; i < info->n_modules; i++)
        if (info->modules[i].major == svn[1])
            return &info->modules[i];
    return NULL;
}

static bool all_at_least(const uint8_t *have, const uint8_t *want, size_t from)
{
    for (size_t i = from; i < TCB_SVN_LEN; i++)
        if (have[i] < want[i])
            return false;
    return true;
}

/* A versioned module's own identity judges bytes 0 and 1 of its SVN, so they are skipped here. */
static const struct tcb_level *platform_level(const struct tcb_info *info,
                                              const struct pck_platform *platform,
                                              const uint8_t *svn)
{
    for (size_t i = 0; i < info->n_levels; i++) {
        const struct tcb_level *level = &info->levels[i];

        if (all_at_least(platform->tcb_svn, level->sgx, 0) && platform->pce_svn >= level->pce_svn &&
            all_at_least(svn, level->tdx, svn[1] > 0 ? 2 : 0))
            return level;
    }
    return NULL;
}

static const struct tcb_level *isv_level(const struct tcb_level *levels, size_t n, uint16_t isv_svn)
{
    for (size_t i = 0; i < n; i++)
        if (isv_svn >= levels[i].isv_svn)
            return &levels[i];
    return NULL;
}

enum tcb_status tcb_converge(enum tcb_status platform, const enum tcb_status *parts, size_t n)
{
    bool out_of_date = false;

    for (size_t i = 0; i < n; i++) {
        if (parts[i] == TCB_REVOKED)
            return TCB_REVOKED;
        out_of_date |= parts[i] == TCB_OUT_OF_DATE;
    }
    if (!out_of_date)
        return platform;
    if (platform == TCB_UP_TO_DATE || platform == TCB_SW_HARDENING_NEEDED)
        return TCB_OUT_OF_DATE;
    if (platform == TCB_CONFIGURATION_NEEDED ||
        platform == TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED)
        return TCB_OUT_OF_DATE_CONFIGURATION_NEEDED;
    return platform;
}

static bool needs_configuration(enum tcb_status status)
{
    return status == TCB_CONFIGURATION_NEEDED ||
           status == TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED ||
           status == TCB_OUT_OF_DATE_CONFIGURATION_NEEDED;
}

enum tcb_status tcb_relaunch(enum tcb_status launch, enum tcb_status current)
{
    bool launch_is_old =
        launch == TCB_OUT_OF_DATE || launch == TCB_OUT_OF_DATE_CONFIGURATION_NEEDED;
    bool current_is_fine = current == TCB_UP_TO_DATE || current == TCB_SW_HARDENING_NEEDED ||
                           current == TCB_CONFIGURATION_NEEDED ||
                           current == TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED;

    if (current == TCB_NOT_SUPPORTED || current == TCB_REVOKED)
        return current;
    if (!launch_is_old || !current_is_fine)
        return launch;
    return needs_configuration(launch) || needs_configuration(current)
               ? TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
               : TCB_RELAUNCH_ADVISED;
}

static void add_level(struct tcb_verdict *v, const struct tcb_level *level)
{
    if (level->date < v->date)
        v->date = level->date;
    for (size_t i = 0; i < level->advisories.n; i++) {
        bool known = false;

        for (size_t j = 0; j < v->advisories.n && !known; j++)
            known = strcmp(v->advisories.ids[j], level->advisories.ids[i]) == 0;
        v->has_more |= !known && v->advisories.n == ADVISORIES_MAX;
        if (!known && v->advisories.n < ADVISORIES_MAX)
            v->advisories.ids[v->advisories.n++] = level->advisories.ids[i];
    }
}

/* Judges platform, module and QE together, for one TEE_TCB_SVN. */
static enum tcb_status evaluate_one(const struct tcb_info *info, const struct tcb_level *qe,
                                    const struct pck_platform *platform, const uint8_t *svn,
                                    struct tcb_verdict *v)
{
    const struct tcb_level *level = platform_level(info, platform, svn);
    enum tcb_status parts[2];
    size_t n = 0;

    if (!level || !qe)
        return TCB_NOT_SUPPORTED;
    add_level(v, level);
    if (svn[1] > 0) {
        const struct tdx_module_identity *id = tcb_module_identity(info, svn);
        const struct tcb_level *module = id ? isv_level(id->levels, id->n_levels, svn[0]) : NULL;

        if (!module)
            return TCB_NOT_SUPPORTED;
        add_level(v, module);
        parts[n++] = module->status;
    }
    add_level(v, qe);
    parts[n++] = qe->status;
    return tcb_converge(level->status, parts, n);
}

void tcb_evaluate(const struct tcb_info *info, const struct qe_identity *qe,
                  const struct pck_platform *platform, const uint8_t svn[static TCB_SVN_LEN],
                  const uint8_t *svn2, uint16_t qe_isv_svn, struct tcb_verdict *out)
{
    const struct tcb_level *qe_level = isv_level(qe->levels, qe->n_levels, qe_isv_svn);

    *out = (struct tcb_verdict){ .date = INT64_MAX };
    out->status = evaluate_one(info, qe_level, platform, svn, out);
    if (svn2 && out->status != TCB_NOT_SUPPORTED)
        out->status = tcb_relaunch(out->status, evaluate_one(info, qe_level, platform, svn2, out));
}
