/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kubelet.h"

#include <stddef.h>
#include <string.h>

/*
 * KUBELET/pods/UID/volumes/kubernetes.io~csi/PV/mount        a target
 * KUBELET/pods/UID/volume-subpaths/PV/CONTAINER/N            bound by kubelet: a subPath of it
 * BLOCK/publish/PV/UID                                       a target; BLOCK is
 *                                                KUBELET/plugins/kubernetes.io/csi/volumeDevices
 * BLOCK/PV/dev/UID                                           bound by kubelet: the same device
 */
static const char pods[] = "/pods/", volumes[] = "/volumes/", subpaths[] = "/volume-subpaths/";
static const char publish[] = "/volumeDevices/publish/", devices[] = "/volumeDevices/",
                  device[] = "/dev/";

/* The length of "KUBELET/pods/UID"; 0 when path has another shape. */
static size_t pod_len(const char *path)
{
    const char *at = strstr(path, pods);

    return at ? (size_t)(at - path) + strlen(pods) + strcspn(at + strlen(pods), "/") : 0;
}

static bool is_subpath(const char *target, const char *path)
{
    size_t len = pod_len(target);

    return len > 0 && strncmp(target + len, volumes, strlen(volumes)) == 0 &&
           strncmp(target, path, len) == 0 && strncmp(path + len, subpaths, strlen(subpaths)) == 0;
}

static bool is_device(const char *target, const char *path)
{
    const char *pv = strstr(target, publish);

    if (!pv)
        return false;
    size_t base = (size_t)(pv - target) + strlen(devices);
    pv += strlen(publish);
    size_t pv_len = strcspn(pv, "/");
    const char *rest = path + base;
    return pv[pv_len] == '/' && strncmp(target, path, base) == 0 &&
           strncmp(rest, pv, pv_len) == 0 && strncmp(rest + pv_len, device, strlen(device)) == 0 &&
           strcmp(rest + pv_len + strlen(device), pv + pv_len + 1) == 0;
}

bool kubelet_is_same_pod(const char *target, const char *path)
{
    return is_subpath(target, path) || is_device(target, path);
}

/* /kubepods/besteffort/podUID/..., or /kubepods.slice/kubepods-podUID.slice/... with "_" for "-". */
bool kubelet_pod_of_cgroup(const char *cgroup, char out[static KUBELET_UID_LEN + 1])
{
    static const char prefix[] = "pod", digits[] = "0123456789abcdef-_";

    for (const char *at = strstr(cgroup, prefix); at; at = strstr(at + 1, prefix)) {
        const char *uid = at + strlen(prefix);

        if (strspn(uid, digits) != KUBELET_UID_LEN)
            continue;
        for (size_t i = 0; i < KUBELET_UID_LEN; i++)
            out[i] = (char)(uid[i] == '_' ? '-' : uid[i]);
        out[KUBELET_UID_LEN] = 0;
        return true;
    }
    return false;
}
