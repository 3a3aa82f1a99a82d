/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "keys/sessions.h"

/*
 * The broker behind several addresses: the one that answers is kept until it does not. With
 * sessions, a call waits for the one that it needs, and makes up for one that the broker has
 * forgotten, once. Errors use the words of volume health, metrics and log.
 */
struct broker_set_options {
    const struct broker_route *routes; /* in the order of preference */
    size_t n;
    struct sessions *sessions; /* over the same routes; NULL: a certificate has to do */
    struct broker_pins pins;
};
struct broker_set;

/* What the options point to must outlive it. */
MUST_USE bool broker_set_new(const struct broker_set_options *options, struct broker_set **out,
                             struct error *err);
void broker_set_free(struct broker_set *set); /* NULL is allowed */
struct broker_transport broker_set_transport(struct broker_set *set);
