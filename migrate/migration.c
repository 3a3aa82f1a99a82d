/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/migration.h"

#include "base/fault.h"
#include "base/file.h"
#include "base/reader.h"
#include "crypt/device.h"
#include "migrate/copy.h"
#include "migrate/progress.h"
#include "migrate/read_ahead.h"
#include "migrate/source.h"
#include "migrate/target.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* One run. */
struct migration_run {
    const struct migration *migration;
    struct source source;
    struct target target;
    struct target_mark mark;
    enum target_state state;
    bool is_touched; /* this run wrote to the target, or tried to */
    uint8_t *head;   /* the source's first bytes, filled up with zeros */
    size_t head_len;
    struct progress progress;
    uint64_t written;
};

static void run_end(struct migration_run *r)
{
    source_close(&r->source);
    target_close(&r->target);
    free_at(&r->head);
}
#define auto_run CLEANUP(run_end)

static bool check_sizes(const struct migration_run *r, struct error *err)
{
    uint64_t needed = round_up_u64(r->source.bytes, DEVICE_BLOCK_BYTES);

    if (r->source.number == r->target.number)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s and %s are the same disk", r->source.path,
                         r->target.path);
    return r->target.bytes >= needed ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s has %" PRIu64 " bytes, the old volume needs %" PRIu64
                     ": make the new volume larger",
                     r->target.path, r->target.bytes, needed);
}

/* The buffer is filled up with zeros to a multiple of 4096. */
static bool read_head(const struct migration_run *r, uint8_t **out, size_t *out_len,
                      struct error *err)
{
    uint64_t len = r->source.bytes < TARGET_HEAD_BYTES ? r->source.bytes : TARGET_HEAD_BYTES;
    auto_free uint8_t *head = NULL;

    *out_len = (size_t)round_up_u64(len, DEVICE_BLOCK_BYTES);
    if (!device_buffer(*out_len, &head, err))
        return false;
    if (!read_exactly(r->source.fd, head, (size_t)len, 0, err))
        return error_wrap(err, "the old volume");
    *out = TAKE_PTR(head);
    return true;
}

/* --- the steps --- */

static bool begin(void *cookie, struct error *err)
{
    struct migration_run *r = cookie;

    if (r->state == TARGET_BEGUN)
        return true;
    r->is_touched = true;
    if (!target_begin(&r->target, &r->mark, err))
        return false;
    r->state = TARGET_BEGUN;
    FAULT_POINT("copy-in.begin.marked");
    return true;
}

static void add_progress(void *cookie, uint64_t bytes)
{
    progress_add(&((struct migration_run *)cookie)->progress, bytes);
}

/* All but the head. */
static struct copy_range range_of(struct migration_run *r)
{
    return (struct copy_range){
        .source_fd = r->source.fd,
        .target_fd = r->target.fd,
        .from = r->head_len,
        .end = r->source.bytes > r->head_len ? r->source.bytes : r->head_len,
        .stop = r->migration->stop,
        .begin = begin,
        .progress = add_progress,
        .cookie = r,
    };
}

static bool walk(struct migration_run *r, bool compare_only, struct error *err)
{
    struct copy_range range = range_of(r);
    uint64_t written = 0;

    range.is_fresh = !compare_only && r->state != TARGET_BEGUN;
    range.compare_only = compare_only;
    progress_start(&r->progress, compare_only ? "compared" : "copied", range.end - range.from);
    bool ok = copy_range_run(&range, &written, err);
    progress_end(&r->progress);
    r->written += written;
    return ok;
}

/* A first MiB of zeros says little: data may lie behind it, also that of a finished copy whose source
 * begins with zeros. Nothing of it may be written over unasked. */
static bool look_behind_zeros(struct migration_run *r, struct error *err)
{
    struct copy_range range = range_of(r);
    bool is_blank = false;

    progress_start(&r->progress, "looked at", range.end - range.from);
    bool ok = copy_range_find_blank(&range, &is_blank, err);
    progress_end(&r->progress);
    if (!ok || is_blank)
        return ok;
    r->state = bytes_are_zero(r->head, r->head_len) ? TARGET_DONE : TARGET_OTHER;
    (void)snprintf(r->target.found, sizeof(r->target.found), "data behind a first MiB of zeros");
    return true;
}

static bool check_content(struct migration_run *r, struct error *err)
{
    return target_check_sectors(r->target.sector_bytes, r->head, r->head_len, err) &&
           target_look(&r->target, &r->mark, r->head, r->head_len, &r->state, err) &&
           (r->state != TARGET_EMPTY || r->migration->overwrite || look_behind_zeros(r, err));
}

/* The head was read before everything else, and is written after it. It is not part of what is read
 * again. */
static bool check_source_head(const struct migration_run *r, struct error *err)
{
    auto_free uint8_t *head = NULL;
    size_t len = 0;

    return read_head(r, &head, &len, err) &&
           (memcmp(head, r->head, len) == 0 ||
            error_set_reason(
                err, ERROR_DATA_LOSS, "CopyDiffers",
                "%s was changed while it was copied: end whatever uses the old volume, "
                "and run the command again",
                r->source.path));
}

static bool check_head(const struct migration_run *r, bool *is_equal, struct error *err)
{
    auto_free uint8_t *found = NULL;

    if (!device_buffer(r->head_len, &found, err) ||
        !fd_pread_all(r->target.fd, found, r->head_len, 0, err))
        return error_wrap(err, "%s", r->target.path);
    *is_equal = memcmp(found, r->head, r->head_len) == 0;
    return true;
}

static bool finish(struct migration_run *r, struct error *err)
{
    bool is_equal = false;

    if (!check_head(r, &is_equal, err))
        return false;
    if (is_equal)
        return true;
    if (!begin(r, err) || !target_finish(&r->target, r->head, r->head_len, err))
        return false;
    r->written += r->head_len;
    return check_head(r, &is_equal, err) &&
           (is_equal ||
            error_set_reason(err, ERROR_DATA_LOSS, "CopyDiffers",
                             "%s returns other bytes than were written", r->target.path));
}

/* It looks as if an earlier run had finished the copy. What differs was changed since, perhaps by a pod,
 * or is other data: that is not overwritten. */
static bool check_done(struct migration_run *r, struct error *err)
{
    if (walk(r, true, err))
        return true;
    return strcmp(err->reason, "CopyDiffers") == 0
               ? error_wrap(err, "the copy was finished before, and one of the volumes was used "
                                 "since; nothing was written, --overwrite copies again")
               : false;
}

/* What an interrupted copy leaves. */
static bool name_target_state(const struct migration_run *r, struct error *err)
{
    if (r->state == TARGET_BEGUN)
        return error_wrap(
            err, "%s is not complete, and has no file system yet; the same command goes on",
            r->target.path);
    if (r->is_touched)
        return error_wrap(
            err, "the beginning of %s may have been overwritten; run the same command again",
            r->target.path);
    return error_wrap(err, "%s was not changed", r->target.path);
}

static bool copy(struct migration_run *r, struct error *err)
{
    if (r->state == TARGET_DONE && !r->migration->overwrite)
        return check_done(r, err);
    if (r->state == TARGET_OTHER && !r->migration->overwrite)
        return error_set_reason(err, ERROR_FAILED_PRECONDITION, "DeviceNotEmpty",
                                "%s holds %s; nothing was written. If nobody needs that, add "
                                "--overwrite",
                                r->target.path, r->target.found);
    if (!walk(r, false, err))
        return name_target_state(r, err);
    FAULT_POINT("copy-in.copy.done");
    if (!device_flush(r->target.fd, err))
        return error_wrap(err, "%s", r->target.path);
    if (!r->migration->no_verify && !walk(r, true, err))
        return error_wrap(err, "the copy was read again");
    FAULT_POINT("copy-in.copy.verified");
    return check_source_head(r, err) && finish(r, err);
}

static const char *advice_of(enum target_state state)
{
    static const char *const advice[] = {
        [TARGET_EMPTY] = "it is empty",
        [TARGET_BEGUN] = "it has the beginning of this copy, which the next run continues",
        [TARGET_DONE] = "it begins like this copy, so it is only compared",
        [TARGET_OTHER] = "it holds something else, so --overwrite is needed",
    };

    return advice[state];
}

static bool check_all(struct migration_run *r, struct error *err)
{
    const struct migration *m = r->migration;

    if (!source_check(&r->source, m->from, m->passphrase, err) ||
        !target_open(&r->target, m->to, err) || !check_sizes(r, err))
        return false;
    r->mark.bytes = r->source.bytes;
    memcpy(r->mark.uuid, r->source.header.uuid, sizeof(r->mark.uuid));
    return m->catch_signals(err) && source_open(&r->source, err) &&
           read_head(r, &r->head, &r->head_len, err) && check_content(r, err);
}

bool migration_run(const struct migration *migration, struct migration_result *out,
                   struct error *err)
{
    auto_run struct migration_run r = { .migration = migration,
                                        .source = SOURCE_INIT,
                                        .target = TARGET_INIT };
    bool ok = check_all(&r, err) && (migration->dry_run || copy(&r, err));

    if (ok)
        *out = (struct migration_result){ .bytes = r.source.bytes,
                                          .written = r.written,
                                          .advice = advice_of(r.state) };
    return ok;
}
