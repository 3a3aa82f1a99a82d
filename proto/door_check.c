/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/door_check.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

void door_pulse_beat(struct door_pulse *pulse)
{
    atomic_store(&pulse->beat_ms, clock_now_ms());
}

void door_pulse_accepted(struct door_pulse *pulse)
{
    atomic_fetch_add(&pulse->accepted, 1);
}

/* A socket for all addresses is reached by the loopback address: that of IPv4 also where it takes
 * both families, because the machine may have no ::1. */
bool door_check_find(int listening, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (void *)out;
    const struct sockaddr_in6 *v6 = (const void *)out;
    socklen_t len = sizeof(*out);
    int v6_only = 0;
    socklen_t flag_len = sizeof(v6_only);

    if (getsockname(listening, (struct sockaddr *)(void *)out, &len) != 0)
        return false;
    if (out->ss_family == AF_INET && v4->sin_addr.s_addr == htonl(INADDR_ANY))
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (out->ss_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) &&
        getsockopt(listening, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &flag_len) == 0 && !v6_only)
        *v4 = (struct sockaddr_in){ .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                    .sin_port = v6->sin6_port };
    return true;
}

static bool wait_for(int fd, short events, uint64_t until_ms)
{
    for (;;) {
        struct pollfd wait = { .fd = fd, .events = events };
        uint64_t now_ms = clock_now_ms();
        int n = poll(&wait, 1, until_ms > now_ms ? (int)(until_ms - now_ms) : 0);

        if (n >= 0 || errno != EINTR)
            return n > 0;
    }
}

/* We say at once that nothing will come from us, so the door ends the connection. That needs its
 * poller and no worker, costs it no cryptography, and does not count as somebody turned away. */
static bool gets_an_answer(const struct sockaddr_storage *address)
{
    uint64_t until_ms = clock_now_ms() + DOOR_CHECK_MS;
    socklen_t len =
        address->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    auto_close int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failure = 0;
    socklen_t failure_len = sizeof(failure);

    if (fd < 0) /* no descriptor is left. The door makes room for itself; nothing is known. */
        return true;
    if (connect(fd, (const struct sockaddr *)(const void *)address, len) != 0 &&
        errno != EINPROGRESS)
        return false;
    if (!wait_for(fd, POLLOUT, until_ms) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &failure_len) != 0 || failure != 0)
        return false;
    (void)shutdown(fd, SHUT_WR); /* fails when it has ended already */
    return wait_for(fd, POLLIN, until_ms);
}

bool door_check_address(const struct door_pulse *pulse, const struct sockaddr_storage *address,
                        struct error *err)
{
    uint64_t accepted = atomic_load(&pulse->accepted);
    bool answers = gets_an_answer(address);
    uint64_t beat_ms = atomic_load(&pulse->beat_ms); /* first: it may beat meanwhile */
    uint64_t silent_ms = clock_now_ms() - beat_ms;

    if (silent_ms > DOOR_PULSE_MS)
        return error_set(err, ERROR_UNAVAILABLE,
                         "the listener is dead: its thread has hung for %" PRIu64 " s",
                         silent_ms / 1000);
    return answers || atomic_load(&pulse->accepted) != accepted ||
           error_set(err, ERROR_UNAVAILABLE,
                     "the listener is dead: it accepts no connections, not even our own");
}
