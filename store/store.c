/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store.h"

#include "base/names.h"

#include <pthread.h>
#include <string.h>

static bool open_sqlite(const char *where, const struct store_options *options, struct store **out,
                        struct error *err)
{
    const struct {
        const char *value, *name;
    } others[] = { { options->ca, "--store-ca" },
                   { options->certificate, "--store-cert" },
                   { options->key, "--store-key" },
                   { options->replica, "--replica" } };

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (others[i].value)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "%s is for a store in etcd: leave it out, or give --store etcd:...",
                             others[i].name);
    return store_sqlite_open(where, out, err);
}

static const struct store_kind {
    const char *name, *spec;
    bool is_folder;
    bool (*open)(const char *where, const struct store_options *options, struct store **out,
                 struct error *err);
} kinds[] = {
    { "sqlite", "sqlite:FOLDER", true, open_sqlite },
    { "etcd", "etcd:https://HOST:PORT", false, store_etcd_open },
};

/* *where: what follows the kind. */
static const struct store_kind *find_kind(const char *spec, const char **where)
{
    size_t len = strcspn(spec, ":");
    bool has_place = spec[len] == ':' && spec[len + 1] != '\0';

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (has_place && strlen(kinds[i].name) == len && strncmp(kinds[i].name, spec, len) == 0) {
            *where = spec + len + 1;
            return &kinds[i];
        }
    return NULL;
}

bool store_open(const struct store_options *options, struct store **out, struct error *err)
{
    struct name_list known = { .text = "" };
    const char *where = NULL;
    const struct store_kind *kind = find_kind(options->spec, &where);

    if (kind)
        return kind->open(where, options, out, err);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        name_list_add(&known, kinds[i].spec);
    return error_set(err, ERROR_INVALID_ARGUMENT,
                     "store \"%s\" is not known; the known ones are %s", options->spec, known.text);
}

const char *store_folder(const char *spec)
{
    const char *where = NULL;
    const struct store_kind *kind = find_kind(spec, &where);

    return kind && kind->is_folder ? where : NULL;
}

bool store_check_wanted(const struct store_filter *filter, struct error *err)
{
    return !filter->has_gone || !filter->has_gone(filter->cookie) ||
           error_set(err, ERROR_CANCELLED, "nobody waits for the list any more");
}

bool store_refuse(struct store *store, const char *volume_id, const char *what, struct error *err)
{
    atomic_fetch_add(&store->refused, 1);
    return error_set(err, ERROR_DATA_LOSS,
                     "the broker's store: the %s of volume %s is damaged, or was changed by "
                     "something else than the broker: restore the store from a backup",
                     what, volume_id);
}

/* A process has one store, or two while it migrates. */
static pthread_mutex_t taking = PTHREAD_MUTEX_INITIALIZER;

void store_set_taker(struct store *store,
                     bool (*take)(void *cookie, const struct store_ring *ring, struct error *err),
                     void *cookie)
{
    pthread_mutex_lock(&taking);
    store->take_ring = take;
    store->take_cookie = cookie;
    pthread_mutex_unlock(&taking);
}

bool store_meet_ring(struct store *store, const struct store_ring *ring, struct error *err)
{
    pthread_mutex_lock(&taking);
    bool ok = !store->take_ring || store->take_ring(store->take_cookie, ring, err);

    pthread_mutex_unlock(&taking);
    return ok;
}

bool store_ring_changed(struct error *err)
{
    return error_set(err, ERROR_ABORTED, "the store's keys are being changed: try again");
}

struct store_retained store_retained_of(const struct record *r)
{
    struct store_retained out = { .deleted_ms = r->retained.deleted_ms,
                                  .due_ms = r->retained.due_ms };

    memcpy(out.tenant, r->tenant, sizeof(out.tenant));
    memcpy(out.driver, r->driver, sizeof(out.driver));
    memcpy(out.volume_id, r->volume_id, sizeof(out.volume_id));
    return out;
}
