/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"

#include "csi.pb-c.h"

/*
 * What we change in messages to the driver below. Pure: copies are shallow and keep the fields of newer
 * CSI versions, and nothing is written through the originals. NULL: the arena is exhausted.
 */

/* Where the driver does not know the modes of single nodes (SINGLE_NODE_MULTI_WRITER), they become
 * SINGLE_NODE_WRITER: we see to the rest. */
Csi__V1__VolumeCapability__AccessMode__Mode rewrite_mode(
    Csi__V1__VolumeCapability__AccessMode__Mode mode, bool knows_single_node_modes);

/* The same access mode, as far as the driver knows it, but raw block. */
Csi__V1__VolumeCapability *rewrite_as_block(const Csi__V1__VolumeCapability *capability,
                                            bool knows_single_node_modes, struct arena *arena);
