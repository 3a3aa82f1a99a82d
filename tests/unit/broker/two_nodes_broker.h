/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/publication.h"
#include "tests/unit/broker/two_nodes.h"

/* The broker of the model: the real steps, over what a state has of the record. */

enum { A, B, NODES };
extern const char *const node_names[NODES], *const boot_names[2];

/* What a state has of the record. A holder is 0, or 1 + 2 * node + boot. */
struct brief {
    uint8_t phase, version, epoch, attempt, formatter, lease, counter, flags;
};
#define IS_CLOSED  1u
#define MODE(node) (1u + 2u * (node)) /* shift of a node's publication in flags */
#define MODE_MASK  3u

/* A request to the broker: kind, node, boot, a (version or epoch), b (attempt, counter, is_closed). */
enum message_kind {
    PUBLISH = 1,
    RETIRE,
    UNPUBLISH,
    OPEN,
    READY,
    OPENED,
    CLOSED,
    TAKE_OVER,
    BEGIN_DELETE,
    FINISH_DELETE,
    CREATE,
};
struct message {
    uint8_t kind, who, a, b; /* who: 2 * node + boot */
    uint8_t arrived;         /* it has; it may do so again */
};

enum publication mode_of(const struct brief *b, unsigned node);

/* The message arrives: *record becomes the record after it. False: the broker refuses. */
bool deliver(const struct model *model, struct brief *record, const struct message *m);

/* Forgets what deliver() has computed before; for another model. */
void deliver_anew(void);

uint64_t hash_bytes(const void *bytes, size_t len);
