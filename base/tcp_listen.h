/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/address.h"
#include "base/error.h"

#include <stddef.h>

/*
 * The sockets of one listen address, and the connections that arrive at them. "0.0.0.0:PORT",
 * "[::]:PORT", ":PORT" and "*:PORT" all mean all addresses of the machine, IPv4 and IPv6; a machine
 * without IPv6 listens at IPv4 alone. A name such as "localhost:PORT"
 * means all its addresses, with one port. Sockets are non-blocking.
 */
#define TCP_LISTEN_MAX 8

struct tcp_listen {
    int fds[TCP_LISTEN_MAX];
    size_t n;
    uint16_t port;
};

/* Port 0 chooses one. INVALID_ARGUMENT: not HOST:PORT. FAILED_PRECONDITION: the machine does not
 * have the address, or the port is taken; never shares a port with another process. */
MUST_USE bool tcp_listen_open(const char *address, struct tcp_listen *out, struct error *err);
void tcp_listen_close(struct tcp_listen *listen);

enum tcp_accepted { TCP_ACCEPTED, TCP_NONE_WAITS, TCP_NO_DESCRIPTORS };
/* out_host is the address of the other end, an IPv4 one also when it came in over IPv6. */
enum tcp_accepted tcp_accept(int listening, int *out_fd,
                             char out_host[static ADDRESS_HOST_MAX + 1]);

/* Whether the other end has closed, and nothing that it sent waits to be read. */
MUST_USE bool tcp_has_ended(int fd);

/* Whether the other end's kernel has got all that was sent. */
MUST_USE bool tcp_has_arrived(int fd);
