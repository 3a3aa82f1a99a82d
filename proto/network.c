/* SPDX-License-Identifier: Apache-2.0 */
#include "proto/network.h"

#include <stdlib.h>
#include <string.h>

void networks_init(struct networks *networks)
{
    *networks = (struct networks){ .n_connections = 0 };
    LIST_INIT(&networks->all);
    TAILQ_INIT(&networks->requests);
}

static struct network *find(const struct networks *networks, const char *name)
{
    struct network *network = NULL;

    LIST_FOREACH(network, &networks->all, link)
        if (strcmp(network->name, name) == 0)
            return network;
    return NULL;
}

bool network_enter(struct networks *networks, const char *host, struct network **out,
                   struct error *err)
{
    char name[ADDRESS_NETWORK_LEN];
    struct network *network = NULL;

    address_network(host, name);
    network = find(networks, name);
    if (!network) {
        network = calloc(1, sizeof(*network));
        if (!network)
            return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a connection");
        memcpy(network->name, name, sizeof(name));
        LIST_INSERT_HEAD(&networks->all, network, link);
    }
    network->n_connections++;
    networks->n_connections++;
    *out = network;
    return true;
}

void network_leave(struct networks *networks, struct network *network)
{
    networks->n_connections--;
    network->n_connections--;
    if (network->n_connections > 0)
        return;
    LIST_REMOVE(network, link);
    free(network);
}

struct network *network_with_most_connections(const struct networks *networks)
{
    struct network *network = NULL, *most = NULL;

    LIST_FOREACH(network, &networks->all, link)
        if (!most || network->n_connections > most->n_connections)
            most = network;
    return most;
}

enum intake_room intake_room(const struct networks *networks, const struct network *network,
                             size_t n, size_t bytes)
{
    if (network->n_unfinished + n > INTAKE_EACH_MAX || network->bytes + bytes > INTAKE_EACH_BYTES)
        return INTAKE_OVER_OWN;
    if (networks->n_unfinished + n > INTAKE_ALL_MAX || networks->bytes + bytes > INTAKE_ALL_BYTES)
        return INTAKE_OVER_ALL;
    return INTAKE_FITS;
}

/* Requests count as well as bytes: what a network holds, in parts of what it may. */
static size_t weight(const struct network *network)
{
    return network->n_unfinished * (INTAKE_EACH_BYTES / INTAKE_EACH_MAX) + network->bytes;
}

struct intake *intake_victim(const struct networks *networks, const struct network *network)
{
    const struct network *other = NULL, *most = network;
    struct intake *request = NULL;

    LIST_FOREACH(other, &networks->all, link)
        if (weight(other) > weight(most))
            most = other;
    if (most == network)
        return NULL;
    TAILQ_FOREACH(request, &networks->requests, link)
        if (request->network == most)
            return request;
    return NULL;
}

void intake_enter(struct networks *networks, struct network *network, struct intake *request,
                  uint64_t now_ms)
{
    *request = (struct intake){ .network = network, .since_ms = now_ms };
    TAILQ_INSERT_TAIL(&networks->requests, request, link);
    networks->n_unfinished++;
    network->n_unfinished++;
}

void intake_grow(struct networks *networks, struct intake *request, size_t bytes)
{
    request->bytes += bytes;
    request->network->bytes += bytes;
    networks->bytes += bytes;
}

void intake_leave(struct networks *networks, struct intake *request)
{
    if (!request->network)
        return;
    TAILQ_REMOVE(&networks->requests, request, link);
    networks->n_unfinished--;
    networks->bytes -= request->bytes;
    request->network->n_unfinished--;
    request->network->bytes -= request->bytes;
    request->network = NULL;
    request->bytes = 0;
}
