/* SPDX-License-Identifier: Apache-2.0 */
#include "collateral/collaterals.h"

#include "attest/reason.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "collateral/collaterals_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define UNKNOWN_PER_MINUTE 6
#define POLL_MS            60000u
#define WARN_AGAIN_MS      (24u * 3600u * 1000u)
#define CLOCK_MARK_LEN     128
#define CLOCK_BEHIND_S     300u
#define CLOCK_RECORD_S     60u
#define MS_PER_S           1000u
#define RETRY_MS_MAX       (2u * 3600u * 1000u) /* later: the clock was set back */

/* --- refreshing --- */

/* Whether to ask the service now. */
static bool is_due(const struct collaterals *c, const struct collaterals_known *e)
{
    uint64_t now_ms = c->options.now_ms();

    if (!c->options.pcs)
        return false;
    if (now_ms < e->not_before_ms && e->not_before_ms - now_ms <= RETRY_MS_MAX)
        return false;
    return e->held ? collateral_age_at(e->held->issued, e->held->next_update,
                                       collaterals_now_s(c)) >= COLLATERAL_HALF
                   : e->is_wanted;
}

/* Sets the time of the next attempt, and the problem to show. */
static void note_attempt(struct collaterals *c, const uint8_t *fmspc, enum pck_ca ca,
                         const struct error *err)
{
    uint32_t random = 0;
    struct error ignored = ERROR_INIT;

    if (!random_bytes(&random, sizeof(random), &ignored))
        random = 0;
    COLLATERALS_LOCKED(&c->lock);
    struct collaterals_known *e = collaterals_find(c, fmspc, ca);
    if (!e)
        return;
    e->is_wanted = false;
    if (err) {
        e->failures++;
        e->not_before_ms = c->options.now_ms() + collateral_retry_ms(e->failures, random);
        (void)snprintf(e->problem, sizeof(e->problem), "%.*s", (int)sizeof(e->problem) - 1,
                       err->text);
        return;
    }
    e->failures = 0;
    e->problem[0] = '\0';
    e->not_before_ms =
        c->options.now_ms() +
        collateral_settle_ms(e->held ? e->held->next_update : 0, collaterals_now_s(c));
}

static void fetch(struct collaterals *c, const uint8_t *fmspc, enum pck_ca ca)
{
    auto_collateral_set struct collateral_set set = { .ca = ca };
    struct error err = ERROR_INIT;
    bool is_new = false;
    char platform[COLLATERALS_NAME_BYTES];

    if (!pcs_fetch(&c->pcs, fmspc, ca, &set, &err)) {
        if (atomic_load(&c->is_stopping))
            return;
        collaterals_name(fmspc, ca, platform);
        log_warning("collateral not fetched", TEXT("platform", platform), ERROR_FIELDS(&err));
        note_attempt(c, fmspc, ca, &err);
        return;
    }
    if (!collaterals_take(c, &set, c->pcs.url, &is_new, &err)) {
        note_attempt(c, fmspc, ca, &err);
        return;
    }
    note_attempt(c, fmspc, ca, NULL);
    if (is_new)
        collaterals_write_cache(c, &set);
}

/* Warns of a set that gets old: once when it does, then daily. */
static void warn_of_age(struct collaterals *c, struct collaterals_known *e)
{
    uint64_t now_ms = c->options.now_ms();
    char platform[COLLATERALS_NAME_BYTES], date[CLOCK_TEXT_LEN];

    if (!e->held)
        return;
    enum collateral_age age =
        collateral_age_at(e->held->issued, e->held->next_update, collaterals_now_s(c));
    if (age < COLLATERAL_LATE || (age == e->said && now_ms - e->said_ms < WARN_AGAIN_MS))
        return;
    e->said = age;
    e->said_ms = now_ms;
    collaterals_name(e->fmspc, e->ca, platform);
    clock_text((uint64_t)e->held->next_update * MS_PER_S, date);
    log_at(age == COLLATERAL_EXPIRED ? LOG_ERROR : LOG_WARNING,
           age == COLLATERAL_EXPIRED ? "collateral expired: this platform's quotes are refused"
                                     : "collateral expires soon and was not renewed",
           TEXT("platform", platform), TEXT("next_update", date), TEXT("problem", e->problem));
}

/* Finds a set to fetch now. */
static bool next_due(struct collaterals *c, uint8_t fmspc[static FMSPC_LEN], enum pck_ca *ca)
{
    COLLATERALS_LOCKED(&c->lock);
    for (size_t i = 0; i < c->n; i++) {
        if (!is_due(c, &c->entries[i]))
            continue;
        memcpy(fmspc, c->entries[i].fmspc, FMSPC_LEN);
        *ca = c->entries[i].ca;
        return true;
    }
    return false;
}

void collaterals_refresh(struct collaterals *c)
{
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca = PCK_CA_PLATFORM;

    /* Each attempt sets a later time for the next one, so this loop ends. */
    while (!atomic_load(&c->is_stopping) && next_due(c, fmspc, &ca))
        fetch(c, fmspc, ca);
    COLLATERALS_LOCKED(&c->lock);
    for (size_t i = 0; i < c->n; i++)
        warn_of_age(c, &c->entries[i]);
}

static void *refresh_thread(void *cookie)
{
    struct collaterals *c = cookie;

    while (!atomic_load(&c->is_stopping)) {
        bool is_any_due = false;

        collaterals_refresh(c);
        COLLATERALS_LOCKED(&c->lock);
        for (size_t i = 0; i < c->n; i++)
            is_any_due = is_any_due || is_due(c, &c->entries[i]);
        if (!is_any_due && !atomic_load(&c->is_stopping))
            condition_wait_until(&c->wake, &c->lock, clock_now_ms() + POLL_MS);
    }
    return NULL;
}

static bool is_cancelled(void *cookie)
{
    return atomic_load(&((struct collaterals *)cookie)->is_stopping);
}

/* --- for the broker --- */

static bool prepare(struct collaterals *c, const struct collaterals_options *options,
                    struct error *err)
{
    if (options->pcs) {
        c->pcs = *options->pcs;
        c->pcs.is_cancelled = is_cancelled;
        c->pcs.cookie = c;
        if (!pcs_options_check(&c->pcs, err))
            return false;
    }
    if (!file_make_dirs(options->cache_dir, 0700, err))
        return error_wrap(err, "collateral cache");
    collaterals_load_cache(c);
    return collaterals_reload(c, err);
}

bool collaterals_new(const struct collaterals_options *options, struct collaterals **out,
                     struct error *err)
{
    struct collaterals *c = calloc(1, sizeof(*c));

    if (!c)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for collateral");
    c->options = *options;
    pthread_mutex_init(&c->accepting, NULL);
    pthread_mutex_init(&c->lock, NULL);
    condition_init(&c->wake);
    if (!prepare(c, options, err)) {
        collaterals_free(c);
        return false;
    }
    *out = c;
    return true;
}

bool collaterals_start(struct collaterals *c, struct error *err)
{
    c->has_thread = thread_start(&c->thread, "collateral", refresh_thread, c, err);
    return c->has_thread;
}

static void stop_thread(struct collaterals *c)
{
    atomic_store(&c->is_stopping, true);
    if (!c->has_thread)
        return;
    pthread_mutex_lock(&c->lock);
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
}

void collaterals_free(struct collaterals *c)
{
    if (!c)
        return;
    stop_thread(c);
    for (size_t i = 0; i < c->n; i++)
        collaterals_held_put(c->entries[i].held);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->accepting);
    free(c);
}

static const struct collateral *take_reference(struct collaterals *c, const uint8_t *fmspc,
                                               enum pck_ca ca)
{
    COLLATERALS_LOCKED(&c->lock);
    struct collaterals_known *e = collaterals_find(c, fmspc, ca);
    if (!e || !e->held)
        return NULL;
    atomic_fetch_add(&e->held->references, 1);
    return &e->held->collateral;
}

/* Counts the requests for unknown platforms in each minute. */
static bool may_ask_for_unknown(struct collaterals *c)
{
    uint64_t minute = c->options.now_ms() / (60u * MS_PER_S);

    if (minute != c->minute) {
        c->minute = minute;
        c->unknown_in_minute = 0;
    }
    return c->unknown_in_minute++ < UNKNOWN_PER_MINUTE;
}

static bool missing(struct error *err, enum error_code code, const char *platform, const char *why)
{
    return error_set_reason(err, code, attest_reason_name(REASON_COLLATERAL_MISSING),
                            "there is no collateral for platform %s: %s", platform, why);
}

/* Tells the thread to fetch a set. Always false; err is for the client. */
static bool ask_for(struct collaterals *c, const uint8_t *fmspc, enum pck_ca ca, struct error *err)
{
    char platform[COLLATERALS_NAME_BYTES], problem[320];

    collaterals_name(fmspc, ca, platform);
    COLLATERALS_LOCKED(&c->lock);
    struct collaterals_known *e = collaterals_find(c, fmspc, ca);
    if (!e && !may_ask_for_unknown(c))
        return missing(err, ERROR_UNAVAILABLE, platform,
                       "clients ask for too many unknown platforms: try again in a minute");
    if (!e && !(e = collaterals_add(c, fmspc, ca)))
        return missing(err, ERROR_UNAVAILABLE, platform, "the broker's table of platforms is full");
    e->is_wanted = true;
    pthread_cond_signal(&c->wake);
    (void)snprintf(problem, sizeof(problem), "it is being fetched%s%s",
                   e->problem[0] ? " again, after this error: " : "", e->problem);
    return missing(err, ERROR_UNAVAILABLE, platform, problem);
}

bool collaterals_get(struct collaterals *c, const struct quote *quote,
                     const struct collateral **out, struct error *err)
{
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca = PCK_CA_PLATFORM;
    char platform[COLLATERALS_NAME_BYTES];

    if (!collateral_set_needed(quote, fmspc, &ca, err))
        return false;
    const struct collateral *found = take_reference(c, fmspc, ca);
    if (found) {
        *out = found;
        return true;
    }
    collaterals_name(fmspc, ca, platform);
    if (!c->options.pcs)
        return missing(err, ERROR_FAILED_PRECONDITION, platform,
                       "add it to the broker's bundle (tdvolctl collateral fetch)");
    return quote_chain_check_genuine(quote, c->options.root, err) && ask_for(c, fmspc, ca, err);
}

void collaterals_put(struct collaterals *c UNUSED, const struct collateral *collateral)
{
    /* collaterals_get lent the first member of a struct collaterals_held. */
    collaterals_held_put((struct collaterals_held *)(uintptr_t)collateral);
}

const char *collaterals_bundle(const struct collateral *collateral)
{
    return ((const struct collaterals_held *)(const void *)collateral)->bundle;
}

void collaterals_visit(struct collaterals *c,
                       void (*visit)(void *cookie, const struct collaterals_entry *entry),
                       void *cookie)
{
    COLLATERALS_LOCKED(&c->lock);
    for (size_t i = 0; i < c->n; i++) {
        const struct collaterals_known *e = &c->entries[i];
        struct collaterals_entry shown = { .ca = e->ca, .fetched = e->fetched };

        memcpy(shown.fmspc, e->fmspc, FMSPC_LEN);
        memcpy(shown.problem, e->problem, sizeof(shown.problem));
        if (e->held) {
            shown.issued = e->held->issued;
            shown.next_update = e->held->next_update;
            shown.evaluation_number = e->held->collateral.tcb.evaluation_number;
        }
        visit(cookie, &shown);
    }
}

/* Each replica guards its own clock. With one mark for all, one that was ahead once would stop the rest. */
static void clock_mark(const char *replica, char out[static CLOCK_MARK_LEN])
{
    (void)snprintf(out, CLOCK_MARK_LEN, "clock%s%s", replica ? "." : "", replica ? replica : "");
}

bool collaterals_check_clock(struct collaterals *c, struct error *err)
{
    uint64_t now = c->options.now_ms() / MS_PER_S;
    char name[CLOCK_MARK_LEN];

    clock_mark(c->options.replica, name);
    COLLATERALS_LOCKED(&c->lock);
    if (now >= c->clock_recorded_s + CLOCK_RECORD_S || c->clock_recorded_s == 0) {
        if (!c->options.store->ops->raise(c->options.store, name, now, &c->clock_highest_s, err))
            return error_wrap(err, "record the time");
        c->clock_recorded_s = now;
    }
    if (now + CLOCK_BEHIND_S >= c->clock_highest_s)
        return true;
    (void)attest_refuse(err, REASON_CLOCK_ROLLED_BACK,
                        "the broker's clock is %" PRIu64 " s behind the latest recorded time: "
                        "correct the clock, or see docs/collateral.md",
                        c->clock_highest_s - now);
    err->code = ERROR_UNAVAILABLE; /* another replica's clock may be right */
    return false;
}
