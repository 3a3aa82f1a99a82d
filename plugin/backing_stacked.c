/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/backing.h"
#include "upstream/node.h"

/* The block volumes of another CSI driver. Its controller makes and removes them (csi/stacked_*.c);
 * here it gives their devices to this node. */

static bool run(const struct backing_job *job, enum block_operation operation, const char *id,
                struct error *err)
{
    struct block_result result;

    return backing_run(job, block_request_new(job->arena, operation, id), BACKING_SHORT_MS, &result,
                       err);
}

/* What the driver says is one thing, and the device another: the record follows the device. */
static bool check_grown(const struct backing_job *job, const char *id, uint64_t size_bytes,
                        struct error *err)
{
    struct block_request *request = block_request_new(job->arena, BLOCK_GROWN, id);
    struct block_result result;

    if (request)
        request->size_bytes = size_bytes;
    return backing_run(job, request, BACKING_SHORT_MS, &result, err);
}

static struct upstream_node_job below(const struct backing_job *job, const char *id)
{
    return (struct upstream_node_job){ .upstream = job->upstream,
                                       .arena = job->arena,
                                       .deadline_ms = job->deadline_ms,
                                       .volume_id = id };
}

static bool stacked_attach(const struct backing_job *job,
                           const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                           struct error *err)
{
    const struct upstream_node_job node = below(job, request->volume_id);

    return run(job, BLOCK_PLACE, request->volume_id, err) &&
           upstream_attach(&node, request, read_only, err);
}

static bool stacked_detach(const struct backing_job *job, const char *id, struct error *err)
{
    const struct upstream_node_job node = below(job, id);

    return upstream_detach(&node, err) && run(job, BLOCK_UNPLACE, id, err);
}

static bool stacked_grow(const struct backing_job *job, const char *id, uint64_t size_bytes,
                         bool reserve UNUSED, struct error *err)
{
    const struct upstream_node_job node = below(job, id);

    if (!job->expansion)
        return error_set(err, ERROR_INTERNAL, "only a node grows a device");
    return upstream_expand(&node, job->expansion, size_bytes, err) &&
           check_grown(job, id, size_bytes, err);
}

const struct backing backing_stacked = {
    .name = "stacked",
    .kind = BACKING_DEVICE,
    .attach = stacked_attach,
    .detach = stacked_detach,
    .grow = stacked_grow,
};
