/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/attester.h"
#include "attest/identity.h"
#include "attest/trust_root.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/footprint.h"
#include "base/option.h"
#include "broker/arguments.h"
#include "broker/backup.h"
#include "broker/certificates.h"
#include "broker/limit.h"
#include "broker/monitor.h"
#include "broker/opening.h"
#include "broker/service.h"
#include "master/pair.h"
#include "proto/door.h"
#include "store/seal.h"
#include "transfer/migrate.h"
#include "transfer/restore.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <tdvol_config.h>
#include <unistd.h>

#define PROGRAM        "tdvol-broker"
#define STOP_GRACE_MS  10000
#define SEALED_CHECK_S 1 /* how often a sealed broker looks for its key */
#define PATH_BYTES     4096
#ifdef TDVOL_SIMULATOR
#define BUILD " SIMULATOR BUILD: --test-root makes it trust quotes that no TD made"
#else
#define BUILD ""
#endif
#define REQUEST_LIMITS                                                                          \
    {                                                                                           \
        .message_bytes = (size_t)64 * 1024, .string_bytes = 256, .map_bytes = (size_t)4 * 1024, \
    }

/* Everything that lives as long as the process. */
struct broker_program {
    struct broker_arguments options;
    char default_paths[BROKER_FILE_COUNT][PATH_BYTES];
    struct broker broker;
    struct store *store;
    struct master_source *source, *old_source;
    struct opening *opening;
    struct certificates *certificates;
    struct claim_source_binding sources[2];
    struct pcs_options pcs;
    char cache_dir[PATH_BYTES];
    struct collaterals *collaterals;
    struct door *door;
    atomic_bool is_listening; /* from now on others may look at the door */
    struct monitor *monitor;
};

static void log_call(void *cookie, const struct rpc_call *call, const struct error *err,
                     uint64_t elapsed_ms)
{
    struct broker_program *p = cookie;

    monitor_observe(p->monitor, call, err, elapsed_ms);
    if (err->code == ERROR_NONE)
        log_info("rpc", TEXT("method", call->method), TEXT("code", "OK"), NUMBER("ms", elapsed_ms));
    else
        log_info("rpc", TEXT("method", call->method), NUMBER("ms", elapsed_ms), ERROR_FIELDS(err));
}

static void count_turned_away(void *cookie, const char *why)
{
    const struct broker_program *p = cookie;

    monitor_turned_away(p->monitor, why);
}

/* --- start and stop --- */

static bool fill_in_files(struct broker_program *p, struct error *err)
{
    for (size_t i = 0; i < BROKER_FILE_COUNT; i++) {
        int len = snprintf(p->default_paths[i], PATH_BYTES, "%s/%s", p->options.dir,
                           broker_file_names[i]);

        if (len < 0 || len >= PATH_BYTES)
            return error_set(err, ERROR_INVALID_ARGUMENT, "--dir: the path is too long");
        if (!p->options.files[i])
            p->options.files[i] = p->default_paths[i];
    }
    return true;
}

static bool load_policy(struct broker_program *p, struct error *err)
{
    auto_policy struct policy *policy = NULL;

    if (!policy_load(p->options.files[BROKER_POLICY], &policy, err))
        return false;
    broker_set_policy(&p->broker, &policy);
    return true;
}

static bool load_certificates(struct broker_program *p, struct error *err)
{
    const struct certificate_files files = { p->options.files[BROKER_CERTIFICATE],
                                             p->options.files[BROKER_PRIVATE_KEY],
                                             p->options.files[BROKER_CLIENT_CA] };

    p->sources[0] = (struct claim_source_binding){ &claim_source_certificate, NULL };
    p->sources[1] = (struct claim_source_binding){ &claim_source_evidence, p->broker.attestations };
    return certificates_new(&files, &p->broker, &p->sources[0], &p->certificates, err);
}

/* --- collateral --- */

static bool load_root(struct broker_program *p, struct error *err)
{
    (void)p, (void)err;
#ifdef TDVOL_SIMULATOR
    if (p->options.test_root) {
        if (!trust_root_load_test(p->options.test_root, err))
            return error_wrap(err, "--test-root");
        log_warning(TRUST_ROOT_TEST_WARNING, TEXT("root", p->options.test_root));
    }
#endif
    return true;
}

static bool load_collateral(struct broker_program *p, struct error *err)
{
    const struct broker_arguments *o = &p->options;
    const struct collaterals_options options = { .store = p->store,
                                                 .replica = o->replica,
                                                 .root = trust_root_default,
                                                 .cache_dir = p->cache_dir,
                                                 .folder = o->collateral_dir,
                                                 .bundle = o->collateral_bundle,
                                                 .pcs = o->pccs ? &p->pcs : NULL,
                                                 .now_ms = clock_wall_ms };

    if (!o->pccs && (o->pccs_ca || o->collateral_early))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s has no effect without --pccs: add --pccs or leave it out",
                         o->pccs_ca ? "--pccs-ca" : "--collateral-early");
    if (!o->collateral_dir && !o->collateral_bundle && !o->pccs)
        return true;
    p->pcs =
        (struct pcs_options){ .url = o->pccs, .ca_file = o->pccs_ca, .early = o->collateral_early };
    int len = snprintf(p->cache_dir, PATH_BYTES, "%s/collateral", o->dir);

    if (len < 0 || len >= PATH_BYTES)
        return error_set(err, ERROR_INVALID_ARGUMENT, "--dir: the path is too long");
    if (!collaterals_new(&options, &p->collaterals, err))
        return error_wrap(err, "collateral");
    p->broker.collaterals = p->collaterals;
    return true;
}

/* --- store and master key --- */

static bool find_master(struct broker_program *p, struct error *err)
{
    const struct broker_arguments *o = &p->options;
    const struct master_pair_options options = {
        .current = { .spec = o->master_key,
                     .vault_token = o->vault_token,
                     .vault_ca = o->vault_ca,
                     .wrapped = o->wrapped_key,
                     .kbs_ca = o->kbs_ca,
                     .peer_ca = o->peer_ca,
                     .peer_name = o->peer_name,
                     .owner_token = o->owner_token,
                     .tsm_root = o->tsm_root,
                     .event_log = o->event_log },
        .fd = o->master_key_fd == BROKER_NO_FD ? -1 : (int)o->master_key_fd,
        .old_spec = o->old_master_key,
        .old_wrapped = o->old_wrapped_key,
    };

    if (!master_pair_new(&options, &p->source, &p->old_source, err))
        return false;
    p->broker.unsealing = p->source;
    return true;
}

/* A store in etcd starts threads with its first operation: rights are limited before. */
static bool load_store(struct broker_program *p, struct error *err)
{
    const struct broker_arguments *o = &p->options;
    char in_dir[PATH_BYTES];
    int len = snprintf(in_dir, sizeof(in_dir), "sqlite:%s", p->options.dir);

    const struct store_options options = { .spec = o->store ? o->store : in_dir,
                                           .ca = o->store_ca,
                                           .certificate = o->store_cert,
                                           .key = o->store_key,
                                           .replica = o->replica };

    if (len < 0 || (size_t)len >= sizeof(in_dir))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--dir: the path is too long");
    if (!file_make_dirs(o->dir, 0700, err) || !store_open(&options, &p->store, err))
        return false;
    p->broker.store = p->store;
    p->broker.shares_store = o->replica != NULL;
    p->broker.replica = o->replica;
    p->broker.tsm_root = o->tsm_root ? o->tsm_root : ATTESTER_TSM_ROOT;
    p->broker.event_log = o->event_log;
    const struct broker_places places = { .dir = o->dir,
                                          .store = store_folder(options.spec),
                                          .audit = o->files[BROKER_AUDIT],
                                          .quotes = p->broker.tsm_root };
    return limit_rights(&places, err);
}

/* Without the key it starts sealed, and tries again. A wrong key is not for later. */
static bool start_opening(struct broker_program *p, struct error *err)
{
    const struct opening_options options = { .broker = &p->broker,
                                             .source = p->source,
                                             .old = p->old_source,
                                             .audit_path = p->options.files[BROKER_AUDIT],
                                             .audit_key = p->options.audit_key };

    struct error why = ERROR_INIT;

    if (!opening_new(&options, &p->opening, err))
        return false;
    if (opening_try(p->opening, &why) || why.code == ERROR_UNAVAILABLE)
        return true;
    *err = why;
    return false;
}

static bool prepare_backups(struct broker_program *p, struct error *err)
{
    char folder[PATH_BYTES];
    const struct backups_options options = { .broker = &p->broker,
                                             .folder = folder,
                                             .replica = p->options.replica };
    int len = snprintf(folder, sizeof(folder), "%s/backups", p->options.dir);

    if (len < 0 || (size_t)len >= sizeof(folder))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--dir: the path is too long");
    return backups_new(&options, &p->broker.backups, err);
}

static bool load(struct broker_program *p, struct error *err)
{
    p->broker.sources = p->sources;
    p->broker.n_sources = ARRAY_LEN(p->sources);
    p->broker.format_ms = p->options.format_deadline_s * 1000;
    p->broker.attest_rate = (uint32_t)p->options.attest_rate;
    p->broker.session_ms = p->options.session_lifetime_s * 1000;
    p->broker.verifications_max = p->options.workers > 1 ? (unsigned)p->options.workers / 2 : 1;
    return fill_in_files(p, err) && load_policy(p, err) && load_certificates(p, err) &&
           find_master(p, err) && load_store(p, err) && load_root(p, err) &&
           load_collateral(p, err) && prepare_backups(p, err);
}

static size_t count_sessions(void *cookie)
{
    return attested_sessions_count(cookie);
}

static bool check_listener(void *cookie, struct error *err)
{
    const struct broker_program *p = cookie;

    return !atomic_load(&p->is_listening) || door_check(p->door, err);
}

/* Probes are answered while the master key is asked for: a source that is silent takes its time. */
static bool start_monitor(struct broker_program *p, struct error *err)
{
    const struct monitor_options options = { .broker = &p->broker,
                                             .collaterals = p->collaterals,
                                             .count_sessions = count_sessions,
                                             .cookie = p->broker.attestations,
                                             .check_listener = check_listener,
                                             .listener = p,
                                             .is_listening = &p->is_listening };

    return monitor_new(&options, &p->monitor, err) &&
           (!p->options.http || monitor_serve(p->monitor, p->options.http, err));
}

static bool serve(struct broker_program *p, uint16_t *out_port, struct error *err)
{
    static const struct rpc_limits limits = REQUEST_LIMITS;
    const struct server_binding binding = { &broker_service, &p->broker };
    const struct server_options server_options = { .n_workers = p->options.workers,
                                                   .limits = limits,
                                                   .observe = log_call,
                                                   .turned_away = count_turned_away,
                                                   .cookie = p };
    const struct server_tls tls = certificates_tls(p->certificates);

    if (p->collaterals && !collaterals_start(p->collaterals, err))
        return false;
    if (!rpc_service_check(&broker_service, err) || !door_new(&server_options, &p->door, err) ||
        !door_listen(p->door, p->options.listen, &tls, &binding, 1, out_port, err) ||
        !door_start(p->door, err))
        return false;
    atomic_store(&p->is_listening, true);
    return true;
}

static void reload(struct broker_program *p)
{
    auto_policy struct policy *policy = NULL;
    struct error err = ERROR_INIT;

    /* The audit line comes first, so that every policy that judges a call is in the log. */
    if (policy_load(p->options.files[BROKER_POLICY], &policy, &err) &&
        (!broker_is_open(&p->broker) || opening_record(p->opening, "policy", policy, &err))) {
        broker_set_policy(&p->broker, &policy);
        log_info("policy changed", TEXT("hash", policy_hash(p->broker.policy)));
    } else {
        log_error("policy not changed", ERROR_FIELDS(&err));
    }
    err = (struct error)ERROR_INIT;
    if (p->collaterals && !collaterals_reload(p->collaterals, &err))
        log_error("collateral not read again", ERROR_FIELDS(&err));
    err = (struct error)ERROR_INIT;
    if (broker_is_open(&p->broker) && !audit_reopen(p->broker.audit, &err))
        log_error("audit log not opened again", ERROR_FIELDS(&err));
}

static void try_to_open(struct broker_program *p)
{
    struct error err = ERROR_INIT;

    if (broker_is_open(&p->broker))
        return;
    if (opening_try(p->opening, &err))
        log_info("the broker is open now");
    else if (err.code != ERROR_UNAVAILABLE)
        log_error("the broker stays sealed", ERROR_FIELDS(&err));
}

static void wait_for_signals(struct broker_program *p, const sigset_t *signals)
{
    const struct timespec open_pause = { .tv_sec = CERTIFICATES_CHECK_S };
    const struct timespec sealed_pause = { .tv_sec = SEALED_CHECK_S };

    for (;;) {
        bool is_open = broker_is_open(&p->broker);
        int number = sigtimedwait(signals, NULL, is_open ? &open_pause : &sealed_pause);

        if (number == SIGHUP)
            reload(p);
        else if (number > 0)
            break;
        try_to_open(p);
        certificates_check(p->certificates, p->door);
    }
}

static void clear(struct broker_program *p)
{
    struct error err = ERROR_INIT;

    if (p->door)
        door_stop(p->door, STOP_GRACE_MS);
    monitor_free(p->monitor); /* its check of the listener has ended, then */
    door_free(p->door);
    backups_free(&p->broker.backups);
    if (broker_is_open(&p->broker) && !opening_record(p->opening, "stop", p->broker.policy, &err))
        log_error("the stop is not in the audit log", ERROR_FIELDS(&err));
    opening_free(&p->opening);
    master_source_free(&p->source);
    master_source_free(&p->old_source);
    collaterals_free(p->collaterals);
    store_close(&p->store);
    certificates_free(&p->certificates);
    broker_done(&p->broker);
}

static int run(struct broker_program *p)
{
    struct error err = ERROR_INIT;
    sigset_t signals;
    uint16_t port = 0;

    /* Set before threads start: they inherit the mask. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (!pcs_init(&err) || !broker_init(&p->broker, &err)) {
        log_error("cannot start", ERROR_FIELDS(&err));
        return 1;
    }
    bool ok =
        load(p, &err) && start_monitor(p, &err) && start_opening(p, &err) && serve(p, &port, &err);

    if (ok) {
        if (!broker_check_open(&p->broker, &err))
            log_warning(err.text);
        footprint_settle();
        log_info("listening", TEXT("address", p->options.listen), NUMBER("port", port),
                 TEXT("state", broker_is_open(&p->broker) ? "open" : "sealed"),
                 TEXT("policy", policy_hash(p->broker.policy)));
        wait_for_signals(p, &signals);
        log_info("stopping");
    } else {
        log_error("cannot start", ERROR_FIELDS(&err));
    }
    clear(p);
    pcs_done();
    return ok ? 0 : 1;
}

/* argv: files, and perhaps --with-key FILE as the last two words. */
static bool check_logs(const char *const *argv, size_t n, struct audit_report *out,
                       struct error *err)
{
    auto_secret struct secret root = SECRET_INIT, text = SECRET_INIT, key = SECRET_INIT;
    bool has_key = n > 2 && strcmp(argv[n - 2], "--with-key") == 0;

    if (has_key &&
        !(file_read_private(argv[n - 1], MASTER_KEY_TEXT_MAX, &text, err) &&
          master_key_parse(&text, &key, err) && seal_derive(&key, SEAL_AUDIT_ROOT, &root, err)))
        return error_wrap(err, "%s", argv[n - 1]);
    return audit_check(argv, has_key ? n - 2 : n, has_key ? &root : NULL, out, err);
}

static int check_audit(const char *const *argv, size_t n)
{
    struct audit_report report;
    struct error err = ERROR_INIT;

    if (!check_logs(argv, n, &report, &err)) {
        fprintf(stderr, PROGRAM ": %s\n", err.text);
        return 1;
    }
    printf("%s: the chain is whole up to line number %llu\n", argv[0],
           (unsigned long long)report.lines);
    if (report.restarts > 0)
        printf("The broker itself found %llu times that earlier lines were changed or lost: see "
               "\"event\":\"restarted\" and \"begun\".\n",
               (unsigned long long)report.restarts);
    return 0;
}

int main(int argc, char **argv)
{
    static struct broker_program program = {
        .broker = { .now_ms = clock_wall_ms, .steady_ms = clock_boottime_ms },
    };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        broker_arguments_help();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts(PROGRAM " " TDVOL_RELEASE BUILD);
        return 0;
    }
    if (argc >= 3 && strcmp(argv[1], "--check-audit") == 0)
        return check_audit((const char *const *)argv + 2, (size_t)argc - 2);
    if (argc >= 2 && strcmp(argv[1], "--migrate") == 0)
        return migrate_command_run(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "--restore") == 0)
        return restore_command_run(argc - 1, argv + 1);
    if (!broker_arguments_parse(argc, argv, &program.options, &err)) {
        fprintf(stderr, PROGRAM ": %s (see --help)\n", err.text);
        return 2;
    }
    log_setup(PROGRAM, &program.options.log);
    if (!secret_harden_process(&err)) {
        log_error("cannot start", ERROR_FIELDS(&err));
        return 1;
    }
    return run(&program);
}
