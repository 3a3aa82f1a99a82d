/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/address.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

/*
 * Requests that have not arrived completely. gRPC keeps their parts in memory, all from one quota,
 * before it is known who sends them. A stranger with many unfinished requests would use up the
 * memory for known clients. So each network may have only a few unfinished requests, for a short
 * time. A client that sends each request at once never reaches the limit. Not thread-safe.
 */
#define UNFINISHED_EACH_MAX 24 /* of one network */
#define UNFINISHED_ALL_MAX  1024
#define UNFINISHED_MS       10000u

struct unfinished_item {
    TAILQ_ENTRY(unfinished_item) link;
    char network[ADDRESS_NETWORK_LEN]; /* "": a local socket, not counted */
    uint64_t since_ms;
};

struct unfinished {
    TAILQ_HEAD(unfinished_list, unfinished_item) items; /* the oldest first */
    size_t n;
};

void unfinished_init(struct unfinished *intake);
/* False when the item's network, or all networks together, have as many as they may. */
bool unfinished_enter(struct unfinished *intake, struct unfinished_item *item, uint64_t now_ms);
void unfinished_leave(struct unfinished *intake,
                      struct unfinished_item *item); /* also when it never entered */
/* Takes off a request that takes too long, and returns it; NULL when there is none. */
struct unfinished_item *unfinished_take_late(struct unfinished *intake, uint64_t now_ms);
