/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "record/record.h"

/*
 * The nodes to which the controller published a volume: they alone may open it, in this mode. Pure
 * functions over the record's list.
 *
 * The list is one text. An item is "w:" or "r:" and the node id, and a space stands between items.
 * Node ids are those of CSI: what NodeGetInfo answers. They are "NODE", or "NODE~ID", where NODE is
 * the name that the broker knows, and ID the one that the driver below knows. Neither may have a
 * space or a control character.
 */
#define PUBLICATION_SEPARATOR '~'

enum publication { PUBLICATION_NONE, PUBLICATION_READ, PUBLICATION_WRITE };

/* node: the name that the broker knows. */
enum publication publication_of_node(const struct record_publications *list, const char *node);
/* node_id: as NodeGetInfo names it. */
enum publication publication_of_id(const struct record_publications *list, const char *node_id);

/* Adds the node id. FAILED_PRECONDITION, naming the other node, when one node could write while
 * another one has the volume published. ALREADY_EXISTS when the id is there in the other mode.
 * RESOURCE_EXHAUSTED when the list is full. INVALID_ARGUMENT for an id that no list can have. Counts
 * the epoch when it changes the list. */
MUST_USE bool publication_add(struct record_publications *list, const char *node_id, bool read_only,
                              struct error *err);
/* Removes the node id; "": all. Counts the epoch when it changes the list; *changed says so. */
void publication_remove(struct record_publications *list, const char *node_id, bool *changed);

/* Walks over the items: *at starts at 0. False after the last one. */
bool publication_next(const struct record_publications *list, size_t *at,
                      char node_id[static NODE_ID_MAX + 1], enum publication *mode);

/* Whether node_id is the id of the node, and its part after the separator ("" without one). */
bool node_id_is_of(const char *node_id, const char *node);
const char *node_id_below(const char *node_id);
