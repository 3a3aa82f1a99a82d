/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_merge.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLICA_BYTES 64

/* One log, and the line of it that comes next. */
struct merge_source {
    size_t file; /* AUDIT_NO_FILE: all is read */
    struct audit_reader reader;
    char time[AUDIT_TIME_TEXT], replica[REPLICA_BYTES], chain[2 * AUDIT_CHAIN_ID_LEN + 1];
    char hash[AUDIT_HASH_TEXT];
    uint64_t number;
    json_t *fields;
};

struct audit_merge {
    const struct audit_files *set;
    size_t n;
    struct merge_source *last; /* whose line was given out */
    struct merge_source sources[];
};

static void close_source(struct merge_source *s)
{
    audit_reader_close(&s->reader);
    json_decref(s->fields);
    s->fields = NULL;
}

void audit_merge_free(struct audit_merge **merge)
{
    for (size_t i = 0; *merge && i < (*merge)->n; i++)
        close_source(&(*merge)->sources[i]);
    free(*merge);
    *merge = NULL;
}

/* Only such texts can be compared. */
static bool is_time(const char *text)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";

    if (strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++)
        if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
            return false;
    return true;
}

static const char *text_of(const json_t *fields, const char *name)
{
    const char *text = json_string_value(json_object_get(fields, name));

    return text ? text : "";
}

static void learn(struct merge_source *s)
{
    const char *time = text_of(s->fields, "time"), *replica = text_of(s->fields, "replica"),
               *chain = text_of(s->fields, "chain");

    if (is_time(time) && strcmp(time, s->time) > 0)
        (void)snprintf(s->time, sizeof(s->time), "%s", time);
    if (replica[0] && strlen(replica) < sizeof(s->replica))
        (void)snprintf(s->replica, sizeof(s->replica), "%s", replica);
    if (chain[0] && strlen(chain) < sizeof(s->chain))
        (void)snprintf(s->chain, sizeof(s->chain), "%s", chain);
}

static void take_line(struct merge_source *s, const struct audit_text *text)
{
    struct audit_line line;
    bool is_line = !text->is_long && audit_line_read(text->bytes, text->len, &line);

    s->number = text->number;
    memcpy(s->hash, text->hash, sizeof(s->hash));
    s->fields = is_line ? json_loadb(text->bytes, text->len, JSON_REJECT_DUPLICATES, NULL) : NULL;
    if (s->fields)
        learn(s);
}

static bool open_next_file(struct merge_source *s, const struct audit_files *set, struct error *err)
{
    audit_reader_close(&s->reader);
    s->file = set->files[s->file].next;
    return s->file == AUDIT_NO_FILE || audit_reader_open(&s->reader, set->files[s->file].fd, err) ||
           error_wrap(err, "%s", set->files[s->file].path);
}

static bool advance(struct merge_source *s, const struct audit_files *set, struct error *err)
{
    struct audit_text text;
    bool found = false;

    json_decref(s->fields);
    s->fields = NULL;
    while (s->file != AUDIT_NO_FILE) {
        if (!audit_reader_next(&s->reader, &text, &found, err))
            return error_wrap(err, "%s", set->files[s->file].path);
        if (found) {
            take_line(s, &text);
            return true;
        }
        if (!open_next_file(s, set, err))
            return false;
    }
    return true;
}

bool audit_merge_new(const struct audit_files *set, struct audit_merge **out, struct error *err)
{
    auto_audit_merge struct audit_merge *merge =
        calloc(1, sizeof(*merge) + set->n_logs * sizeof(merge->sources[0]));

    if (!merge)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    merge->set = set;
    merge->n = set->n_logs;
    for (size_t i = 0; i < merge->n; i++) {
        struct merge_source *s = &merge->sources[i];

        s->file = set->logs[i];
        if (!audit_reader_open(&s->reader, set->files[s->file].fd, err) || !advance(s, set, err))
            return false;
    }
    *out = TAKE_PTR(merge);
    return true;
}

bool audit_merge_next(struct audit_merge *merge, struct audit_entry *out, bool *found,
                      struct error *err)
{
    struct merge_source *first = NULL;

    if (merge->last && !advance(merge->last, merge->set, err))
        return false;
    for (size_t i = 0; i < merge->n; i++) {
        struct merge_source *s = &merge->sources[i];

        if (s->file != AUDIT_NO_FILE && (!first || strcmp(s->time, first->time) < 0))
            first = s;
    }
    merge->last = first;
    *found = first != NULL;
    if (!first)
        return true;
    *out = (struct audit_entry){ .path = merge->set->files[first->file].path,
                                 .number = first->number,
                                 .replica = first->replica,
                                 .chain = first->chain,
                                 .hash = first->hash,
                                 .fields = first->fields };
    memcpy(out->time, first->time, sizeof(out->time));
    return true;
}
