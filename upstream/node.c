/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/node.h"

#include "upstream/quirks.h"
#include "upstream/rewrite.h"

static bool call(const struct upstream_node_job *job, const char *method,
                 const ProtobufCMessage *request, struct error *err)
{
    ProtobufCMessage *response = NULL;

    return upstream_call(job->upstream, &csi__v1__node__descriptor, method, request,
                         job->deadline_ms, job->arena, &response, err);
}

static bool can(const struct upstream_node_job *job,
                Csi__V1__NodeServiceCapability__RPC__Type capability, bool *yes, struct error *err)
{
    return upstream_node_can(job->upstream, capability, job->deadline_ms, yes, err);
}

static bool can_stage(const struct upstream_node_job *job, bool *yes, struct error *err)
{
    return can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME, yes, err);
}

static bool as_block(const struct upstream_node_job *job,
                     const Csi__V1__VolumeCapability *capability, Csi__V1__VolumeCapability **out,
                     struct error *err)
{
    bool has_multi_writer = false;

    if (!can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
             &has_multi_writer, err))
        return false;
    *out = rewrite_as_block(capability, has_multi_writer, job->arena);
    return *out || arena_exhausted(err);
}

/* The device is published once, for all pods, when the volume is staged. So the secrets for staging
 * stand for those for publishing, too. The entries of all maps have one form. */
static bool publish(const struct upstream_node_job *job,
                    const Csi__V1__NodeStageVolumeRequest *staged, bool read_only,
                    struct error *err)
{
    Csi__V1__NodePublishVolumeRequest request = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;

    request.volume_id = staged->volume_id;
    request.n_publish_context = staged->n_publish_context;
    request.publish_context = (void *)staged->publish_context;
    request.staging_target_path = staged->staging_target_path;
    request.target_path = unconst(job->place->device);
    request.volume_capability = staged->volume_capability;
    request.readonly = read_only;
    request.n_secrets = staged->n_secrets;
    request.secrets = (void *)staged->secrets;
    request.n_volume_context = staged->n_volume_context;
    request.volume_context = (void *)staged->volume_context;
    return call(job, "NodePublishVolume", &request.base, err);
}

bool upstream_attach(const struct upstream_node_job *job,
                     const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                     struct error *err)
{
    Csi__V1__NodeStageVolumeRequest below = *request; /* with fields of newer versions */
    bool stages = false;

    if (!can_stage(job, &stages, err) ||
        !as_block(job, request->volume_capability, &below.volume_capability, err))
        return false;
    below.staging_target_path = unconst(stages ? job->place->stage : "");
    return (!stages || call(job, "NodeStageVolume", &below.base, err)) &&
           publish(job, &below, read_only, err);
}

static bool is_gone(const struct error *err)
{
    return err->code == ERROR_NOT_FOUND;
}

bool upstream_detach(const struct upstream_node_job *job, struct error *err)
{
    Csi__V1__NodeUnpublishVolumeRequest published = CSI__V1__NODE_UNPUBLISH_VOLUME_REQUEST__INIT;
    Csi__V1__NodeUnstageVolumeRequest staged = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
    bool stages = false;

    published.volume_id = staged.volume_id = unconst(job->volume_id);
    published.target_path = unconst(job->place->device);
    staged.staging_target_path = unconst(job->place->stage);
    if (!can_stage(job, &stages, err) ||
        (!call(job, "NodeUnpublishVolume", &published.base, err) && !is_gone(err)))
        return false;
    return !stages || call(job, "NodeUnstageVolume", &staged.base, err) || is_gone(err);
}

bool upstream_expand(const struct upstream_node_job *job,
                     const Csi__V1__NodeExpandVolumeRequest *request, uint64_t bytes,
                     struct error *err)
{
    Csi__V1__NodeExpandVolumeRequest below = *request;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;
    Csi__V1__VolumeCapability__AccessMode mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__INIT;
    Csi__V1__VolumeCapability writer = CSI__V1__VOLUME_CAPABILITY__INIT;
    bool expands = false, stages = false;

    if (!can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME, &expands, err) ||
        !can_stage(job, &stages, err))
        return false;
    if (!expands)
        return true;
    if (!quirks_size(quirks_of(upstream_name(job->upstream)), bytes, &range.required_bytes, err))
        return false;
    below.capacity_range = &range;
    below.volume_path = unconst(job->place->device);
    below.staging_target_path = unconst(stages ? job->place->stage : "");
    /* CSI lets callers omit it. A driver would then look for a file system on the device. */
    mode.mode = CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    writer.access_mode = &mode;
    if (!as_block(job, request->volume_capability ? request->volume_capability : &writer,
                  &below.volume_capability, err))
        return false;
    return call(job, "NodeExpandVolume", &below.base, err) || err->code == ERROR_UNIMPLEMENTED;
}
