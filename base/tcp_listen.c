/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tcp_listen.h"

#include "base/log.h"
#include "base/option.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HOST_BYTES = 256,
    BACKLOG = 512,
    PORT_TRIES = 20,     /* until a chosen port is free at all addresses of a name */
    SILENT_SECONDS = 60, /* then the kernel asks whether the other end lives */
    PROBE_SECONDS = 10,
    PROBES = 2,
    UNACKNOWLEDGED_MS = 20000,
};

struct listen_address { /* of "HOST:PORT" */
    char host[HOST_BYTES];
    char port[6];
    bool is_any; /* all addresses of the machine */
    const char *hosts[2];
    size_t n_hosts;
};

/* Both families, also where the machine's tables know one alone: RFC 6761, section 6.3. The second
 * of the first row is for machines without IPv6. */
static void choose_hosts(struct listen_address *wanted)
{
    bool is_local = strcmp(wanted->host, "localhost") == 0;

    wanted->is_any = wanted->host[0] == '\0' || strcmp(wanted->host, "*") == 0 ||
                     strcmp(wanted->host, "0.0.0.0") == 0 || strcmp(wanted->host, "::") == 0;
    wanted->n_hosts = wanted->is_any || is_local ? 2 : 1;
    wanted->hosts[0] = wanted->is_any ? "::" : is_local ? "::1" : wanted->host;
    wanted->hosts[1] = wanted->is_any ? "0.0.0.0" : "127.0.0.1";
}

static bool split(const char *address, struct listen_address *out, struct error *err)
{
    const char *colon = strrchr(address, ':');
    const char *host = address;
    size_t len = colon ? (size_t)(colon - address) : 0;
    uint64_t port = 0;
    bool has_brackets = len >= 2 && host[0] == '[' && host[len - 1] == ']';

    if (has_brackets) {
        host++;
        len -= 2;
    }
    if (!colon || (has_brackets ? len == 0 : memchr(host, ':', len) != NULL) ||
        len >= sizeof(out->host) || !parse_u64(colon + 1, &port) || port > UINT16_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "listen address %s is not HOST:PORT, or [IPV6]:PORT", address);
    memcpy(out->host, host, len);
    out->host[len] = '\0';
    choose_hosts(out);
    (void)snprintf(out->port, sizeof(out->port), "%u", (unsigned)port);
    return true;
}

static bool set_flag(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

/* Not an error: an address of a family that this machine does not have. */
static bool is_absent(int number)
{
    return number == EADDRNOTAVAIL || number == EAFNOSUPPORT;
}

/* -1: see errno */
static int listen_at(const struct addrinfo *at, uint16_t port, bool both_families)
{
    auto_close int fd =
        socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
    struct sockaddr_storage address = { .ss_family = AF_UNSPEC };

    if (fd < 0)
        return -1;
    memcpy(&address, at->ai_addr, at->ai_addrlen);
    if (port != 0 && at->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)&address)->sin6_port = htons(port);
    else if (port != 0)
        ((struct sockaddr_in *)(void *)&address)->sin_port = htons(port);
    if ((at->ai_family == AF_INET6 &&
         !set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, both_families ? 0 : 1)) ||
        !set_flag(fd, SOL_SOCKET, SO_REUSEADDR, 1) ||
        bind(fd, (const struct sockaddr *)(const void *)&address, at->ai_addrlen) != 0 ||
        listen(fd, BACKLOG) != 0)
        return -1;
    return TAKE_FD(fd);
}

static uint16_t port_of(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = { .v6 = { .sin6_family = AF_UNSPEC } };
    socklen_t len = sizeof(address);

    if (getsockname(fd, &address.any, &len) != 0)
        return 0;
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

/* Returns 0 or an errno. */
static int listen_at_all(const struct addrinfo *list, bool is_any, struct tcp_listen *out)
{
    int absent = EADDRNOTAVAIL;

    for (const struct addrinfo *at = list; at && out->n < TCP_LISTEN_MAX; at = at->ai_next) {
        int fd = listen_at(at, out->port, is_any);

        if (fd < 0 && !is_absent(errno))
            return errno;
        if (fd < 0) {
            absent = errno;
            continue;
        }
        out->fds[out->n++] = fd;
        out->port = port_of(fd);
        if (is_any)
            break; /* one socket takes both families */
    }
    return out->n > 0 ? 0 : absent;
}

static bool look_up(const struct listen_address *wanted, const char *host, struct addrinfo **out)
{
    const struct addrinfo hints = { .ai_family = AF_UNSPEC,
                                    .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_PASSIVE | AI_NUMERICSERV };

    return getaddrinfo(host, wanted->port, &hints, out) == 0;
}

/* Returns 0 or an errno. */
static int try_hosts(const struct listen_address *wanted, struct tcp_listen *out)
{
    int failure = EADDRNOTAVAIL;

    for (size_t i = 0; i < wanted->n_hosts; i++) {
        struct addrinfo *list = NULL;

        if (!look_up(wanted, wanted->hosts[i], &list))
            continue;
        failure = listen_at_all(list, wanted->is_any, out);
        freeaddrinfo(list);
        if (wanted->is_any && i == 0 && is_absent(failure))
            log_debug("no IPv6 on this machine: IPv4 alone", TEXT("port", wanted->port));
        if ((failure != 0 && !is_absent(failure)) || (out->n > 0 && wanted->is_any))
            break;
    }
    return out->n > 0 && is_absent(failure) ? 0 : failure;
}

bool tcp_listen_open(const char *address, struct tcp_listen *out, struct error *err)
{
    struct listen_address wanted;
    int failure = EADDRINUSE;

    if (!split(address, &wanted, err))
        return false;
    bool chooses = strcmp(wanted.port, "0") == 0;

    for (int i = 0; i < (chooses ? PORT_TRIES : 1) && failure == EADDRINUSE; i++) {
        struct tcp_listen opened = { .n = 0 };

        failure = try_hosts(&wanted, &opened);
        if (failure != 0) {
            tcp_listen_close(&opened);
            continue;
        }
        *out = opened;
        return true;
    }
    (void)error_set_errno(err, failure, "cannot listen on %s", address);
    err->code = ERROR_FAILED_PRECONDITION;
    return false;
}

void tcp_listen_close(struct tcp_listen *listen)
{
    while (listen->n > 0)
        close_at(&listen->fds[--listen->n]);
}

/* --- Connections --- */

static void write_host(const struct sockaddr_storage *address,
                       char out[static ADDRESS_HOST_MAX + 1])
{
    const struct sockaddr_in6 *v6 = (const void *)address;
    const struct sockaddr_in *v4 = (const void *)address;
    const void *bytes = &v4->sin_addr;
    int family = address->ss_family;

    if (family == AF_INET6) {
        bool is_mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);

        bytes = is_mapped ? v6->sin6_addr.s6_addr + 12 : v6->sin6_addr.s6_addr;
        family = is_mapped ? AF_INET : AF_INET6;
    }
    if (!inet_ntop(family, bytes, out, ADDRESS_HOST_MAX + 1))
        out[0] = '\0';
}

/* A client that vanished must not hold its place; best effort. */
static void set_up(int fd)
{
    (void)set_flag(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    (void)set_flag(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    (void)set_flag(fd, IPPROTO_TCP, TCP_KEEPIDLE, SILENT_SECONDS);
    (void)set_flag(fd, IPPROTO_TCP, TCP_KEEPINTVL, PROBE_SECONDS);
    (void)set_flag(fd, IPPROTO_TCP, TCP_KEEPCNT, PROBES);
    (void)set_flag(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS);
}

enum tcp_accepted tcp_accept(int listening, int *out_fd, char out_host[static ADDRESS_HOST_MAX + 1])
{
    struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
    socklen_t len = sizeof(address);
    int fd =
        accept4(listening, (struct sockaddr *)(void *)&address, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) /* all others concern one connection that has gone already: accept(2) */
        return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM
                   ? TCP_NO_DESCRIPTORS
                   : TCP_NONE_WAITS;
    set_up(fd);
    write_host(&address, out_host);
    *out_fd = fd;
    return TCP_ACCEPTED;
}

bool tcp_has_ended(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

bool tcp_has_arrived(int fd)
{
    int left = 0;

    return ioctl(fd, SIOCOUTQ, &left) == 0 && left == 0;
}
