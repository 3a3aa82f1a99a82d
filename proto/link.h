/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "proto/endpoint.h"
#include "proto/exchange.h"

/*
 * The way to one server, for as long as the process lives: at most one channel that is known to
 * work, and a thread that makes the next one. The thread
 * - connects when a call wants it: it looks the name up and tries the addresses in their order, the
 *   next one after LINK_NEXT_MS, or at once when one refuses. An address that accepts and then is
 *   silent does not keep the others waiting. The first that is ready wins;
 * - looks the name up again each LINK_ASK_MS while nothing is ready, and tries what the answer
 *   names, also what refused before: addresses may change, and servers come back. When names cannot
 *   be looked up, it tries the addresses of the last answer;
 * - gives up after LINK_PATIENCE_MS (LINK_LOCAL_PATIENCE_MS for a unix socket, which is slow only when
 *   this machine is, and has no other address), and tells the calls that wait. The next call, LINK_PAUSE_MS
 *   later, begins anew.
 * A call takes the channel only while its connection stands; otherwise it wants the next one. When
 * nothing came back to a call in LINK_SILENCE_MS and until its deadline, the link drops the channel,
 * too: the machine behind the address may be gone. Calls on a channel that is dropped go on until
 * they end. Thread-safe.
 */
struct link;

enum {
    LINK_NEXT_MS = 250,
    LINK_ASK_MS = 1000,
    LINK_PATIENCE_MS = 4000,
    LINK_LOCAL_PATIENCE_MS = 20000,
    LINK_PAUSE_MS = 250,
    LINK_SILENCE_MS = 2000,
};

struct resolver; /* proto/resolve.h */

struct link_options {
    const char *target;              /* "unix:/path" or "HOST:PORT" */
    const struct client_tls *tls;    /* NULL for unix sockets */
    const struct resolver *resolver; /* outlives the process' look-ups */
};

/* Copies what the options point to, except for the resolver. Starts no thread yet. */
MUST_USE bool link_new(const struct link_options *options, struct link **out, struct error *err);
/* No call may be in progress. */
void link_free(struct link *link);

/* New calls use these credentials, on a new connection. */
MUST_USE bool link_set_tls(struct link *link, const struct client_tls *tls, struct error *err);

struct link_call {
    const char *path;  /* "/package.Service/Method" */
    uint64_t until_ms; /* clock_now_ms() scale; UINT64_MAX: no deadline */
    /* Filled in by link_call(). */
    struct link_channel *channel;
    uint64_t began_ms;
};
/* Waits for a channel and starts x's call on it. UNAVAILABLE when the server cannot be reached,
 * DEADLINE_EXCEEDED when the time of the call is over before that. */
MUST_USE bool link_call(struct link *link, struct link_call *call, struct exchange *x,
                        struct error *err);
/* Tells the link how the call ended. Must follow each link_call() that succeeded. */
void link_called(struct link *link, struct link_call *call, const struct exchange *x);

/* FAILED_PRECONDITION when the thread has been connecting for stuck_ms. It never needs much longer
 * than LINK_PATIENCE_MS: something below it hangs, and only a new process can help. */
MUST_USE bool link_check(struct link *link, uint64_t stuck_ms, struct error *err);
