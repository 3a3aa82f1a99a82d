/* SPDX-License-Identifier: Apache-2.0 */
#include "record/record.h"

#include <string.h>

static const char *name_of(const char *const *names, size_t n, size_t value)
{
    return value < n && names[value] ? names[value] : "unknown";
}

const char *integrity_name(enum integrity integrity)
{
    static const char *const names[] = {
        [INTEGRITY_AEGIS128] = "aegis128",
        [INTEGRITY_HMAC_SHA256] = "hmac-sha256",
        [INTEGRITY_NONE] = "none",
    };

    return name_of(names, ARRAY_LEN(names), integrity);
}

const char *record_phase_name(enum record_phase phase)
{
    static const char *const names[] = {
        [RECORD_NEW] = "NEW",       [RECORD_FORMATTING] = "FORMATTING",
        [RECORD_READY] = "READY",   [RECORD_DELETING] = "DELETING",
        [RECORD_ERASED] = "ERASED", [RECORD_RETAINED] = "RETAINED",
    };

    return name_of(names, ARRAY_LEN(names), phase);
}

const char *record_change_name(enum record_change_kind kind)
{
    static const char *const names[RECORD_CHANGE_KIND_COUNT] = {
        [RECORD_CHANGE_READY] = "ready",
        [RECORD_CHANGE_OPENED] = "opened",
        [RECORD_CHANGE_CLOSED] = "closed",
        [RECORD_CHANGE_GROWN] = "grown",
        [RECORD_CHANGE_NEXT_HEADER] = "next header",
        [RECORD_CHANGE_ROTATED] = "rotated",
    };

    return name_of(names, ARRAY_LEN(names), kind);
}

bool record_text(char *out, size_t size, const char *field, const char *text, struct error *err)
{
    size_t len = strlen(text);

    if (len >= size)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is longer than %zu bytes", field,
                         size - 1);
    memcpy(out, text, len + 1);
    return true;
}
