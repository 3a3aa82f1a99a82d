/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/collateral.h"
#include "tests/unit/test.h"

/*
 * Real quotes with their collateral, from the public test data of other projects. They are not part
 * of this tree: they are read from $TDVOL_VECTORS, or from ../shared/vectors beside the source.
 * Tests that need them are skipped when they are missing.
 */

/* The folder below the vectors, or NULL; static storage. */
const char *vectors_path(const char *below);

#define NEEDS_VECTORS                                                                  \
    do {                                                                               \
        if (!vectors_path("quotes"))                                                   \
            skip_because("there are no test vectors: see TDVOL_VECTORS in vectors.h"); \
    } while (0)

struct vector_set {
    struct collateral collateral;
    char *quote;
    size_t quote_len;
    int64_t check_time;
    char tcb_status[64];        /* what expected.json says: Intel's words, or "n/a" */
    bool is_accepted;           /* by the strict default */
    uint32_t evaluation_number; /* of TCB info */
};

/* One folder of quotes/; fails the test when it cannot be loaded. */
void vector_set_load(const char *name, struct vector_set *out);
void vector_set_free(struct vector_set *set);

/* Any file; the caller frees it. */
char *vector_file(const char *below, size_t *len);
