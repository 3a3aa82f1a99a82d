/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/pck_cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct cache_slot {
    uint8_t digest[32];
    uint64_t generation; /* 0: empty */
    struct pck_entry entry;
};

struct pck_cache {
    pthread_mutex_t lock;
    size_t n, next;
    struct cache_slot slots[];
};

bool pck_cache_new(size_t entries, struct pck_cache **out, struct error *err)
{
    struct pck_cache *cache = calloc(1, sizeof(*cache) + entries * sizeof(struct cache_slot));

    if (!cache)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the PCK cache");
    pthread_mutex_init(&cache->lock, NULL);
    cache->n = entries;
    *out = cache;
    return true;
}

void pck_cache_free(struct pck_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->n; i++)
        EVP_PKEY_free(cache->slots[i].entry.key);
    pthread_mutex_destroy(&cache->lock);
    free(cache);
}

static struct cache_slot *find(struct pck_cache *cache, const uint8_t *digest, uint64_t generation)
{
    for (size_t i = 0; i < cache->n; i++)
        if (cache->slots[i].generation == generation &&
            memcmp(cache->slots[i].digest, digest, 32) == 0)
            return &cache->slots[i];
    return NULL;
}

bool pck_cache_find(struct pck_cache *cache, const uint8_t digest[static 32], uint64_t generation,
                    struct pck_entry *out)
{
    pthread_mutex_lock(&cache->lock);
    const struct cache_slot *slot = find(cache, digest, generation);
    if (slot) {
        *out = slot->entry;
        EVP_PKEY_up_ref(out->key);
    }
    pthread_mutex_unlock(&cache->lock);
    return slot != NULL;
}

void pck_cache_add(struct pck_cache *cache, const uint8_t digest[static 32], uint64_t generation,
                   const struct pck_entry *entry)
{
    pthread_mutex_lock(&cache->lock);
    if (cache->n > 0 && !find(cache, digest, generation)) {
        struct cache_slot *slot = &cache->slots[cache->next++ % cache->n];

        EVP_PKEY_free(slot->entry.key);
        slot->entry = *entry;
        EVP_PKEY_up_ref(slot->entry.key);
        slot->generation = generation;
        memcpy(slot->digest, digest, 32);
    }
    pthread_mutex_unlock(&cache->lock);
}
