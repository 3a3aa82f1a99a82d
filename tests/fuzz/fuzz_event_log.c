/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/event_log.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

struct bounds {
    const uint8_t *begin, *end;
};

static bool within(void *cookie, const struct event *event, struct error *err)
{
    const struct bounds *b = cookie;

    (void)err;
    if (event->digest < b->begin || event->digest + MEASUREMENT_LEN > b->end ||
        event->data < b->begin || event->data_len > (size_t)(b->end - event->data))
        abort();
    return true;
}

/* Every event lies within the log, and a log that can be walked can be replayed. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct error err = ERROR_INIT;
    struct bounds bounds = { bytes, bytes + len };
    uint8_t rtmr[4][MEASUREMENT_LEN];

    if (event_log_walk(bytes, len, within, &bounds, &err) !=
        event_log_replay(bytes, len, rtmr, &err))
        abort();
    return 0;
}
