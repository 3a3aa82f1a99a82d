/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/inflight.h"

#include "base/clock.h"
#include "base/thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BACKGROUND_WAIT_MS 10000u

struct inflight_entry {
    struct inflight_entry *next;
    bool is_background;
    char what[48];
    uint64_t since_ms;
    char id[];
};

struct inflight {
    pthread_mutex_t lock;
    pthread_cond_t released; /* work in the background gave its volume back */
    struct inflight_entry *entries;
};

bool inflight_new(struct inflight **out, struct error *err)
{
    struct inflight *set = calloc(1, sizeof(*set));

    if (!set)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the table of volumes");
    pthread_mutex_init(&set->lock, NULL);
    condition_init(&set->released);
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

/* Under the lock. NULL when the volume is free, or became free in time. */
static const struct inflight_entry *wait_for_background(struct inflight *set, const char *id)
{
    uint64_t end_ms = clock_now_ms() + BACKGROUND_WAIT_MS;
    const struct inflight_entry *holder = find(set, id);

    while (holder && holder->is_background && clock_now_ms() < end_ms) {
        condition_wait_until(&set->released, &set->lock, end_ms);
        holder = find(set, id);
    }
    return holder;
}

static bool take(struct inflight *set, const char *id, const char *what, bool is_background,
                 struct inflight_hold *out, struct error *err)
{
    size_t len = strlen(id) + 1;
    auto_free struct inflight_entry *entry = calloc(1, sizeof(*entry) + len);

    if (!entry)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to work on volume %s", id);
    (void)snprintf(entry->what, sizeof(entry->what), "%s", what);
    memcpy(entry->id, id, len);
    entry->is_background = is_background;

    pthread_mutex_lock(&set->lock);
    const struct inflight_entry *holder =
        is_background ? find(set, id) : wait_for_background(set, id);

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

bool inflight_take(struct inflight *set, const char *id, const char *what,
                   struct inflight_hold *out, struct error *err)
{
    return take(set, id, what, false, out, err);
}

bool inflight_take_background(struct inflight *set, const char *id, const char *what,
                              struct inflight_hold *out, struct error *err)
{
    return take(set, id, what, true, out, err);
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
    if (hold->entry->is_background)
        pthread_cond_broadcast(&hold->set->released);
    pthread_mutex_unlock(&hold->set->lock);
    free_at(&hold->entry);
}
