/* SPDX-License-Identifier: Apache-2.0 */
#include "base/http_request.h"

#include <string.h>

static bool is_letter_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A method, or the name of a field: RFC 9110, section 5.6.2. */
static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_letter_or_digit(text[i]) && (!text[i] || !strchr("!#$%&'*+-.^_`|~", text[i])))
            return false;
    return len > 0;
}

static bool is_target(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len > 0 && text[0] == '/';
}

static bool is_version(const char *text, size_t len)
{
    static const char start[] = "HTTP/1.";

    return len == sizeof(start) && memcmp(text, start, sizeof(start) - 1) == 0 &&
           (text[len - 1] == '0' || text[len - 1] == '1');
}

static bool parse_line(const char *line, size_t len, struct http_request *out)
{
    const char *end = line + len;
    const char *space = memchr(line, ' ', len);
    const char *target = space ? space + 1 : end;
    const char *second = memchr(target, ' ', (size_t)(end - target));

    if (!space || !second || !is_token(line, (size_t)(space - line)) ||
        !is_target(target, (size_t)(second - target)) ||
        !is_version(second + 1, (size_t)(end - second - 1)))
        return false;
    const char *query = memchr(target, '?', (size_t)(second - target));

    out->is_get = space - line == 3 && memcmp(line, "GET", 3) == 0;
    out->path = target;
    out->path_len = (size_t)((query ? query : second) - target);
    return true;
}

static bool is_field(const char *line, size_t len)
{
    const char *colon = memchr(line, ':', len);

    if (!colon || !is_token(line, (size_t)(colon - line)))
        return false;
    for (const char *c = colon; c < line + len; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return false;
    return true;
}

enum http_head http_request_parse(const char *bytes, size_t len, struct http_request *out)
{
    struct http_request request = { .is_get = false };
    const char *line = bytes, *end = bytes + len;

    for (;;) {
        const char *feed = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;

        if (!feed)
            return HTTP_HEAD_INCOMPLETE;
        size_t line_len = (size_t)(feed - line);

        if (line_len > 0 && line[line_len - 1] == '\r')
            line_len--;
        if (line_len == 0 && line != bytes)
            break;
        if (line == bytes ? !parse_line(line, line_len, &request) : !is_field(line, line_len))
            return HTTP_HEAD_BAD;
        line = feed + 1;
    }
    *out = request;
    return HTTP_HEAD_WHOLE;
}
