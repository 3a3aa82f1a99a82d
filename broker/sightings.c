/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sightings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct sighting {
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t state;
    uint64_t since_ms, latest_ms; /* by the steady clock */
};

struct sightings {
    uint64_t (*steady_ms)(void);
    pthread_mutex_t lock; /* for all below */
    size_t n;             /* places that were ever taken */
    struct sighting places[SIGHTINGS_PLACES];
};

bool sightings_new(uint64_t (*steady_ms)(void), struct sightings **out, struct error *err)
{
    struct sightings *made = calloc(1, sizeof(*made));

    if (!made)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "sightings: out of memory");
    made->steady_ms = steady_ms;
    (void)pthread_mutex_init(&made->lock, NULL);
    *out = made;
    return true;
}

void sightings_free(struct sightings **sightings)
{
    if (*sightings)
        (void)pthread_mutex_destroy(&(*sightings)->lock);
    free(*sightings);
    *sightings = NULL;
}

/* In a full table: the place for which nobody has asked the longest; NULL: that is not long ago. */
static struct sighting *find_forgotten(struct sightings *s, uint64_t now_ms)
{
    struct sighting *oldest = &s->places[0];

    for (size_t i = 1; i < SIGHTINGS_PLACES; i++)
        if (s->places[i].latest_ms < oldest->latest_ms)
            oldest = &s->places[i];
    return now_ms - oldest->latest_ms > SIGHTINGS_PATIENCE_MS ? oldest : NULL;
}

static struct sighting *find(struct sightings *s, const uint8_t *record_id)
{
    for (size_t i = 0; i < s->n; i++)
        if (memcmp(s->places[i].record_id, record_id, RECORD_ID_LEN) == 0)
            return &s->places[i];
    return NULL;
}

/* A state that was there before and is there now was there in between: states do not come back. */
static bool is_seen(const struct sighting *place, uint64_t state)
{
    return place && place->state == state;
}

/* The clock is read under the lock, and so after each time that is in the table. */
static uint64_t look(struct sightings *s, const uint8_t *record_id, uint64_t state)
{
    const uint64_t now_ms = s->steady_ms();
    struct sighting *place = find(s, record_id);

    if (!is_seen(place, state)) {
        if (!place)
            place = s->n < SIGHTINGS_PLACES ? &s->places[s->n++] : find_forgotten(s, now_ms);
        if (!place)
            return 0;
        *place = (struct sighting){ .state = state, .since_ms = now_ms };
        memcpy(place->record_id, record_id, RECORD_ID_LEN);
    }
    place->latest_ms = now_ms;
    return now_ms - place->since_ms;
}

uint64_t sightings_age_ms(struct sightings *sightings,
                          const uint8_t record_id[static RECORD_ID_LEN], uint64_t state)
{
    pthread_mutex_lock(&sightings->lock);
    uint64_t age_ms = look(sightings, record_id, state);
    pthread_mutex_unlock(&sightings->lock);
    return age_ms;
}
