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

static bool find_place(const struct backing_job *job, const char *id, struct device_place *out,
                       struct error *err)
{
    struct volume_name name;

    return volume_name_make(job->driver, id, &name, err) &&
           place_of(job->upstream_dir, &name, out, err);
}

static struct upstream_node_job below(const struct backing_job *job, const char *id,
                                      const struct device_place *place)
{
    return (struct upstream_node_job){ .upstream = job->upstream,
                                       .arena = job->arena,
                                       .deadline_ms = job->deadline_ms,
                                       .volume_id = id,
                                       .place = place };
}

static bool stacked_attach(const struct backing_job *job,
                           const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                           struct error *err)
{
    const char *id = request->volume_id;
    struct device_place place;

    if (!find_place(job, id, &place, err) || !run(job, BLOCK_PLACE, id, err))
        return false;
    const struct upstream_node_job node = below(job, id, &place);

    return upstream_attach(&node, request, read_only, err);
}

static bool stacked_detach(const struct backing_job *job, const char *id, struct error *err)
{
    struct device_place place;

    if (!find_place(job, id, &place, err))
        return false;
    const struct upstream_node_job node = below(job, id, &place);

    return upstream_detach(&node, err) && run(job, BLOCK_UNPLACE, id, err);
}

static bool stacked_grow(const struct backing_job *job, const char *id, uint64_t size_bytes,
                         bool reserve UNUSED, struct error *err)
{
    struct device_place place;

    if (!job->expansion)
        return error_set(err, ERROR_INTERNAL, "only a node grows a device");
    if (!find_place(job, id, &place, err))
        return false;
    const struct upstream_node_job node = below(job, id, &place);

    return upstream_expand(&node, job->expansion, size_bytes, err);
}

const struct backing backing_stacked = {
    .name = "stacked",
    .kind = BACKING_DEVICE,
    .attach = stacked_attach,
    .detach = stacked_detach,
    .grow = stacked_grow,
};
