/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/*
 * The addresses that a name stands for. getaddrinfo() waits for as long as it likes, so each
 * look-up has a thread of its own, which may be left alone. A look-up whose question got lost does
 * not answer for many seconds after the name servers are back. So another one may be started beside
 * it, and the first answer counts.
 */

enum {
    RESOLVE_ADDRESSES_MAX = 16, /* of one name; more are left out */
    RESOLVE_ADDRESS_LEN = 128,  /* also the path of a unix socket */
    RESOLVE_LOOKUPS_MAX = 3,    /* of one name at the same time */
};

/* In the order of preference, as gRPC wants them: "ipv4:127.0.0.1:7443", "ipv6:[::1]:7443". */
struct address_list {
    size_t n;
    char items[RESOLVE_ADDRESSES_MAX][RESOLVE_ADDRESS_LEN];
};

/* Who knows the addresses. resolve() runs in a thread of its own and may wait for long. It fails
 * with UNAVAILABLE when another try may help. Tests put their own in its place. */
struct resolver {
    MUST_USE bool (*resolve)(void *cookie, const char *host, const char *port,
                             struct address_list *out, struct error *err);
    void *cookie;
};
extern const struct resolver resolver_system; /* getaddrinfo() */

/* One name and the look-ups for it. One thread at a time may use it. */
struct name;

/* address: HOST:PORT. A HOST that is an IP address needs no look-up. resolver: must outlive every
 * look-up, also those that name_free() left alone. */
MUST_USE bool name_new(const char *address, const struct resolver *resolver, struct name **out,
                       struct error *err);
void name_free(struct name *name); /* does not wait for look-ups; NULL is allowed */

/* Starts a look-up, unless RESOLVE_LOOKUPS_MAX are under way. Forgets an answer that nobody has
 * taken. RESOURCE_EXHAUSTED when there is no thread for it. */
MUST_USE bool name_ask(struct name *name, struct error *err);

enum name_answer {
    NAME_SILENT,   /* no answer yet */
    NAME_ANSWERED, /* with at least one address */
    NAME_FAILED,   /* and no look-up is under way any more */
};

/* Waits until until_ms at most. Each answer is given once; of two, the one that was asked for
 * later. */
enum name_answer name_wait(struct name *name, uint64_t until_ms, struct address_list *out,
                           struct error *err);
