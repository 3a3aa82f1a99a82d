/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd.h"

#include "base/thread.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_VERSION   "1"
#define FORMAT_READY     "1 ready"
#define FORMAT_MIGRATING "1 migrating"
#define FORMAT_SHOWN     32 /* bytes of a format that is not known */

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
                     "version " FORMAT_VERSION " alone",
                     text ? text : "?");
}

static bool judge_format(const struct etcd_store *s, const struct etcd_bytes *value,
                         struct error *err)
{
    if (is_text(value, s->is_migration ? FORMAT_MIGRATING : FORMAT_READY))
        return true;
    if (is_text(value, FORMAT_MIGRATING))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "store: a migration into etcd has not ended: run it again, it goes on "
                         "where it stopped");
    if (is_text(value, FORMAT_READY))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "store: etcd already holds a broker's store: nothing is migrated into it");
    return refuse_format(value, err);
}

/* Only into an etcd without any key of ours: a lost format must not look like a new store. */
static bool make_format(struct etcd_store *s, struct arena *arena, uint64_t until_ms,
                        struct error *err)
{
    const char *text = s->is_migration ? FORMAT_MIGRATING : FORMAT_READY;
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

static bool read_format(struct etcd_store *s, uint64_t until_ms, struct error *err)
{
    auto_arena struct arena arena = { .limit = ETCD_ARENA_BYTES };
    struct etcd_key format;
    struct etcd_pair pair;

    etcd_key_format(&format);
    if (!etcd_get(s->client, &format, &arena, until_ms, &pair, err))
        return false;
    if (pair.revision == 0 && (!make_format(s, &arena, until_ms, err) ||
                               !etcd_get(s->client, &format, &arena, until_ms, &pair, err)))
        return false;
    if (!judge_format(s, &pair.value, err))
        return false;
    pthread_mutex_lock(&s->lock);
    s->format_revision = pair.revision;
    pthread_mutex_unlock(&s->lock);
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
    return etcd_check_fence(s, err) && (is_read || read_format(s, until_ms, err));
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
    .unlock = etcd_store_unlock,
    .get_head = etcd_store_get_head,
    .each_head = etcd_store_each_head,
    .put_head = etcd_store_put_head,
    .get = etcd_store_get,
    .swap = etcd_store_swap,
    .list = etcd_store_list,
    .count = etcd_store_count,
    .get_key = etcd_store_get_key,
    .remember = etcd_store_remember,
    .forget = etcd_store_forget,
    .raise = etcd_store_raise,
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
    etcd_then_put(&txn, &format, FORMAT_READY, strlen(FORMAT_READY));
    if (!etcd_txn_ask(s->client, &txn, until_ms, &result, err))
        return false;
    s->is_migration = false;
    if (result.succeeded)
        return true;
    /* The answer to an earlier try may have been lost. */
    return etcd_get(s->client, &format, &arena, until_ms, &pair, err) &&
           judge_format(s, &pair.value, err);
}
