/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/tsm_store.h"

#include "base/digest.h"
#include "base/option.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DIRS_MAX = 1024, TEXT_MAX = 64, SHORT_LEN = 100, PAGE = 4096 };

struct blob {
    uint8_t *bytes;
    size_t len;
};

struct tsm_fault {
    const char *name, *help;
    int mkdir_errno;
    int quote_errno;      /* instead of a quote */
    bool waits;           /* the fault comes after the latency, not at once */
    const char *provider; /* instead of "tdx_guest\n" */
    int generation_extra; /* added at each accepted write, on top of 1 */
    bool debug, stale;
    int (*spoil)(struct blob *quote); /* 0, or a negative errno */
};

static int make_empty(struct blob *quote)
{
    quote->len = 0;
    return 0;
}

static int make_short(struct blob *quote)
{
    quote->len = SHORT_LEN;
    return 0;
}

static int make_garbage(struct blob *quote)
{
    struct error ignored = ERROR_INIT;

    return random_bytes(quote->bytes, quote->len, &ignored) ? 0 : -EIO;
}

static int make_huge(struct blob *quote)
{
    uint8_t *bytes = calloc(1, TSM_OUTBLOB_MAX);

    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, quote->bytes, quote->len);
    free(quote->bytes);
    *quote = (struct blob){ bytes, TSM_OUTBLOB_MAX };
    return 0;
}

static const struct tsm_fault faults[] = {
    { "none", "all is well" },
    { "busy", "reading outblob fails with EBUSY", .quote_errno = EBUSY },
    { "timeout", "reading outblob fails with ETIMEDOUT after the latency", .quote_errno = ETIMEDOUT,
      .waits = true },
    { "eintr", "reading outblob fails with EINTR", .quote_errno = EINTR },
    { "io", "reading outblob fails with EIO", .quote_errno = EIO },
    { "empty", "outblob is empty", .spoil = make_empty },
    { "short", "outblob has the first 100 bytes of the quote", .spoil = make_short },
    { "garbage", "outblob has random bytes, as many as the quote", .spoil = make_garbage },
    { "huge", "outblob has 16 MiB: the quote, then zeros", .spoil = make_huge },
    { "stale", "the quote has the REPORTDATA of the previous request (zeros for the first)",
      .stale = true },
    { "debug-td", "the quote is of a TD in debug mode", .debug = true },
    { "other-provider", "provider is sev_guest", .provider = "sev_guest\n" },
    { "no-newline", "provider is tdx_guest without a new line", .provider = "tdx_guest" },
    { "empty-provider", "provider is empty", .provider = "" },
    { "no-provider", "mkdir fails with ENXIO, as without a driver", .mkdir_errno = ENXIO },
    { "generation-jump", "another program writes too: generation grows by 2 for one write",
      .generation_extra = 1 },
    { "lost-write", "written data is dropped at close, and generation does not grow",
      .generation_extra = -1 },
};

struct entry {
    char name[TSM_NAME_MAX + 1];
    uint64_t write_generation, read_generation;
    uint8_t inblob[REPORT_DATA_LEN];
    size_t inblob_len;
    struct blob outblob;
    bool has_outblob;
    bool is_dead;   /* removed */
    size_t n_files; /* open ones */
    struct entry *next;
};

struct tsm {
    struct tsm_options options;
    const struct tsm_fault *fault;
    uint64_t fault_left; /* 0: until changed */
    uint8_t last_request[REPORT_DATA_LEN];
    struct entry *entries;
    size_t n_entries;
    struct tsm_file *files; /* the open ones */
};

struct attribute;

/* The bytes belong to the open file: it reads the same bytes again, and its writes take effect only
 * when it is closed. */
struct tsm_file {
    struct tsm *tsm;
    struct entry *entry; /* NULL for TSM_CONTROL */
    const struct attribute *attribute;
    struct blob buffer;
    bool is_filled, is_written;
    struct tsm_file *next;
};

struct attribute {
    const char *name;
    mode_t mode;
    bool is_blob;
    size_t max;                         /* bytes that can be written */
    int (*fill)(struct tsm_file *file); /* makes the content; 0, or a negative errno */
    void (*store)(struct tsm_file *file);
};

void tsm_print_faults(void)
{
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        printf("  %-15s  %s\n", faults[i].name, faults[i].help);
}

static void fault_was_seen(struct tsm *t)
{
    if (t->fault_left > 0 && --t->fault_left == 0)
        t->fault = &faults[0];
}

bool tsm_set_fault(struct tsm *tsm, const char *text, size_t len, struct error *err)
{
    char name[TEXT_MAX];
    uint64_t count = 0;

    (void)snprintf(name, sizeof(name), "%.*s", (int)(len < TEXT_MAX ? len : TEXT_MAX - 1), text);
    name[strcspn(name, "\n")] = '\0';
    char *equals = strchr(name, '=');
    if (equals) {
        *equals = '\0';
        if (!parse_u64(equals + 1, &count) || count == 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "fault \"%s\": the count is not a number",
                             name);
    }
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        if (strcmp(name, faults[i].name) == 0) {
            tsm->fault = &faults[i];
            tsm->fault_left = count;
            return true;
        }
    return error_set(err, ERROR_INVALID_ARGUMENT, "no such fault: \"%s\" (see --help)", name);
}

static int set_text(struct tsm_file *f, const char *text)
{
    f->buffer = (struct blob){ (uint8_t *)strdup(text), strlen(text) };
    return f->buffer.bytes ? 0 : -ENOMEM;
}

static int fill_provider(struct tsm_file *f)
{
    struct tsm *t = f->tsm;
    const char *other = t->fault->provider;

    if (other)
        fault_was_seen(t);
    return set_text(f, other ? other : "tdx_guest\n");
}

static int fill_generation(struct tsm_file *f)
{
    char text[TEXT_MAX];

    (void)snprintf(text, sizeof(text), "%" PRIu64 "\n", f->entry->write_generation);
    return set_text(f, text);
}

static void store_inblob(struct tsm_file *f)
{
    struct tsm *t = f->tsm;
    struct entry *e = f->entry;
    int extra = t->fault->generation_extra;

    if (extra != 0)
        fault_was_seen(t);
    if (extra < 0)
        return;
    e->write_generation += 1u + (unsigned)extra;
    e->inblob_len = f->buffer.len;
    memcpy(e->inblob, f->buffer.bytes, f->buffer.len);
}

/* The signal that ends this program also ends the wait. */
static int wait_latency(const struct tsm *t)
{
    const struct timespec delay = { .tv_sec = (time_t)(t->options.latency_ms / 1000),
                                    .tv_nsec = (long)(t->options.latency_ms % 1000 * 1000000) };

    return nanosleep(&delay, NULL) == 0 ? 0 : -EINTR;
}

static int make_quote(struct tsm *t, const struct entry *e, const struct tsm_fault *fault,
                      struct blob *out)
{
    struct blob quote = { calloc(1, QUOTE_LEN_MAX), 0 };
    int rc = 0;

    if (!quote.bytes)
        return -ENOMEM;
    quote.len = t->options.quote(t->options.cookie, fault->stale ? t->last_request : e->inblob,
                                 fault->debug, quote.bytes);
    memcpy(t->last_request, e->inblob, REPORT_DATA_LEN);
    if (fault->spoil)
        rc = fault->spoil(&quote);
    if (rc != 0) {
        free(quote.bytes);
        return rc;
    }
    *out = quote;
    return 0;
}

static int new_report(struct tsm *t, struct entry *e)
{
    const struct tsm_fault *fault = t->fault;
    bool concerned = fault->quote_errno != 0 || fault->spoil || fault->debug || fault->stale;
    int rc = fault->quote_errno != 0 && !fault->waits ? -fault->quote_errno : 0;

    if (e->inblob_len != REPORT_DATA_LEN)
        return -EINVAL;
    if (concerned)
        fault_was_seen(t);
    if (rc == 0)
        rc = wait_latency(t);
    if (rc == 0)
        rc = -fault->quote_errno;
    return rc == 0 ? make_quote(t, e, fault, &e->outblob) : rc;
}

/* One quote serves all readers until the next write. */
static int fill_outblob(struct tsm_file *f)
{
    struct entry *e = f->entry;

    if (e->inblob_len == 0)
        return -EINVAL;
    if (!e->has_outblob || e->read_generation != e->write_generation) {
        free(e->outblob.bytes);
        e->outblob = (struct blob){ .len = 0 };
        e->has_outblob = false;
        e->read_generation = e->write_generation;
        int rc = new_report(f->tsm, e);
        if (rc != 0)
            return rc;
        e->has_outblob = true;
    }
    f->buffer = (struct blob){ malloc(e->outblob.len + 1), e->outblob.len };
    if (!f->buffer.bytes)
        return -ENOMEM;
    memcpy(f->buffer.bytes, e->outblob.bytes, e->outblob.len);
    return 0;
}

static int fill_control(struct tsm_file *f)
{
    const struct tsm *t = f->tsm;
    char text[2 * TEXT_MAX];

    if (t->fault_left > 0)
        (void)snprintf(text, sizeof(text), "%s=%" PRIu64 "\n", t->fault->name, t->fault_left);
    else
        (void)snprintf(text, sizeof(text), "%s\n", t->fault->name);
    return set_text(f, text);
}

static const struct attribute attributes[] = {
    { "provider", 0444, .fill = fill_provider },
    { "generation", 0444, .fill = fill_generation },
    { "inblob", 0200, .is_blob = true, .max = REPORT_DATA_LEN, .store = store_inblob },
    { "outblob", 0444, .is_blob = true, .fill = fill_outblob },
};
/* Takes effect or is refused at once, unlike the kernel's files, because only the sim has it. */
static const struct attribute control = { TSM_CONTROL, 0600, .max = TEXT_MAX,
                                          .fill = fill_control };

struct tsm *tsm_new(const struct tsm_options *options)
{
    struct tsm *t = calloc(1, sizeof(*t));

    if (t) {
        t->options = *options;
        t->fault = &faults[0];
    }
    return t;
}

static void entry_drop(struct entry *e)
{
    if (!e->is_dead || e->n_files > 0)
        return;
    free(e->outblob.bytes);
    free(e);
}

/* The pointer that holds it; the last pointer, which is NULL, when there is none. */
static struct entry **place_of(struct tsm *t, const char *name)
{
    struct entry **at = &t->entries;

    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

bool tsm_is_dir(struct tsm *tsm, const char *name)
{
    return *place_of(tsm, name) != NULL;
}

int tsm_mkdir(struct tsm *tsm, const char *name)
{
    struct entry **at = place_of(tsm, name);
    int refused = tsm->fault->mkdir_errno;

    if (refused != 0) {
        fault_was_seen(tsm);
        return -refused;
    }
    if (*at || strcmp(name, TSM_CONTROL) == 0)
        return -EEXIST;
    if (strlen(name) > TSM_NAME_MAX)
        return -ENAMETOOLONG;
    if (tsm->n_entries == DIRS_MAX)
        return -ENOSPC;
    struct entry *e = calloc(1, sizeof(*e));
    if (!e)
        return -ENOMEM;
    (void)snprintf(e->name, sizeof(e->name), "%s", name);
    *at = e;
    tsm->n_entries++;
    return 0;
}

int tsm_rmdir(struct tsm *tsm, const char *name)
{
    struct entry **at = place_of(tsm, name), *e = *at;

    if (!e)
        return -ENOENT;
    *at = e->next;
    tsm->n_entries--;
    e->is_dead = true;
    entry_drop(e);
    return 0;
}

static void file_drop(struct tsm_file *file)
{
    struct tsm_file **at = &file->tsm->files;
    struct entry *e = file->entry;

    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    free(file->buffer.bytes);
    free(file);
    if (e) {
        e->n_files--;
        entry_drop(e);
    }
}

void tsm_free(struct tsm *tsm)
{
    while (tsm && tsm->files) /* the kernel tells the programs that have them open */
        file_drop(tsm->files);
    while (tsm && tsm->entries)
        (void)tsm_rmdir(tsm, tsm->entries->name);
    free(tsm);
}

void tsm_walk(const struct tsm *tsm, bool (*visit)(void *cookie, const char *name), void *cookie)
{
    for (const struct entry *e = tsm->entries; e; e = e->next)
        if (!visit(cookie, e->name))
            return;
}

static struct tsm_stat stat_of(const struct attribute *a)
{
    return (struct tsm_stat){ a->name, a->mode, a->is_blob ? 0 : PAGE };
}

struct tsm_stat tsm_attribute(size_t i)
{
    return i < ARRAY_LEN(attributes) ? stat_of(&attributes[i]) : (struct tsm_stat){ .name = NULL };
}

static const struct attribute *find_attribute(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
        if (strcmp(attributes[i].name, name) == 0)
            return &attributes[i];
    return NULL;
}

/* The mode binds root, too: configfs checks it itself. */
int tsm_open(struct tsm *tsm, const char *dir, const char *name, int access_mode,
             struct tsm_file **out)
{
    struct entry *e = *place_of(tsm, dir);
    bool is_control = dir[0] == '\0' && strcmp(name, TSM_CONTROL) == 0;
    const struct attribute *a = is_control ? &control : e ? find_attribute(name) : NULL;

    if (!a)
        return -ENOENT;
    if ((access_mode != O_WRONLY && (a->mode & 0444) == 0) ||
        (access_mode != O_RDONLY && (a->mode & 0222) == 0))
        return -EACCES;
    struct tsm_file *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    *f = (struct tsm_file){ .tsm = tsm, .entry = e, .attribute = a, .next = tsm->files };
    tsm->files = f;
    if (e)
        e->n_files++;
    *out = f;
    return 0;
}

int tsm_read(struct tsm_file *file, char *out, size_t len, off_t offset)
{
    if (file->entry && file->entry->is_dead)
        return -ENOENT;
    if (file->is_written)
        return -ETXTBSY;
    if (!file->is_filled) {
        int rc = file->attribute->fill(file);

        if (rc != 0)
            return rc;
        file->is_filled = true;
    }
    size_t at = (size_t)offset < file->buffer.len ? (size_t)offset : file->buffer.len;
    size_t left = file->buffer.len - at, n = len < left ? len : left;
    memcpy(out, file->buffer.bytes + at, n);
    return (int)n;
}

int tsm_write(struct tsm_file *file, const char *bytes, size_t len, off_t offset)
{
    const struct attribute *a = file->attribute;
    struct error ignored = ERROR_INIT;

    if (file->is_filled)
        return -ETXTBSY;
    if ((size_t)offset > a->max || len > a->max - (size_t)offset)
        return -EFBIG;
    if (!a->store)
        return tsm_set_fault(file->tsm, bytes, len, &ignored) ? (int)len : -EINVAL;
    if (!file->buffer.bytes)
        file->buffer.bytes = calloc(1, a->max);
    if (!file->buffer.bytes)
        return -ENOMEM;
    file->is_written = true;
    memcpy(file->buffer.bytes + offset, bytes, len);
    if ((size_t)offset + len > file->buffer.len)
        file->buffer.len = (size_t)offset + len;
    return (int)len;
}

void tsm_release(struct tsm_file *file)
{
    if (file->is_written && !file->entry->is_dead)
        file->attribute->store(file);
    file_drop(file);
}

struct tsm_stat tsm_file_stat(const struct tsm_file *file)
{
    return stat_of(file->attribute);
}
