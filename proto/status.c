/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/status.h"

#include "base/utf8.h"

#include <string.h>

/* Indexed by gRPC's numbers, which never change. 2 (UNKNOWN) tells a client nothing, so we never
 * send it. */
static const enum error_code by_status[] = {
    [0] = ERROR_NONE,
    [1] = ERROR_CANCELLED,
    [2] = ERROR_INTERNAL,
    [3] = ERROR_INVALID_ARGUMENT,
    [4] = ERROR_DEADLINE_EXCEEDED,
    [5] = ERROR_NOT_FOUND,
    [6] = ERROR_ALREADY_EXISTS,
    [7] = ERROR_DENIED,
    [8] = ERROR_RESOURCE_EXHAUSTED,
    [9] = ERROR_FAILED_PRECONDITION,
    [10] = ERROR_ABORTED,
    [11] = ERROR_OUT_OF_RANGE,
    [12] = ERROR_UNIMPLEMENTED,
    [13] = ERROR_INTERNAL,
    [14] = ERROR_UNAVAILABLE,
    [15] = ERROR_DATA_LOSS,
    [16] = ERROR_UNAUTHENTICATED,
};

#define STATUS_INTERNAL 13

int status_from_error(enum error_code code)
{
    if (code == ERROR_INTERNAL)
        return STATUS_INTERNAL;
    for (size_t i = 0; i < ARRAY_LEN(by_status); i++) {
        if (by_status[i] == code)
            return (int)i;
    }
    return STATUS_INTERNAL;
}

enum error_code status_to_error(int grpc_status)
{
    if (grpc_status < 0 || (size_t)grpc_status >= ARRAY_LEN(by_status))
        return ERROR_INTERNAL;
    return by_status[grpc_status];
}

bool status_reason_is_word(const char *reason, size_t len)
{
    if (len == 0 || len >= sizeof(((struct error *)0)->reason))
        return false;
    for (size_t i = 0; i < len; i++) {
        char lower = (char)(reason[i] | 0x20);

        if (lower < 'a' || lower > 'z')
            return false;
    }
    return true;
}

size_t status_message(const char *text, char out[static STATUS_MESSAGE_MAX + 1])
{
    const uint8_t *bytes = (const uint8_t *)text;
    size_t left = strlen(text);
    size_t len = 0;

    while (left > 0) {
        uint32_t character = 0;
        size_t n = utf8_next(bytes, left, &character);
        bool is_good = n > 0 && !utf8_is_control(character);

        if (n == 0)
            n = 1;
        if (len + n > STATUS_MESSAGE_MAX)
            break;
        if (is_good) {
            memcpy(out + len, bytes, n);
            len += n;
        } else {
            out[len++] = '?';
        }
        bytes += n;
        left -= n;
    }
    out[len] = '\0';
    return len;
}
