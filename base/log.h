/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stdint.h>

/*
 * One line per event on stderr: JSON ({"ts":"2026-...Z","level":"info","msg":"rpc",...}) or
 * text for people. No kind of field takes bytes, so that a key cannot be logged. Text fields
 * are escaped and cut to 1 KiB. Thread-safe: a line is one write().
 */
enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct log_field {
    const char *name;
    const char *text; /* NULL: the number counts */
    int64_t number;
};

/* A NULL text is logged as "". */
static inline const char *log_text_or_empty(const char *text)
{
    return text ? text : "";
}

#define TEXT(name, value)   ((struct log_field){ (name), log_text_or_empty(value), 0 })
#define NUMBER(name, value) ((struct log_field){ (name), NULL, (int64_t)(value) })

/* The log options of every program. All zero means text and debug. */
struct log_options {
    int format; /* enum log_format */
    int level;  /* enum log_level: the lowest that is logged */
};
extern const char *const log_format_names[], *const log_level_names[];

/* Rows of an option table, for a member of Struct that is a struct log_options. default_format is
 * "text" or "json".
 * NOLINTBEGIN(bugprone-macro-parentheses): texts are joined, members named */
#define LOG_OPTION_ROWS(Struct, member, default_format)                                      \
    OPTION_CHOICE_ROW("log-format", Struct, member.format, log_format_names,                 \
                      "One line per event on stderr, for people (text) or programs (json); " \
                      "default " default_format "."),                                        \
        OPTION_CHOICE_ROW("log-level", Struct, member.level, log_level_names,                \
                          "The lowest level that is logged; default info.")
/* NOLINTEND(bugprone-macro-parentheses) */

/* Call it before threads start. program appears in every line. */
void log_setup(const char *program, const struct log_options *options);
bool log_is_enabled(enum log_level level);

void log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n);

#define log_at(level, msg, ...)                                      \
    log_write(level, msg, (const struct log_field[]){ __VA_ARGS__ }, \
              sizeof((const struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))
#define log_debug(msg, ...)   log_at(LOG_DEBUG, msg, __VA_ARGS__)
#define log_info(msg, ...)    log_at(LOG_INFO, msg, __VA_ARGS__)
#define log_warning(msg, ...) log_at(LOG_WARNING, msg, __VA_ARGS__)
#define log_error(msg, ...)   log_at(LOG_ERROR, msg, __VA_ARGS__)

/* The fields of an error, for any of the macros above. */
#define ERROR_FIELDS(err)                                                      \
    TEXT("code", error_code_name((err)->code)), TEXT("reason", (err)->reason), \
        TEXT("error", (err)->text)
