/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacked.h"

#include <string.h>

/* What is done with a volume or snapshot that the driver made, but the broker has no record of. */

/* An id that is too long for a record has none. */
static bool check_free(const struct plugin *plugin, const struct rpc_call *call, const char *id,
                       struct error *err)
{
    struct record record;

    if (strlen(id) > VOLUME_ID_MAX)
        return true;
    if (plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, &record, err))
        return error_set(err, ERROR_ABORTED, "another call made its record meanwhile");
    return err->code == ERROR_NOT_FOUND;
}

static bool delete_below(const struct plugin *plugin, struct rpc_call *call,
                         const struct stacked_made *made, struct error *err)
{
    Csi__V1__DeleteVolumeRequest volume = CSI__V1__DELETE_VOLUME_REQUEST__INIT;
    Csi__V1__DeleteVolumeResponse *volume_answer = NULL;
    Csi__V1__DeleteSnapshotRequest snapshot = CSI__V1__DELETE_SNAPSHOT_REQUEST__INIT;
    Csi__V1__DeleteSnapshotResponse *snapshot_answer = NULL;

    volume.volume_id = snapshot.snapshot_id = unconst(made->id);
    volume.n_secrets = snapshot.n_secrets = made->secrets.n;
    volume.secrets = made->secrets.entries;
    snapshot.secrets = made->secrets.entries;
    return made->kind == RECORD_VOLUME
               ? stacked_ask(plugin, call, "DeleteVolume", &volume, &volume_answer, err)
               : stacked_ask(plugin, call, "DeleteSnapshot", &snapshot, &snapshot_answer, err);
}

static bool have_repeated(struct error *err)
{
    return !stacked_has_decided(err, DECIDED_TO_REPEAT) &&
           error_set_reason(err, ERROR_ABORTED, err->reason, "%s", err->text);
}

bool stacked_keep(struct error *err)
{
    error_wrap(err, "it is kept at the driver for the next call (%s)", error_code_name(err->code));
    return have_repeated(err);
}

bool stacked_drop(const struct plugin *plugin, struct rpc_call *call,
                  const struct stacked_made *made, struct error *err)
{
    const struct keys_copy copy = { .kind = made->kind, .name = made->name };
    const struct quirks *known = NULL; /* the driver has said its name: see below */
    struct error problem = ERROR_INIT;

    /* Another controller may make the record. The broker cannot forbid that for an id without a record, so
     * it is asked last: nothing is waited for between its answer and the deletion. */
    if (!stacked_quirks(plugin, call, &known, &problem) ||
        !check_free(plugin, call, made->id, &problem) ||
        !delete_below(plugin, call, made, &problem) ||
        (made->source_id[0] != '\0' &&
         !stacked_end_copy(plugin, call, made->source_id, &copy, &problem))) {
        error_wrap(err, "it could not be removed (%s)", problem.text);
        return have_repeated(err);
    }
    return false;
}

bool stacked_drop_unrecorded(const struct plugin *plugin, struct rpc_call *call,
                             const struct stacked_made *made, struct error *err)
{
    if (stacked_has_decided(err, DECIDED_NO_RECORD))
        return stacked_drop(plugin, call, made, err);
    return err->code != ERROR_ALREADY_EXISTS && stacked_keep(err); /* it has another record */
}
