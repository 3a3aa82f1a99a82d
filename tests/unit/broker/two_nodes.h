/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * A model of one single-writer volume that moves between two nodes: the nodes, the controller, the
 * storage and the broker. The broker's steps are the real ones (lifecycle/lifecycle.h).
 *
 * What may go wrong: every request to the broker may arrive late, again, in another order, or never,
 * and its answer may be lost. Calls of the controller overlap as they like, each may stop at any
 * point, and what it sent arrives all the same. A node may stop between any two steps, reboot, and go
 * on with an old answer. What is assumed: the storage does what it says when it says so (a detach
 * that was answered cuts the node off, and nothing attaches the node later), and nodes and controller
 * run our code; that they may not, is the matter of policy, signatures and proofs.
 */
enum model_fault {
    FAULT_NONE,
    FAULT_UNPUBLISH_IGNORES_EPOCH,
    FAULT_PUBLISH_IGNORES_OTHERS,
    FAULT_OPEN_IGNORES_PUBLICATION,
    FAULT_UNPUBLISH_BEFORE_DETACH,
    FAULT_NO_RETIREMENT,
    FAULT_DEVICE_AFTER_KEY, /* a node looks for its device when it has the key already */
    FAULT_COUNT
};

struct model {
    bool attach_first; /* the controller has the volume attached before it publishes it */
    bool many_attach;  /* the storage attaches a volume to as many nodes as ask */
    enum model_fault fault;
    unsigned n_calls;   /* of the controller */
    unsigned n_opens;   /* of each node */
    unsigned n_boots;   /* of each node: 1 or 2 */
    unsigned n_repeats; /* requests that arrive again, in all */
    unsigned n_states;  /* at most: the search ends with an error beyond that */
};

struct model_result {
    unsigned n_states, n_steps;
    unsigned depth;        /* of the last state */
    const char *violation; /* NULL: none */
};

/* Searches breadth first, so the trace that it prints of a violation is a shortest one. */
struct model_result model_run(const struct model *model);
const char *model_fault_name(enum model_fault fault);
