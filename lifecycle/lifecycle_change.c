/* SPDX-License-Identifier: Apache-2.0 */
#include "base/secret.h"
#include "lifecycle/lifecycle.h"
#include "record/check.h"

#include <string.h>

/*
 * ChangeRecord: the node that formats a volume, or has it open, records a change. Each kind of
 * change is one row: whether it has happened already, whether it may happen, and what it does.
 */
struct change_step {
    enum record_phase phase; /* in which the change may happen; CLOSED also in FORMATTING */
    /* True when the record has this change already: the first answer was lost. */
    bool (*is_done)(const struct record *r, const struct change_request *request);
    bool (*check)(const struct record *r, const struct change_request *request, struct error *err);
    void (*apply)(struct record *r, const struct change_request *request);
};

static bool is_holder(const struct record_holder *a, const struct record_holder *b)
{
    return a->node[0] != '\0' && strcmp(a->node, b->node) == 0 &&
           strcmp(a->boot_id, b->boot_id) == 0;
}

static bool ready_is_done(const struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    return r->phase == RECORD_READY && r->n_header_digests > 0 &&
           r->format.attempt == change->attempt &&
           bytes_are_equal(r->header_digests[0], change->header_digest, SHA256_LEN) &&
           is_holder(&r->lease.holder, &request->holder);
}

static bool ready_check(const struct record *r, const struct change_request *request,
                        struct error *err)
{
    const struct record_change *change = request->change;

    if (r->format.attempt != change->attempt)
        return error_set(err, ERROR_ABORTED,
                         "volume %s is formatted by attempt %u, not by attempt %u", r->volume_id,
                         r->format.attempt, change->attempt);
    if (request->now_ms + (uint64_t)request->skew_ms >= r->format.deadline_ms)
        return error_set(err, ERROR_ABORTED,
                         "volume %s: formatting took longer than allowed: format it again",
                         r->volume_id);
    return true;
}

static void ready_apply(struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    r->phase = RECORD_READY;
    r->n_header_digests = 1;
    memcpy(r->header_digests[0], change->header_digest, SHA256_LEN);
    record_lease_begin(r, &request->holder, request->lease_ms, request->now_ms);
    r->format.holder = (struct record_holder){ .node = "" };
    r->format.deadline_ms = 0;
    r->old_key = (struct record_old_key){ .is_set = false };
    memcpy(r->recovery.sha256, change->recovery_sha256, SHA256_LEN);
}

static bool opened_is_done(const struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    return r->phase == RECORD_READY && is_holder(&r->lease.holder, &request->holder) &&
           r->open_counter == change->open_counter && !r->origin.is_set && !r->restored.is_set &&
           !r->has_clean_hash && !r->is_closed;
}

/* The counter on the disk may be one ahead of the record's. A copy's disk may be one ahead of its
 * source's disk. */
static bool opened_check(const struct record *r, const struct change_request *request,
                         struct error *err)
{
    const struct record_change *change = request->change;

    uint64_t high = r->open_counter;

    if (r->origin.is_set && r->origin.counter_high > high)
        high = r->origin.counter_high;
    if (change->open_counter < r->open_counter ||
        (change->open_counter > high && change->open_counter - high > 1))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "volume %s: open counter %llu cannot follow %llu, which is on record",
                         r->volume_id, (unsigned long long)change->open_counter,
                         (unsigned long long)r->open_counter);
    return true;
}

static void opened_apply(struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    r->open_counter = change->open_counter;
    r->origin = (struct volume_origin){ .is_set = false };
    r->restored = (struct record_restored){ .is_set = false };
    r->has_clean_hash = r->is_closed = false;
}

/* OPENED forgets how the last opening ended. Where that is still on record, the disk was not opened
 * since: the stage failed. What such a node says of the end counts for nothing: otherwise a stage that
 * was refused because of an old disk would have it accepted at the next attempt. */
static bool was_not_opened(const struct record *r)
{
    return r->is_closed || r->has_clean_hash || r->restored.is_set;
}

static bool is_same_end(const struct record *r, const struct record_change *change)
{
    return r->is_closed == change->is_closed && r->has_clean_hash == change->has_clean_hash &&
           (!r->has_clean_hash || bytes_are_equal(r->clean_hash, change->clean_hash, SHA256_LEN));
}

static bool closed_is_done(const struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;
    bool says_nothing = !change->is_closed && !change->has_clean_hash;

    return (r->phase == RECORD_READY || r->phase == RECORD_NEW) &&
           r->lease.holder.node[0] == '\0' &&
           (is_same_end(r, change) || (says_nothing && was_not_opened(r)));
}

static bool closed_check(const struct record *r, const struct change_request *request,
                         struct error *err)
{
    const struct record_change *change = request->change;

    if (r->phase == RECORD_FORMATTING && (change->has_clean_hash || change->is_closed))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume %s is not formatted yet: it has no clean close", r->volume_id);
    return true;
}

static void closed_apply(struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    if (r->phase == RECORD_FORMATTING) {
        r->phase = RECORD_NEW;
        r->format.holder = (struct record_holder){ .node = "" };
        r->format.deadline_ms = 0;
        return;
    }
    r->lease = (struct record_lease){ .opened_ms = 0 };
    if (was_not_opened(r))
        return;
    r->is_closed = change->is_closed;
    r->has_clean_hash = change->has_clean_hash;
    memcpy(r->clean_hash, change->clean_hash, SHA256_LEN);
}

static void set_sizes(struct volume_spec *spec, const struct record_change *change)
{
    spec->size_bytes = change->size_bytes;
    spec->device_bytes = change->device_bytes;
    spec->mapping_bytes = change->mapping_bytes;
}

static bool grown_is_done(const struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    return r->phase == RECORD_READY && is_holder(&r->lease.holder, &request->holder) &&
           r->spec.size_bytes == change->size_bytes &&
           r->spec.device_bytes == change->device_bytes &&
           r->spec.mapping_bytes == change->mapping_bytes;
}

static bool grown_check(const struct record *r, const struct change_request *request,
                        struct error *err)
{
    const struct record_change *change = request->change;
    struct volume_spec spec = r->spec;

    set_sizes(&spec, change);
    if (spec.size_bytes < r->spec.size_bytes || spec.device_bytes < r->spec.device_bytes)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume %s has %llu bytes and can only grow: %llu bytes were asked for",
                         r->volume_id, (unsigned long long)r->spec.size_bytes,
                         (unsigned long long)spec.size_bytes);
    return volume_spec_check(&spec, err);
}

static void grown_apply(struct record *r, const struct change_request *request)
{
    set_sizes(&r->spec, request->change);
}

static bool next_header_is_done(const struct record *r, const struct change_request *request)
{
    const struct record_change *change = request->change;

    return r->phase == RECORD_READY && r->rotation.has_header &&
           is_holder(&r->lease.holder, &request->holder) &&
           bytes_are_equal(r->rotation.header_digest, change->header_digest, SHA256_LEN) &&
           bytes_are_equal(r->rotation.recovery_sha256, change->recovery_sha256, SHA256_LEN);
}

/* Another header may replace one that was never written whole: the worker looks at the disk first. */
static bool next_header_check(const struct record *r, const struct change_request *request,
                              struct error *err)
{
    (void)request;
    return r->rotation.key.generation != 0 ||
           error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is to get no other secret",
                     r->volume_id);
}

static void next_header_apply(struct record *r, const struct change_request *request)
{
    r->rotation.has_header = true;
    memcpy(r->rotation.header_digest, request->change->header_digest, SHA256_LEN);
    memcpy(r->rotation.recovery_sha256, request->change->recovery_sha256, SHA256_LEN);
}

static bool rotated_is_done(const struct record *r, const struct change_request *request)
{
    return r->phase == RECORD_READY && r->rotation.key.generation == 0 &&
           is_holder(&r->lease.holder, &request->holder) && r->n_header_digests == 1 &&
           bytes_are_equal(r->header_digests[0], request->change->header_digest, SHA256_LEN);
}

static bool rotated_check(const struct record *r, const struct change_request *request,
                          struct error *err)
{
    return (r->rotation.key.generation != 0 && r->rotation.has_header &&
            bytes_are_equal(r->rotation.header_digest, request->change->header_digest,
                            SHA256_LEN)) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the next header of volume %s is not the one that is on record", r->volume_id);
}

static void rotated_apply(struct record *r, const struct change_request *request)
{
    (void)request;
    r->key = r->rotation.key;
    r->n_header_digests = 1;
    memcpy(r->header_digests[0], r->rotation.header_digest, SHA256_LEN);
    memcpy(r->recovery.sha256, r->rotation.recovery_sha256, SHA256_LEN);
    r->rotation = (struct record_rotation){ .has_header = false };
}

static const struct change_step steps[RECORD_CHANGE_KIND_COUNT] = {
    [RECORD_CHANGE_READY] = { RECORD_FORMATTING, ready_is_done, ready_check, ready_apply },
    [RECORD_CHANGE_OPENED] = { RECORD_READY, opened_is_done, opened_check, opened_apply },
    [RECORD_CHANGE_CLOSED] = { RECORD_READY, closed_is_done, closed_check, closed_apply },
    [RECORD_CHANGE_GROWN] = { RECORD_READY, grown_is_done, grown_check, grown_apply },
    [RECORD_CHANGE_NEXT_HEADER] = { RECORD_READY, next_header_is_done, next_header_check,
                                    next_header_apply },
    [RECORD_CHANGE_ROTATED] = { RECORD_READY, rotated_is_done, rotated_check, rotated_apply },
};

/* While a volume is FORMATTING, the holder of the format attempt records changes. Later the holder
 * of the lease does. */
static bool check_holder(const struct record *r, const struct change_request *request,
                         struct error *err)
{
    const struct record_holder *holder =
        r->phase == RECORD_FORMATTING ? &r->format.holder : &r->lease.holder;

    if (is_holder(holder, &request->holder))
        return true;
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is not open on this boot of node %s", r->volume_id,
                     request->holder.node);
}

bool record_change(struct record *r, const struct change_request *request, bool *changed,
                   struct error *err)
{
    enum record_change_kind kind = request->change->kind;
    bool gives_up = kind == RECORD_CHANGE_CLOSED && r->phase == RECORD_FORMATTING;

    if (kind == 0 || kind >= RECORD_CHANGE_KIND_COUNT)
        return error_set(err, ERROR_INVALID_ARGUMENT, "change.kind is missing or unknown");
    const struct change_step *step = &steps[kind];
    if (record_is_gone(r))
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s", r->volume_id);
    if (kind != RECORD_CHANGE_CLOSED &&
        !record_check_published(r, request->holder.node, false, err))
        return false;
    if (step->is_done(r, request)) {
        *changed = false;
        return true;
    }
    if (r->version != request->expected_version)
        return error_set(err, ERROR_ABORTED,
                         "volume %s is at version %llu, but the request expects %llu", r->volume_id,
                         (unsigned long long)r->version,
                         (unsigned long long)request->expected_version);
    if (r->phase != step->phase && !gives_up)
        return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is %s: %s is not possible",
                         r->volume_id, record_phase_name(r->phase), record_change_name(kind));
    if (!check_holder(r, request, err) || !step->check(r, request, err))
        return false;
    step->apply(r, request);
    *changed = true;
    return true;
}
