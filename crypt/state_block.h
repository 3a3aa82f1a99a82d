/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/secret.h"
#include "record/layout.h"

#define STATE_BLOCK_COPIES 2u

/*
 * The state block inside the encrypted mapping: which volume this disk belongs to, and how often it
 * was opened. There are two copies, each with a MAC. The record is the authority. The block shows
 * whether the disk is the record's disk, and whether it is in the newest state.
 */
struct state_block {
    uint64_t sequence; /* of the two copies, the one with the higher number is used */
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t open_counter;
    uint64_t
        filesystem_bytes; /* the size for which the file system was made or grown; 0: none was */
    bool is_closed;       /* written at the clean close that ended this opening */
};

/* Converts to and from LAYOUT_STATE_BYTES. Decoding: DATA_LOSS "StateDamaged" when the MAC or a
 * field is wrong. */
MUST_USE bool state_block_encode(const struct state_block *state, const struct secret *key,
                                 uint8_t *out, struct error *err);
MUST_USE bool state_block_decode(const uint8_t *block, const struct secret *key,
                                 struct state_block *out, struct error *err);

/* The newest state that the mapping claims. Only for people: nobody has checked its MAC. False when neither
 * copy looks like one. */
bool state_block_peek(int mapping_fd, struct state_block *out);

/* Reads both copies from the mapping and returns the newer valid one. *out_slot: its slot. next_key: that
 * of the next secret, with which a copy may have been written; NULL: there is none. */
MUST_USE bool state_block_read(int mapping_fd, const struct secret *key,
                               const struct secret *next_key, struct state_block *out,
                               uint32_t *out_slot, struct error *err);
/* Writes and flushes one copy (0 or 1). block: LAYOUT_STATE_BYTES of state_block_encode(). */
MUST_USE bool state_block_put(int mapping_fd, const uint8_t *block, uint32_t slot,
                              struct error *err);
/* Writes and flushes one copy (0 or 1). */
MUST_USE bool state_block_write(int mapping_fd, const struct secret *key,
                                const struct state_block *state, uint32_t slot, struct error *err);

/* Checks that a disk with this state is the disk of record, in its newest state: after a clean close,
 * also of the volume of which it is a copy, only a disk that says so. With a record out of a backup,
 * each state since then. DATA_LOSS "WrongVolume" or "RolledBack". *ahead: the disk counted one more open than the record. */
MUST_USE bool state_block_check(const struct state_block *state, const struct record *record,
                                bool *ahead, struct error *err);
