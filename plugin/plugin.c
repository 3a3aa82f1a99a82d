/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/plugin.h"

#include "base/clock.h"
#include "keys/connection.h"
#include "plugin/volume_id.h"

#include <stdio.h>
#include <string.h>

#define TAKE_PATIENCE_MS 10000u
#define WORK_MS          10000u /* of a call's time: for the work itself */
/* A volume may have been given back just before the wait, or another process may have unstaged it. */
#define LOOK_AGAIN_MS 1000u

static const uint64_t patience_ms[] = {
    [PLUGIN_SHORT] = 10000,
    [PLUGIN_CALL] = 110000,
    [PLUGIN_LONG] = 30u * 60 * 1000,
};

static bool is_gone(void *cookie)
{
    return rpc_call_is_cancelled(cookie);
}

bool plugin_run(const struct plugin *plugin, struct rpc_call *call, struct block_request *request,
                enum plugin_patience patience, struct worker_answers *answers,
                struct block_result *out, struct error *err)
{
    const struct block_run run = {
        .operation = plugin_operation(call),
        .request = request,
        .hooks = answers ? &worker_answers_hooks : NULL,
        .hook_cookie = answers,
        .is_cancelled = patience == PLUGIN_SHORT ? is_gone : NULL,
        .cancel_cookie = call,
    };

    request->deadline_ms = clock_now_ms() + patience_ms[patience];
    if (patience == PLUGIN_SHORT && call->deadline_ms < request->deadline_ms)
        request->deadline_ms = call->deadline_ms;
    return plugin->workers.run(plugin->workers.cookie, &run, out, err);
}

bool plugin_inspect(const struct plugin *plugin, struct rpc_call *call, const char *id,
                    struct block_result *out, struct error *err)
{
    struct block_request *request = block_request_new(call->arena, BLOCK_INSPECT, id);

    if (!request)
        return arena_exhausted(err);
    return plugin_run(plugin, call, request, PLUGIN_CALL, NULL, out, err);
}

bool plugin_is_open_here(const struct plugin *plugin, struct rpc_call *call, const char *id)
{
    struct block_result here = { .already = false };
    struct error ignored = ERROR_INIT;

    return !plugin_inspect(plugin, call, id, &here, &ignored) || here.status.is_active;
}

bool plugin_give_lease_back(const struct plugin *plugin, struct rpc_call *call, const char *id)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    const char *operation = plugin_operation(call);
    struct keys *keys = plugin->keys;
    struct error reason = ERROR_INIT;
    struct record record;

    return plugin->serves_node && !plugin_is_open_here(plugin, call, id) &&
           keys->ops->take_over(keys, operation, id, &record, &reason) &&
           keys->ops->change(keys, operation, NULL, &closed, &record, &reason);
}

struct backing_job plugin_backing_job(const struct plugin *plugin, struct rpc_call *call)
{
    return (struct backing_job){ .workers = &plugin->workers,
                                 .operation = plugin_operation(call),
                                 .arena = call->arena,
                                 .upstream = plugin->upstream,
                                 .deadline_ms = call->deadline_ms };
}

const char *plugin_operation(const struct rpc_call *call)
{
    const char *slash = strrchr(call->method, '/');

    return slash ? slash + 1 : call->method;
}

bool plugin_require(const char *value, const char *name, struct error *err)
{
    return value[0] != '\0' || error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing", name);
}

void plugin_subject(struct rpc_call *call, const char *id)
{
    (void)snprintf(call->subject, sizeof(call->subject), "%s", id);
}

bool plugin_take(const struct plugin *plugin, struct rpc_call *call, const char *id,
                 struct inflight_hold *out, struct error *err)
{
    plugin_subject(call, id);
    return inflight_take(plugin->inflight, id, plugin_operation(call), out, err);
}

uint64_t plugin_wait_until_ms(const struct rpc_call *call, uint64_t work_ms)
{
    uint64_t until_ms = clock_now_ms() + TAKE_PATIENCE_MS;

    if (call->deadline_ms < until_ms + work_ms)
        until_ms = call->deadline_ms > work_ms ? call->deadline_ms - work_ms : 0;
    return until_ms;
}

bool plugin_wait(const struct plugin *plugin, const char *id, uint64_t until_ms)
{
    uint64_t look_ms = clock_now_ms() + LOOK_AGAIN_MS;

    return look_ms <= until_ms && inflight_wait(plugin->inflight, id, look_ms);
}

bool plugin_take_patiently(const struct plugin *plugin, struct rpc_call *call, const char *id,
                           struct inflight_hold *out, struct error *err)
{
    uint64_t until_ms = plugin_wait_until_ms(call, WORK_MS);

    while (!plugin_take(plugin, call, id, out, err))
        if (err->code != ERROR_ABORTED || !plugin_wait(plugin, id, until_ms))
            return false;
    return true;
}

bool plugin_check_usable(const struct plugin *plugin, struct error *err)
{
    if (plugin->connection && !connection_check_alive(plugin->connection, err))
        return false;
    if (!plugin->serves_node || plugin->probe.none)
        return true;
    return error_set(err, ERROR_FAILED_PRECONDITION, "this node cannot use volumes: missing %s",
                     plugin->probe.missing);
}

bool plugin_may_have(const struct plugin *plugin, enum record_kind kind, const char *id)
{
    enum volume_id_kind prefix = kind == RECORD_VOLUME ? VOLUME_ID_VOLUME : VOLUME_ID_SNAPSHOT;

    return plugin->upstream ? strlen(id) <= VOLUME_ID_MAX : volume_id_is(prefix, id);
}

bool plugin_find(const struct plugin *plugin, struct rpc_call *call, enum record_kind kind,
                 const char *id, struct record *out, struct error *err)
{
    const char *noun = kind == RECORD_VOLUME ? "volume" : "snapshot";

    plugin_subject(call, id);
    if (!plugin_may_have(plugin, kind, id))
        return error_set(err, ERROR_NOT_FOUND, "there is no %s %s", noun, id);
    if (!plugin->keys->ops->get(plugin->keys, plugin_operation(call), id, NULL, out, err))
        return false;
    if (out->kind != kind)
        return error_set(err, ERROR_NOT_FOUND, "%s is no %s", id, noun);
    return true;
}
