/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <pthread.h>

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
