/* SPDX-License-Identifier: Apache-2.0 */
#include "record/publication.h"

#include "broker/handlers.h"
#include "broker/lifecycle.h"

/* The controller's calls for volumes that move from node to node. */

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
    (void)s;
    return record_unpublish(r, change->request, changed, err);
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
    return judged_call_change(s, &change, &r, err) && answer_record(s, r, &response->record, err);
}
