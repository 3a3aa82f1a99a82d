/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macro.h"

#include <stdbool.h>
#include <stdint.h>

/* Monotonic and wall-clock time in milliseconds. */

uint64_t clock_now_ms(void);      /* CLOCK_MONOTONIC: for deadlines and durations */
uint64_t clock_boottime_ms(void); /* CLOCK_BOOTTIME */
uint64_t clock_wall_ms(void);     /* since 1970-01-01T00:00:00Z */

#define CLOCK_TEXT_LEN 25 /* "2026-11-23T23:15:48.123Z" and NUL */
void clock_text(uint64_t wall_ms, char out[CLOCK_TEXT_LEN]);

/* Reads "2026-02-18T10:58:51Z" as seconds since 1970. False for any other form, and for a day that
 * does not exist. */
MUST_USE bool clock_parse(const char *text, int64_t *seconds);
