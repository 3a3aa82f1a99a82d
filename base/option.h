/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * One table describes a set of options: command line flags, StorageClass parameters, volume
 * context. The same rows parse, validate, print --help and make the reference page.
 */
enum option_type {
    OPTION_TEXT,   /* const char *; points into the caller's text (argv, arena) */
    OPTION_U64,    /* uint64_t, decimal, within min..max */
    OPTION_BOOL,   /* bool: "true" or "false", nothing else; the flag "--name" alone means true */
    OPTION_CHOICE, /* int: index into choices */
    OPTION_LIST,   /* struct option_list; the flag may be given several times */
};

#define OPTION_LIST_MAX 16
struct option_list {
    size_t n;
    const char *items[OPTION_LIST_MAX];
};

struct option {
    const char *name; /* without dashes: "log-level" */
    enum option_type type;
    size_t offset;          /* of the field in the target struct */
    const char *value_name; /* for help: "PATH", "BYTES"; NULL for bool */
    const char *help;       /* one sentence; unit, default and effect */
    bool required;
    uint64_t min, max;          /* OPTION_U64 */
    const char *const *choices; /* OPTION_CHOICE, NULL-terminated */
};

/* offsetof() that does not compile when the field has another type than the row says. */
/* NOLINTBEGIN(bugprone-macro-parentheses): a type may not have them */
#define OPTION_FIELD(s, field, type) \
    (offsetof(s, field) + 0 * sizeof(_Generic(((s *)0)->field, type : 0)))
/* NOLINTEND(bugprone-macro-parentheses) */

#define OPTION_TEXT_ROW(name, s, field, value, help, ...)                                 \
    {                                                                                     \
        name, OPTION_TEXT, OPTION_FIELD(s, field, const char *), value, help, __VA_ARGS__ \
    }
#define OPTION_U64_ROW(name, s, field, lo, hi, value, help)                                       \
    {                                                                                             \
        name, OPTION_U64, OPTION_FIELD(s, field, uint64_t), value, help, .min = (lo), .max = (hi) \
    }
#define OPTION_BOOL_ROW(name, s, field, help)                       \
    {                                                               \
        name, OPTION_BOOL, OPTION_FIELD(s, field, bool), NULL, help \
    }
#define OPTION_CHOICE_ROW(name, s, field, list, help)                                   \
    {                                                                                   \
        name, OPTION_CHOICE, OPTION_FIELD(s, field, int), NULL, help, .choices = (list) \
    }
#define OPTION_LIST_ROW(name, s, field, value, help)                               \
    {                                                                              \
        name, OPTION_LIST, OPTION_FIELD(s, field, struct option_list), value, help \
    }

/* Sets one field from text. INVALID_ARGUMENT leaves the target unchanged, and its text names the
 * option, the value and what is allowed. For an unknown name it suggests the nearest known name. */
MUST_USE bool option_set(const struct option *table, size_t n, void *target, const char *name,
                         const char *value, struct error *err);

/* The one number parser: decimal digits only, no sign, no space, no overflow. */
MUST_USE bool parse_u64(const char *text, uint64_t *out);

/*
 * Skips argv[0]. Parses "--name value", "--name=value" and "--name"; "--" ends the options.
 * Collects positional arguments in rest; NULL allows none. Refuses an option that is given twice,
 * unless it is a list. Checks the required rows at the end. Does not handle --help: call
 * option_wants_help first.
 */
MUST_USE bool option_parse(const struct option *table, size_t n, void *target, int argc,
                           char *const *argv, struct option_list *rest, struct error *err);
bool option_wants_help(int argc, char *const *argv);

/* For help and reference pages. */
void option_print_help(const struct option *table, size_t n);     /* to stdout, as flags */
void option_print_markdown(const struct option *table, size_t n); /* to stdout, rows of a table */
