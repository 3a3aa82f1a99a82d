/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/digest.h"
#include "record/record.h"

/*
 * A worker proves to the broker that a change comes from it, and not from the unprivileged front
 * which passes it on. The proof is a MAC under a key that follows from the volume's secret: the
 * worker and the broker have it, the front does not.
 */
#define PROOF_LEN    SHA256_LEN
#define PROOF_REASON "ChangeProof" /* of a refusal */

/* Which proof a change needs. What needs none is all that a front may say by itself. */
enum proof_kind {
    PROOF_NONE = 1, /* grow; close without a word on how, as after a crash */
    PROOF_SECRET,   /* of a worker that has the secret */
    PROOF_CLOSE,    /* of a worker that has the key of this one opening */
};
/* record: before the change; NULL when the node has not seen it. Who gives up a format needs a proof
 * where another node could format next: then no worker may be left of the attempt, and only a worker
 * knows. Where one node has the space, only that node can be next. */
enum proof_kind proof_needed(const struct record *record, const struct record_change *change);

/* For PROOF_SECRET. expected_version is the record's before the change, so each proof is for one
 * moment. */
MUST_USE bool proof_by_secret(const struct secret *secret, const struct record *record,
                              uint64_t expected_version, const struct record_change *change,
                              uint8_t out[static PROOF_LEN], struct error *err);

/*
 * For PROOF_CLOSE: the key of the opening that the record counted last. It follows from the secret,
 * the record's id and the open counter, and proves nothing but how this opening ended. So the state
 * folder may keep it until the volume is closed, and closing needs no secret. Root on this node can
 * read it there, but root can end the opening as it likes anyway.
 */
#define CLOSE_KEY_LEN SHA256_LEN
MUST_USE bool close_key_derive(const struct secret *secret, const struct record *record,
                               uint8_t out[static CLOSE_KEY_LEN], struct error *err);
MUST_USE bool proof_by_close_key(const uint8_t key[static CLOSE_KEY_LEN],
                                 const struct record_change *change, uint8_t out[static PROOF_LEN],
                                 struct error *err);
