/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/audit.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAIL_BYTES    (4 * AUDIT_LINE_MAX) /* looked at when the broker starts */
#define HASH_TEXT_LEN (2 * SHA256_LEN + 1)

/* Where the chain ends. */
struct chain {
    uint64_t seq;             /* of the last good line */
    char hash[HASH_TEXT_LEN]; /* of the last line, torn or not */
    bool is_torn;             /* the last line is not JSON: a torn event must follow */
};

struct audit {
    pthread_mutex_t lock;
    int fd;
    off_t size; /* of the good part of the file */
    bool is_broken;
    struct chain chain;
    char line[AUDIT_LINE_MAX]; /* the line being written */
};

static void json_free(json_t **json)
{
    json_decref(*json);
}
#define auto_json CLEANUP(json_free)

static bool hash_line(const char *line, size_t len, char out[static HASH_TEXT_LEN],
                      struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!sha256(line, len, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), out);
    return true;
}

/* --- checking --- */

static const char *text_of(const json_t *json, const char *key)
{
    const char *text = json_string_value(json_object_get(json, key));

    return text ? text : "";
}

static bool broken_chain(uint64_t seq, const char *why, struct error *err)
{
    return error_set(err, ERROR_DATA_LOSS,
                     "audit log: the line after number %llu %s: the file was changed",
                     (unsigned long long)seq, why);
}

/* Reads one line without its line end. is_first: the line before it is not known. */
static bool check_line(struct chain *chain, bool is_first, const char *line, size_t len,
                       struct error *err)
{
    auto_json json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    bool is_line = json_is_object(json) && json_is_integer(json_object_get(json, "seq"));

    if (!is_line && chain->is_torn)
        return broken_chain(chain->seq, "is not the event \"torn\", but the line before it is torn",
                            err);
    if (is_line) {
        uint64_t seq = (uint64_t)json_integer_value(json_object_get(json, "seq"));

        if (!is_first && strcmp(text_of(json, "prev"), chain->hash) != 0)
            return broken_chain(chain->seq, "does not have the hash of the line before it", err);
        if (!is_first && seq != chain->seq + 1)
            return broken_chain(chain->seq, "does not have the next number", err);
        if (chain->is_torn && strcmp(text_of(json, "event"), "torn") != 0)
            return broken_chain(chain->seq,
                                "is not the event \"torn\", but the line before it is torn", err);
        chain->seq = seq;
    }
    chain->is_torn = !is_line;
    return hash_line(line, len, chain->hash, err);
}

/* skip: the start lies within a line. That line cannot be checked. */
static bool check_lines(const char *bytes, size_t len, bool skip, struct chain *chain,
                        struct error *err)
{
    const char *at = bytes, *end = bytes + len;
    bool is_first = skip;

    if (skip) {
        const char *stop = memchr(at, '\n', len);

        at = stop ? stop + 1 : end;
    }
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));

        if (!stop)
            stop = end;
        if (!check_line(chain, is_first, at, (size_t)(stop - at), err))
            return false;
        is_first = false;
        at = stop < end ? stop + 1 : end;
    }
    return true;
}

/* Checks the chain over the last max bytes. *ends_line: the file is empty or its last line has a
 * line end. */
static bool check_file(int fd, size_t max, off_t *out_size, struct chain *out, bool *ends_line,
                       struct error *err)
{
    struct chain chain = { .seq = 0 };
    struct stat st;

    if (fstat(fd, &st) != 0)
        return error_set_errno(err, errno, "audit log");
    for (size_t i = 0; i < HASH_TEXT_LEN - 1; i++)
        chain.hash[i] = '0';
    if (st.st_size > 0) {
        size_t len = (size_t)st.st_size, start = len > max ? len - max : 0;
        char *bytes = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);

        if (bytes == MAP_FAILED)
            return error_set_errno(err, errno, "audit log: map");
        bool ok = check_lines(bytes + start, len - start, start > 0, &chain, err);

        *ends_line = bytes[len - 1] == '\n';
        munmap(bytes, len);
        if (!ok)
            return false;
    } else {
        *ends_line = true;
    }
    *out_size = st.st_size;
    *out = chain;
    return true;
}

uint64_t audit_lines(struct audit *audit)
{
    pthread_mutex_lock(&audit->lock);
    uint64_t lines = audit->chain.seq;
    pthread_mutex_unlock(&audit->lock);
    return lines;
}

bool audit_check(const char *path, uint64_t *out_lines, struct error *err)
{
    auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct chain chain;
    bool ends_line = false;
    off_t size = 0;

    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    if (!check_file(fd, SIZE_MAX, &size, &chain, &ends_line, err))
        return error_wrap(err, "%s", path);
    *out_lines = chain.seq;
    return true;
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
    return (*len > 0 && *len < sizeof(audit->line)) ||
           error_set(err, ERROR_INTERNAL, "%s",
                     *len > 0 ? "the line is too long" : "out of memory");
}

/* Cuts the file back when only a part of the line was written. */
static bool append(struct audit *audit, size_t len, struct error *err)
{
    bool ok = fd_write_all(audit->fd, audit->line, len, err);

    FAULT_POINT("broker.audit.written");
    if (ok && fdatasync(audit->fd) != 0)
        ok = error_set_errno(err, errno, "sync");
    if (ok) {
        audit->size += (off_t)len;
        return true;
    }
    if (ftruncate(audit->fd, audit->size) != 0)
        audit->is_broken = true;
    return false;
}

static bool write_locked(struct audit *audit, const struct log_field *fields, size_t n,
                         struct error *err)
{
    struct chain next = { .seq = audit->chain.seq + 1 };
    size_t len = 0;

    if (audit->is_broken)
        return error_set(err, ERROR_INTERNAL,
                         "an earlier failed write could not be undone: restart the broker");
    if (!make_line(audit, fields, n, &len, err) || !hash_line(audit->line, len, next.hash, err))
        return false;
    audit->line[len] = '\n';
    if (!append(audit, len + 1, err))
        return false;
    audit->chain = next;
    return true;
}

bool audit_write(struct audit *audit, const struct log_field *fields, size_t n, struct error *err)
{
    pthread_mutex_lock(&audit->lock);
    bool ok = write_locked(audit, fields, n, err);

    pthread_mutex_unlock(&audit->lock);
    if (ok)
        return true;
    err->code = ERROR_INTERNAL;
    return error_wrap(err, "audit log");
}

/* --- opening --- */

static bool end_torn_line(struct audit *audit, bool ends_line, struct error *err)
{
    if (ends_line && !audit->chain.is_torn)
        return true;
    if (!ends_line && !fd_write_all(audit->fd, "\n", 1, err))
        return false;
    audit->size += ends_line ? 0 : 1;
    if (!audit->chain.is_torn) /* only the line end was missing */
        return true;
    return audit_write(
        audit,
        (const struct log_field[]){
            TEXT("event", "torn"),
            TEXT("note", "a crash cut the line before this one; nothing was answered for it"),
        },
        2, err);
}

static bool open_file(struct audit *audit, const char *path, struct error *err)
{
    bool ends_line = false;

    audit->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (audit->fd < 0)
        return error_set_errno(err, errno, "open");
    if (flock(audit->fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? error_set(err, ERROR_FAILED_PRECONDITION, "another broker writes to it")
                   : error_set_errno(err, errno, "lock");
    return check_file(audit->fd, TAIL_BYTES, &audit->size, &audit->chain, &ends_line, err) &&
           end_torn_line(audit, ends_line, err);
}

bool audit_open(const char *path, struct audit **out, struct error *err)
{
    auto_audit struct audit *audit = calloc(1, sizeof(*audit));

    if (!audit)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "audit log: out of memory");
    audit->fd = -1;
    pthread_mutex_init(&audit->lock, NULL);
    if (!open_file(audit, path, err))
        return error_wrap(err, "audit log %s", path);
    *out = TAKE_PTR(audit);
    return true;
}

void audit_close(struct audit **audit)
{
    if (!*audit)
        return;
    close_at(&(*audit)->fd);
    pthread_mutex_destroy(&(*audit)->lock);
    free(*audit);
    *audit = NULL;
}
