/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/grpc_wire.h"

#include <string.h>

enum { TIMEOUT_DIGITS_MAX = 8 };

struct grpc_wire_prefix grpc_wire_read_prefix(const uint8_t bytes[static GRPC_WIRE_PREFIX_LEN])
{
    return (struct grpc_wire_prefix){ .is_compressed = bytes[0] != 0,
                                      .len = (size_t)bytes[1] << 24 | (size_t)bytes[2] << 16 |
                                             (size_t)bytes[3] << 8 | bytes[4] };
}

void grpc_wire_write_prefix(size_t len, uint8_t out[static GRPC_WIRE_PREFIX_LEN])
{
    out[0] = 0;
    for (size_t i = 1; i < GRPC_WIRE_PREFIX_LEN; i++)
        out[i] = (uint8_t)(len >> (8 * (GRPC_WIRE_PREFIX_LEN - 1 - i)));
}

/* In nanoseconds; 0: no such unit. */
static uint64_t unit_ns(char unit)
{
    static const struct {
        char letter;
        uint64_t ns;
    } units[] = { { 'H', 3600000000000 }, { 'M', 60000000000 }, { 'S', 1000000000 },
                  { 'm', 1000000 },       { 'u', 1000 },        { 'n', 1 } };

    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (units[i].letter == unit)
            return units[i].ns;
    return 0;
}

bool grpc_wire_read_timeout(const char *text, size_t len, uint64_t *out_ms)
{
    const uint64_t ms = 1000000;
    uint64_t value = 0;

    if (len < 2 || len > TIMEOUT_DIGITS_MAX + 1)
        return false;
    for (size_t i = 0; i < len - 1; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = 10 * value + (uint64_t)(text[i] - '0');
    }
    uint64_t unit = unit_ns(text[len - 1]);

    if (unit == 0)
        return false;
    *out_ms = unit >= ms ? value * (unit / ms) : (value * unit + ms - 1) / ms;
    return true;
}

bool grpc_wire_is_content_type(const char *text, size_t len)
{
    static const char type[] = "application/grpc";
    const size_t type_len = sizeof(type) - 1;

    return len >= type_len && memcmp(text, type, type_len) == 0 &&
           (len == type_len || text[type_len] == '+' || text[type_len] == ';');
}

size_t grpc_wire_escape(const char *text, size_t len, char *out)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];

        if (byte >= ' ' && byte <= '~' && byte != '%') {
            out[n++] = text[i];
            continue;
        }
        out[n++] = '%';
        out[n++] = digits[byte >> 4];
        out[n++] = digits[byte & 15];
    }
    return n;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void grpc_wire_unescape(const char *text, size_t len, char *out)
{
    for (size_t i = 0; i < len; i++) {
        int high = text[i] == '%' && len - i > 2 ? hex_digit(text[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(text[i + 2]) : -1;

        if (low < 0) {
            *out++ = text[i];
            continue;
        }
        char byte = (char)(high << 4 | low);

        *out++ = (char)(byte == '\0' ? '?' : byte);
        i += 2;
    }
    *out = '\0';
}
