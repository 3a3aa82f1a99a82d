/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/option.h"
#include "master/source.h"
#include "transfer/migrate.h"

#include <stdio.h>

struct migrate_arguments {
    const char *ca, *certificate, *key, *replica, *master_key;
    struct log_options log;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("master-key", struct migrate_arguments, master_key, "KIND:WHERE",
                    "The master key of both stores: a file, or another source that has it at "
                    "once, as for the broker.",
                    .required = true),
    OPTION_TEXT_ROW("store-ca", struct migrate_arguments, ca, "FILE",
                    "The CA certificates that etcd's members are checked with, PEM.",
                    .required = true),
    OPTION_TEXT_ROW("store-cert", struct migrate_arguments, certificate, "FILE",
                    "The client certificate for etcd, PEM.", .required = true),
    OPTION_TEXT_ROW("store-key", struct migrate_arguments, key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600.", .required = true),
    OPTION_TEXT_ROW("replica", struct migrate_arguments, replica, "NAME",
                    "The name that the old store's broker will have among the brokers of the new "
                    "one: it goes on with its audit log.",
                    .required = true),
    LOG_OPTION_ROWS(struct migrate_arguments, log, "text"),
};

static void print_help(void)
{
    puts("Usage: tdvol-broker --migrate sqlite:FOLDER etcd:https://HOST:PORT,... [OPTIONS]\n"
         "\n"
         "Copies the store of a broker into etcd: records, keys, marks, and where the audit log\n"
         "ends. Stop the broker before. Run it again when it was interrupted: it goes on. At the\n"
         "end it compares all, closes the old store to brokers, and opens the new one.\n"
         "\n"
         "Options:");
    option_print_help(table, ARRAY_LEN(table));
}

static void show(void *cookie, const char *step, uint64_t records)
{
    (void)cookie;
    log_info("migration", TEXT("step", step), NUMBER("records", records));
}

static bool run(const struct migrate_arguments *a, const struct option_list *rest,
                struct error *err)
{
    auto_secret struct secret master = SECRET_INIT;
    const struct store_migration migration = {
        .from = { .spec = rest->items[0] },
        .to = { .spec = rest->items[1],
                .ca = a->ca,
                .certificate = a->certificate,
                .key = a->key,
                .replica = a->replica },
        .master = &master,
        .progress = show,
    };
    struct migration_report report;

    if (!secret_harden_process(err) || !master_source_read(a->master_key, &master, err) ||
        !migrate(&migration, &report, err))
        return false;
    printf("%llu records are in %s, %llu of them copied now. The old store is closed: start the "
           "broker with the new one.\n",
           (unsigned long long)report.records, rest->items[1], (unsigned long long)report.copied);
    return true;
}

int migrate_command_run(int argc, char *const *argv)
{
    struct migrate_arguments arguments = { .log = { LOG_FORMAT_TEXT, LOG_INFO } };
    struct option_list rest = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return 0;
    }
    if (!option_parse(table, ARRAY_LEN(table), &arguments, argc, argv, &rest, &err) ||
        (rest.n != 2 && !error_set(&err, ERROR_INVALID_ARGUMENT, "give two stores: FROM and TO"))) {
        fprintf(stderr, "tdvol-broker --migrate: %s (see --help)\n", err.text);
        return 2;
    }
    log_setup("tdvol-broker", &arguments.log);
    if (run(&arguments, &rest, &err))
        return 0;
    fprintf(stderr, "tdvol-broker --migrate: %s: %s\n", error_code_name(err.code), err.text);
    return 1;
}
