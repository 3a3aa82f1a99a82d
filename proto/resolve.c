/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/resolve.h"

#include "base/thread.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    HOST_LEN = 256,
    PORT_LEN = 8,
};

struct name {
    const struct resolver *resolver;
    char host[HOST_LEN], port[PORT_LEN];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t answered;
    size_t n_users; /* the owner and each look-up; the last one frees it */
    size_t n_lookups;
    uint64_t n_asked;   /* look-ups so far */
    uint64_t newest;    /* the number of the look-up that answered */
    bool has_addresses; /* not taken yet */
    struct address_list addresses;
    struct error failure; /* of the last one that failed; ERROR_NONE: taken */
};

struct lookup {
    struct name *name;
    uint64_t number;
};

/* --- getaddrinfo --- */

static bool write_address(const struct addrinfo *info, char out[static RESOLVE_ADDRESS_LEN])
{
    char host[64], port[PORT_LEN];
    bool is_v6 = info->ai_family == AF_INET6;

    if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
        return false;
    if (getnameinfo(info->ai_addr, info->ai_addrlen, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return false;
    int len = snprintf(out, RESOLVE_ADDRESS_LEN, "%s%s%s:%s", is_v6 ? "ipv6:[" : "ipv4:", host,
                       is_v6 ? "]" : "", port);
    return len > 0 && len < RESOLVE_ADDRESS_LEN;
}

static void take_addresses(const struct addrinfo *all, struct address_list *out)
{
    out->n = 0;
    for (const struct addrinfo *i = all; i && out->n < RESOLVE_ADDRESSES_MAX; i = i->ai_next)
        if (write_address(i, out->items[out->n]))
            out->n++;
}

static bool ask_system(const char *host, const char *port, int flags, struct address_list *out,
                       struct error *err)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = flags | AI_NUMERICSERV,
    };
    struct addrinfo *all = NULL;
    int code = getaddrinfo(host, port, &hints, &all);

    if (code != 0) {
        char text[128];
        const char *why =
            code == EAI_SYSTEM ? strerror_r(errno, text, sizeof(text)) : gai_strerror(code);

        return error_set(err, ERROR_UNAVAILABLE, "look up %s: %s", host, why);
    }
    take_addresses(all, out);
    freeaddrinfo(all);
    return out->n > 0 || error_set(err, ERROR_UNAVAILABLE, "look up %s: no address", host);
}

static bool resolve_by_system(void *cookie UNUSED, const char *host, const char *port,
                              struct address_list *out, struct error *err)
{
    return ask_system(host, port, 0, out, err);
}

const struct resolver resolver_system = { .resolve = resolve_by_system };

/* --- a name --- */

/* "[::1]:7443" is the host "::1". */
static bool split(const char *address, struct name *name, struct error *err)
{
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    if (len == 0 || len >= sizeof(name->host) || strlen(colon + 1) >= sizeof(name->port))
        return error_set(err, ERROR_INVALID_ARGUMENT, "address %s is not HOST:PORT", address);
    (void)snprintf(name->host, sizeof(name->host), "%.*s", (int)len, address);
    (void)snprintf(name->port, sizeof(name->port), "%s", colon + 1);
    return true;
}

bool name_new(const char *address, const struct resolver *resolver, struct name **out,
              struct error *err)
{
    auto_free struct name *name = calloc(1, sizeof(*name));

    if (!name)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a name");
    if (!split(address, name, err))
        return false;
    name->resolver = resolver;
    name->n_users = 1;
    (void)pthread_mutex_init(&name->lock, NULL);
    condition_init(&name->answered);
    *out = TAKE_PTR(name);
    return true;
}

static void leave(struct name *name)
{
    (void)pthread_mutex_lock(&name->lock);
    bool is_last = --name->n_users == 0;
    (void)pthread_mutex_unlock(&name->lock);
    if (!is_last)
        return;
    (void)pthread_cond_destroy(&name->answered);
    (void)pthread_mutex_destroy(&name->lock);
    free(name);
}

void name_free(struct name *name)
{
    if (name)
        leave(name);
}

/* The caller holds the lock. addresses is NULL when the look-up failed. */
static void answer(struct name *name, uint64_t number, const struct address_list *addresses,
                   const struct error *failure)
{
    if (!addresses) {
        name->failure = *failure;
    } else if (number > name->newest) {
        name->newest = number;
        name->addresses = *addresses;
        name->has_addresses = true;
    }
    (void)pthread_cond_signal(&name->answered);
}

static void *look_up(void *cookie)
{
    auto_free struct lookup *lookup = cookie;
    struct name *name = lookup->name;
    struct address_list addresses = { .n = 0 };
    struct error err = ERROR_INIT;
    bool found =
        name->resolver->resolve(name->resolver->cookie, name->host, name->port, &addresses, &err);

    (void)pthread_mutex_lock(&name->lock);
    name->n_lookups--;
    answer(name, lookup->number, found ? &addresses : NULL, &err);
    (void)pthread_mutex_unlock(&name->lock);
    leave(name);
    return NULL;
}

static bool start_lookup(struct name *name, struct error *err)
{
    auto_free struct lookup *lookup = calloc(1, sizeof(*lookup));
    pthread_t thread;

    if (!lookup)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a look-up");
    *lookup = (struct lookup){ name, name->n_asked + 1 };
    if (!thread_start(&thread, "name look-up", look_up, lookup, err))
        return false;
    (void)TAKE_PTR(lookup);
    (void)pthread_detach(thread);
    name->n_asked++;
    name->n_lookups++;
    name->n_users++;
    return true;
}

bool name_ask(struct name *name, struct error *err)
{
    struct address_list addresses = { .n = 0 };
    struct error ignored = ERROR_INIT;
    bool done = true;

    bool is_number = ask_system(name->host, name->port, AI_NUMERICHOST, &addresses, &ignored);
    (void)pthread_mutex_lock(&name->lock);
    name->has_addresses = false;
    name->failure = (struct error)ERROR_INIT;
    if (is_number)
        answer(name, ++name->n_asked, &addresses, &ignored);
    else if (name->n_lookups < RESOLVE_LOOKUPS_MAX)
        done = start_lookup(name, err);
    (void)pthread_mutex_unlock(&name->lock);
    return done;
}

enum name_answer name_wait(struct name *name, uint64_t until_ms, struct address_list *out,
                           struct error *err)
{
    enum name_answer result = NAME_SILENT;

    (void)pthread_mutex_lock(&name->lock);
    for (unsigned round = 0; round < 2; round++) {
        if (name->has_addresses) {
            *out = name->addresses;
            name->has_addresses = false;
            result = NAME_ANSWERED;
        } else if (name->n_lookups == 0 && name->failure.code != ERROR_NONE) {
            *err = name->failure;
            result = NAME_FAILED;
        }
        if (result != NAME_SILENT || round == 1)
            break;
        condition_wait_until(&name->answered, &name->lock, until_ms);
    }
    if (result != NAME_SILENT)
        name->failure = (struct error)ERROR_INIT;
    (void)pthread_mutex_unlock(&name->lock);
    return result;
}
