/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/signature.h"

#include "base/file.h"
#include "base/uuid.h"
#include "crypt/device.h"
#include "record/layout.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LUKS_MAGIC       "LUKS\xba\xbe"
#define LUKS_MAGIC_LEN   6
#define LUKS_UUID_OFFSET 168

static void probe_free(blkid_probe *probe)
{
    blkid_free_probe(*probe);
    *probe = NULL;
}
#define auto_probe CLEANUP(probe_free)

static bool refused(struct error *err, const char *device_path, const char *what)
{
    return error_set_reason(
        err, ERROR_FAILED_PRECONDITION, "DeviceNotEmpty",
        "%s cannot be formatted, it holds %s: nothing was written; if nobody needs the data, "
        "wipe it (wipefs -a)",
        device_path, what);
}

/* *ours: this is a header for this record. */
static bool check_luks(int fd, const char *device_path, off_t offset, const struct record *record,
                       bool *ours, struct error *err)
{
    auto_free uint8_t *header = NULL;
    char uuid[UUID_TEXT_LEN];

    if (!device_buffer(DEVICE_BLOCK_BYTES, &header, err) ||
        !fd_pread_all(fd, header, DEVICE_BLOCK_BYTES, offset, err))
        return error_wrap(err, "look for a LUKS header");
    *ours = false;
    if (strncmp((const char *)header, LUKS_MAGIC, LUKS_MAGIC_LEN) != 0)
        return true;
    uuid_text(record->id, uuid);
    *ours = strncmp((const char *)header + LUKS_UUID_OFFSET, uuid, UUID_TEXT_LEN) == 0;
    return *ours || refused(err, device_path, "a LUKS header");
}

static bool check_others(const char *device_path, bool skip_luks, struct error *err)
{
    auto_probe blkid_probe probe = blkid_new_probe_from_filename(device_path);
    char crypto_luks[] = "crypto_LUKS";
    char *skipped[] = { crypto_luks, NULL };

    if (!probe || blkid_probe_enable_superblocks(probe, 1) != 0 ||
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE) != 0 ||
        blkid_probe_enable_partitions(probe, 1) != 0 ||
        (skip_luks && blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_NOTIN, skipped) != 0))
        return error_set(err, ERROR_INTERNAL, "probe %s: libblkid failed", device_path);
    errno = 0;
    int rc = blkid_do_safeprobe(probe);
    if (rc == 1)
        return true;
    if (rc == -2)
        return refused(err, device_path, "several signatures");
    if (rc != 0)
        return error_set_errno(err, errno ? errno : EIO, "probe %s", device_path);
    const char *type = "a signature";
    if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) != 0 &&
        blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL) != 0)
        type = "a signature";
    return refused(err, device_path, type);
}

bool signature_check(int device_fd, const char *device_path, const struct record *record,
                     struct signature_found *out, struct error *err)
{
    /* libblkid also knows the second metadata area of a copy A of which the first one is gone. */
    return check_luks(device_fd, device_path, LAYOUT_HEADER_A_OFFSET, record, &out->header_a,
                      err) &&
           check_luks(device_fd, device_path, LAYOUT_HEADER_B_OFFSET, record, &out->header_b,
                      err) &&
           check_others(device_path, out->header_a || out->header_b, err);
}
