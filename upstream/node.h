/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "upstream/upstream.h"

/*
 * The node service of the driver below: it makes a volume a block device at a place of ours
 * (blockd/place.h), and takes it away again. Each function may be repeated. Errors are the driver's.
 */
struct upstream_node_job {
    struct upstream *upstream;
    struct arena *arena;   /* secret: requests may have secrets */
    uint64_t deadline_ms;  /* clock_now_ms() scale; UINT64_MAX: none */
    const char *volume_id; /* its place exists */
};

/* NodeStageVolume, where the driver has it, and NodePublishVolume. request: what our caller sent; all
 * of it goes on but for the capability and the paths. */
MUST_USE bool upstream_attach(const struct upstream_node_job *job,
                              const Csi__V1__NodeStageVolumeRequest *request, bool read_only,
                              struct error *err);

/* NodeUnpublishVolume and NodeUnstageVolume. True when the driver does not know the volume. */
MUST_USE bool upstream_detach(const struct upstream_node_job *job, struct error *err);

/* NodeExpandVolume, where the driver has it: the device then has at least bytes. */
MUST_USE bool upstream_expand(const struct upstream_node_job *job,
                              const Csi__V1__NodeExpandVolumeRequest *request, uint64_t bytes,
                              struct error *err);
