/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit.h"

#include "audit/audit_head.h"
#include "audit/audit_walk.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "store/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* More lines than this were not being answered when the broker was killed. */
#define AHEAD_MAX 64

#define ID_TEXT_LEN (2 * AUDIT_CHAIN_ID_LEN + 1)

struct audit {
    struct audit_options options;
    struct secret wrapping; /* of the key in the head */
    pthread_mutex_t lock;   /* for all below */
    int fd;
    off_t size;                 /* of the good part of the file */
    bool is_broken, has_failed; /* has_failed: the last line was not written */
    struct audit_chain chain;
    char trouble[AUDIT_TROUBLE_LEN];
    char line[AUDIT_LINE_MAX]; /* the line being written */
};

static void json_free(json_t **json)
{
    json_decref(*json);
}
#define auto_json CLEANUP(json_free)

uint64_t audit_lines(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    uint64_t lines = audit->chain.seq;
    pthread_mutex_unlock(&audit->lock);
    return lines;
}

void audit_trouble(struct audit *audit, char out[static AUDIT_TROUBLE_LEN])
{
    pthread_mutex_lock(&audit->lock);
    memcpy(out, audit->trouble, AUDIT_TROUBLE_LEN);
    pthread_mutex_unlock(&audit->lock);
}

/* --- writing --- */

/* A text that was cut within a character is not UTF-8. Then only its ASCII characters are
 * logged. */
static json_t *make_text(const char *text)
{
    json_t *json = json_string(text);
    size_t len = strlen(text);

    if (json)
        return json;
    auto_free char *ascii = strdup(text);

    for (size_t i = 0; ascii && i < len; i++)
        if ((unsigned char)ascii[i] >= 0x80)
            ascii[i] = '?';
    return ascii ? json_string(ascii) : NULL;
}

static bool put_fields(json_t *json, const struct log_field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct log_field *f = &fields[i];

        if (f->text && f->text[0] == '\0')
            continue;
        if (json_object_set_new(json, f->name,
                                f->text ? make_text(f->text) : json_integer(f->number)) != 0)
            return false;
    }
    return true;
}

/* Writes the next line to audit->line. json_dumps is not used: when memory runs out while its
 * buffer grows, it leaves a character out and reports success. */
static bool make_line(struct audit *audit, const struct log_field *fields, size_t n, size_t *len,
                      struct error *err)
{
    char now[CLOCK_TEXT_LEN];

    clock_text(clock_wall_ms(), now);
    auto_json json_t *json = json_pack("{sI ss ss}", "seq", (json_int_t)audit->chain.seq + 1,
                                       "time", now, "prev", audit->chain.hash);

    if (!json || !put_fields(json, fields, n))
        return error_set(err, ERROR_INTERNAL, "out of memory");
    *len = json_dumpb(json, audit->line, sizeof(audit->line), JSON_COMPACT | JSON_ENSURE_ASCII);
    if (*len == 0 || *len >= sizeof(audit->line))
        return error_set(err, ERROR_INTERNAL, "%s",
                         *len > 0 ? "the line is too long" : "out of memory");
    return audit_line_sign(&audit->chain, audit->line, len, sizeof(audit->line) - 1, err);
}

/* Cuts the file back when only a part of the line was written. */
static bool append(struct audit *audit, size_t len, struct error *err)
{
    bool ok = fd_write_all(audit->fd, audit->line, len, err);

    FAULT_POINT("broker.audit.written");
    if (ok && fdatasync(audit->fd) != 0)
        ok = error_set_errno(err, errno, "sync");
    audit->has_failed = !ok;
    if (ok) {
        audit->size += (off_t)len;
        return true;
    }
    if (ftruncate(audit->fd, audit->size) != 0)
        audit->is_broken = true;
    return false;
}

static bool check_not_broken(const struct audit *audit, struct error *err)
{
    return !audit->is_broken ||
           error_set(err, ERROR_UNAVAILABLE,
                     "an earlier failed write could not be undone: restart the broker");
}

/* The chain has moved on when the line is on disk, and not before. */
static bool write_locked(struct audit *audit, const struct log_field *fields, size_t n,
                         struct error *err)
{
    char hash[AUDIT_HASH_TEXT];
    size_t len = 0;

    if (!check_not_broken(audit, err))
        return false;
    if (!make_line(audit, fields, n, &len, err) || !audit_line_hash(audit->line, len, hash, err) ||
        !audit_chain_derive(&audit->chain, err))
        return false;
    audit->line[len] = '\n';
    if (!append(audit, len + 1, err))
        return false;
    audit_chain_advance(&audit->chain);
    audit->chain.seq++;
    memcpy(audit->chain.hash, hash, sizeof(hash));
    return true;
}

bool audit_write(struct audit *audit, const struct log_field *fields, size_t n,
                 struct store_head *head, struct error *err)
{
    struct store *store = audit->options.store;
    struct store_head own;

    pthread_mutex_lock(&audit->lock);
    bool ok = write_locked(audit, fields, n, err) &&
              audit_head_make(&audit->wrapping, &audit->chain, head ? head : &own, err);

    pthread_mutex_unlock(&audit->lock);
    FAULT_POINT("broker.audit.synced");
    if (ok && (head || store->ops->put_head(store, &own, err)))
        return true;
    /* Another replica may be able to: its log and its way to the store are its own. */
    if (!ok)
        err->code = ERROR_UNAVAILABLE;
    else if (err->code != ERROR_UNAVAILABLE)
        err->code = ERROR_INTERNAL;
    return error_wrap(err, "audit log");
}

/* After a failure nobody may ask this broker any more, so no call would show that it is over: room
 * for one line is reserved behind the end of the file. */
static bool check_room(struct audit *audit, struct error *err)
{
    if (!audit->has_failed ||
        fallocate(audit->fd, FALLOC_FL_KEEP_SIZE, audit->size, AUDIT_LINE_MAX) == 0 ||
        errno == EOPNOTSUPP)
        return true;
    error_set_errno(err, errno, "%s: no line can be written", audit->options.path);
    err->code = ERROR_UNAVAILABLE;
    return false;
}

bool audit_check_room(struct audit *audit, struct error *err)
{
    pthread_mutex_lock(&audit->lock);
    bool ok = check_not_broken(audit, err) && check_room(audit, err);

    pthread_mutex_unlock(&audit->lock);
    return ok || error_wrap(err, "audit log");
}

/* --- opening --- */

/* A line that names the chain: begun, rotated or restarted. */
static bool write_start(struct audit *audit, const char *event, const char *why, struct error *err)
{
    char id[ID_TEXT_LEN];
    const struct log_field fields[] = {
        TEXT("event", event),
        TEXT("chain", id),
        NUMBER("first", audit->chain.first),
        TEXT("note", why),
        TEXT("replica", audit->options.replica),
        NUMBER("known", audit->chain.seq), /* the last line that the broker knows */
    };

    hex_encode(audit->chain.id, AUDIT_CHAIN_ID_LEN, id);
    return write_locked(audit, fields, ARRAY_LEN(fields), err);
}

static bool begin_chain(struct audit *audit, const struct audit_chain *file, const char *why,
                        struct error *err)
{
    uint8_t id[AUDIT_CHAIN_ID_LEN];

    if (!random_bytes(id, sizeof(id), err) ||
        !audit_chain_begin(&audit->chain, audit->options.root, id, file->seq + 1, err))
        return false;
    audit->chain.seq = file->seq;
    memcpy(audit->chain.hash, file->hash, AUDIT_HASH_TEXT);
    return write_start(audit, "begun", why, err);
}

/* In an empty file the chain goes on from the last known line, in any other one from its last. */
static bool restart_chain(struct audit *audit, const struct audit_walk *file, struct error *err)
{
    if (file->has_begun)
        memcpy(audit->chain.hash, file->chain.hash, AUDIT_HASH_TEXT);
    return write_start(audit, "restarted", audit->trouble, err);
}

static bool explain_torn_line(struct audit *audit, struct error *err)
{
    static const struct log_field fields[] = {
        { "event", "torn", 0 },
        { "note", "a crash cut the line before this one; nothing was answered for it", 0 },
    };

    return write_locked(audit, fields, ARRAY_LEN(fields), err);
}

/* A crash between lines and head, or the store is older than the log. */
static bool explain_ahead(struct audit *audit, uint64_t lines, struct error *err)
{
    const struct log_field fields[] = {
        TEXT("event", "ahead"),
        TEXT("note", "the store did not know the last lines: they were not answered, or the store "
                     "was put back"),
        NUMBER("lines", lines),
    };

    return write_locked(audit, fields, ARRAY_LEN(fields), err);
}

static void complain(struct audit *audit, const char *why)
{
    (void)snprintf(audit->trouble, sizeof(audit->trouble), "%s", why);
    log_error("the audit log is not what the broker wrote", TEXT("file", audit->options.path),
              TEXT("problem", why));
}

static void find_trouble(struct audit *audit, const struct audit_walk *walk, bool has_head)
{
    char text[AUDIT_TROUBLE_LEN];

    if (walk->problem.code != ERROR_NONE) {
        complain(audit, walk->problem.text);
    } else if (!has_head && walk->has_begun) {
        complain(audit, "the broker's store does not know this log");
    } else if (has_head && !walk->is_at_head) {
        (void)snprintf(text, sizeof(text),
                       "line number %llu, the last one that the broker's store knows, is missing",
                       (unsigned long long)walk->head->seq);
        complain(audit, text);
    } else if (walk->ahead > AHEAD_MAX) {
        (void)snprintf(text, sizeof(text),
                       "the broker's store does not know its last %llu lines: the store is older "
                       "than the log",
                       (unsigned long long)walk->ahead);
        complain(audit, text);
    }
}

/* Goes on where the file ends, or says that it does not end where the head says. */
static bool go_on(struct audit *audit, struct audit_walk *walk, struct audit_chain *head,
                  bool has_head, struct error *err)
{
    audit->trouble[0] = '\0';
    find_trouble(audit, walk, has_head);
    if (!has_head)
        return begin_chain(audit, &walk->chain, audit->trouble, err);
    bool is_lost = walk->problem.code != ERROR_NONE || !walk->is_at_head;
    struct audit_chain *known = is_lost ? head : &walk->chain;

    audit_chain_wipe(&audit->chain);
    audit->chain = *known;
    known->key = known->after = (struct secret)SECRET_INIT;
    if (is_lost)
        return restart_chain(audit, walk, err);
    return (!walk->is_torn || explain_torn_line(audit, err)) &&
           (walk->ahead == 0 || explain_ahead(audit, walk->ahead, err));
}

static bool open_file(const char *path, int *out, struct error *err)
{
    auto_close int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return error_set_errno(err, errno, "open");
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? error_set(err, ERROR_FAILED_PRECONDITION, "another broker writes to it")
                   : error_set_errno(err, errno, "lock");
    *out = TAKE_FD(fd);
    return true;
}

/* The next line must begin a line of its own. */
static bool end_line(struct audit *audit, bool ends_line, struct error *err)
{
    if (!ends_line && !fd_write_all(audit->fd, "\n", 1, err))
        return false;
    audit->size += ends_line ? 0 : 1;
    return true;
}

static bool take_file(struct audit *audit, struct error *err)
{
    auto_audit_chain struct audit_chain head = audit_chain_none();
    struct store *store = audit->options.store;
    struct store_head stored;
    struct audit_walk walk;
    uint64_t size = 0;
    bool ends_line = false, has_head = false;

    if (!store->ops->get_head(store, &stored, err) ||
        !audit_head_open(&audit->wrapping, &stored, &head, &has_head, err))
        return false;
    audit_walk_start(&walk, NULL, has_head ? &head : NULL);
    bool ok = audit_walk_file(&walk, audit->fd, &size, &ends_line, err);

    audit->size = (off_t)size;
    ok = ok && end_line(audit, ends_line, err) && go_on(audit, &walk, &head, has_head, err);
    audit_walk_wipe(&walk);
    return ok;
}

bool audit_hold(const char *path, int *fd, struct error *err)
{
    return open_file(path, fd, err) || error_wrap(err, "audit log %s", path);
}

bool audit_open(const struct audit_options *options, struct audit **out, struct error *err)
{
    auto_close int held = options->held_fd > 0 ? options->held_fd : -1;
    auto_audit struct audit *audit = calloc(1, sizeof(*audit));
    struct store_head head;

    if (!audit)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "audit log: out of memory");
    audit->options = *options;
    audit->fd = TAKE_FD(held);
    audit->chain = audit_chain_none();
    pthread_mutex_init(&audit->lock, NULL);
    if (!secret_alloc(&audit->wrapping, SEAL_KEY_LEN, err))
        return error_wrap(err, "audit log");
    memcpy(audit->wrapping.bytes, options->head_key->bytes, SEAL_KEY_LEN);
    if ((audit->fd < 0 && !open_file(options->path, &audit->fd, err)) || !take_file(audit, err) ||
        !audit_head_make(&audit->wrapping, &audit->chain, &head, err) ||
        !options->store->ops->put_head(options->store, &head, err))
        return error_wrap(err, "audit log %s", options->path);
    *out = TAKE_PTR(audit);
    return true;
}

void audit_close(struct audit **audit)
{
    if (!*audit)
        return;
    close_at(&(*audit)->fd);
    audit_chain_wipe(&(*audit)->chain);
    secret_wipe(&(*audit)->wrapping);
    pthread_mutex_destroy(&(*audit)->lock);
    free(*audit);
    *audit = NULL;
}

/* --- rotation --- */

/* Whatever a new file has in it was not written by this broker. */
static bool start_file(struct audit *audit, const struct stat *st, struct error *err)
{
    struct audit_walk walk;
    uint64_t size = 0;
    bool ends_line = false;

    audit->size = 0;
    if (st->st_size == 0)
        return write_start(audit, "rotated", "", err);
    audit_walk_start(&walk, NULL, NULL);
    if (!audit_walk_file(&walk, audit->fd, &size, &ends_line, err))
        return false;
    audit->size = (off_t)size;
    complain(audit, "the file has lines that this broker did not write");
    return end_line(audit, ends_line, err) && restart_chain(audit, &walk, err);
}

/* The path leads to a new file. */
static bool change_file(struct audit *audit, struct error *err)
{
    const off_t old_size = audit->size;
    const uint64_t old_seq = audit->chain.seq;
    int old_fd = audit->fd, fd = -1;
    struct stat st;

    if (!open_file(audit->options.path, &fd, err))
        return false;
    audit->fd = fd;
    bool ok =
        fstat(fd, &st) == 0 ? start_file(audit, &st, err) : error_set_errno(err, errno, "stat");

    /* There is no way back from a line that was written. */
    if (!ok && audit->chain.seq == old_seq) {
        audit->fd = old_fd;
        audit->size = old_size;
        old_fd = fd;
    }
    close_at(&old_fd);
    return ok;
}

static bool reopen_locked(struct audit *audit, struct error *err)
{
    struct stat old, next;

    if (fstat(audit->fd, &old) != 0)
        return error_set_errno(err, errno, "stat");
    if (lstat(audit->options.path, &next) != 0 || old.st_dev != next.st_dev ||
        old.st_ino != next.st_ino)
        return change_file(audit, err);
    return next.st_size == audit->size || start_file(audit, &next, err); /* or: it was cut */
}

bool audit_reopen(struct audit *audit, struct error *err)
{
    struct store *store = audit->options.store;
    struct store_head head;

    pthread_mutex_lock(&audit->lock);
    bool ok =
        reopen_locked(audit, err) && audit_head_make(&audit->wrapping, &audit->chain, &head, err);

    pthread_mutex_unlock(&audit->lock);
    return (ok && store->ops->put_head(store, &head, err)) ||
           error_wrap(err, "audit log %s", audit->options.path);
}

/* --- checking --- */

static bool check_file(struct audit_walk *walk, const char *path, struct error *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t size = 0;
    bool ends_line = false;

    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    return audit_walk_file(walk, fd, &size, &ends_line, err) || error_wrap(err, "%s", path);
}

bool audit_check(const char *const *paths, size_t n, const struct secret *root,
                 struct audit_report *out, struct error *err)
{
    const char *place = NULL; /* of the problem */
    struct audit_walk walk;
    bool ok = true;

    audit_walk_start(&walk, root, NULL);
    for (size_t i = 0; i < n && ok; i++) {
        ok = check_file(&walk, paths[i], err);
        if (walk.problem.code == ERROR_NONE)
            place = NULL;
        else if (!place)
            place = paths[i];
    }
    audit_walk_wipe(&walk);
    if (!ok)
        return false;
    if (place) {
        *err = walk.problem;
        return error_wrap(err, "audit log %s", place);
    }
    *out = (struct audit_report){ walk.chain.seq, walk.restarts };
    return true;
}
