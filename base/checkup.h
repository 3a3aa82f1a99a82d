/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

/*
 * A check that may have to wait, made again and again by a thread of its own. Whoever asks for its
 * result gets the last one at once; a check that does not come to an end counts as failed.
 */
struct checkup;

struct checkup_options {
    const char *thread;   /* its name, at most 15 bytes */
    const char *subject;  /* "the key broker": begins the sentence when there is no result */
    uint64_t period_ms;   /* from the end of a check to the start of the next one */
    uint64_t retry_ms;    /* the same after a failure */
    uint64_t patience_ms; /* how long one check may take */
    bool good_at_first;   /* the result before there is one */
    bool (*check)(void *cookie, struct error *err);
    void *cookie;
};

/* The texts and cookie must outlive it. The first check starts at once. */
MUST_USE bool checkup_start(const struct checkup_options *options, struct checkup **out,
                            struct error *err);
/* No check is made any more; the last result stays. Waits for a check that is under way. */
void checkup_end(struct checkup *checkup);
/* Ends and frees it. NULL is allowed. */
void checkup_stop(struct checkup *checkup);

/* The last result, from any thread. On failure the text begins with its age, unless it is new. */
MUST_USE bool checkup_holds(struct checkup *checkup, struct error *err);
