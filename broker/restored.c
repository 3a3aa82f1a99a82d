/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/restored.h"

#include "broker/handlers.h"
#include "lifecycle/lifecycle.h"

#include <stdio.h>

#define ENDED_MARK     "restore-ended:" /* of raise, with the tenant: the restore that it has ended */
#define ENDED_MARK_MAX (sizeof(ENDED_MARK) + RECORD_TENANT_MAX)

static void ended_mark(const struct judged_call *s, char out[static ENDED_MARK_MAX])
{
    (void)snprintf(out, ENDED_MARK_MAX, ENDED_MARK "%s", policy_rule_tenant(s->rule));
}

bool restored_since(const struct judged_call *s, uint64_t *out_ms, struct error *err)
{
    struct store *store = s->broker->store;
    char mark[ENDED_MARK_MAX];
    uint64_t ended = 0;

    *out_ms = 0;
    if (s->broker->restored_ms == 0)
        return true;
    ended_mark(s, mark);
    if (!store->ops->raise(store, mark, 0, &ended, err))
        return false;
    if (ended < s->broker->restored_ms)
        *out_ms = s->broker->restored_ms;
    return true;
}

bool restored_check_creation(const struct judged_call *s, struct error *err)
{
    uint64_t since = 0;

    if (!restored_since(s, &since, err))
        return false;
    /* Not FAILED_PRECONDITION: a controller takes that for a decision, finds no record, and deletes the
     * disk, which may be the very one that this is to protect. */
    return since == 0 ||
           error_set_reason(
               err, ERROR_UNAVAILABLE, RESTORED_REASON,
               "the broker's store was restored from a backup, and has no record of what "
               "was made after it: no new records are made before an administrator has "
               "ended that: see docs/broker.md, then tdvolctl volume adopt --restored "
               "--all");
}

static bool apply_adopt(struct judged_call *s, struct call_change *change, struct record *r,
                        bool *changed, struct error *err)
{
    (void)s, (void)change;
    return record_adopt_restored(r, changed, err);
}

bool adopt_restored(struct judged_call *s, struct rpc_call *call,
                    const M(AdoptRestoredRequest) * request, M(AdoptRestoredResponse) * response,
                    struct error *err)
{
    struct call_change change = { .apply = apply_adopt };
    const struct record *r = NULL;

    (void)call, (void)request;
    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}

/* The line comes first: what it says must not have been done without it. */
bool end_restore(struct judged_call *s, struct rpc_call *call, const M(EndRestoreRequest) * request,
                 M(EndRestoreResponse) * response, struct error *err)
{
    struct store *store = s->broker->store;
    char mark[ENDED_MARK_MAX];
    uint64_t highest = 0;

    (void)call, (void)request, (void)response;
    ended_mark(s, mark);
    return judged_call_audit(s, err) &&
           store->ops->raise(store, mark, s->broker->restored_ms, &highest, err);
}
