/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>

/*
 * What the shape of kubelet's paths tells. For each pod, kubelet itself binds what is published:
 * folders of a volume (subPath) and device nodes (raw block).
 */

/* Whether path is a bind mount that kubelet made of what is published at target, for the same pod. */
bool kubelet_is_same_pod(const char *target, const char *path);
