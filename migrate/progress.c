/* SPDX-License-Identifier: Apache-2.0 */
#include "migrate/progress.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define TERMINAL_STEP_MS 1000
#define LOG_STEP_MS      10000

void progress_text(const struct progress *progress, uint64_t now_ms,
                   char out[static PROGRESS_TEXT_LEN])
{
    static const double gib = 1024.0 * 1024 * 1024, mib = 1024.0 * 1024;
    uint64_t passed_ms = now_ms - progress->started_ms;
    double rate = (double)progress->done_bytes / (double)(passed_ms > 0 ? passed_ms : 1) * 1000;
    double left = (double)(progress->total_bytes - progress->done_bytes);
    double percent = progress->total_bytes > 0
                         ? 100.0 * (double)progress->done_bytes / (double)progress->total_bytes
                         : 100.0;
    int len = snprintf(out, PROGRESS_TEXT_LEN, "%s %.1f of %.1f GiB (%d%%), %.0f MiB/s",
                       progress->what, (double)progress->done_bytes / gib,
                       (double)progress->total_bytes / gib, (int)percent, rate / mib);

    if (left > 0 && rate > 0 && len > 0 && len < PROGRESS_TEXT_LEN)
        (void)snprintf(out + len, PROGRESS_TEXT_LEN - (size_t)len, ", %.0f s left", left / rate);
}

static void show(struct progress *progress, uint64_t now_ms)
{
    char text[PROGRESS_TEXT_LEN];

    progress_text(progress, now_ms, text);
    if (progress->is_terminal)
        fprintf(stderr, "\r\033[K%s", text);
    else
        fprintf(stderr, "%s\n", text);
    progress->shown_ms = now_ms;
}

void progress_start(struct progress *progress, const char *what, uint64_t total_bytes)
{
    uint64_t now_ms = clock_now_ms();

    *progress = (struct progress){ .what = what,
                                   .total_bytes = total_bytes,
                                   .started_ms = now_ms,
                                   .shown_ms = now_ms,
                                   .is_terminal = isatty(STDERR_FILENO) == 1 };
}

void progress_add(struct progress *progress, uint64_t bytes)
{
    uint64_t now_ms = clock_now_ms(), left = progress->total_bytes - progress->done_bytes;

    progress->done_bytes += bytes < left ? bytes : left;
    if (now_ms - progress->shown_ms >= (progress->is_terminal ? TERMINAL_STEP_MS : LOG_STEP_MS))
        show(progress, now_ms);
}

void progress_end(struct progress *progress)
{
    show(progress, clock_now_ms());
    if (progress->is_terminal)
        (void)fputc('\n', stderr);
}
