/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"
#include "store/keyring.h"
#include "store/store.h"

/* Where a secret is destroyed, and by whose clock. */
struct erasure_place {
    struct store *store;
    struct keyring *keyring;
    const char *replica; /* the broker's name; NULL: it has none */
    uint64_t now_ms;     /* since 1970 */
};

/* Before a change is written that takes a secret from a record: next remembers what is known now. by: who has
 * it done, for people. Nothing happens when next has all secrets of before. */
MUST_USE bool erasure_note(const struct erasure_place *place, const char *by,
                           const struct record *before, struct record *next, struct error *err);

/* For the audit line of such a change: "KEY-ID/GENERATION" of each secret that next loses. */
#define ERASURE_TEXT_LEN (2 * (2 * RECORD_ID_LEN + 16))
void erasure_text(const struct record *next, char out[static ERASURE_TEXT_LEN]);
