/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/backing_file.h"
#include "blockd/space.h"

#include <string.h>

/* A file in the local folder, behind a loop device. */

static bool open_file(const struct worker *worker, bool read_only, int *out_fd, struct stat *st,
                      struct error *err)
{
    auto_close int folder_fd = -1;

    return backing_open_folder(worker->config->local_dir, &folder_fd, err) &&
           backing_open(folder_fd, worker->request->volume_id, read_only, out_fd, st, err);
}

static bool file_attach(const struct worker *worker, bool read_only, struct raw_device *out,
                        struct error *err)
{
    auto_loop struct loop_device loop = LOOP_DEVICE_INIT;
    auto_close int fd = -1;
    struct stat st;

    if (!open_file(worker, read_only, &fd, &st, err) || !loop_attach(fd, read_only, &loop, err))
        return false;
    *out = (struct raw_device){ .fd = TAKE_FD(loop.fd) };
    memcpy(out->path, loop.path, sizeof(out->path));
    memcpy(out->name, loop.path, sizeof(out->name));
    return true;
}

static bool file_grown(const struct worker *worker, struct error *err)
{
    auto_close int fd = -1;
    struct stat st;

    return open_file(worker, true, &fd, &st, err) && loop_refresh(&st, err);
}

static bool file_find_user(const struct worker *worker, bool *found,
                           char path[static LOOP_PATH_LEN], struct error *err)
{
    auto_close int fd = -1;
    struct stat st;

    *found = false;
    if (!open_file(worker, true, &fd, &st, err))
        return err->code == ERROR_NOT_FOUND;
    return loop_find(&st, found, path, err);
}

static bool file_each_rest(const struct worker_config *config,
                           bool (*each)(void *cookie, const char *volume_id, struct error *err),
                           void *cookie, struct error *err)
{
    auto_close int folder_fd = -1;

    return backing_open_folder(config->local_dir, &folder_fd, err) &&
           backing_each_rest(folder_fd, each, cookie, err);
}

static bool file_remove_rest(const struct worker_config *config, const char *volume_id,
                             struct error *err)
{
    auto_close int folder_fd = -1;

    return backing_open_folder(config->local_dir, &folder_fd, err) &&
           backing_remove_rest(folder_fd, volume_id, err);
}

const struct space space_file = {
    .name = "file",
    .attach = file_attach,
    .grown = file_grown,
    .find_user = file_find_user,
    .each_rest = file_each_rest,
    .remove_rest = file_remove_rest,
};
