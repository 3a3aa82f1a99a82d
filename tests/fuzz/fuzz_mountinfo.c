/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "blockd/kubelet.h"
#include "blockd/mount.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A mountinfo file. Users choose many of its bytes: paths, sources and names of mounts. */

#define TARGET                                                                                 \
    "/var/lib/kubelet/pods/7d3c0b9e-0c1a-4f6e-9a3e-0123456789ab/volumes/kubernetes.io~csi/pv/" \
    "mount"
#define DEVICE                                                                                \
    "/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/pv/7d3c0b9e-0c1a-4f6e-" \
    "9a3e-0123456789ab"

static void check_entry(const struct mount_entry *entry)
{
    if (strnlen(entry->fs_type, sizeof(entry->fs_type)) == sizeof(entry->fs_type) ||
        strnlen(entry->root_name, sizeof(entry->root_name)) == sizeof(entry->root_name) ||
        strchr(entry->root_name, '/') || (entry->fs_read_only && !entry->read_only))
        abort();
}

static void look_for(const char *mountinfo, const char *path)
{
    struct mount_entry entry = { .device = 0 };
    struct error err = ERROR_INIT;
    bool found = false;

    if (mount_find(mountinfo, path, &found, &entry, &err) && found) {
        check_entry(&entry);
        (void)mount_is_node(&entry, makedev(253, 3), "tdvol-a");
    }
}

/* A mount that was found is not one of those to skip, and looking for its path finds a mount, too. */
static void search_user(const char *mountinfo, dev_t device, const char *target)
{
    const char *const except[] = { "/except", NULL };
    const struct mount_search search = {
        .device = device, .node_name = "tdvol-a", .except = except, .target = target
    };
    struct mount_entry entry = { .device = 0 };
    struct error err = ERROR_INIT;
    char path[PATH_MAX];
    bool found = false;

    if (!mount_find_user(mountinfo, &search, &found, path, &err) || !found)
        return;
    if (strnlen(path, sizeof(path)) == sizeof(path) || strcmp(path, "/except") == 0 ||
        (target && kubelet_is_same_pod(target, path)))
        abort();
    if (strlen(path) + 1 < sizeof(path) &&
        (!mount_find(mountinfo, path, &found, &entry, &err) || !found))
        abort();
}

static void read_cgroup(const uint8_t *bytes, size_t len)
{
    char *text = text_of_bytes(bytes, len), uid[KUBELET_UID_LEN + 1];

    if (!text)
        abort();
    if (kubelet_pod_of_cgroup(text, uid) &&
        (strlen(uid) != KUBELET_UID_LEN || strspn(uid, "0123456789abcdef-") != KUBELET_UID_LEN))
        abort();
    (void)kubelet_is_same_pod(TARGET, text);
    (void)kubelet_is_same_pod(DEVICE, text);
    (void)kubelet_is_same_pod(text, TARGET);
    (void)kubelet_is_same_pod(text, DEVICE);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    auto_close int fd = memfd_create("mountinfo", MFD_CLOEXEC);
    struct error err = ERROR_INIT;
    char path[64];

    if (fd < 0 || !fd_write_all(fd, bytes, len, &err))
        abort();
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    look_for(path, TARGET);
    look_for(path, "/a b");
    look_for(path, "/");
    search_user(path, makedev(253, 3), TARGET);
    search_user(path, 0, DEVICE);
    search_user(path, makedev(7, 1), NULL);
    read_cgroup(bytes, len);
    return 0;
}
