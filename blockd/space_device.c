/* SPDX-License-Identifier: Apache-2.0 */
#include "blockd/space_device.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "blockd/backing_file.h"
#include "blockd/mount.h"
#include "blockd/operation.h"
#include "crypt/device.h"
#include "crypt/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* A block device that another CSI driver has published at the place of its volume. */

#define WAIT_STEP_MS 50
#define FREE_WAIT_MS 2000u /* for a program that only looks at the device, such as udev's */
#define GROW_WAIT_MS 5000u /* for the kernel to see that the device has grown */

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

bool space_device_is_lost(const struct worker_config *config, const struct volume_name *name)
{
    auto_held_path struct held_path device = HELD_PATH_INIT;
    struct error none = ERROR_INIT;
    bool found = false;
    struct stat st;

    if (!config->upstream_dir || !open_place(config, name, DEVICE, &device, &none) ||
        !held_path_stat(&device, &found, &st, &none))
        return false;
    return !found || !S_ISBLK(st.st_mode) || device_is_gone(st.st_rdev);
}

bool space_device_is_below(const struct worker_config *config, const struct volume_name *name)
{
    auto_held_path struct held_path device = HELD_PATH_INIT;
    struct error none = ERROR_INIT;
    bool found = false;
    struct stat st;
    dev_t raw = 0;

    return config->upstream_dir && open_place(config, name, DEVICE, &device, &none) &&
           held_path_stat(&device, &found, &st, &none) && found && S_ISBLK(st.st_mode) &&
           volume_find_raw(name, &raw, &none) && raw == st.st_rdev;
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

/* --- the device --- */

static void wait_step(void)
{
    const struct timespec step = { .tv_nsec = WAIT_STEP_MS * 1000000L };

    (void)nanosleep(&step, NULL);
}

static bool check_kind(const struct held_path *place, const struct stat *st, struct error *err)
{
    return S_ISBLK(st->st_mode) ||
           error_set(
               err, ERROR_FAILED_PRECONDITION,
               "%s is no block device: the other driver has not published the volume there, or "
               "its mounts do not reach this process",
               place->path);
}

/* Opens what is published there now (O_PATH). */
static bool find_published(const struct worker_config *config, const struct volume_name *name,
                           struct held_path *place, int *out_fd, struct stat *st, struct error *err)
{
    auto_close int fd = -1;
    bool found = false;

    if (!open_place(config, name, DEVICE, place, err) || !held_path_stat(place, &found, st, err) ||
        (found && !check_kind(place, st, err)) || !held_path_open_fd(place, &fd, err))
        return false;
    if (fstat(fd, st) != 0)
        return error_set_errno(err, errno, "%s", place->path);
    if (!check_kind(place, st, err))
        return false;
    *out_fd = TAKE_FD(fd);
    return true;
}

static bool refuse_gone(dev_t number, struct error *err)
{
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, DEVICE_GONE,
                            "device %u:%u has left this node; attach the volume again",
                            major(number), minor(number));
}

static bool refuse_open(int code, const struct stat *st, bool read_only, struct error *err)
{
    unsigned n = major(st->st_rdev), m = minor(st->st_rdev);

    if (code == ENXIO || code == ENODEV || device_is_gone(st->st_rdev))
        return refuse_gone(st->st_rdev, err);
    if (!read_only && (code == EACCES || code == EROFS || code == EPERM))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "device %u:%u is read-only, so the volume cannot be opened for writing", n,
                         m);
    return error_set_errno(err, code, "open device %u:%u", n, m);
}

/* Opens what path_fd is, which nobody can exchange any more. False: errno says why. */
static int open_same(int path_fd, int flags)
{
    char path[LOOP_PATH_LEN];

    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", path_fd);
    return open(path, flags | O_CLOEXEC);
}

/* A mapping over the device; *own: it is a layer of this volume, left over from a dead worker. */
static bool find_mapping(const struct worker *worker, dev_t number,
                         char name[static DEVICE_MAPPING_LEN], bool *own)
{
    char disk[64];

    (void)snprintf(disk, sizeof(disk), "dev/block/%u:%u", major(number), minor(number));
    if (!device_find_mapping_over(disk, name))
        return false;
    *own = strncmp(name, worker->name.text, VOLUME_NAME_LEN) == 0;
    return true;
}

static bool find_mount(const struct worker *worker, dev_t number, char path[static PATH_MAX])
{
    const struct mount_search search = { .device = number,
                                         .node_name = worker->name.text,
                                         .except = (const char *const[]){ NULL } };
    struct mount_entry entry = { .device = 0 };
    struct error ignored = ERROR_INIT;
    bool found = false;

    return mount_find_user(MOUNTINFO, &search, &found, path, &ignored) && found &&
           mount_find(MOUNTINFO, path, &found, &entry, &ignored) && found && entry.device == number;
}

static bool refuse_used(const struct worker *worker, dev_t number, bool *own, struct error *err)
{
    char mapping[DEVICE_MAPPING_LEN], path[PATH_MAX];
    unsigned n = major(number), m = minor(number);

    *own = false;
    if (find_mapping(worker, number, mapping, own))
        return error_set(err, ERROR_FAILED_PRECONDITION, "device %u:%u is in use by mapping %s", n,
                         m, mapping);
    if (find_mount(worker, number, path))
        return error_set(err, ERROR_FAILED_PRECONDITION, "device %u:%u is mounted at %s", n, m,
                         path);
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "device %u:%u is in use by another program, or one of its partitions is", n,
                     m);
}

/* Device-mapper will claim the device for itself, so this claim is given up again. Own layers that a
 * dead worker left are removed before new ones are made. */
static bool check_unused(const struct worker *worker, int path_fd, const struct stat *st,
                         bool read_only, struct error *err)
{
    uint64_t until_ms = clock_now_ms() + FREE_WAIT_MS;
    bool own = false;

    for (;;) {
        auto_close int fd = open_same(path_fd, (read_only ? O_RDONLY : O_RDWR) | O_EXCL);

        if (fd >= 0)
            return true;
        if (errno != EBUSY)
            return refuse_open(errno, st, read_only, err);
        bool is_used = !refuse_used(worker, st->st_rdev, &own, err);
        if (own || (is_used && clock_now_ms() >= until_ms))
            return own;
        wait_step();
    }
}

static bool refuse_small(dev_t number, uint64_t bytes, uint64_t needed, enum error_code code,
                         struct error *err)
{
    return error_set(err, code, "device %u:%u has %" PRIu64 " bytes, the volume needs %" PRIu64,
                     major(number), minor(number), bytes, needed);
}

static bool check_size(const struct worker *worker, dev_t number, struct error *err)
{
    uint64_t bytes = 0, needed = worker->record.spec.device_bytes;

    return device_size(number, &bytes, err) &&
           (bytes >= needed || refuse_small(number, bytes, needed, ERROR_FAILED_PRECONDITION, err));
}

static bool device_attach(const struct worker *worker, bool read_only, struct raw_device *out,
                          struct error *err)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_close int path_fd = -1;
    struct stat st, opened;

    if (!find_published(worker->config, &worker->name, &place, &path_fd, &st, err))
        return false;
    FAULT_POINT("worker.device.published");
    if (device_is_gone(st.st_rdev))
        return refuse_gone(st.st_rdev, err);
    if (!check_unused(worker, path_fd, &st, read_only, err) || !check_size(worker, st.st_rdev, err))
        return error_wrap(err, "%s", place.path);
    auto_close int fd = open_same(path_fd, read_only ? O_RDONLY : O_RDWR);
    if (fd < 0)
        return refuse_open(errno, &st, read_only, err);
    if (fstat(fd, &opened) != 0 || !S_ISBLK(opened.st_mode) || opened.st_rdev != st.st_rdev)
        return error_set(err, ERROR_ABORTED, "%s was exchanged meanwhile", place.path);
    *out = (struct raw_device){ .fd = fd };
    (void)snprintf(out->path, sizeof(out->path), "/proc/self/fd/%d", TAKE_FD(fd));
    (void)snprintf(out->name, sizeof(out->name), "device %u:%u", major(st.st_rdev),
                   minor(st.st_rdev));
    return true;
}

/* The other driver has made it larger; the kernel may see that a moment later. *number and *bytes are
 * what it is in the end. */
static bool wait_grown(const struct worker *worker, uint64_t needed, dev_t *number, uint64_t *bytes,
                       struct error *err)
{
    uint64_t until_ms = clock_now_ms() + GROW_WAIT_MS;

    for (;;) {
        if (!volume_find_raw(&worker->name, number, err) || !device_size(*number, bytes, err))
            return false;
        if (*bytes >= needed || clock_now_ms() >= until_ms)
            return true;
        if (!worker_check(worker, err))
            return false;
        wait_step();
    }
}

/* A device that stays too small is refused when the volume grows. */
static bool device_grown(const struct worker *worker, struct error *err)
{
    uint64_t bytes = 0;
    dev_t number = 0;

    return wait_grown(worker, worker->record.spec.device_bytes, &number, &bytes, err);
}

/* INTERNAL, so that callers repeat it: kubelet takes FAILED_PRECONDITION for "not while it is in use". */
bool operation_grown(struct worker *worker, struct block_result *out UNUSED, struct error *err)
{
    uint64_t bytes = 0, needed = worker->request->size_bytes;
    dev_t number = 0;

    return wait_grown(worker, needed, &number, &bytes, err) &&
           (bytes >= needed || refuse_small(number, bytes, needed, ERROR_INTERNAL, err));
}

static bool device_find_user(const struct worker *worker, bool *found,
                             char path[static LOOP_PATH_LEN], struct error *err)
{
    auto_held_path struct held_path place = HELD_PATH_INIT;
    auto_close int path_fd = -1;
    char mapping[DEVICE_MAPPING_LEN];
    bool own = false;
    struct stat st;

    *found = false;
    if (!find_published(worker->config, &worker->name, &place, &path_fd, &st, err))
        return err->code == ERROR_NOT_FOUND;
    *found = find_mapping(worker, st.st_rdev, mapping, &own);
    if (*found)
        (void)snprintf(path, LOOP_PATH_LEN, "%.*s", LOOP_PATH_LEN - 1, mapping);
    return true;
}

/* A killed worker leaves nothing but layers, which are recovered as those of every volume. */
static bool device_each_rest(const struct worker_config *config UNUSED,
                             bool (*each)(void *cookie, const char *volume_id, struct error *err)
                                 UNUSED,
                             void *cookie UNUSED, struct error *err UNUSED)
{
    return true;
}

static bool device_remove_rest(const struct worker_config *config UNUSED,
                               const char *volume_id UNUSED, struct error *err UNUSED)
{
    return true;
}

const struct space space_device = {
    .name = "device",
    .attach = device_attach,
    .grown = device_grown,
    .find_user = device_find_user,
    .each_rest = device_each_rest,
    .remove_rest = device_remove_rest,
};
