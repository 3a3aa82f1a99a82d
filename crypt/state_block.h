/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/layout.h"

/*
 * The state block inside the encrypted mapping: whose disk this is and how often it was opened, in
 * two copies under a MAC. The record is the authority; the block tells whether the disk is the one
 * the record speaks of, and as new.
 */
struct state_block {
    uint64_t sequence; /* the copy with the higher one counts */
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t open_counter;
    bool filesystem_made;
    struct volume_extent extents[RECORD_EXTENTS_MAX]; /* for recovery by hand */
    uint32_t n_extents;
};

/* To and from LAYOUT_STATE_BYTES. Decoding: DATA_LOSS "StateDamaged" when the MAC or anything
 * behind it is wrong. */
MUST_USE bool state_block_encode(const struct state_block *state, const struct secret *key,
                                 uint8_t *out, struct error *err);
MUST_USE bool state_block_decode(const uint8_t *block, const struct secret *key,
                                 struct state_block *out, struct error *err);

/* Reads both copies from the mapping; the newer valid one counts. *out_slot: which it is. */
MUST_USE bool state_block_read(int mapping_fd, const struct secret *key, struct state_block *out,
                               uint32_t *out_slot, struct error *err);
/* Writes and flushes one copy (0 or 1). */
MUST_USE bool state_block_write(int mapping_fd, const struct secret *key,
                                const struct state_block *state, uint32_t slot, struct error *err);

/* Whether a disk with this state is the one that record speaks of, in its newest version.
 * DATA_LOSS "WrongVolume" or "RolledBack". *ahead: the disk is one open ahead of the record. */
MUST_USE bool state_block_check(const struct state_block *state, const struct record *record,
                                bool *ahead, struct error *err);
