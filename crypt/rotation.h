/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypt/header.h"
#include "crypt/state_block.h"
#include "crypt/volume.h"
#include "crypt/volume_keys.h"

/*
 * Gives a volume its next secret (record/record.h, struct record_rotation). The volume key stays, so no
 * data is written anew: the header gets another keyslot, and the state block another MAC.
 *
 *   1. make the new header in memory          2. its digest goes on record, beside the good ones
 *   3. write copy B, then A, read both back   4. write both copies of the state block
 *   5. the record takes the next key and this header alone; the broker destroys the former secret
 *
 * From 2 to 5 the record knows both secrets and both headers, and any mixture of old and new copies opens.
 * After a crash the next opening for writing goes on: with the new header if the disk has it, otherwise from
 * the start. So at no moment does the record know a secret that opens nothing.
 */

/* Keeps the block for the clean close of an open volume, before the blocks on the disk change: a block of the
 * former secret would be older than they are, and then useless. Until step 5 either one is good. */
struct closing_saver {
    bool (*save)(void *cookie, const struct volume_closing *closing, struct error *err);
    void *cookie;
};

struct rotation {
    struct record *record; /* with a rotation; updated through the keeper */
    const struct record_keeper *keeper;
    int raw_fd, mapping_fd;
    const struct volume_keys *keys, *next;
    struct state_block *state;         /* as it is on the disk */
    uint32_t *state_slot;              /* the copy that holds it */
    const struct closing_saver *saver; /* of an open volume; otherwise NULL */
};

/* header_fd: the header that header_read() found. Afterwards keys are of no use. Writes as if the volume
 * was opened for writing. */
MUST_USE bool rotation_run(const struct rotation *rotation, int header_fd,
                           const struct header_found *found, struct error *err);

/* A volume that is open for writing, and stays so. */
struct open_rotation {
    struct record *record; /* with a rotation; updated through the keeper */
    const struct secret *secret, *next_secret;
    const struct record_keeper *keeper;
    const struct closing_saver *saver;
};
/* DATA_LOSS as in volume_activate(), when the disk is not the one that was opened. */
MUST_USE bool volume_rotate(const struct volume_name *name, const struct open_rotation *opening,
                            struct error *err);
