/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/sessions.h"

#include "attest/statement.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* When sessions are lost this soon twice in a row, the broker never had them. */
#define EARLY_MS 10000u

const struct session_pace session_pace_default = {
    .interval_ms = 1000,
    .setbacks = { [SETBACK_UNREACHABLE] = { 1000, 5000 },
                  [SETBACK_SOON] = { 2000, 10000 },
                  [SETBACK_REFUSED] = { 5000, 60000 } },
};

struct seat {               /* one address */
    struct session session; /* number 0: there is none */
    uint64_t made_ms, renew_ms, expires_ms;
    bool is_wanted;
    uint64_t n_attempts;  /* finished ones */
    struct error failure; /* of the last one */
    enum setback setback;
    unsigned n_failures, n_early_losses; /* in a row */
    uint64_t not_before_ms;
};

struct sessions {
    struct session_options options;
    pthread_t thread;
    bool is_started;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool is_ending;
    uint64_t n_made;
    size_t in_use, n_waiting;
    struct seat seats[];
};

bool sessions_new(const struct session_options *options, struct sessions **out, struct error *err)
{
    struct sessions *s = calloc(1, sizeof(*s) + options->n * sizeof(s->seats[0]));

    if (!s)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for sessions");
    s->options = *options;
    (void)pthread_mutex_init(&s->lock, NULL);
    condition_init(&s->changed);
    *out = s;
    return true;
}

void sessions_free(struct sessions *s)
{
    if (!s)
        return;
    sessions_stop(s);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- under the lock --- */

static bool is_good(const struct seat *seat, uint64_t now_ms)
{
    return seat->session.number != 0 && now_ms < seat->expires_ms;
}

/* When to attest next; UINT64_MAX: not before a call wants a session. */
static uint64_t due_ms(const struct sessions *s, const struct seat *seat, uint64_t now_ms)
{
    bool is_in_use = seat == &s->seats[s->in_use];
    uint64_t at_ms = 0;

    if (is_good(seat, now_ms))
        at_ms = is_in_use ? seat->renew_ms : UINT64_MAX;
    else if (!is_in_use && !seat->is_wanted)
        at_ms = UINT64_MAX;
    return at_ms > seat->not_before_ms ? at_ms : seat->not_before_ms;
}

static void wait_until(struct sessions *s, uint64_t until_ms)
{
    condition_wait_until(&s->changed, &s->lock, until_ms);
}

static enum setback classify(const struct error *err)
{
    static const struct row {
        enum error_code code;
        const char *reason; /* NULL: any */
        enum setback setback;
    } rows[] = {
        { ERROR_UNAVAILABLE, "CollateralMissing", SETBACK_SOON },
        { ERROR_UNAVAILABLE, "QuoteUnavailable", SETBACK_SOON },
        { ERROR_UNAVAILABLE, BROKER_EVIDENCE_REASON, SETBACK_REFUSED },
        { ERROR_UNAVAILABLE, NULL, SETBACK_UNREACHABLE },
        { ERROR_DEADLINE_EXCEEDED, NULL, SETBACK_UNREACHABLE },
        { ERROR_UNAUTHENTICATED, NULL, SETBACK_SOON }, /* the nonce was too old */
        { ERROR_RESOURCE_EXHAUSTED, NULL, SETBACK_SOON },
        { ERROR_ABORTED, NULL, SETBACK_SOON },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].code == err->code &&
            (!rows[i].reason || strcmp(rows[i].reason, err->reason) == 0))
            return rows[i].setback;
    return SETBACK_REFUSED;
}

static void set_back(struct sessions *s, struct seat *seat, enum setback setback,
                     const struct error *why)
{
    uint64_t wait_ms = s->options.pace->setbacks[setback].first_ms;
    uint64_t limit_ms = s->options.pace->setbacks[setback].limit_ms;

    if (setback != seat->setback)
        seat->n_failures = 0; /* another kind of failure: its waits start from the first */
    for (unsigned i = 0; i < seat->n_failures && wait_ms < limit_ms; i++)
        wait_ms *= 2;
    seat->n_failures++;
    seat->setback = setback;
    seat->failure = *why;
    seat->not_before_ms = clock_now_ms() + (wait_ms < limit_ms ? wait_ms : limit_ms);
}

static void settle(struct sessions *s, struct seat *seat, const struct attested *attested)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = attested->expires_ms > now_ms ? attested->expires_ms - now_ms : 0;

    seat->session.number = ++s->n_made;
    memcpy(seat->session.broker_key_sha256, attested->broker_key_sha256, KEY_SHA256_LEN);
    seat->made_ms = now_ms;
    seat->expires_ms = attested->expires_ms;
    seat->renew_ms = now_ms + left_ms / 3 * 2;
    seat->failure = (struct error)ERROR_INIT;
    seat->n_failures = 0;
    seat->not_before_ms = now_ms + s->options.pace->interval_ms;
}

/* --- the thread --- */

static void report(struct sessions *s, size_t i, const struct attested *attested,
                   const struct error *err, bool is_news)
{
    const char *address = s->options.routes[i].address;
    const char *word = err->reason[0] != '\0' ? err->reason : error_code_name(err->code);

    if (attested) {
        uint64_t now_ms = clock_now_ms();
        uint64_t left_ms = attested->expires_ms > now_ms ? attested->expires_ms - now_ms : 0;

        metrics_attested(s->options.metrics, "ok");
        metrics_session(s->options.metrics, address, attested->expires_ms);
        log_info("attested", TEXT("broker", address), TEXT("tenant", attested->tenant),
                 TEXT("rule", attested->rule), NUMBER("seconds", left_ms / 1000));
        return;
    }
    metrics_attested(s->options.metrics, word);
    log_at(is_news ? LOG_WARNING : LOG_DEBUG, "not attested", TEXT("broker", address),
           ERROR_FIELDS(err));
}

/* Releases the lock while the attestation runs. */
static void attest(struct sessions *s, size_t i)
{
    struct seat *seat = &s->seats[i];
    struct attested attested;
    struct error err = ERROR_INIT, before = seat->failure;

    seat->is_wanted = false;
    (void)pthread_mutex_unlock(&s->lock);
    bool done = attestation_run(s->options.attestation, &s->options.routes[i], &attested, &err);
    bool is_news = before.code != err.code || strcmp(before.reason, err.reason) != 0;
    report(s, i, done ? &attested : NULL, &err, is_news);
    (void)pthread_mutex_lock(&s->lock);
    seat->n_attempts++;
    if (done)
        settle(s, seat, &attested);
    else
        set_back(s, seat, classify(&err), &err);
    (void)pthread_cond_broadcast(&s->changed);
}

static void *work(void *cookie)
{
    struct sessions *s = cookie;

    (void)pthread_mutex_lock(&s->lock);
    while (!s->is_ending) {
        uint64_t now_ms = clock_now_ms(), next_ms = UINT64_MAX;
        size_t next = 0;

        for (size_t i = 0; i < s->options.n; i++) {
            uint64_t at_ms = due_ms(s, &s->seats[i], now_ms);

            if (at_ms < next_ms) {
                next = i;
                next_ms = at_ms;
            }
        }
        if (next_ms <= now_ms)
            attest(s, next);
        else
            wait_until(s, next_ms);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return NULL;
}

bool sessions_start(struct sessions *s, struct error *err)
{
    s->is_started = thread_start(&s->thread, "attestation", work, s, err);
    return s->is_started;
}

void sessions_end(struct sessions *s)
{
    (void)pthread_mutex_lock(&s->lock);
    s->is_ending = true;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

void sessions_stop(struct sessions *s)
{
    if (!s->is_started)
        return;
    sessions_end(s);
    (void)pthread_join(s->thread, NULL);
    s->is_started = false;
}

/* --- for calls --- */

static bool is_hopeless(const struct seat *seat, uint64_t n_attempts, uint64_t now_ms)
{
    bool has_just_failed = seat->n_attempts != n_attempts;

    return seat->failure.code != ERROR_NONE && seat->setback != SETBACK_SOON &&
           (has_just_failed || now_ms < seat->not_before_ms);
}

static bool not_yet(const struct seat *seat, struct error *err)
{
    if (seat->failure.code == ERROR_NONE)
        return error_set(err, ERROR_UNAVAILABLE, "the attestation is under way; retry");
    *err = seat->failure;
    err->code = ERROR_UNAVAILABLE;
    return error_wrap(err, "not attested yet");
}

static bool wait_session(struct sessions *s, size_t i, uint64_t until_ms, struct error *err)
{
    struct seat *seat = &s->seats[i];
    uint64_t n_attempts = seat->n_attempts;

    for (;;) {
        uint64_t now_ms = clock_now_ms();

        if (is_good(seat, now_ms)) {
            s->in_use = i;
            return true;
        }
        if (is_hopeless(seat, n_attempts, now_ms)) {
            *err = seat->failure;
            return error_wrap(err, "not attested");
        }
        if (!seat->is_wanted)
            (void)pthread_cond_broadcast(&s->changed);
        seat->is_wanted = true;
        if (s->is_ending || now_ms >= until_ms || s->n_waiting >= s->options.waiting_max)
            return not_yet(seat, err);
        s->n_waiting++;
        wait_until(s, until_ms);
        s->n_waiting--;
    }
}

bool sessions_get(struct sessions *s, size_t i, uint64_t until_ms, struct session *out,
                  struct error *err)
{
    (void)pthread_mutex_lock(&s->lock);
    bool found = wait_session(s, i, until_ms, err);
    if (found)
        *out = s->seats[i].session;
    (void)pthread_mutex_unlock(&s->lock);
    return found;
}

void sessions_lost(struct sessions *s, size_t i, uint64_t number, const struct error *why)
{
    struct seat *seat = &s->seats[i];
    uint64_t now_ms = clock_now_ms();

    (void)pthread_mutex_lock(&s->lock);
    if (seat->session.number == number) {
        bool is_early = now_ms - seat->made_ms < EARLY_MS;

        seat->session.number = 0;
        seat->n_early_losses = is_early ? seat->n_early_losses + 1 : 0;
        metrics_session(s->options.metrics, s->options.routes[i].address, 0);
        log_info("the session is over", TEXT("broker", s->options.routes[i].address),
                 ERROR_FIELDS(why));
        if (seat->n_early_losses > 1) {
            seat->n_failures = seat->n_early_losses - 2;
            seat->setback = SETBACK_REFUSED;
            set_back(s, seat, SETBACK_REFUSED, why);
        }
        (void)pthread_cond_broadcast(&s->changed);
    }
    (void)pthread_mutex_unlock(&s->lock);
}
