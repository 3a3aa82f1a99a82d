/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/log.h"
#include "blockd/filesystem.h"
#include "blockd/mount.h"
#include "blockd/operation.h"
#include "blockd/space.h"
#include "blockd/space_device.h"
#include "blockd/staged.h"
#include "crypt/activate.h"
#include "crypt/counting.h"

#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

/* The state of one stage operation. */
struct stage {
    struct worker *worker;
    struct held_path place; /* where to mount; not opened for raw block */
    struct mount_options options;
    struct stage_view view;
    const struct space *space; /* named by the record */
    struct raw_device raw;
    char fs_type[FS_TYPE_MAX + 1]; /* "" for raw block; BLOCK_FS_ANY until the record names it */
    struct record record;
    struct volume_secrets secrets;
    struct volume_device device;
    struct volume_closing closing; /* not set: read-only, or adopted */
    bool asked;                    /* for the broker, the volume is open here */
    bool begun; /* this attempt's state is saved, and what was left over is closed */
};

static bool is_raw(const struct block_request *request)
{
    return request->fs_type[0] == 0;
}

/* The caller leaves the choice of the file system to the record. */
static bool is_any(const struct block_request *request)
{
    return strcmp(request->fs_type, BLOCK_FS_ANY) == 0;
}

static bool prepare(struct stage *s, struct error *err)
{
    const struct block_request *request = s->worker->request;

    (void)snprintf(s->fs_type, sizeof(s->fs_type), "%s", request->fs_type);
    if (is_raw(request))
        return true;
    if ((!is_any(request) && !filesystem_check_type(request->fs_type, err)) ||
        !staged_open_place(s->worker, KUBELET_STAGING, request->path, &s->place, err) ||
        !staged_options(request->mount_flags, request->read_only, &s->options, err))
        return error_wrap(err, "staging path");
    return true;
}

static void fill_state(const struct stage *s, struct stage_file *out)
{
    const struct block_request *request = s->worker->request;

    out->version = STAGE_FILE_VERSION;
    out->read_only = request->read_only;
    (void)snprintf(out->volume_id, sizeof(out->volume_id), "%s", request->volume_id);
    (void)snprintf(out->fs_type, sizeof(out->fs_type), "%s", s->fs_type);
    (void)snprintf(out->staging_path, sizeof(out->staging_path), "%s", s->place.path);
    (void)snprintf(out->mount_flags, sizeof(out->mount_flags), "%s", request->mount_flags);
}

static bool write_state(const struct stage *s, struct error *err)
{
    return stage_file_write(s->worker->config->state_dir, &s->worker->name, &s->view.state, err);
}

/* complete: the volume is ready, and the close needs no key. */
static bool save_state(struct stage *s, bool complete, struct error *err)
{
    struct stage_file *state = &s->view.state;

    if (!s->view.known)
        *state = (struct stage_file){ .complete = false };
    s->view.known = true;
    fill_state(s, state);
    state->complete = complete;
    state->has_closing = complete && s->closing.is_set;
    memcpy(state->closing, s->closing.block, sizeof(state->closing));
    return write_state(s, err);
}

static bool is_same(const struct stage *s)
{
    const struct block_request *request = s->worker->request;
    const struct stage_file *state = &s->view.state;
    bool is_same_type =
        is_any(request) ? state->fs_type[0] != 0 : strcmp(state->fs_type, request->fs_type) == 0;

    return is_same_type && strcmp(state->staging_path, s->place.path) == 0 &&
           strcmp(state->mount_flags, request->mount_flags) == 0 &&
           state->read_only == request->read_only;
}

/* The state folder was lost, but the mapping exists: what the kernel shows decides. */
static bool adopt(struct stage *s, const struct mount_entry *entry, bool is_here, struct error *err)
{
    if (s->view.device.read_only != s->worker->request->read_only || !is_here)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume is open, but staged in another way; unstage it first");
    if (is_any(s->worker->request))
        (void)snprintf(s->fs_type, sizeof(s->fs_type), "%s", entry->fs_type);
    return volume_resume(&s->worker->name, err) && save_state(s, true, err);
}

/* *done: the volume is staged as the caller wants it, mounted again if need be. Otherwise it is
 * dead, and must be opened anew. */
static bool restore(const struct stage *s, bool *done, struct error *err)
{
    const char *const except[] = { s->view.state.staging_path, NULL };
    struct error published = ERROR_INIT;

    *done = staged_ensure_mounted(s->worker, &s->view, err);
    return *done || (staged_is_dead(err) &&
                     staged_check_unpublished(s->worker, &s->view, except, NULL, &published));
}

/* *done: the volume is staged as the caller wants it. When *done is false, nothing of it is in
 * use. */
static bool look_for_stage(struct stage *s, bool *done, struct error *err)
{
    struct stage_view *view = &s->view;
    struct mount_entry entry = { .device = 0 };

    *done = false;
    if (!staged_look(s->worker, view, err))
        return false;
    if (!view->found)
        return true;
    bool is_here = is_raw(s->worker->request);
    if (!is_here && !staged_find_mount(s->place.path, view->device.number, &is_here, &entry, err))
        return false;
    if (view->known && view->state.complete && !is_same(s))
        return error_set(err, ERROR_ALREADY_EXISTS,
                         "the volume is staged with another path, file system or access mode");
    if (!view->known && !adopt(s, &entry, is_here, err))
        return false;
    return !view->state.complete || restore(s, done, err);
}

/* A volume that is made for a file system is given out as raw block, for writing only: somebody brings
 * a file system along. It is mounted as what the record says, and only if it is that. */
static bool is_brought(const struct stage *s)
{
    const struct block_request *request = s->worker->request;

    return is_raw(request) && !request->read_only && s->record.spec.fs_type[0] != 0;
}

/* Checks the requested content against the record, which says what the volume holds. The request
 * may leave the file system open. */
static bool settle_content(struct stage *s, struct error *err)
{
    const struct block_request *request = s->worker->request;
    const char *made_for = s->record.spec.fs_type;
    bool fits = is_any(request) ? made_for[0] != 0 : strcmp(made_for, request->fs_type) == 0;

    if (is_brought(s))
        return true; /* fs_type stays "" */
    if (!fits)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the volume was made for %s, not %s",
                         made_for[0] ? made_for : "raw block",
                         is_raw(request)   ? "raw block"
                         : is_any(request) ? "a file system"
                                           : request->fs_type);
    (void)snprintf(s->fs_type, sizeof(s->fs_type), "%s", made_for);
    if (!made_for[0])
        return true;
    const char *own = filesystem_mount_flags(made_for);
    return filesystem_check_type(made_for, err) &&
           (!own[0] || mount_options_add(&s->options, own, err));
}

static bool is_of(const struct stage_opening *opening, const struct record *record)
{
    return opening->is_set && bytes_are_equal(opening->record_id, record->id, RECORD_ID_LEN) &&
           opening->open_counter == record->open_counter;
}

/* What was kept is about another record of this name, or the volume was opened elsewhere since. */
static bool forget_end(struct stage *s, struct error *err)
{
    struct stage_opening *ended = &s->view.state.ended;

    if (!ended->is_set)
        return true;
    *ended = (struct stage_opening){ .is_set = false };
    return write_state(s, err);
}

/* The state file knows how the last opening ended, and the broker does not yet. The disk is checked
 * as if the broker knew. */
static bool use_kept_end(struct stage *s, struct error *err)
{
    const struct stage_file *state = &s->view.state;
    struct record *record = &s->record;

    if (!is_of(&state->ended, record))
        return forget_end(s, err);
    record->is_closed = record->is_closed || state->end.is_marked;
    if (!record->has_clean_hash && state->end.has_hash) {
        record->has_clean_hash = true;
        memcpy(record->clean_hash, state->end.hash, SHA256_LEN);
    }
    return true;
}

/* The broker has counted this opening: how the one before ended is history. */
static bool save_opening(struct stage *s, const struct record *record, struct error *err)
{
    struct stage_file *state = &s->view.state;
    struct stage_opening opening = { .is_set = true, .open_counter = record->open_counter };

    memcpy(opening.record_id, record->id, RECORD_ID_LEN);
    bool saved = close_key_derive(&s->secrets.own, record, opening.close_key, err);
    if (saved) {
        state->opening = opening;
        state->ended = (struct stage_opening){ .is_set = false };
        saved = write_state(s, err);
    }
    bytes_wipe(opening.close_key, CLOSE_KEY_LEN);
    return saved;
}

static bool keep_change(void *cookie, const struct record_change *change, struct record *record,
                        struct error *err)
{
    struct stage *s = cookie;

    return worker_ask_change(s->worker, change, NULL, record, err) &&
           (change->kind != RECORD_CHANGE_OPENED || save_opening(s, record, err));
}

static bool activate(struct stage *s, struct error *err)
{
    struct record_keeper keeper = { .change = keep_change, .cookie = s };
    struct volume_opening opening = {
        .device_path = s->raw.path,
        .device_name = s->raw.name,
        .record = &s->record,
        .secret = &s->secrets.own,
        .next_secret = &s->secrets.next,
        .keeper = &keeper,
    };
    auto_loop struct loop_device overlay = LOOP_DEVICE_INIT;

    if (s->worker->request->read_only) {
        if (!loop_attach_memory(volume_overlay_bytes(&s->record.spec), &overlay, err))
            return false;
        opening.overlay_path = overlay.path;
    }
    return volume_activate(&s->worker->name, &opening, &s->device, &s->closing, err);
}

/* A device that may leave this node is held before the key is asked for. So the key is used on the
 * device that was attached here when the broker gave it, or not at all: the device goes first, then
 * another node gets the key, and a device that comes back is another one. */
static bool hold_device(struct stage *s, bool *found, struct error *why, struct error *err)
{
    if (!space_device_find_place(s->worker, found, err))
        return false;
    if (*found && !space_device.attach(s->worker, s->worker->request->read_only, &s->raw, why))
        log_debug("the device is not to be had", ERROR_FIELDS(why));
    return true;
}

static bool attach_space(struct stage *s, bool has_place, const struct error *why,
                         struct error *err)
{
    if (!space_find(s->record.spec.backing, &s->space, err))
        return false;
    if (s->space == &space_device && has_place && s->raw.fd < 0) {
        *err = *why;
        return false;
    }
    if (s->space == &space_device && has_place)
        return true;
    raw_device_release(&s->raw);
    return s->space->attach(s->worker, s->worker->request->read_only, &s->raw, err);
}

static bool open_volume(struct stage *s, struct error *err)
{
    struct error why = ERROR_INIT;
    bool has_place = false;

    if (!hold_device(s, &has_place, &why, err) ||
        !worker_ask_open(s->worker, &s->record, &s->secrets, err))
        return false;
    s->asked = true;
    if (!use_kept_end(s, err) || !settle_content(s, err) || !attach_space(s, has_place, &why, err))
        return false;
    FAULT_POINT("worker.stage.attached");
    return activate(s, err);
}

static bool note_filesystem(struct stage *s, struct error *err)
{
    struct record_keeper keeper = { .change = keep_change, .cookie = s };

    return volume_filesystem_made(&s->worker->name, &s->record, &s->secrets.own, &keeper,
                                  &s->closing, err);
}

static bool note_brought(struct stage *s, struct error *err)
{
    struct record_keeper keeper = { .change = keep_change, .cookie = s };

    FAULT_POINT("worker.stage.brought");
    return volume_filesystem_brought(&s->worker->name, &s->record, &s->secrets.own, &keeper,
                                     &s->closing, err);
}

/* Until volume_filesystem_made() there is no user data, so the file system is made again. */
static bool make_filesystem(struct stage *s, struct error *err)
{
    const struct block_request *request = s->worker->request;

    if (request->read_only && !is_raw(request))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the volume has no file system yet: stage it once for writing");
    if (request->read_only)
        return true;
    FAULT_POINT("worker.stage.mkfs");
    if (!is_raw(request) &&
        !filesystem_make(s->fs_type, s->device.path, worker_left_ms(s->worker), err))
        return false;
    FAULT_POINT("worker.stage.made");
    return note_filesystem(s, err);
}

/* The volume is larger than when this was done last: the first stage of a copy into a larger claim, or
 * the first after a growth in use, which may have been interrupted. */
static bool grow_filesystem(struct stage *s, struct error *err)
{
    uint64_t bytes = s->device.filesystem_bytes;

    if (s->options.read_only || bytes == 0 || bytes >= s->device.size_bytes)
        return true;
    FAULT_POINT("worker.stage.grow");
    return filesystem_grow(s->fs_type, s->device.path, s->place.path, worker_left_ms(s->worker),
                           err) &&
           note_filesystem(s, err);
}

static bool mount_volume(struct stage *s, struct error *err)
{
    const struct block_request *request = s->worker->request;

    if (is_brought(s))
        return note_brought(s, err);
    if (s->device.filesystem_bytes == 0 && !make_filesystem(s, err))
        return false;
    return is_raw(request) || (staged_mount(s->worker, s->device.path, s->fs_type, &s->options,
                                            !request->read_only, &s->place, err) &&
                               grow_filesystem(s, err));
}

/* *told: the broker has signed that it knows how this opening ended. */
static bool ask_closed(struct worker *worker, const struct stage_file *state, bool *told,
                       struct error *err)
{
    static const struct record_change bare = { .kind = RECORD_CHANGE_CLOSED };
    static struct record record;
    struct record_change change = { .kind = RECORD_CHANGE_CLOSED,
                                    .is_closed = state->end.is_marked,
                                    .has_clean_hash = state->end.has_hash };

    memcpy(change.clean_hash, state->end.hash, SHA256_LEN);
    if (!state->ended.is_set || (!change.is_closed && !change.has_clean_hash))
        return worker_ask_change(worker, &bare, NULL, NULL, err);
    if (worker_ask_change(worker, &change, state->ended.close_key, &record, err)) {
        *told = is_of(&state->ended, &record);
        return true;
    }
    return strcmp(err->reason, PROOF_REASON) == 0 &&
           worker_ask_change(worker, &bare, NULL, NULL, err);
}

/* The volume closes without the broker, too: then the end stays in the state file, and the next
 * operation tells it. False only when the front is gone. Without the key of this opening, or when
 * the broker refuses the proof, the lease is given back without a word on how the volume was
 * closed. */
static bool tell_closed(struct worker *worker, const struct stage_file *state, bool *told,
                        struct error *err)
{
    struct error refusal = ERROR_INIT;

    if (ask_closed(worker, state, told, &refusal))
        return true;
    if (refusal.code == ERROR_CANCELLED) {
        *err = refusal;
        return false;
    }
    log_debug("the close is not on record", TEXT("volume", worker->request->volume_id),
              ERROR_FIELDS(&refusal));
    return true;
}

/* Nothing shall wait for a device that is gone. And when the lease is over, what was not written must not be
 * written any more: another node may have the volume. */
static void let_go(const struct worker *worker)
{
    const struct volume_name *name = &worker->name;
    struct error ignored = ERROR_INIT;
    bool surely = false, is_gone = volume_raw_is_gone(name, &surely) && surely;

    if ((is_gone || lease_file_is_over(worker->config->state_dir, name)) &&
        !volume_fail(name, &ignored))
        log_debug("a layer of a volume that is lost stays", ERROR_FIELDS(&ignored));
}

/* Unmounts the volume, and removes what may be left of it. Each step is skipped when it was done
 * before, so this can be repeated after any crash. */
static bool end_volume(struct worker *worker, struct stage_view *view, const char *path,
                       struct error *err)
{
    /* A worker that died may have left layers suspended: unmounting would hang. */
    struct error still = ERROR_INIT;

    let_go(worker);
    if (!volume_resume(&worker->name, &still))
        log_debug("a layer stays suspended", ERROR_FIELDS(&still));
    if (view->found && path[0] && !staged_unmount(worker, path, view->device.number, err))
        return false;
    FAULT_POINT("worker.unstage.unmounted");
    if (!staged_end(worker->config->state_dir, &worker->name, view, err) &&
        !(staged_take_away(worker, view, err) &&
          staged_end(worker->config->state_dir, &worker->name, view, err)))
        return false;
    FAULT_POINT("worker.unstage.deactivated");
    return true;
}

/* tell: the broker is told, which gets the lease back. */
static bool close_volume(struct worker *worker, struct stage_view *view, const char *path,
                         bool tell, struct error *err)
{
    static const struct stage_file nothing;
    bool told = false;

    if (!end_volume(worker, view, path, err))
        return false;
    bool is_kept = view->known && view->state.ended.is_set;
    bool was_read_only = view->found ? view->device.read_only : view->state.read_only;
    if (tell && (is_kept || !was_read_only) &&
        !tell_closed(worker, view->known ? &view->state : &nothing, &told, err))
        return false;
    FAULT_POINT("worker.unstage.closed");
    if (is_kept && !told)
        return true;
    return stage_file_remove(worker->config->state_dir, &worker->name, err);
}

static bool stage_anew(struct stage *s, struct error *err)
{
    /* A killed worker left the volume half-way: close it first. */
    if (s->view.known && !close_volume(s->worker, &s->view, s->view.state.staging_path, false, err))
        return error_wrap(err, "clean up after an interrupted operation");
    if (!is_raw(s->worker->request) && !held_path_make(&s->place, false, err))
        return error_wrap(err, "staging path");
    if (!worker_check(s->worker, err) || !save_state(s, false, err))
        return false;
    s->begun = true;
    if (!open_volume(s, err))
        return false;
    FAULT_POINT("worker.stage.activated");
    if (!worker_check(s->worker, err) || !staged_keep_lease(s->worker, err) ||
        !mount_volume(s, err))
        return false;
    FAULT_POINT("worker.stage.mounted");
    return save_state(s, true, err);
}

/* When something cannot be undone now, the next operation on the volume undoes it. An attempt that the
 * broker refused has built nothing: layers with the volume's name belong to another instance of the
 * driver, which the broker let open the volume. */
static void undo(struct stage *s)
{
    struct error ignored = ERROR_INIT;

    if (s->begun && !s->asked && s->view.state.ended.is_set)
        return;
    if (s->begun && !s->asked) {
        if (!stage_file_remove(s->worker->config->state_dir, &s->worker->name, &ignored))
            log_debug("the state of a refused attempt stays", ERROR_FIELDS(&ignored));
        return;
    }
    if (!staged_look(s->worker, &s->view, &ignored) || !s->view.known ||
        !close_volume(s->worker, &s->view, s->view.state.staging_path, s->asked, &ignored))
        return;
}

static bool run_stage(struct stage *s, struct block_result *out, struct error *err)
{
    if (!prepare(s, err) || !look_for_stage(s, &out->already, err))
        return false;
    if (!out->already && !stage_anew(s, err)) {
        undo(s);
        return false;
    }
    return true;
}

static void keep_holder(const struct stage_view *view, struct block_result *out)
{
    _Static_assert(MOUNT_HOLDER_LEN == BLOCK_HOLDER_MAX, "one text");
    memcpy(out->holder, view->holder, sizeof(out->holder));
}

bool operation_stage(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage s = { .place = HELD_PATH_INIT, .raw = RAW_DEVICE_INIT };

    s.worker = worker;
    bool done = run_stage(&s, out, err);
    keep_holder(&s.view, out);
    held_path_close(&s.place);
    raw_device_release(&s.raw);
    volume_secrets_wipe(&s.secrets);
    stage_file_wipe(&s.view.state);
    return done;
}

bool operation_unstage(struct worker *worker, struct block_result *out, struct error *err)
{
    static struct stage_view view;
    struct held_path place = HELD_PATH_INIT;
    struct error no_place = ERROR_INIT;

    if (!staged_look(worker, &view, err))
        return false;
    out->already = !view.known && !view.found;
    /* The folder may be gone, but what was mounted there must be closed all the same. */
    if (!staged_name_place(worker, KUBELET_STAGING | KUBELET_RAW_STAGING, worker->request->path,
                           &place, &no_place))
        place.path[0] = 0;
    if (view.known && view.state.complete && view.state.staging_path[0] &&
        strcmp(view.state.staging_path, place.path) != 0) {
        /* CSI NodeUnstageVolume: it is success when the volume is not staged at this path. */
        out->already = true;
        return true;
    }
    /* Go on even when nothing is known of the volume: layers may exist that were never exposed. */
    const char *path = view.known ? view.state.staging_path : place.path;
    if (view.found &&
        !staged_check_unpublished(worker, &view, (const char *const[]){ path, NULL }, NULL, err))
        return false;
    out->status.is_read_only = view.found ? view.device.read_only : view.state.read_only;
    bool done = worker_check(worker, err) && close_volume(worker, &view, path, !out->already, err);
    keep_holder(&view, out);
    stage_file_wipe(&view.state);
    return done && space_device_find_place(worker, &out->has_place, err);
}
