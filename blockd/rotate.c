/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "blockd/operation.h"
#include "blockd/staged.h"
#include "crypt/rotation.h"

#include <string.h>

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
