/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "store/seal.h"

/*
 * The ring: the keys with which a store is wrapped and proven. It is itself wrapped under the master
 * key, so that another master key needs one small value of the store to be written, and secrets of
 * volumes can be wrapped anew under a key that is not older than the day.
 *
 * A store without a ring has one all the same, which follows from the master key and has version 0.
 * Keys of volumes were always wrapped with the first of the wrappings; the second one is accepted
 * until all are wrapped anew. While the master key is being changed the ring is wrapped under both.
 */
#define RING_MASTERS_MAX   2
#define RING_WRAPPINGS_MAX 2
#define RING_FIRST_NUMBER  1 /* of the wrapping that follows from the first master key */

struct ring_wrapping {
    uint64_t number; /* counts up */
    struct secret key;
};

struct ring {
    uint64_t version; /* counts the changes; 0: it is not stored */
    size_t n_masters, n_wrappings;
    uint8_t marks[RING_MASTERS_MAX][STORE_MARK_LEN]; /* of the master keys, the newest first */
    struct ring_wrapping wrappings[RING_WRAPPINGS_MAX];
    struct secret records;    /* SEAL_STORE_RECORDS */
    struct secret audit_head; /* SEAL_AUDIT_HEAD */
};

void ring_wipe(struct ring *ring);
#define auto_ring CLEANUP(ring_wipe)
MUST_USE bool ring_copy(const struct ring *ring, struct ring *out, struct error *err);

/* Of a store without a ring. The caller wipes *out, here and below. */
MUST_USE bool ring_of_master(const struct secret *master, struct ring *out, struct error *err);

/* masters: among them each one that the ring has a mark of; FAILED_PRECONDITION otherwise. Some may be
 * empty. */
MUST_USE bool ring_encode(const struct ring *ring, const struct secret *const *masters, size_t n,
                          struct store_ring *out, struct error *err);

/* FAILED_PRECONDITION: the ring is wrapped under other master keys, or a newer version of tdvol wrote
 * it. DATA_LOSS: no broker wrote it. */
MUST_USE bool ring_decode(const struct store_ring *stored, const struct secret *master,
                          struct ring *out, struct error *err);

bool ring_knows(const struct ring *ring, const uint8_t mark[static STORE_MARK_LEN]);
