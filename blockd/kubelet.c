/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/kubelet.h"

#include "base/digest.h"

#include <stddef.h>
#include <stdio.h>
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

static bool ends_with(const char *path, const char *end)
{
    size_t len = strlen(path), end_len = strlen(end);

    return len >= end_len && strcmp(path + len - end_len, end) == 0;
}

/* The last two parts with their slashes. */
static const char *tail_of(const char *path)
{
    size_t at = strlen(path);

    for (int parts = 0; at > 0 && parts < 2;)
        parts += path[--at] == '/';
    return path + at;
}

bool kubelet_is_own_place(const char *path, const char *staging_path)
{
    return strstr(path, "/volumes/kubernetes.io~csi/") || strstr(path, "/volume-subpaths/") ||
           (staging_path[0] && ends_with(path, tail_of(staging_path)));
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

/* --- the shapes --- */

#define PART_LEN_MAX 253 /* of a Kubernetes name */

/* Words in a pattern that stand for one part of a path. */
static const char driver_word[] = "DRIVER", volume_word[] = "SHA256-OF-VOLUME-ID",
                  uid_word[] = "POD-UID", pv_word[] = "PV";

/* Kubernetes 1.24 and later. */
static const struct shape {
    enum kubelet_shape shape;
    const char *parts[8];
} shapes[] = {
    { KUBELET_STAGING,
      { "plugins", "kubernetes.io", "csi", driver_word, volume_word, "globalmount" } },
    { KUBELET_TARGET, { "pods", uid_word, "volumes", "kubernetes.io~csi", pv_word, "mount" } },
    { KUBELET_RAW_STAGING,
      { "plugins", "kubernetes.io", "csi", "volumeDevices", "staging", pv_word } },
    { KUBELET_RAW_TARGET,
      { "plugins", "kubernetes.io", "csi", "volumeDevices", "publish", pv_word, uid_word } },
    { KUBELET_RAW_MAP,
      { "plugins", "kubernetes.io", "csi", "volumeDevices", pv_word, "dev", uid_word } },
};

/* As in names of objects: not "." or "..", nothing that a shell or a log reads in another way. */
static bool is_name(const char *part, size_t len, const char *inner)
{
    static const char ends[] = "0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

    if (len == 0 || len > PART_LEN_MAX || !strchr(ends, part[0]) || !strchr(ends, part[len - 1]))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!strchr(ends, part[i]) && !strchr(inner, part[i]))
            return false;
    }
    return true;
}

static bool is_text(const char *part, size_t len, const char *text)
{
    return strlen(text) == len && strncmp(part, text, len) == 0;
}

struct wanted {
    const char *driver;
    char volume[2 * SHA256_LEN + 1];
};

static bool is_part(const char *part, size_t len, const char *word, const struct wanted *wanted)
{
    if (word == driver_word)
        return is_text(part, len, wanted->driver);
    if (word == volume_word)
        return is_text(part, len, wanted->volume);
    if (word == uid_word)
        return is_name(part, len, "-");
    if (word == pv_word)
        return is_name(part, len, "-.");
    return is_text(part, len, word);
}

static bool has_shape(const char *rest, const struct shape *shape, const struct wanted *wanted)
{
    for (size_t i = 0; shape->parts[i]; i++) {
        size_t len = strcspn(rest, "/");

        if (!is_part(rest, len, shape->parts[i], wanted))
            return false;
        rest += len;
        if (shape->parts[i + 1] && *rest++ != '/')
            return false;
    }
    return *rest == 0;
}

static bool refuse(const struct kubelet_rule *rule, struct error *err)
{
    char text[512] = "";
    size_t used = 0;

    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if (!(rule->shapes & shapes[i].shape))
            continue;
        for (size_t k = 0; shapes[i].parts[k] && used < sizeof(text); k++) {
            const char *word = shapes[i].parts[k], *between = k ? "/" : used ? ", or " : "";
            const char *part = word == driver_word ? rule->driver : word;
            int n = snprintf(text + used, sizeof(text) - used, "%s%s", between, part);

            used += n > 0 ? (size_t)n : 0;
        }
    }
    return error_set(
        err, ERROR_INVALID_ARGUMENT,
        "this is no place of kubelet for this volume; expected below --mount-root: %s; "
        "callers other than kubelet need --free-mount-root",
        text);
}

bool kubelet_check_path(const struct kubelet_rule *rule, const char *rest, struct error *err)
{
    struct wanted wanted = { .driver = rule->driver };
    uint8_t digest[SHA256_LEN];

    if (!sha256(rule->volume_id, strlen(rule->volume_id), digest, err))
        return false;
    hex_encode(digest, sizeof(digest), wanted.volume);
    for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
        if ((rule->shapes & shapes[i].shape) && has_shape(rest, &shapes[i], &wanted))
            return true;
    }
    return refuse(rule, err);
}
