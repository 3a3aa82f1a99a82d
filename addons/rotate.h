/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "plugin/plugin.h"

/* A volume that is in use on this node gets the next secret that its record has. */

/* Gives it that, if the broker says that it shall have one. Asks the broker about a volume every ten
 * minutes. Failures are only logged. */
void rotate_if_due(struct plugin *plugin, struct rpc_call *call, const char *id);

/* Whether a node has it open for writing, and so can write its header. */
bool rotate_is_possible(const struct record *record);

/* Now. The record has a next secret. */
MUST_USE bool rotate_open_volume(struct plugin *plugin, struct rpc_call *call, const char *id,
                                 struct error *err);
