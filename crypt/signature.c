/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/signature.h"

#include "base/confine.h"
#include "base/file.h"
#include "base/uuid.h"
#include "crypt/device.h"
#include "record/layout.h"

#include <blkid/blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LUKS_MAGIC       "LUKS\xba\xbe"
#define LUKS_MAGIC_LEN   6
#define LUKS_UUID_OFFSET 168
#define TYPE_LEN_MAX     (SIGNATURE_NAME_LEN - 1)

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

/* --- in a confined child: libblkid reads what an attacker may have written --- */

enum found { FOUND_NOTHING, FOUND_ONE, FOUND_SEVERAL, FOUND_UNREADABLE, FOUND_NO_PROBE };

static int find_others(int device_fd, void *cookie)
{
    const bool *skip_luks = cookie;
    auto_probe blkid_probe probe = blkid_new_probe();
    char crypto_luks[] = "crypto_LUKS";
    char *skipped[] = { crypto_luks, NULL };

    if (!probe || blkid_probe_set_device(probe, device_fd, 0, 0) != 0 ||
        blkid_probe_enable_superblocks(probe, 1) != 0 ||
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE) != 0 ||
        blkid_probe_enable_partitions(probe, 1) != 0 ||
        (*skip_luks && blkid_probe_filter_superblocks_type(probe, BLKID_FLTR_NOTIN, skipped) != 0))
        return FOUND_NO_PROBE;
    int rc = blkid_do_safeprobe(probe);
    if (rc != 0)
        return rc == 1 ? FOUND_NOTHING : rc == -2 ? FOUND_SEVERAL : FOUND_UNREADABLE;
    const char *type = "";
    if (blkid_probe_lookup_value(probe, "TYPE", &type, NULL) != 0 &&
        blkid_probe_lookup_value(probe, "PTTYPE", &type, NULL) != 0)
        type = "";
    (void)!write(STDOUT_FILENO, type, strnlen(type, TYPE_LEN_MAX));
    return FOUND_ONE;
}

/* --- in the worker --- */

/* The child may have been taken over: its word is for people, and only if it looks like one. */
static const char *word_of(const struct process_result *result)
{
    size_t len = strspn(result->output, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                        "0123456789_-");

    return len > 0 && len <= TYPE_LEN_MAX && result->output[len] == 0 ? result->output
                                                                      : "a signature";
}

/* libblkid reads through the page cache: it needs a descriptor without O_DIRECT. */
bool signature_find(int device_fd, const char *device_path, bool skip_luks,
                    char out[static SIGNATURE_NAME_LEN], struct error *err)
{
    char same[32];
    struct process_result result;

    (void)snprintf(same, sizeof(same), "/proc/self/fd/%d", device_fd);
    auto_close int cached_fd = open(same, O_RDONLY | O_CLOEXEC);
    if (cached_fd < 0)
        return error_set_errno(err, errno, "probe %s", device_path);
    if (!confine_call(find_others, &skip_luks, cached_fd, &result, err))
        return error_wrap(err, "probe %s", device_path);
    if (result.exit_code == FOUND_UNREADABLE)
        return error_set_errno(err, EIO, "probe %s", device_path);
    if (result.exit_code > FOUND_UNREADABLE)
        return error_set(err, ERROR_INTERNAL, "probe %s: libblkid failed (%d): %.200s", device_path,
                         result.exit_code, result.output);
    (void)snprintf(out, SIGNATURE_NAME_LEN, "%.*s", TYPE_LEN_MAX,
                   result.exit_code == FOUND_NOTHING   ? ""
                   : result.exit_code == FOUND_SEVERAL ? "several signatures"
                                                       : word_of(&result));
    return true;
}

static bool check_others(int device_fd, const char *device_path, bool skip_luks, struct error *err)
{
    char found[SIGNATURE_NAME_LEN];

    return signature_find(device_fd, device_path, skip_luks, found, err) &&
           (found[0] == '\0' || refused(err, device_path, found));
}

bool signature_check(int device_fd, const char *device_path, const struct record *record,
                     struct signature_found *out, struct error *err)
{
    /* libblkid also knows the second metadata area of a copy A of which the first one is gone. */
    return check_luks(device_fd, device_path, LAYOUT_HEADER_A_OFFSET, record, &out->header_a,
                      err) &&
           check_luks(device_fd, device_path, LAYOUT_HEADER_B_OFFSET, record, &out->header_b,
                      err) &&
           check_others(device_fd, device_path, out->header_a || out->header_b, err);
}
