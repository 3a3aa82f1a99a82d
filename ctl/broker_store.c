/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/option.h"
#include "ctl/broker.h"
#include "ctl/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The whole store of a broker: "tdvolctl broker backup", "broker restore" and "broker migrate". */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define POLL_ARENA_BYTES ((size_t)1 << 20)

/* --- what the broker does while it serves --- */

static const struct timespec poll_pause = { .tv_nsec = 200000000 };

static bool ask(struct client *client, bool start, struct arena *arena,
                const M(BackupResponse) * *out, struct error *err)
{
    M(BackupRequest) request = TDVOL__KEYBROKER__V1__BACKUP_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    request.start = start;
    if (!broker_call(client, "Backup", &request.base, arena, &message, err))
        return false;
    *out = (const void *)message;
    return true;
}

static bool is_same(const ProtobufCBinaryData *a, const ProtobufCBinaryData *b)
{
    return a->len == b->len && a->len > 0 && memcmp(a->data, b->data, a->len) == 0;
}

/* first: the answer to the start. Each question has an arena of its own, but the last one. */
static bool wait_for(struct client *client, const M(BackupResponse) * first, struct arena *arena,
                     const M(BackupResponse) * *out, struct error *err)
{
    for (;;) {
        auto_arena struct arena polled = { .limit = POLL_ARENA_BYTES };
        const M(BackupResponse) *now = NULL;

        if (!ask(client, false, &polled, &now, err))
            return false;
        if (!is_same(&now->backup_id, &first->backup_id))
            return error_set(err, ERROR_ABORTED,
                             "the broker was restarted, or makes another backup: try again");
        if (now->state != TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_RUNNING)
            return ask(client, false, arena, out, err);
        (void)nanosleep(&poll_pause, NULL);
    }
}

static void print(const M(BackupResponse) * r)
{
    char when[CLOCK_TEXT_LEN], mac[2 * SHA256_LEN + 1] = "";

    clock_text(r->created_ms, when);
    if (r->mac.len == SHA256_LEN)
        hex_encode(r->mac.data, SHA256_LEN, mac);
    printf("file     %s, on the broker's machine\nmade     %s\nrecords  %llu\nbytes    %llu\n"
           "mac      %s\n",
           r->path, when, (unsigned long long)r->records, (unsigned long long)r->bytes, mac);
}

static bool backup(const struct broker_options *options, struct client *client, struct arena *arena,
                   struct error *err)
{
    static const M(BackupResponse) none = TDVOL__KEYBROKER__V1__BACKUP_RESPONSE__INIT;
    const M(BackupResponse) *first = &none, *r = &none;

    if (!ask(client, true, arena, &first, err) || !wait_for(client, first, arena, &r, err))
        return false;
    if (r->state != TDVOL__KEYBROKER__V1__BACKUP_STATE__BACKUP_STATE_DONE)
        return error_set(err, ERROR_UNAVAILABLE, "no backup was made: %s", r->problem);
    if (options->json)
        return broker_print_json(&r->base, err);
    print(r);
    return true;
}

static const struct option backup_rows[] = { BROKER_ROWS };

int command_broker_backup(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "broker backup",
        .usage =
            "[OPTIONS]\n\nHas the broker write a backup of its store, while it serves: into the "
            "folder \"backups\" in its --dir.\nMove it to another machine, away from the master "
            "key: together they open every volume in it. Needs\na rule with \"backup\".",
        .options = backup_rows,
        .n_options = ARRAY_LEN(backup_rows),
        .run = backup,
    };

    return broker_command_run(&command, argc, argv);
}

/* --- what tdvol-broker does while no broker serves --- */

/* Only looked at: tdvol-broker reads them again. */
struct store_options_seen {
    const char *master_key, *ca, *certificate, *key, *replica, *log_format, *log_level;
    struct option_list rest;
};

struct store_command {
    const char *name, *mode; /* of tdvolctl, and of tdvol-broker */
    const char *help;
    const struct option *rows;
    size_t n_rows;
};

/* Goes on as tdvol-broker in this mode, with these options: only that program knows stores and the master
 * key. Returns an exit code when it does not start. */
static int run_program(const struct store_command *command, int argc, char *const *argv)
{
    static char program[] = "tdvol-broker";
    auto_free char **arguments = calloc((size_t)argc + 2, sizeof(*arguments));
    auto_free char *first = strdup(command->mode);

    if (!arguments || !first) {
        fprintf(stderr, "tdvolctl %s: out of memory\n", command->name);
        return COMMAND_FAILED;
    }
    arguments[0] = program;
    arguments[1] = first;
    for (int i = 1; i < argc; i++)
        arguments[i + 1] = argv[i];
    execvp(program, arguments);
    fprintf(
        stderr,
        "tdvolctl %s: tdvol-broker does not start: run this where the broker is installed, with "
        "its folder in PATH: %m\n",
        command->name);
    return COMMAND_FAILED;
}

static int run(const struct store_command *command, int argc, char *const *argv)
{
    struct store_options_seen options = { .master_key = NULL };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        puts(command->help);
        option_print_help(command->rows, command->n_rows);
        return COMMAND_DONE;
    }
    if (!option_parse(command->rows, command->n_rows, &options, argc, argv, &options.rest, &err)) {
        fprintf(stderr, "tdvolctl %s: %s (see --help)\n", command->name, err.text);
        return COMMAND_USAGE;
    }
    return run_program(command, argc, argv);
}

static const struct option migrate_rows[] = {
    OPTION_TEXT_ROW("master-key", struct store_options_seen, master_key, "KIND:WHERE",
                    "The master key, as for the broker.", .required = true),
    OPTION_TEXT_ROW("store-ca", struct store_options_seen, ca, "FILE",
                    "The CA certificates that etcd's members are checked with, PEM.",
                    .required = true),
    OPTION_TEXT_ROW("store-cert", struct store_options_seen, certificate, "FILE",
                    "The client certificate for etcd, PEM.", .required = true),
    OPTION_TEXT_ROW("store-key", struct store_options_seen, key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600.", .required = true),
    OPTION_TEXT_ROW("replica", struct store_options_seen, replica, "NAME",
                    "The name that the broker will have among the brokers of the new store.",
                    .required = true),
    OPTION_TEXT_ROW("log-format", struct store_options_seen, log_format, "FORMAT",
                    "As for the broker; likewise --log-level."),
    OPTION_TEXT_ROW("log-level", struct store_options_seen, log_level, "LEVEL",
                    "The lowest level that is logged."),
};

int command_broker_migrate(int argc, char *const *argv)
{
    static const struct store_command command = {
        .name = "broker migrate",
        .mode = "--migrate",
        .help =
            "Usage: tdvolctl broker migrate sqlite:FOLDER etcd:https://HOST:PORT,... OPTIONS\n"
            "\n"
            "Copies the store of a broker into etcd, where several brokers can use it. Stop the\n"
            "broker before, and run this on its machine: tdvol-broker --migrate does the work. Run it\n"
            "again when it was interrupted: it goes on. At the end the old store is closed.\n"
            "\n"
            "Options:",
        .rows = migrate_rows,
        .n_rows = ARRAY_LEN(migrate_rows),
    };

    return run(&command, argc, argv);
}

static const struct option restore_rows[] = {
    OPTION_TEXT_ROW("master-key", struct store_options_seen, master_key, "KIND:WHERE",
                    "The master key that the store had when the backup was made.",
                    .required = true),
    OPTION_TEXT_ROW("store-ca", struct store_options_seen, ca, "FILE",
                    "For etcd: the CA certificates that its members are checked with, PEM."),
    OPTION_TEXT_ROW("store-cert", struct store_options_seen, certificate, "FILE",
                    "For etcd: the client certificate, PEM."),
    OPTION_TEXT_ROW("store-key", struct store_options_seen, key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600."),
    OPTION_TEXT_ROW(
        "replica", struct store_options_seen, replica, "NAME",
        "For etcd: a name among the brokers. With that of the broker which made the backup, "
        "its audit log goes on."),
    OPTION_TEXT_ROW("log-format", struct store_options_seen, log_format, "FORMAT",
                    "As for the broker; likewise --log-level."),
    OPTION_TEXT_ROW("log-level", struct store_options_seen, log_level, "LEVEL",
                    "The lowest level that is logged."),
};

int command_broker_restore(int argc, char *const *argv)
{
    static const struct store_command command = {
        .name = "broker restore",
        .mode = "--restore",
        .help =
            "Usage: tdvolctl broker restore FILE sqlite:FOLDER|etcd:https://HOST:PORT,... OPTIONS\n"
            "\n"
            "Makes a new store out of a backup of tdvolctl broker backup; tdvol-broker --restore does the\n"
            "work. The store must be empty. Run it again when it was interrupted: it goes on. Then start\n"
            "the broker with it, and say which records are still true: tdvolctl volume adopt --restored.\n"
            "\n"
            "Options:",
        .rows = restore_rows,
        .n_rows = ARRAY_LEN(restore_rows),
    };

    return run(&command, argc, argv);
}
