/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/csi_call.h"

/* The calls that the sidecars of a cluster make for volumes and snapshots. */

static const ProtobufCServiceDescriptor *controller = &csi__v1__controller__descriptor;

static Csi__V1__VolumeContentSource *content_source(struct csi_session *session)
{
    const struct csi_arguments *args = session->args;
    struct parts {
        Csi__V1__VolumeContentSource source;
        Csi__V1__VolumeContentSource__SnapshotSource snapshot;
        Csi__V1__VolumeContentSource__VolumeSource volume;
    } *parts = csi_alloc(session, sizeof(*parts));

    csi__v1__volume_content_source__init(&parts->source);
    csi__v1__volume_content_source__snapshot_source__init(&parts->snapshot);
    csi__v1__volume_content_source__volume_source__init(&parts->volume);
    if (args->from_snapshot) {
        parts->snapshot.snapshot_id = csi_text(args->from_snapshot);
        parts->source.type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_SNAPSHOT;
        parts->source.snapshot = &parts->snapshot;
    } else if (args->from_volume) {
        parts->volume.volume_id = csi_text(args->from_volume);
        parts->source.type_case = CSI__V1__VOLUME_CONTENT_SOURCE__TYPE_VOLUME;
        parts->source.volume = &parts->volume;
    } else {
        return NULL;
    }
    return &parts->source;
}

json_t *csi_create(struct csi_session *session, struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__CreateVolumeRequest request;
    Csi__V1__TopologyRequirement accessible;
    Csi__V1__VolumeCapability *capability = csi_capability(session);
    Csi__V1__Topology *topology = NULL;
    struct csi_entry **parameters = NULL;

    csi__v1__create_volume_request__init(&request);
    csi__v1__topology_requirement__init(&accessible);
    if (args->from_snapshot && args->from_volume) {
        (void)error_set(err, ERROR_INVALID_ARGUMENT,
                        "give only one of --from-snapshot and --from-volume");
        return NULL;
    }
    if (!csi_capacity_range(session, &request.capacity_range, err) ||
        !csi_topology(session, &topology, err) ||
        !csi_entries(session, "parameter", &args->parameters,
                     &csi__v1__create_volume_request__parameters_entry__descriptor, &parameters,
                     err))
        return NULL;
    request.name = csi_text(args->rest.items[0]);
    request.n_volume_capabilities = 1;
    request.volume_capabilities = &capability;
    request.n_parameters = args->parameters.n;
    request.parameters = (void *)parameters;
    request.volume_content_source = content_source(session);
    if (topology) {
        accessible.n_preferred = accessible.n_requisite = 1;
        accessible.preferred = accessible.requisite = &topology;
        request.accessibility_requirements = &accessible;
    }
    return csi_call(session, controller, "CreateVolume", &request.base, err);
}

json_t *csi_delete(struct csi_session *session, struct error *err)
{
    Csi__V1__DeleteVolumeRequest request;

    csi__v1__delete_volume_request__init(&request);
    request.volume_id = csi_text(session->args->rest.items[0]);
    return csi_call(session, controller, "DeleteVolume", &request.base, err);
}

json_t *csi_get(struct csi_session *session, struct error *err)
{
    Csi__V1__ControllerGetVolumeRequest request;

    csi__v1__controller_get_volume_request__init(&request);
    request.volume_id = csi_text(session->args->rest.items[0]);
    return csi_call(session, controller, "ControllerGetVolume", &request.base, err);
}

json_t *csi_list(struct csi_session *session, struct error *err)
{
    Csi__V1__ListVolumesRequest request;

    csi__v1__list_volumes_request__init(&request);
    request.max_entries = (int32_t)session->args->max_entries;
    request.starting_token = csi_text(session->args->starting_token);
    return csi_call(session, controller, "ListVolumes", &request.base, err);
}

json_t *csi_capacity(struct csi_session *session, struct error *err)
{
    const struct csi_arguments *args = session->args;
    Csi__V1__GetCapacityRequest request;
    struct csi_entry **parameters = NULL;

    csi__v1__get_capacity_request__init(&request);
    if (!csi_topology(session, &request.accessible_topology, err) ||
        !csi_entries(session, "parameter", &args->parameters,
                     &csi__v1__get_capacity_request__parameters_entry__descriptor, &parameters,
                     err))
        return NULL;
    request.n_parameters = args->parameters.n;
    request.parameters = (void *)parameters;
    return csi_call(session, controller, "GetCapacity", &request.base, err);
}

json_t *csi_snapshot_create(struct csi_session *session, struct error *err)
{
    Csi__V1__CreateSnapshotRequest request;

    csi__v1__create_snapshot_request__init(&request);
    request.name = csi_text(session->args->rest.items[0]);
    request.source_volume_id = csi_text(session->args->volume);
    return csi_call(session, controller, "CreateSnapshot", &request.base, err);
}

json_t *csi_snapshot_delete(struct csi_session *session, struct error *err)
{
    Csi__V1__DeleteSnapshotRequest request;

    csi__v1__delete_snapshot_request__init(&request);
    request.snapshot_id = csi_text(session->args->rest.items[0]);
    return csi_call(session, controller, "DeleteSnapshot", &request.base, err);
}

json_t *csi_snapshot_get(struct csi_session *session, struct error *err)
{
    Csi__V1__GetSnapshotRequest request;

    csi__v1__get_snapshot_request__init(&request);
    request.snapshot_id = csi_text(session->args->rest.items[0]);
    return csi_call(session, controller, "GetSnapshot", &request.base, err);
}

json_t *csi_snapshot_list(struct csi_session *session, struct error *err)
{
    Csi__V1__ListSnapshotsRequest request;

    csi__v1__list_snapshots_request__init(&request);
    request.max_entries = (int32_t)session->args->max_entries;
    request.starting_token = csi_text(session->args->starting_token);
    request.source_volume_id = csi_text(session->args->volume);
    return csi_call(session, controller, "ListSnapshots", &request.base, err);
}

static json_t *expand_on_node(struct csi_session *session, struct error *err)
{
    Csi__V1__NodeExpandVolumeRequest request;

    csi__v1__node_expand_volume_request__init(&request);
    if (!csi_capacity_range(session, &request.capacity_range, err))
        return NULL;
    request.volume_id = csi_text(session->args->rest.items[0]);
    request.volume_path = csi_text(session->args->path);
    request.staging_target_path = csi_text(session->args->staging);
    request.volume_capability = csi_capability(session);
    return csi_call(session, &csi__v1__node__descriptor, "NodeExpandVolume", &request.base, err);
}

/* The controller's part. With --path the volume is in use here: then the node's part, too. */
json_t *csi_expand(struct csi_session *session, struct error *err)
{
    Csi__V1__ControllerExpandVolumeRequest request;

    csi__v1__controller_expand_volume_request__init(&request);
    if (!csi_capacity_range(session, &request.capacity_range, err))
        return NULL;
    request.volume_id = csi_text(session->args->rest.items[0]);
    request.volume_capability = csi_capability(session);
    json_t *out = csi_call(session, controller, "ControllerExpandVolume", &request.base, err);
    if (!out || !session->args->path)
        return out;
    json_t *node = expand_on_node(session, err);
    if (!node) {
        json_decref(out);
        return NULL;
    }
    return json_pack("{s:o, s:o}", "controller", out, "node", node);
}
