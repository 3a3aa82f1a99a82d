/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_connection.h"

#include "base/tcp_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READS_PER_TURN = 4, /* records; then the others have their turn */
    SEND_BYTES = TLS_RECORD_BYTES,
    FRAME_BYTES_MAX = 9 + 16384, /* RFC 9113, section 4.2 */
    SCRATCH_BYTES = SEND_BYTES + FRAME_BYTES_MAX,
};

enum connection_state {
    HANDSHAKE,
    OPEN,
    ENDING,  /* sends what is left, then says goodbye */
    GOODBYE, /* waits until the last bytes have arrived: closing could lose them */
    DEAD,
};

struct door_connection {
    TAILQ_ENTRY(door_connection) link; /* in open or dead */
    TAILQ_ENTRY(door_connection) dirty_link;
    struct door_source source;
    struct door_connections *all;
    const struct door_place *place;
    enum connection_state state;
    int fd;
    uint32_t events; /* what epoll waits for */
    struct tls_connection *tls;
    struct door_session *session; /* from OPEN on */
    struct door_session_host host;
    struct door_peer *peer;
    struct network *network;
    struct fair_lane *lane;
    char address[ADDRESS_HOST_MAX + 1];

    uint8_t *unsent; /* what TLS did not take; the same bytes must come again */
    size_t unsent_bytes, unsent_at;
    uint64_t state_since_ms, active_ms, stalled_ms; /* 0: not stalled */
    bool is_known;                                  /* a call was granted: no stranger */
    bool is_dirty, is_stopping, has_spoken;
    bool read_wants_write; /* TLS has to send something before it reads on */
};

/* --- Life --- */

bool door_connections_init(struct door_connections *all, struct error *err)
{
    networks_init(&all->networks);
    TAILQ_INIT(&all->open);
    TAILQ_INIT(&all->dirty);
    TAILQ_INIT(&all->dead);
    all->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (all->epoll < 0)
        return error_set_errno(err, errno, "make an epoll descriptor");
    all->scratch = malloc(SCRATCH_BYTES);
    return (all->scratch && fair_queue_new(&all->queue, err)) ||
           error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the door");
}

void door_connections_done(struct door_connections *all)
{
    door_connections_bury(all);
    fair_queue_free(all->queue);
    free_at(&all->scratch);
    close_at(&all->epoll);
}

static void set_state(struct door_connection *c, enum connection_state state)
{
    c->state = state;
    c->state_since_ms = clock_now_ms();
}

/* Closes the socket at once; the rest is freed when this round is over. */
static void close_now(struct door_connection *c)
{
    struct door_connections *all = c->all;

    if (c->state == DEAD)
        return;
    set_state(c, DEAD);
    TAILQ_REMOVE(&all->open, c, link);
    TAILQ_INSERT_TAIL(&all->dead, c, link);
    if (c->is_dirty)
        TAILQ_REMOVE(&all->dirty, c, dirty_link);
    c->is_dirty = true; /* never to be put there again */
    door_session_free(TAKE_PTR(c->session));
    tls_free(TAKE_PTR(c->tls));
    close_at(&c->fd); /* epoll forgets it, too */
    network_leave(&all->networks, c->network);
}

void door_connections_bury(struct door_connections *all)
{
    struct door_connection *c = NULL;

    while ((c = TAILQ_FIRST(&all->dead))) {
        TAILQ_REMOVE(&all->dead, c, link);
        if (c->lane)
            fair_queue_leave(all->queue, c->lane);
        door_peer_release(c->peer);
        free(c->unsent);
        free(c);
    }
}

static void turned_away(void *cookie, const char *why)
{
    const struct door_connection *c = cookie;
    const struct server_options *options = c->all->options;

    if (options->turned_away)
        options->turned_away(options->cookie, why);
}

static void cut_off(struct door_connection *c, const char *why)
{
    turned_away(c, why);
    close_now(c);
}

static void watch(struct door_connection *c, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = &c->source };

    if (events == c->events)
        return;
    c->events = events;
    if (epoll_ctl(c->all->epoll, EPOLL_CTL_MOD, c->fd, &event) != 0)
        close_now(c);
}

/* --- Calls --- */

static void free_call(struct door_connections *all, struct door_call *call)
{
    fair_queue_settle(all->queue, call->item.lane, call->answer_bytes);
    fair_queue_leave(all->queue, call->item.lane);
    door_call_free(call);
    all->n_calls--;
}

static struct door_call *call_of(struct fair_item *item)
{
    return (struct door_call *)(void *)((char *)item - offsetof(struct door_call, item));
}

static void displace(struct door_connections *all, struct fair_item *item)
{
    struct door_call *call = call_of(item);

    error_set(&call->err, ERROR_UNAVAILABLE, "%s: too many calls are waiting: try again later",
              call->path);
    door_call_drop_request(call);
    door_connections_answer(all, call);
}

static bool submit_call(void *cookie, struct door_call *call)
{
    struct door_connection *c = cookie;
    struct fair_item *displaced = NULL;

    call->item.lane = c->lane;
    call->item.bytes = call->request_bytes;
    fair_queue_hold(c->all->queue, c->lane);
    c->all->n_calls++;
    bool has_room = fair_queue_put(c->all->queue, &call->item, &displaced);

    if (displaced)
        displace(c->all, displaced);
    return has_room;
}

static void abandon_call(void *cookie, struct door_call *call)
{
    struct door_connection *c = cookie;

    atomic_store(&call->is_cancelled, true);
    if (fair_queue_withdraw(c->all->queue, &call->item))
        free_call(c->all, call);
}

static void release_call(void *cookie, struct door_call *call)
{
    struct door_connection *c = cookie;

    free_call(c->all, call);
}

static void mark_dirty(void *cookie)
{
    struct door_connection *c = cookie;

    if (c->is_dirty)
        return;
    c->is_dirty = true;
    TAILQ_INSERT_TAIL(&c->all->dirty, c, dirty_link);
}

/* Some calls succeed for everybody, so they do not count: the application says which. */
static bool is_granted(const struct door_call *call)
{
    return (call->method->flags & RPC_FOR_STRANGERS) == 0 && call->err.code == ERROR_NONE;
}

void door_connections_answer(struct door_connections *all, struct door_call *call)
{
    if (!call->stream) {
        free_call(all, call);
        return;
    }
    struct door_connection *c = door_session_cookie_of(call);

    c->is_known = c->is_known || is_granted(call);
    c->active_ms = clock_now_ms();
    door_session_answer(call);
}

/* --- Steps --- */

static bool begin_session(struct door_connection *c, struct error *err)
{
    struct tls_peer peer = { .certificate_pem = NULL };
    bool ok =
        tls_peer_read(c->tls, &peer, err) &&
        door_peer_new(&peer.certificate_pem, peer.session_reused, c->address, &c->peer, err) &&
        fair_queue_join(c->all->queue, peer.key_sha256, &c->lane, err);

    free(peer.certificate_pem);
    if (!ok)
        return false;
    memcpy(c->peer->server_key_sha256, peer.server_key_sha256, SHA256_LEN);
    c->peer->rpc.server_key_sha256 = c->peer->server_key_sha256;
    c->host = (struct door_session_host){ .cookie = c,
                                          .bindings = c->place->bindings,
                                          .n_bindings = c->place->n_bindings,
                                          .limits = &c->all->options->limits,
                                          .networks = &c->all->networks,
                                          .network = c->network,
                                          .peer = c->peer,
                                          .submit = submit_call,
                                          .abandon = abandon_call,
                                          .release = release_call,
                                          .turned_away = turned_away,
                                          .wake = mark_dirty };
    return door_session_new(&c->host, &c->session, err);
}

static void shake_hands(struct door_connection *c)
{
    struct error ignored = ERROR_INIT;

    if (!c->has_spoken && tcp_has_ended(c->fd)) {
        close_now(c); /* a probe that only connects, or door_check(): nobody was turned away */
        return;
    }
    enum tls_result result = tls_handshake(c->tls);

    c->has_spoken = true;
    if (result == TLS_WANTS_READ || result == TLS_WANTS_WRITE) {
        watch(c, result == TLS_WANTS_READ ? EPOLLIN : EPOLLOUT);
        return;
    }
    if (result != TLS_DONE || !begin_session(c, &ignored)) {
        cut_off(c, DOOR_HANDSHAKE);
        return;
    }
    set_state(c, OPEN);
    c->active_ms = c->state_since_ms;
    mark_dirty(c); /* our SETTINGS */
}

/* False: the socket takes no more for now, or the connection is dead. */
static bool send_unsent(struct door_connection *c)
{
    while (c->unsent) {
        size_t sent = 0;
        enum tls_result result =
            tls_write(c->tls, c->unsent + c->unsent_at, c->unsent_bytes - c->unsent_at, &sent);

        if (result == TLS_ENDED)
            close_now(c);
        if (result != TLS_DONE) {
            c->stalled_ms = c->stalled_ms ? c->stalled_ms : clock_now_ms();
            return false;
        }
        c->stalled_ms = 0;
        c->unsent_at += sent;
        if (c->unsent_at == c->unsent_bytes)
            free_at(&c->unsent);
    }
    return true;
}

/* Fills the scratch memory with frames: at least one record, so that answers share one. */
static size_t gather(struct door_connection *c)
{
    const uint8_t *frame = NULL;
    size_t len = 0, n = 0;

    while (len < SEND_BYTES && (n = door_session_give(c->session, &frame)) > 0 &&
           n <= SCRATCH_BYTES - len) {
        memcpy(c->all->scratch + len, frame, n);
        len += n;
    }
    return len;
}

static bool send_all(struct door_connection *c)
{
    size_t len = 0;

    while (send_unsent(c) && (len = gather(c)) > 0) {
        c->unsent = malloc(len);
        if (!c->unsent) {
            close_now(c);
            return false;
        }
        memcpy(c->unsent, c->all->scratch, len);
        c->unsent_bytes = len;
        c->unsent_at = 0;
    }
    return c->state != DEAD && !c->unsent;
}

/* All is sent. The client learns that nothing more will come. */
static void say_goodbye(struct door_connection *c)
{
    tls_say_goodbye(c->tls);
    (void)shutdown(c->fd, SHUT_WR);
    set_state(c, GOODBYE);
    watch(c, EPOLLIN);
}

static void flush(struct door_connection *c)
{
    bool is_empty = send_all(c);

    if (c->state == DEAD)
        return;
    if (door_session_has_ended(c->session) && c->state == OPEN)
        set_state(c, ENDING);
    if (is_empty && c->state == ENDING)
        say_goodbye(c);
    else if (!is_empty || c->read_wants_write)
        watch(c, EPOLLOUT); /* who does not read is not read from */
    else
        watch(c, EPOLLIN);
}

/* Keeps the time since when the client takes no bytes. */
static void note_read(struct door_connection *c, enum tls_result result)
{
    c->read_wants_write = result == TLS_WANTS_WRITE;
    if (c->read_wants_write && c->stalled_ms == 0)
        c->stalled_ms = clock_now_ms();
    else if (!c->read_wants_write && !c->unsent)
        c->stalled_ms = 0;
}

static void read_requests(struct door_connection *c)
{
    for (int i = 0; i < READS_PER_TURN; i++) {
        size_t len = 0;
        enum tls_result result = tls_read(c->tls, c->all->scratch, TLS_RECORD_BYTES, &len);

        note_read(c, result);
        if (result == TLS_ENDED)
            close_now(c);
        if (result != TLS_DONE)
            break;
        if (!door_session_take(c->session, c->all->scratch, len)) {
            turned_away(c, DOOR_RULES);
            set_state(c, ENDING);
            break;
        }
    }
    if (c->state != DEAD)
        flush(c);
}

/* What the client still sends is not looked at. */
static void read_to_end(struct door_connection *c)
{
    ssize_t got = 0;

    for (int i = 0; i < READS_PER_TURN; i++) {
        got = recv(c->fd, c->all->scratch, SCRATCH_BYTES, 0);
        if (got <= 0)
            break;
    }
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        close_now(c);
}

static void happened(void *owner, uint32_t events)
{
    struct door_connection *c = owner;

    if (c->state == DEAD)
        return;
    if (c->state == HANDSHAKE)
        shake_hands(c);
    else if (c->state == GOODBYE)
        read_to_end(c);
    else if (c->state == OPEN && (c->read_wants_write || (events & EPOLLOUT) == 0))
        read_requests(c);
    else if (events & EPOLLOUT)
        flush(c);
    else
        close_now(c);
}

void door_connections_flush(struct door_connections *all)
{
    struct door_connection *c = NULL;

    while ((c = TAILQ_FIRST(&all->dirty))) {
        TAILQ_REMOVE(&all->dirty, c, dirty_link);
        c->is_dirty = false;
        if (c->state == OPEN || c->state == ENDING)
            flush(c);
    }
}

/* --- Room for new clients --- */

/* The higher, the sooner it has to go; 0: it stays. */
static unsigned uselessness(const struct door_connection *c)
{
    size_t n_streams = c->session ? door_session_streams(c->session) : 0;

    if (c->state == GOODBYE || c->state == ENDING)
        return 4;
    if (!c->is_known)
        return n_streams == 0 ? 3 : 2;
    return n_streams == 0 ? 1 : 0;
}

/* The one that is the least useful, and of those the one that has done nothing for the longest
 * time. network: only those; NULL: of all. */
static struct door_connection *least_useful(const struct door_connections *all,
                                            const struct network *network)
{
    struct door_connection *c = NULL, *worst = NULL;
    unsigned most = 0;

    TAILQ_FOREACH(c, &all->open, link) {
        unsigned n = uselessness(c);

        if ((network && c->network != network) || n == 0 || n < most)
            continue;
        if (n > most || !worst || c->active_ms < worst->active_ms)
            worst = c;
        most = n;
    }
    return worst;
}

static bool close_least_useful(struct door_connections *all, const struct network *network)
{
    struct door_connection *worst = least_useful(all, network);

    if (worst)
        cut_off(worst, DOOR_NO_ROOM);
    return worst != NULL;
}

bool door_connections_close_one(struct door_connections *all)
{
    return close_least_useful(all, NULL);
}

/* The new one counts already. The network with the most may be its own, with no other connection, or
 * have busy known clients alone: then the least useful of all goes. */
static bool make_room(struct door_connections *all, const struct network *network)
{
    if (network->n_connections > all->each_max && !close_least_useful(all, network))
        return false;
    return all->networks.n_connections <= all->all_max ||
           close_least_useful(all, network_with_most_connections(&all->networks)) ||
           close_least_useful(all, NULL);
}

static bool set_up(struct door_connection *c, struct error *err)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = &c->source };

    c->events = EPOLLIN;
    return tls_accept(c->place->tls, c->fd, &c->tls, err) &&
           (epoll_ctl(c->all->epoll, EPOLL_CTL_ADD, c->fd, &event) == 0 ||
            error_set_errno(err, errno, "watch a connection"));
}

void door_connection_begin(struct door_connections *all, const struct door_place *place, int fd,
                           const char *host)
{
    struct door_connection *c = calloc(1, sizeof(*c));
    struct error ignored = ERROR_INIT;

    if (!c || !network_enter(&all->networks, host, &c->network, &ignored)) {
        free(c);
        close_at(&fd);
        return;
    }
    c->source = (struct door_source){ happened, c };
    c->all = all;
    c->place = place;
    c->fd = fd;
    memcpy(c->address, host, strnlen(host, ADDRESS_HOST_MAX));
    set_state(c, HANDSHAKE);
    c->active_ms = c->state_since_ms;
    bool has_room = make_room(all, c->network);

    TAILQ_INSERT_TAIL(&all->open, c, link);
    if (!has_room || !set_up(c, &ignored))
        cut_off(c, DOOR_NO_ROOM);
}

/* --- Time --- */

static uint64_t idle_limit(const struct door_connection *c)
{
    return c->is_known ? DOOR_IDLE_MS : DOOR_STRANGER_MS;
}

static void check_open(struct door_connection *c, uint64_t now_ms)
{
    if (door_session_streams(c->session) > 0)
        c->active_ms = now_ms;
    if (!door_session_check_time(c->session, now_ms)) {
        cut_off(c, DOOR_SLOW);
    } else if (now_ms - c->active_ms >= idle_limit(c) && !c->is_stopping) {
        c->is_stopping = true;
        door_session_stop(c->session);
    }
}

static void check_time(struct door_connection *c, uint64_t now_ms)
{
    uint64_t since_ms = now_ms - c->state_since_ms;

    if (c->state == GOODBYE && (since_ms >= DOOR_GOODBYE_MS || tcp_has_arrived(c->fd)))
        close_now(c);
    else if ((c->state == HANDSHAKE && since_ms >= DOOR_HANDSHAKE_MS) ||
             (c->state == ENDING && since_ms >= DOOR_STALLED_MS) ||
             (c->stalled_ms != 0 && now_ms - c->stalled_ms >= DOOR_STALLED_MS))
        cut_off(c, DOOR_SLOW);
    else if (c->state == OPEN)
        check_open(c, now_ms);
}

void door_connections_check_time(struct door_connections *all)
{
    uint64_t now_ms = clock_now_ms();
    struct door_connection *next = NULL;

    for (struct door_connection *c = TAILQ_FIRST(&all->open); c; c = next) {
        next = TAILQ_NEXT(c, link); /* it may be closed now */
        check_time(c, now_ms);
    }
}

void door_connections_stop(struct door_connections *all)
{
    struct door_connection *next = NULL;

    for (struct door_connection *c = TAILQ_FIRST(&all->open); c; c = next) {
        next = TAILQ_NEXT(c, link); /* it may be closed now */
        if (c->state == HANDSHAKE) {
            close_now(c);
        } else if (c->state == OPEN && !c->is_stopping) {
            c->is_stopping = true;
            door_session_stop(c->session);
        }
    }
}

void door_connections_close(struct door_connections *all)
{
    struct door_connection *c = NULL;

    while ((c = TAILQ_FIRST(&all->open)))
        close_now(c);
}
