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

/* The uid of the pod to which the control groups of a process (/proc/PID/cgroup) belong. */
#define KUBELET_UID_LEN 36
bool kubelet_pod_of_cgroup(const char *cgroup, char out[static KUBELET_UID_LEN + 1]);
