/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"
#include "store/store.h"

/*
 * Copies that a driver was asked for, and that have no record yet. A repeated request finds the copy of
 * the first one by its name, but the source may have changed since: the record would then say of the
 * copy what is not true of it, and nobody could open it. So the store remembers, before the driver is
 * asked, the version that the source had at the first request. Whoever asks again, from whatever
 * controller, gets that version, and CopyRecord refuses when the source has another one by then.
 *
 * A name that is remembered for too long costs one copy that is made twice, nothing else. So a source has
 * COPYING_MAX places for names, and when two copies want the same place, the later one has it: whoever
 * begins copies without end does not fill the store.
 */
#define COPYING_MAX 256u

/* version: of the source at the first request of this copy that has not ended. */
MUST_USE bool copying_begin(struct store *store, const struct record *source, enum record_kind kind,
                            const char *name, uint64_t *version, struct error *err);

/* There is a record, or nothing is left of the copy. */
MUST_USE bool copying_end(struct store *store, const struct record *source, enum record_kind kind,
                          const char *name, struct error *err);

/* The source is erased. */
MUST_USE bool copying_end_all(struct store *store, const struct record *source, struct error *err);
