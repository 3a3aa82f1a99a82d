/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral.h"
#include "attest/pck_cache.h"
#include "attest/reason.h"

/*
 * Verifies a parsed TDX quote, in the order of Intel's QVL. It is stricter in some points, which
 * THREATS.md lists. Pure: bytes, collateral and time go in, a verdict comes out. The policy decides
 * what a verified quote may do, but a debug TD is refused here already.
 */
struct verified_quote {
    struct quote quote; /* points into the caller's bytes */
    struct pck_platform platform;
    struct tcb_verdict tcb;
    uint32_t tcb_evaluation_number, qe_evaluation_number;
};

#define VERIFY_STEP_STRUCTURE "structure of the quote" /* after this step so_far->quote is known */
#define VERIFY_STEP_TCB       "TCB level"              /* after this step so_far->tcb is known */
#define VERIFY_STEP_EVENT_LOG "event log replays"
#define VERIFY_STEP_CLAIMS    "claims of the quote"

/* To explain a verdict: called at the end of each step. so_far has valid parts only from steps that
 * were passed. detail is NULL when ok. */
struct verify_trace {
    void (*step)(void *cookie, const char *name, bool ok, const char *detail,
                 const struct verified_quote *so_far);
    void *cookie;
};

struct verify_request {
    const struct quote *quote; /* parsed, not trusted */
    const struct collateral *collateral;
    int64_t now;                      /* seconds since 1970 */
    struct pck_cache *cache;          /* may be NULL; thread-safe */
    const struct verify_trace *trace; /* may be NULL */
};

/*
 * True when everything is authentic and a TCB level fits. The level may have any status except
 * Revoked, see out->tcb.status. False with DENIED and the reason's word; then out is unchanged.
 */
MUST_USE bool quote_verify(const struct verify_request *request, struct verified_quote *out,
                           struct error *err);

/* By default a TD may have only these attributes, and SEPT_VE_DISABLE must be set. */
#define TD_ATTRIBUTES_ALLOWED  (TD_ATTRIBUTE_SEPT_VE_DISABLE | TD_ATTRIBUTE_PKS | TD_ATTRIBUTE_LASS)
#define TD_ATTRIBUTES_REQUIRED TD_ATTRIBUTE_SEPT_VE_DISABLE
#define TD_XFAM_REQUIRED       0x3ull     /* x87 and SSE are architectural */
#define TD_XFAM_ALLOWED        0x6dbe7ull /* user and supervisor states a TD may use */

/* The reason to refuse a TCB level with this status; REASON_NONE for UpToDate. */
enum attest_reason tcb_status_reason(enum tcb_status status);
