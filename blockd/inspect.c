/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/operation.h"
#include "blockd/space_device.h"
#include "blockd/worker.h"

bool operation_inspect(struct worker *worker, struct block_result *out, struct error *err)
{
    if (!volume_status(&worker->name, &out->status, err))
        return false;
    out->size_bytes = out->status.size_bytes;
    return space_device_find_place(worker, &out->has_place, err);
}
