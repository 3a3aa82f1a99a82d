/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/background.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <stdlib.h>

/* An operation that fails at once is started again after a time that doubles up to the limit. */
#define RETRY_MS       1000u
#define RETRY_LIMIT_MS 60000u

struct background {
    struct background_options options;
    struct stoppable loop;
};

static bool is_ending(void *cookie)
{
    const struct background *background = cookie;

    return background->loop.is_ending;
}

uint64_t background_retry_ms(uint64_t last_ms, uint64_t lived_ms)
{
    if (last_ms == 0 || lived_ms >= RETRY_LIMIT_MS)
        return RETRY_MS;
    return 2 * last_ms < RETRY_LIMIT_MS ? 2 * last_ms : RETRY_LIMIT_MS;
}

static void wait_ms(struct background *background, uint64_t ms)
{
    pthread_mutex_lock(&background->loop.lock);
    if (!background->loop.is_ending)
        condition_wait_until(&background->loop.changed, &background->loop.lock,
                             clock_now_ms() + ms);
    pthread_mutex_unlock(&background->loop.lock);
}

static void *work(void *cookie)
{
    struct background *background = cookie;
    const struct background_options *o = &background->options;
    const struct workers *workers = &o->plugin->workers;
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, o->operation, "");
    const struct block_run run = { .operation = o->name,
                                   .request = request,
                                   .hooks = o->hooks,
                                   .hook_cookie = o->cookie,
                                   .is_cancelled = is_ending,
                                   .cancel_cookie = background };
    struct block_result result;
    uint64_t retry_ms = 0;

    while (request && !background->loop.is_ending) {
        struct error err = ERROR_INIT;
        uint64_t began_ms = clock_now_ms();
        bool ended = workers->run(workers->cookie, &run, &result, &err);

        retry_ms = background_retry_ms(retry_ms, clock_now_ms() - began_ms);
        if (!ended && err.code != ERROR_CANCELLED)
            log_error("a worker in the background ended; it is started again",
                      TEXT("operation", o->name), NUMBER("after_ms", retry_ms), ERROR_FIELDS(&err));
        wait_ms(background, retry_ms);
    }
    return NULL;
}

/* --- life --- */

bool background_start(const struct background_options *options, struct background **out,
                      struct error *err)
{
    struct background *background = calloc(1, sizeof(*background));

    if (!background)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the %s", options->thread);
    background->options = *options;
    if (!stoppable_start(&background->loop, options->thread, work, background, err)) {
        background_stop(background);
        return false;
    }
    *out = background;
    return true;
}

void background_stop(struct background *background)
{
    if (!background)
        return;
    stoppable_stop(&background->loop);
    free(background);
}
