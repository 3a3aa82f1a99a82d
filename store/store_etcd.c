/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include "base/thread.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_SHOWN 32 /* bytes of a format that is not known */

/* Brokers that know no rings refuse version 2; and one that runs compares the revision of the format in
 * each Txn. */
static const char *const formats[2][2] = { { "1 ready", "1 migrating" },
                                           { "2 ready", "2 migrating" } };

const char *etcd_format_text(bool is_migration, bool has_ring)
{
    return formats[has_ring][is_migration];
}

/* --- the format --- */

static bool is_text(const struct etcd_bytes *value, const char *text)
{
    return value->len == strlen(text) && memcmp(value->bytes, text, value->len) == 0;
}

static bool refuse_format(const struct etcd_bytes *value, struct error *err)
{
    auto_free char *text =
        value->len < FORMAT_SHOWN ? text_of_bytes(value->bytes, value->len) : NULL;

    for (char *c = text; c && *c; c++)
        if (!isprint((unsigned char)*c))
            *c = '?';
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "store: etcd holds a store with the format \"%s\": this broker knows "
                     "versions 1 and 2 alone",
                     text ? text : "?");
}

bool etcd_judge_format(const struct etcd_store *s, const struct etcd_bytes *value, bool has_ring,
                       struct error *err)
{
    if (is_text(value, etcd_format_text(s->is_migration, has_ring)))
        return true;
    if (is_text(value, etcd_format_text(true, has_ring)))
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "store: a migration into etcd has not ended, or a restore: run it again, it "
            "goes on where it stopped");
    if (is_text(value, etcd_format_text(false, has_ring)))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "store: etcd already holds a broker's store: nothing is migrated or "
                         "restored into it");
    if (is_text(value, formats[!has_ring][0]) || is_text(value, formats[!has_ring][1]))
        return error_set(err, ERROR_DATA_LOSS,
                         "store: tdvol/ring in etcd %s, against what tdvol/format says: restore "
                         "etcd from a backup",
                         has_ring ? "is there" : "is missing");
    return refuse_format(value, err);
}

/* Only into an etcd without any key of ours: a lost format must not look like a new store. */
static bool make_format(struct etcd_store *s, struct arena *arena, uint64_t until_ms,
                        struct error *err)
{
    const char *text = etcd_format_text(s->is_migration, false);
    struct etcd_txn txn = { .arena = arena };
    struct etcd_key all, format;
    const struct etcd_range range = { .start = &all, .limit = 1, .keys_only = true };
    struct etcd_result ignored;
    struct etcd_page page;

    etcd_key_all(&all);
    etcd_key_format(&format);
    if (!etcd_range_ask(s->client, &range, arena, until_ms, &page, err))
        return false;
    if (page.n > 0) {
        struct etcd_pair first = etcd_page_at(&page, 0);

        return is_text(&first.key, "tdvol/format") || /* another broker was faster */
               error_set(err, ERROR_FAILED_PRECONDITION,
                         "store: etcd holds keys below tdvol/, but not tdvol/format: restore "
                         "etcd from a backup, or delete them all");
    }
    etcd_if_revision(&txn, &format, 0);
    etcd_then_put(&txn, &format, text, strlen(text));
    return etcd_txn_ask(s->client, &txn, until_ms, &ignored, err);
}

/* *has_ring: there is a ring, *ring. */
static bool read_both(struct etcd_store *s, struct arena *arena, uint64_t until_ms,
                      struct etcd_pair *format, struct store_ring *ring, bool *has_ring,
                      struct error *err)
{
    struct etcd_txn txn = { .arena = arena };
    struct etcd_key format_key, ring_key;
    struct etcd_result result;
    struct etcd_pair pair;

    etcd_key_format(&format_key);
    etcd_key_ring(&ring_key);
    etcd_then_get(&txn, &format_key);
    etcd_then_get(&txn, &ring_key);
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err) ||
        !etcd_result_get(&result, 0, &format_key, format, err) ||
        !etcd_result_get(&result, 1, &ring_key, &pair, err))
        return false;
    *ring = (struct store_ring){ .version = 0 };
    *has_ring = pair.revision > 0;
    return !*has_ring || etcd_ring_read(&pair.value, ring) ||
           error_set(err, ERROR_DATA_LOSS,
                     "store: tdvol/ring in etcd is damaged: restore etcd from a backup");
}

static bool replaced(struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE,
                     "store: etcd's data was replaced while this broker ran: restart it");
}

/* The first time all is taken that is sound; later only a newer ring. */
static bool accept(struct etcd_store *s, const struct etcd_pair *format,
                   const struct store_ring *ring, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    bool is_first = s->format_revision == 0, is_same = s->format_revision == format->revision;
    bool is_newer = ring->version > s->ring_version && format->revision > s->format_revision;

    pthread_mutex_unlock(&s->lock);
    if (is_same)
        return true;
    if (!is_first && !is_newer)
        return replaced(err);
    if (ring->version > 0 && !store_meet_ring(&s->store, ring, err))
        return false;
    pthread_mutex_lock(&s->lock);
    if (format->revision > s->format_revision) { /* another thread may know a later one */
        s->format_revision = format->revision;
        s->ring_version = ring->version;
    }
    pthread_mutex_unlock(&s->lock);
    return true;
}

bool etcd_take_format(struct etcd_store *s, uint64_t until_ms, struct store_ring *ring,
                      struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct store_ring stored;
    struct etcd_pair format;
    bool has_ring = false;

    pthread_mutex_lock(&s->lock);
    bool is_first = s->format_revision == 0;

    pthread_mutex_unlock(&s->lock);
    if (!read_both(s, &arena, until_ms, &format, &stored, &has_ring, err))
        return false;
    if (format.revision == 0 && !is_first)
        return replaced(err);
    if (format.revision == 0 && (!make_format(s, &arena, until_ms, err) ||
                                 !read_both(s, &arena, until_ms, &format, &stored, &has_ring, err)))
        return false;
    if (!etcd_judge_format(s, &format.value, has_ring, err) || !accept(s, &format, &stored, err))
        return false;
    if (ring)
        *ring = stored;
    return true;
}

bool etcd_check_fence(struct etcd_store *s, struct error *err)
{
    return !atomic_load(&s->is_fenced) ||
           error_set(err, ERROR_UNAVAILABLE,
                     "store: another process serves as replica %s: this one has stopped; give "
                     "each broker a --replica name of its own",
                     s->replica);
}

bool etcd_check_ready(struct etcd_store *s, uint64_t until_ms, struct error *err)
{
    pthread_mutex_lock(&s->lock);
    bool is_read = s->format_revision > 0;

    pthread_mutex_unlock(&s->lock);
    return etcd_check_fence(s, err) && (is_read || etcd_take_format(s, until_ms, NULL, err));
}

bool etcd_check_unlocked(struct etcd_store *s, uint64_t until_ms, struct error *err)
{
    if (!atomic_load(&s->is_unlocked))
        return error_set(err, ERROR_UNAVAILABLE, "store: locked: no master key");
    return etcd_check_ready(s, until_ms, err);
}

/* --- life --- */

static void etcd_store_close(struct store *store)
{
    struct etcd_store *s = etcd_store_of(store);

    etcd_compactor_stop(s);
    etcd_client_free(s->client);
    secret_wipe(&s->key);
    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

static const struct store_ops etcd_ops = {
    .name = "etcd",
    .is_shared = true,
    .unlock = etcd_store_unlock,
    .get_head = etcd_store_get_head,
    .each_head = etcd_store_each_head,
    .put_head = etcd_store_put_head,
    .get = etcd_store_get,
    .swap = etcd_store_swap,
    .list = etcd_store_list,
    .count = etcd_store_count,
    .get_key = etcd_store_get_key,
    .find_remains = etcd_store_find_remains,
    .each_retained = etcd_store_each_retained,
    .remember = etcd_store_remember,
    .forget = etcd_store_forget,
    .raise = etcd_store_raise,
    .walk = etcd_store_walk,
    .rekey = etcd_store_rekey,
    .get_ring = etcd_store_get_ring,
    .put_ring = etcd_store_put_ring,
    .export = etcd_store_export,
    .close = etcd_store_close,
};

static bool check_options(const struct store_options *o, struct error *err)
{
    const struct {
        const char *value, *name;
    } needed[] = { { o->ca, "--store-ca" },
                   { o->certificate, "--store-cert" },
                   { o->key, "--store-key" },
                   { o->replica, "--replica" } };

    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (!needed[i].value)
            return error_set(err, ERROR_INVALID_ARGUMENT, "a store in etcd needs %s",
                             needed[i].name);
    for (const char *c = o->replica; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "--replica: \"%s\" has other characters than letters, digits, -, _ "
                             "and .",
                             o->replica);
    if (o->replica[0] == '\0' || strlen(o->replica) > ETCD_REPLICA_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--replica has 1 to %d characters",
                         ETCD_REPLICA_MAX);
    return true;
}

bool store_etcd_open(const char *members, const struct store_options *options, struct store **out,
                     struct error *err)
{
    const struct etcd_client_options client = { members, options->ca, options->certificate,
                                                options->key };

    if (!check_options(options, err))
        return false;
    struct etcd_store *s = calloc(1, sizeof(*s));

    if (!s)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    s->store.ops = &etcd_ops;
    s->is_migration = options->is_migration;
    memcpy(s->replica, options->replica, strlen(options->replica));
    (void)pthread_mutex_init(&s->lock, NULL);
    condition_init(&s->changed);
    if (!random_bytes(s->process, sizeof(s->process), err) ||
        !etcd_client_new(&client, &s->client, err)) {
        etcd_store_close(&s->store);
        return false;
    }
    *out = &s->store;
    return true;
}

/* --- the end of a migration --- */

bool store_etcd_end_migration(struct store *store, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_store *s = etcd_store_of(store);
    struct etcd_txn txn = { .arena = &arena };
    struct etcd_key format;
    struct etcd_pair pair;
    struct etcd_result result;
    uint64_t until_ms = etcd_until(s->client);

    if (!etcd_check_unlocked(s, until_ms, err))
        return false;
    etcd_key_format(&format);
    etcd_guard(s, &txn);
    const char *text = etcd_format_text(false, s->ring_version > 0);

    etcd_then_put(&txn, &format, text, strlen(text));
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    s->is_migration = false;
    if (result.succeeded)
        return true;
    /* The answer to an earlier try may have been lost. */
    return etcd_get(s->client, &format, &arena, until_ms, &pair, err) &&
           etcd_judge_format(s, &pair.value, s->ring_version > 0, err);
}
