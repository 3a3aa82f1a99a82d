/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "ctl/audit_heads.h"
#include "ctl/command.h"
#include "ctl/explanation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "master/key.h"

/* "tdvolctl audit verify": checks the audit logs of brokers. */

enum { TEXT_MAX = 1024 };

static const struct option verify_table[] = {
    OPTION_LIST_ROW("heads", struct broker_options, audit.heads, "FILE",
                    "Where the logs ended at an earlier time: the output of \"tdvolctl audit "
                    "heads\". May be given several times."),
    OPTION_LIST_ROW("key", struct broker_options, audit.keys, "FILE",
                    "The key that the logs began with, mode 0600: the master key or the one of "
                    "--audit-key. Checks each line's MAC. May be given several times."),
    OPTION_BOOL_ROW("hashes-only", struct broker_options, audit.hashes_only,
                    "Neither --broker, --heads nor --key: finds accidents, and proves nothing."),
    OPTION_BOOL_ROW("allow-restarts", struct broker_options, audit.allow_restarts,
                    "Accept where a broker itself noticed that earlier lines were changed or lost, "
                    "and wrote that down."),
    OPTION_BOOL_ROW("complete", struct broker_options, audit.complete,
                    "Refuse a log whose first part was not given."),
    BROKER_ROWS,
};

struct verify {
    const struct broker_options *options;
    struct steps steps;
    struct audit_files files;
    struct audit_heads heads;
    struct secret roots[OPTION_LIST_MAX];
    size_t n_roots;
    struct audit_verification result;
    bool is_refused;
    uint64_t lines;
    json_t *logs;
};

/* --- steps --- */

/* Names of files and replicas can hold anything: a terminal and JSON get ASCII. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static void say(struct verify *v, const char *subject, bool ok, const char *text)
{
    char plain[TEXT_MAX], name[TEXT_MAX];

    (void)snprintf(plain, sizeof(plain), "%s", text);
    (void)snprintf(name, sizeof(name), "%s", subject);
    make_plain(plain);
    make_plain(name);
    v->is_refused |= !ok;
    steps_add(&v->steps, NULL, name, ok, plain);
}

static void say_of(struct verify *v, const char *subject, bool ok, const char *fmt, ...)
    PRINTF(4, 5);
static void say_of(struct verify *v, const char *subject, bool ok, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list arguments;

    va_start(arguments, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, arguments);
    va_end(arguments);
    say(v, subject, ok, text);
}

static void tell_file(void *cookie, const char *text)
{
    say(cookie, "files", false, text);
}

/* --- what is known --- */

static bool read_key(struct verify *v, const char *path, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT, key = SECRET_INIT;

    if (!file_read_private(path, MASTER_KEY_TEXT_MAX, &text, err) ||
        !master_key_parse(&text, &key, err) || !audit_root_derive(&key, &v->roots[v->n_roots], err))
        return error_wrap(err, "--key %s", path);
    v->n_roots++;
    return true;
}

/* The heads are asked for first: all of them must be in the files that are read after that. */
static bool learn(struct verify *v, struct broker_options *o, struct error *err)
{
    for (size_t i = 0; i < o->audit.keys.n; i++)
        if (!read_key(v, o->audit.keys.items[i], err))
            return false;
    for (size_t i = 0; i < o->audit.heads.n; i++)
        if (!audit_heads_read(o->audit.heads.items[i], &v->heads, err))
            return false;
    if (o->address && !audit_heads_ask(o, &v->heads, err))
        return error_wrap(err, "--broker");
    for (size_t i = 0; i < o->rest.n; i++)
        if (!audit_files_add(&v->files, o->rest.items[i], err))
            return false;
    return true;
}

/* --- the verdict --- */

static const char *path_of(const struct verify *v, const struct audit_log_report *log)
{
    return v->files.files[log->first_file].path;
}

static const char *replica_of(const struct verify *v, const struct audit_log_report *log)
{
    return log->head != SIZE_MAX ? v->heads.heads[log->head].replica : log->replica;
}

static void name_log(const struct verify *v, const struct audit_log_report *log,
                     char out[static TEXT_MAX])
{
    const char *replica = replica_of(v, log);

    (void)snprintf(out, TEXT_MAX, "%s%s%s", replica, replica[0] ? ": " : "", path_of(v, log));
}

static void judge_lines(struct verify *v, const char *name, const struct audit_log_report *log)
{
    if (log->problem.code != ERROR_NONE)
        say_of(v, name, false, "%s:%llu: %s", log->problem_path,
               (unsigned long long)log->problem_number, log->problem.text);
    else if (log->lines == 0 && log->torn > 0)
        say(v, name, false, "no line of this file is one of a broker");
    else
        say_of(v, name, true, "lines %llu to %llu in %zu files, in one chain of hashes%s",
               (unsigned long long)log->first_seq, (unsigned long long)log->last_seq, log->n_files,
               log->has_macs ? ", each with a MAC by the key" : "");
    if (log->restarts > 0)
        say_of(v, name, v->options->audit.allow_restarts,
               "the broker noticed %llu times that earlier lines were changed or lost (its lines "
               "\"restarted\" and \"begun\")",
               (unsigned long long)log->restarts);
    if (log->lines > 0 && !log->has_start)
        say_of(v, name, !v->options->audit.complete,
               "begins with line %llu: no file with the lines before it was given",
               (unsigned long long)log->first_seq);
    if (log->torn > 0 && log->lines > 0)
        say_of(v, name, true, "%llu lines were torn by a crash%s", (unsigned long long)log->torn,
               log->ends_torn ? "; the last line is, or is being written now" : "");
}

static void judge_head(struct verify *v, const char *name, const struct audit_log_report *log)
{
    unsigned long long after = log->after_head;

    if (v->heads.n == 0 || log->lines == 0)
        return;
    if (log->head == SIZE_MAX)
        say_of(v, name, log->has_macs, "no broker says where it ends%s",
               log->has_macs ? ": lines may be missing at its end"
                             : ": it is not one of these brokers, or was written anew");
    else if (after == 0)
        say(v, name, true, "it ends where the broker says");
    else
        say_of(v, name, true,
               "whole up to line %llu, where the broker said it ended; the %llu "
               "lines after it are %s",
               (unsigned long long)v->heads.heads[log->head].seq, after,
               log->has_macs ? "proven by their MACs alone" : "not proven");
}

static void describe_log(struct verify *v, const struct audit_log_report *log)
{
    char chain[2 * AUDIT_CHAIN_ID_LEN + 1] = "", replica[TEXT_MAX], path[TEXT_MAX];

    if (log->has_id)
        hex_encode(log->id, AUDIT_CHAIN_ID_LEN, chain);
    (void)snprintf(replica, sizeof(replica), "%s", replica_of(v, log));
    (void)snprintf(path, sizeof(path), "%s", path_of(v, log));
    make_plain(replica);
    make_plain(path);
    (void)json_array_append_new(
        v->logs,
        json_pack("{ss, ss, ss, sI, sI, sI, sI, sI, sI, sb, sb, sI}", "replica", replica, "chain",
                  chain, "first_file", path, "files", (json_int_t)log->n_files, "first_seq",
                  (json_int_t)log->first_seq, "last_seq", (json_int_t)log->last_seq, "lines",
                  (json_int_t)log->lines, "torn", (json_int_t)log->torn, "restarts",
                  (json_int_t)log->restarts, "macs", log->has_macs, "head", log->head != SIZE_MAX,
                  "after_head", (json_int_t)log->after_head));
}

static void judge_log(struct verify *v, const struct audit_log_report *log)
{
    char name[TEXT_MAX];

    name_log(v, log, name);
    judge_lines(v, name, log);
    judge_head(v, name, log);
    describe_log(v, log);
    v->lines += log->lines;
}

/* A log that goes on a chain which another one ends with: the part between them is missing. */
static void find_gaps(struct verify *v)
{
    const struct audit_verification *r = &v->result;

    for (size_t i = 0; i < r->n_logs; i++)
        for (size_t j = 0; j < r->n_logs; j++) {
            const struct audit_log_report *a = &r->logs[i], *b = &r->logs[j];

            if (i != j && a->has_id && b->has_id && !b->has_start && a->first_seq <= b->first_seq &&
                (a->first_seq < b->first_seq || i < j) &&
                memcmp(a->id, b->first_id, AUDIT_CHAIN_ID_LEN) == 0)
                say_of(v, path_of(v, b), false,
                       "it is of the same chain as %s, which ends with line %llu, and does not "
                       "follow from it: lines between them are missing, or were changed",
                       path_of(v, a), (unsigned long long)a->last_seq);
        }
}

static void find_lost_heads(struct verify *v)
{
    for (size_t i = 0; i < v->heads.n; i++) {
        const struct audit_known_head *head = &v->heads.heads[i];

        if (head->log == AUDIT_NO_FILE)
            say_of(v, head->replica[0] ? head->replica : "broker", false,
                   "line %llu of its log, with the SHA-256 %s, is in none of the files: the log "
                   "was not given, was cut, or was written anew",
                   (unsigned long long)head->seq, head->hash);
    }
}

static bool judge(struct verify *v, struct error *err)
{
    const struct audit_teller teller = { .tell = tell_file, .cookie = v };

    v->result = (struct audit_verification){
        .roots = v->roots, .n_roots = v->n_roots, .heads = v->heads.heads, .n_heads = v->heads.n
    };
    if (!audit_files_order(&v->files, &teller, err) || !audit_verify(&v->result, &v->files, err))
        return false;
    for (size_t i = 0; i < v->result.n_logs; i++)
        judge_log(v, &v->result.logs[i]);
    find_gaps(v);
    find_lost_heads(v);
    for (size_t i = 0; i < v->files.n; i++)
        if (v->files.files[i].is_copy)
            say(v, v->files.files[i].path, true, "another file has all its lines");
    if (v->result.n_logs == 0)
        say(v, "files", false, "there is no log");
    return true;
}

static const char *limits_of(const struct verify *v)
{
    if (v->heads.n > 0 && v->n_roots > 0)
        return "";
    if (v->heads.n > 0)
        return "Lines after the known ends of the logs are not proven.";
    return v->n_roots > 0 ? "It was not checked whether lines are missing at the end: give "
                            "--broker or --heads."
                          : "Whoever can write to the files can make such hashes: this proves "
                            "nothing against them.";
}

static void print_verdict(const struct verify *v)
{
    const char *limits = limits_of(v);

    if (v->steps.json) {
        json_t *out = json_pack(
            "{ss, sI, ss, sO, sO}", "verdict", v->is_refused ? "refused" : "accepted", "lines",
            (json_int_t)v->lines, "limits", limits, "logs", v->logs, "steps", v->steps.list);

        (void)json_dumpf(out, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(out);
        return;
    }
    printf("\n%s: %llu lines in %zu logs.\n", v->is_refused ? "Refused" : "Accepted",
           (unsigned long long)v->lines, v->result.n_logs);
    if (!v->is_refused && limits[0])
        puts(limits);
}

/* --- the command --- */

static void print_help(void)
{
    puts("Checks whole audit logs of one or several brokers: that no line was changed, left out,\n"
         "moved or added.\n"
         "\n"
         "Usage: tdvolctl audit verify FILE|FOLDER... [OPTIONS]\n"
         "\n"
         "Give all parts of all logs, in any order, unpacked. How much is proven depends on what\n"
         "is compared: with --broker or --heads all lines up to where a broker says its log ends;\n"
         "with --key each line, but not that none is missing at the end; give both where you can.\n"
         "\n"
         "Exit code: 0 accepted, 3 refused, 1 it could not be decided.\n");
    option_print_help(verify_table, ARRAY_LEN(verify_table));
}

static bool check_options(const struct broker_options *o, struct error *err)
{
    bool knows = o->address || o->audit.heads.n > 0 || o->audit.keys.n > 0;

    if (o->rest.n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "give the files or folders of the logs");
    if (!knows && !o->audit.hashes_only)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "give --broker, --heads or --key to compare with, or --hashes-only");
    return !knows || !o->audit.hashes_only ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "--hashes-only excludes --broker, --heads and --key");
}

static void clear(struct verify *v)
{
    for (size_t i = 0; i < v->n_roots; i++)
        secret_wipe(&v->roots[i]);
    audit_verification_done(&v->result);
    audit_heads_free(&v->heads);
    audit_files_close(&v->files);
    json_decref(v->logs);
    steps_end(&v->steps);
}

int command_audit_verify(int argc, char *const *argv)
{
    struct broker_options options = { .json = false };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(verify_table, ARRAY_LEN(verify_table), &options, argc, argv, &options.rest,
                      &err) ||
        !check_options(&options, &err)) {
        fprintf(stderr, "tdvolctl audit verify: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    struct verify v = { .options = &options, .logs = json_array() };

    steps_start(&v.steps, options.json);
    bool ok = learn(&v, &options, &err) && judge(&v, &err);

    if (ok)
        print_verdict(&v);
    else
        fprintf(stderr, "tdvolctl audit verify: %s: %s\n", error_code_name(err.code), err.text);
    int code = !ok ? COMMAND_FAILED : v.is_refused ? EXIT_REFUSED : COMMAND_DONE;

    clear(&v);
    return code;
}
