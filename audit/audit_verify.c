/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_verify.h"

#include "store/seal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void json_free(json_t **json)
{
    json_decref(*json);
}
#define auto_json CLEANUP(json_free)

void audit_verification_done(struct audit_verification *v)
{
    free_at(&v->logs);
    v->n_logs = 0;
}

bool audit_root_derive(const struct secret *key, struct secret *out, struct error *err)
{
    return seal_derive(key, SEAL_AUDIT_ROOT, out, err);
}

static bool is_name(const char *text)
{
    size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");

    return len <= AUDIT_REPLICA_MAX && text[len] == '\0';
}

static void read_replica(const struct audit_text *text, struct audit_log_report *log)
{
    auto_json json_t *line = json_loadb(text->bytes, text->len, JSON_REJECT_DUPLICATES, NULL);
    const char *replica = json_string_value(json_object_get(line, "replica"));

    if (replica && is_name(replica))
        (void)snprintf(log->replica, sizeof(log->replica), "%s", replica);
}

static void look_at_line(const struct audit_line *line, const struct audit_text *text,
                         struct audit_log_report *log)
{
    if (log->lines++ == 0) {
        log->first_seq = line->seq;
        log->has_start = line->event == AUDIT_BEGUN;
    }
    log->last_seq = line->seq;
    if (line->event < AUDIT_BEGUN)
        return;
    read_replica(text, log);
    memcpy(log->id, line->id, sizeof(log->id));
    if (!log->has_id)
        memcpy(log->first_id, line->id, sizeof(log->id));
    log->has_id = true;
}

static void look_for_heads(struct audit_verification *v, const char *hash, size_t log)
{
    struct audit_log_report *report = &v->logs[log];

    report->after_head += report->head != SIZE_MAX;
    for (size_t i = 0; i < v->n_heads; i++)
        if (strcmp(v->heads[i].hash, hash) == 0) {
            v->heads[i].log = log;
            report->head = i;
            report->after_head = 0;
        }
}

static void note_problem(const struct audit_walk *walk, const char *path, uint64_t number,
                         struct audit_log_report *log)
{
    if (walk->problem.code == ERROR_NONE) {
        log->problem = (struct error)ERROR_INIT;
    } else if (log->problem.code == ERROR_NONE) {
        log->problem = walk->problem;
        log->problem_path = path;
        log->problem_number = number;
    }
}

static bool walk_file(struct audit_verification *v, const struct audit_file *file, size_t log,
                      struct audit_walk *walk, struct error *err)
{
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct audit_log_report *report = &v->logs[log];
    struct audit_text text;
    bool found = false;

    if (!audit_reader_open(&reader, file->fd, err))
        return false;
    for (;;) {
        if (!audit_reader_next(&reader, &text, &found, err) ||
            (found && !audit_walk_line(walk, &text, err)))
            return false;
        if (!found)
            return true;
        if (walk->is_torn)
            report->torn++;
        else
            look_at_line(&walk->line, &text, report);
        report->ends_torn = walk->is_torn;
        look_for_heads(v, text.hash, log);
        note_problem(walk, file->path, text.number, report);
    }
}

/* *fits: the first line of the log has a MAC by a key from this one. */
static bool try_root(const struct secret *root, const struct audit_file *file, bool *fits,
                     struct error *err)
{
    auto_audit_reader struct audit_reader reader = AUDIT_READER_INIT;
    struct audit_walk walk;
    struct audit_text text;
    bool found = false;

    audit_walk_start(&walk, root, NULL);
    bool ok = audit_reader_open(&reader, file->fd, err) &&
              audit_reader_next(&reader, &text, &found, err) &&
              (!found || audit_walk_line(&walk, &text, err));

    *fits = walk.problem.code == ERROR_NONE;
    audit_walk_wipe(&walk);
    return ok;
}

/* When no key fits, the walk with any of them says so. */
static bool find_root(const struct audit_verification *v, const struct audit_file *file,
                      const struct secret **out, struct error *err)
{
    bool fits = false;

    *out = NULL;
    for (size_t i = 0; i < v->n_roots && !fits; i++) {
        *out = &v->roots[i];
        if (v->n_roots > 1 && !try_root(*out, file, &fits, err))
            return false;
    }
    return true;
}

static bool walk_log(struct audit_verification *v, const struct audit_files *set, size_t log,
                     struct error *err)
{
    struct audit_log_report *report = &v->logs[log];
    const struct secret *root = NULL;
    struct audit_walk walk;
    bool ok = true;

    *report = (struct audit_log_report){ .first_file = set->logs[log], .head = SIZE_MAX };
    if (!find_root(v, &set->files[report->first_file], &root, err))
        return false;
    report->has_macs = root != NULL;
    audit_walk_start(&walk, root, NULL);
    for (size_t i = report->first_file; i != AUDIT_NO_FILE && ok; i = set->files[i].next) {
        report->n_files++;
        ok = walk_file(v, &set->files[i], log, &walk, err) ||
             error_wrap(err, "%s", set->files[i].path);
    }
    report->restarts = walk.restarts;
    audit_walk_wipe(&walk);
    return ok;
}

bool audit_verify(struct audit_verification *v, const struct audit_files *set, struct error *err)
{
    v->logs = calloc(set->n_logs + 1, sizeof(*v->logs));
    if (!v->logs)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    v->n_logs = set->n_logs;
    for (size_t i = 0; i < v->n_heads; i++)
        v->heads[i].log = AUDIT_NO_FILE;
    for (size_t i = 0; i < v->n_logs; i++)
        if (!walk_log(v, set, i, err))
            return false;
    return true;
}
