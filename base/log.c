/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include "base/clock.h"
#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES_MAX 1024
#define LINE_BYTES_MAX 8192
#define END_BYTES      16 /* kept free for the end of the line */

static const char *const level_names[] = { "debug", "info", "warning", "error" };

static struct {
    const char *program;
    enum log_format format;
    enum log_level least;
} settings = { "tdvol", LOG_FORMAT_TEXT, LOG_INFO };

struct line {
    size_t len;
    bool is_full; /* nothing more is appended */
    char bytes[LINE_BYTES_MAX];
};

const char *const log_format_names[] = {
    [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json", NULL
};
const char *const log_level_names[] = { [LOG_DEBUG] = "debug",
                                        [LOG_INFO] = "info",
                                        [LOG_WARNING] = "warning",
                                        [LOG_ERROR] = "error",
                                        NULL };

void log_setup(const char *program, const struct log_options *options)
{
    settings.program = program;
    settings.format = (enum log_format)options->format;
    settings.least = (enum log_level)options->level;
}

bool log_is_enabled(enum log_level level)
{
    return level >= settings.least;
}

static void PRINTF(2, 3) add(struct line *line, const char *fmt, ...)
{
    size_t room = sizeof(line->bytes) - END_BYTES - line->len;
    va_list args;

    va_start(args, fmt);
    int wanted = line->is_full ? -1 : vsnprintf(line->bytes + line->len, room, fmt, args);
    va_end(args);
    if (wanted < 0 || (size_t)wanted >= room)
        line->is_full = true;
    else
        line->len += (size_t)wanted;
}

/* The length in bytes of the character at text, if it can be logged unchanged. 0 for a control
 * character and for invalid UTF-8. */
static size_t character_len(const char *text)
{
    uint32_t character = 0;
    size_t len = utf8_next((const uint8_t *)text, strnlen(text, UTF8_BYTES_MAX), &character);

    return character < 0x20 || utf8_is_control(character) ? 0 : len;
}

/* Both formats write text as a JSON string: it cannot leave its line or control a terminal. */
static void add_text(struct line *line, const char *text)
{
    const char *at = text;

    add(line, "\"");
    while (*at) {
        size_t len = character_len(at);

        if ((size_t)(at - text) + (len > 0 ? len : 1) > TEXT_BYTES_MAX) {
            add(line, "...");
            break;
        }
        if (len == 0)
            add(line, (unsigned char)*at < 0x80 ? "\\u%04x" : "\\ufffd", (unsigned char)*at);
        else
            add(line, "%s%.*s", *at == '"' || *at == '\\' ? "\\" : "", (int)len, at);
        at += len > 0 ? len : 1;
    }
    add(line, "\"");
}

/* Adds the whole field or nothing. */
static void add_field(struct line *line, const struct log_field *field)
{
    size_t before = line->len;

    if (settings.format == LOG_FORMAT_JSON)
        add(line, ",\"%s\":", field->name);
    else
        add(line, " %s=", field->name);
    if (field->text)
        add_text(line, field->text);
    else
        add(line, "%" PRId64, field->number);
    if (line->is_full)
        line->len = before;
}

static void start_line(struct line *line, enum log_level level, const char *msg)
{
    char now[CLOCK_TEXT_LEN];

    clock_text(clock_wall_ms(), now);
    if (settings.format == LOG_FORMAT_JSON) {
        add(line, "{\"ts\":\"%s\",\"level\":\"%s\",\"program\":\"%s\",\"msg\":", now,
            level_names[level], settings.program);
        add_text(line, msg);
    } else {
        add(line, "%s %s %s: %.*s", now, settings.program, level_names[level], TEXT_BYTES_MAX, msg);
    }
}

static void end_line(struct line *line)
{
    bool is_json = settings.format == LOG_FORMAT_JSON;
    const char *cut = !line->is_full ? "" : is_json ? ",\"cut\":true" : " cut=true";

    line->len +=
        (size_t)snprintf(line->bytes + line->len, END_BYTES, "%s%s\n", cut, is_json ? "}" : "");
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields, size_t n)
{
    int saved_errno = errno;
    struct line line;

    if (!log_is_enabled(level))
        return;
    line.len = 0;
    line.is_full = false;
    start_line(&line, level, msg);
    for (size_t i = 0; i < n; i++)
        add_field(&line, &fields[i]);
    end_line(&line);

    ssize_t written = -1;
    do
        written = write(STDERR_FILENO, line.bytes, line.len);
    while (written < 0 && errno == EINTR);
    errno = saved_errno;
}
