/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/inflight.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inflight_entry {
    struct inflight_entry *next;
    char what[48];
    uint64_t since_ms;
    char id[];
};

/* On the stack of a call that waits. */
struct waiter {
    struct waiter *next;
    const char *id;
    bool is_woken;
};

struct inflight {
    pthread_mutex_t lock;
    pthread_cond_t released;
    struct inflight_entry *entries;
    struct waiter *waiters;
    size_t n_waiting, waiting_max;
};

bool inflight_new(size_t waiting_max, struct inflight **out, struct error *err)
{
    struct inflight *set = calloc(1, sizeof(*set));

    if (!set)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the table of volumes");
    pthread_mutex_init(&set->lock, NULL);
    condition_init(&set->released);
    set->waiting_max = waiting_max;
    *out = set;
    return true;
}

void inflight_free(struct inflight *set)
{
    if (!set)
        return;
    while (set->entries) {
        struct inflight_entry *entry = set->entries;

        set->entries = entry->next;
        free(entry);
    }
    pthread_cond_destroy(&set->released);
    pthread_mutex_destroy(&set->lock);
    free(set);
}

static const struct inflight_entry *find(const struct inflight *set, const char *id)
{
    const struct inflight_entry *entry = set->entries;

    while (entry && strcmp(entry->id, id) != 0)
        entry = entry->next;
    return entry;
}

bool inflight_take(struct inflight *set, const char *id, const char *what,
                   struct inflight_hold *out, struct error *err)
{
    size_t len = strlen(id) + 1;
    auto_free struct inflight_entry *entry = calloc(1, sizeof(*entry) + len);

    if (!entry)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to work on volume %s", id);
    (void)snprintf(entry->what, sizeof(entry->what), "%s", what);
    memcpy(entry->id, id, len);

    pthread_mutex_lock(&set->lock);
    const struct inflight_entry *holder = find(set, id);

    entry->since_ms = clock_now_ms();
    if (holder) {
        error_set(err, ERROR_ABORTED, "%s is busy: %s has been at work for %llu s; retry", id,
                  holder->what, (unsigned long long)(entry->since_ms - holder->since_ms) / 1000);
    } else {
        entry->next = set->entries;
        set->entries = entry;
    }
    pthread_mutex_unlock(&set->lock);
    if (holder)
        return false;
    *out = (struct inflight_hold){ .set = set, .entry = TAKE_PTR(entry) };
    return true;
}

void inflight_release(struct inflight_hold *hold)
{
    if (!hold->entry)
        return;
    pthread_mutex_lock(&hold->set->lock);
    struct inflight_entry **link = &hold->set->entries;

    while (*link != hold->entry)
        link = &(*link)->next;
    *link = hold->entry->next;
    for (struct waiter *w = hold->set->waiters; w; w = w->next)
        w->is_woken = w->is_woken || strcmp(w->id, hold->entry->id) == 0;
    pthread_cond_broadcast(&hold->set->released);
    pthread_mutex_unlock(&hold->set->lock);
    free_at(&hold->entry);
}

bool inflight_wait(struct inflight *set, const char *id, uint64_t until_ms)
{
    struct waiter self = { .id = id };

    pthread_mutex_lock(&set->lock);
    bool may_wait = set->n_waiting < set->waiting_max;
    if (may_wait) {
        set->n_waiting++;
        self.next = set->waiters;
        set->waiters = &self;
        while (!self.is_woken && clock_now_ms() < until_ms)
            condition_wait_until(&set->released, &set->lock, until_ms);
        struct waiter **link = &set->waiters;
        while (*link != &self)
            link = &(*link)->next;
        *link = self.next;
        set->n_waiting--;
    }
    pthread_mutex_unlock(&set->lock);
    return may_wait;
}
