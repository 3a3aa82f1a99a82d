/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdbool.h>

/*
 * What the shape of kubelet's paths tells. For each pod, kubelet itself binds what is published:
 * folders of a volume (subPath) and device nodes (raw block).
 */

/* Whether path is a bind mount that kubelet made of what is published at target, for the same pod. */
bool kubelet_is_same_pod(const char *target, const char *path);

/* Whether path is one of kubelet's own places for a volume, wherever its folder is seen: in a container that
 * has it as a hostPath, say. These are the volume of a pod, its subPath, and the staging path. A pod that
 * uses the volume has it at a place of its own. */
bool kubelet_is_own_place(const char *path, const char *staging_path);

/* The uid of the pod to which the control groups of a process (/proc/PID/cgroup) belong. */
#define KUBELET_UID_LEN 36
bool kubelet_pod_of_cgroup(const char *cgroup, char out[static KUBELET_UID_LEN + 1]);

/*
 * The places below kubelet's folder at which it has volumes staged and published. KUBELET_STAGING and
 * KUBELET_TARGET are folders. Raw volumes have files, and lie in other folders.
 */
enum kubelet_shape {
    KUBELET_STAGING = 1,
    KUBELET_TARGET = 2,
    KUBELET_RAW_STAGING = 4,
    KUBELET_RAW_TARGET = 8,
    KUBELET_RAW_MAP =
        16, /* kubelet's own bind of what is published: it asks for statistics there */
};
#define KUBELET_TARGETS (KUBELET_TARGET | KUBELET_RAW_TARGET)
#define KUBELET_PLACES  (KUBELET_STAGING | KUBELET_RAW_STAGING | KUBELET_TARGETS | KUBELET_RAW_MAP)

struct kubelet_rule {
    unsigned shapes; /* enum kubelet_shape, one or more */
    const char *driver, *volume_id;
};

/* rest is the path below kubelet's folder, without a slash at its ends. INVALID_ARGUMENT when it has
 * none of the shapes: it names the expected ones. A staging folder must be the volume's own. */
MUST_USE bool kubelet_check_path(const struct kubelet_rule *rule, const char *rest,
                                 struct error *err);
