/* SPDX-License-Identifier: Apache-2.0 */
#include "lifecycle/lifecycle.h"
#include "record/publication.h"

#include <string.h>

/*
 * Volumes that move from node to node. The controller publishes a volume to a node when the storage
 * attaches it there. It retires that before the storage detaches it, and takes it back afterwards. So
 * whatever else the controller does at the same time, a node that has the volume open on an attached
 * device has it published, and no other node can open it. tests/unit/broker/two_nodes.h has the
 * model that shows this.
 */

static bool gone(const struct record *r, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no volume or snapshot %s", r->volume_id);
}

static bool check_moves(const struct record *r, struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    return r->spec.needs_publication ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s needs no publication: its record says that any node may open it",
                     r->volume_id);
}

static bool check_epoch(const struct record *r, uint64_t expected, struct error *err)
{
    return r->published.epoch == expected ||
           error_set(err, ERROR_ABORTED,
                     "the nodes of volume %s are at epoch %llu, but the request expects %llu: they "
                     "changed meanwhile",
                     r->volume_id, (unsigned long long)r->published.epoch,
                     (unsigned long long)expected);
}

bool record_check_published(const struct record *r, const char *node, bool read_only,
                            struct error *err)
{
    size_t at = 0;
    char other[NODE_ID_MAX + 1] = "";
    enum publication mode;
    enum publication found = publication_of_node(&r->published, node);

    if (!r->spec.needs_publication || found == PUBLICATION_WRITE ||
        (read_only && found == PUBLICATION_READ))
        return true;
    if (found == PUBLICATION_LEAVING)
        return error_set_reason(err, ERROR_DENIED, PUBLICATION_REASON,
                                "volume %s is being detached from node %s", r->volume_id, node);
    if (found == PUBLICATION_READ)
        return error_set_reason(err, ERROR_DENIED, PUBLICATION_REASON,
                                "volume %s is published to node %s for reading only", r->volume_id,
                                node);
    if (publication_next(&r->published, &at, other, &mode))
        return error_set_reason(err, ERROR_DENIED, PUBLICATION_REASON,
                                "volume %s is published to node %s, not to node %s: the "
                                "controller must take it from there first (kubectl get "
                                "volumeattachments)",
                                r->volume_id, other, node);
    return error_set_reason(err, ERROR_DENIED, PUBLICATION_REASON,
                            "volume %s is not published to node %s: the controller must attach it "
                            "there first (kubectl get volumeattachments)",
                            r->volume_id, node);
}

bool record_publish(struct record *r, const struct publish_request *request, bool *changed,
                    struct error *err)
{
    struct record_publications next = r->published;

    if (!check_moves(r, err))
        return false;
    if (r->phase == RECORD_DELETING)
        return error_set(err, ERROR_FAILED_PRECONDITION, "volume %s is being deleted",
                         r->volume_id);
    if (r->kind == RECORD_SNAPSHOT)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s is a snapshot: restore it into a volume", r->volume_id);
    if (!publication_add(&next, request->node_id, request->read_only, err))
        return false;
    *changed = next.epoch != r->published.epoch;
    if (!*changed) /* the answer was lost, or an attach is repeated */
        return true;
    if (!check_epoch(r, request->expected_epoch, err))
        return false;
    r->published = next;
    return true;
}

/* Whether the holder loses what it holds with this id ("": all ids). A node may have two. */
static bool is_of_node(const struct record *r, const char *node_id,
                       const struct record_holder *holder)
{
    return holder->node[0] != '\0' &&
           (node_id[0] == '\0' ||
            (node_id_is_of(node_id, holder->node) &&
             publication_of_node(&r->published, holder->node) == PUBLICATION_NONE));
}

/* Not every storage keeps a node's writes away as soon as it is detached. So a lease that can be over must
 * be. What the admin says (record_release_lease) counts at once. */
static bool check_silent(const struct record *r, const struct unpublish_request *request,
                         struct error *err)
{
    struct record next = *r;
    bool changed = false;

    publication_remove(&next.published, request->node_id, &changed);
    return !is_of_node(&next, request->node_id, &r->lease.holder) ||
           record_check_lease_over(r, request->holder_is_silent, err);
}

/* Nothing that the node still does to the disk arrives there: its format attempt and its lease are
 * over. A late request of the attempt fails, because the next attempt has another number. */
static bool take_back(struct record *r, const char *node_id)
{
    bool changed = false;

    publication_remove(&r->published, node_id, &changed);
    if (is_of_node(r, node_id, &r->lease.holder)) {
        r->lease = (struct record_lease){ .opened_ms = 0 };
        changed = true;
    }
    if (r->phase == RECORD_FORMATTING && is_of_node(r, node_id, &r->format.holder)) {
        r->phase = RECORD_NEW;
        r->format.holder = (struct record_holder){ .node = "" };
        r->format.deadline_ms = 0;
        changed = true;
    }
    return changed;
}

bool record_unpublish(struct record *r, const struct unpublish_request *request, bool *changed,
                      struct error *err)
{
    struct record next = *r;

    if (!check_moves(r, err) ||
        (request->node_id[0] != '\0' && !node_id_check(request->node_id, err)))
        return false;
    if (request->retire)
        publication_retire(&next.published, request->node_id, changed);
    else
        *changed = take_back(&next, request->node_id);
    if (!*changed)
        return true;
    if (!check_epoch(r, request->expected_epoch, err) ||
        (!request->retire && !check_silent(r, request, err)))
        return false;
    *r = next;
    *changed = true;
    return true;
}

/* An admin says that the node will not come back. That is as good as a detach: it is what the
 * controller waits for. With the lease alone the volume would stay where it is, because no other
 * node has it published. */
bool record_release_lease(struct record *r, bool *changed, struct error *err)
{
    if (record_is_gone(r))
        return gone(r, err);
    if (r->spec.needs_publication) {
        *changed = take_back(r, "");
        return true;
    }
    *changed = r->lease.holder.node[0] != '\0';
    r->lease = (struct record_lease){ .opened_ms = 0 };
    return true;
}
