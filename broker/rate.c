/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/rate.h"

#include "base/digest.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ROWS      512u
#define ROW_SLOTS 8u
#define TOKEN     60000u /* parts; a minute has as many ms, so per_minute parts flow in each ms */
#define NAME_LEN  SHA256_LEN

struct rate_slot {
    uint8_t name[NAME_LEN]; /* its HMAC: a client cannot choose names that share a row */
    uint64_t level;         /* in parts of a token */
    uint64_t touched_ms;    /* 0: empty */
};

struct rates {
    struct secret key;
    uint64_t (*now_ms)(void);
    pthread_mutex_t lock; /* for the slots */
    struct rate_slot slots[ROWS][ROW_SLOTS];
};

bool rates_new(uint64_t (*now_ms)(void), struct rates **out, struct error *err)
{
    auto_rates struct rates *rates = calloc(1, sizeof(*rates));

    if (!rates)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "rate limits: out of memory");
    (void)pthread_mutex_init(&rates->lock, NULL);
    rates->now_ms = now_ms;
    if (!secret_random(&rates->key, SHA256_LEN, err))
        return error_wrap(err, "rate limits");
    *out = TAKE_PTR(rates);
    return true;
}

void rates_free(struct rates **rates)
{
    if (!*rates)
        return;
    secret_wipe(&(*rates)->key);
    (void)pthread_mutex_destroy(&(*rates)->lock);
    free(*rates);
    *rates = NULL;
}

static struct rate_slot *find(struct rates *rates, const uint8_t *name)
{
    uint32_t row = 0;
    struct rate_slot *oldest = NULL;

    memcpy(&row, name, sizeof(row));
    for (size_t i = 0; i < ROW_SLOTS; i++) {
        struct rate_slot *slot = &rates->slots[row % ROWS][i];

        if (slot->touched_ms > 0 && memcmp(slot->name, name, NAME_LEN) == 0)
            return slot;
        if (!oldest || slot->touched_ms < oldest->touched_ms)
            oldest = slot;
    }
    oldest->touched_ms = 0;
    memcpy(oldest->name, name, NAME_LEN);
    return oldest;
}

/* The slot of the name, filled up to now. */
static struct rate_slot *fill(struct rates *rates, const uint8_t *name,
                              const struct rate_limit *limit)
{
    struct rate_slot *slot = find(rates, name);
    uint64_t full = (uint64_t)limit->burst * TOKEN, now_ms = rates->now_ms();
    uint64_t passed_ms = now_ms - slot->touched_ms;

    if (slot->touched_ms == 0 || limit->per_minute == 0 || passed_ms > full / limit->per_minute)
        slot->level = full;
    else
        slot->level += passed_ms * limit->per_minute;
    if (slot->level > full)
        slot->level = full;
    slot->touched_ms = now_ms > 0 ? now_ms : 1;
    return slot;
}

static bool take(struct rates *rates, const char *text, const struct rate_limit *limit,
                 uint64_t cost, bool all_or_nothing)
{
    uint8_t name[NAME_LEN];
    struct error err = ERROR_INIT;
    bool ok = false;

    if (!hmac_sha256(&rates->key, text, strlen(text), name, &err))
        return false;
    (void)pthread_mutex_lock(&rates->lock);
    struct rate_slot *slot = fill(rates, name, limit);

    ok = slot->level >= cost * TOKEN;
    if (ok)
        slot->level -= cost * TOKEN;
    else if (!all_or_nothing)
        slot->level = 0;
    (void)pthread_mutex_unlock(&rates->lock);
    return ok;
}

bool rate_take(struct rates *rates, const char *name, const struct rate_limit *limit, uint32_t cost)
{
    return take(rates, name, limit, cost, true);
}

void rate_charge(struct rates *rates, const char *name, const struct rate_limit *limit,
                 uint32_t cost)
{
    (void)take(rates, name, limit, cost, false);
}
