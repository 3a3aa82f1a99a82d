/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checkup.h"

#include "base/clock.h"
#include "base/thread.h"

#include <inttypes.h>
#include <stdlib.h>

struct checkup {
    struct checkup_options options;
    pthread_t thread;
    bool has_ended;       /* the thread; of the owner alone */
    pthread_mutex_t lock; /* protects all members below */
    pthread_cond_t wake;
    bool is_ending, is_running, has_result;
    uint64_t begun_ms, ended_ms; /* of the last check */
    struct error result;         /* code ERROR_NONE: it holds */
};

static void keep(struct checkup *checkup, const struct error *result)
{
    checkup->is_running = false;
    checkup->has_result = true;
    checkup->ended_ms = clock_now_ms();
    checkup->result = *result;
}

static void *run(void *cookie)
{
    struct checkup *checkup = cookie;
    const struct checkup_options *o = &checkup->options;

    (void)pthread_mutex_lock(&checkup->lock);
    while (!checkup->is_ending) {
        struct error result = ERROR_INIT;

        checkup->is_running = true;
        checkup->begun_ms = clock_now_ms();
        (void)pthread_mutex_unlock(&checkup->lock);
        bool holds = o->check(o->cookie, &result);

        if (holds)
            result.code = ERROR_NONE;
        (void)pthread_mutex_lock(&checkup->lock);
        keep(checkup, &result);
        uint64_t next_ms = checkup->ended_ms + (holds ? o->period_ms : o->retry_ms);

        while (!checkup->is_ending && clock_now_ms() < next_ms)
            condition_wait_until(&checkup->wake, &checkup->lock, next_ms);
    }
    (void)pthread_mutex_unlock(&checkup->lock);
    return NULL;
}

static bool judge(const struct checkup *checkup, uint64_t now_ms, struct error *err)
{
    const struct checkup_options *o = &checkup->options;

    if (checkup->is_running && now_ms - checkup->begun_ms > o->patience_ms)
        return error_set(err, ERROR_UNAVAILABLE, "%s has not answered for %" PRIu64 " s",
                         o->subject, (now_ms - checkup->begun_ms) / 1000);
    if (!checkup->has_result)
        return o->good_at_first ||
               error_set(err, ERROR_UNAVAILABLE, "%s has not answered yet", o->subject);
    if (checkup->result.code == ERROR_NONE)
        return true;
    *err = checkup->result;
    uint64_t age_s = (now_ms - checkup->ended_ms) / 1000;

    return age_s > 0 ? error_wrap(err, "%" PRIu64 " s ago", age_s) : false;
}

bool checkup_holds(struct checkup *checkup, struct error *err)
{
    (void)pthread_mutex_lock(&checkup->lock);
    bool holds = judge(checkup, clock_now_ms(), err);

    (void)pthread_mutex_unlock(&checkup->lock);
    return holds;
}

static void checkup_free(struct checkup *checkup)
{
    (void)pthread_cond_destroy(&checkup->wake);
    (void)pthread_mutex_destroy(&checkup->lock);
    free(checkup);
}

bool checkup_start(const struct checkup_options *options, struct checkup **out, struct error *err)
{
    struct checkup *checkup = calloc(1, sizeof(*checkup));

    if (!checkup)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a check");
    checkup->options = *options;
    (void)pthread_mutex_init(&checkup->lock, NULL);
    condition_init(&checkup->wake);
    if (!thread_start(&checkup->thread, options->thread, run, checkup, err)) {
        checkup_free(checkup);
        return false;
    }
    *out = checkup;
    return true;
}

void checkup_end(struct checkup *checkup)
{
    if (checkup->has_ended)
        return;
    (void)pthread_mutex_lock(&checkup->lock);
    checkup->is_ending = true;
    (void)pthread_cond_broadcast(&checkup->wake);
    (void)pthread_mutex_unlock(&checkup->lock);
    (void)pthread_join(checkup->thread, NULL);
    checkup->has_ended = true;
}

void checkup_stop(struct checkup *checkup)
{
    if (!checkup)
        return;
    checkup_end(checkup);
    checkup_free(checkup);
}
