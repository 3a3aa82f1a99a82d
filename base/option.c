/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_LEN_MAX 64 /* bytes; longer names get no suggestion */
#define ROWS_MAX     64 /* bits of option_walk.seen */

bool parse_u64(const char *text, uint64_t *out)
{
    uint64_t value = 0;

    if (*text == '\0')
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (unsigned)(*text - '0'), &value))
            return false;
    }
    *out = value;
    return true;
}

/* Levenshtein distance. A name that is too long counts as far away. */
static size_t distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    size_t row[NAME_LEN_MAX + 1];

    if (a_len > NAME_LEN_MAX || b_len > NAME_LEN_MAX)
        return NAME_LEN_MAX;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t replace = diagonal + (a[i - 1] != b[j - 1]);
            size_t insert_or_drop = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = replace < insert_or_drop ? replace : insert_or_drop;
        }
    }
    return row[b_len];
}

static const struct option *find(const struct option *table, size_t n, const char *name,
                                 size_t name_len)
{
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].name) == name_len && memcmp(table[i].name, name, name_len) == 0)
            return &table[i];
    }
    return NULL;
}

static bool unknown(const struct option *table, size_t n, const char *name, struct error *err)
{
    const char *nearest = NULL;
    size_t best = NAME_LEN_MAX;

    for (size_t i = 0; i < n; i++) {
        size_t d = distance(name, table[i].name);

        if (d < best) {
            best = d;
            nearest = table[i].name;
        }
    }
    if (nearest && best <= 1 + strlen(nearest) / 3)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "unknown option \"%.100s\"; did you mean \"%s\"?", name, nearest);
    return error_set(err, ERROR_INVALID_ARGUMENT, "unknown option \"%.100s\"", name);
}

static bool refuse(const struct option *row, const char *value, const char *allowed,
                   struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s: \"%.100s\" is not %s", row->name, value,
                     allowed);
}

static bool set_u64(const struct option *row, uint64_t *field, const char *value, struct error *err)
{
    uint64_t number = 0;

    if (!parse_u64(value, &number) || number < row->min || number > row->max)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s: \"%.100s\" is not a whole number from %" PRIu64 " to %" PRIu64,
                         row->name, value, row->min, row->max);
    *field = number;
    return true;
}

static bool set_bool(const struct option *row, bool *field, const char *value, struct error *err)
{
    bool is_true = strcmp(value, "true") == 0;

    if (!is_true && strcmp(value, "false") != 0)
        return refuse(row, value, "\"true\" or \"false\"", err);
    *field = is_true;
    return true;
}

/* "a, b or c" */
static void list_choices(const char *const *choices, const char *last_joint, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; choices[i] && len < size; i++) {
        const char *joint = i == 0 ? "" : choices[i + 1] ? ", " : last_joint;
        int added = snprintf(out + len, size - len, "%s%s", joint, choices[i]);

        len += added > 0 ? (size_t)added : 0;
    }
}

static bool set_choice(const struct option *row, int *field, const char *value, struct error *err)
{
    char allowed[256];

    for (int i = 0; row->choices[i]; i++) {
        if (strcmp(row->choices[i], value) == 0) {
            *field = i;
            return true;
        }
    }
    list_choices(row->choices, " or ", allowed, sizeof(allowed));
    return refuse(row, value, allowed, err);
}

static bool list_add(struct option_list *list, const char *name, const char *value,
                     struct error *err)
{
    if (list->n == OPTION_LIST_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: at most %d may be given", name,
                         OPTION_LIST_MAX);
    list->items[list->n++] = value;
    return true;
}

static bool set_row(const struct option *row, void *target, const char *value, struct error *err)
{
    void *field = (char *)target + row->offset;

    switch (row->type) {
    case OPTION_TEXT:
        *(const char **)field = value;
        return true;
    case OPTION_U64:
        return set_u64(row, field, value, err);
    case OPTION_BOOL:
        return set_bool(row, field, value, err);
    case OPTION_CHOICE:
        return set_choice(row, field, value, err);
    case OPTION_LIST:
        return list_add(field, row->name, value, err);
    }
    return error_set(err, ERROR_INTERNAL, "option %s has an unknown type", row->name);
}

bool option_set(const struct option *table, size_t n, void *target, const char *name,
                const char *value, struct error *err)
{
    const struct option *row = find(table, n, name, strlen(name));

    return row ? set_row(row, target, value, err) : unknown(table, n, name, err);
}

/* The state of one walk over argv. */
struct option_walk {
    const struct option *table;
    size_t n;
    void *target;
    int argc;
    char *const *argv;
    int at;
    uint64_t seen; /* bit i: row i was given */
};

static bool take_flag(struct option_walk *w, struct error *err)
{
    const char *name = w->argv[w->at] + 2;
    size_t name_len = strcspn(name, "=");
    const char *value = name[name_len] == '=' ? name + name_len + 1 : NULL;
    const struct option *row = find(w->table, w->n, name, name_len);

    if (!row) {
        char only_name[NAME_LEN_MAX + 2];

        (void)snprintf(only_name, sizeof(only_name), "%.*s", (int)name_len, name);
        return unknown(w->table, w->n, only_name, err);
    }
    if (!value && row->type == OPTION_BOOL)
        value = "true";
    if (!value && ++w->at < w->argc)
        value = w->argv[w->at];
    if (!value)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--%s needs a value", row->name);

    uint64_t bit = UINT64_C(1) << (row - w->table);
    if ((w->seen & bit) != 0 && row->type != OPTION_LIST)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--%s is given twice", row->name);
    w->seen |= bit;
    return set_row(row, w->target, value, err);
}

static bool check_required(const struct option_walk *w, struct error *err)
{
    for (size_t i = 0; i < w->n; i++) {
        if (w->table[i].required && (w->seen & UINT64_C(1) << i) == 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--%s is required", w->table[i].name);
    }
    return true;
}

static bool take_rest(struct option_list *rest, const char *value, struct error *err)
{
    if (!rest)
        return error_set(err, ERROR_INVALID_ARGUMENT, "unexpected argument \"%.100s\"", value);
    return list_add(rest, "arguments", value, err);
}

bool option_parse(const struct option *table, size_t n, void *target, int argc, char *const *argv,
                  struct option_list *rest, struct error *err)
{
    struct option_walk w = { .table = table, .n = n, .target = target, .argc = argc, .argv = argv };
    bool only_rest = false;

    assert(n <= ROWS_MAX);
    for (w.at = 1; w.at < argc; w.at++) {
        const char *text = argv[w.at];

        if (!only_rest && strcmp(text, "--") == 0)
            only_rest = true;
        else if (!only_rest && strncmp(text, "--", 2) == 0) {
            if (!take_flag(&w, err))
                return false;
        } else if (!only_rest && text[0] == '-' && text[1] != '\0')
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "unknown option \"%.100s\"; options start with \"--\"", text);
        else if (!take_rest(rest, text, err))
            return false;
    }
    return check_required(&w, err);
}

bool option_wants_help(int argc, char *const *argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    }
    return false;
}

static void range_text(const struct option *row, char *out, size_t size)
{
    bool has_range = row->type == OPTION_U64 && (row->min > 0 || row->max < UINT64_MAX);

    out[0] = '\0';
    if (has_range)
        (void)snprintf(out, size, " %" PRIu64 " to %" PRIu64 ".", row->min, row->max);
}

static void value_text(const struct option *row, char *out, size_t size)
{
    if (row->type == OPTION_CHOICE)
        list_choices(row->choices, ", ", out, size);
    else
        (void)snprintf(out, size, "%s", row->value_name ? row->value_name : "");
}

void option_print_help(const struct option *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[256], range[64];

        value_text(&table[i], value, sizeof(value));
        range_text(&table[i], range, sizeof(range));
        (void)printf("  --%s%s%s\n        %s%s%s%s\n", table[i].name, *value ? " " : "", value,
                     table[i].help, range, table[i].required ? " Required." : "",
                     table[i].type == OPTION_LIST ? " May be repeated." : "");
    }
}

void option_print_markdown(const struct option *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char value[256], range[64];

        value_text(&table[i], value, sizeof(value));
        range_text(&table[i], range, sizeof(range));
        (void)printf("| `%s` | %s | %s%s%s |\n", table[i].name,
                     table[i].type == OPTION_BOOL ? "true, false" : value, table[i].help, range,
                     table[i].required ? " Required." : "");
    }
}
