/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/option.h"
#include "tests/sim/sim.h"

/* What the simulated Intel publishes: options that several commands share. */
struct collateral_options {
    const char *fmspc; /* hex; NULL: the default platform's */
    int ca, status;
    uint64_t evaluation, issued, days, crl_number; /* issued 0: an hour ago */
};
#define COLLATERAL_OPTIONS_INIT                        \
    {                                                  \
        .evaluation = 18, .days = 30, .crl_number = 10 \
    }
#define COLLATERAL_DAYS_MAX 36500u
#define COLLATERAL_TIME_MAX 253402300799ull /* the end of the year 9999 */

extern const char *const collateral_ca_names[], *const collateral_status_names[];

/* Rows for a table of struct s, which has these options in its member o. */
#define COLLATERAL_OPTION_ROWS(s, o)                                                         \
    OPTION_TEXT_ROW("fmspc", s, o.fmspc, "HEX",                                              \
                    "Kind of platform, 12 hex digits; default: the default platform's."),    \
        OPTION_CHOICE_ROW("status", s, o.status, collateral_status_names,                    \
                          "TCB status of an up-to-date platform; default: UpToDate."),       \
        OPTION_U64_ROW("evaluation", s, o.evaluation, 1, UINT32_MAX, "N",                    \
                       "tcbEvaluationDataNumber of TCB info and QE identity; default: 18."), \
        OPTION_U64_ROW("issued", s, o.issued, 0, COLLATERAL_TIME_MAX, "EPOCH",               \
                       "When all of it was issued, in seconds since 1970; default: an hour " \
                       "ago."),                                                              \
        OPTION_U64_ROW("days", s, o.days, 1, COLLATERAL_DAYS_MAX, "N",                       \
                       "How many days all of it is valid; default: 30."),                    \
        OPTION_U64_ROW("crl-number", s, o.crl_number, 1, UINT32_MAX - 1, "N",                \
                       "Number of both revocation lists; default: 10.")

/* Memory that struct sim_tcb points into. */
struct collateral_plan {
    struct sim_tcb tcb;
    struct sim_level levels[8];
};
MUST_USE bool collateral_plan_make(const struct collateral_options *options,
                                   struct collateral_plan *out, struct error *err);
