/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/json.h"
#include "audit/audit_merge.h"
#include "base/clock.h"
#include "base/option.h"
#include "ctl/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "tdvolctl audit show" and "audit export": the lines of audit logs, for people and for programs. */

#define DAY_S    86400u
#define PAST_MAX (UINT64_C(100) * 365 * DAY_S)

enum format { FORMAT_JSON, FORMAT_CSV };
static const char *const format_names[] = { [FORMAT_JSON] = "json", [FORMAT_CSV] = "csv", NULL };

struct audit_show_options {
    const char *since, *until;
    const char *volume, *node, *tenant, *method, *code, *decision, *event, *replica, *quote;
    int format;
};

#define FILTER_ROWS                                                                                \
    OPTION_TEXT_ROW("since", struct audit_show_options, since, "TIME",                             \
                    "Only lines from this time on: 2026-11-23T23:15:48Z, 2026-11-23, or a time "   \
                    "before now such as 90m, 12h or 7d."),                                         \
        OPTION_TEXT_ROW("until", struct audit_show_options, until, "TIME",                         \
                        "Only lines before this time."),                                           \
        OPTION_TEXT_ROW("volume", struct audit_show_options, volume, "ID",                         \
                        "Only lines about this volume, also as the source of a copy."),            \
        OPTION_TEXT_ROW("node", struct audit_show_options, node, "NAME",                           \
                        "Only lines with this node."),                                             \
        OPTION_TEXT_ROW("tenant", struct audit_show_options, tenant, "NAME", "Only this tenant."), \
        OPTION_TEXT_ROW("method", struct audit_show_options, method, "NAME",                       \
                        "Only calls of this method, such as OpenVolume or Attest."),               \
        OPTION_TEXT_ROW("code", struct audit_show_options, code, "CODE",                           \
                        "Only calls that ended with this code, such as OK."),                      \
        OPTION_TEXT_ROW("decision", struct audit_show_options, decision, "WORD",                   \
                        "allow or deny."),                                                         \
        OPTION_TEXT_ROW("event", struct audit_show_options, event, "NAME",                         \
                        "Only this kind of line, such as call, start or restarted."),              \
        OPTION_TEXT_ROW("replica", struct audit_show_options, replica, "NAME",                     \
                        "Only lines of this broker."),                                             \
        OPTION_TEXT_ROW("quote", struct audit_show_options, quote, "SHA256",                       \
                        "Only calls in a session with this quote, and its Attest.")

static const struct option show_table[] = { FILTER_ROWS };
static const struct option export_table[] = {
    OPTION_CHOICE_ROW("format", struct audit_show_options, format, format_names,
                      "One JSON object a line, or CSV with a line of names; default json."),
    FILTER_ROWS,
};

/* The columns of CSV. Their order and names do not change; new ones come before "hash". */
static const char *const columns[] = {
    "time",          "replica",
    "chain",         "seq",
    "event",         "method",
    "decision",      "code",
    "word",          "reason",
    "tenant",        "rule",
    "image",         "cn",
    "certificate",   "quote_sha256",
    "mrtd",          "driver",
    "volume",        "source",
    "node",          "record",
    "phase",         "version",
    "policy",        "policy_revision",
    "peer",          "client_key",
    "token_subject", "token_node",
    "owner",         "collateral_sha256",
    "fmspc",         "platform",
    "tcb_status",    "tcb_evaluation",
    "qe_evaluation", "note",
    "file",          "line",
    "hash",
};

struct show {
    const struct audit_show_options *options;
    char since[AUDIT_TIME_TEXT], until[AUDIT_TIME_TEXT]; /* "": none */
    void (*print)(const struct audit_entry *entry);
};

/* --- filters --- */

static bool parse_past(const char *text, uint64_t *seconds)
{
    static const struct {
        char unit;
        uint64_t seconds;
    } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', DAY_S } };
    char digits[16];
    size_t len = strlen(text);
    uint64_t number = 0;

    if (len < 2 || len > sizeof(digits))
        return false;
    (void)snprintf(digits, sizeof(digits), "%.*s", (int)len - 1, text);
    if (!parse_u64(digits, &number) || number > PAST_MAX)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (text[len - 1] == units[i].unit) {
            *seconds = number * units[i].seconds;
            return *seconds <= PAST_MAX;
        }
    return false;
}

static bool parse_time(const char *option, const char *text, char out[static AUDIT_TIME_TEXT],
                       struct error *err)
{
    uint64_t past = 0, now = clock_wall_ms() / 1000;
    char whole[32];
    int64_t seconds = 0;

    out[0] = '\0';
    if (!text)
        return true;
    (void)snprintf(whole, sizeof(whole), "%.20sT00:00:00Z", text);
    if (parse_past(text, &past) && past <= now)
        seconds = (int64_t)(now - past);
    else if (!clock_parse(text, &seconds) && !clock_parse(whole, &seconds))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "--%s: \"%s\" is no time such as 2026-11-23T23:15:48Z, 2026-11-23 or 12h",
                         option, text);
    if (seconds < 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--%s: before 1970", option);
    clock_text((uint64_t)seconds * 1000, out);
    return true;
}

static bool has(const json_t *fields, const char *name, const char *wanted)
{
    const char *text = json_string_value(json_object_get(fields, name));

    return !wanted || (text && strcmp(text, wanted) == 0);
}

static bool has_filter(const struct audit_show_options *o)
{
    return o->volume || o->node || o->tenant || o->method || o->code || o->decision || o->event ||
           o->quote;
}

/* What is no line fits no filter of fields. */
static bool is_wanted(const struct show *s, const struct audit_entry *e)
{
    const struct audit_show_options *o = s->options;
    const json_t *f = e->fields;

    if ((s->since[0] && strcmp(e->time, s->since) < 0) ||
        (s->until[0] && strcmp(e->time, s->until) >= 0) ||
        (o->replica && strcmp(e->replica, o->replica) != 0))
        return false;
    if (!f)
        return !has_filter(o);
    return (has(f, "volume", o->volume) || has(f, "source", o->volume)) &&
           has(f, "node", o->node) && has(f, "tenant", o->tenant) && has(f, "method", o->method) &&
           has(f, "code", o->code) && has(f, "decision", o->decision) &&
           has(f, "event", o->event) && has(f, "quote_sha256", o->quote);
}

/* --- for people --- */

/* A line can hold anything: nothing of it may command a terminal. */
static void print_plain(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            (void)putchar('?');
        else
            (void)putchar(*text);
}

static void print_value(const json_t *value)
{
    if (json_is_string(value))
        print_plain(json_string_value(value));
    else if (json_is_integer(value))
        printf("%lld", (long long)json_integer_value(value));
    else
        printf("?");
}

static bool is_in(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* The first words of a line, and what a reader can do without. */
static const char *const first_words[] = { "method", "decision", "code" };
static const char *const left_out[] = {
    "seq",  "time",   "prev",        "mac",    "method",          "decision",
    "code", "record", "certificate", "policy", "policy_revision", "client_key"
};

static void show_line(const struct audit_entry *e)
{
    const char *event = json_string_value(json_object_get(e->fields, "event")), *name = NULL;
    json_t *value = NULL;

    printf("%s ", e->time[0] ? e->time : "-");
    print_plain(e->replica[0] ? e->replica : "-");
    if (!e->fields) {
        printf(" UNREADABLE ");
        print_plain(e->path);
        printf(":%llu\n", (unsigned long long)e->number);
        return;
    }
    printf(" %lld", (long long)json_integer_value(json_object_get(e->fields, "seq")));
    bool is_call = event && strcmp(event, "call") == 0;

    for (size_t i = 0; is_call && i < ARRAY_LEN(first_words); i++) {
        (void)putchar(' ');
        print_value(json_object_get(e->fields, first_words[i]));
    }
    json_object_foreach(e->fields, name, value)
    {
        if (is_in(left_out, ARRAY_LEN(left_out), name) || (is_call && strcmp(name, "event") == 0))
            continue;
        (void)putchar(' ');
        print_plain(name);
        (void)putchar('=');
        print_value(value);
    }
    (void)putchar('\n');
}

/* --- for programs --- */

/* The line's fields, without those that are about the chain, and with the names of the log. */
static json_t *make_object(const struct audit_entry *e)
{
    json_t *out = json_object();
    bool ok = json_object_set_new(out, "replica", json_string(e->replica)) == 0 &&
              json_object_set_new(out, "chain", json_string(e->chain)) == 0;

    if (e->fields)
        ok = ok && json_object_update(out, e->fields) == 0;
    else
        ok = ok && json_object_set_new(out, "time", json_string(e->time)) == 0 &&
             json_object_set_new(out, "event", json_string("unreadable")) == 0 &&
             json_object_set_new(out, "file", json_string(e->path)) == 0 &&
             json_object_set_new(out, "line", json_integer((json_int_t)e->number)) == 0;
    (void)json_object_del(out, "prev");
    (void)json_object_del(out, "mac");
    if (!ok) { /* such as a path that is no UTF-8 */
        json_decref(out);
        out = json_pack("{ss, sI}", "event", "unreadable", "line", (json_int_t)e->number);
    }
    (void)json_object_set_new(out, "hash", json_string(e->hash));
    return out;
}

static void export_json(const struct audit_entry *e)
{
    auto_json json_t *out = make_object(e);

    (void)json_dumpf(out, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    (void)putchar('\n');
}

static void print_cell(const char *text)
{
    (void)putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            (void)putchar('"');
        (void)putchar(*text >= 0 && *text < ' ' ? ' ' : *text);
    }
    (void)putchar('"');
}

/* What has no column is in the last one, as JSON. */
static void export_csv(const struct audit_entry *e)
{
    auto_json json_t *out = make_object(e);

    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        const json_t *value = json_object_get(out, columns[i]);

        if (json_is_integer(value))
            printf("%lld", (long long)json_integer_value(value));
        else if (json_is_string(value))
            print_cell(json_string_value(value));
        (void)putchar(',');
        if (!value || json_is_integer(value) || json_is_string(value))
            (void)json_object_del(out, columns[i]);
    }
    if (json_object_size(out) > 0) {
        char *rest = json_dumps(out, JSON_COMPACT | JSON_ENSURE_ASCII);

        print_cell(rest ? rest : "");
        free(rest);
    }
    printf("\r\n");
}

static void print_columns(void)
{
    for (size_t i = 0; i < ARRAY_LEN(columns); i++)
        printf("%s,", columns[i]);
    printf("other\r\n");
}

/* --- the commands --- */

static void warn(void *cookie, const char *text)
{
    (void)cookie;
    fprintf(stderr, "tdvolctl: ");
    for (; *text; text++)
        (void)fputc(*text < ' ' || *text > '~' ? '?' : *text, stderr);
    fprintf(stderr, " (see \"tdvolctl audit verify\")\n");
}

static bool print_all(struct show *s, const struct option_list *paths, struct error *err)
{
    auto_audit_files struct audit_files files = { .n = 0 };
    auto_audit_merge struct audit_merge *merge = NULL;
    const struct audit_teller teller = { .tell = warn };
    struct audit_entry entry;
    bool found = true;

    for (size_t i = 0; i < paths->n; i++)
        if (!audit_files_add(&files, paths->items[i], err))
            return false;
    if (!audit_files_order(&files, &teller, err) || !audit_merge_new(&files, &merge, err))
        return false;
    while (found && !ferror(stdout)) {
        if (!audit_merge_next(merge, &entry, &found, err))
            return false;
        if (found && is_wanted(s, &entry))
            s->print(&entry);
    }
    return (fflush(stdout) == 0 && !ferror(stdout)) ||
           error_set(err, ERROR_INTERNAL, "the output cannot be written");
}

static int run(struct show *s, const char *name, const struct option_list *paths)
{
    struct error err = ERROR_INIT;

    if (print_all(s, paths, &err))
        return COMMAND_DONE;
    fprintf(stderr, "tdvolctl audit %s: %s: %s\n", name, error_code_name(err.code), err.text);
    return COMMAND_FAILED;
}

static bool prepare(struct show *s, const struct option_list *paths, struct error *err)
{
    if (paths->n == 0)
        return error_set(err, ERROR_INVALID_ARGUMENT, "give the files or folders of the logs");
    return parse_time("since", s->options->since, s->since, err) &&
           parse_time("until", s->options->until, s->until, err);
}

static int usage(const char *name, const struct error *err)
{
    fprintf(stderr, "tdvolctl audit %s: %s (see --help)\n", name, err->text);
    return COMMAND_USAGE;
}

int command_audit_show(int argc, char *const *argv)
{
    struct audit_show_options options = { .format = FORMAT_JSON };
    struct show s = { .options = &options, .print = show_line };
    struct option_list paths = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        puts(
            "Shows the lines of audit logs, of several brokers by their time. Checks nothing: see\n"
            "\"tdvolctl audit verify\". Without filters it shows every line.\n"
            "\n"
            "Usage: tdvolctl audit show FILE|FOLDER... [OPTIONS]\n"
            "\n"
            "A line has time, broker, number, and for a call its method, decision and code; then\n"
            "the other fields. \"audit export\" has all of them.\n");
        option_print_help(show_table, ARRAY_LEN(show_table));
        return COMMAND_DONE;
    }
    if (!option_parse(show_table, ARRAY_LEN(show_table), &options, argc, argv, &paths, &err) ||
        !prepare(&s, &paths, &err))
        return usage("show", &err);
    return run(&s, "show", &paths);
}

int command_audit_export(int argc, char *const *argv)
{
    struct audit_show_options options = { .format = FORMAT_JSON };
    struct show s = { .options = &options };
    struct option_list paths = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        puts(
            "Writes the lines of audit logs to stdout, of several brokers by their time, for other\n"
            "programs. Checks nothing: see \"tdvolctl audit verify\". The fields are listed in\n"
            "docs/audit.md.\n"
            "\n"
            "Usage: tdvolctl audit export FILE|FOLDER... [OPTIONS]\n");
        option_print_help(export_table, ARRAY_LEN(export_table));
        return COMMAND_DONE;
    }
    if (!option_parse(export_table, ARRAY_LEN(export_table), &options, argc, argv, &paths, &err) ||
        !prepare(&s, &paths, &err))
        return usage("export", &err);
    s.print = options.format == FORMAT_CSV ? export_csv : export_json;
    if (options.format == FORMAT_CSV)
        print_columns();
    return run(&s, "export", &paths);
}
