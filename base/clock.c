/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define WALL_MS_MAX 253402300799999u /* 9999-12-31T23:59:59.999Z */

static uint64_t read_ms(clockid_t id)
{
    struct timespec now;

    int failed = clock_gettime(id, &now);
    assert(!failed); /* the kernel has these clocks */
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t clock_now_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

uint64_t clock_boottime_ms(void)
{
    return read_ms(CLOCK_BOOTTIME);
}

uint64_t clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}

void clock_text(uint64_t wall_ms, char out[CLOCK_TEXT_LEN])
{
    uint64_t ms = wall_ms < WALL_MS_MAX ? wall_ms : WALL_MS_MAX;
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;
    char text[sizeof("9999-12-31T23:59:59")];

    const struct tm *converted = gmtime_r(&seconds, &utc);
    assert(converted); /* years of four digits always fit */
    (void)strftime(text, sizeof(text), "%FT%T", converted);
    (void)snprintf(out, CLOCK_TEXT_LEN, "%.19s.%03uZ", text, (unsigned)(ms % 1000));
}

static bool digits_at(const char *text, int n, int *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *out = *out * 10 + (text[i] - '0');
    }
    return true;
}

bool clock_parse(const char *text, int64_t *seconds)
{
    static const char form[] = "0000-00-00T00:00:00Z";
    struct tm tm = { .tm_isdst = 0 }, back;

    if (!text || strlen(text) != sizeof(form) - 1)
        return false;
    for (size_t i = 0; form[i]; i++)
        if (form[i] != '0' && text[i] != form[i])
            return false;
    if (!digits_at(text, 4, &tm.tm_year) || !digits_at(text + 5, 2, &tm.tm_mon) ||
        !digits_at(text + 8, 2, &tm.tm_mday) || !digits_at(text + 11, 2, &tm.tm_hour) ||
        !digits_at(text + 14, 2, &tm.tm_min) || !digits_at(text + 17, 2, &tm.tm_sec))
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;

    const struct tm wanted = tm; /* timegm() changes 30 February to 2 March in tm */
    time_t result = timegm(&tm);
    if (!gmtime_r(&result, &back) || back.tm_mon != wanted.tm_mon ||
        back.tm_mday != wanted.tm_mday || back.tm_hour != wanted.tm_hour ||
        back.tm_min != wanted.tm_min || back.tm_sec != wanted.tm_sec)
        return false;
    *seconds = result;
    return true;
}
