/* SPDX-License-Identifier: Apache-2.0 */
#include "base/option.h"
#include "ctl/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Only looked at: tdvol-broker reads them again. */
struct migrate_options {
    const char *master_key, *ca, *certificate, *key, *replica, *log_format, *log_level;
    struct option_list rest;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("master-key", struct migrate_options, master_key, "KIND:WHERE",
                    "The master key, as for the broker.", .required = true),
    OPTION_TEXT_ROW("store-ca", struct migrate_options, ca, "FILE",
                    "The CA certificates that etcd's members are checked with, PEM.",
                    .required = true),
    OPTION_TEXT_ROW("store-cert", struct migrate_options, certificate, "FILE",
                    "The client certificate for etcd, PEM.", .required = true),
    OPTION_TEXT_ROW("store-key", struct migrate_options, key, "FILE",
                    "The private key of --store-cert, PEM, mode 0600.", .required = true),
    OPTION_TEXT_ROW("replica", struct migrate_options, replica, "NAME",
                    "The name that the broker will have among the brokers of the new store.",
                    .required = true),
    OPTION_TEXT_ROW("log-format", struct migrate_options, log_format, "FORMAT",
                    "As for the broker; likewise --log-level."),
    OPTION_TEXT_ROW("log-level", struct migrate_options, log_level, "LEVEL",
                    "The lowest level that is logged."),
};

static void print_help(void)
{
    puts(
        "Usage: tdvolctl broker migrate sqlite:FOLDER etcd:https://HOST:PORT,... OPTIONS\n"
        "\n"
        "Copies the store of a broker into etcd, where several brokers can use it. Stop the\n"
        "broker before, and run this on its machine: tdvol-broker --migrate does the work. Run it\n"
        "again when it was interrupted: it goes on. At the end the old store is closed.\n"
        "\n"
        "Options:");
    option_print_help(table, ARRAY_LEN(table));
}

/* Only the broker's program knows stores and the master key: it goes on in place of this one. */
static int start_broker(int argc, char *const *argv)
{
    static char program[] = "tdvol-broker", mode[] = "--migrate";
    auto_free char **arguments = calloc((size_t)argc + 2, sizeof(*arguments));

    if (!arguments) {
        fprintf(stderr, "tdvolctl broker migrate: out of memory\n");
        return COMMAND_FAILED;
    }
    arguments[0] = program;
    arguments[1] = mode;
    for (int i = 1; i < argc; i++)
        arguments[i + 1] = argv[i];
    execvp(program, arguments);
    perror("tdvolctl broker migrate: tdvol-broker does not start: run this where the broker is "
           "installed, with its folder in PATH");
    return COMMAND_FAILED;
}

int command_broker_migrate(int argc, char *const *argv)
{
    struct migrate_options options = { .master_key = NULL };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, &options.rest, &err)) {
        fprintf(stderr, "tdvolctl broker migrate: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    return start_broker(argc, argv);
}
