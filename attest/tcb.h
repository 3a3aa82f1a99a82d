/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/certificate.h"
#include "attest/quote.h"

#include <stdint.h>

/*
 * Trusted computing base levels as Intel publishes them (TCB info version 3, QE identity version 2)
 * and their evaluation. Pure data and pure functions.
 */
enum tcb_status {
    TCB_UP_TO_DATE,
    TCB_SW_HARDENING_NEEDED,
    TCB_CONFIGURATION_NEEDED,
    TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED,
    TCB_OUT_OF_DATE,
    TCB_OUT_OF_DATE_CONFIGURATION_NEEDED,
    TCB_REVOKED,
    TCB_RELAUNCH_ADVISED,
    TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
    TCB_NOT_SUPPORTED, /* no level fits */
    TCB_STATUS_COUNT
};
const char *tcb_status_name(enum tcb_status status); /* Intel's words: "UpToDate" */

#define ADVISORIES_MAX 64
struct advisories { /* pointers into the collateral */
    const char *ids[ADVISORIES_MAX];
    size_t n;
};

struct tcb_level {                              /* of a platform, a TDX module or the QE */
    uint8_t sgx[TCB_SVN_LEN], tdx[TCB_SVN_LEN]; /* platform only */
    uint16_t pce_svn;                           /* platform only */
    uint16_t isv_svn;                           /* module and QE only */
    enum tcb_status status;
    int64_t date; /* seconds since 1970 */
    struct advisories advisories;
};

struct tdx_module_identity {
    uint8_t major; /* TEE_TCB_SVN[1]; 0 for the unversioned module */
    uint8_t mrsigner[MEASUREMENT_LEN];
    uint8_t attributes[8], attributes_mask[8];
    const struct tcb_level *levels;
    size_t n_levels;
};

struct tcb_info {
    int64_t issue_date, next_update;
    uint8_t fmspc[FMSPC_LEN], pceid[PCEID_LEN];
    uint32_t evaluation_number;
    struct tdx_module_identity module; /* when TEE_TCB_SVN[1] is 0 */
    const struct tdx_module_identity *modules;
    size_t n_modules;
    const struct tcb_level *levels; /* sorted, highest first, none twice */
    size_t n_levels;
};

struct qe_identity {
    int64_t issue_date, next_update;
    uint32_t evaluation_number;
    uint8_t miscselect[4], miscselect_mask[4];
    uint8_t attributes[16], attributes_mask[16];
    uint8_t mrsigner[32];
    uint16_t isv_prod_id;
    const struct tcb_level *levels; /* highest first */
    size_t n_levels;
};

struct tcb_verdict {
    enum tcb_status status;
    int64_t date; /* the oldest date of all parts */
    struct advisories advisories;
    bool has_more; /* there are more advisories than fit: do not judge by the list */
};

/* The identity for a TEE_TCB_SVN; NULL when Intel lists none. */
const struct tdx_module_identity *tcb_module_identity(const struct tcb_info *info,
                                                      const uint8_t svn[static TCB_SVN_LEN]);

/* svn2 is NULL for TD 1.0 reports. Otherwise both are judged: when the module that launched the TD
 * is out of date and the running module is not, the status is "relaunch advised". */
void tcb_evaluate(const struct tcb_info *info, const struct qe_identity *qe,
                  const struct pck_platform *platform, const uint8_t svn[static TCB_SVN_LEN],
                  const uint8_t *svn2, uint16_t qe_isv_svn, struct tcb_verdict *out);

/* How the parts' statuses lower the platform's, and how the launching and the running module's
 * combine. Public so that tests can compare them with a model. */
enum tcb_status tcb_converge(enum tcb_status platform, const enum tcb_status *parts, size_t n);
enum tcb_status tcb_relaunch(enum tcb_status launch, enum tcb_status current);
