/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "csi/stacked.h"

/* Group snapshots: the driver takes them, and each snapshot of a group gets a record of its own. */

/* stacked_group_create.c */
CONTROLLER_HANDLER(stacked_create_group, CreateVolumeGroupSnapshot);

/* --- what creation and deletion share: stacked_group.c --- */

/* Asks the driver's GroupController; out_response as in stacked_ask. */
MUST_USE bool stacked_group_ask(const struct plugin *plugin, struct rpc_call *call,
                                const char *method, const void *request, void *out_response,
                                struct error *err);

/* Snapshots that have a record; from the call's arena. */
struct stacked_ours {
    struct arena *arena;
    size_t n;
    struct our_snapshot {
        char *id;
        bool is_deleting; /* since before this call */
    } * snapshots;
};
/* Those of the n ids. */
MUST_USE bool stacked_group_find(const struct plugin *plugin, struct rpc_call *call,
                                 char *const *ids, size_t n, struct stacked_ours *out,
                                 struct error *err);

/* Marks all for deletion, or none that was not marked before: the driver may be deleting those already. */
MUST_USE bool stacked_group_mark(const struct plugin *plugin, const struct rpc_call *call,
                                 const struct stacked_ours *ours, struct error *err);
/* Takes these marks back. Always false, with the error of the call. */
bool stacked_group_unmark(const struct plugin *plugin, const struct rpc_call *call,
                          const struct stacked_ours *ours, struct error *err);

/* Deletes the group at the driver, and the records of ours, which are marked. When the driver refuses, the records are as
 * before; after other errors they stay marked for deletion. */
MUST_USE bool stacked_group_delete(const struct plugin *plugin, struct rpc_call *call,
                                   const Csi__V1__DeleteVolumeGroupSnapshotRequest *request,
                                   const struct stacked_ours *ours, struct error *err);
