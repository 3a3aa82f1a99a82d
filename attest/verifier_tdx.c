/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/reason.h"
#include "attest/verifier.h"
#include "base/secret.h"

/* Quotes of Intel TDX, with the firmware's event log. */

static void report_step(const struct verifier_request *request, const char *name, bool ok,
                        const struct error *err, const struct verified_quote *so_far)
{
    if (request->trace)
        request->trace->step(request->trace->cookie, name, ok, ok ? NULL : err->text, so_far);
}

static bool read_quote(const struct verifier_request *request, struct quote *out, struct error *err)
{
    struct verified_quote so_far = { .quote = { .version = 0 } };
    bool ok = quote_parse(request->quote.bytes, request->quote.len, &so_far.quote, err);

    report_step(request, VERIFY_STEP_STRUCTURE, ok, err, &so_far);
    if (ok)
        *out = so_far.quote;
    return ok;
}

static bool check_report_data(const struct verifier_request *request, const struct quote *quote,
                              struct error *err)
{
    return !request->report_data ||
           bytes_are_equal(request->report_data, quote->td.report_data, REPORT_DATA_LEN) ||
           attest_refuse(err, REASON_REPORT_DATA,
                         "the quote was not made for this nonce, these keys and this broker");
}

static bool make_claims(const struct verifier_request *request,
                        const struct verified_quote *verified, const struct collateral *collateral,
                        struct tee_claims *out, struct error *err)
{
    const struct bytes_view *log = &request->event_log;
    bool ok = tee_claims_from_td(verified, collateral, log->bytes, log->len, out, err);

    if (log->bytes || !ok)
        report_step(request, log->bytes ? VERIFY_STEP_EVENT_LOG : VERIFY_STEP_CLAIMS, ok, err,
                    verified);
    return ok;
}

static bool judge(const struct verifier_request *request, const struct quote *quote,
                  const struct collateral *collateral, struct tee_claims *out, struct error *err)
{
    const struct verify_request of_quote = { .quote = quote,
                                             .collateral = collateral,
                                             .now = request->now,
                                             .cache = request->cache,
                                             .trace = request->trace };
    struct verified_quote verified;

    return quote_verify(&of_quote, &verified, err) && check_report_data(request, quote, err) &&
           make_claims(request, &verified, collateral, out, err);
}

static bool verify(const struct verifier_request *request, struct tee_claims *out,
                   struct error *err)
{
    const struct collateral_lender *lender = &request->lender;
    const struct collateral *collateral = NULL;
    struct quote quote;

    if (!read_quote(request, &quote, err) ||
        !lender->lend(lender->cookie, &quote, &collateral, err))
        return false;
    bool ok = judge(request, &quote, collateral, out, err);

    lender->take_back(lender->cookie, collateral);
    return ok;
}

const struct verifier verifier_tdx = { .name = "tdx", .verify = verify };
