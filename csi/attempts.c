/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/attempts.h"

#include "record/record.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct item {
    enum attempt_kind kind; /* 0: unused */
    char name[RECORD_NAME_MAX + 1], source_id[VOLUME_ID_MAX + 1];
    uint64_t version;
};

struct attempts {
    pthread_mutex_t lock; /* guards what follows */
    struct item items[ATTEMPTS_MAX];
    size_t next; /* the place that is used next */
};

bool attempts_new(struct attempts **out, struct error *err)
{
    struct attempts *attempts = calloc(1, sizeof(*attempts));

    if (!attempts)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the attempts to copy");
    (void)pthread_mutex_init(&attempts->lock, NULL);
    *out = attempts;
    return true;
}

void attempts_free(struct attempts *attempts)
{
    if (!attempts)
        return;
    (void)pthread_mutex_destroy(&attempts->lock);
    free(attempts);
}

static struct item *find(struct attempts *attempts, const struct copy_attempt *attempt)
{
    for (size_t i = 0; i < ATTEMPTS_MAX; i++) {
        struct item *item = &attempts->items[i];

        if (item->kind == attempt->kind && strcmp(item->name, attempt->name) == 0 &&
            strcmp(item->source_id, attempt->source_id) == 0)
            return item;
    }
    return NULL;
}

/* What is too long for the item can have no record. */
static void add(struct attempts *attempts, const struct copy_attempt *attempt, uint64_t version)
{
    struct item *item = &attempts->items[attempts->next];

    attempts->next = (attempts->next + 1) % ATTEMPTS_MAX;
    *item = (struct item){ .kind = attempt->kind, .version = version };
    (void)snprintf(item->name, sizeof(item->name), "%s", attempt->name);
    (void)snprintf(item->source_id, sizeof(item->source_id), "%s", attempt->source_id);
}

uint64_t attempts_begin(struct attempts *attempts, const struct copy_attempt *attempt,
                        uint64_t source_version)
{
    (void)pthread_mutex_lock(&attempts->lock);
    const struct item *first = find(attempts, attempt);
    uint64_t version = first ? first->version : source_version;

    if (!first)
        add(attempts, attempt, source_version);
    (void)pthread_mutex_unlock(&attempts->lock);
    return version;
}

void attempts_end(struct attempts *attempts, const struct copy_attempt *attempt)
{
    (void)pthread_mutex_lock(&attempts->lock);
    struct item *item = find(attempts, attempt);

    if (item)
        item->kind = 0;
    (void)pthread_mutex_unlock(&attempts->lock);
}
