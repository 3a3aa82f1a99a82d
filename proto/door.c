/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door.h"

#include "base/clock.h"
#include "base/tcp_listen.h"
#include "base/thread.h"
#include "proto/door_check.h"
#include "proto/door_connection.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    EVENTS_PER_ROUND = 64,
    ACCEPTS_PER_ROUND = 16, /* of one socket; then the connections have their turn */
    TICK_MS = 100,
    FILES_RESERVED = 128, /* descriptors for the rest of the process */
    CONNECTIONS_MIN = 16,
    CROWD = 64,         /* connections */
    NETWORKS_SHARE = 4, /* one network may have that part of all connections */
};

struct door_listener {
    struct door_listener *next;
    struct door *door;
    struct tcp_listen sockets;
    struct sockaddr_storage own[TCP_LISTEN_MAX]; /* where we reach the sockets ourselves */
    size_t n_own;
    struct socket_source { /* one for each of the sockets */
        struct door_source source;
        struct door_listener *listener;
        int fd;
    } sources[TCP_LISTEN_MAX];
    struct door_place place;
    struct server_binding *bindings;
};

struct door {
    struct server_options options;
    enum { DOOR_NEW, DOOR_STARTED, DOOR_STOPPED } state;
    struct door_listener *listeners;
    struct door_connections connections; /* the poller's */
    bool is_deaf;                        /* no descriptors are left: try again at the next tick */
    struct door_pulse pulse;
    uint64_t tick_ms;
    size_t crowd; /* most connections since memory was given back */
    int wake_fd;  /* an eventfd: an answer is there, or the door stops */
    struct door_source wake_source;
    pthread_t poller;
    pthread_t *workers;
    size_t n_workers; /* running */

    pthread_mutex_t lock; /* protects all members below */
    struct door_calls answered;
    bool is_stopping;
    uint64_t stop_until_ms;
};

/* --- Workers --- */

static void wake_poller(const struct door *door)
{
    const uint64_t one = 1;

    (void)!write(door->wake_fd, &one, sizeof(one)); /* fails only when it is awake already */
}

static void give_back(struct door *door, struct door_call *call)
{
    (void)pthread_mutex_lock(&door->lock);
    bool was_empty = TAILQ_EMPTY(&door->answered);

    TAILQ_INSERT_TAIL(&door->answered, call, link);
    (void)pthread_mutex_unlock(&door->lock);
    if (was_empty)
        wake_poller(door);
}

static void *work(void *cookie)
{
    struct door *door = cookie;
    struct fair_queue *queue = door->connections.queue;
    struct fair_item *item = NULL;

    while ((item = fair_queue_take(queue))) {
        struct door_call *call =
            (struct door_call *)(void *)((char *)item - offsetof(struct door_call, item));

        door_call_run(call, &door->options);
        fair_queue_owe(queue, item->lane, call->answer_bytes);
        give_back(door, call);
    }
    return NULL;
}

/* --- The poller --- */

static void take_answers(void *owner, uint32_t events UNUSED)
{
    struct door *door = owner;
    struct door_calls answered = TAILQ_HEAD_INITIALIZER(answered);
    struct door_call *call = NULL;
    uint64_t count = 0;

    (void)!read(door->wake_fd, &count, sizeof(count));
    (void)pthread_mutex_lock(&door->lock);
    TAILQ_CONCAT(&answered, &door->answered, link);
    (void)pthread_mutex_unlock(&door->lock);
    while ((call = TAILQ_FIRST(&answered))) {
        TAILQ_REMOVE(&answered, call, link);
        door_connections_answer(&door->connections, call);
    }
}

static void listen_for(struct door *door, uint32_t events)
{
    for (struct door_listener *l = door->listeners; l; l = l->next) {
        for (size_t i = 0; i < l->sockets.n; i++) {
            struct epoll_event event = { .events = events, .data.ptr = &l->sources[i].source };

            (void)epoll_ctl(door->connections.epoll, EPOLL_CTL_MOD, l->sockets.fds[i], &event);
        }
    }
    door->is_deaf = events == 0;
}

static void accept_clients(void *owner, uint32_t events UNUSED)
{
    const struct socket_source *source = owner;
    struct door *door = source->listener->door;

    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        char host[ADDRESS_HOST_MAX + 1];
        int fd = -1;
        enum tcp_accepted result = tcp_accept(source->fd, &fd, host);

        if (result == TCP_NONE_WAITS)
            return;
        if (result == TCP_ACCEPTED) {
            door_pulse_accepted(&door->pulse);
            door_connection_begin(&door->connections, &source->listener->place, fd, host);
        } else if (!door_connections_close_one(&door->connections)) {
            listen_for(door, 0);
            return;
        }
    }
}

static void close_listeners(struct door *door)
{
    for (struct door_listener *l = door->listeners; l; l = l->next)
        tcp_listen_close(&l->sockets);
}

static bool has_ended(const struct door *door)
{
    return TAILQ_EMPTY(&door->connections.open) && door->connections.n_calls == 0;
}

/* True when the poller may end. */
static bool go_on_stopping(struct door *door, bool *has_begun)
{
    (void)pthread_mutex_lock(&door->lock);
    bool is_stopping = door->is_stopping;
    uint64_t until_ms = door->stop_until_ms;
    (void)pthread_mutex_unlock(&door->lock);

    if (!is_stopping)
        return false;
    if (!*has_begun) {
        close_listeners(door);
        door_connections_stop(&door->connections);
        door_connections_flush(&door->connections);
        *has_begun = true;
    }
    if (clock_now_ms() >= until_ms)
        door_connections_close(&door->connections);
    door_connections_bury(&door->connections);
    return has_ended(door);
}

/* What a crowd needed goes back to the system when it has gone: malloc() would keep it. */
static void give_memory_back(struct door *door)
{
    size_t n = door->connections.networks.n_connections;

    if (n > door->crowd)
        door->crowd = n;
    if (door->crowd - n < CROWD)
        return;
    door->crowd = n;
    (void)malloc_trim(0);
}

static void tick(struct door *door)
{
    uint64_t now_ms = clock_now_ms();

    door_pulse_beat(&door->pulse);
    if (now_ms - door->tick_ms < TICK_MS)
        return;
    door->tick_ms = now_ms;
    door_connections_check_time(&door->connections);
    give_memory_back(door);
    if (door->is_deaf)
        listen_for(door, EPOLLIN);
}

/* A client that goes away must not end the process, whatever the program does about SIGPIPE. */
static void block_sigpipe(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
}

static void *poll_events(void *cookie)
{
    struct door *door = cookie;
    bool is_stopping = false;

    block_sigpipe();
    while (!go_on_stopping(door, &is_stopping)) {
        struct epoll_event events[EVENTS_PER_ROUND];
        int n = epoll_wait(door->connections.epoll, events, EVENTS_PER_ROUND, TICK_MS);

        for (int i = 0; i < n; i++) {
            const struct door_source *source = events[i].data.ptr;

            source->happened(source->owner, events[i].events);
        }
        tick(door);
        door_connections_flush(&door->connections);
        door_connections_bury(&door->connections);
    }
    return NULL;
}

/* --- Listeners --- */

static void listener_free(struct door_listener *listener)
{
    tcp_listen_close(&listener->sockets);
    tls_server_free(listener->place.tls);
    free(listener->bindings);
    free(listener);
}

static bool watch_sockets(struct door *door, struct door_listener *listener, struct error *err)
{
    for (size_t i = 0; i < listener->sockets.n; i++) {
        struct socket_source *source = &listener->sources[i];
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = &source->source };

        source->source = (struct door_source){ accept_clients, source };
        source->listener = listener;
        source->fd = listener->sockets.fds[i];
        if (door_check_find(source->fd, &listener->own[listener->n_own]))
            listener->n_own++;
        if (epoll_ctl(door->connections.epoll, EPOLL_CTL_ADD, source->fd, &event) != 0)
            return error_set_errno(err, errno, "watch a listening socket");
    }
    return true;
}

static bool fill(struct door_listener *listener, const struct server_binding *bindings, size_t n,
                 struct error *err)
{
    if (n == 0)
        return error_set(err, ERROR_INTERNAL, "a listener without services");
    for (size_t i = 0; i < n; i++)
        if (!rpc_service_check(bindings[i].service, err))
            return false;
    listener->bindings = calloc(n, sizeof(*bindings));
    if (!listener->bindings)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a listener");
    memcpy(listener->bindings, bindings, n * sizeof(*bindings));
    listener->place.bindings = listener->bindings;
    listener->place.n_bindings = n;
    return true;
}

bool door_listen(struct door *door, const char *address, const struct server_tls *tls,
                 const struct server_binding *bindings, size_t n_bindings, uint16_t *out_port,
                 struct error *err)
{
    if (door->state != DOOR_NEW)
        return error_set(err, ERROR_INTERNAL, "the door has opened: it can bind no more sockets");
    struct door_listener *listener = calloc(1, sizeof(*listener));

    if (!listener)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a listener");
    listener->door = door;
    if (!fill(listener, bindings, n_bindings, err) ||
        !tls_server_new(tls, &listener->place.tls, err) ||
        !tcp_listen_open(address, &listener->sockets, err) || !watch_sockets(door, listener, err)) {
        listener_free(listener);
        return error_wrap(err, "listen on %s", address);
    }
    listener->next = door->listeners;
    door->listeners = listener;
    if (out_port)
        *out_port = listener->sockets.port;
    return true;
}

bool door_change_tls(struct door *door, const struct server_tls *tls, struct error *err)
{
    for (struct door_listener *l = door->listeners; l; l = l->next)
        if (!tls_server_change(l->place.tls, tls, err))
            return false;
    return true;
}

/* --- The door --- */

/* How many connections the process has descriptors for. */
static size_t connections_max(void)
{
    const rlim_t wanted = DOOR_CONNECTIONS_MAX + FILES_RESERVED;
    struct rlimit limit = { wanted, wanted };

    (void)getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur >= wanted)
        return DOOR_CONNECTIONS_MAX;
    return limit.rlim_cur > FILES_RESERVED + CONNECTIONS_MIN ? limit.rlim_cur - FILES_RESERVED
                                                             : CONNECTIONS_MIN;
}

static bool init(struct door *door, const struct server_options *options, struct error *err)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &door->wake_source };

    door->options = *options;
    TAILQ_INIT(&door->answered);
    (void)pthread_mutex_init(&door->lock, NULL);
    door->wake_source = (struct door_source){ take_answers, door };
    door->connections.options = &door->options;
    door->connections.all_max = connections_max();
    door->connections.each_max = door->connections.all_max / NETWORKS_SHARE;
    door->workers = calloc(options->n_workers, sizeof(*door->workers));
    door->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!door->workers || door->wake_fd < 0)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the door");
    return door_connections_init(&door->connections, err) &&
           (epoll_ctl(door->connections.epoll, EPOLL_CTL_ADD, door->wake_fd, &event) == 0 ||
            error_set_errno(err, errno, "watch for answers"));
}

bool door_new(const struct server_options *options, struct door **out, struct error *err)
{
    struct door *door = calloc(1, sizeof(*door));

    if (!door)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the door");
    (void)mallopt(M_ARENA_MAX, 2); /* otherwise each worker has a heap of its own */
    door->connections.epoll = -1;
    door->wake_fd = -1;
    if (!init(door, options, err)) {
        door_free(door);
        return false;
    }
    *out = door;
    return true;
}

bool door_start(struct door *door, struct error *err)
{
    door->tick_ms = clock_now_ms();
    door_pulse_beat(&door->pulse);
    if (!thread_start(&door->poller, "door-poller", poll_events, door, err))
        return false;
    door->state = DOOR_STARTED;
    while (door->n_workers < door->options.n_workers) {
        if (!thread_start(&door->workers[door->n_workers], "door-worker", work, door, err))
            return false;
        door->n_workers++;
    }
    return true;
}

bool door_check(struct door *door, struct error *err)
{
    for (const struct door_listener *l = door->listeners; l; l = l->next)
        for (size_t i = 0; i < l->n_own; i++)
            if (!door_check_address(&door->pulse, &l->own[i], err))
                return false;
    return true;
}

void door_stop(struct door *door, uint64_t grace_ms)
{
    if (door->state != DOOR_STARTED)
        return;
    door->state = DOOR_STOPPED;
    (void)pthread_mutex_lock(&door->lock);
    door->is_stopping = true;
    door->stop_until_ms = clock_now_ms() + grace_ms;
    (void)pthread_mutex_unlock(&door->lock);
    wake_poller(door);
    (void)pthread_join(door->poller, NULL);
    fair_queue_end(door->connections.queue);
    while (door->n_workers > 0)
        (void)pthread_join(door->workers[--door->n_workers], NULL);
}

void door_free(struct door *door)
{
    if (!door)
        return;
    door_stop(door, 0);
    while (door->listeners) {
        struct door_listener *listener = door->listeners;

        door->listeners = listener->next;
        listener_free(listener);
    }
    door_connections_done(&door->connections);
    close_at(&door->wake_fd);
    (void)pthread_mutex_destroy(&door->lock);
    free(door->workers);
    free(door);
}
