/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <pthread.h>
#include <stdatomic.h>

/* Threads, and condition variables on the clock of clock_now_ms(). */

/* Enough for each of our threads: large data is in arenas. */
#define THREAD_STACK_BYTES (256u * 1024)

/* name: at most 15 bytes, for ps and debuggers. RESOURCE_EXHAUSTED when memory or the limit of
 * threads is used up. */
MUST_USE bool thread_start(pthread_t *out, const char *name, void *(*run)(void *cookie),
                           void *cookie, struct error *err);

void condition_init(pthread_cond_t *condition);

/* The caller holds the lock. Waits for a signal or until the time; UINT64_MAX: no time limit.
 * May return early, like pthread_cond_wait. */
void condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until_ms);

/* A thread that works until it is told to end. */
struct stoppable {
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;   /* for what its owner shares with it, too */
    pthread_cond_t changed; /* the thread waits for it; on the clock of clock_now_ms() */
    atomic_bool is_ending;  /* run returns then */
};

/* After a failure, too, stoppable_stop is called. */
MUST_USE bool stoppable_start(struct stoppable *s, const char *name, void *(*run)(void *cookie),
                              void *cookie, struct error *err);
/* Waits until run has returned. */
void stoppable_stop(struct stoppable *s);
