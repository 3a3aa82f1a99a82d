/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/verifier.h"
#include "base/option.h"

#include <jansson.h>

/*
 * Judges a quote offline, for "quote explain" and "policy test". Prints each step at once, or
 * collects the steps as JSON.
 */
enum { EXIT_REFUSED = 3 };

/* The option exists in builds with the simulator only; the field always does. */
#ifdef TDVOL_SIMULATOR
#define TEST_ROOT_ROW(s)                   \
    OPTION_TEXT_ROW(                       \
        "test-root", s, test_root, "FILE", \
        "SIMULATOR BUILD ONLY: trust this root certificate (DER) in place of Intel's."),
#else
#define TEST_ROOT_ROW(s)
#endif
/* Trusts the root in the file path, with a warning to stderr. path NULL: does nothing. */
MUST_USE bool explanation_use_test_root(const char *path, struct error *err);

struct steps {
    bool json;
    json_t *list, *advisories;
    const char *tcb_status; /* "" until it is known */
    struct quote quote;     /* version 0 until it could be read */
};
void steps_start(struct steps *steps, bool json);
void steps_end(struct steps *steps);
/* rule NULL: the step is about the evidence. detail is NULL when ok. */
void steps_add(struct steps *steps, const char *rule, const char *name, bool ok,
               const char *detail);
/* A quote with its collateral. */
struct explained_quote {
    struct collateral collateral;
    char *bytes;
    size_t len;
};
void explained_quote_free(struct explained_quote *quote);
#define auto_explained_quote CLEANUP(explained_quote_free)

/* Reads the quote and its collateral. collateral_folder NULL: the quote's folder. DENIED with a
 * reason when the collateral is refused. */
MUST_USE bool explained_quote_load(const char *quote_path, const char *collateral_folder,
                                   struct explained_quote *out, struct error *err);
/* event_log.bytes NULL: there is none. */
MUST_USE bool explained_quote_verify(const struct explained_quote *quote,
                                     struct bytes_view event_log, int64_t now, struct steps *steps,
                                     struct tee_claims *out, struct error *err);
