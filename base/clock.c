/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
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
