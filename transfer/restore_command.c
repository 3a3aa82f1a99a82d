/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/log.h"
#include "base/option.h"
#include "master/source.h"
#include "transfer/restore.h"

#include <stdio.h>

struct restore_arguments {
    const char *ca, *certificate, *key, *replica, *master_key;
    struct log_options log;
};

static const struct option table[] = {
    OPTION_TEXT_ROW(
        "master-key", struct restore_arguments, master_key, "KIND:WHERE",
        "The master key that the store had when the backup was made: a file, or another "
        "source that has it at once, as for the broker.",
        .required = true),
    OPTION_TEXT_ROW("store-ca", struct restore_arguments, ca, "FILE",
                    "The CA certificates that etcd's members are checked with, PEM."),
    OPTION_TEXT_ROW("store-cert", struct restore_arguments, certificate, "FILE",
                    "The client certificate for etcd, PEM."),
    OPTION_TEXT_ROW("store-key", struct restore_arguments, key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600."),
    OPTION_TEXT_ROW(
        "replica", struct restore_arguments, replica, "NAME",
        "A name among the brokers of the store in etcd. With that of the broker which made "
        "the backup, its audit log goes on."),
    LOG_OPTION_ROWS(struct restore_arguments, log, "text"),
};

static void print_help(void)
{
    puts(
        "Usage: tdvol-broker --restore FILE sqlite:FOLDER|etcd:https://HOST:PORT,... OPTIONS\n"
        "\n"
        "Makes a new store out of a backup that tdvolctl broker backup has made. The store must be\n"
        "empty. Run it again when it was interrupted: it goes on. No broker opens the store before\n"
        "all is there. After that each record is refused until an administrator adopts it:\n"
        "tdvolctl volume adopt --restored.\n"
        "\n"
        "Options:");
    option_print_help(table, ARRAY_LEN(table));
}

static void show(void *cookie, const char *step, uint64_t records)
{
    (void)cookie;
    log_info("restore", TEXT("step", step), NUMBER("records", records));
}

static void say(const struct restoration_report *report, const char *store)
{
    const struct backup_head *head = &report->head;
    char when[CLOCK_TEXT_LEN];

    clock_text(head->created_ms, when);
    printf("%llu records of the backup of %s are in %s, %llu of them written now.\n",
           (unsigned long long)report->records, when, store, (unsigned long long)report->written);
    if (head->replica[0] != '\0')
        printf(
            "The broker %s made the backup: its audit log goes on, those of others begin anew.\n",
            head->replica);
    puts("Start the broker with this store. It refuses each record, and new ones, until an "
         "administrator adopts them: tdvolctl volume adopt --restored.");
}

static bool run(const struct restore_arguments *a, const struct option_list *rest,
                struct error *err)
{
    auto_secret struct secret master = SECRET_INIT;
    const struct restoration restoration = {
        .path = rest->items[0],
        .to = { .spec = rest->items[1],
                .ca = a->ca,
                .certificate = a->certificate,
                .key = a->key,
                .replica = a->replica },
        .master = &master,
        .now_ms = clock_wall_ms(),
        .progress = show,
    };
    struct restoration_report report;

    if (!secret_harden_process(err) || !master_source_read(a->master_key, &master, err) ||
        !restore(&restoration, &report, err))
        return false;
    say(&report, rest->items[1]);
    return true;
}

int restore_command_run(int argc, char *const *argv)
{
    struct restore_arguments arguments = { .log = { LOG_FORMAT_TEXT, LOG_INFO } };
    struct option_list rest = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return 0;
    }
    if (!option_parse(table, ARRAY_LEN(table), &arguments, argc, argv, &rest, &err) ||
        (rest.n != 2 &&
         !error_set(&err, ERROR_INVALID_ARGUMENT, "give a backup and a store: FILE and STORE"))) {
        fprintf(stderr, "tdvol-broker --restore: %s (see --help)\n", err.text);
        return 2;
    }
    log_setup("tdvol-broker", &arguments.log);
    if (run(&arguments, &rest, &err))
        return 0;
    fprintf(stderr, "tdvol-broker --restore: %s: %s\n", error_code_name(err.code), err.text);
    return 1;
}
