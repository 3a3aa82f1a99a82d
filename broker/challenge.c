/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/challenge.h"

#include "attest/reason.h"
#include "base/digest.h"
#include "base/reader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MAC_KEY_LEN 32
#define TIME_LEN    8
#define BODY_LEN    16 /* the part of the nonce that the MAC covers */
#define MAC_LEN     16
#define NONE        UINT32_MAX

/* A used nonce. Its MAC identifies it: no client can make another nonce with the same MAC. */
struct used {
    uint8_t mac[MAC_LEN];
    uint64_t used_ms;
    uint32_t next; /* the next older one in the same bucket; NONE at the end */
};

struct challenges {
    struct secret key;
    uint64_t (*now_ms)(void);
    pthread_mutex_t lock; /* for all below */
    size_t max, first, n; /* the ring, in the order of use: first is the oldest */
    struct used *ring;
    uint32_t *buckets; /* max of them; each has the newest nonce in it */
};

bool challenges_new(size_t used_max, uint64_t (*now_ms)(void), struct challenges **out,
                    struct error *err)
{
    auto_challenges struct challenges *c = calloc(1, sizeof(*c));

    if (!c)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "nonces: out of memory");
    (void)pthread_mutex_init(&c->lock, NULL);
    c->now_ms = now_ms;
    c->max = used_max;
    c->ring = calloc(used_max, sizeof(*c->ring));
    c->buckets = calloc(used_max, sizeof(*c->buckets));
    if (!c->ring || !c->buckets)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "nonces: out of memory");
    for (size_t i = 0; i < used_max; i++)
        c->buckets[i] = NONE;
    if (!secret_random(&c->key, MAC_KEY_LEN, err))
        return error_wrap(err, "nonces");
    *out = TAKE_PTR(c);
    return true;
}

void challenges_free(struct challenges **challenges)
{
    struct challenges *c = *challenges;

    if (!c)
        return;
    secret_wipe(&c->key);
    free(c->ring);
    free(c->buckets);
    (void)pthread_mutex_destroy(&c->lock);
    free(c);
    *challenges = NULL;
}

static bool make_mac(const struct challenges *c, const uint8_t *client_key, const uint8_t *body,
                     uint8_t out[static SHA256_LEN], struct error *err)
{
    static const char tag[] = "tdvol nonce v1";
    const struct byte_range parts[] = { { tag, sizeof(tag) },
                                        { body, BODY_LEN },
                                        { client_key, CHALLENGE_KEY_LEN } };

    return hmac_sha256_parts(&c->key, parts, ARRAY_LEN(parts), out, err);
}

bool challenge_make(struct challenges *c, const uint8_t client_key[static CHALLENGE_KEY_LEN],
                    uint8_t out[static CHALLENGE_LEN], struct error *err)
{
    uint64_t now_ms = c->now_ms();
    uint8_t body[BODY_LEN], mac[SHA256_LEN];

    for (size_t i = 0; i < TIME_LEN; i++)
        body[i] = (uint8_t)(now_ms >> (56 - 8 * i));
    if (!random_bytes(body + TIME_LEN, BODY_LEN - TIME_LEN, err) ||
        !make_mac(c, client_key, body, mac, err))
        return error_wrap(err, "nonce");
    (void)mempcpy(mempcpy(out, body, BODY_LEN), mac, MAC_LEN);
    return true;
}

static bool refuse(struct error *err, enum attest_reason reason, const char *text)
{
    return error_set_reason(err, ERROR_UNAUTHENTICATED, attest_reason_name(reason),
                            "%s: ask for a new one", text);
}

static uint64_t time_of(const uint8_t *nonce)
{
    return big_endian(nonce, TIME_LEN);
}

/* --- used nonces; the caller holds the lock --- */

/* The MAC is as good as random, so an attacker cannot fill one bucket. */
static uint32_t *bucket_of(const struct challenges *c, const uint8_t *mac)
{
    uint32_t value = 0;

    memcpy(&value, mac, sizeof(value));
    return &c->buckets[value % c->max];
}

static bool is_used(const struct challenges *c, const uint8_t *mac)
{
    for (uint32_t i = *bucket_of(c, mac); i != NONE; i = c->ring[i].next)
        if (bytes_are_equal(c->ring[i].mac, mac, MAC_LEN))
            return true;
    return false;
}

/* The oldest nonce of all is the last one in its bucket. */
static void forget_oldest(struct challenges *c)
{
    uint32_t *link = bucket_of(c, c->ring[c->first].mac);

    while (*link != c->first)
        link = &c->ring[*link].next;
    *link = NONE;
    c->first = (c->first + 1) % c->max;
    c->n--;
}

static bool remember(struct challenges *c, const uint8_t *mac, uint64_t now_ms, struct error *err)
{
    /* The sum avoids an underflow: a clock that was set back must not forget nonces early. */
    while (c->n > 0 && now_ms >= c->ring[c->first].used_ms + CHALLENGE_MS)
        forget_oldest(c);
    if (is_used(c, mac))
        return refuse(err, REASON_NONCE_USED, "this nonce was used before");
    if (c->n == c->max)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "too many clients attest at the same time: try again in a minute");

    uint32_t at = (uint32_t)((c->first + c->n) % c->max);
    uint32_t *bucket = bucket_of(c, mac);
    struct used *used = &c->ring[at];

    memcpy(used->mac, mac, MAC_LEN);
    used->used_ms = now_ms;
    used->next = *bucket;
    *bucket = at;
    c->n++;
    return true;
}

static bool is_in_time(const uint8_t *nonce, uint64_t now_ms)
{
    uint64_t made_ms = time_of(nonce);

    return now_ms >= made_ms && now_ms - made_ms < CHALLENGE_MS;
}

static bool check_our_mac(const struct challenges *c, const uint8_t *client_key,
                          const uint8_t *nonce, uint8_t mac[static SHA256_LEN], struct error *err)
{
    if (!make_mac(c, client_key, nonce, mac, err))
        return error_wrap(err, "nonce");
    return bytes_are_equal(mac, nonce + BODY_LEN, MAC_LEN) ||
           refuse(err, REASON_NONCE_UNKNOWN, "this nonce was not given to this client key");
}

bool challenge_is_open(struct challenges *c, const uint8_t client_key[static CHALLENGE_KEY_LEN],
                       const uint8_t nonce[static CHALLENGE_LEN])
{
    struct error ignored = ERROR_INIT;
    uint8_t mac[SHA256_LEN];

    if (!check_our_mac(c, client_key, nonce, mac, &ignored))
        return false;
    (void)pthread_mutex_lock(&c->lock);
    bool is_open = is_in_time(nonce, c->now_ms()) && !is_used(c, mac);

    (void)pthread_mutex_unlock(&c->lock);
    return is_open;
}

bool challenge_use(struct challenges *c, const uint8_t client_key[static CHALLENGE_KEY_LEN],
                   const uint8_t nonce[static CHALLENGE_LEN], struct error *err)
{
    uint8_t mac[SHA256_LEN];

    if (!check_our_mac(c, client_key, nonce, mac, err))
        return false;
    (void)pthread_mutex_lock(&c->lock);
    /* The time is read under the lock, so that the ring is ordered by time. */
    uint64_t now_ms = c->now_ms();
    bool ok = is_in_time(nonce, now_ms)
                  ? remember(c, mac, now_ms, err)
                  : refuse(err, REASON_NONCE_EXPIRED, "this nonce is too old");

    (void)pthread_mutex_unlock(&c->lock);
    return ok;
}
