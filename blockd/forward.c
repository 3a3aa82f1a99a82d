/* SPDX-License-Identifier: Apache-2.0 */
#include "base/footprint.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/unix_socket.h"
#include "blockd/operation.h"
#include "blockd/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The socket of another CSI driver is open to root alone, as a rule, and the front is not root. So a
 * worker listens at a socket of the front, and passes what comes there on to the other driver: bytes
 * both ways, unread. Both paths are those that tdvol-blockd was started with. The bytes may be secrets
 * of the other driver, so they lie in secret memory.
 */

enum { CONNECTIONS_MAX = 4, BUFFER_BYTES = 8 * 1024, RESERVED = 2 };
enum side { FRONT, OTHER };

/* What came from one side and is to go to the other one. */
struct stream {
    uint8_t bytes[BUFFER_BYTES];
    size_t at, len; /* bytes[at] to bytes[at + len] are not sent yet */
    bool is_ended;  /* that side sends no more */
    bool is_told;   /* the other side knows it */
};

struct forwarded {
    int fds[2]; /* by enum side; -1: free */
    struct stream from[2];
};

static struct forwarded *find_free(struct forwarded *all)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (all[i].fds[FRONT] < 0)
            return &all[i];
    return NULL;
}

static bool has_room(struct forwarded *all)
{
    return find_free(all) != NULL;
}

static void close_connection(struct forwarded *c)
{
    close_at(&c->fds[FRONT]);
    close_at(&c->fds[OTHER]);
}

/* When the other driver cannot be reached, the front sees its connection close. */
static void accept_connection(int listen_fd, const char *path, struct forwarded *all)
{
    auto_close int front = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct forwarded *c = find_free(all);
    struct error err = ERROR_INIT;
    int other = -1;

    if (front < 0 || !c)
        return;
    if (!unix_socket_connect(path, &other, &err)) {
        log_debug("the other driver cannot be reached", ERROR_FIELDS(&err));
        return;
    }
    for (int side = FRONT; side <= OTHER; side++) {
        c->from[side].at = c->from[side].len = 0;
        c->from[side].is_ended = c->from[side].is_told = false;
    }
    c->fds[FRONT] = TAKE_FD(front);
    c->fds[OTHER] = other;
}

static bool may_wait(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* False: the connection is broken. */
static bool take(struct stream *s, int fd)
{
    ssize_t n = recv(fd, s->bytes, sizeof(s->bytes), 0);

    if (n < 0)
        return may_wait();
    s->at = 0;
    s->len = (size_t)n;
    s->is_ended = n == 0;
    return true;
}

static bool give(struct stream *s, int fd)
{
    ssize_t n = send(fd, s->bytes + s->at, s->len, MSG_NOSIGNAL);

    if (n < 0)
        return may_wait();
    bytes_wipe(s->bytes + s->at, (size_t)n);
    s->at += (size_t)n;
    s->len -= (size_t)n;
    return true;
}

/* fds[side] was polled. False: the connection has ended. */
static bool move_bytes(struct forwarded *c, const struct pollfd fds[static 2])
{
    for (int side = FRONT; side <= OTHER; side++) {
        struct stream *s = &c->from[side];
        int to = c->fds[1 - side];

        if ((fds[side].events & POLLIN) && fds[side].revents && !take(s, c->fds[side]))
            return false;
        if (s->len > 0 && !give(s, to))
            return false;
        if (s->is_ended && s->len == 0 && !s->is_told) {
            (void)shutdown(to, SHUT_WR);
            s->is_told = true;
        }
    }
    return !(c->from[FRONT].is_told && c->from[OTHER].is_told);
}

/* Reads from a side only what the other one takes: a slow reader slows the writer down. */
static void fill_poll(const struct forwarded *c, struct pollfd fds[static 2])
{
    for (int side = FRONT; side <= OTHER; side++) {
        const struct stream *own = &c->from[side], *back = &c->from[1 - side];
        bool reads = own->len == 0 && !own->is_ended;

        fds[side].fd = reads || back->len > 0 ? c->fds[side] : -1;
        fds[side].events = (short)((reads ? POLLIN : 0) | (back->len > 0 ? POLLOUT : 0));
        fds[side].revents = 0;
    }
}

static bool forward(const struct worker *worker, int listen_fd, struct forwarded *all,
                    struct error *err)
{
    struct pollfd fds[RESERVED + 2 * CONNECTIONS_MAX];

    for (;;) {
        fds[0] = (struct pollfd){ .fd = worker->front_fd, .events = POLLRDHUP };
        fds[1] = (struct pollfd){ .fd = has_room(all) ? listen_fd : -1, .events = POLLIN };
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            fill_poll(&all[i], fds + RESERVED + 2 * i);
        if (poll(fds, ARRAY_LEN(fds), -1) < 0 && errno != EINTR)
            return error_set_errno(err, errno, "wait for the other driver");
        if (fds[0].revents)
            return error_set(err, ERROR_CANCELLED, "the caller is gone");
        for (size_t i = 0; i < CONNECTIONS_MAX; i++)
            if (all[i].fds[FRONT] >= 0 && !move_bytes(&all[i], fds + RESERVED + 2 * i))
                close_connection(&all[i]);
        if (fds[1].revents)
            accept_connection(listen_fd, worker->config->upstream, all);
    }
}

/* Gives the socket to the user that the front is now. */
static bool give_to_front(const struct worker *worker, const char *path, struct error *err)
{
    struct ucred front;
    socklen_t len = sizeof(front);

    if (getsockopt(worker->front_fd, SOL_SOCKET, SO_PEERCRED, &front, &len) != 0)
        return error_set_errno(err, errno, "ask who the front is");
    if (front.uid != geteuid() && chown(path, front.uid, (gid_t)-1) != 0)
        return error_set_errno(err, errno, "give socket %s to user %u", path, (unsigned)front.uid);
    return true;
}

bool operation_forward(struct worker *worker, struct block_result *out UNUSED, struct error *err)
{
    const struct worker_config *config = worker->config;
    auto_unix_socket struct unix_socket socket = UNIX_SOCKET_INIT;
    auto_secret struct secret memory = SECRET_INIT;

    if (!config->upstream || !config->upstream_door)
        return error_set(err, ERROR_FAILED_PRECONDITION, "there is no other driver here");
    if (!secret_alloc(&memory, CONNECTIONS_MAX * sizeof(struct forwarded), err))
        return false;
    struct forwarded *all = (struct forwarded *)(void *)memory.bytes;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        all[i].fds[FRONT] = all[i].fds[OTHER] = -1;
    if (!unix_socket_bind(config->upstream_door, 0600, &socket, err) ||
        !give_to_front(worker, config->upstream_door, err))
        return false;
    footprint_settle(); /* from here on it mostly waits, as long as the plugin lives */
    bool done = forward(worker, socket.fd, all, err);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        close_connection(&all[i]);
    return done;
}
