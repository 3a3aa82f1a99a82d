/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/dispatch.h"

/* For the sidecar of csi-addons, on the node's socket, over a struct plugin. */
extern const struct rpc_service addons_identity_service;
extern const struct rpc_service addons_rotation_service;
