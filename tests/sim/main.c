/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/command.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static const struct command *const commands[] = {
    &command_pki, &command_collateral, &command_quote, &command_ccel, &command_tsm, &command_pccs,
};

static void print_help(void)
{
    puts("tdvol-sim: a TDX platform in software, for tests and demonstrations.\n"
         "\n"
         "Its signatures are real, under a root certificate of its own. Nothing\n"
         "that it makes says anything about a machine; only builds with -Dsimulator=true can be\n"
         "told to trust its root.\n"
         "\n"
         "Usage: tdvol-sim COMMAND [OPTIONS]; each command has its own --help.\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-10s  %s\n", commands[i]->name, commands[i]->help);
    puts("\n"
         "To begin:\n"
         "  tdvol-sim pki sim                              a root, CAs and a signer of TCB data\n"
         "  tdvol-sim collateral --pki sim --out facts     what Intel would publish about it\n"
         "  tdvol-sim quote --pki sim --out facts/quote.bin --report-data $(printf '%0128d' 0)\n"
         "  tdvolctl quote explain facts/quote.bin --test-root sim/root.der");
}

static void print_command_help(const struct command *c)
{
    printf("tdvol-sim %s: %s\n\n%s\n\nUsage: tdvol-sim %s %s\n\n", c->name, c->help, c->lesson,
           c->name, c->usage);
    option_print_help(c->table, c->n);
    if (c->print_faults) {
        puts("\nFaults:");
        c->print_faults();
    }
}

bool command_one_argument(const struct option_list *rest, const char *what, const char **out,
                          struct error *err)
{
    if (rest->n != 1)
        return error_set(err, ERROR_INVALID_ARGUMENT, "name one %s (see --help)", what);
    *out = rest->items[0];
    return true;
}

static int run(const struct command *c, int argc, char *const *argv)
{
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_command_help(c);
        return EXIT_DONE;
    }
    if (!c->run(argc, argv, &err)) {
        fprintf(stderr, "tdvol-sim: %s: %s\n", c->name, err.text);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return run(commands[i], argc - 1, argv + 1);
    if (argc > 1 && !option_wants_help(argc, argv)) {
        fprintf(stderr, "tdvol-sim: no such command: %s (see --help)\n", argv[1]);
        return EXIT_USAGE;
    }
    print_help();
    return argc > 1 ? EXIT_DONE : EXIT_USAGE;
}
