/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/backup.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/thread.h"
#include "broker/handlers.h"
#include "store/backup_file.h"
#include "store/keyring.h"
#include "transfer/marks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tdvol_config.h>

#define PATH_BYTES 4096
#define TRIES      10 /* a compaction of etcd ends one */

struct backups {
    struct broker *broker;
    char folder[PATH_BYTES / 2];
    char replica[BACKUP_REPLICA_MAX + 1];

    pthread_mutex_t lock; /* for all below */
    pthread_t thread;
    bool has_thread;
    M(BackupState) state;
    struct backup_head head; /* of the last one */
    struct backup_counts counts;
    uint8_t mac[BACKUP_MAC_LEN];
    char path[PATH_BYTES];
    struct error problem;
};

bool backups_new(const struct backups_options *options, struct backups **out, struct error *err)
{
    struct backups *b = calloc(1, sizeof(*b));

    if (!b)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    int len = snprintf(b->folder, sizeof(b->folder), "%s", options->folder);
    int name_len =
        snprintf(b->replica, sizeof(b->replica), "%s", options->replica ? options->replica : "");

    if (len < 0 || (size_t)len >= sizeof(b->folder) || name_len < 0 ||
        (size_t)name_len >= sizeof(b->replica)) {
        free(b);
        return error_set(err, ERROR_INVALID_ARGUMENT, "backups: the path or name is too long");
    }
    b->broker = options->broker;
    (void)pthread_mutex_init(&b->lock, NULL);
    *out = b;
    return true;
}

void backups_free(struct backups **backups)
{
    struct backups *b = *backups;

    if (!b)
        return;
    if (b->has_thread)
        (void)pthread_join(b->thread, NULL);
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
    *backups = NULL;
}

/* --- one backup --- */

/* "FOLDER/tdvol-2026-11-29T121314.567Z.backup": a colon is no part of a file's name everywhere. */
static bool make_path(struct backups *b, struct error *err)
{
    char when[CLOCK_TEXT_LEN];
    size_t n = 0;

    clock_text(b->head.created_ms, when);
    for (const char *c = when; *c; c++)
        if (*c != ':')
            when[n++] = *c;
    when[n] = '\0';
    int len = snprintf(b->path, sizeof(b->path), "%s/tdvol-%s.backup", b->folder, when);

    return (len > 0 && (size_t)len < sizeof(b->path)) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "backups: the path is too long");
}

/* Where the log ends is read first: a log that is ahead of a restored store is checked up to its end. */
static bool read_audit_head(struct backups *b, struct error *err)
{
    struct store *store = b->broker->store;
    struct store_head head;

    if (!store->ops->get_head(store, &head, err))
        return false;
    b->head.audit_seq = head.seq;
    b->head.audit_len = (uint32_t)head.len;
    memcpy(b->head.audit_head, head.bytes, head.len);
    return true;
}

/* Checked, because nobody could open the backup without it. */
static bool read_ring(struct backups *b, const struct secret *master, struct store_ring *out,
                      struct error *err)
{
    struct store *store = b->broker->store;
    auto_ring struct ring ring = { .version = 0 };

    return store->ops->get_ring(store, out, err) &&
           (out->version == 0 || ring_decode(out, master, &ring, err));
}

/* One try. The ring is the same before and after, so it was the same at the moment of the records.
 * ABORTED: it was not, or the moment is too long ago for etcd. */
static bool export_once(struct backups *b, const struct secret *master,
                        struct backup_writer *writer, struct error *err)
{
    struct store *store = b->broker->store;
    const struct store_visitor visitor = backup_visitor(writer);
    struct store_ring before, after;

    if (!read_ring(b, master, &before, err))
        return false;
    backup_set_ring(&b->head, &before);
    if (!backup_begin(writer, &b->head, err) || !store->ops->export(store, &visitor, err) ||
        !store->ops->get_ring(store, &after, err))
        return false;
    return before.version == after.version || store_ring_changed(err);
}

static bool export(struct backups *b, const struct secret *master, struct backup_writer *writer,
                   struct error *err)
{
    for (unsigned i = 0; i < TRIES; i++) {
        *err = (struct error)ERROR_INIT;
        if (export_once(b, master, writer, err))
            return true;
        if (err->code != ERROR_ABORTED)
            return false;
    }
    err->code = ERROR_UNAVAILABLE;
    return error_wrap(err, "the records change too fast: try again later");
}

/* The store remembers when backups were made, because they hold keys that are destroyed later. */
static bool note_time(struct backups *b, struct error *err)
{
    struct store *store = b->broker->store;
    uint64_t highest = 0;

    return store->ops->raise(store, BACKUP_MARK, b->broker->now_ms(), &highest, err);
}

static bool note_made(struct backups *b, struct error *err)
{
    struct store *store = b->broker->store;
    uint64_t highest = 0;

    if (!store->ops->raise(store, BACKUP_MADE_MARK, b->head.created_ms, &highest, err))
        return false;
    atomic_store(&b->broker->backup_ms, highest);
    return true;
}

bool backups_read_time(struct broker *broker, struct error *err)
{
    uint64_t highest = 0;

    if (!broker->store->ops->raise(broker->store, BACKUP_MADE_MARK, 0, &highest, err))
        return false;
    atomic_store(&broker->backup_ms, highest);
    return true;
}

/* A file without its line in the audit log must not be. */
static bool record_event(struct backups *b, struct error *err)
{
    char id[2 * BACKUP_ID_LEN + 1], mac[2 * BACKUP_MAC_LEN + 1];

    hex_encode(b->head.id, BACKUP_ID_LEN, id);
    hex_encode(b->mac, BACKUP_MAC_LEN, mac);
    const struct log_field fields[] = {
        TEXT("event", "backup"),
        TEXT("path", b->path),
        TEXT("id", id),
        TEXT("backup_mac", mac),
        NUMBER("records", b->counts.records),
    };

    return audit_write(b->broker->audit, fields, ARRAY_LEN(fields), NULL, err);
}

static bool make(struct backups *b, struct error *err)
{
    auto_secret struct secret master = SECRET_INIT; /* the writer uses it to its end */
    auto_backup_writer struct backup_writer *writer = NULL;

    if (!make_path(b, err) || !file_make_dirs(b->folder, 0700, err) ||
        !keyring_master(b->broker->keyring, &master, err) ||
        !backup_writer_new(b->folder, &master, &writer, err) || !note_time(b, err) ||
        !read_audit_head(b, err) || !export(b, &master, writer, err) ||
        !backup_end(writer, &b->counts, b->mac, err))
        return false;
    return note_time(b, err) && record_event(b, err) && backup_name(writer, b->path, err) &&
           note_made(b, err);
}

static void *run(void *cookie)
{
    struct backups *b = cookie;
    struct error err = ERROR_INIT;
    bool made = make(b, &err);

    if (made)
        log_info("backup written", TEXT("path", b->path), NUMBER("records", b->counts.records));
    else
        log_error("no backup was written", ERROR_FIELDS(&err));
    pthread_mutex_lock(&b->lock);
    b->problem = err;
    b->state = made ? TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_DONE
                    : TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_FAILED;
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* --- the call --- */

static bool start(struct backups *b, struct error *err)
{
    const struct broker *broker = b->broker;

    if (b->has_thread)
        (void)pthread_join(b->thread, NULL); /* it has said that it is done */
    b->has_thread = false;
    b->head = (struct backup_head){ .created_ms = broker->now_ms(),
                                    .restored_ms = broker->restored_ms,
                                    .version = TDVOL_VERSION };
    (void)snprintf(b->head.store, sizeof(b->head.store), "%s", broker->store->ops->name);
    memcpy(b->head.replica, b->replica, sizeof(b->replica));
    b->counts = (struct backup_counts){ .records = 0 };
    b->path[0] = '\0';
    if (!random_bytes(b->head.id, sizeof(b->head.id), err) ||
        !thread_start(&b->thread, "backup", run, b, err))
        return false;
    b->has_thread = true;
    b->state = TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_RUNNING;
    return true;
}

/* The thread writes to what is not copied while it runs. */
static bool tell(struct backups *b, struct arena *arena, M(BackupResponse) * response,
                 struct error *err)
{
    response->state = b->state;
    if (b->state == TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_UNSPECIFIED)
        return true;
    response->created_ms = b->head.created_ms;
    response->backup_id.len = BACKUP_ID_LEN;
    response->backup_id.data = arena_memdup(arena, b->head.id, BACKUP_ID_LEN);
    if (b->state == TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_DONE) {
        response->records = b->counts.records;
        response->bytes = b->counts.bytes;
        response->path = arena_strdup(arena, b->path);
        response->mac.len = BACKUP_MAC_LEN;
        response->mac.data = arena_memdup(arena, b->mac, BACKUP_MAC_LEN);
    }
    if (b->state == TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_FAILED)
        response->problem = arena_strdup(arena, b->problem.text);
    return (response->backup_id.data && response->path && response->problem &&
            (response->mac.len == 0 || response->mac.data)) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
}

bool backup(struct judged_call *s, struct rpc_call *call, const M(BackupRequest) * request,
            M(BackupResponse) * response, struct error *err)
{
    struct backups *b = s->broker->backups;
    bool starts = request->start != 0;

    if (!b)
        return error_set(err, ERROR_UNIMPLEMENTED, "this broker writes no backups");
    pthread_mutex_lock(&b->lock);
    if (b->state == TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_RUNNING)
        starts = false;
    /* Only a start has a line: who has it made is told before it is made. */
    bool ok = (!starts || (judged_call_audit(s, err) && start(b, err))) &&
              tell(b, call->arena, response, err);

    pthread_mutex_unlock(&b->lock);
    return ok;
}
