/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"

#include "base/clock.h"
#include "record/check.h"
#include "record/layout.h"
#include "record/publication.h"

#include <string.h>

static bool spec_is_equal(const struct volume_spec *a, const struct volume_spec *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->fs_type, b->fs_type) == 0 &&
           strcmp(a->location, b->location) == 0 && a->integrity == b->integrity &&
           a->provisioning == b->provisioning && a->discard == b->discard &&
           a->no_journal == b->no_journal && a->workqueue == b->workqueue &&
           a->size_bytes == b->size_bytes && a->device_bytes == b->device_bytes &&
           a->mapping_bytes == b->mapping_bytes && a->sector_bytes == b->sector_bytes &&
           a->journal_sectors == b->journal_sectors &&
           a->interleave_sectors == b->interleave_sectors &&
           a->layout_version == b->layout_version && a->backing == b->backing &&
           a->needs_publication == b->needs_publication && a->taken_over == b->taken_over &&
           a->fencing == b->fencing;
}

static bool holder_is_equal(const struct record_holder *a, const struct record_holder *b)
{
    return strcmp(a->node, b->node) == 0 && strcmp(a->boot_id, b->boot_id) == 0;
}

/* A fresh record with the names and the version of the stored one. */
static struct record blank(const struct record *r, const struct record_fresh *fresh)
{
    struct record out = { .phase = RECORD_NEW, .version = r->version };

    memcpy(out.tenant, r->tenant, sizeof(out.tenant));
    memcpy(out.driver, r->driver, sizeof(out.driver));
    memcpy(out.volume_id, r->volume_id, sizeof(out.volume_id));
    memcpy(out.id, fresh->id, sizeof(out.id));
    out.key = fresh->key;
    out.created_ms = fresh->now_ms;
    /* No late request that was meant for the erased volume may fit the new one. */
    out.published.epoch = r->version > 0 ? r->published.epoch + 1 : 0;
    out.n_destroyed = r->n_destroyed;
    memcpy(out.destroyed, r->destroyed, sizeof(out.destroyed));
    out.destroyed_before = r->destroyed_before;
    return out;
}

static bool is_vacant(const struct record *r)
{
    return r->version == 0 || r->phase == RECORD_ERASED;
}

static bool exists_otherwise(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_ALREADY_EXISTS,
                     "%s %s exists with other properties or another content source",
                     r->kind == RECORD_SNAPSHOT ? "snapshot" : "volume", r->volume_id);
}

static bool being_deleted(const struct record *r, enum error_code code, struct error *err)
{
    return error_set(err, code, "%s %s is being deleted",
                     r->kind == RECORD_SNAPSHOT ? "snapshot" : "volume", r->volume_id);
}

static bool gone(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", r->volume_id);
}

bool record_create(struct record *r, const struct volume_spec *spec,
                   const struct record_fresh *fresh, bool *changed, struct error *err)
{
    if (!volume_spec_check(spec, err))
        return false;
    if (spec->taken_over)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "spec.taken_over is only possible when a volume is adopted with its old key");
    if (!record_check_not_retained(r, err))
        return false;
    if (!is_vacant(r)) {
        if (r->phase == RECORD_DELETING)
            return being_deleted(r, ERROR_ABORTED, err);
        if (r->kind != RECORD_VOLUME || r->source_volume_id[0] != '\0' ||
            !spec_is_equal(&r->spec, spec))
            return exists_otherwise(r, err);
        *changed = false;
        return true;
    }

    struct record next = blank(r, fresh);

    next.kind = RECORD_VOLUME;
    next.spec = *spec;
    *r = next;
    *changed = true;
    return true;
}

bool record_check_copyable(const struct record *source, struct error *err)
{
    if (record_is_gone(source))
        return gone(source, err);
    if (source->phase == RECORD_DELETING)
        return being_deleted(source, ERROR_FAILED_PRECONDITION, err);
    if (!record_check_adopted(source, err))
        return false;
    if (source->phase == RECORD_FORMATTING)
        return error_set(err, ERROR_ABORTED, "volume %s is being formatted: copy it again later",
                         source->volume_id);
    if (source->old_key.is_set)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "volume %s is still as another program left it: stage it once for writing, "
            "then copy it",
            source->volume_id);
    /* The disk may have either header, and the copy's record would have only one secret. */
    if (source->rotation.has_header)
        return error_set(
            err, ERROR_ABORTED,
            "the secret of volume %s is being changed: copy it again later; if no node "
            "has it open, stage it once for writing",
            source->volume_id);
    /* The disk holds either its own state block or still the origin's, and the copy's record cannot
     * accept both. */
    if (source->origin.is_set && source->restored.is_set)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "volume %s was not opened since the broker's store was restored from a backup: "
            "stage it once for writing, then copy it",
            source->volume_id);
    if (source->origin.is_set && source->lease.holder.node[0] != '\0')
        return error_set(err, ERROR_ABORTED, "volume %s is being opened: copy it again later",
                         source->volume_id);
    return true;
}

static bool check_version(const struct record *source, uint64_t version, struct error *err)
{
    return source->version == version ||
           error_set(
               err, ERROR_ABORTED,
               "volume %s changed while it was copied (version %llu, was %llu): copy it again",
               source->volume_id, (unsigned long long)source->version, (unsigned long long)version);
}

/* The copy opens with the source's key, header and state block. When nobody had the source open for
 * writing, its disk was as the last close had left it, and so is the copy's. */
static void inherit(struct record *copy, const struct record *source)
{
    copy->key = source->key;
    copy->phase = RECORD_READY;
    copy->n_header_digests = source->n_header_digests;
    memcpy(copy->header_digests, source->header_digests, sizeof(copy->header_digests));
    memcpy(copy->recovery.sha256, source->recovery.sha256, SHA256_LEN);
    copy->open_counter = source->open_counter;
    if (source->lease.holder.node[0] == '\0') {
        copy->is_closed = source->is_closed;
        copy->has_clean_hash = source->has_clean_hash;
        memcpy(copy->clean_hash, source->clean_hash, SHA256_LEN);
    }
    copy->origin = source->origin;
    if (!copy->origin.is_set) {
        copy->origin = (struct volume_origin){ .is_set = true,
                                               .counter_low = source->restored.is_set
                                                                  ? source->restored.counter_low
                                                                  : source->open_counter,
                                               .counter_high = source->open_counter + 1 };
        memcpy(copy->origin.record_id, source->id, sizeof(source->id));
    }
}

/* The same copy was asked for before: the answer to it may have been lost. */
static bool check_same_copy(const struct record *r, const struct record_copy_request *request,
                            struct error *err)
{
    if (r->phase == RECORD_DELETING)
        return being_deleted(r, ERROR_ABORTED, err);
    if (r->kind != request->kind || strcmp(r->spec.name, request->name) != 0 ||
        strcmp(r->source_volume_id, request->source_volume_id) != 0 ||
        r->spec.size_bytes < request->size_bytes ||
        (request->workqueue != 0 && r->spec.workqueue != request->workqueue))
        return exists_otherwise(r, err);
    return true;
}

bool record_copy(struct record *r, const struct record *source,
                 const struct record_copy_request *request, const struct record_fresh *fresh,
                 bool *uses_fresh_key, bool *changed, struct error *err)
{
    if (request->kind != RECORD_VOLUME && request->kind != RECORD_SNAPSHOT)
        return error_set(err, ERROR_INVALID_ARGUMENT, "kind is missing or unknown");
    if ((unsigned)request->workqueue > WORKQUEUE_OFF)
        return error_set(err, ERROR_INVALID_ARGUMENT, "workqueue is unknown");
    if (!record_check_not_retained(r, err))
        return false;
    if (!is_vacant(r)) {
        *changed = false;
        return check_same_copy(r, request, err);
    }
    if (!source)
        return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s",
                         request->source_volume_id);
    if (!record_check_copyable(source, err) || !check_version(source, request->source_version, err))
        return false;

    struct record next = blank(r, fresh);

    next.kind = request->kind;
    next.spec = source->spec;
    if (request->workqueue != 0)
        next.spec.workqueue = request->workqueue;
    if (request->name[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "name is missing");
    if (!record_text(next.spec.name, sizeof(next.spec.name), "name", request->name, err) ||
        !record_text(next.spec.location, sizeof(next.spec.location), "location", request->location,
                     err))
        return false;
    if (request->size_bytes != 0 && !layout_plan_growth(&next.spec, request->size_bytes, err))
        return false;
    memcpy(next.source_volume_id, source->volume_id, sizeof(next.source_volume_id));
    if (source->phase == RECORD_READY)
        inherit(&next, source);
    *uses_fresh_key = source->phase == RECORD_NEW;
    *r = next;
    *changed = true;
    return true;
}

bool record_check_vacant(const struct record *r, struct error *err)
{
    if (!record_check_not_retained(r, err))
        return false;
    return is_vacant(r) ||
           error_set(err, ERROR_ALREADY_EXISTS, "there is a record of %s already", r->volume_id);
}

static bool being_formatted(const struct record *r, uint64_t now_ms, struct error *err)
{
    return error_set(err, ERROR_ABORTED,
                     "volume %s is being formatted by node %s, for at most %llu s more",
                     r->volume_id, r->format.holder.node,
                     (unsigned long long)(r->format.deadline_ms - now_ms + 999) / 1000);
}

bool record_adopt_old(struct record *r, const struct volume_spec *spec,
                      const struct record_fresh *fresh, uint64_t now_ms, struct error *err)
{
    bool is_waiting = !is_vacant(r) && r->old_key.is_set &&
                      (r->phase == RECORD_NEW || r->phase == RECORD_FORMATTING);

    if (!volume_spec_check(spec, err))
        return false;
    if (!spec->taken_over)
        return error_set(err, ERROR_INVALID_ARGUMENT, "an old key needs a spec that is taken_over");
    /* Until READY the old header is whole, so the volume can be taken over from the start. */
    if (is_waiting && r->phase == RECORD_FORMATTING && now_ms < r->format.deadline_ms)
        return being_formatted(r, now_ms, err);
    if (!is_waiting && !record_check_vacant(r, err))
        return false;
    struct record next = blank(r, fresh);

    next.kind = RECORD_VOLUME;
    next.spec = *spec;
    if (is_waiting && spec->needs_publication)
        next.published = r->published;
    *r = next;
    return true;
}

/* The disk may be older than like's by any number of openings. */
bool record_adopt(struct record *r, const struct record *like,
                  const struct record_adopt_request *request, const struct record_fresh *fresh,
                  struct error *err)
{
    const struct record_copy_request copy = { .source_version = like->version,
                                              .kind = request->kind,
                                              .name = request->name,
                                              .location = like->spec.location,
                                              .source_volume_id = like->volume_id };
    struct record next = *r;
    bool uses_fresh_key = false, changed = false;

    if (!record_check_vacant(r, err))
        return false;
    if (like->phase == RECORD_NEW)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s has never been written, so no other disk is like it", like->volume_id);
    if (!record_copy(&next, like, &copy, fresh, &uses_fresh_key, &changed, err))
        return false;
    next.open_counter = 0;
    next.is_closed = next.has_clean_hash = false;
    next.origin.counter_low = 0;
    *r = next;
    return true;
}

static bool held_elsewhere(const struct record *r, struct error *err)
{
    char since[CLOCK_TEXT_LEN];

    clock_text(r->lease.opened_ms, since);
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is open on node %s since %s; if that node will not come back: "
                     "tdvolctl volume release %s",
                     r->volume_id, r->lease.holder.node, since, r->volume_id);
}

static bool open_new(struct record *r, const struct record_open_request *request, bool *changed,
                     struct error *err)
{
    bool is_theirs =
        r->phase == RECORD_FORMATTING && !holder_is_equal(&r->format.holder, &request->holder);
    uint64_t judged_ms = request->now_ms + (uint64_t)request->skew_ms;

    if (request->read_only)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s has never been written: it cannot be opened read-only", r->volume_id);
    if (is_theirs && judged_ms < r->format.deadline_ms)
        return being_formatted(r, judged_ms, err);
    if (r->format.attempt == UINT32_MAX)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "volume %s has had %u attempts to format it and can have no more: delete it",
            r->volume_id, r->format.attempt);
    r->phase = RECORD_FORMATTING;
    r->format.holder = request->holder;
    r->format.attempt++;
    r->format.deadline_ms = request->now_ms + request->format_ms;
    *changed = true;
    return true;
}

static bool open_ready(struct record *r, const struct record_open_request *request, bool *changed,
                       struct error *err)
{
    *changed = false;
    if (request->read_only)
        return true;
    if (r->lease.holder.node[0] != '\0' &&
        strcmp(r->lease.holder.node, request->holder.node) != 0) {
        if (r->lease.lease_ms == 0)
            return held_elsewhere(r, err);
        if (!record_check_lease_over(r, request->holder_is_silent, err))
            return false;
    }
    record_lease_begin(r, &request->holder, request->lease_ms, request->now_ms);
    *changed = true;
    return true;
}

bool record_open(struct record *r, const struct record_open_request *request, bool *changed,
                 struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    if (r->phase == RECORD_DELETING)
        return being_deleted(r, ERROR_FAILED_PRECONDITION, err);
    if (r->kind == RECORD_SNAPSHOT && !request->read_only)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is a snapshot: open it read-only, or restore it into a volume",
                         r->volume_id);
    if (!record_check_published(r, request->holder.node, request->read_only, err))
        return false;
    return r->phase == RECORD_READY ? open_ready(r, request, changed, err)
                                    : open_new(r, request, changed, err);
}

static bool is_node(const struct record_holder *held, const struct record_holder *holder)
{
    return held->node[0] != '\0' && strcmp(held->node, holder->node) == 0;
}

/* A node has one boot at a time, so the boot that formatted or wrote the volume is over. */
bool record_take_over(struct record *r, const struct record_holder *holder, bool *changed,
                      struct error *err)
{
    struct record_holder *held =
        r->phase == RECORD_FORMATTING ? &r->format.holder : &r->lease.holder;

    if (record_is_gone(r))
        return gone(r, err);
    if (!record_check_published(r, holder->node, false, err))
        return false;
    if (!is_node(held, holder))
        return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is not open on node %s",
                         r->volume_id, holder->node);
    *changed = !holder_is_equal(held, holder);
    if (*changed && r->phase == RECORD_FORMATTING)
        r->format.attempt++; /* late requests of the earlier boot then fail */
    *held = *holder;
    return true;
}

static bool check_unpublished(const struct record *r, struct error *err)
{
    char node_id[NODE_ID_MAX + 1];
    enum publication mode;
    size_t at = 0;

    return !publication_next(&r->published, &at, node_id, &mode) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "volume %s is published to node %s: detach it there first; if that node will "
                     "not come back: tdvolctl volume release %s",
                     r->volume_id, node_id, r->volume_id);
}

bool record_begin_delete(struct record *r, uint64_t now_ms, bool *changed, struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    *changed = false;
    if (r->phase == RECORD_DELETING)
        return true;
    if (r->lease.holder.node[0] != '\0')
        return held_elsewhere(r, err);
    if (r->phase == RECORD_FORMATTING && now_ms < r->format.deadline_ms)
        return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is being formatted by node %s",
                         r->volume_id, r->format.holder.node);
    if (!check_unpublished(r, err))
        return false;
    r->phase = RECORD_DELETING;
    r->format.holder = (struct record_holder){ .node = "" };
    *changed = true;
    return true;
}

bool record_cancel_delete(struct record *r, bool *changed, struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    *changed = r->phase == RECORD_DELETING;
    /* A volume that was ever READY has a header digest. Unfinished formatting does not count. */
    if (*changed)
        r->phase = r->n_header_digests > 0 ? RECORD_READY : RECORD_NEW;
    return true;
}

bool record_rotate(struct record *r, const struct store_key *next, bool *changed, struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    if (r->phase == RECORD_DELETING)
        return being_deleted(r, ERROR_FAILED_PRECONDITION, err);
    if (r->kind != RECORD_VOLUME)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is a snapshot, which nobody writes: its secret goes with it",
                         r->volume_id);
    if (r->phase != RECORD_READY)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "volume %s is %s: it has no header yet, so there is no secret to change",
                         r->volume_id, record_phase_name(r->phase));
    *changed = r->rotation.key.generation == 0;
    if (!*changed)
        return true;
    if (next->key.generation <= r->key.generation)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "volume %s has had %u secrets and can have no more", r->volume_id,
                         r->key.generation);
    r->rotation = (struct record_rotation){ .key = next->key, .secret_len = STORE_WRAPPED_LEN };
    memcpy(r->rotation.secret, next->wrapped, STORE_WRAPPED_LEN);
    return true;
}
