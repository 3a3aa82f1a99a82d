/* SPDX-License-Identifier: Apache-2.0 */
#include "base/thread.h"

#include <errno.h>
#include <time.h>

bool thread_start(pthread_t *out, const char *name, void *(*run)(void *cookie), void *cookie,
                  struct error *err)
{
    pthread_attr_t attributes;

    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    int code = pthread_create(out, &attributes, run, cookie);

    (void)pthread_attr_destroy(&attributes);
    if (code == EAGAIN)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "start thread %s: memory or the limit of threads is used up", name);
    if (code != 0)
        return error_set_errno(err, code, "start thread %s", name);
    (void)pthread_setname_np(*out, name);
    return true;
}

void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until_ms)
{
    const struct timespec until = { .tv_sec = (time_t)(until_ms / 1000),
                                    .tv_nsec = (long)(until_ms % 1000) * 1000000 };

    if (until_ms == UINT64_MAX)
        (void)pthread_cond_wait(condition, lock);
    else
        (void)pthread_cond_timedwait(condition, lock, &until);
}
