/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Says on stderr how far a long step is: on a terminal in one line that changes each second, otherwise
 * in a line every ten seconds, for logs. */
struct progress {
    const char *what; /* "copied" */
    uint64_t total_bytes, done_bytes;
    uint64_t started_ms, shown_ms;
    bool is_terminal;
};
void progress_start(struct progress *progress, const char *what, uint64_t total_bytes);
void progress_add(struct progress *progress, uint64_t bytes);
void progress_end(struct progress *progress); /* shows the end, and ends the line on a terminal */

/* "copied 1.5 of 8.0 GiB (19%), 210 MiB/s, 32 s left" */
#define PROGRESS_TEXT_LEN 128
void progress_text(const struct progress *progress, uint64_t now_ms,
                   char out[static PROGRESS_TEXT_LEN]);
