/* SPDX-License-Identifier: Apache-2.0 */
/* How a collateral set is accepted: it must verify, be newer than the current set, and not be
 * older than the marks. */
#include "attest/reason.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "collateral/collateral_marks.h"
#include "collateral/collaterals_state.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS_PER_S         1000u
#define CACHE_PATH_BYTES 4096

void collaterals_held_put(struct collaterals_held *held)
{
    if (!held || atomic_fetch_sub(&held->references, 1) != 1)
        return;
    collateral_free(&held->collateral);
    free(held->bundle);
    free(held);
}

static void held_put_at(struct collaterals_held **held)
{
    collaterals_held_put(*held);
    *held = NULL;
}

int64_t collaterals_now_s(const struct collaterals *c)
{
    return (int64_t)(c->options.now_ms() / MS_PER_S);
}

void collaterals_name(const uint8_t *fmspc, enum pck_ca ca, char out[static COLLATERALS_NAME_BYTES])
{
    char hex[2 * FMSPC_LEN + 1];

    hex_encode(fmspc, FMSPC_LEN, hex);
    (void)snprintf(out, COLLATERALS_NAME_BYTES, "%s-%s", hex, pck_ca_name(ca));
}

/* --- entries; the caller holds the lock --- */

struct collaterals_known *collaterals_find(struct collaterals *c, const uint8_t *fmspc,
                                           enum pck_ca ca)
{
    for (size_t i = 0; i < c->n; i++)
        if (memcmp(c->entries[i].fmspc, fmspc, FMSPC_LEN) == 0 && c->entries[i].ca == ca)
            return &c->entries[i];
    return NULL;
}

/* A place for a platform: a free one, or the place of a platform that no source has a set for. */
struct collaterals_known *collaterals_add(struct collaterals *c, const uint8_t *fmspc,
                                          enum pck_ca ca)
{
    struct collaterals_known *place = NULL;

    if (c->n < COLLATERALS_MAX)
        place = &c->entries[c->n++];
    for (size_t i = 0; !place && i < c->n; i++)
        if (!c->entries[i].held && !c->entries[i].is_wanted)
            place = &c->entries[i];
    if (!place)
        return NULL;
    *place = (struct collaterals_known){ .ca = ca };
    memcpy(place->fmspc, fmspc, FMSPC_LEN);
    return place;
}

/* --- taking a candidate --- */

static bool is_valid_now(const struct collaterals *c, const struct collateral *candidate)
{
    struct error ignored = ERROR_INIT;

    return collateral_check_dates(candidate, collaterals_now_s(c), &ignored);
}

/* NULL when the set is refused. */
static struct collaterals_held *verify(struct collaterals *c, const struct collateral_set *set,
                                       struct error *err)
{
    struct collaterals_held *held = calloc(1, sizeof(*held));

    if (!held) {
        (void)error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for collateral");
        return NULL;
    }
    atomic_init(&held->references, 1);
    if (!collateral_load(&set->source, c->options.root, &held->collateral, err) ||
        !collateral_bundle_print(&set, 1, &held->bundle, err)) {
        collaterals_held_put(held);
        return NULL;
    }
    held->issued = collateral_issued(&held->collateral);
    held->next_update = collateral_next_update(&held->collateral);
    return held;
}

/* Whether the candidate replaces the current set. A set that is not valid today must not replace a
 * valid one. */
static bool is_better(const struct collaterals *c, const struct collaterals_held *candidate,
                      const struct collaterals_held *current)
{
    if (!current)
        return true;
    bool candidate_valid = is_valid_now(c, &candidate->collateral);
    bool current_valid = is_valid_now(c, &current->collateral);
    if (candidate_valid != current_valid)
        return candidate_valid;
    if (candidate->collateral.tcb.evaluation_number != current->collateral.tcb.evaluation_number)
        return candidate->collateral.tcb.evaluation_number >
               current->collateral.tcb.evaluation_number;
    if (candidate->issued != current->issued)
        return candidate->issued > current->issued;
    return candidate->next_update > current->next_update;
}

/* A set with newer documents may bring an older list, which lacks a revocation. The numbers of
 * Intel's lists do not show that, so the dates are compared. */
static bool check_lists(const struct collateral *candidate, const struct collaterals_held *current,
                        struct error *err)
{
    if (current && (candidate->root_crl_issued < current->collateral.root_crl_issued ||
                    candidate->pck_crl_issued < current->collateral.pck_crl_issued))
        return attest_refuse(err, REASON_CRL_ROLLED_BACK,
                             "a revocation list is older than the one in use");
    return true;
}

/* *is_wanted: the candidate is better. A good set that is only older is no failure. */
static bool decide(struct collaterals *c, const struct collaterals_held *candidate, enum pck_ca ca,
                   bool *is_wanted, struct error *err)
{
    COLLATERALS_LOCKED(&c->lock);
    struct collaterals_known *entry = collaterals_find(c, candidate->collateral.tcb.fmspc, ca);
    if (!entry)
        entry = collaterals_add(c, candidate->collateral.tcb.fmspc, ca);
    if (!entry)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED,
                         "the broker already has collateral for %d kinds of platforms and cannot "
                         "keep more",
                         COLLATERALS_MAX);
    bool better = is_better(c, candidate, entry->held);
    if (better && !check_lists(&candidate->collateral, entry->held, err))
        return false;
    entry->fetched = collaterals_now_s(c);
    entry->is_wanted = entry->is_wanted || better; /* keeps the entry until install */
    *is_wanted = better;
    return true;
}

/* Stores the candidate. The old set is freed when its last user has finished. */
static void install(struct collaterals *c, struct collaterals_held **candidate, enum pck_ca ca)
{
    CLEANUP(held_put_at) struct collaterals_held *old = NULL;

    COLLATERALS_LOCKED(&c->lock);
    struct collaterals_known *entry = collaterals_find(c, (*candidate)->collateral.tcb.fmspc, ca);
    if (!entry)
        return;
    old = entry->held;
    entry->held = TAKE_PTR(*candidate);
    entry->said = COLLATERAL_FRESH;
    entry->is_wanted = false;
}

/* Verifies a set and keeps it when it is newer. The marks are raised before a client can use the
 * set: after a crash in between, older sets are refused. */
static bool admit(struct collaterals *c, const struct collateral_set *set, bool *is_new,
                  struct error *err)
{
    const struct trust_root *root = c->options.root;
    CLEANUP(held_put_at) struct collaterals_held *candidate = NULL;
    bool is_wanted = false;

    COLLATERALS_LOCKED(&c->accepting);
    candidate = verify(c, set, err);
    if (!candidate ||
        !collateral_marks_check(c->options.store, root, &candidate->collateral, set->ca, err))
        return false;
    if (candidate->collateral.tcb.evaluation_number != candidate->collateral.qe.evaluation_number)
        return attest_refuse(err, REASON_COLLATERAL_MIXED,
                             "TCB info and QE identity are of different TCB recoveries: their "
                             "evaluation numbers are %u and %u",
                             candidate->collateral.tcb.evaluation_number,
                             candidate->collateral.qe.evaluation_number);
    if (!decide(c, candidate, set->ca, &is_wanted, err))
        return false;
    if (is_wanted && is_valid_now(c, &candidate->collateral) &&
        !collateral_marks_raise(c->options.store, root, &candidate->collateral, set->ca, err))
        return false;
    if (is_wanted)
        install(c, &candidate, set->ca);
    *is_new = is_wanted;
    return true;
}

bool collaterals_take(struct collaterals *c, const struct collateral_set *set, const char *source,
                      bool *is_new, struct error *err)
{
    char platform[COLLATERALS_NAME_BYTES];

    collaterals_name(set->fmspc, set->ca, platform);
    if (!admit(c, set, is_new, err)) {
        log_error("collateral refused", TEXT("platform", platform), TEXT("source", source),
                  ERROR_FIELDS(err));
        return false;
    }
    if (*is_new)
        log_info("collateral taken", TEXT("platform", platform), TEXT("source", source));
    return true;
}

/* --- sources: cache, folder, bundle --- */

struct visit {
    struct collaterals *c;
    const char *source;
};

/* A refused set is left out, and the walk goes on. Any other failure ends the walk. */
static bool on_set(void *cookie, const struct collateral_set *set, struct error *err)
{
    const struct visit *visit = cookie;
    bool is_new = false;

    return collaterals_take(visit->c, set, visit->source, &is_new, err) ||
           err->code == ERROR_DENIED;
}

static bool load_bundle(struct collaterals *c, const char *path, struct error *err)
{
    struct visit visit = { c, path };
    auto_free char *text = NULL;
    size_t len = 0;

    return file_read(path, COLLATERAL_BUNDLE_MAX, &text, &len, err) &&
           (collateral_bundle_walk(text, len, on_set, &visit, err) || error_wrap(err, "%s", path));
}

static bool cache_path(const struct collaterals *c, const uint8_t *fmspc, enum pck_ca ca,
                       char out[static CACHE_PATH_BYTES], struct error *err)
{
    char platform[COLLATERALS_NAME_BYTES];

    collaterals_name(fmspc, ca, platform);
    int len = snprintf(out, CACHE_PATH_BYTES, "%s/%s.json", c->options.cache_dir, platform);
    return (len > 0 && len < CACHE_PATH_BYTES) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "the path of the collateral cache is too long");
}

/* Keeps a fetched set, so that a restart needs no network. */
void collaterals_write_cache(struct collaterals *c, const struct collateral_set *set)
{
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    char path[CACHE_PATH_BYTES];

    if (!cache_path(c, set->fmspc, set->ca, path, &err) ||
        !collateral_bundle_print(&set, 1, &text, &err) ||
        !file_write(path, 0600, text, strlen(text), &err))
        log_warning("collateral not written to the cache", ERROR_FIELDS(&err));
}

/* Reads the files of earlier runs. A bad file must not stop the broker. */
void collaterals_load_cache(struct collaterals *c)
{
    DIR *dir = opendir(c->options.cache_dir);
    const struct dirent *file = NULL;

    while (dir && (file = readdir(dir)) != NULL) {
        char path[CACHE_PATH_BYTES];
        struct error err = ERROR_INIT;
        const char *ending = strrchr(file->d_name, '.');
        int len = snprintf(path, sizeof(path), "%s/%s", c->options.cache_dir, file->d_name);

        if (!ending || strcmp(ending, ".json") != 0 || len < 0 || (size_t)len >= sizeof(path))
            continue;
        if (!load_bundle(c, path, &err))
            log_warning("cached collateral ignored", TEXT("file", path), ERROR_FIELDS(&err));
    }
    if (dir)
        closedir(dir);
}

bool collaterals_reload(struct collaterals *c, struct error *err)
{
    struct visit visit = { c, c->options.folder };

    if (c->options.folder && !collateral_folders_walk(c->options.folder, on_set, &visit, err))
        return false;
    return !c->options.bundle || load_bundle(c, c->options.bundle, err);
}
