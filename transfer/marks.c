/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer/marks.h"

bool marks_read_restored(struct store *store, uint64_t *out_ms, struct error *err)
{
    uint64_t began = 0, ended = 0;

    if (!store->ops->raise(store, RESTORING_MARK, 0, &began, err) ||
        !store->ops->raise(store, RESTORED_MARK, 0, &ended, err))
        return false;
    if (began > ended)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "the store is being restored from a backup, and not all of it is there: run "
            "tdvolctl broker restore again with the same backup, it goes on");
    *out_ms = ended;
    return true;
}
