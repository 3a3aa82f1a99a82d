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

bool stoppable_start(struct stoppable *s, const char *name, void *(*run)(void *cookie),
                     void *cookie, struct error *err)
{
    (void)pthread_mutex_init(&s->lock, NULL);
    condition_init(&s->changed);
    atomic_store(&s->is_ending, false);
    s->has_thread = thread_start(&s->thread, name, run, cookie, err);
    return s->has_thread;
}

void stoppable_stop(struct stoppable *s)
{
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->is_ending, true);
    (void)pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->has_thread)
        (void)pthread_join(s->thread, NULL);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
}
