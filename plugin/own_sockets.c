/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/own_sockets.h"

#include "base/checkup.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define PERIOD_MS   2000u
#define WORKER_MS   5000u
#define PATIENCE_MS 15000u

struct own_sockets {
    struct own_sockets_options options;
    struct checkup *checkup;
    bool was_told; /* of a failure, in the log; of the checkup's thread alone */
};

static bool make_again(const struct own_sockets *sockets, const char *path, struct error *err)
{
    const struct workers *workers = &sockets->options.plugin->workers;
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, BLOCK_SOCKET, "");
    const struct block_run run = { .operation = "OwnSockets", .request = request };
    struct block_result result = { .n_fds = 0 };

    if (!request)
        return arena_exhausted(err);
    (void)snprintf(request->path, sizeof(request->path), "%s", path);
    request->deadline_ms = clock_now_ms() + WORKER_MS;
    if (!workers->run(workers->cookie, &run, &result, err))
        return false;
    if (result.n_fds != BLOCK_FDS_MAX)
        return error_set(err, ERROR_INTERNAL, "the worker made no socket");
    auto_unix_socket struct unix_socket socket = { result.fds[0], result.fds[1] };

    return server_renew_unix(sockets->options.server, path, &socket, err);
}

static bool look_after(const struct own_sockets *sockets, const char *path, struct error *err)
{
    if (!path || server_is_found(sockets->options.server, path))
        return true;
    if (!make_again(sockets, path, err))
        return error_wrap(err, "socket %s is gone and cannot be made again", path);
    log_warning("a socket was gone; it was made again", TEXT("path", path));
    return true;
}

static bool look(void *cookie, struct error *err)
{
    struct own_sockets *sockets = cookie;
    bool holds = true;

    for (size_t i = 0; i < OWN_SOCKETS_MAX;
         i++) { /* a second one is made, also when the first is not */
        struct error problem = ERROR_INIT;

        if (look_after(sockets, sockets->options.paths[i], &problem))
            continue;
        if (holds)
            *err = problem;
        holds = false;
    }
    holds = holds && server_check(sockets->options.server, err);
    if (!holds && !sockets->was_told)
        log_error("clients cannot reach the plugin", ERROR_FIELDS(err));
    sockets->was_told = !holds;
    return holds;
}

bool own_sockets_start(const struct own_sockets_options *options, struct own_sockets **out,
                       struct error *err)
{
    struct own_sockets *sockets = calloc(1, sizeof(*sockets));
    const struct checkup_options checkup = { .thread = "own-sockets",
                                             .subject = "the plugin's own server",
                                             .period_ms = PERIOD_MS,
                                             .retry_ms = PERIOD_MS,
                                             .patience_ms = PATIENCE_MS,
                                             .good_at_first = true,
                                             .check = look,
                                             .cookie = sockets };

    if (!sockets)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory to look after sockets");
    sockets->options = *options;
    if (!checkup_start(&checkup, &sockets->checkup, err)) {
        free(sockets);
        return false;
    }
    *out = sockets;
    return true;
}

void own_sockets_end(struct own_sockets *sockets)
{
    if (sockets)
        checkup_end(sockets->checkup);
}

void own_sockets_free(struct own_sockets *sockets)
{
    if (!sockets)
        return;
    checkup_stop(sockets->checkup);
    free(sockets);
}

bool own_sockets_hold(struct own_sockets *sockets, struct error *err)
{
    return checkup_holds(sockets->checkup, err);
}
