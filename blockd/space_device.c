/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/space_device.h"

#include "base/fault.h"
#include "base/file.h"
#include "blockd/backing_file.h"
#include "blockd/operation.h"

#include <stdio.h>
#include <string.h>

/* A block device that another CSI driver has published at the place of its volume. */

#define STAGE  "/stage"
#define DEVICE "/device"

/* --- places --- */

bool space_device_prepare(const char *upstream_dir, struct error *err)
{
    auto_close int fd = -1;

    return !upstream_dir || ((file_make_dirs(upstream_dir, 0700, err) &&
                              backing_open_folder(upstream_dir, &fd, err)) ||
                             error_wrap(err, "--upstream-dir"));
}

/* part: "" for the folder of the volume's places. NOT_FOUND when the folder above does not exist. */
static bool open_place(const struct worker_config *config, const struct volume_name *name,
                       const char *part, struct held_path *out, struct error *err)
{
    char rest[VOLUME_NAME_LEN + sizeof(DEVICE)];

    if (!config->upstream_dir)
        return error_set(err, ERROR_FAILED_PRECONDITION, "there is no other driver here");
    (void)snprintf(rest, sizeof(rest), "%s%s", name->text, part);
    return held_path_open_below(config->upstream_dir, rest, out, err);
}

bool space_device_find_place(const struct worker *worker, bool *found, struct error *err)
{
    auto_held_path struct held_path folder = HELD_PATH_INIT;
    struct stat st;

    *found = false;
    return !worker->config->upstream_dir ||
           (open_place(worker->config, &worker->name, "", &folder, err) &&
            held_path_stat(&folder, found, &st, err));
}

bool operation_place(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_held_path struct held_path folder = HELD_PATH_INIT;
    auto_held_path struct held_path stage = HELD_PATH_INIT;
    struct stat st;

    if (!open_place(worker->config, &worker->name, "", &folder, err) ||
        !held_path_make(&folder, false, err))
        return false;
    FAULT_POINT("worker.place.folder");
    return open_place(worker->config, &worker->name, STAGE, &stage, err) &&
           held_path_stat(&stage, &out->already, &st, err) && held_path_make(&stage, false, err);
}

static bool remove_parts(const struct worker *worker, struct error *err)
{
    auto_held_path struct held_path stage = HELD_PATH_INIT;
    auto_held_path struct held_path device = HELD_PATH_INIT;

    if (!open_place(worker->config, &worker->name, STAGE, &stage, err) ||
        !open_place(worker->config, &worker->name, DEVICE, &device, err) ||
        !held_path_check_unmounted(&stage, err) || !held_path_check_unmounted(&device, err) ||
        !held_path_remove(&device, err))
        return false;
    FAULT_POINT("worker.unplace.device");
    if (!held_path_remove(&stage, err))
        return false;
    FAULT_POINT("worker.unplace.stage");
    return true;
}

/* All of it may be repeated: each part may be gone already. */
bool operation_unplace(struct worker *worker, struct block_result *out, struct error *err)
{
    auto_held_path struct held_path folder = HELD_PATH_INIT;
    bool found = false;
    struct stat st;

    if (!open_place(worker->config, &worker->name, "", &folder, err) ||
        !held_path_stat(&folder, &found, &st, err))
        return false;
    out->already = !found;
    return !found || (remove_parts(worker, err) && held_path_remove(&folder, err));
}
