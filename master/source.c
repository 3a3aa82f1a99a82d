/* SPDX-License-Identifier: Apache-2.0 */
#include "master/source.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/option.h"
#include "master/kbs.h"
#include "master/peer.h"
#include "master/vault.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_MS  1000u
#define DOUBLINGS 5 /* up to 32 s */

struct source_kind {
    const char *name;
    bool is_remote;    /* it may take its time, and is not asked all the time */
    bool takes_shares; /* administrators may bring the key */
    const char *where; /* NULL: nothing follows the colon */
    bool (*check)(const struct master_source *source,
                  struct error *err); /* NULL: nothing to check */
    bool (*get)(struct master_source *source, struct secret *out, struct error *err);
};

struct master_source {
    const struct source_kind *kind;
    pthread_mutex_t lock;            /* guards what administrators bring: the next three */
    struct share shares[SHARES_MAX]; /* in the order in which they came */
    unsigned n_shares;
    struct secret key; /* not handed out yet */
    struct vault_options vault;
    struct kbs_options kbs;
    struct peer_options peer;
    /* For the one thread that gets the key. */
    uint64_t retry_ms; /* when a remote one is asked again, of clock_now_ms() */
    unsigned failures; /* in a row */
    struct error last; /* why */
    char where[];
};

/* --- the kinds --- */

static bool get_from_file(struct master_source *source, struct secret *out, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT;

    return file_read_private(source->where, MASTER_KEY_TEXT_MAX, &text, err) &&
           master_key_parse(&text, out, err);
}

static bool get_from_descriptor(struct master_source *source, struct secret *out, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT;
    uint64_t number = 0;

    if (!parse_u64(source->where, &number) || number > INT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is no file descriptor", source->where);
    auto_close int fd = (int)number;
    return (fd_read_secret(fd, MASTER_KEY_TEXT_MAX, &text, err) ||
            error_wrap(err, "file descriptor %d", fd)) &&
           master_key_parse(&text, out, err);
}

/* systemd makes the folder for one service alone, and names it (systemd.exec(5), "CREDENTIALS"). The
 * files belong to the user, or to root and its group with an access list that names the user. */
static bool get_from_credential(struct master_source *source, struct secret *out, struct error *err)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY"); /* NOLINT(concurrency-mt-unsafe) */
    auto_secret struct secret text = SECRET_INIT;
    char path[PATH_MAX];

    if (!folder)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "there are no credentials: this needs systemd, and a line like "
                         "LoadCredentialEncrypted=%s in the unit",
                         source->where);
    int len = snprintf(path, sizeof(path), "%s/%s", folder, source->where);
    if (len < 0 || (size_t)len >= sizeof(path))
        return error_set(err, ERROR_INVALID_ARGUMENT, "the credential's path is too long");
    return file_read_private_of(path, MASTER_KEY_TEXT_MAX, geteuid(), 0, &text, err) &&
           master_key_parse(&text, out, err);
}

bool master_progress_say(const struct master_progress *progress, struct error *err)
{
    if (progress->have == 0)
        return error_set(err, ERROR_UNAVAILABLE,
                         "it waits for the master key: tdvolctl broker unseal");
    if (progress->have == progress->need)
        return error_set(err, ERROR_UNAVAILABLE, "it has the master key, and checks its store");
    return error_set(err, ERROR_UNAVAILABLE,
                     "it has %u of %u shares of the master key: tdvolctl broker unseal",
                     progress->have, progress->need);
}

/* What they brought was looked at already. */
static bool get_from_administrators(struct master_source *source, struct secret *out,
                                    struct error *err)
{
    (void)out;
    (void)pthread_mutex_lock(&source->lock);
    const struct master_progress progress = { source->n_shares, source->shares[0].threshold };
    (void)pthread_mutex_unlock(&source->lock);
    return master_progress_say(&progress, err);
}

static bool get_from_vault(struct master_source *source, struct secret *out, struct error *err)
{
    return vault_unwrap(&source->vault, out, err);
}

static bool check_vault(const struct master_source *source, struct error *err)
{
    return vault_options_check(&source->vault, err);
}

static bool get_from_kbs(struct master_source *source, struct secret *out, struct error *err)
{
    return kbs_fetch(&source->kbs, out, err);
}

static bool check_kbs(const struct master_source *source, struct error *err)
{
    return kbs_options_check(&source->kbs, err);
}

static bool get_from_peer(struct master_source *source, struct secret *out, struct error *err)
{
    return peer_fetch(&source->peer, out, err);
}

static bool check_peer(const struct master_source *source, struct error *err)
{
    return peer_options_check(&source->peer, err);
}

static bool check_credential(const struct master_source *source, struct error *err)
{
    return (!strchr(source->where, '/') && source->where[0] != '.') ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s is no name of a credential", source->where);
}

#define REMOTE .is_remote = true

/* When all brokers were stopped, no peer is open, and only people can bring the key back. */
static const struct source_kind kinds[] = {
    { "file", .where = "PATH", .get = get_from_file },
    { "fd", .where = "N", .get = get_from_descriptor },
    { "credential", .where = "NAME", .check = check_credential, .get = get_from_credential },
    { "vault", REMOTE, .where = "URL", .check = check_vault, .get = get_from_vault },
    { "kbs", REMOTE, .where = "URL", .check = check_kbs, .get = get_from_kbs },
    { "peer", REMOTE, .takes_shares = true, .where = "HOST:PORT", .check = check_peer,
      .get = get_from_peer },
    { "unseal", .takes_shares = true, .get = get_from_administrators },
};

/* --- life --- */

static void list_kinds(char *out, size_t size)
{
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds) && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s:%s", i > 0 ? ", " : "", kinds[i].name,
                                kinds[i].where ? kinds[i].where : "");
}

static bool unknown_kind(const char *spec, struct error *err)
{
    char names[128] = "";

    list_kinds(names, sizeof(names));
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is no source of a master key: use %s", spec,
                     names);
}

/* NULL: a path, without a kind. */
static const struct source_kind *find_kind(const char *spec, const char **where)
{
    const char *colon = strchr(spec, ':');

    *where = spec;
    if (!colon || memchr(spec, '/', (size_t)(colon - spec)))
        return &kinds[0];
    *where = colon + 1;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strlen(kinds[i].name) == (size_t)(colon - spec) &&
            strncmp(spec, kinds[i].name, (size_t)(colon - spec)) == 0)
            return &kinds[i];
    return NULL;
}

bool master_source_new(const struct master_source_options *options, struct master_source **out,
                       struct error *err)
{
    const char *spec = options->spec, *where = NULL;
    const struct source_kind *kind = find_kind(spec, &where);

    if (!kind || (kind->where != NULL) != (where[0] != '\0'))
        return unknown_kind(spec, err);
    size_t len = strlen(where) + 1;
    auto_master_source struct master_source *source = calloc(1, sizeof(*source) + len);
    if (!source)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the master key's source");
    source->kind = kind;
    memcpy(source->where, where, len);
    source->vault = (struct vault_options){ source->where, options->vault_ca, options->vault_token,
                                            options->wrapped };
    source->kbs = (struct kbs_options){ source->where, options->kbs_ca, options->tsm_root,
                                        options->event_log };
    source->peer =
        (struct peer_options){ source->where,        options->peer_ca,  options->peer_name,
                               options->owner_token, options->tsm_root, options->event_log };
    (void)pthread_mutex_init(&source->lock, NULL);
    if (kind->check && !kind->check(source, err))
        return false;
    *out = TAKE_PTR(source);
    return true;
}

static void drop_shares(struct master_source *source)
{
    for (unsigned i = 0; i < source->n_shares; i++)
        share_wipe(&source->shares[i]);
    source->n_shares = 0;
}

void master_source_free(struct master_source **source)
{
    if (!*source)
        return;
    drop_shares(*source);
    secret_wipe(&(*source)->key);
    (void)pthread_mutex_destroy(&(*source)->lock);
    free(*source);
    *source = NULL;
}

/* A remote one may be away or sealed itself, or somebody may be about to change what it refuses: ask again,
 * but not all the time. */
static void pause_asking(struct master_source *source, const struct error *why)
{
    source->last = *why;
    source->retry_ms = clock_now_ms() + (PAUSE_MS << source->failures);
    if (source->failures < DOUBLINGS)
        source->failures++;
}

static bool get_paced(struct master_source *source, struct secret *out, struct error *err)
{
    if (source->kind->is_remote && clock_now_ms() < source->retry_ms) {
        *err = source->last;
        return false;
    }
    if (source->kind->get(source, out, err))
        return true;
    pause_asking(source, err);
    return false;
}

static bool take_from_administrators(struct master_source *source, struct secret *out)
{
    (void)pthread_mutex_lock(&source->lock);
    bool has_key = source->key.bytes != NULL;

    if (has_key)
        *out = secret_take(&source->key);
    (void)pthread_mutex_unlock(&source->lock);
    return has_key;
}

bool master_source_get(struct master_source *source, struct secret *out, struct error *err)
{
    return take_from_administrators(source, out) || get_paced(source, out, err);
}

bool master_source_read(const char *spec, struct secret *out, struct error *err)
{
    auto_master_source struct master_source *source = NULL;
    const struct master_source_options options = { .spec = spec };

    return (master_source_new(&options, &source, err) && master_source_get(source, out, err)) ||
           error_wrap(err, "--master-key");
}

void master_source_refuse(struct master_source *source, const struct error *why)
{
    pause_asking(source, why);
}

/* --- unsealing --- */

static bool check_new(const struct master_source *source, const struct share *share,
                      struct error *err)
{
    const struct share *first = &source->shares[0];

    if (source->n_shares > 0 && (first->threshold != share->threshold ||
                                 memcmp(first->set, share->set, SHARE_SET_LEN) != 0))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "this share belongs to another key than the %u that are here",
                         source->n_shares);
    for (unsigned i = 0; i < source->n_shares; i++)
        if (source->shares[i].number == share->number)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "share number %u is here already: %u of %u are", share->number,
                             source->n_shares, first->threshold);
    return true;
}

static bool combine(struct master_source *source, struct error *err)
{
    bool ok = shares_combine(source->shares, source->n_shares, &source->key, err);

    drop_shares(source);
    return ok || error_wrap(err, "all shares were dropped");
}

static bool add_share(struct master_source *source, const struct secret *text,
                      struct master_progress *out, struct error *err)
{
    auto_share struct share share = SHARE_INIT;

    if (!share_parse(text, &share, err) || !check_new(source, &share, err))
        return false;
    unsigned need = share.threshold;
    source->shares[source->n_shares++] = share;
    share = (struct share)SHARE_INIT;
    *out = (struct master_progress){ .have = source->n_shares, .need = need };
    return source->n_shares < need || combine(source, err);
}

/* The key itself is the only "share". */
static bool add_key(struct master_source *source, const struct secret *text,
                    struct master_progress *out, struct error *err)
{
    if (!master_key_parse(text, &source->key, err))
        return false;
    drop_shares(source);
    *out = (struct master_progress){ .have = 1, .need = 1 };
    return true;
}

static bool add(struct master_source *source, const struct secret *text,
                struct master_progress *out, struct error *err)
{
    if (!source->kind->takes_shares)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the broker takes its master key from %s:%s, not from administrators "
                         "(--master-key unseal:)",
                         source->kind->name, source->where);
    if (source->key.bytes)
        return error_set(err, ERROR_FAILED_PRECONDITION, "the master key is here already");
    return memchr(text->bytes, ':', text->len) ? add_share(source, text, out, err)
                                               : add_key(source, text, out, err);
}

bool master_source_add(struct master_source *source, const struct secret *text,
                       struct master_progress *out, struct error *err)
{
    (void)pthread_mutex_lock(&source->lock);
    bool ok = add(source, text, out, err);
    (void)pthread_mutex_unlock(&source->lock);
    return ok;
}
