/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"

/*
 * Records of a store that was restored from a backup. What happened after the backup is not known:
 * a volume may have been formatted, opened, closed, moved, rotated or erased since.
 */

/* A store makes far fewer changes in a millisecond. */
#define NUMBERS_PER_MS_BITS 20u

static uint64_t first_number(uint64_t epoch_ms)
{
    return epoch_ms << NUMBERS_PER_MS_BITS;
}

static bool refuse_clock(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "the record of %s is of a later time than this machine's clock shows: set the "
                     "clock, and try again",
                     r->volume_id);
}

/* What the disk holds may only be newer where somebody could write to it. */
static bool has_state(const struct record *r)
{
    return r->kind == RECORD_VOLUME && r->n_header_digests > 0;
}

bool record_restore(struct record *r, uint64_t epoch_ms, struct error *err)
{
    uint64_t first = first_number(epoch_ms);

    if (epoch_ms > RECORD_COUNTER_MAX >> NUMBERS_PER_MS_BITS || r->version >= first ||
        r->open_counter >= first || r->published.epoch >= first)
        return refuse_clock(r, err);
    r->version = first;
    r->published = (struct record_publications){ .epoch = first };
    if (r->phase == RECORD_ERASED)
        return true;
    if (!r->restored.is_set)
        r->restored.counter_low = r->open_counter;
    r->restored.is_set = true;
    r->restored.is_adopted = false;
    r->lease = (struct record_lease){ .opened_ms = 0 };
    r->format.holder = (struct record_holder){ .node = "" };
    r->format.deadline_ms = 0;
    if (r->phase == RECORD_FORMATTING)
        r->phase = RECORD_NEW;
    if (!has_state(r))
        return true;
    r->open_counter = first;
    r->has_clean_hash = false; /* of a map that may have changed since */
    return true;
}

bool record_check_adopted(const struct record *r, struct error *err)
{
    if (!r->restored.is_set || r->restored.is_adopted)
        return true;
    return error_set_reason(
        err, ERROR_FAILED_PRECONDITION, RESTORED_REASON,
        "the broker's store was restored from a backup, and the record of %s may "
        "be older than its disk: see docs/broker.md, then tdvolctl volume adopt "
        "--restored %s",
        r->volume_id, r->volume_id);
}

bool record_adopt_restored(struct record *r, bool *changed, struct error *err)
{
    if (r->version == 0 || r->phase == RECORD_ERASED)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", r->volume_id);
    *changed = r->restored.is_set && !r->restored.is_adopted;
    if (!*changed) /* the answer was lost, or the volume is in use again */
        return true;
    if (has_state(r))
        r->restored.is_adopted = true;
    else
        r->restored = (struct record_restored){ .is_set = false };
    return true;
}
