/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/stacking.h"

#include "base/clock.h"
#include "keys/call_metrics.h"
#include "plugin/socket_path.h"
#include "upstream/upstream.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DOOR     "/upstream.sock"
#define START_MS 5000u

static bool too_long(const char *what, struct error *err)
{
    return error_set(err, ERROR_INVALID_ARGUMENT, "%s is too long", what);
}

static bool find_door(struct stacking *s, const char *csi_socket, struct error *err)
{
    const char *slash = strrchr(csi_socket, '/');
    int folder = slash ? (int)(slash - csi_socket) : 0;
    int n = snprintf(s->door, sizeof(s->door), "%.*s" DOOR, folder, csi_socket);

    return (n > 0 && (size_t)n < sizeof(s->door)) || too_long("the path of --endpoint", err);
}

static bool find_dir(struct stacking *s, const struct stacking_options *o, struct error *err)
{
    int n = o->dir ? snprintf(s->dir, sizeof(s->dir), "%s", o->dir)
                   : snprintf(s->dir, sizeof(s->dir), "%s/plugins/%s/upstream", o->root, o->driver);

    if (s->dir[0] != '/')
        return error_set(err, ERROR_INVALID_ARGUMENT, "--upstream-dir is not an absolute path");
    return (n > 0 && (size_t)n < sizeof(s->dir)) || too_long("--upstream-dir", err);
}

bool stacking_init(struct stacking *s, const struct stacking_options *options, struct error *err)
{
    *s = (struct stacking){ .threads = options->threads };
    if (!options->upstream)
        return true;
    return (socket_path_parse(options->upstream, &s->socket, err) ||
            error_wrap(err, "--upstream")) &&
           find_door(s, options->csi_socket, err) && find_dir(s, options, err);
}

/* The first calls come at once, and would not find the door. */
static void wait_for_door(const struct stacking *s)
{
    const struct timespec step = { .tv_nsec = 5 * 1000 * 1000 };
    uint64_t until_ms = clock_now_ms() + START_MS;

    while (access(s->door, F_OK) != 0 && clock_now_ms() < until_ms)
        (void)nanosleep(&step, NULL);
}

static void observe(void *cookie, const char *method, enum error_code code, uint64_t elapsed_ms)
{
    metrics_observe(cookie, METRICS_UPSTREAM, method, code, elapsed_ms);
}

/* For a controller: its driver's plugin is what it commands. */
static bool open_door(struct stacking *s, const struct plugin *plugin, struct error *err)
{
    const struct background_options forwarder = {
        .plugin = plugin, .operation = BLOCK_FORWARD, .thread = "forwarder", .name = "Forward"
    };

    if (!background_start(&forwarder, &s->forwarder, err))
        return false;
    wait_for_door(s);
    return true;
}

bool stacking_start(struct stacking *s, struct plugin *plugin, struct metrics *metrics,
                    struct error *err)
{
    bool has_door = plugin->serves_controller;
    char target[sizeof(s->door) + 8];
    const struct upstream_options upstream = {
        .target = has_door ? target : NULL,
        .socket = s->socket,
        .workers = plugin->serves_node ? &plugin->workers : NULL,
        .threads = s->threads,
        .observe = observe,
        .cookie = metrics,
    };

    if (!s->socket)
        return true;
    (void)snprintf(target, sizeof(target), "unix:%s", s->door);
    if ((has_door && !open_door(s, plugin, err)) || !upstream_new(&upstream, &s->upstream, err))
        return false;
    plugin->upstream = s->upstream;
    return true;
}

void stacking_stop(struct stacking *s)
{
    upstream_free(s->upstream);
    background_stop(s->forwarder);
    s->upstream = NULL;
    s->forwarder = NULL;
}
