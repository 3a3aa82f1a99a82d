/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * The nodes to which the controller published a volume: they alone may open it, in this mode. Pure
 * functions over the record's list.
 *
 * The list is one text. An item is "w:", "r:" or "l:" and the node id, and a space stands between
 * items. When a node may write, its item is the only one. "l:" stands for a node that is leaving: the
 * storage may still have the volume attached there, so the item keeps writers away as one of a
 * writer would, but the node may not open the volume any more. Node ids are those of CSI: what NodeGetInfo
 * answers. They are "NODE", or "NODE~ID", where NODE is the name that the broker knows, and ID the
 * one that the driver below knows. Neither may have a space or a control character.
 */
#define PUBLICATION_SEPARATOR '~'
#define PUBLICATION_REASON    "NotPublished" /* of a refusal */

enum publication { PUBLICATION_NONE, PUBLICATION_READ, PUBLICATION_WRITE, PUBLICATION_LEAVING };

/* node: the name that the broker knows. */
enum publication publication_of_node(const struct record_publications *list, const char *node);
/* node_id: as NodeGetInfo names it. Two ids of one node are two. */
enum publication publication_of_id(const struct record_publications *list, const char *node_id);

/* Whether publication_add could have made the list. INVALID_ARGUMENT names the record's field. */
MUST_USE bool publication_check(const struct record_publications *list, struct error *err);

/* Whether a list can have this node id; INVALID_ARGUMENT. */
MUST_USE bool node_id_check(const char *node_id, struct error *err);

/* Adds the node id, unless it is there in this mode already; one that is leaving stays. Counts the
 * epoch when it changes the list. FAILED_PRECONDITION, naming the other node id, when one node could
 * write while another one has the volume published. ALREADY_EXISTS when the id is there in the other
 * mode. RESOURCE_EXHAUSTED when the list is full. INVALID_ARGUMENT as node_id_check. */
MUST_USE bool publication_add(struct record_publications *list, const char *node_id, bool read_only,
                              struct error *err);
/* The node id is leaving; "": all are. Counts the epoch when it changes the list; *changed says so. */
void publication_retire(struct record_publications *list, const char *node_id, bool *changed);
/* Removes the node id; "": all. Counts the epoch when it changes the list; *changed says so. */
void publication_remove(struct record_publications *list, const char *node_id, bool *changed);

/* Walks over the items: *at starts at 0. False after the last one. */
bool publication_next(const struct record_publications *list, size_t *at,
                      char node_id[static NODE_ID_MAX + 1], enum publication *mode);

/* Whether node_id is the id of the node, and its part after the separator ("" without one). */
bool node_id_is_of(const char *node_id, const char *node);
const char *node_id_below(const char *node_id);
/* The part before the separator: the name that the broker knows. It may be cut to fit. */
void node_id_node(const char *node_id, char out[static NODE_ID_MAX + 1]);
