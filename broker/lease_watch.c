/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/lease_watch.h"

#include "base/digest.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MARKS_MAX    8192u
#define MARGIN_MS    5000u
#define MARGIN_PART  16u                       /* of the lease */
#define FORGOTTEN_MS (2 * RECORD_LEASE_MAX_MS) /* nobody has wanted the volume for so long */

struct mark {
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t contested;           /* 0: the place is free */
    uint64_t first_ms, latest_ms; /* when it was seen, by the steady clock */
};

struct lease_watch {
    uint64_t (*steady_ms)(void);
    pthread_mutex_t lock;
    struct mark marks[MARKS_MAX];
};

bool lease_watch_new(uint64_t (*steady_ms)(void), struct lease_watch **out, struct error *err)
{
    struct lease_watch *watch = calloc(1, sizeof(*watch));

    if (!watch)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to watch leases");
    watch->steady_ms = steady_ms;
    (void)pthread_mutex_init(&watch->lock, NULL);
    *out = watch;
    return true;
}

void lease_watch_free(struct lease_watch **watch)
{
    if (*watch)
        pthread_mutex_destroy(&(*watch)->lock);
    free(*watch);
    *watch = NULL;
}

uint64_t lease_watch_wait_ms(uint64_t lease_ms)
{
    return lease_ms + lease_ms / MARGIN_PART + MARGIN_MS;
}

static bool is_free(const struct mark *mark, uint64_t steady_ms)
{
    return mark->contested == 0 || steady_ms - mark->latest_ms > FORGOTTEN_MS;
}

/* The place of the record's mark, or a free one; NULL: there is none. A mark that is waited for keeps its
 * place: otherwise two that push each other out would both wait for ever. */
static struct mark *find(struct lease_watch *watch, const struct record *r, uint64_t steady_ms)
{
    struct mark *place = NULL;

    for (size_t i = 0; i < MARKS_MAX; i++) {
        struct mark *mark = &watch->marks[i];

        if (mark->contested != 0 && bytes_are_equal(mark->record_id, r->id, RECORD_ID_LEN))
            return mark;
        if (!place && is_free(mark, steady_ms))
            place = mark;
    }
    return place;
}

/* The clock is read under the lock, and so after each time that is in the table. */
static bool look(struct lease_watch *watch, const struct record *r)
{
    const uint64_t steady_ms = watch->steady_ms();
    struct mark *mark = find(watch, r, steady_ms);

    if (!mark)
        return false;
    if (mark->contested != r->lease.contested ||
        !bytes_are_equal(mark->record_id, r->id, RECORD_ID_LEN) || is_free(mark, steady_ms)) {
        *mark = (struct mark){ .contested = r->lease.contested, .first_ms = steady_ms };
        memcpy(mark->record_id, r->id, RECORD_ID_LEN);
    }
    mark->latest_ms = steady_ms;
    return steady_ms - mark->first_ms >= lease_watch_wait_ms(r->lease.lease_ms);
}

bool lease_watch_is_silent(struct lease_watch *watch, const struct record *r)
{
    if (r->lease.contested == 0 || r->lease.lease_ms == 0)
        return false;
    pthread_mutex_lock(&watch->lock);
    bool is_silent = look(watch, r);
    pthread_mutex_unlock(&watch->lock);
    return is_silent;
}
