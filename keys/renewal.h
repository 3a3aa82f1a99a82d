/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/call_metrics.h"
#include "keys/credentials.h"

/*
 * A thread that reads the credentials again when their files change. It looks at the files each
 * interval, through links, so it also sees how Kubernetes replaces a Secret. Files that are not
 * usable change nothing, and are told once; most often the rest of them is still being written.
 */
struct renewal;

#define RENEWAL_INTERVAL_MS 5000u

struct renewal_options {
    struct credential_files files;
    uint64_t interval_ms;
    struct metrics *metrics; /* gets the end of each certificate's time */
    bool (*use)(void *cookie, const struct credentials *credentials, struct error *err);
    void *cookie;
};

/* in_use: what was read last. What the options point to must outlive it. */
MUST_USE bool renewal_start(const struct renewal_options *options, const struct credentials *in_use,
                            struct renewal **out, struct error *err);
void renewal_stop(struct renewal *renewal); /* and frees it; NULL is allowed */

/* Adds to the error of a call that a certificate's time is over, when it is. */
void renewal_explain(struct renewal *renewal, struct error *err);
