/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/attested_session.h"

#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* A session that starts in the future is refused. This much is allowed: the clock may have been
 * corrected. */
#define CLOCK_SLACK_MS 60000u

struct node {
    struct node *next; /* in the same bucket */
    struct attested_session attestation;
    uint64_t until_steady_ms;
};

struct attested_sessions {
    uint64_t (*steady_ms)(void);
    pthread_mutex_t lock; /* for all below */
    size_t max, n, n_buckets;
    struct node **buckets;
};

bool attested_sessions_new(size_t max, uint64_t (*steady_ms)(void), struct attested_sessions **out,
                           struct error *err)
{
    auto_attested_sessions struct attested_sessions *all = calloc(1, sizeof(*all));

    if (!all)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "sessions: out of memory");
    (void)pthread_mutex_init(&all->lock, NULL);
    all->steady_ms = steady_ms;
    all->max = max;
    all->n_buckets = max;
    all->buckets = calloc(max, sizeof(struct node *));
    if (!all->buckets)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "sessions: out of memory");
    *out = TAKE_PTR(all);
    return true;
}

static bool is_good(const struct attested_sessions *all, const struct node *node, uint64_t now_ms)
{
    const struct attested_session *a = &node->attestation;

    return now_ms < a->until_ms && now_ms + CLOCK_SLACK_MS >= a->since_ms &&
           all->steady_ms() < node->until_steady_ms;
}

/* --- the caller of these functions holds the lock --- */

/* The keys are hashes. An attacker who wants to fill one bucket must work as much as we do. */
static struct node **bucket_of(const struct attested_sessions *all, const uint8_t *key)
{
    uint64_t value = 0;

    memcpy(&value, key, sizeof(value));
    return &all->buckets[value % all->n_buckets];
}

static struct node **find(const struct attested_sessions *all, const uint8_t *key)
{
    struct node **at = bucket_of(all, key);

    while (*at && !bytes_are_equal((*at)->attestation.client_key_sha256, key, ATTESTED_KEY_LEN))
        at = &(*at)->next;
    return at;
}

static struct node *add(struct attested_sessions *all, struct node **bucket)
{
    struct node *node = calloc(1, sizeof(*node));

    if (node) {
        node->next = *bucket;
        *bucket = node;
        all->n++;
    }
    return node;
}

static void drop(struct attested_sessions *all, struct node **at)
{
    struct node *node = *at;

    *at = node->next;
    free(node);
    all->n--;
}

static void drop_expired(struct attested_sessions *all, uint64_t now_ms)
{
    for (size_t i = 0; i < all->n_buckets; i++) {
        struct node **at = &all->buckets[i];

        while (*at) {
            if (is_good(all, *at, now_ms))
                at = &(*at)->next;
            else
                drop(all, at);
        }
    }
}

static bool put(struct attested_sessions *all, const struct attested_session *a, uint64_t now_ms,
                struct error *err)
{
    struct node **at = find(all, a->client_key_sha256);

    if (!*at && all->n >= all->max) {
        drop_expired(all, now_ms);
        at = find(all, a->client_key_sha256);
    }
    if (!*at && all->n >= all->max)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "there are %zu attested sessions already: try again later", all->n);
    struct node *node = *at ? *at : add(all, bucket_of(all, a->client_key_sha256));

    if (!node)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "sessions: out of memory");
    node->attestation = *a;
    node->until_steady_ms = all->steady_ms() + (a->until_ms > now_ms ? a->until_ms - now_ms : 0);
    return true;
}

bool attested_sessions_put(struct attested_sessions *all,
                           const struct attested_session *attestation, uint64_t now_ms,
                           struct error *err)
{
    (void)pthread_mutex_lock(&all->lock);
    bool ok = put(all, attestation, now_ms, err);

    (void)pthread_mutex_unlock(&all->lock);
    return ok;
}

enum attested_session_state attested_sessions_find(struct attested_sessions *all,
                                                   const uint8_t key[static ATTESTED_KEY_LEN],
                                                   uint64_t now_ms, struct attested_session *out)
{
    enum attested_session_state state = ATTESTED_SESSION_NONE;

    (void)pthread_mutex_lock(&all->lock);
    struct node **at = find(all, key);

    if (*at && is_good(all, *at, now_ms)) {
        *out = (*at)->attestation;
        state = ATTESTED_SESSION_GOOD;
    } else if (*at) {
        drop(all, at);
        state = ATTESTED_SESSION_EXPIRED;
    }
    (void)pthread_mutex_unlock(&all->lock);
    return state;
}

size_t attested_sessions_count(struct attested_sessions *all)
{
    (void)pthread_mutex_lock(&all->lock);
    size_t n = all->n;

    (void)pthread_mutex_unlock(&all->lock);
    return n;
}

void attested_sessions_free(struct attested_sessions **all)
{
    struct attested_sessions *a = *all;

    if (!a)
        return;
    for (size_t i = 0; a->buckets && i < a->n_buckets; i++)
        while (a->buckets[i])
            drop(a, &a->buckets[i]);
    free(a->buckets);
    (void)pthread_mutex_destroy(&a->lock);
    free(a);
    *all = NULL;
}
