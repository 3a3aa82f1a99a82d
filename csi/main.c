/* SPDX-License-Identifier: Apache-2.0 */
#include "addons/service.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/option.h"
#include "blockd/launch.h"
#include "csi/arguments.h"
#include "csi/parameters.h"
#include "csi/stacked.h"
#include "csi/stacking.h"
#include "keys/connection.h"
#include "keys/remote_keys.h"
#include "plugin/call_log.h"
#include "plugin/http.h"
#include "plugin/own_sockets.h"
#include "plugin/privilege.h"
#include "plugin/socket_path.h"
#include "plugin/watch.h"
#include "proto/server.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <tdvol_config.h>
#include <unistd.h>

#define PROGRAM       "tdvol-csi"
#define STOP_GRACE_MS 25000u
#define PROBE_WAIT_MS 60000u
#define SETTLE_MS     10000
#define HEAPS_MAX     2 /* of the C library, which otherwise makes one per thread */
/* CSI limits strings to 128 bytes and maps to 4 KiB where it does not say otherwise. */
#define REQUEST_LIMITS                                                        \
    {                                                                         \
        .message_bytes = 1024u * 1024, .string_bytes = 128, .map_bytes = 4096 \
    }

/* All that lives as long as the process. */
struct plugin_program {
    struct plugin_arguments options;
    const char *socket; /* path of the CSI socket */
    int instance_fd;    /* see lock_instance() */
    struct blockd blockd;
    struct blockd_link door;
    struct metrics *metrics;
    struct connection *connection;
    struct plugin plugin;
    struct remote_keys keys;
    struct server *server;
    struct own_sockets *sockets;
    struct http *http;
    struct watch *watch;
    struct stacking stacking;
};

/* --- start --- */

static struct connection_options connection_options(const struct plugin_program *p)
{
    const struct plugin_arguments *o = &p->options;

    return (struct connection_options){
        .brokers = &o->brokers,
        .server_name = o->broker_name,
        .ca = o->broker_ca,
        .pins = &o->broker_keys,
        .client_cert = o->client_cert,
        .client_key = o->client_key,
        .owner_token = o->owner_token,
        .owner_certificate = o->owner_certificate,
        .owner_request = o->owner_request,
        .waiting_max = o->workers / 2, /* the others can close volumes without a session */
        .common_name = o->node_id,
        .blocks = &p->plugin.workers,
    };
}

static bool make_folder_of(const char *path, struct error *err)
{
    assert(path);
    const char *slash = strrchr(path, '/');
    auto_free char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;

    if (slash && !folder)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for a path");
    return !slash || slash == path || file_make_dirs(folder, 0755, err);
}

static bool make_folders(const struct plugin_program *p, struct error *err)
{
    const struct plugin_arguments *o = &p->options;

    return file_make_dirs(o->state_dir, 0700, err) && file_make_dirs(o->local_dir, 0700, err) &&
           make_folder_of(p->socket, err) &&
           (!o->registration_socket || make_folder_of(o->registration_socket, err));
}

/* Comes before tdvol-blockd starts: the recovery of a second tdvol-blockd would disturb the first.
 * */
static bool lock_instance(struct plugin_program *p, struct error *err)
{
    char lock[SOCKET_LOCK_MAX];

    if (!socket_path_lock(p->options.state_dir, p->socket, "plugin", lock, err))
        return false;
    return file_lock(lock, false, &p->instance_fd, err) ||
           error_wrap(err, "another tdvol-csi serves %s", p->socket);
}

static bool start_blockd(struct plugin_program *p, struct error *err)
{
    const struct plugin_arguments *o = &p->options;
    const struct blockd_options options = {
        .path = o->blockd,
        .driver = o->driver,
        .local_dir = o->local_dir,
        .state_dir = o->state_dir,
        .log = o->log,
        .mount_roots = &o->mount_roots,
        .free_roots = &o->free_roots,
        .csi_socket = p->socket,
        .csi_socket_group = o->socket_group,
        .registration_socket = o->registration_socket,
        .upstream = p->stacking.socket,
        .upstream_door = p->stacking.socket && o->role != ROLE_NODE ? p->stacking.door : NULL,
        .upstream_dir = p->stacking.socket ? p->stacking.dir : NULL,
        .tsm_root = o->tsm_root,
        .event_log = o->event_log,
        .broker_ca = o->broker_ca,
        .broker_names = connection_server_names(p->connection),
        .broker_keys = &o->broker_keys,
        .broker_policy = o->broker_policy,
#ifdef TDVOL_SIMULATOR
        .test_root = o->test_root,
#endif
        .node_id = o->node_id,
    };

    return blockd_start(&options, &p->blockd, err);
}

static bool make_plugin(struct plugin_program *p, struct error *err)
{
    const struct plugin_arguments *o = &p->options;
    struct plugin *plugin = &p->plugin;

    if (!connection_open(p->connection, p->metrics, err) ||
        !inflight_new(o->workers / 4, &plugin->inflight, err) || !health_new(&plugin->health, err))
        return false;
    plugin->driver = o->driver;
    plugin->node_id = o->node_id;
    plugin->version = TDVOL_VERSION;
    plugin->serves_controller = o->role != ROLE_NODE;
    plugin->serves_node = o->role != ROLE_CONTROLLER;
    plugin->max_volumes = o->max_volumes;
    plugin->default_integrity = (uint32_t)o->default_integrity;
    plugin->kubelet_endpoint = o->kubelet_endpoint ? o->kubelet_endpoint : p->socket;
    plugin->upstream_never_attaches = o->publication == PUBLICATIONS_OFF;
    plugin->backing = backing_find(p->stacking.socket ? "stacked" : "local");
    p->door.control_fd = p->blockd.control_fd;
    plugin->workers = workers_over(&p->door);
    remote_keys_init(&p->keys, connection_transport(p->connection), o->driver, o->node_id);
    if (p->stacking.socket)
        p->keys.location = ""; /* every node reaches the volumes of another driver */
    plugin->keys = &p->keys.keys;
    plugin->connection = p->connection;
    return true;
}

static bool listen_at(struct plugin_program *p, const char *path,
                      const struct server_binding *bindings, size_t n, struct error *err)
{
    char lock[SOCKET_LOCK_MAX];

    return socket_path_lock(p->options.state_dir, path, "socket", lock, err) &&
           server_listen_unix(p->server, path, lock, 0600, bindings, n, err);
}

/* It opens the socket to the group. Whoever uses it can stage and delete volumes. */
static bool share_socket(const struct plugin_program *p, struct error *err)
{
    const gid_t group = (gid_t)p->options.socket_group;

    if (group == 0)
        return true;
    if (chown(p->socket, (uid_t)-1, group) != 0 || chmod(p->socket, 0660) != 0)
        return error_set_errno(err, errno, "--socket-group: give the socket to group %u",
                               (unsigned)group);
    return true;
}

static bool make_server(struct plugin_program *p, struct error *err)
{
    const struct server_options options = { .n_workers = p->options.workers,
                                            .limits = REQUEST_LIMITS,
                                            .observe = call_log_write,
                                            .cookie = p->metrics };
    const struct server_binding registration = { &registration_service, &p->plugin };
    struct server_binding services[6] = { { &identity_service, &p->plugin } };
    size_t n = 1;

    if (p->plugin.serves_controller)
        services[n++] = (struct server_binding){ p->stacking.socket ? &stacked_controller_service
                                                                    : &controller_service,
                                                 &p->plugin };
    if (p->plugin.serves_controller && p->stacking.socket)
        services[n++] = (struct server_binding){ &stacked_group_service, &p->plugin };
    if (p->plugin.serves_node) {
        services[n++] = (struct server_binding){ &node_service, &p->plugin };
        services[n++] = (struct server_binding){ &addons_identity_service, &p->plugin };
        services[n++] = (struct server_binding){ &addons_rotation_service, &p->plugin };
    }
    return server_new(&options, &p->server, err) && listen_at(p, p->socket, services, n, err) &&
           share_socket(p, err) &&
           (!p->options.registration_socket ||
            listen_at(p, p->options.registration_socket, &registration, 1, err));
}

/* Before it answers, tdvol-blockd recovers what an earlier tdvol-blockd left over. */
static bool ask_blockd(struct plugin_program *p, enum block_operation operation, const char *path,
                       struct block_result *out, struct error *err)
{
    auto_arena struct arena arena = { .limit = 1u << 20 };
    struct block_request *request = block_request_new(&arena, operation, "");
    const struct block_run run = { .operation = PROGRAM, .request = request };

    if (!request)
        return arena_exhausted(err);
    (void)snprintf(request->path, sizeof(request->path), "%s", path);
    request->deadline_ms = clock_now_ms() + PROBE_WAIT_MS;
    return p->plugin.workers.run(p->plugin.workers.cookie, &run, out, err);
}

static const char *yes_no(bool value)
{
    return value ? "yes" : "no";
}

static bool probe_node(struct plugin_program *p, struct error *err)
{
    struct block_result result = { .already = false };
    struct error unusable = ERROR_INIT;

    if (!ask_blockd(p, BLOCK_PROBE, "", &result, err))
        return error_wrap(err, "tdvol-blockd does not start");
    p->plugin.probe = result.probe;
    if (!p->plugin.serves_node) /* what its kernel lacks, concerns nobody */
        return true;
    if (!plugin_check_usable(&p->plugin, &unusable))
        log_error("cannot serve volumes", ERROR_FIELDS(&unusable));
    else if (result.probe.missing[0] != '\0')
        log_warning("this node cannot serve every kind of volume",
                    TEXT("missing", result.probe.missing));
    log_info("what this node can open", TEXT("aegis128", yes_no(result.probe.aegis128)),
             TEXT("hmac-sha256", yes_no(result.probe.hmac_sha256)),
             TEXT("none", yes_no(result.probe.none)), TEXT("ext4", yes_no(result.probe.ext4)),
             TEXT("xfs", yes_no(result.probe.xfs)));
    return true;
}

static bool look_after_sockets(struct plugin_program *p, struct error *err)
{
    const struct own_sockets_options options = {
        .plugin = &p->plugin,
        .server = p->server,
        .paths = { p->socket, p->options.registration_socket },
    };

    return own_sockets_start(&options, &p->sockets, err);
}

/* Comes before the first thread, and after tdvol-blockd, which must mount. */
static bool limit_files(const struct plugin_program *p, struct error *err)
{
    const struct plugin_arguments *o = &p->options;
    const char *const paths[] = { p->socket, o->registration_socket, o->owner_request };

    return privilege_limit_files(o->state_dir, paths, ARRAY_LEN(paths), err);
}

static bool start(struct plugin_program *p, struct error *err)
{
    struct connection_options connection = connection_options(p);
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

    if (geteuid() == 0)
        (void)setrlimit(RLIMIT_MEMLOCK, &unlimited); /* on failure the present limit stays */
    return secret_harden_process(err) &&
           privilege_find(p->options.user, &connection.uid, &connection.gid, err) &&
           connection_new(&connection, &p->connection, err) && make_folders(p, err) &&
           lock_instance(p, err) && start_blockd(p, err) && privilege_limit(err) &&
           limit_files(p, err) && metrics_new(&p->metrics, err) && make_plugin(p, err) &&
           make_server(p, err) && privilege_drop(p->options.user, err) &&
           privilege_limit_calls(err) && probe_node(p, err) &&
           stacking_start(&p->stacking, &p->plugin, p->metrics, err) &&
           connection_start(p->connection, err) &&
           (!p->plugin.serves_node || watch_start(&p->plugin, &p->watch, err)) &&
           server_start(p->server, err) && look_after_sockets(p, err) &&
           (!p->options.http ||
            http_start(p->options.http, &p->plugin, p->metrics, p->sockets, &p->http, err));
}

/* --- until the end --- */

/* True when a signal asked for the end; false when tdvol-blockd has ended. */
static bool wait_for_end(const struct plugin_program *p, int signal_fd)
{
    struct pollfd fds[] = { { .fd = signal_fd, .events = POLLIN },
                            { .fd = p->blockd.control_fd, .events = POLLRDHUP } };
    uint64_t settled = UINT64_MAX;

    while (!fds[0].revents && !fds[1].revents) {
        uint64_t now = call_log_count();

        if (now != settled)
            footprint_settle(); /* a path's first use touches memory that later uses do not */
        settled = now;
        if (poll(fds, ARRAY_LEN(fds), SETTLE_MS) < 0 && errno != EINTR)
            return false;
    }
    return fds[0].revents != 0;
}

/* The socket was bound as root, so only tdvol-blockd can remove it. */
static void remove_socket(struct plugin_program *p, const char *path)
{
    struct block_result result;
    struct error err = ERROR_INIT;

    if (path && !ask_blockd(p, BLOCK_UNLINK, path, &result, &err))
        log_warning("cannot remove a socket", TEXT("path", path), ERROR_FIELDS(&err));
}

/* First kubelet learns that the plugin stops. Then the calls in flight are finished. */
static void stop(struct plugin_program *p)
{
    bool is_serving = p->watch || p->server;

    own_sockets_end(p->sockets);
    if (is_serving && p->plugin.workers.run)
        remove_socket(p, p->options.registration_socket);
    atomic_store(&p->door.give_up_ms, clock_now_ms() + STOP_GRACE_MS);
    connection_end(p->connection);
    if (p->server)
        server_stop(p->server, STOP_GRACE_MS);
    watch_stop(p->watch);
    atomic_store(&p->door.give_up_ms, clock_now_ms()); /* ends a quote that no call needs now */
    connection_stop(p->connection);
    atomic_store(&p->door.give_up_ms, 0);
    if (is_serving && p->plugin.workers.run)
        remove_socket(p, p->socket);
    http_stop(p->http);
    stacking_stop(&p->stacking);
    own_sockets_free(p->sockets);
    if (p->server)
        server_free(p->server);
    blockd_stop(&p->blockd);
    connection_free(p->connection);
    inflight_free(p->plugin.inflight);
    health_free(p->plugin.health);
    metrics_free(p->metrics);
    close_at(&p->instance_fd);
}

static bool find_upstream(struct plugin_program *p, struct error *err)
{
    const struct plugin_arguments *o = &p->options;
    const struct option_list *roots = o->mount_roots.n > 0 ? &o->mount_roots : &o->free_roots;
    const struct stacking_options stacking = { .upstream = o->upstream,
                                               .dir = o->upstream_dir,
                                               .root = roots->items[0],
                                               .driver = o->driver,
                                               .csi_socket = p->socket,
                                               .threads = o->workers };

    return stacking_init(&p->stacking, &stacking, err);
}

static bool parse(struct plugin_program *p, int argc, char *const *argv, struct error *err)
{
    struct plugin_arguments *o = &p->options;

    if (!plugin_arguments_parse(argc, argv, o, err))
        return false;
    if (!o->endpoint)
        return error_set(err, ERROR_INVALID_ARGUMENT, "give --endpoint or set CSI_ENDPOINT");
    if (o->default_integrity == PARAMETER_INTEGRITY_AUTO)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--default-integrity cannot be auto");
    if (o->mount_roots.n + o->free_roots.n == 0)
        o->mount_roots.items[o->mount_roots.n++] = "/var/lib/kubelet";
    const struct connection_options connection = connection_options(p);
    return connection_check(&connection, err) && socket_path_parse(o->endpoint, &p->socket, err) &&
           socket_path_check_driver(o->driver, err) && socket_path_check_node(o->node_id, err) &&
           find_upstream(p, err);
}

int main(int argc, char **argv)
{
    static struct plugin_program p = {
        .options = { .role = ROLE_ALL,
                     .default_integrity = INTEGRITY_AEGIS128,
                     .log = { LOG_FORMAT_JSON, LOG_INFO },
                     .driver = "csi.tdvol.dev",
                     .user = "nobody",
                     .local_dir = "/var/lib/tdvol/volumes",
                     .state_dir = "/run/tdvol",
                     .max_volumes = 256,
                     .workers = 20 },
        .instance_fd = -1,
        .blockd = BLOCKD_INIT,
    };
    struct error err = ERROR_INIT;
    sigset_t signals;

    if (plugin_arguments_print(argc, argv))
        return 0;
    (void)mallopt(M_ARENA_MAX, HEAPS_MAX);
    p.options.endpoint = getenv("CSI_ENDPOINT");
    bool parsed = parse(&p, argc, argv, &err);
    log_setup(PROGRAM, &p.options.log);
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    auto_close int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    if (!parsed || signal_fd < 0 || !start(&p, &err)) {
        log_error("cannot start", ERROR_FIELDS(&err));
        stop(&p);
        return 2;
    }
    log_info("ready", TEXT("version", TDVOL_RELEASE), TEXT("driver", p.options.driver),
             TEXT("node", p.options.node_id), TEXT("role", plugin_roles[p.options.role]),
             TEXT("socket", p.socket));
    bool is_asked = wait_for_end(&p, signal_fd);
    if (!is_asked)
        log_error("tdvol-blockd has ended; ending as well", TEXT("driver", p.options.driver));
    stop(&p);
    return is_asked ? 0 : 1;
}
