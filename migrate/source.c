/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/source.h"

#include "base/fault.h"
#include "base/file.h"
#include "blockd/loop.h"
#include "crypt/bottom.h"
#include "crypt/device.h"
#include "crypt/layer.h"
#include "crypt/luks.h"
#include "record/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* For a journal that is written twice: its replay, and its new beginning. The rest is for the map of
 * the snapshot and for chunks that are written in part. */
#define OVERLAY_BASE_BYTES (128ull << 20)

static void remove_layers(const struct source *source)
{
    struct error ignored = ERROR_INIT;

    (void)!layers_remove(&source->name, LAYER_CRYPT, LAYER_BOTTOM, &ignored);
}

void source_close(struct source *source)
{
    bool was_open = source->fd >= 0;

    close_at(&source->fd);
    if (was_open)
        remove_layers(source);
    close_at(&source->disk_fd);
    old_header_drop(&source->header);
    secret_wipe(&source->volume_key);
    free_at(&source->superblock);
}

static uint64_t segment_bytes(const struct source *source)
{
    const struct old_header *header = &source->header;
    uint64_t left = source->disk_bytes - header->offset;

    return header->size > 0 ? header->size : left - left % header->sector_bytes;
}

static bool check_superblock(struct source *source, struct error *err)
{
    source->bytes = segment_bytes(source);
    if (!source->header.has_integrity)
        return source->bytes > 0 ||
               error_set(err, ERROR_FAILED_PRECONDITION, "%s has no data", source->path);
    if (source->bytes < OLD_SUPERBLOCK_BYTES)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s is too short", source->path);
    if (!device_buffer(OLD_SUPERBLOCK_BYTES, &source->superblock, err) ||
        !fd_pread_all(source->disk_fd, source->superblock, OLD_SUPERBLOCK_BYTES,
                      (off_t)source->header.offset, err) ||
        !old_integrity_check(source->superblock, &source->header, source->bytes, &source->integrity,
                             err))
        return error_wrap(err, "%s", source->path);
    source->bytes = source->integrity.data_bytes;
    return true;
}

bool source_check(struct source *source, const char *path, const struct secret *passphrase,
                  struct error *err)
{
    struct stat st;

    source->path = path;
    if (!device_open(path, false, &source->disk_fd, &source->disk_bytes, err))
        return false;
    if (fstat(source->disk_fd, &st) != 0)
        return error_set_errno(err, errno, "%s", path);
    source->number = st.st_rdev;
    (void)snprintf(source->name.text, sizeof(source->name.text), "copy-in-%u-%u", major(st.st_rdev),
                   minor(st.st_rdev));
    if (!old_header_copy(source->disk_fd, source->disk_bytes, &source->header, err))
        return error_wrap(err, "%s", path);
    if (!luks_unlock(source->header.fd, passphrase, &source->volume_key, err))
        return error_wrap(err, "%s (UUID %s)", path, source->header.uuid);
    return check_superblock(source, err);
}

static bool window_up(const struct source *source, struct error *err)
{
    auto_free struct table *table = NULL;

    return table_new(&table, err) &&
           table_add(table, source->disk_bytes / SECTOR_BYTES, err, "linear", "%u:%u 0",
                     major(source->number), minor(source->number)) &&
           table_create(layer_name(&source->name, LAYER_BOTTOM).text, table, true, err);
}

/* The checked superblock goes into the overlay, too: the kernel then reads this one, and not what the
 * disk says by now. */
static bool keep_superblock(const struct source *source, struct error *err)
{
    auto_close int fd = -1;
    uint64_t bytes = 0;

    return device_open(layer_path(&source->name, LAYER_BOTTOM).text, true, &fd, &bytes, err) &&
           fd_pwrite_all(fd, source->superblock, OLD_SUPERBLOCK_BYTES, (off_t)source->header.offset,
                         err) &&
           device_flush(fd, err);
}

static bool overlay_up(const struct source *source, struct error *err)
{
    const struct volume_spec spec = { .device_bytes = source->disk_bytes };
    auto_loop struct loop_device memory = LOOP_DEVICE_INIT;

    return loop_attach_memory(OVERLAY_BASE_BYTES + 4 * source->integrity.journal_bytes, &memory,
                              err) &&
           bottom_overlay_up(&source->name, source->number, &spec, memory.path, err) &&
           keep_superblock(source, err);
}

/* From here on the layers live as long as this process has the uppermost one open. */
static bool tie_layers(const struct source *source, struct error *err)
{
    static const enum layer layers[] = { LAYER_CRYPT, LAYER_INTEGRITY, LAYER_BOTTOM };

    for (size_t i = 0; i < ARRAY_LEN(layers); i++)
        if (!table_remove_after_use(layer_name(&source->name, layers[i]).text, err))
            return false;
    return true;
}

static bool layers_up(struct source *source, struct error *err)
{
    const struct volume_name *name = &source->name;
    bool has_integrity = source->header.has_integrity;
    uint64_t bytes = 0;

    if (!(has_integrity ? overlay_up(source, err) : window_up(source, err)))
        return false;
    FAULT_POINT("copy-in.source.bottom");
    if (!luks_open_with_key(layer_name(name, LAYER_CRYPT).text, layer_path(name, LAYER_BOTTOM).text,
                            source->header.fd, &source->volume_key, !has_integrity, err))
        return false;
    FAULT_POINT("copy-in.source.mapped");
    if (!device_open(layer_path(name, LAYER_CRYPT).text, false, &source->fd, &bytes, err) ||
        !tie_layers(source, err))
        return false;
    return bytes == source->bytes ||
           error_set(err, ERROR_INTERNAL, "the volume has %" PRIu64 " bytes, not %" PRIu64, bytes,
                     source->bytes);
}

/* Whoever has the disk open for himself may write to it: a mapping of the old driver, a mount. Our own
 * layers claim it next. */
static bool check_unused(const struct source *source, struct error *err)
{
    auto_close int fd = open(source->path, O_RDONLY | O_EXCL | O_CLOEXEC);

    if (fd < 0 && errno == EBUSY)
        return error_set(err, ERROR_ABORTED,
                         "%s is in use: unmount the old volume, and close its mapping "
                         "(lsblk shows it)",
                         source->path);
    return fd >= 0 || error_set_errno(err, errno, "%s", source->path);
}

bool source_open(struct source *source, struct error *err)
{
    if (!layers_remove(&source->name, LAYER_CRYPT, LAYER_BOTTOM, err))
        return err->code == ERROR_ABORTED
                   ? error_wrap(err, "another process copies %s", source->path)
                   : error_wrap(err, "%s", source->path);
    if (!check_unused(source, err))
        return false;
    if (layers_up(source, err)) {
        secret_wipe(&source->volume_key);
        return true;
    }
    close_at(&source->fd);
    remove_layers(source);
    return error_wrap(err, "open %s", source->path);
}
