/* SPDX-License-Identifier: Apache-2.0 */
#include "upstream/rewrite.h"

Csi__V1__VolumeCapability__AccessMode__Mode rewrite_mode(
    Csi__V1__VolumeCapability__AccessMode__Mode mode, bool knows_single_node_modes)
{
    if (knows_single_node_modes)
        return mode;
    switch ((int)mode) {
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER:
        return CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER;
    default:
        return mode;
    }
}

Csi__V1__VolumeCapability *rewrite_as_block(const Csi__V1__VolumeCapability *capability,
                                            bool knows_single_node_modes, struct arena *arena)
{
    Csi__V1__VolumeCapability *out = arena_alloc(arena, sizeof(*out));
    Csi__V1__VolumeCapability__BlockVolume *block = arena_alloc(arena, sizeof(*block));
    Csi__V1__VolumeCapability__AccessMode *mode = arena_alloc(arena, sizeof(*mode));

    if (!out || !block || !mode)
        return NULL;
    *out = *capability;
    csi__v1__volume_capability__block_volume__init(block);
    out->access_type_case = CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK;
    out->block = block;
    if (!capability->access_mode)
        return out;
    *mode = *capability->access_mode;
    mode->mode = rewrite_mode(mode->mode, knows_single_node_modes);
    out->access_mode = mode;
    return out;
}
