/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/sessions.h"

/*
 * One broker behind several addresses. The address that answers is used until it stops answering.
 * With sessions, a call waits for the session that it needs. When the broker has forgotten that
 * session, the call waits for a new one, once. Errors have the reasons of volume health, metrics
 * and log.
 */
struct broker_set_options {
    const struct broker_route *routes; /* in the order of preference */
    size_t n;
    struct sessions *sessions; /* over the same routes; NULL: our certificate authenticates us */
    struct broker_pins pins;
};
struct broker_set;

/* What the options point to must outlive the set. */
MUST_USE bool broker_set_new(const struct broker_set_options *options, struct broker_set **out,
                             struct error *err);
void broker_set_free(struct broker_set *set); /* NULL is allowed */
struct broker_transport broker_set_transport(struct broker_set *set);
