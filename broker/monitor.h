/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "collateral/collaterals.h"
#include "proto/dispatch.h"

#include <stdio.h>

/*
 * Serves /healthz, /readyz and /metrics over HTTP (base/http.h), and counts the results of calls.
 * The pages name neither volumes nor tenants, so the number of series does not grow with them.
 */
struct monitor;

/* All of it must outlive the monitor. */
struct monitor_options {
    struct broker *broker;
    struct collaterals *collaterals;        /* NULL: the broker does not verify evidence */
    size_t (*count_sessions)(void *cookie); /* NULL: there are no attested sessions */
    void *cookie;
    /* Whether the broker's own listener answers; may wait. NULL: not checked. */
    bool (*check_listener)(void *cookie, struct error *err);
    void *listener;
    const atomic_bool *is_listening; /* before that it is not ready; NULL: not asked */
};
MUST_USE bool monitor_new(const struct monitor_options *options, struct monitor **out,
                          struct error *err);
void monitor_free(struct monitor *monitor); /* NULL is allowed; stops serving */

/* Serves at an address, see base/tcp_listen.h; from now on the options' check may be called. */
MUST_USE bool monitor_serve(struct monitor *monitor, const char *address, struct error *err);

/* After each call, from any thread. */
void monitor_observe(struct monitor *monitor, const struct rpc_call *call, const struct error *err,
                     uint64_t elapsed_ms);

/* The door turned somebody away; why: a word of proto/endpoint.h. From any thread. */
void monitor_turned_away(struct monitor *monitor, const char *why);

/* What the pages show. Public for tests. The first may wait for the store, until monitor_serve(). */
MUST_USE bool monitor_check_ready(struct monitor *monitor, struct error *err);
void monitor_print(struct monitor *monitor, FILE *out);
