/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"

/*
 * Evidence judged as a whole: what was sent in, claims out. One row of ops per kind of TEE
 * (verifier.c has the table); which one judges is what AttestRequest.tee says.
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
    struct bytes_view event_log; /* bytes are NULL: none was sent */
    const uint8_t *report_data;  /* REPORT_DATA_LEN bytes that it must speak for; NULL: any */
    struct collateral_lender lender;
    int64_t now;                      /* seconds since 1970 */
    struct pck_cache *cache;          /* may be NULL; thread-safe */
    const struct verify_trace *trace; /* may be NULL */
};

struct verifier {
    const char *name; /* the kind of TEE, as AttestRequest.tee says it */
    /* DENIED with the reason's word when the evidence is refused; the lender's own errors. */
    MUST_USE bool (*verify)(const struct verifier_request *request, struct tee_claims *out,
                            struct error *err);
};

extern const struct verifier verifier_tdx;

/* NULL with INVALID_ARGUMENT, which names those that are known. */
const struct verifier *verifier_find(const char *name, struct error *err);
