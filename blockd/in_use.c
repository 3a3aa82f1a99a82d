/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/log.h"
#include "blockd/filesystem.h"
#include "blockd/operation.h"
#include "blockd/space.h"
#include "blockd/staged.h"
#include "crypt/rotation.h"
#include "crypt/withhold.h"
#include "record/publication.h"

#include <string.h>

/* What is done to a volume that is staged: it grows, gets its next secret, keeps its lease. */

/* --- growth --- */

/* The front could have the record deleted, and another one made under the same id. */
static bool check_opened(const struct stage_opening *opening, const struct record *record,
                         struct error *err)
{
    bool is_same =
        !opening->is_set || bytes_are_equal(opening->record_id, record->id, RECORD_ID_LEN);

    return (is_same && record->phase == RECORD_READY) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the broker's record is not the one with which the volume was opened");
}

/* Before this call the raw device has grown (BLOCK_RESIZE), and so has the record. */
static bool grow_mapping(struct worker *worker, const struct stage_opening *opening,
                         struct volume_device *device, struct error *err)
{
    static struct record record;
    const struct space *space = NULL;

    if (!worker_ask_record(worker, &record, err) || !check_opened(opening, &record, err))
        return false;
    if (device->size_bytes >= record.spec.size_bytes)
        return true;
    if (!space_find(record.spec.backing, &space, err) || !space->grown(worker, err))
        return false;
    return volume_grow(&worker->name, &record, device, err);
}

bool operation_expand(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage_view view;

    if (!staged_look(worker, &view, err))
        return false;
    if (!view.known || !view.found || !view.state.complete)
        return error_set(err, ERROR_NOT_FOUND, "the volume is not staged here");
    if (view.state.read_only)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume is staged read-only");
    if (!volume_resume(&worker->name, err) ||
        !grow_mapping(worker, &view.state.opening, &view.device, err))
        return false;
    FAULT_POINT("worker.expand.filesystem");
    if (view.state.fs_type[0] &&
        !filesystem_grow(view.state.fs_type, view.device.path, view.state.staging_path,
                         worker_left_ms(worker), err))
        return false;
    out->size_bytes = view.device.size_bytes;
    return true;
}

/* --- the next secret --- */

/* A volume that is staged for writing gets its next secret. It stays mounted: its header is only read when
 * it is opened. */
struct rotate {
    struct worker *worker;
    struct stage_view view;
    struct record record;
    struct volume_secrets secrets;
};

/* How the volume is closed changes with its secret. Until the record has the next one, a close by either is
 * good, so the state file may change first. */
static bool save_closing(void *cookie, const struct volume_closing *closing, struct error *err)
{
    struct rotate *r = cookie;
    struct stage_file *state = &r->view.state;

    FAULT_POINT("worker.rotate.save");
    if (!close_key_derive(&r->secrets.next, &r->record, state->opening.close_key, err))
        return false;
    state->has_closing = closing->is_set;
    memcpy(state->closing, closing->block, sizeof(state->closing));
    return stage_file_write(r->worker->config->state_dir, &r->worker->name, state, err);
}

static bool keep_change(void *cookie, const struct record_change *change, struct record *record,
                        struct error *err)
{
    struct rotate *r = cookie;

    return worker_ask_change(r->worker, change, NULL, record, err);
}

/* The front could have the record deleted, and another one made under the same id. Of an opening that is
 * not the record's last one nothing may be changed. */
static bool check_opening(const struct rotate *r, struct error *err)
{
    const struct stage_opening *opening = &r->view.state.opening;
    const struct record *record = &r->record;

    return (opening->is_set && record->phase == RECORD_READY &&
            bytes_are_equal(opening->record_id, record->id, RECORD_ID_LEN) &&
            opening->open_counter == record->open_counter) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the broker's record is not the one with which the volume was opened: its "
                     "secret is changed when it is staged next");
}

static bool check_staged(const struct stage_view *view, struct error *err)
{
    if (!view->known || !view->found || !view->state.complete)
        return error_set(err, ERROR_NOT_FOUND, "the volume is not staged here");
    return (!view->state.read_only && view->state.has_closing) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the volume is staged read-only, or its state was lost: its secret is changed "
                     "when it is staged for writing next");
}

static bool rotate(struct rotate *r, struct block_result *out, struct error *err)
{
    const struct record_keeper keeper = { .change = keep_change, .cookie = r };
    const struct closing_saver saver = { .save = save_closing, .cookie = r };
    const struct open_rotation opening = { .record = &r->record,
                                           .secret = &r->secrets.own,
                                           .next_secret = &r->secrets.next,
                                           .keeper = &keeper,
                                           .saver = &saver };

    /* A layer that an expansion left suspended would keep this worker, and the volume's lock, for ever. */
    if (!staged_look(r->worker, &r->view, err) || !check_staged(&r->view, err) ||
        !volume_resume(&r->worker->name, err) ||
        !worker_ask_open(r->worker, &r->record, &r->secrets, err) || !check_opening(r, err))
        return false;
    out->already = r->record.rotation.key.generation == 0;
    return out->already ||
           (worker_check(r->worker, err) && volume_rotate(&r->worker->name, &opening, err));
}

bool operation_rotate(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct rotate r;

    r.worker = worker;
    bool done = rotate(&r, out, err);
    volume_secrets_wipe(&r.secrets);
    stage_file_wipe(&r.view.state);
    return done;
}

/* --- the lease --- */

struct renew {
    struct worker *worker;
    struct stage_view view;
    struct record record;
    struct volume_secrets secrets;
};

/* Somebody else may have had the volume meanwhile, and have given it back. */
static bool check_untouched(const struct renew *r, struct error *err)
{
    const struct stage_opening *opening = &r->view.state.opening;

    return (opening->is_set && r->record.phase == RECORD_READY &&
            bytes_are_equal(opening->record_id, r->record.id, RECORD_ID_LEN) &&
            opening->open_counter == r->record.open_counter) ||
           error_set_reason(
               err, ERROR_FAILED_PRECONDITION, LEASE_LOST_REASON,
               "the volume was opened elsewhere since, or is another one: end the pods "
               "that use it, then it is staged again");
}

/* The answer may have taken its time, and the machine may have stood still. Then another node may have the
 * volume. */
static bool check_in_time(const struct renew *r, struct error *err)
{
    return !lease_file_is_over(r->worker->config->state_dir, &r->worker->name) ||
           error_set(err, ERROR_ABORTED,
                     "the lease was over again before the broker's answer came: try again");
}

/* The key comes with the lease, and the lease is kept first: who dies in between leaves a volume that waits. */
static bool go_on(struct renew *r, struct error *err)
{
    const struct giving_back giving = { .record = &r->record,
                                        .secret = &r->secrets.own,
                                        .next_secret = &r->secrets.next };

    if (!worker_ask_open(r->worker, &r->record, &r->secrets, err) || !check_untouched(r, err) ||
        !staged_keep_lease(r->worker, err))
        return false;
    FAULT_POINT("worker.renew.give");
    return check_in_time(r, err) && volume_give_back(&r->worker->name, &giving, err);
}

/* *is_over: by this node's own clock. Until then the front's word that the lease is lost changes nothing. */
static bool renew(struct renew *r, bool is_over, struct block_result *out, struct error *err)
{
    bool is_withheld = false;

    if (!worker_ask_record(r->worker, &r->record, err) || !check_untouched(r, err) ||
        !volume_find_withheld(&r->worker->name, &is_withheld, err))
        return false;
    FAULT_POINT("worker.renew.keep");
    out->already = !is_withheld && !is_over;
    return out->already ? staged_keep_lease(r->worker, err) : go_on(r, err);
}

/* Its users wait in the kernel, where nothing can end them. It will not go on: errors let them end. */
static bool is_lost(const struct error *err)
{
    return strcmp(err->reason, LEASE_LOST_REASON) == 0 ||
           strcmp(err->reason, PUBLICATION_REASON) == 0;
}

static bool renew_or_fail(struct renew *r, struct block_result *out, struct error *err)
{
    struct error why = ERROR_INIT;

    if (!staged_look(r->worker, &r->view, err))
        return false;
    if (!r->view.known || !r->view.found || !r->view.state.complete || r->view.state.read_only)
        return error_set(err, ERROR_NOT_FOUND, "the volume is not staged for writing here");
    bool is_over = lease_file_is_over(r->worker->config->state_dir, &r->worker->name);
    if (renew(r, is_over, out, err))
        return true;
    if (is_over && is_lost(err) && !volume_fail(&r->worker->name, &why))
        log_debug("a volume whose lease is lost still waits",
                  TEXT("volume", r->worker->request->volume_id), ERROR_FIELDS(&why));
    return false;
}

bool operation_renew(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct renew r;

    r.worker = worker;
    bool done = renew_or_fail(&r, out, err);
    volume_secrets_wipe(&r.secrets);
    stage_file_wipe(&r.view.state);
    return done;
}
