/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/proto/relay.h"

#include "tests/unit/test.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 32, TICK_MS = 5 };

struct relay {
    pthread_t thread;
    int listener;
    uint16_t port, to_port;
    atomic_bool is_ending, is_frozen, is_muted, is_cut;
    atomic_uint n_accepted;
    int fds[PAIRS][2]; /* client, server; -1: none */
};

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons(port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void close_pair(int pair[2])
{
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            (void)close(pair[i]);
        pair[i] = -1;
    }
}

static void accept_one(struct relay *relay)
{
    struct sockaddr_in to = loopback(relay->to_port);
    int client = accept(relay->listener, NULL, NULL);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    size_t i = 0;

    while (i < PAIRS && relay->fds[i][0] >= 0)
        i++;
    if (client < 0 || i == PAIRS || connect(server, (struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(client);
        (void)close(server);
        return;
    }
    relay->fds[i][0] = client;
    relay->fds[i][1] = server;
    atomic_fetch_add(&relay->n_accepted, 1);
}

static void pass_on(int pair[2], bool is_muted)
{
    for (int i = 0; i < 2 && pair[0] >= 0; i++) {
        struct pollfd ready = { .fd = pair[i], .events = POLLIN };
        char bytes[8192];

        if (poll(&ready, 1, 0) <= 0)
            continue;
        ssize_t n = recv(pair[i], bytes, sizeof(bytes), 0);
        if (n > 0 && i == 1 && is_muted)
            continue;
        if (n <= 0 || send(pair[1 - i], bytes, (size_t)n, MSG_NOSIGNAL) != n)
            close_pair(pair);
    }
}

static void *work(void *cookie)
{
    struct relay *relay = cookie;

    while (!atomic_load(&relay->is_ending)) {
        struct pollfd ready = { .fd = relay->listener, .events = POLLIN };

        if (poll(&ready, 1, TICK_MS) > 0)
            accept_one(relay);
        bool is_cut = atomic_exchange(&relay->is_cut, false);
        for (size_t i = 0; i < PAIRS; i++) {
            if (is_cut)
                close_pair(relay->fds[i]);
            else if (relay->fds[i][0] >= 0 && !atomic_load(&relay->is_frozen))
                pass_on(relay->fds[i], atomic_load(&relay->is_muted));
        }
    }
    return NULL;
}

struct relay *relay_start(uint16_t to_port)
{
    struct relay *relay = calloc(1, sizeof(*relay));
    struct sockaddr_in at = loopback(0);
    socklen_t len = sizeof(at);

    assert_non_null(relay);
    relay->to_port = to_port;
    for (size_t i = 0; i < PAIRS; i++)
        relay->fds[i][0] = relay->fds[i][1] = -1;
    relay->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(relay->listener >= 0);
    assert_int_equal(bind(relay->listener, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(relay->listener, 16), 0);
    assert_int_equal(getsockname(relay->listener, (struct sockaddr *)&at, &len), 0);
    relay->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&relay->thread, NULL, work, relay), 0);
    return relay;
}

uint16_t relay_port(const struct relay *relay)
{
    return relay->port;
}

unsigned relay_accepted(struct relay *relay)
{
    return atomic_load(&relay->n_accepted);
}

void relay_freeze(struct relay *relay, int is_frozen)
{
    atomic_store(&relay->is_frozen, is_frozen);
}

void relay_mute(struct relay *relay, int is_muted)
{
    atomic_store(&relay->is_muted, is_muted);
}

void relay_cut(struct relay *relay)
{
    atomic_store(&relay->is_cut, true);
    while (atomic_load(&relay->is_cut))
        (void)usleep(1000);
    (void)usleep(2000 * TICK_MS); /* until the sockets are closed */
}

void relay_stop(struct relay *relay)
{
    atomic_store(&relay->is_ending, true);
    (void)pthread_join(relay->thread, NULL);
    for (size_t i = 0; i < PAIRS; i++)
        close_pair(relay->fds[i]);
    (void)close(relay->listener);
    free(relay);
}
