/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"

#include <string.h>

/* Leases that are over when nobody renews them. Why this is safe is in proto/keybroker.proto, at "Leases". */

static bool is_holder(const struct record *r, const struct record_holder *holder)
{
    const struct record_holder *held = &r->lease.holder;

    return held->node[0] != '\0' && strcmp(held->node, holder->node) == 0 &&
           strcmp(held->boot_id, holder->boot_id) == 0;
}

/* The holder may have got no answer since it had the lease without end, or the longer one. */
static uint64_t prolonged(uint64_t old_ms, uint64_t wanted_ms)
{
    return old_ms != 0 && wanted_ms > old_ms ? wanted_ms : old_ms;
}

void record_lease_begin(struct record *r, const struct record_holder *holder, uint64_t lease_ms,
                        uint64_t opened_ms)
{
    uint64_t wanted_ms = r->spec.fencing == FENCING_SUSPEND ? lease_ms : 0;

    if (is_holder(r, holder))
        wanted_ms = prolonged(r->lease.lease_ms, wanted_ms);
    r->lease =
        (struct record_lease){ .holder = *holder, .opened_ms = opened_ms, .lease_ms = wanted_ms };
}

bool record_renew(struct record *r, const struct record_holder *holder, uint64_t lease_ms,
                  bool *changed, struct error *err)
{
    struct record_lease *lease = &r->lease;

    if (record_is_gone(r))
        return error_set(err, ERROR_NOT_FOUND, "there is no volume %s", r->volume_id);
    if (!record_check_published(r, holder->node, false, err))
        return false;
    if (r->phase != RECORD_READY || !is_holder(r, holder))
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, LEASE_LOST_REASON,
                                "volume %s is not open on this boot of node %s any more",
                                r->volume_id, holder->node);
    const uint64_t longer_ms = prolonged(lease->lease_ms, lease_ms);

    *changed = lease->contested != 0 || longer_ms != lease->lease_ms;
    lease->contested = 0;
    lease->lease_ms = longer_ms;
    return true;
}

void record_contest(struct record *r, bool *changed)
{
    *changed = r->lease.lease_ms != 0 && r->lease.contested == 0;
    if (*changed)
        r->lease.contested = r->version + 1; /* the version that this change gets */
}

bool record_check_lease_over(const struct record *r, bool holder_is_silent, struct error *err)
{
    const struct record_lease *lease = &r->lease;

    if (lease->lease_ms == 0 || (lease->contested != 0 && holder_is_silent))
        return true;
    return error_set_reason(err, ERROR_ABORTED, LEASE_HELD_REASON,
                            "volume %s is open on node %s: it can be had when that node has been "
                            "silent for its lease of %llu s; try again then",
                            r->volume_id, lease->holder.node,
                            (unsigned long long)(lease->lease_ms / 1000));
}
