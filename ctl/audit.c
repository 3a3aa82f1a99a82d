/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/audit.h"

#include "attest/json.h"
#include "attest/statement.h"
#include "base/clock.h"
#include "base/file.h"
#include "ctl/command.h"
#include "master/key.h"
#include "proto/decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "tdvolctl audit verify" and "audit heads": the audit logs of brokers, and where they end. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define ARENA_BYTES ((size_t)4 * 1024 * 1024)

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
    struct secret roots[OPTION_LIST_MAX];
    struct audit_judgement judgement;
};

/* --- asking a broker --- */

static void client_close(struct client **client)
{
    if (*client)
        client_free(*client);
}
#define auto_client CLEANUP(client_close)

bool audit_statement_decode(const ProtobufCBinaryData *bytes, struct arena *arena,
                            const M(Statement) * *out, struct error *err)
{
    static const struct rpc_limits limits = { .message_bytes = 1u << 20,
                                              .string_bytes = 4096,
                                              .map_bytes = 0 };
    ProtobufCMessage *message = NULL;

    if (!rpc_decode(&tdvol__keybroker__v1__statement__descriptor, &limits,
                    (struct rpc_bytes){ bytes->data, bytes->len }, arena, &message, err))
        return error_wrap(err, "the broker's statement");
    *out = (const void *)message;
    return true;
}

static bool ask(struct client *client, struct arena *arena, const M(Statement) * *out,
                struct error *err)
{
    M(GetStatementRequest) request = TDVOL__KEYBROKER__V1__GET_STATEMENT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    uint8_t nonce[STATEMENT_NONCE_LEN];

    request.nonce = (ProtobufCBinaryData){ sizeof(nonce), nonce };
    if (!random_bytes(nonce, sizeof(nonce), err) ||
        !broker_call(client, "GetStatement", &request.base, arena, &message, err))
        return false;
    const M(GetStatementResponse) *response = (const void *)message;

    return audit_statement_decode(&response->statement, arena, out, err);
}

static bool add_asked(struct audit_heads *heads, const M(AuditHead) * asked, struct error *err)
{
    struct audit_known_head head = { .seq = asked->seq };

    if (strlen(asked->replica) > AUDIT_REPLICA_MAX || asked->chain.len != AUDIT_CHAIN_ID_LEN ||
        asked->hash.len != SHA256_LEN)
        return error_set(err, ERROR_INTERNAL, "the broker's statement has a head of another form");
    (void)snprintf(head.replica, sizeof(head.replica), "%s", asked->replica);
    memcpy(head.id, asked->chain.data, AUDIT_CHAIN_ID_LEN);
    hex_encode(asked->hash.data, SHA256_LEN, head.hash);
    return audit_heads_add(heads, &head, err);
}

bool audit_statement_heads(const M(Statement) * statement, struct audit_heads *heads,
                           struct error *err)
{
    for (size_t i = 0; i < statement->n_heads; i++)
        if (!add_asked(heads, statement->heads[i], err))
            return false;
    return true;
}

static bool ask_for_heads(struct broker_options *options, struct audit_heads *heads,
                          struct error *err)
{
    auto_client struct client *client = NULL;
    auto_arena struct arena arena = { .limit = ARENA_BYTES };
    const M(Statement) *statement = NULL;

    return broker_connect(options, &client, err) && ask(client, &arena, &statement, err) &&
           audit_statement_heads(statement, heads, err);
}

/* --- steps --- */

/* Names of files and replicas can hold anything: a terminal and JSON get ASCII. */
static void make_plain(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static void say(struct audit_judgement *v, const char *subject, bool ok, const char *text)
{
    char plain[TEXT_MAX], name[TEXT_MAX];

    (void)snprintf(plain, sizeof(plain), "%s", text);
    (void)snprintf(name, sizeof(name), "%s", subject);
    make_plain(plain);
    make_plain(name);
    v->is_refused |= !ok;
    steps_add(v->steps, NULL, name, ok, plain);
}

static void say_of(struct audit_judgement *v, const char *subject, bool ok, const char *fmt, ...)
    PRINTF(4, 5);
static void say_of(struct audit_judgement *v, const char *subject, bool ok, const char *fmt, ...)
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

bool audit_read_keys(const struct option_list *paths, struct secret *out, size_t *n,
                     struct error *err)
{
    for (; *n < paths->n; ++*n) {
        auto_secret struct secret text = SECRET_INIT, key = SECRET_INIT;
        const char *path = paths->items[*n];

        if (!file_read_private(path, MASTER_KEY_TEXT_MAX, &text, err) ||
            !master_key_parse(&text, &key, err) || !audit_root_derive(&key, &out[*n], err))
            return error_wrap(err, "--key %s", path);
    }
    return true;
}

/* The heads are asked for first: all of them must be in the files that are read after that. */
static bool learn(struct verify *v, struct broker_options *o, struct error *err)
{
    struct audit_judgement *j = &v->judgement;

    if (!audit_read_keys(&o->audit.keys, v->roots, &j->n_roots, err))
        return false;
    for (size_t i = 0; i < o->audit.heads.n; i++)
        if (!audit_heads_read(o->audit.heads.items[i], &j->heads, err))
            return false;
    if (o->address && !ask_for_heads(o, &j->heads, err))
        return error_wrap(err, "--broker");
    for (size_t i = 0; i < o->rest.n; i++)
        if (!audit_files_add(&j->files, o->rest.items[i], err))
            return false;
    return true;
}

/* --- the verdict --- */

static const char *path_of(const struct audit_judgement *v, const struct audit_log_report *log)
{
    return v->files.files[log->first_file].path;
}

static const char *replica_of(const struct audit_judgement *v, const struct audit_log_report *log)
{
    return log->head != SIZE_MAX ? v->heads.heads[log->head].replica : log->replica;
}

static void name_log(const struct audit_judgement *v, const struct audit_log_report *log,
                     char out[static TEXT_MAX])
{
    const char *replica = replica_of(v, log);

    (void)snprintf(out, TEXT_MAX, "%s%s%s", replica, replica[0] ? ": " : "", path_of(v, log));
}

static void judge_lines(struct audit_judgement *v, const char *name,
                        const struct audit_log_report *log)
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
        say_of(v, name, v->allow_restarts,
               "the broker noticed %llu times that earlier lines were changed or lost (its lines "
               "\"restarted\" and \"begun\")",
               (unsigned long long)log->restarts);
    if (log->lines > 0 && !log->has_start)
        say_of(v, name, !v->complete,
               "begins with line %llu: no file with the lines before it was given",
               (unsigned long long)log->first_seq);
    if (log->torn > 0 && log->lines > 0)
        say_of(v, name, true, "%llu lines were torn by a crash%s", (unsigned long long)log->torn,
               log->ends_torn ? "; the last line is, or is being written now" : "");
}

static void judge_head(struct audit_judgement *v, const char *name,
                       const struct audit_log_report *log)
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

static void describe_log(struct audit_judgement *v, const struct audit_log_report *log)
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

static void judge_log(struct audit_judgement *v, const struct audit_log_report *log)
{
    char name[TEXT_MAX];

    name_log(v, log, name);
    judge_lines(v, name, log);
    judge_head(v, name, log);
    describe_log(v, log);
    v->lines += log->lines;
}

/* A log that goes on a chain which another one ends with: the part between them is missing. */
static void find_gaps(struct audit_judgement *v)
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

static void find_lost_heads(struct audit_judgement *v)
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

bool audit_judge(struct audit_judgement *v, struct error *err)
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

static const char *limits_of(const struct audit_judgement *v)
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

static void print_verdict(const struct audit_judgement *v)
{
    const char *limits = limits_of(v);

    if (v->steps->json) {
        json_t *out = json_pack(
            "{ss, sI, ss, sO, sO}", "verdict", v->is_refused ? "refused" : "accepted", "lines",
            (json_int_t)v->lines, "limits", limits, "logs", v->logs, "steps", v->steps->list);

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

void audit_judgement_done(struct audit_judgement *v)
{
    audit_verification_done(&v->result);
    audit_heads_free(&v->heads);
    audit_files_close(&v->files);
    json_decref(v->logs);
    v->logs = NULL;
}

static void clear(struct verify *v)
{
    for (size_t i = 0; i < v->judgement.n_roots; i++)
        secret_wipe(&v->roots[i]);
    audit_judgement_done(&v->judgement);
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
    struct verify v = { .options = &options };
    struct audit_judgement *j = &v.judgement;

    steps_start(&v.steps, options.json);
    *j = (struct audit_judgement){ .steps = &v.steps,
                                   .roots = v.roots,
                                   .logs = json_array(),
                                   .allow_restarts = options.audit.allow_restarts,
                                   .complete = options.audit.complete };
    bool ok = learn(&v, &options, &err) && audit_judge(j, &err);

    if (ok)
        print_verdict(j);
    else
        fprintf(stderr, "tdvolctl audit verify: %s: %s\n", error_code_name(err.code), err.text);
    int code = !ok ? COMMAND_FAILED : j->is_refused ? EXIT_REFUSED : COMMAND_DONE;

    clear(&v);
    return code;
}

/* --- "audit heads" --- */

static bool print(const M(Statement) * statement, struct error *err)
{
    auto_json json_t *list = json_array();
    char now[CLOCK_TEXT_LEN];

    clock_text(statement->time_ms, now);
    for (size_t i = 0; i < statement->n_heads; i++) {
        auto_audit_heads struct audit_heads one = { .n = 0 };
        char chain[2 * AUDIT_CHAIN_ID_LEN + 1];

        if (!add_asked(&one, statement->heads[i], err))
            return false;
        hex_encode(one.heads->id, AUDIT_CHAIN_ID_LEN, chain);
        if (json_array_append_new(list, json_pack("{ss, ss, sI, ss}", "replica", one.heads->replica,
                                                  "chain", chain, "seq", (json_int_t)one.heads->seq,
                                                  "hash", one.heads->hash)) != 0)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    }
    auto_json json_t *out =
        json_pack("{ss, ss, ss, sO}", "time", now, "version", statement->version, "policy_sha256",
                  statement->policy_hash, "heads", list);

    return (out && json_dumpf(out, stdout, JSON_INDENT(2)) == 0 && puts("") >= 0 &&
            fflush(stdout) == 0) ||
           error_set(err, ERROR_INTERNAL, "the heads cannot be printed");
}

static bool heads(const struct broker_options *options, struct client *client, struct arena *arena,
                  struct error *err)
{
    const M(Statement) *statement = NULL;

    (void)options;
    return ask(client, arena, &statement, err) && print(statement, err);
}

static const struct option options_table[] = { BROKER_ROWS };

int command_audit_heads(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "audit heads",
        .usage = "[OPTIONS] >FILE\n\n"
                 "Prints where the audit logs of a broker's replicas end, as JSON. Keep the output "
                 "where\nnobody who may write to the logs can: \"audit verify --heads FILE\" then "
                 "finds lines that\nwere changed, or left out, before that moment. Needs the "
                 "permission audit or admin.",
        .options = options_table,
        .n_options = ARRAY_LEN(options_table),
        .run = heads,
    };

    return broker_command_run(&command, argc, argv);
}
