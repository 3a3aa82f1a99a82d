/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * Judges evidence as a whole: evidence goes in, claims come out. Each kind of TEE has one row of
 * ops (the table is in verifier.c). AttestRequest.tee chooses the row.
 */

/* Where a verifier gets collateral. It calls lend once, after it has parsed the quote. */
struct collateral_lender {
    MUST_USE bool (*lend)(void *cookie, const struct quote *quote, const struct collateral **out,
                          struct error *err);
    void (*take_back)(void *cookie, const struct collateral *collateral);
    void *cookie;
};

struct verifier_request {
    struct bytes_view quote;
    struct bytes_view event_log; /* bytes is NULL when none was sent */
    const uint8_t *report_data;  /* REPORT_DATA_LEN bytes that the quote must have; NULL: any */
    struct collateral_lender lender;
    int64_t now;                      /* seconds since 1970 */
    struct pck_cache *cache;          /* may be NULL; thread-safe */
    const struct verify_trace *trace; /* may be NULL */
};

struct verifier {
    const char *name; /* the kind of TEE, as in AttestRequest.tee */
    /* Fails with DENIED and the reason's word when the evidence is refused, or with the lender's
     * error. */
    MUST_USE bool (*verify)(const struct verifier_request *request, struct tee_claims *out,
                            struct error *err);
};

extern const struct verifier verifier_tdx;

/* NULL with INVALID_ARGUMENT for an unknown name; the error lists the known names. */
const struct verifier *verifier_find(const char *name, struct error *err);
