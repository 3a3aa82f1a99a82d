/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/claims.h"

#include "attest/event_log.h"
#include "attest/reason.h"
#include "base/digest.h"
#include "base/reader.h"

#include <string.h>

static void copy_report(const struct td_report *td, struct td_claims *out)
{
    memcpy(out->mrtd, td->mrtd, MEASUREMENT_LEN);
    for (size_t i = 0; i < ARRAY_LEN(out->rtmr); i++)
        memcpy(out->rtmr[i], td->rtmr[i], MEASUREMENT_LEN);
    memcpy(out->mrconfigid, td->mrconfigid, MEASUREMENT_LEN);
    memcpy(out->mrowner, td->mrowner, MEASUREMENT_LEN);
    memcpy(out->mrownerconfig, td->mrownerconfig, MEASUREMENT_LEN);
    memcpy(out->mrseam, td->mrseam, MEASUREMENT_LEN);
    out->has_service_td = td->mrservicetd && !bytes_are_zero(td->mrservicetd, MEASUREMENT_LEN);
    if (out->has_service_td)
        memcpy(out->mrservicetd, td->mrservicetd, MEASUREMENT_LEN);
    out->td_attributes = td->td_attributes;
    out->xfam = td->xfam;
}

static void copy_platform(const struct pck_platform *platform, struct td_claims *out)
{
    memcpy(out->fmspc, platform->fmspc, FMSPC_LEN);
    out->sgx_type = platform->sgx_type;
    out->has_platform_id = platform->has_platform_id;
    if (platform->has_platform_id)
        memcpy(out->platform_id, platform->platform_id, PLATFORM_ID_LEN);
}

/* Too long names and lists are refused, not cut: a cut name would be another advisory. */
static bool copy_tcb(const struct verified_quote *verified, struct td_claims *out,
                     struct error *err)
{
    const struct advisories *from = &verified->tcb.advisories;

    out->tcb_status = verified->tcb.status;
    out->tcb_date = verified->tcb.date;
    out->tcb_evaluation_number = verified->tcb_evaluation_number;
    out->qe_evaluation_number = verified->qe_evaluation_number;
    if (verified->tcb.has_more)
        return attest_refuse(err, REASON_COLLATERAL_MALFORMED,
                             "collateral: more than %d advisories apply to one platform",
                             CLAIMS_ADVISORIES_MAX);
    for (size_t i = 0; i < from->n; i++) {
        size_t len = strlen(from->ids[i]);

        if (len > CLAIMS_ADVISORY_MAX)
            return attest_refuse(err, REASON_COLLATERAL_MALFORMED,
                                 "collateral: an advisory's name is longer than %d bytes",
                                 CLAIMS_ADVISORY_MAX);
        memcpy(out->advisories[i], from->ids[i], len + 1);
        out->n_advisories++;
    }
    return true;
}

static bool keep_event(void *cookie, const struct event *event, struct error *err)
{
    struct td_claims *out = cookie;

    if (event->register_index != 4 || event->type == EVENT_NO_ACTION)
        return true;
    if (out->n_events == CLAIMS_EVENTS_MAX)
        return attest_refuse(err, REASON_EVENT_LOG_MALFORMED,
                             "event log: RTMR3 was extended more than %d times", CLAIMS_EVENTS_MAX);
    memcpy(out->events[out->n_events++], event->digest, MEASUREMENT_LEN);
    return true;
}

static bool replay(const struct td_report *td, const uint8_t *log, size_t len,
                   struct td_claims *out, struct error *err)
{
    if (!event_log_check(log, len, td, err) || !event_log_walk(log, len, keep_event, out, err))
        return false;
    out->has_event_log = true;
    return true;
}

bool tee_claims_from_td(const struct verified_quote *verified, const struct collateral *collateral,
                        const uint8_t *event_log, size_t event_log_len, struct tee_claims *out,
                        struct error *err)
{
    const struct quote *quote = &verified->quote;
    struct tee_claims claims = { .kind = TEE_TDX };
    struct td_claims *td = &claims.td;

    copy_report(&quote->td, td);
    copy_platform(&verified->platform, td);
    if (!copy_tcb(verified, td, err) || !quote_sha256(quote, claims.quote_sha256, err))
        return false;
    if (event_log && !replay(&quote->td, event_log, event_log_len, td, err))
        return false;
    memcpy(claims.collateral_sha256, collateral->sha256, sizeof(claims.collateral_sha256));
    claims.collateral_until = collateral_next_update(collateral);
    *out = claims;
    return true;
}

bool td_claims_check_acceptable(const struct td_claims *td, struct error *err)
{
    if (td->tcb_status != TCB_UP_TO_DATE)
        return attest_refuse(err, tcb_status_reason(td->tcb_status),
                             "the platform's TCB is %s, not UpToDate",
                             tcb_status_name(td->tcb_status));
    if ((td->td_attributes & TD_ATTRIBUTES_REQUIRED) != TD_ATTRIBUTES_REQUIRED ||
        (td->td_attributes & ~TD_ATTRIBUTES_ALLOWED) != 0)
        return attest_refuse(err, REASON_TD_ATTRIBUTES,
                             "TD attributes are 0x%llx; 0x%llx is required and 0x%llx is allowed",
                             (unsigned long long)td->td_attributes, TD_ATTRIBUTES_REQUIRED,
                             TD_ATTRIBUTES_ALLOWED);
    if ((td->xfam & TD_XFAM_REQUIRED) != TD_XFAM_REQUIRED || (td->xfam & ~TD_XFAM_ALLOWED) != 0)
        return attest_refuse(err, REASON_TD_XFAM,
                             "XFAM is 0x%llx; 0x%llx is required and 0x%llx is allowed",
                             (unsigned long long)td->xfam, TD_XFAM_REQUIRED, TD_XFAM_ALLOWED);
    if (td->has_service_td)
        return attest_refuse(err, REASON_TD_SERVICE_TD,
                             "a service TD is bound: it could move this TD to another machine");
    return true;
}
