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
    memcpy(out->report_data, td->report_data, REPORT_DATA_LEN);
    out->td_attributes = td->td_attributes;
    out->xfam = td->xfam;
    memcpy(out->tee_tcb_svn, td->tee_tcb_svn, TCB_SVN_LEN);
}

static void copy_platform(const struct pck_platform *platform, struct td_claims *out)
{
    memcpy(out->fmspc, platform->fmspc, FMSPC_LEN);
    out->sgx_type = platform->sgx_type;
    out->has_platform_id = platform->has_platform_id;
    if (platform->has_platform_id)
        memcpy(out->platform_id, platform->platform_id, PLATFORM_ID_LEN);
}

/* An advisory that is cut would be another one. */
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
                             "collateral: more than %d advisories hold for one platform",
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

/* The whole quote without the zeros that may follow: the PCK chain is its last part. */
static bool hash_quote(const struct quote *quote, uint8_t out[static 32], struct error *err)
{
    const uint8_t *end = (const uint8_t *)quote->pck_chain_pem + quote->pck_chain_len;

    return sha256(quote->signed_bytes, (size_t)(end - quote->signed_bytes), out, err);
}

bool td_claims_from(const struct verified_quote *verified, const struct collateral *collateral,
                    const uint8_t *event_log, size_t event_log_len, int64_t now,
                    struct td_claims *out, struct error *err)
{
    const struct quote *quote = &verified->quote;
    struct td_claims claims = { .quote_version = quote->version };

    copy_report(&quote->td, &claims);
    copy_platform(&verified->platform, &claims);
    if (!copy_tcb(verified, &claims, err) || !hash_quote(quote, claims.quote_sha256, err))
        return false;
    if (event_log && !replay(&quote->td, event_log, event_log_len, &claims, err))
        return false;
    memcpy(claims.collateral_sha256, collateral->sha256, sizeof(claims.collateral_sha256));
    claims.collateral_until = collateral_next_update(collateral);
    claims.verified_at = now;
    *out = claims;
    return true;
}
