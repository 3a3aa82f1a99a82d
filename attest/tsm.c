/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/tsm.h"

#include "attest/event_log.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/*
 * Gets quotes from configfs-tsm. A folder made there is a request: inblob takes the report data,
 * outblob gives the quote. write() and close() do not report whether the kernel accepted inblob;
 * only the counter "generation" shows it. Some kernels answer a failed request with an empty or an
 * old quote. So only what the quote itself says is believed.
 *
 * Each request makes its own folder with a random name, and holds flock() on it. A folder with such
 * a name and without a lock was left by a process that died. Process ids cannot replace the lock,
 * because each container counts its own.
 */
#define PROVIDER      "tdx_guest"
#define NAME_PREFIX   "tdvol-"
#define RANDOM_LEN    16 /* bytes */
#define NAME_LEN      (sizeof(NAME_PREFIX) - 1 + 2 * (size_t)RANDOM_LEN)
#define ATTRIBUTE_MAX 128 /* bytes of a text attribute */
#define FOLDER_TRIES  4
#define PAUSE_MS      100u
#define PAUSE_MAX_MS  2000u
#define PATIENCE_MS   60000u /* when the caller sets no deadline */

struct folder {
    const char *root;
    int root_fd, fd; /* fd holds the lock */
    char name[NAME_LEN + 1];
};
#define FOLDER_INIT             \
    {                           \
        .root_fd = -1, .fd = -1 \
    }

static void folder_remove(struct folder *folder)
{
    if (folder->name[0] && unlinkat(folder->root_fd, folder->name, AT_REMOVEDIR) != 0 &&
        errno != ENOENT)
        log_debug("cannot remove a folder in configfs-tsm", TEXT("name", folder->name),
                  NUMBER("errno", errno));
    close_at(&folder->fd);
    close_at(&folder->root_fd);
}
#define auto_folder CLEANUP(folder_remove)

/* --- errors, and whether a later try may succeed --- */

static bool later(struct error *err)
{
    err->code = ERROR_UNAVAILABLE;
    return error_reason(err, ATTESTER_REASON);
}

static bool never(struct error *err)
{
    err->code = ERROR_FAILED_PRECONDITION;
    return error_reason(err, ATTESTER_REASON);
}

/* True when the wait for the host timed out or was interrupted, or another request is running. */
static bool is_transient(const struct error *err)
{
    return err->code == ERROR_UNAVAILABLE &&
           (err->sys_errno == EBUSY || err->sys_errno == EINTR || err->sys_errno == ETIMEDOUT ||
            err->sys_errno == EAGAIN);
}

static const struct {
    int sys_errno;
    const char *advice;
} hopeless[] = {
    { ENOENT,
      "quotes need a kernel with configfs-tsm (6.7 or later, CONFIG_TSM_REPORTS, module "
      "tdx_guest) and a mounted configfs (mount -t configfs configfs /sys/kernel/config; in a "
      "container, mount the host's folder writable)" },
    { ENOTDIR, "this is not a folder of configfs-tsm" },
    { ENXIO, "the kernel has no source of quotes: this is not a Trust Domain, or the module "
             "tdx_guest is not loaded" },
    { ENODEV, "the kernel has no source of quotes: this is not a Trust Domain, or the module "
              "tdx_guest is not loaded" },
    { EACCES, "run as root, with configfs mounted writable" },
    { EPERM, "run as root, with configfs mounted writable" },
    { EROFS, "mount configfs writable" },
};

static bool failed(int sys_errno, const char *what, const char *path, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(hopeless); i++) {
        if (hopeless[i].sys_errno != sys_errno)
            continue;
        (void)error_set(err, ERROR_FAILED_PRECONDITION, "%s %s: %s; %s", what, path,
                        strerrordesc_np(sys_errno), hopeless[i].advice);
        err->sys_errno = sys_errno;
        return never(err);
    }
    (void)error_set_errno(err, sys_errno, "%s %s", what, path);
    return later(err);
}

static bool untrue(struct error *err, const char *what)
{
    return error_set_reason(err, ERROR_UNAVAILABLE, ATTESTER_REASON, "%s", what);
}

/* --- a folder of our own --- */

static bool make_name(char out[static NAME_LEN + 1], struct error *err)
{
    uint8_t random[RANDOM_LEN];

    if (!random_bytes(random, sizeof(random), err))
        return false;
    memcpy(out, NAME_PREFIX, sizeof(NAME_PREFIX) - 1);
    hex_encode(random, sizeof(random), out + sizeof(NAME_PREFIX) - 1);
    return true;
}

static bool is_our_name(const char *name)
{
    uint8_t random[RANDOM_LEN];

    return strncmp(name, NAME_PREFIX, sizeof(NAME_PREFIX) - 1) == 0 &&
           hex_decode(name + sizeof(NAME_PREFIX) - 1, random, sizeof(random));
}

/* Opens and locks the folder. -1 when another process has it, or when it is gone. Only the
 * holder of the lock removes the folder, so a locked folder stays. */
static int hold(int root_fd, const char *name)
{
    auto_close int fd = openat(root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 ||
        fstatat(root_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    return TAKE_FD(fd);
}

static bool open_root(const char *path, int *out_fd, struct error *err)
{
    *out_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *out_fd >= 0 || failed(errno, "open", path, err);
}

/* Between mkdir and flock, a sweep may remove the folder as left over. Then another folder is
 * made. */
static bool make_folder(const char *root, struct folder *out, struct error *err)
{
    out->root = root;
    if (!open_root(root, &out->root_fd, err))
        return false;
    for (int i = 0; i < FOLDER_TRIES; i++) {
        char name[NAME_LEN + 1];

        if (!make_name(name, err))
            return false;
        if (mkdirat(out->root_fd, name, 0700) != 0) {
            if (errno == EEXIST)
                continue;
            return failed(errno, "make a folder in", root, err);
        }
        out->fd = hold(out->root_fd, name);
        if (out->fd >= 0) {
            memcpy(out->name, name, sizeof(name));
            return true;
        }
    }
    return error_set_reason(err, ERROR_UNAVAILABLE, ATTESTER_REASON,
                            "folders in %s disappear as soon as they are made", root);
}

/* --- its attributes --- */

static bool attribute_failed(int sys_errno, const char *name, const struct folder *folder,
                             struct error *err)
{
    if (sys_errno == ENOENT)
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, ATTESTER_REASON,
                                "%s has no attribute %s: it is not a folder of configfs-tsm",
                                folder->root, name);
    return failed(sys_errno, "configfs-tsm attribute", name, err);
}

/* Opens the file each time, because the kernel gives the latest answer only on a new descriptor.
 * More than max bytes are an error. An interrupted read is not continued: the whole request is
 * repeated. */
static bool read_attribute(const struct folder *folder, const char *name, uint8_t *out, size_t max,
                           size_t *out_len, struct error *err)
{
    auto_close int fd = openat(folder->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint8_t more;
    size_t len = 0;

    if (fd < 0)
        return attribute_failed(errno, name, folder, err);
    for (;;) {
        ssize_t n = len < max ? read(fd, out + len, max - len) : read(fd, &more, 1);

        if (n < 0)
            return attribute_failed(errno, name, folder, err);
        if (n == 0)
            break;
        if (len == max)
            return error_set_reason(err, ERROR_UNAVAILABLE, ATTESTER_REASON,
                                    "configfs-tsm's %s is larger than %zu bytes", name, max);
        len += (size_t)n;
    }
    *out_len = len;
    return true;
}

/* Reads an attribute as text, without its line end. */
static bool read_text(const struct folder *folder, const char *name,
                      char out[static ATTRIBUTE_MAX + 1], struct error *err)
{
    size_t len = 0;

    if (!read_attribute(folder, name, (uint8_t *)out, ATTRIBUTE_MAX, &len, err))
        return false;
    if (len > 0 && out[len - 1] == '\n')
        len--;
    for (size_t i = 0; i < len; i++) /* the text may go into a log */
        if (!isgraph((unsigned char)out[i]))
            out[i] = '?';
    out[len] = '\0';
    return true;
}

static bool check_provider(const struct folder *folder, struct error *err)
{
    char text[ATTRIBUTE_MAX + 1];

    if (!read_text(folder, "provider", text, err))
        return false;
    if (strcmp(text, PROVIDER) == 0)
        return true;
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, ATTESTER_REASON,
                            "quotes come from \"%s\" here, not from " PROVIDER
                            ": this machine is not a TDX Trust Domain",
                            text);
}

/* The counter must be 1 after our one write. Any other value means another writer, or a refused
 * write. */
static bool check_generation(const struct folder *folder, const char *when, struct error *err)
{
    char text[ATTRIBUTE_MAX + 1];
    uint64_t generation = 0;

    if (!read_text(folder, "generation", text, err))
        return false;
    if (parse_u64(text, &generation) && generation == 1)
        return true;
    return error_set_reason(
        err, ERROR_UNAVAILABLE, ATTESTER_REASON,
        "generation is \"%s\" instead of 1 %s: the kernel refused the request, or "
        "another process writes to the same folder",
        text, when);
}

static bool write_request(const struct folder *folder,
                          const uint8_t report_data[static REPORT_DATA_LEN], struct error *err)
{
    auto_close int fd = openat(folder->fd, "inblob", O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return attribute_failed(errno, "inblob", folder, err);
    ssize_t n = write(fd, report_data, REPORT_DATA_LEN);
    if (n < 0)
        return attribute_failed(errno, "inblob", folder, err);
    if (n != REPORT_DATA_LEN)
        return untrue(err, "configfs-tsm took only a part of the report data");
    if (close(TAKE_FD(fd)) != 0)
        return attribute_failed(errno, "inblob", folder, err);
    return true;
}

/* --- the quote --- */

static bool request_quote(const char *root, const uint8_t report_data[static REPORT_DATA_LEN],
                          uint8_t out[static QUOTE_LEN_MAX], size_t *out_len, struct error *err)
{
    auto_folder struct folder folder = FOLDER_INIT;
    size_t len = 0;

    if (!make_folder(root, &folder, err) || !check_provider(&folder, err) ||
        !write_request(&folder, report_data, err) ||
        !check_generation(&folder, "before the quote was read", err) ||
        !read_attribute(&folder, "outblob", out, QUOTE_LEN_MAX, &len, err) ||
        !check_generation(&folder, "after the quote was read", err))
        return false;
    *out_len = len;
    return true;
}

static bool collect_quote(const struct attester_options *options,
                          const uint8_t report_data[static REPORT_DATA_LEN],
                          uint8_t out[static QUOTE_LEN_MAX], size_t *out_len, struct error *err)
{
    const char *root = options->tsm_root ? options->tsm_root : ATTESTER_TSM_ROOT;
    uint64_t deadline_ms =
        options->deadline_ms ? options->deadline_ms : clock_now_ms() + PATIENCE_MS;
    unsigned pause_ms = PAUSE_MS, tries = 1;

    for (;; tries++) {
        if (request_quote(root, report_data, out, out_len, err))
            return true;
        if (!is_transient(err))
            return false;
        if (clock_now_ms() + pause_ms >= deadline_ms)
            return error_wrap(err, "no quote in time after %u tries", tries);
        const struct timespec pause = { .tv_sec = pause_ms / 1000,
                                        .tv_nsec = (long)(pause_ms % 1000) * 1000000 };
        (void)nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
}

/* --- the event log --- */

static bool read_event_log(const struct attester_options *options, struct evidence *out,
                           struct error *err)
{
    const char *path = options->event_log ? options->event_log : ATTESTER_CCEL_PATH;
    auto_free char *bytes = NULL;
    size_t len = 0;

    if (!file_read(path, ATTESTER_EVENT_LOG_MAX, &bytes, &len, err)) {
        if (err->sys_errno == ENOENT)
            return true;
        (void)error_wrap(err, "event log");
        return never(err);
    }
    if (len == 0)
        return true;
    out->event_log = (uint8_t *)TAKE_PTR(bytes);
    out->event_log_len = len;
    return true;
}

/* --- checks of quote and event log --- */

static bool check_quote(const uint8_t *bytes, size_t len,
                        const uint8_t report_data[static REPORT_DATA_LEN], struct quote *out,
                        struct error *err)
{
    struct quote quote;

    if (len == 0)
        return untrue(err, "the kernel's quote is empty: the host's quoting service failed");
    if (!quote_parse(bytes, len, &quote, err)) {
        (void)error_wrap(err, "the kernel's quote cannot be used");
        return later(err);
    }
    if (memcmp(quote.td.report_data, report_data, REPORT_DATA_LEN) != 0)
        return untrue(err, "the kernel's quote answers another request");
    if (quote.td.td_attributes & TD_ATTRIBUTE_DEBUG)
        return error_set_reason(
            err, ERROR_FAILED_PRECONDITION, ATTESTER_REASON,
            "this is a debug TD, whose memory the host can read: start it without "
            "debug");
    *out = quote;
    return true;
}

bool tsm_check(struct evidence *evidence, const uint8_t report_data[static REPORT_DATA_LEN],
               struct error *err)
{
    struct quote quote;

    if (!check_quote(evidence->quote, evidence->quote_len, report_data, &quote, err))
        return false;
    evidence->log_fault = (struct error)ERROR_INIT;
    if (evidence->event_log)
        (void)!event_log_check(evidence->event_log, evidence->event_log_len, &quote.td,
                               &evidence->log_fault);
    return true;
}

/* --- the attester --- */

static bool tsm_collect(const struct attester_options *options,
                        const uint8_t report_data[static REPORT_DATA_LEN], struct evidence *out,
                        struct error *err)
{
    auto_evidence struct evidence evidence = { .quote = malloc(QUOTE_LEN_MAX) };

    if (!evidence.quote)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a quote");
    if (!collect_quote(options, report_data, evidence.quote, &evidence.quote_len, err) ||
        !read_event_log(options, &evidence, err) || !tsm_check(&evidence, report_data, err))
        return false;
    *out = evidence;
    evidence = (struct evidence){ .quote = NULL };
    return true;
}

static void remove_stale(int root_fd, const char *name)
{
    auto_close int fd = hold(root_fd, name);

    if (fd < 0)
        return;
    if (unlinkat(root_fd, name, AT_REMOVEDIR) == 0)
        log_debug("removed a folder that a dead process left in configfs-tsm", TEXT("name", name));
}

static void tsm_sweep(const struct attester_options *options)
{
    auto_dir DIR *stream = opendir(options->tsm_root ? options->tsm_root : ATTESTER_TSM_ROOT);

    if (!stream)
        return; /* without configfs-tsm nothing is left there */
    for (const struct dirent *entry; (entry = readdir(stream));)
        if (is_our_name(entry->d_name))
            remove_stale(dirfd(stream), entry->d_name);
}

const struct attester attester_tdx = { .name = "tdx", .collect = tsm_collect, .sweep = tsm_sweep };
