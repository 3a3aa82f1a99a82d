/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "master/source.h"

/*
 * How a sealed broker opens: it takes the master key from its source, unlocks the store with it, opens the
 * audit log, and from then on serves all calls. The source may not have the key yet.
 */
struct opening;

struct opening_options {
    struct broker *broker;        /* with its store; outlives the opening */
    struct master_source *source; /* likewise */
    struct master_source *old;    /* of the master key that is being replaced; NULL: none is */
    const char *audit_path;
    const char *audit_key; /* see audit_options.root; NULL: the master key */
};
/* Reads the audit key. */
MUST_USE bool opening_new(const struct opening_options *options, struct opening **out,
                          struct error *err);
/* Nobody may use the broker any more. */
void opening_free(struct opening **opening);

/* True: the broker is open. UNAVAILABLE: the source has no key yet, or the store is out of reach; then the
 * key is kept for the next try. Other errors: something must be mended, such as a key that is not this
 * store's. Clients are told the error's text. From one thread only; others may use the broker
 * meanwhile. */
MUST_USE bool opening_try(struct opening *opening, struct error *err);

/* Writes an event about the broker itself, under this policy, into the audit log of an open broker. */
MUST_USE bool opening_record(struct opening *opening, const char *event,
                             const struct policy *policy, struct error *err);
