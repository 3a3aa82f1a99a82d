/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/leasing.h"

#include "broker/handlers.h"
#include "broker/worker_answer.h"
#include "lifecycle/lifecycle.h"
#include "record/publication.h"

#include <string.h>

#define MARGIN_MS   5000u
#define MARGIN_PART 16u /* of the lease */

bool leasing_holder(const struct judged_call *s, struct record_holder *out, struct error *err)
{
    return record_text(out->node, sizeof(out->node), "node", s->node, err) &&
           record_text(out->boot_id, sizeof(out->boot_id), "boot_id", s->boot_id, err);
}

uint64_t leasing_ms(const struct judged_call *s, const struct record *r)
{
    return policy_lease_ms(s->broker->policy, r->tenant);
}

uint64_t leasing_wait_ms(uint64_t lease_ms)
{
    return lease_ms + lease_ms / MARGIN_PART + MARGIN_MS;
}

/* A mark has no time on record, because other replicas have other clocks, and clocks can be turned. */
bool leasing_is_silent(const struct judged_call *s, const struct record *r)
{
    const struct record_lease *lease = &r->lease;

    return lease->contested != 0 && lease->lease_ms != 0 &&
           sightings_age_ms(s->broker->leases, r->id, lease->contested) >=
               leasing_wait_ms(lease->lease_ms);
}

static bool apply_contest(struct judged_call *s, struct call_change *change, struct record *r,
                          bool *changed, struct error *err)
{
    (void)s, (void)change, (void)err;
    record_contest(r, changed);
    return true;
}

bool leasing_change(struct judged_call *s, struct call_change *change, const struct record **out,
                    struct error *err)
{
    struct error problem = ERROR_INIT;
    const struct record *r = NULL;

    if (judged_call_change(s, change, out, err))
        return true;
    if (err->code != ERROR_ABORTED || strcmp(err->reason, LEASE_HELD_REASON) != 0)
        return false;
    struct call_change contest = { .apply = apply_contest, .failure = err };
    if (judged_call_change(s, &contest, &r, &problem))
        (void)leasing_is_silent(s, r); /* the wait begins now, not with the next call */
    else
        *err = problem;
    return false;
}

/* --- holders --- */

static bool apply_renew(struct judged_call *s, struct call_change *change, struct record *r,
                        bool *changed, struct error *err)
{
    return record_renew(r, change->request, leasing_ms(s, r), changed, err);
}

bool renew_lease(struct judged_call *s, struct rpc_call *call, const M(RenewLeaseRequest) * request,
                 M(RenewLeaseResponse) * response, struct error *err)
{
    struct record_holder holder = { .node = "" };
    struct call_change change = { .apply = apply_renew, .request = &holder };
    const struct worker_answer to_worker = { .kind = ANSWER_RENEW,
                                             .nonce = &request->nonce,
                                             .record = &response->record,
                                             .signature = &response->signature,
                                             .certificates = &response->certificates };
    const struct record *r = NULL;

    (void)call;
    return worker_answer_check(&request->nonce, err) && leasing_holder(s, &holder, err) &&
           judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err) &&
           worker_answer_sign(s, &to_worker, err);
}

static bool apply_take_over(struct judged_call *s, struct call_change *change, struct record *r,
                            bool *changed, struct error *err)
{
    (void)s;
    return record_take_over(r, change->request, changed, err);
}

bool take_over_lease(struct judged_call *s, struct rpc_call *call,
                     const M(TakeOverLeaseRequest) * request, M(TakeOverLeaseResponse) * response,
                     struct error *err)
{
    struct record_holder holder;
    struct call_change change = { .apply = apply_take_over, .request = &holder };
    const struct record *r = NULL;

    (void)call, (void)request;
    return leasing_holder(s, &holder, err) && judged_call_change(s, &change, &r, err) &&
           answer_record(s, r, &response->record, err);
}

static bool apply_release(struct judged_call *s, struct call_change *change, struct record *r,
                          bool *changed, struct error *err)
{
    (void)s, (void)change;
    return record_release_lease(r, changed, err);
}

bool release_lease(struct judged_call *s, struct rpc_call *call,
                   const M(ReleaseLeaseRequest) * request, M(ReleaseLeaseResponse) * response,
                   struct error *err)
{
    struct call_change change = { .apply = apply_release };
    const struct record *r = NULL;

    (void)call, (void)request, (void)response;
    return judged_call_change(s, &change, &r, err);
}

/* --- volumes that move --- */

static bool apply_publish(struct judged_call *s, struct call_change *change, struct record *r,
                          bool *changed, struct error *err)
{
    (void)s;
    return record_publish(r, change->request, changed, err);
}

/* The rule must name the node, as for a caller that speaks for it. Taking a right back needs no such
 * name: nodes that the policy no longer knows must let go of their volumes, too. */
bool publish_record(struct judged_call *s, struct rpc_call *call,
                    const M(PublishRecordRequest) * request, M(PublishRecordResponse) * response,
                    struct error *err)
{
    const struct publish_request publish = { .node_id = request->node_id,
                                             .read_only = request->read_only != 0,
                                             .expected_epoch = request->expected_epoch };
    struct call_change change = { .apply = apply_publish, .request = &publish };
    const struct record *r = NULL;
    char node[NODE_ID_MAX + 1];

    (void)call;
    if (!node_id_check(request->node_id, err))
        return false;
    node_id_node(request->node_id, node);
    if (!policy_has_node(s->rule, &s->caller.who, node))
        return judged_call_deny(s, "the rule does not allow this node", err);
    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}

static bool apply_unpublish(struct judged_call *s, struct call_change *change, struct record *r,
                            bool *changed, struct error *err)
{
    struct unpublish_request request = *(const struct unpublish_request *)change->request;

    request.holder_is_silent = leasing_is_silent(s, r);
    return record_unpublish(r, &request, changed, err);
}

bool unpublish_record(struct judged_call *s, struct rpc_call *call,
                      const M(UnpublishRecordRequest) * request,
                      M(UnpublishRecordResponse) * response, struct error *err)
{
    const struct unpublish_request unpublish = { .node_id = request->node_id,
                                                 .expected_epoch = request->expected_epoch,
                                                 .retire = request->retire != 0 };
    struct call_change change = { .apply = apply_unpublish, .request = &unpublish };
    const struct record *r = NULL;

    (void)call;
    return leasing_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}
