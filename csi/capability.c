/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/capability.h"

#include "csi/parameters.h"
#include "record/fs_type.h"

#include <string.h>

typedef Csi__V1__VolumeCapability__AccessMode__Mode access_mode;

static bool read_mode(access_mode mode, struct capability *out, struct error *err)
{
    switch ((int)mode) {
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_WRITER:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_MULTI_WRITER:
        return true;
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_SINGLE_WRITER:
        out->single_writer = true;
        return true;
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__SINGLE_NODE_READER_ONLY:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_READER_ONLY:
        out->read_only = true;
        return true;
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_SINGLE_WRITER:
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__MULTI_NODE_MULTI_WRITER:
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "access mode: one node writes to an encrypted volume; writers on several "
                         "nodes are not possible");
    case CSI__V1__VOLUME_CAPABILITY__ACCESS_MODE__MODE__UNKNOWN:
    default:
        return error_set(err, ERROR_INVALID_ARGUMENT, "access mode is missing or unknown");
    }
}

static bool read_mount(const Csi__V1__VolumeCapability__MountVolume *mount, struct capability *out,
                       struct error *err)
{
    enum fs_type type;

    if (mount->fs_type[0] != '\0' && !fs_type_find(mount->fs_type, &type))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "file system \"%s\" is not supported; choose " FS_TYPE_CHOICES,
                         mount->fs_type);
    if (mount->volume_mount_group[0] != '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_mount_group is not supported");
    out->fs_type = mount->fs_type;
    return true;
}

bool capability_read(const Csi__V1__VolumeCapability *message, struct capability *out,
                     struct error *err)
{
    struct capability found = { .fs_type = "", .message = message };

    if (!message)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_capability is missing");
    if (message->access_type_case == CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_BLOCK)
        found.is_block = true;
    else if (message->access_type_case != CSI__V1__VOLUME_CAPABILITY__ACCESS_TYPE_MOUNT)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "volume_capability: access type must be block or mount");
    if (!found.is_block && !read_mount(message->mount, &found, err))
        return false;
    if (!message->access_mode)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_capability: access mode is missing");
    if (!read_mode(message->access_mode->mode, &found, err))
        return false;
    *out = found;
    return true;
}

bool capability_read_all(Csi__V1__VolumeCapability *const *list, size_t n, struct capability *out,
                         struct error *err)
{
    struct capability all = { .fs_type = "", .read_only = true };

    if (n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "volume_capabilities is missing");
    for (size_t i = 0; i < n; i++) {
        struct capability one = { .fs_type = "" };

        if (!capability_read(list[i], &one, err))
            return false;
        if (i > 0 && one.is_block != all.is_block)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "a volume is either raw block or a file system, not both");
        if (all.fs_type[0] != '\0' && one.fs_type[0] != '\0' &&
            strcmp(all.fs_type, one.fs_type) != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "a volume has one file system: %s or %s",
                             all.fs_type, one.fs_type);
        all.is_block = one.is_block;
        all.read_only = all.read_only && one.read_only;
        if (one.fs_type[0] != '\0')
            all.fs_type = one.fs_type;
    }
    *out = all;
    return true;
}

bool capability_fits(const struct capability *capability, const struct volume_spec *spec,
                     struct error *err)
{
    bool spec_is_block = spec->fs_type[0] == '\0';

    if (capability->is_block != spec_is_block)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume was made as %s, not as %s",
                         spec_is_block ? "raw block" : "a file system",
                         spec_is_block ? "a file system" : "raw block");
    if (capability->fs_type[0] != '\0' && strcmp(capability->fs_type, spec->fs_type) != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume was made with %s, not with %s",
                         spec->fs_type, capability->fs_type);
    return true;
}

bool capability_can_bring(const struct capability *capability, const struct volume_spec *spec)
{
    return capability->is_block && !capability->read_only && spec->fs_type[0] != '\0';
}

bool capability_mount_flags(const struct capability *capability, char out[static BLOCK_FLAGS_MAX],
                            struct error *err)
{
    size_t used = 0;

    out[0] = '\0';
    if (capability->is_block)
        return true;
    const Csi__V1__VolumeCapability__MountVolume *mount = capability->message->mount;
    for (size_t i = 0; i < mount->n_mount_flags; i++) {
        size_t len = strlen(mount->mount_flags[i]);

        if (len == 0)
            continue;
        if (len + 2 > BLOCK_FLAGS_MAX - used)
            return error_set(err, ERROR_INVALID_ARGUMENT, "mount_flags: more than %d bytes in all",
                             BLOCK_FLAGS_MAX - 2);
        if (used > 0)
            out[used++] = ',';
        memcpy(out + used, mount->mount_flags[i], len + 1);
        used += len;
    }
    return true;
}
