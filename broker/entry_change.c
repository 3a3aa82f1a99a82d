/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "broker/entry.h"

#include <string.h>

/*
 * ChangeRecord: what the node that has a volume open, or formats it, has recorded. Each change is
 * one row: when it already happened, when it may happen, and what it does.
 */
struct change_step {
    const char *name;
    enum record_phase phase; /* in which it may happen; CLOSED decides by itself */
    /* True when the record shows this very change: the answer was lost, the request came again. */
    bool (*is_done)(const struct record *r, const struct record_change *change);
    bool (*check)(const struct record *r, const struct record_change *change, struct error *err);
    void (*apply)(struct record *r, const struct record_change *change);
};

static bool is_holder(const struct record_holder *a, const struct record_holder *b)
{
    return a->node[0] != '\0' && strcmp(a->node, b->node) == 0 &&
           strcmp(a->boot_id, b->boot_id) == 0;
}

/* Extents follow each other from 0, and cover what the pod sees within the mapping. Without
 * integrity nothing has to be initialised, and there are none. */
static bool check_extents(const struct record *r, const struct record_extents *extents,
                          uint64_t size_bytes, uint64_t mapping_bytes, struct error *err)
{
    uint64_t end_bytes = 0;

    if (r->spec.integrity == RECORD_NO_INTEGRITY && extents->n == 0)
        return true;
    for (size_t i = 0; i < extents->n; i++) {
        const struct record_extent *e = &extents->items[i];

        if (e->start_bytes != end_bytes || e->length_bytes == 0 ||
            e->length_bytes > mapping_bytes - end_bytes)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "extent %zu does not continue the one before, or leaves the mapping",
                             i);
        end_bytes += e->length_bytes;
    }
    if (end_bytes < size_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT, "extents cover %llu of %llu bytes",
                         (unsigned long long)end_bytes, (unsigned long long)size_bytes);
    return true;
}

static bool ready_is_done(const struct record *r, const struct record_change *change)
{
    return r->phase == RECORD_READY && r->n_digests > 0 && r->format_attempt == change->attempt &&
           bytes_are_equal(r->digests[0], change->header_digest, SHA256_LEN) &&
           is_holder(&r->lease, &change->holder);
}

static bool ready_check(const struct record *r, const struct record_change *change,
                        struct error *err)
{
    if (r->format_attempt != change->attempt)
        return error_set(err, ERROR_ABORTED,
                         "volume %s is formatted by attempt %u, not by attempt %u", r->volume_id,
                         r->format_attempt, change->attempt);
    if (change->now_ms >= r->format_deadline_ms)
        return error_set(err, ERROR_ABORTED,
                         "volume %s: the time to format it is over: format it again", r->volume_id);
    return check_extents(r, &change->extents, r->spec.size_bytes, r->spec.mapping_bytes, err);
}

static void ready_apply(struct record *r, const struct record_change *change)
{
    r->phase = RECORD_READY;
    r->n_digests = 1;
    memcpy(r->digests[0], change->header_digest, SHA256_LEN);
    r->extents = change->extents;
    r->lease = change->holder;
    r->opened_ms = change->now_ms;
    r->format = (struct record_holder){ .node = "" };
    r->format_deadline_ms = 0;
}

static bool opened_is_done(const struct record *r, const struct record_change *change)
{
    return r->phase == RECORD_READY && is_holder(&r->lease, &change->holder) &&
           r->open_counter == change->open_counter && !r->origin.is_set && !r->has_clean_hash;
}

/* The disk may be one ahead of the record; a copy's disk one ahead of its source's. */
static bool opened_check(const struct record *r, const struct record_change *change,
                         struct error *err)
{
    uint64_t high = r->open_counter;

    if (r->origin.is_set && r->origin.counter_high > high)
        high = r->origin.counter_high;
    if (change->open_counter < r->open_counter ||
        (change->open_counter > high && change->open_counter - high > 1))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "volume %s: open counter %llu does not follow %llu", r->volume_id,
                         (unsigned long long)change->open_counter,
                         (unsigned long long)r->open_counter);
    return true;
}

static void opened_apply(struct record *r, const struct record_change *change)
{
    r->open_counter = change->open_counter;
    r->origin = (struct record_origin){ .is_set = false };
    r->has_clean_hash = false;
}

static bool extent_done_is_done(const struct record *r, const struct record_change *change)
{
    return r->phase == RECORD_READY && is_holder(&r->lease, &change->holder) &&
           change->extent_index < r->extents.n && r->extents.items[change->extent_index].done;
}

static bool extent_done_check(const struct record *r, const struct record_change *change,
                              struct error *err)
{
    if (change->extent_index >= r->extents.n)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume %s has no extent %u", r->volume_id,
                         change->extent_index);
    return true;
}

static void extent_done_apply(struct record *r, const struct record_change *change)
{
    r->extents.items[change->extent_index].done = true;
}

static bool closed_is_done(const struct record *r, const struct record_change *change)
{
    return (r->phase == RECORD_READY || r->phase == RECORD_NEW) && r->lease.node[0] == '\0' &&
           r->has_clean_hash == change->has_clean_hash &&
           (!r->has_clean_hash || bytes_are_equal(r->clean_hash, change->clean_hash, SHA256_LEN));
}

static bool closed_check(const struct record *r, const struct record_change *change,
                         struct error *err)
{
    if (r->phase == RECORD_FORMATTING && change->has_clean_hash)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume %s is not formatted: it cannot have closed cleanly", r->volume_id);
    return true;
}

static void closed_apply(struct record *r, const struct record_change *change)
{
    if (r->phase == RECORD_FORMATTING) {
        r->phase = RECORD_NEW;
        r->format = (struct record_holder){ .node = "" };
        r->format_deadline_ms = 0;
        return;
    }
    r->lease = (struct record_holder){ .node = "" };
    r->opened_ms = 0;
    r->has_clean_hash = change->has_clean_hash;
    memcpy(r->clean_hash, change->clean_hash, SHA256_LEN);
}

static bool extent_is_equal(const struct record_extent *a, const struct record_extent *b)
{
    return a->start_bytes == b->start_bytes && a->length_bytes == b->length_bytes &&
           a->slot == b->slot && a->region_bytes == b->region_bytes;
}

static bool grown_is_done(const struct record *r, const struct record_change *change)
{
    if (r->phase != RECORD_READY || !is_holder(&r->lease, &change->holder) ||
        r->spec.size_bytes != change->size_bytes || r->spec.device_bytes != change->device_bytes ||
        r->spec.mapping_bytes != change->mapping_bytes || r->extents.n != change->extents.n)
        return false;
    for (size_t i = 0; i < r->extents.n; i++)
        if (!extent_is_equal(&r->extents.items[i], &change->extents.items[i]))
            return false;
    return true;
}

/* What is there stays as it is; only a last extent without a map may become longer. */
static bool grown_check(const struct record *r, const struct record_change *change,
                        struct error *err)
{
    if (change->size_bytes < r->spec.size_bytes || change->device_bytes < r->spec.device_bytes ||
        change->mapping_bytes < r->spec.mapping_bytes || change->extents.n < r->extents.n ||
        change->device_bytes > INT64_MAX || change->mapping_bytes > change->device_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume %s can grow only", r->volume_id);
    for (size_t i = 0; i < r->extents.n; i++) {
        struct record_extent old = r->extents.items[i];
        const struct record_extent *new = &change->extents.items[i];

        if (i + 1 == r->extents.n && old.done && new->length_bytes > old.length_bytes)
            old.length_bytes = new->length_bytes;
        if (!extent_is_equal(&old, new))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "volume %s: extent %zu cannot change by growing", r->volume_id, i);
    }
    return check_extents(r, &change->extents, change->size_bytes, change->mapping_bytes, err);
}

static void grown_apply(struct record *r, const struct record_change *change)
{
    struct record_extents next = change->extents;

    for (size_t i = 0; i < r->extents.n; i++)
        next.items[i].done = r->extents.items[i].done;
    r->extents = next;
    r->spec.size_bytes = change->size_bytes;
    r->spec.device_bytes = change->device_bytes;
    r->spec.mapping_bytes = change->mapping_bytes;
}

static const struct change_step steps[] = {
    [RECORD_CHANGE_READY] = { "ready", RECORD_FORMATTING, ready_is_done, ready_check, ready_apply },
    [RECORD_CHANGE_OPENED] = { "opened", RECORD_READY, opened_is_done, opened_check, opened_apply },
    [RECORD_CHANGE_EXTENT_DONE] = { "extent_done", RECORD_READY, extent_done_is_done,
                                    extent_done_check, extent_done_apply },
    [RECORD_CHANGE_CLOSED] = { "closed", RECORD_READY, closed_is_done, closed_check, closed_apply },
    [RECORD_CHANGE_GROWN] = { "grown", RECORD_READY, grown_is_done, grown_check, grown_apply },
};

/* Formatting is the format attempt's, everything else the lease's. */
static bool check_holder(const struct record *r, const struct record_change *change,
                         struct error *err)
{
    const struct record_holder *holder = r->phase == RECORD_FORMATTING ? &r->format : &r->lease;

    if (is_holder(holder, &change->holder))
        return true;
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is not open on this boot of node %s", r->volume_id,
                     change->holder.node);
}

bool record_change(struct record *r, const struct record_change *change, bool *changed,
                   struct error *err)
{
    const struct change_step *step = &steps[change->kind];
    bool gives_up = change->kind == RECORD_CHANGE_CLOSED && r->phase == RECORD_FORMATTING;

    if (r->version == 0 || r->phase == RECORD_ERASED)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s", r->volume_id);
    if (step->is_done(r, change)) {
        *changed = false;
        return true;
    }
    if (r->version != change->expected_version)
        return error_set(err, ERROR_ABORTED, "volume %s is at version %llu, not %llu", r->volume_id,
                         (unsigned long long)r->version,
                         (unsigned long long)change->expected_version);
    if (r->phase != step->phase && !gives_up)
        return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is %s: %s is not possible",
                         r->volume_id, record_phase_name(r->phase), step->name);
    if (!check_holder(r, change, err) || !step->check(r, change, err))
        return false;
    step->apply(r, change);
    *changed = true;
    return true;
}
