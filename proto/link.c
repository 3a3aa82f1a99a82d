/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/link.h"

#include "base/clock.h"
#include "base/thread.h"
#include "proto/channel.h"
#include "proto/grpc_runtime.h"
#include "proto/resolve.h"

#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TARGET_LEN_MAX = 400,
    SLICE_MS = 50, /* while connecting: how often it looks for answers and for the end */
};

/* A channel that was ready, and the calls on it. The last one destroys it when it is not in use any
 * more: a call that gRPC has not sent yet would fail. */
struct link_channel {
    grpc_channel *grpc;
    size_t n_calls;
    bool is_dropped;
};

struct link {
    char *target, *server_name;
    struct name *name; /* NULL: a unix socket */

    grpc_completion_queue *looks; /* no event ever comes: see look() */

    /* Of the thread. */
    pthread_t thread;
    struct address_list known; /* the last answer */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool is_started, is_ending, is_wanted;
    grpc_channel_credentials *credentials;
    uint64_t generation;          /* of the credentials */
    struct link_channel *channel; /* in use; or NULL */
    uint64_t connecting_ms;       /* since when the thread connects; 0: it does not */
    uint64_t n_failures;
    uint64_t not_before_ms; /* the next attempt; until then, calls get the failure */
    struct error failure;
};

/* --- connecting: a race of addresses --- */

/* An address that is being tried. Its watch comes back from the queue exactly once. */
struct candidate {
    grpc_channel *channel; /* NULL: not tried (any more) */
    grpc_connectivity_state state;
    bool is_watched;
    uint64_t generation; /* of its credentials */
    char uri[RESOLVE_ADDRESS_LEN];
};

struct race {
    struct link *link;
    grpc_completion_queue *events;
    struct candidate candidates[RESOLVE_ADDRESSES_MAX];
    size_t n_tried;                /* candidates with a channel */
    struct address_list addresses; /* to try: from next on */
    size_t next;
    uint64_t began_ms, ask_ms, next_ms;
    uint64_t generation;       /* of the winner */
    bool has_asked, is_silent; /* is_silent: no look-up is under way */
    bool has_tried_known;
    struct error failure;
};

static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
    return a_ms < b_ms ? a_ms : b_ms;
}

static gpr_timespec time_at(uint64_t at_ms)
{
    uint64_t now_ms = clock_now_ms();
    uint64_t left_ms = at_ms > now_ms ? at_ms - now_ms : 0;

    if (left_ms > INT32_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_millis((int64_t)left_ms, GPR_TIMESPAN));
}

static bool is_tried(const struct race *r, const char *uri)
{
    for (size_t i = 0; i < ARRAY_LEN(r->candidates); i++)
        if (r->candidates[i].channel && strcmp(r->candidates[i].uri, uri) == 0)
            return true;
    return false;
}

static struct candidate *find_free(struct race *r)
{
    for (size_t i = 0; i < ARRAY_LEN(r->candidates); i++)
        if (!r->candidates[i].channel && !r->candidates[i].is_watched)
            return &r->candidates[i];
    return NULL;
}

static void watch(struct race *r, struct candidate *c)
{
    c->is_watched = true;
    grpc_channel_watch_connectivity_state(c->channel, c->state, gpr_inf_future(GPR_CLOCK_MONOTONIC),
                                          r->events, c);
}

static void try_address(struct race *r, struct candidate *c, const char *uri)
{
    struct link *link = r->link;
    struct channel_options options = {
        .uri = uri,
        .authority = link->name ? link->target : NULL,
        .server_name = link->server_name,
    };

    (void)pthread_mutex_lock(&link->lock);
    options.credentials = link->credentials;
    c->generation = link->generation;
    c->channel = channel_connect(&options);
    (void)pthread_mutex_unlock(&link->lock);
    if (!c->channel) {
        error_set(&r->failure, ERROR_UNAVAILABLE, "%s: gRPC does not take this address", uri);
        return;
    }
    (void)snprintf(c->uri, sizeof(c->uri), "%s", uri);
    r->n_tried++;
    c->state = GRPC_CHANNEL_IDLE;
    watch(r, c);
}

static void try_next(struct race *r)
{
    uint64_t now_ms = clock_now_ms();

    while (r->next < r->addresses.n && (r->n_tried == 0 || now_ms >= r->next_ms)) {
        const char *uri = r->addresses.items[r->next];
        struct candidate *c = is_tried(r, uri) ? NULL : find_free(r);

        r->next++;
        if (!c)
            continue;
        try_address(r, c, uri);
        r->next_ms = now_ms + LINK_NEXT_MS;
    }
}

static void drop_candidate(struct race *r, struct candidate *c)
{
    grpc_channel_destroy(c->channel);
    c->channel = NULL;
    r->n_tried--;
}

/* Returns the candidate's channel when it is ready. The caller owns it then. */
static grpc_channel *judge(struct race *r, struct candidate *c)
{
    grpc_channel *channel = c->channel;

    if (!channel) /* dropped before */
        return NULL;
    c->state = grpc_channel_check_connectivity_state(channel, 0);
    if (c->state == GRPC_CHANNEL_READY) {
        r->generation = c->generation;
        c->channel = NULL;
        r->n_tried--;
        return channel;
    }
    if (c->state == GRPC_CHANNEL_CONNECTING) {
        watch(r, c);
        return NULL;
    }
    if (c->state == GRPC_CHANNEL_TRANSIENT_FAILURE)
        channel_explain(channel, &r->failure);
    else
        error_set(&r->failure, ERROR_UNAVAILABLE, "%s closed the connection", c->uri);
    drop_candidate(r, c);
    r->next_ms = 0; /* it refused: the next one at once */
    return NULL;
}

static grpc_channel *wait_for_event(struct race *r, uint64_t until_ms)
{
    grpc_event event = grpc_completion_queue_next(r->events, time_at(until_ms), NULL);
    struct candidate *c = event.tag;

    if (event.type != GRPC_OP_COMPLETE)
        return NULL;
    c->is_watched = false;
    return judge(r, c);
}

static void use_addresses(struct race *r, const struct address_list *addresses)
{
    r->addresses = *addresses;
    r->next = 0;
}

/* Names that cannot be looked up now had addresses before: the server proves who it is. */
static void use_known(struct race *r)
{
    if (r->has_tried_known || r->link->known.n == 0)
        return;
    r->has_tried_known = true;
    use_addresses(r, &r->link->known);
}

static void take_answer(struct race *r, uint64_t until_ms)
{
    struct address_list addresses;
    enum name_answer answer = name_wait(r->link->name, until_ms, &addresses, &r->failure);

    if (answer == NAME_SILENT)
        return;
    r->is_silent = true;
    if (answer == NAME_FAILED) {
        use_known(r);
        return;
    }
    r->link->known = addresses;
    use_addresses(r, &addresses);
}

static void ask_names(struct race *r, uint64_t now_ms)
{
    struct link *link = r->link;

    if (now_ms < r->ask_ms)
        return;
    r->ask_ms = now_ms + LINK_ASK_MS;
    if (!link->name) { /* a unix socket */
        use_addresses(r, &link->known);
        r->is_silent = true;
        return;
    }
    if (r->has_asked && !r->is_silent)
        use_known(r);
    r->has_asked = true;
    r->is_silent = !name_ask(link->name, &r->failure);
    if (r->is_silent)
        use_known(r);
}

static bool is_ending(struct link *link)
{
    (void)pthread_mutex_lock(&link->lock);
    bool ending = link->is_ending;
    (void)pthread_mutex_unlock(&link->lock);
    return ending;
}

static grpc_channel *go_on(struct race *r, uint64_t end_ms)
{
    grpc_channel *ready = NULL;

    for (;;) {
        uint64_t now_ms = clock_now_ms();
        uint64_t until_ms = earlier(now_ms + SLICE_MS, end_ms);

        if (ready || now_ms >= end_ms || is_ending(r->link))
            return ready;
        ask_names(r, now_ms);
        if (r->link->name && !r->is_silent) /* while others are tried, it only looks */
            take_answer(r, r->n_tried > 0 ? 0 : until_ms);
        try_next(r);
        if (r->n_tried > 0)
            ready = wait_for_event(r, r->next < r->addresses.n ? earlier(until_ms, r->next_ms)
                                                               : until_ms);
        else if (r->is_silent && r->next >= r->addresses.n)
            return NULL; /* all have refused */
    }
}

static void clear(struct race *r)
{
    grpc_event event;

    for (size_t i = 0; i < ARRAY_LEN(r->candidates); i++)
        if (r->candidates[i].channel)
            drop_candidate(r, &r->candidates[i]);
    grpc_completion_queue_shutdown(r->events);
    do
        event = grpc_completion_queue_next(r->events, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    while (event.type != GRPC_QUEUE_SHUTDOWN);
    grpc_completion_queue_destroy(r->events);
}

static unsigned patience_of(const struct link *link)
{
    return link->name ? LINK_PATIENCE_MS : LINK_LOCAL_PATIENCE_MS;
}

static void name_silent(struct race *r)
{
    unsigned patience_ms = patience_of(r->link);

    for (size_t i = 0; i < ARRAY_LEN(r->candidates); i++)
        if (r->candidates[i].channel)
            error_set(&r->failure, ERROR_UNAVAILABLE, "%s does not answer within %u ms",
                      r->candidates[i].uri, patience_ms);
    if (r->failure.code == ERROR_NONE)
        error_set(&r->failure, ERROR_UNAVAILABLE, "look up %s: no answer within %u ms",
                  r->link->target, patience_ms);
}

/* Without the lock. Returns a channel that is ready, or NULL. */
static grpc_channel *connect_link(struct link *link, uint64_t *generation, struct error *failure)
{
    struct race r = {
        .link = link,
        .events = grpc_completion_queue_create_for_next(NULL),
        .began_ms = clock_now_ms(),
        .failure = ERROR_INIT,
    };
    grpc_channel *ready = go_on(&r, r.began_ms + patience_of(link));

    if (!ready) {
        name_silent(&r);
        *failure = r.failure;
    }
    *generation = r.generation;
    clear(&r);
    return ready;
}

/* --- the thread --- */

static void channel_free(struct link_channel *channel)
{
    grpc_channel_destroy(channel->grpc);
    free(channel);
}

/* The caller holds the lock. Calls on the channel go on. */
static void drop_channel(struct link *link)
{
    struct link_channel *channel = link->channel;

    link->channel = NULL;
    if (!channel)
        return;
    channel->is_dropped = true;
    if (channel->n_calls == 0)
        channel_free(channel);
}

static bool has_ready_channel(const struct link *link)
{
    return link->channel &&
           grpc_channel_check_connectivity_state(link->channel->grpc, 0) == GRPC_CHANNEL_READY;
}

/* The caller holds the lock. */
static bool use_channel(struct link *link, grpc_channel *ready, struct error *err)
{
    struct link_channel *channel = calloc(1, sizeof(*channel));

    if (!channel) {
        grpc_channel_destroy(ready);
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    drop_channel(link);
    channel->grpc = ready;
    link->channel = channel;
    return true;
}

/* The caller holds the lock; it is free while the thread connects. */
static void renew(struct link *link)
{
    struct error failure = ERROR_INIT;
    uint64_t generation = 0;

    link->connecting_ms = clock_now_ms();
    (void)pthread_mutex_unlock(&link->lock);
    grpc_channel *ready = connect_link(link, &generation, &failure);
    (void)pthread_mutex_lock(&link->lock);
    link->connecting_ms = 0;
    if (ready && generation != link->generation) { /* with credentials of before: once more */
        grpc_channel_destroy(ready);
        return;
    }
    if (!ready || !use_channel(link, ready, &failure)) {
        link->failure = failure;
        link->n_failures++;
        link->not_before_ms = clock_now_ms() + LINK_PAUSE_MS;
    }
    link->is_wanted = false;
    (void)pthread_cond_broadcast(&link->changed);
}

static void *work(void *cookie)
{
    struct link *link = cookie;

    (void)pthread_mutex_lock(&link->lock);
    while (!link->is_ending) {
        if (link->is_wanted)
            renew(link);
        else
            condition_wait_until(&link->changed, &link->lock, UINT64_MAX);
    }
    (void)pthread_mutex_unlock(&link->lock);
    return NULL;
}

/* --- calls --- */

static bool start_thread(struct link *link, struct error *err)
{
    if (!link->is_started)
        link->is_started = thread_start(&link->thread, "link", work, link, err);
    return link->is_started;
}

/* The caller holds the lock, which is free while it waits. */
static bool wait_for_channel(struct link *link, uint64_t until_ms, struct error *err)
{
    uint64_t n_failures = link->n_failures;

    while (!has_ready_channel(link)) {
        uint64_t now_ms = clock_now_ms();

        drop_channel(link);
        if (link->n_failures != n_failures || (!link->is_wanted && now_ms < link->not_before_ms)) {
            *err = link->failure;
            return error_wrap(err, "no connection to %s", link->target);
        }
        if (now_ms >= until_ms)
            return error_set(err, ERROR_DEADLINE_EXCEEDED,
                             "no connection to %s within the time of the call", link->target);
        if (!start_thread(link, err))
            return false;
        link->is_wanted = true;
        (void)pthread_cond_broadcast(&link->changed);
        condition_wait_until(&link->changed, &link->lock, until_ms);
    }
    return true;
}

/* gRPC looks at its sockets only inside of its functions. While no call is in progress, nothing
 * tells it that the server has closed the connection. */
static void look(struct link *link)
{
    (void)grpc_completion_queue_next(link->looks, gpr_inf_past(GPR_CLOCK_MONOTONIC), NULL);
}

bool link_call(struct link *link, struct link_call *call, struct exchange *x, struct error *err)
{
    look(link);
    (void)pthread_mutex_lock(&link->lock);
    bool has_channel = wait_for_channel(link, call->until_ms, err);

    if (has_channel) {
        call->channel = link->channel;
        call->channel->n_calls++;
        call->began_ms = clock_now_ms();
    }
    (void)pthread_mutex_unlock(&link->lock);
    if (has_channel)
        exchange_call(x, call->channel->grpc, call->path, time_at(call->until_ms));
    return has_channel;
}

void link_called(struct link *link, struct link_call *call, const struct exchange *x)
{
    struct link_channel *channel = TAKE_PTR(call->channel);
    bool is_silent = x->status == GRPC_STATUS_DEADLINE_EXCEEDED && x->initial.count == 0 &&
                     clock_now_ms() - call->began_ms >= LINK_SILENCE_MS;

    (void)pthread_mutex_lock(&link->lock);
    channel->n_calls--;
    if (is_silent && channel == link->channel)
        drop_channel(link);
    else if (channel->is_dropped && channel->n_calls == 0)
        channel_free(channel);
    (void)pthread_mutex_unlock(&link->lock);
}

bool link_check(struct link *link, uint64_t stuck_ms, struct error *err)
{
    (void)pthread_mutex_lock(&link->lock);
    uint64_t since_ms = link->connecting_ms;
    (void)pthread_mutex_unlock(&link->lock);
    return since_ms == 0 || clock_now_ms() - since_ms < stuck_ms ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "the connection to %s is stuck; restart this process", link->target);
}

/* --- life --- */

static bool copy(const char *text, char **out, struct error *err)
{
    *out = text ? strdup(text) : NULL;
    return *out || !text || error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for an address");
}

static bool fill(struct link *link, const struct link_options *o, struct error *err)
{
    bool is_unix = strncmp(o->target, "unix:", 5) == 0;

    if (strlen(o->target) >= (is_unix ? RESOLVE_ADDRESS_LEN : TARGET_LEN_MAX))
        return error_set(err, ERROR_INVALID_ARGUMENT, "address %s is too long", o->target);
    if (is_unix) {
        link->known.n = 1;
        (void)snprintf(link->known.items[0], RESOLVE_ADDRESS_LEN, "%s", o->target);
    }
    return copy(o->target, &link->target, err) &&
           copy(o->tls ? o->tls->server_name : NULL, &link->server_name, err) &&
           (is_unix || name_new(o->target, o->resolver, &link->name, err)) &&
           channel_credentials_new(o->tls, &link->credentials, err);
}

bool link_new(const struct link_options *options, struct link **out, struct error *err)
{
    struct link *link = calloc(1, sizeof(*link));

    if (!link)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a client of %s",
                         options->target);
    grpc_runtime_open();
    (void)pthread_mutex_init(&link->lock, NULL);
    condition_init(&link->changed);
    link->looks = grpc_completion_queue_create_for_next(NULL);
    if (!fill(link, options, err)) {
        link_free(link);
        return false;
    }
    *out = link;
    return true;
}

bool link_set_tls(struct link *link, const struct client_tls *tls, struct error *err)
{
    grpc_channel_credentials *credentials = NULL;

    if (!channel_credentials_new(tls, &credentials, err))
        return false;
    (void)pthread_mutex_lock(&link->lock);
    grpc_channel_credentials *old = link->credentials;
    link->credentials = credentials;
    link->generation++;
    drop_channel(link);
    (void)pthread_mutex_unlock(&link->lock);
    grpc_channel_credentials_release(old);
    return true;
}

static void end_thread(struct link *link)
{
    if (!link->is_started)
        return;
    (void)pthread_mutex_lock(&link->lock);
    link->is_ending = true;
    (void)pthread_cond_broadcast(&link->changed);
    (void)pthread_mutex_unlock(&link->lock);
    (void)pthread_join(link->thread, NULL);
}

void link_free(struct link *link)
{
    if (!link)
        return;
    end_thread(link);
    drop_channel(link);
    grpc_completion_queue_shutdown(link->looks);
    grpc_completion_queue_destroy(link->looks);
    name_free(link->name);
    if (link->credentials)
        grpc_channel_credentials_release(link->credentials);
    free(link->target);
    free(link->server_name);
    (void)pthread_cond_destroy(&link->changed);
    (void)pthread_mutex_destroy(&link->lock);
    free(link);
    grpc_runtime_close();
}
