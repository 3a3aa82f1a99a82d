/* SPDX-License-Identifier: Apache-2.0 */
#include "addons/service.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/log.h"
#include "base/option.h"
#include "blockd/launch.h"
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

enum role { ROLE_CONTROLLER, ROLE_NODE, ROLE_ALL };
static const char *const roles[] = { "controller", "node", "all", NULL };

enum { PUBLICATIONS_REQUIRED, PUBLICATIONS_OFF };
static const char *const publication_rules[] = { "required", "off", NULL };

struct plugin_arguments {
    int role, default_integrity, publication;
    struct log_options log;
    const char *endpoint, *node_id, *driver;
    struct option_list brokers, broker_keys;
    const char *broker_name, *broker_ca, *client_cert, *client_key;
    const char *owner_token, *owner_certificate, *owner_request;
    const char *local_dir, *state_dir, *tsm_root, *event_log;
    const char *upstream, *upstream_dir;
    struct option_list mount_roots, free_roots;
    const char *registration_socket, *kubelet_endpoint, *http, *user, *blockd;
    uint64_t max_volumes, workers, socket_group;
};

static const struct option table[] = {
    OPTION_CHOICE_ROW("role", struct plugin_arguments, role, roles,
                      "What to serve: the controller's calls, the node's, or all (default)."),
    OPTION_TEXT_ROW("endpoint", struct plugin_arguments, endpoint, "unix:///PATH",
                    "Socket for CSI; default is the environment's CSI_ENDPOINT."),
    OPTION_U64_ROW(
        "socket-group", struct plugin_arguments, socket_group, 0, UINT32_MAX - 1, "GID",
        "Group that may use the CSI socket, for sidecars that do not run as root. Default "
        "0: root alone."),
    OPTION_TEXT_ROW("node-id", struct plugin_arguments, node_id, "NAME",
                    "Name of this node, as Kubernetes knows it.", .required = true),
    OPTION_TEXT_ROW(
        "driver-name", struct plugin_arguments, driver, "NAME",
        "Name of the CSI driver; part of every volume's id, so never change it. Default "
        "csi.tdvol.dev."),
    OPTION_LIST_ROW(
        "broker", struct plugin_arguments, brokers, "HOST:PORT",
        "Address of the key broker; repeatable, or several separated by commas. They are tried in "
        "this order, and the one that answers is kept. Required."),
    OPTION_TEXT_ROW("broker-name", struct plugin_arguments, broker_name, "NAME",
                    "Name in the broker's certificate, when it is not HOST."),
    OPTION_TEXT_ROW("broker-ca", struct plugin_arguments, broker_ca, "FILE",
                    "CA certificate of the key broker, PEM; no other is trusted.",
                    .required = true),
    OPTION_LIST_ROW("broker-key-sha256", struct plugin_arguments, broker_keys, "HEX",
                    "SHA-256 of the broker's TLS public key (SubjectPublicKeyInfo); repeatable. "
                    "Default: every key that the CA signed."),
    OPTION_TEXT_ROW("client-cert", struct plugin_arguments, client_cert, "FILE",
                    "Our certificate for the key broker, PEM. Default: a key that is made at the "
                    "start and attested by a quote of this Trust Domain."),
    OPTION_TEXT_ROW("client-key", struct plugin_arguments, client_key, "FILE",
                    "Its private key, PEM, mode 0600."),
    OPTION_TEXT_ROW(
        "owner-token", struct plugin_arguments, owner_token, "FILE",
        "A service account's token that tells who owns this Trust Domain; --user reads it again "
        "for each attestation."),
    OPTION_TEXT_ROW("owner-request", struct plugin_arguments, owner_request, "FILE",
                    "Where to write the certificate request for the key made at the start, for the "
                    "owner's CA to sign."),
    OPTION_TEXT_ROW("owner-certificate", struct plugin_arguments, owner_certificate, "FILE",
                    "Certificate that the owner's CA signed for that request, PEM; may appear "
                    "later. --user reads it."),
    OPTION_TEXT_ROW("local-dir", struct plugin_arguments, local_dir, "DIR",
                    "Folder of the volumes' files; default /var/lib/tdvol/volumes."),
    OPTION_TEXT_ROW(
        "upstream", struct plugin_arguments, upstream, "unix:///PATH",
        "Socket of another CSI driver, whose block volumes are encrypted here: its controller's for "
        "--role=controller, its node plugin's for --role=node. Default: the volumes are files in "
        "--local-dir."),
    OPTION_TEXT_ROW("upstream-dir", struct plugin_arguments, upstream_dir, "DIR",
                    "Folder in which that driver stages its volumes for us; both must see it at "
                    "this path. Default: plugins/DRIVER/upstream in the first --mount-root."),
    OPTION_CHOICE_ROW(
        "publication", struct plugin_arguments, publication, publication_rules,
        "Whether a node can open a new volume of --upstream only while the volume is attached to it: "
        "required (default), or off for a driver that attaches no volumes, such as ceph-csi and "
        "TopoLVM. For --role=controller; a copy has it from its source."),
    OPTION_TEXT_ROW("state-dir", struct plugin_arguments, state_dir, "DIR",
                    "Folder of locks, on a tmpfs; default /run/tdvol."),
    OPTION_LIST_ROW("mount-root", struct plugin_arguments, mount_roots, "DIR",
                    "Kubelet's folder. Below it only the places are taken at which kubelet has "
                    "volumes of this driver staged and published; repeatable; default "
                    "/var/lib/kubelet."),
    OPTION_LIST_ROW("free-mount-root", struct plugin_arguments, free_roots, "DIR",
                    "Folder below which every staging and target path is taken, for callers other "
                    "than kubelet; repeatable. A tdvol-csi that was taken over can then mount over "
                    "every empty folder and file below it, and remove them."),
    OPTION_TEXT_ROW("tsm-root", struct plugin_arguments, tsm_root, "DIR",
                    "Folder of configfs-tsm, for quotes; default " ATTESTER_TSM_ROOT "."),
    OPTION_TEXT_ROW("event-log", struct plugin_arguments, event_log, "FILE",
                    "The firmware's event log; default " ATTESTER_CCEL_PATH "."),
    OPTION_TEXT_ROW("registration-socket", struct plugin_arguments, registration_socket, "PATH",
                    "Socket at which kubelet finds the plugin: "
                    "/var/lib/kubelet/plugins_registry/NAME-reg.sock. Default: not served."),
    OPTION_TEXT_ROW("kubelet-endpoint", struct plugin_arguments, kubelet_endpoint, "PATH",
                    "Path of the CSI socket as kubelet sees it; default is that of --endpoint."),
    OPTION_TEXT_ROW("http", struct plugin_arguments, http, "HOST:PORT",
                    "Address for /healthz, /readyz and /metrics. 0.0.0.0, [::], * and no HOST all "
                    "mean every address of the machine, IPv4 and IPv6. For one family alone give "
                    "an address of it. Default: not served."),
    OPTION_U64_ROW("max-volumes", struct plugin_arguments, max_volumes, 0, 100000, "N",
                   "Volumes that fit on this node; 0 leaves it to Kubernetes. Default 256."),
    OPTION_U64_ROW("workers", struct plugin_arguments, workers, 2, 256, "N",
                   "Calls handled at the same time; default 20."),
    OPTION_CHOICE_ROW("default-integrity", struct plugin_arguments, default_integrity,
                      parameters_integrity_names,
                      "What integrity=auto of a StorageClass means; default aegis128. Give the "
                      "same value on every node."),
    OPTION_TEXT_ROW("user", struct plugin_arguments, user, "NAME",
                    "User that the plugin becomes after its start as root; default nobody."),
    OPTION_TEXT_ROW("blockd", struct plugin_arguments, blockd, "PATH",
                    "The program tdvol-blockd; default is the one beside this program."),
    LOG_OPTION_ROWS(struct plugin_arguments, log, "json"),
};

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

static void print_help(void)
{
    puts("tdvol-csi: encrypted, authenticated volumes for Kubernetes, as a CSI plugin.\n"
         "\n"
         "Runs as root in the DaemonSet, starts tdvol-blockd, and then becomes --user.\n"
         "SIGTERM finishes the calls in flight and stops; volumes stay mounted.\n"
         "\n"
         "Options:");
    option_print_help(table, ARRAY_LEN(table));
    puts("  --help-parameters\n        Prints the StorageClass parameters as a Markdown table.\n"
         "  --version\n        Prints the version.");
}

static bool has_flag(int argc, char *const *argv, const char *flag)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], flag) == 0)
            return true;
    return false;
}

static bool print_and_end(int argc, char *const *argv)
{
    if (option_wants_help(argc, argv))
        print_help();
    else if (has_flag(argc, argv, "--version"))
        puts(PROGRAM " " TDVOL_VERSION);
    else if (has_flag(argc, argv, "--help-parameters"))
        parameters_print_markdown();
    else
        return false;
    return true;
}

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

    if (!option_parse(table, ARRAY_LEN(table), o, argc, argv, NULL, err))
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

    if (print_and_end(argc, argv))
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
    log_info("ready", TEXT("version", TDVOL_VERSION), TEXT("driver", p.options.driver),
             TEXT("node", p.options.node_id), TEXT("role", roles[p.options.role]),
             TEXT("socket", p.socket));
    bool is_asked = wait_for_end(&p, signal_fd);
    if (!is_asked)
        log_error("tdvol-blockd has ended; ending as well", TEXT("driver", p.options.driver));
    stop(&p);
    return is_asked ? 0 : 1;
}
