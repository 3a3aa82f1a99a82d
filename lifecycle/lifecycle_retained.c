/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"
#include "record/ascii.h"

/* The end of a deletion: the key is destroyed, or kept for a while. */

static bool gone(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", r->volume_id);
}

static void erase(struct record *r)
{
    r->phase = RECORD_ERASED;
    r->key = (struct record_key){ .generation = 0 };
    r->n_header_digests = 0;
    r->has_clean_hash = false;
    r->origin.is_set = false;
    r->restored = (struct record_restored){ .is_set = false };
    r->old_key = (struct record_old_key){ .is_set = false };
    r->rotation = (struct record_rotation){ .has_header = false };
    r->retained = (struct record_retained){ .due_ms = 0 };
}

/* A volume that no node has formatted has none; but one that is to be taken over has. */
static bool may_have_data(const struct record *r)
{
    return r->n_header_digests > 0 || r->old_key.is_set;
}

bool record_finish_delete(struct record *r, const struct record_keeping *keeping, bool *changed,
                          struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    if (r->phase != RECORD_DELETING)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the deletion of %s has not begun or was cancelled: begin it first",
                         r->volume_id);
    *changed = true;
    if (keeping->for_ms == 0 || !may_have_data(r)) {
        erase(r);
        return true;
    }
    r->phase = RECORD_RETAINED;
    r->retained = (struct record_retained){ .deleted_ms = keeping->now_ms,
                                            .due_ms = keeping->clock_ms + keeping->for_ms };
    ascii_put(r->retained.by, sizeof(r->retained.by), keeping->by);
    return true;
}

bool record_undelete(struct record *r, bool *changed, struct error *err)
{
    if (r->version == 0)
        return gone(r, err);
    if (r->phase == RECORD_ERASED)
        return error_set_reason(err, ERROR_NOT_FOUND, RECORD_ERASED_REASON,
                                "the key of %s is destroyed: nothing can bring it back",
                                r->volume_id);
    *changed = r->phase == RECORD_RETAINED;
    if (!*changed)
        return true;
    r->phase = r->n_header_digests > 0 ? RECORD_READY : RECORD_NEW;
    r->retained = (struct record_retained){ .due_ms = 0 };
    return true;
}

bool record_erase_retained(struct record *r, bool *changed, struct error *err)
{
    if (r->version == 0 || r->phase == RECORD_ERASED)
        return gone(r, err);
    if (r->phase != RECORD_RETAINED)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is not deleted: delete it first",
                         r->volume_id);
    erase(r);
    *changed = true;
    return true;
}

bool record_is_due(const struct record *r, uint64_t clock_ms)
{
    return r->phase == RECORD_RETAINED && r->retained.due_ms <= clock_ms &&
           (!r->restored.is_set || r->restored.is_adopted);
}

bool record_check_not_retained(const struct record *r, struct error *err)
{
    return r->phase != RECORD_RETAINED ||
           error_set_reason(
               err, ERROR_UNAVAILABLE, RETAINED_REASON,
               "a volume or snapshot %s was deleted, and its key is kept for a while: an "
               "administrator brings it back by tdvolctl volume undelete %s, or ends it by "
               "tdvolctl volume delete %s --now",
               r->volume_id, r->volume_id, r->volume_id);
}
