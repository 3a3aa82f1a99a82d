/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store_etcd_client.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/option.h"
#include "base/secret.h"
#include "base/thread.h"
#include "proto/client.h"
#include "proto/tls.h"

#include <ctype.h>
#include <etcd.pb-c.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    PEM_BYTES_MAX = 256 * 1024,
    PAUSE_MS = 50,         /* before the members are asked again: an election is under way */
    REFUSALS_MAX = 4,      /* tries when members are busy for a moment, or full for longer */
    FIRST_TRY_MS = 5000,   /* long enough for the link to say why there is no connection */
    FILES_CHECK_MS = 5000, /* how often the files are looked at */
};

enum file { CA, CERTIFICATE, KEY, FILE_COUNT };

struct etcd_credentials {
    char *ca, *certificate;
    struct secret key;
};

struct etcd_client {
    char *members; /* addresses point into it */
    const char *addresses[ETCD_MEMBERS_MAX];
    size_t n;
    char *files[FILE_COUNT];
    atomic_size_t in_use;
    atomic_bool has_answered;
    atomic_bool is_away; /* no member answered to the last operation */

    pthread_mutex_t lock;          /* for all below */
    struct etcd_credentials first; /* until the clients are made */
    struct client *clients[ETCD_MEMBERS_MAX];
    bool is_open;
    struct stat seen[FILE_COUNT];
    uint64_t checked_ms;
};

static void credentials_wipe(struct etcd_credentials *c)
{
    free_at(&c->ca);
    free_at(&c->certificate);
    secret_wipe(&c->key);
}
#define auto_credentials CLEANUP(credentials_wipe)

static void unlock(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}
#define auto_locked CLEANUP(unlock)

/* --- options --- */

static bool is_address(const char *text)
{
    const char *colon = strrchr(text, ':');
    uint64_t port = 0;

    for (const char *c = text; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr(".:-_[]", *c))
            return false;
    return colon && colon != text && parse_u64(colon + 1, &port) && port > 0 && port < 65536;
}

static bool read_members(struct etcd_client *client, const char *members, struct error *err)
{
    static const char scheme[] = "https://";
    char *rest = NULL;

    client->members = strdup(members);
    if (!client->members)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    for (char *part = strtok_r(client->members, ",", &rest); part;
         part = strtok_r(NULL, ",", &rest)) {
        if (strncmp(part, scheme, sizeof(scheme) - 1) != 0 ||
            !is_address(part + sizeof(scheme) - 1))
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "store: etcd: \"%s\" is not https://HOST:PORT", part);
        if (client->n == ETCD_MEMBERS_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT, "store: etcd: more than %d members",
                             ETCD_MEMBERS_MAX);
        client->addresses[client->n++] = part + sizeof(scheme) - 1;
    }
    return client->n > 0 || error_set(err, ERROR_INVALID_ARGUMENT, "store: etcd: no member");
}

static bool read_files(const struct etcd_client *client, struct etcd_credentials *out,
                       struct error *err)
{
    size_t len = 0;
    int64_t ignored = 0;

    if (!file_read(client->files[CA], PEM_BYTES_MAX, &out->ca, &len, err) ||
        !file_read(client->files[CERTIFICATE], PEM_BYTES_MAX, &out->certificate, &len, err) ||
        !file_read_private(client->files[KEY], PEM_BYTES_MAX, &out->key, err))
        return false;
    /* gRPC takes anything, and fails when it connects. */
    return (tls_check_ca(out->ca, &ignored, err) || error_wrap(err, "--store-ca")) &&
           (tls_check_pair(out->certificate, &out->key, &ignored, err) ||
            error_wrap(err, "--store-cert, --store-key"));
}

static bool fill(struct etcd_client *client, const struct etcd_client_options *o, struct error *err)
{
    const char *const paths[FILE_COUNT] = { o->ca, o->certificate, o->key };

    for (size_t i = 0; i < FILE_COUNT; i++) {
        client->files[i] = strdup(paths[i]);
        if (!client->files[i])
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
        (void)stat(paths[i], &client->seen[i]); /* read_files() says what is wrong */
    }
    return read_members(client, o->members, err) &&
           (read_files(client, &client->first, err) || error_wrap(err, "store: etcd"));
}

bool etcd_client_new(const struct etcd_client_options *options, struct etcd_client **out,
                     struct error *err)
{
    struct etcd_client *client = calloc(1, sizeof(*client));

    if (!client)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "store: out of memory");
    (void)pthread_mutex_init(&client->lock, NULL);
    if (!fill(client, options, err)) {
        etcd_client_free(client);
        return false;
    }
    *out = client;
    return true;
}

void etcd_client_free(struct etcd_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < client->n; i++)
        client_free(client->clients[i]);
    credentials_wipe(&client->first);
    for (size_t i = 0; i < FILE_COUNT; i++)
        free(client->files[i]);
    free(client->members);
    pthread_mutex_destroy(&client->lock);
    free(client);
}

/* --- credentials --- */

static struct client_tls tls_of(const struct etcd_credentials *c)
{
    return (struct client_tls){ .ca_pem = c->ca,
                                .certificate_pem = c->certificate,
                                .private_key_pem = &c->key };
}

static bool have_changed(struct etcd_client *client)
{
    bool changed = false;

    for (size_t i = 0; i < FILE_COUNT; i++) {
        struct stat now, *seen = &client->seen[i];

        if (stat(client->files[i], &now) != 0)
            continue;
        changed |= now.st_ino != seen->st_ino || now.st_size != seen->st_size ||
                   now.st_mtim.tv_sec != seen->st_mtim.tv_sec ||
                   now.st_mtim.tv_nsec != seen->st_mtim.tv_nsec;
        *seen = now;
    }
    return changed;
}

static bool use_new_files(struct etcd_client *client, struct error *err)
{
    auto_credentials struct etcd_credentials next = { .ca = NULL };

    if (!read_files(client, &next, err))
        return false;
    const struct client_tls tls = tls_of(&next);

    for (size_t i = 0; i < client->n; i++)
        if (!client_set_tls(client->clients[i], &tls, err))
            return false;
    return true;
}

/* Files that are not good leave the old ones in use. */
static void renew(struct etcd_client *client)
{
    uint64_t now_ms = clock_now_ms();
    struct error err = ERROR_INIT;

    if (now_ms - client->checked_ms < FILES_CHECK_MS)
        return;
    client->checked_ms = now_ms;
    if (have_changed(client) && !use_new_files(client, &err))
        log_error("changed certificate files for etcd are not used", ERROR_FIELDS(&err));
}

static bool make_ready(struct etcd_client *client, struct error *err)
{
    auto_locked pthread_mutex_t *lock = &client->lock;

    pthread_mutex_lock(lock);
    if (client->is_open) {
        renew(client);
        return true;
    }
    const struct client_tls tls = tls_of(&client->first);

    for (size_t i = 0; i < client->n; i++)
        if (!client->clients[i] &&
            !client_new(client->addresses[i], &tls, &client->clients[i], err))
            return error_wrap(err, "store: etcd");
    credentials_wipe(&client->first);
    client->checked_ms = clock_now_ms();
    client->is_open = true;
    return true;
}

/* --- calls --- */

/* The broker's caller must not take etcd's judgement of the broker for the broker's own. */
static bool explain(const struct etcd_client *client, size_t i, struct error *err)
{
    if (err->code != ERROR_OUT_OF_RANGE && err->code != ERROR_RESOURCE_EXHAUSTED)
        err->code = ERROR_UNAVAILABLE;
    err->reason[0] = '\0';
    return error_wrap(err, "store: etcd https://%s", client->addresses[i]);
}

uint64_t etcd_until(const struct etcd_client *client)
{
    return clock_now_ms() +
           (atomic_load(&client->is_away) ? ETCD_AWAY_PATIENCE_MS : ETCD_PATIENCE_MS);
}

bool etcd_is_passing(const struct error *err, size_t tries)
{
    return err->code == ERROR_UNAVAILABLE ||
           (err->code == ERROR_RESOURCE_EXHAUSTED && tries < REFUSALS_MAX);
}

static uint64_t left_of(uint64_t until_ms)
{
    uint64_t now_ms = clock_now_ms();

    return until_ms > now_ms ? until_ms - now_ms : 0;
}

bool etcd_ask_once(struct etcd_client *client, const struct etcd_call *call, uint64_t until_ms,
                   ProtobufCMessage **out, struct error *err)
{
    uint64_t left_ms = left_of(until_ms);
    uint64_t try_ms = atomic_load(&client->has_answered) ? ETCD_TRY_MS : FIRST_TRY_MS;
    size_t i = atomic_load(&client->in_use);

    if (!make_ready(client, err))
        return false;
    if (left_ms == 0)
        left_ms = 1;
    if (client_call(client->clients[i], &etcdserverpb__kv__descriptor, call->method, call->request,
                    left_ms < try_ms ? left_ms : try_ms, call->arena, out, err)) {
        atomic_store(&client->has_answered, true);
        atomic_store(&client->is_away, false);
        return true;
    }
    /* Unless another call has done it. */
    (void)atomic_compare_exchange_strong(&client->in_use, &(size_t){ i }, (i + 1) % client->n);
    return explain(client, i, err);
}

static void pause_for(uint64_t ms)
{
    const struct timespec time = { .tv_nsec = (long)ms * 1000 * 1000 };

    (void)nanosleep(&time, NULL);
}

bool etcd_ask(struct etcd_client *client, const struct etcd_call *call, uint64_t until_ms,
              ProtobufCMessage **out, struct error *err)
{
    for (size_t k = 1;; k++) {
        if (etcd_ask_once(client, call, until_ms, out, err))
            return true;
        if (!etcd_is_passing(err, k)) {
            /* For a node RESOURCE_EXHAUSTED would be "this volume has no room". */
            if (err->code == ERROR_RESOURCE_EXHAUSTED)
                err->code = ERROR_UNAVAILABLE;
            return false;
        }
        if (left_of(until_ms) <= PAUSE_MS) {
            atomic_store(&client->is_away, true);
            return false;
        }
        if (k % client->n == 0)
            pause_for(PAUSE_MS);
    }
}
