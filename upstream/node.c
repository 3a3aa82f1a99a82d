/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/node.h"

#include "upstream/driver_quirks.h"
#include "upstream/rewrite.h"

/* Each message goes on as it came, without what the worker adds. */
static bool call(const struct upstream_node_job *job, const char *method,
                 const ProtobufCMessage *message, int access_mode, bool stages, struct error *err)
{
    const struct upstream_node_call node = { job->volume_id, method, message, access_mode, stages };

    return upstream_call_node(job->upstream, &node, job->deadline_ms, job->arena, err);
}

static bool can(const struct upstream_node_job *job,
                Csi__V1__NodeServiceCapability__RPC__Type capability, bool *yes, struct error *err)
{
    return upstream_node_can(job->upstream, capability, job->deadline_ms, yes, err);
}

static bool find_stages(const struct upstream_node_job *job, bool *yes, struct error *err)
{
    return can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__STAGE_UNSTAGE_VOLUME, yes, err);
}

/* Of a capability that the driver knows. CSI lets callers of NodeExpandVolume omit it. */
static bool find_mode(const struct upstream_node_job *job,
                      const Csi__V1__VolumeCapability *capability, int *out, struct error *err)
{
    bool has_multi_writer = false;

    if (!can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__SINGLE_NODE_MULTI_WRITER,
             &has_multi_writer, err))
        return false;
    *out = capability && capability->access_mode
               ? (int)rewrite_mode(capability->access_mode->mode, has_multi_writer)
               : (int)CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    return true;
}

/* The device is published once, for all pods, when the volume is staged. So the secrets for staging
 * stand for those for publishing, too. The entries of all maps have one form. */
static bool publish(const struct upstream_node_job *job,
                    const Csi__V1__NodeStageVolumeRequest *staged, int access_mode, bool stages,
                    bool read_only, struct error *err)
{
    Csi__V1__NodePublishVolumeRequest request = CSI__V1__NODE_PUBLISH_VOLUME_REQUEST__INIT;

    request.n_publish_context = staged->n_publish_context;
    request.publish_context = (void *)staged->publish_context;
    request.readonly = read_only;
    request.n_secrets = staged->n_secrets;
    request.secrets = (void *)staged->secrets;
    request.n_volume_context = staged->n_volume_context;
    request.volume_context = (void *)staged->volume_context;
    return call(job, "NodePublishVolume", &request.base, access_mode, stages, err);
}

bool upstream_attach(const struct upstream_node_job *job,
                     const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                     struct error *err)
{
    Csi__V1__NodeStageVolumeRequest below = *request; /* with fields of newer versions */
    bool stages = false;
    int mode = 0;

    if (!find_stages(job, &stages, err) || !find_mode(job, request->volume_capability, &mode, err))
        return false;
    below.volume_id = below.staging_target_path = unconst(protobuf_c_empty_string);
    below.volume_capability = NULL;
    return (!stages || call(job, "NodeStageVolume", &below.base, mode, true, err)) &&
           publish(job, &below, mode, stages, read_only, err);
}

static bool is_gone(const struct error *err)
{
    return err->code == ERROR_NOT_FOUND;
}

bool upstream_detach(const struct upstream_node_job *job, struct error *err)
{
    const Csi__V1__NodeUnpublishVolumeRequest published =
        CSI__V1__NODE_UNPUBLISH_VOLUME_REQUEST__INIT;
    const Csi__V1__NodeUnstageVolumeRequest staged = CSI__V1__NODE_UNSTAGE_VOLUME_REQUEST__INIT;
    bool stages = false;

    if (!find_stages(job, &stages, err) ||
        (!call(job, "NodeUnpublishVolume", &published.base, 0, stages, err) && !is_gone(err)))
        return false;
    return !stages || call(job, "NodeUnstageVolume", &staged.base, 0, true, err) || is_gone(err);
}

bool upstream_expand(const struct upstream_node_job *job,
                     const Csi__V1__NodeExpandVolumeRequest *request, uint64_t bytes,
                     struct error *err)
{
    Csi__V1__NodeExpandVolumeRequest below = *request;
    Csi__V1__CapacityRange range = CSI__V1__CAPACITY_RANGE__INIT;
    const struct quirks *quirks = NULL;
    bool expands = false, stages = false;
    int mode = 0;

    if (!can(job, CSI__V1__NODE_SERVICE_CAPABILITY__RPC__TYPE__EXPAND_VOLUME, &expands, err) ||
        !find_stages(job, &stages, err))
        return false;
    if (!expands)
        return true;
    if (!find_mode(job, request->volume_capability, &mode, err) ||
        !upstream_quirks(job->upstream, job->deadline_ms, &quirks, err) ||
        !quirks_size(quirks, bytes, &range.required_bytes, err))
        return false;
    below.capacity_range = &range;
    below.volume_id = below.volume_path = below.staging_target_path =
        unconst(protobuf_c_empty_string);
    below.volume_capability = NULL;
    return call(job, "NodeExpandVolume", &below.base, mode, stages, err) ||
           err->code == ERROR_UNIMPLEMENTED;
}
