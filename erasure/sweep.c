/* SPDX-License-Identifier: Apache-2.0 */
#include "erasure/sweep.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/thread.h"
#include "erasure/note.h"
#include "lifecycle/lifecycle.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define PERIOD_MS 20000u
#define DUE_MAX   64 /* at once */

static_assert(PERIOD_MS < RETENTION_STEP_MAX_MS, "a clock that is asked in time loses nothing");

struct sweep {
    struct sweep_options options;
    struct stoppable loop;
    bool is_woken; /* under its lock, and the state */
    struct sweep_state state;
};

/* --- which --- */

struct sweep_found {
    struct sweep_state state;
    uint64_t clock_ms;
    uint64_t next_ms; /* the first that will be due; UINT64_MAX: none */
    struct store_retained due[DUE_MAX];
    size_t n_due;
    uint64_t skip,
        passed; /* of those that are due: how many stay, and how many this walk has met */
    const atomic_bool *is_ending; /* NULL: nobody ends it */
};

static bool count_one(void *cookie, const struct store_retained *r)
{
    struct sweep_found *f = cookie;

    f->state.waiting++;
    if (f->state.oldest_ms == 0 || r->deleted_ms < f->state.oldest_ms)
        f->state.oldest_ms = r->deleted_ms;
    return true;
}

static bool add_due(void *cookie, const struct store_retained *r)
{
    struct sweep_found *f = cookie;

    if (r->due_ms > f->clock_ms) {
        if (r->due_ms < f->next_ms)
            f->next_ms = r->due_ms;
    } else if (f->passed++ >= f->skip) {
        f->due[f->n_due++] = *r;
    }
    return f->n_due < DUE_MAX;
}

/* --- one record --- */

/* The line comes first: no key is destroyed that is not in the log. */
static bool write_line(const struct sweep_options *o, const struct record *next,
                       struct store_head *head, struct error *err)
{
    char id[2 * RECORD_ID_LEN + 1], destroyed[ERASURE_TEXT_LEN];

    hex_encode(next->id, RECORD_ID_LEN, id);
    erasure_text(next, destroyed);
    const struct log_field fields[] = {
        TEXT("event", "retention-over"),
        TEXT("tenant", next->tenant),
        TEXT("driver", next->driver),
        TEXT("volume", next->volume_id),
        TEXT("record", id),
        TEXT("destroyed", destroyed),
        TEXT("phase", record_phase_name(next->phase)),
        NUMBER("version", next->version),
    };

    return audit_write(o->audit, fields, ARRAY_LEN(fields), head, err);
}

static bool erase(const struct sweep_options *o, const struct record *before, struct record *next,
                  struct error *err)
{
    const struct erasure_place place = { o->store, o->keyring, o->replica, o->now_ms() };
    char by[2 * DESTROYED_BY_MAX];
    struct store_head head;
    const struct store_change change = { .next = next,
                                         .expected_version = before->version,
                                         .head = &head };
    bool changed = false;

    *next = *before;
    (void)snprintf(by, sizeof(by), "end of retention, deleted by %s", before->retained.by);
    if (!record_erase_retained(next, &changed, err))
        return false;
    next->version++;
    if (!erasure_note(&place, by, before, next, err) || !write_line(o, next, &head, err))
        return false;
    record_note_line(next, head.seq);
    FAULT_POINT("broker.retention.before-commit");
    if (!o->store->ops->swap(o->store, &change, err))
        return false;
    FAULT_POINT("broker.retention.after-commit");
    log_info("the key of a deleted volume is destroyed", TEXT("volume", next->volume_id));
    return true;
}

/* Another broker may have been faster, or somebody has brought the volume back. The record says when it is due,
 * whatever the list says. *stays: it is in the list yet. */
static bool erase_due(const struct sweep_options *o, const struct store_retained *due,
                      uint64_t clock_ms, bool *stays, struct error *err)
{
    const struct store_name name = { due->tenant, due->driver, due->volume_id };
    struct record *records = calloc(2, sizeof(*records)); /* large */

    *stays = true;
    if (!records)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    bool ok = o->store->ops->get(o->store, &name, &records[0], err);

    if (ok && record_is_due(&records[0], clock_ms)) {
        ok = erase(o, &records[0], &records[1], err);
        *stays = !ok;
    }
    free(records);
    return ok || err->code == ERROR_ABORTED || err->code == ERROR_NOT_FOUND;
}

/* --- all of them --- */

/* One record that cannot be erased keeps no other one: the first problem is told. */
static void erase_all(const struct sweep_options *o, struct sweep_found *f, struct error *err)
{
    for (size_t i = 0; i < f->n_due; i++) {
        struct error problem = ERROR_INIT;
        bool stays = false;

        if (!erase_due(o, &f->due[i], f->clock_ms, &stays, &problem) && err->code == ERROR_NONE)
            *err = problem;
        f->skip += stays;
    }
}

/* What stays must not hide what comes after it. */
static bool erase_in_parts(const struct sweep_options *o, struct sweep_found *f, struct error *err)
{
    struct error problem = ERROR_INIT;

    do {
        f->n_due = 0;
        f->passed = 0;
        if (!o->store->ops->each_retained(o->store, add_due, f, err))
            return false;
        erase_all(o, f, &problem);
    } while (f->n_due == DUE_MAX && !(f->is_ending && atomic_load(f->is_ending)));
    if (problem.code != ERROR_NONE)
        *err = problem;
    return problem.code == ERROR_NONE;
}

static bool look(const struct sweep_options *o, struct retention_clock *clock,
                 struct sweep_found *f, struct error *err)
{
    if (!o->store->ops->each_retained(o->store, count_one, f, err))
        return false;
    return f->state.waiting == 0 ||
           (retention_clock_tick(clock, o->store, o->steady_ms, &f->clock_ms, err) &&
            erase_in_parts(o, f, err));
}

static struct sweep_found *found_new(struct error *err)
{
    struct sweep_found *f = calloc(1, sizeof(*f));

    if (f)
        f->next_ms = UINT64_MAX;
    else
        error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    return f;
}

bool sweep_look(const struct sweep_options *options, struct retention_clock *clock,
                struct sweep_state *out, struct error *err)
{
    auto_free struct sweep_found *f = found_new(err);

    if (!f || !look(options, clock, f, err))
        return false;
    *out = f->state;
    return true;
}

/* --- the thread --- */

/* How long it may sleep. */
static uint64_t look_and_tell(struct sweep *w, struct retention_clock *clock)
{
    struct error err = ERROR_INIT;
    auto_free struct sweep_found *f = found_new(&err);
    uint64_t pause_ms = PERIOD_MS;

    if (f)
        f->is_ending = &w->loop.is_ending;
    bool ok = f && look(&w->options, clock, f, &err);

    if (!ok)
        log_warning("the keys of deleted volumes were not all looked at: it is tried again",
                    ERROR_FIELDS(&err));
    pthread_mutex_lock(&w->loop.lock);
    if (ok)
        w->state = f->state;
    else
        w->state.problem = err;
    pthread_mutex_unlock(&w->loop.lock);
    if (ok && f->next_ms != UINT64_MAX && f->next_ms - f->clock_ms < pause_ms)
        pause_ms = f->next_ms - f->clock_ms;
    return pause_ms;
}

/* True: the thread shall end. */
static bool wait_for(struct sweep *w, uint64_t pause_ms)
{
    uint64_t until_ms = clock_now_ms() + pause_ms;

    pthread_mutex_lock(&w->loop.lock);
    while (!w->loop.is_ending && !w->is_woken && clock_now_ms() < until_ms)
        condition_wait_until(&w->loop.changed, &w->loop.lock, until_ms);
    w->is_woken = false;
    bool ends = w->loop.is_ending;

    pthread_mutex_unlock(&w->loop.lock);
    return ends;
}

static void *work(void *cookie)
{
    struct sweep *w = cookie;
    struct retention_clock clock = { .has_seen = false };

    while (!wait_for(w, look_and_tell(w, &clock)))
        continue;
    return NULL;
}

bool sweep_start(const struct sweep_options *options, struct sweep **out, struct error *err)
{
    struct sweep *w = calloc(1, sizeof(*w));

    if (!w)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    w->options = *options;
    if (!stoppable_start(&w->loop, "retention", work, w, err)) {
        sweep_stop(&w);
        return false;
    }
    *out = w;
    return true;
}

void sweep_stop(struct sweep **sweep)
{
    struct sweep *w = *sweep;

    if (!w)
        return;
    stoppable_stop(&w->loop);
    free(w);
    *sweep = NULL;
}

void sweep_wake(struct sweep *sweep)
{
    pthread_mutex_lock(&sweep->loop.lock);
    sweep->is_woken = true;
    pthread_cond_broadcast(&sweep->loop.changed);
    pthread_mutex_unlock(&sweep->loop.lock);
}

void sweep_state(struct sweep *sweep, struct sweep_state *out)
{
    pthread_mutex_lock(&sweep->loop.lock);
    *out = sweep->state;
    pthread_mutex_unlock(&sweep->loop.lock);
}
