/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#undef error_set
#undef error_set_reason
#undef error_set_errno
#undef error_wrap
#undef error_reason

static const char *const code_names[ERROR_CODE_COUNT] = {
    [ERROR_NONE] = "OK",
    [ERROR_INVALID_ARGUMENT] = "INVALID_ARGUMENT",
    [ERROR_NOT_FOUND] = "NOT_FOUND",
    [ERROR_ALREADY_EXISTS] = "ALREADY_EXISTS",
    [ERROR_DENIED] = "PERMISSION_DENIED",
    [ERROR_UNAUTHENTICATED] = "UNAUTHENTICATED",
    [ERROR_RESOURCE_EXHAUSTED] = "RESOURCE_EXHAUSTED",
    [ERROR_FAILED_PRECONDITION] = "FAILED_PRECONDITION",
    [ERROR_ABORTED] = "ABORTED",
    [ERROR_OUT_OF_RANGE] = "OUT_OF_RANGE",
    [ERROR_UNIMPLEMENTED] = "UNIMPLEMENTED",
    [ERROR_UNAVAILABLE] = "UNAVAILABLE",
    [ERROR_DEADLINE_EXCEEDED] = "DEADLINE_EXCEEDED",
    [ERROR_CANCELLED] = "CANCELLED",
    [ERROR_DATA_LOSS] = "DATA_LOSS",
    [ERROR_INTERNAL] = "INTERNAL",
};

struct text {
    char bytes[sizeof(((struct error *)0)->text)];
};

/* Appends at len and returns the new length. A text that is too long is cut between UTF-8
 * characters and ends with "...". */
static size_t PRINTF(3, 0) append(struct text *text, size_t len, const char *fmt, va_list args)
{
    size_t room = sizeof(text->bytes) - len;
    int wanted = vsnprintf(text->bytes + len, room, fmt, args);

    if (wanted < 0) {
        text->bytes[len] = '\0';
        return len;
    }
    if ((size_t)wanted < room)
        return len + (size_t)wanted;

    size_t cut = sizeof(text->bytes) - sizeof("...");
    while (cut > 0 && ((unsigned char)text->bytes[cut] & 0xC0) == 0x80)
        cut--;
    memcpy(text->bytes + cut, "...", sizeof("..."));
    return cut + strlen("...");
}

static size_t PRINTF(3, 4) append_text(struct text *text, size_t len, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    len = append(text, len, fmt, args);
    va_end(args);
    return len;
}

static bool fill(struct error *err, enum error_code code, int sys_errno, const struct text *text)
{
    *err = (struct error){ .code = code, .sys_errno = sys_errno };
    memcpy(err->text, text->bytes, sizeof(err->text));
    return false;
}

bool error_set(struct error *err, enum error_code code, const char *fmt, ...)
{
    struct text text = { "" }; /* not err->text: an argument may point into it */
    va_list args;

    va_start(args, fmt);
    (void)append(&text, 0, fmt, args);
    va_end(args);
    return fill(err, code, 0, &text);
}

bool error_set_reason(struct error *err, enum error_code code, const char *reason, const char *fmt,
                      ...)
{
    struct text text = { "" };
    struct error named = ERROR_INIT; /* reason may point into err as well */
    va_list args;

    va_start(args, fmt);
    (void)append(&text, 0, fmt, args);
    va_end(args);
    (void)fill(&named, code, 0, &text);
    (void)error_reason(&named, reason);
    *err = named;
    return false;
}

static enum error_code code_of_errno(int sys_errno)
{
    switch (sys_errno) {
    case ENOENT:
        return ERROR_NOT_FOUND;
    case ENOSPC:
    case EDQUOT:
        return ERROR_RESOURCE_EXHAUSTED;
    case EFBIG: /* larger than a file system can hold */
        return ERROR_OUT_OF_RANGE;
    case EBUSY:
        return ERROR_ABORTED;
    default:
        return ERROR_INTERNAL;
    }
}

bool error_set_errno(struct error *err, int sys_errno, const char *fmt, ...)
{
    const char *description = strerrordesc_np(sys_errno);
    struct text text = { "" };
    va_list args;

    va_start(args, fmt);
    size_t len = append(&text, 0, fmt, args);
    va_end(args);
    if (description)
        (void)append_text(&text, len, ": %s", description);
    else
        (void)append_text(&text, len, ": errno %d", sys_errno);
    return fill(err, code_of_errno(sys_errno), sys_errno, &text);
}

bool error_wrap(struct error *err, const char *fmt, ...)
{
    struct text text = { "" };
    va_list args;

    va_start(args, fmt);
    size_t len = append(&text, 0, fmt, args);
    va_end(args);
    (void)append_text(&text, len, ": %s", err->text);
    memcpy(err->text, text.bytes, sizeof(err->text));
    return false;
}

bool error_reason(struct error *err, const char *reason)
{
    (void)snprintf(err->reason, sizeof(err->reason), "%s", reason);
    return false;
}

const char *error_code_name(enum error_code code)
{
    return (unsigned)code < ERROR_CODE_COUNT ? code_names[code] : "UNKNOWN";
}
