/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/sightings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 4096u

struct sighting {
    uint8_t record_id[RECORD_ID_LEN];
    uint64_t state, since_ms;
    bool is_set;
};

struct sightings {
    uint64_t (*steady_ms)(void);
    pthread_mutex_t lock; /* for the slots */
    struct sighting slots[SLOTS];
};

bool sightings_new(uint64_t (*steady_ms)(void), struct sightings **out, struct error *err)
{
    struct sightings *made = calloc(1, sizeof(*made));

    if (!made)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "sightings: out of memory");
    made->steady_ms = steady_ms;
    pthread_mutex_init(&made->lock, NULL);
    *out = made;
    return true;
}

void sightings_free(struct sightings **sightings)
{
    if (*sightings)
        pthread_mutex_destroy(&(*sightings)->lock);
    free(*sightings);
    *sightings = NULL;
}

uint64_t sightings_age_ms(struct sightings *sightings,
                          const uint8_t record_id[static RECORD_ID_LEN], uint64_t state)
{
    /* Record ids are random. */
    struct sighting *slot = &sightings->slots[((unsigned)record_id[0] << 8 | record_id[1]) % SLOTS];

    pthread_mutex_lock(&sightings->lock);
    uint64_t now_ms = sightings->steady_ms();
    bool is_same = slot->is_set && slot->state == state &&
                   memcmp(slot->record_id, record_id, RECORD_ID_LEN) == 0;
    if (!is_same) {
        memcpy(slot->record_id, record_id, RECORD_ID_LEN);
        slot->state = state;
        slot->since_ms = now_ms;
        slot->is_set = true;
    }
    uint64_t age_ms = now_ms - slot->since_ms;
    pthread_mutex_unlock(&sightings->lock);
    return age_ms;
}
