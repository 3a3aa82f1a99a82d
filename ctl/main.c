/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"
#include "base/secret.h"
#include "ctl/command.h"
#include "ctl/csi.h"

#include <stdio.h>
#include <string.h>
#include <tdvol_config.h>

#define WORDS_MAX 2

/* The first row that fits is run. "csi" has its own table of commands. */
static const struct command {
    const char *words[WORDS_MAX]; /* NULL: only one */
    const char *help;
    command_run *run;
} commands[] = {
    { { "broker", "init" }, "make CA, certificates, master key and policy", command_broker_init },
    { { "broker", "backup" }, "write a backup of the broker's store", command_broker_backup },
    { { "broker", "restore" }, "make a new store out of a backup", command_broker_restore },
    { { "broker", "migrate" }, "copy the store of a broker into etcd", command_broker_migrate },
    { { "broker", "rotate-master" },
      "end a change of the master key",
      command_broker_rotate_master },
    { { "broker", "rotate-wrapping" },
      "wrap the secrets of all volumes with a new key",
      command_broker_rotate_wrapping },
    { { "broker", "status" }, "show a broker's state and policy", command_broker_status },
    { { "broker", "unseal" }, "give a sealed broker its master key", command_broker_unseal },
    { { "broker", "split" }, "make shares of the master key", command_broker_split },
    { { "volume", "list" }, "list volumes and snapshots", command_volume_list },
    { { "volume", "show" }, "show one record", command_volume_show },
    { { "volume", "delete" }, "erase a volume by destroying its key", command_volume_delete },
    { { "volume", "undelete" }, "bring back a volume whose key is kept", command_volume_undelete },
    { { "volume", "release" }, "take a volume away from a lost node", command_volume_release },
    { { "volume", "rotate" }, "give volumes another secret", command_volume_rotate },
    { { "volume", "adopt" }, "make the record of an existing disk", command_volume_adopt },
    { { "volume", "copy-in" }, "copy an old LUKS2 volume into a new one", command_volume_copy_in },
    { { "audit", "verify" }, "check the audit logs of brokers", command_audit_verify },
    { { "audit", "heads" }, "print where audit logs end, to keep it", command_audit_heads },
    { { "audit", "show" }, "show lines of audit logs, by time", command_audit_show },
    { { "audit", "export" }, "write audit logs as JSON or CSV", command_audit_export },
    { { "verify", "make" }, "make a bundle that others can check", command_verify_make },
    { { "verify", "check" }, "check such a bundle offline", command_verify_check },
    { { "recover" }, "open a volume with the offline recovery key", command_recover },
    { { "attest" }, "print this TD's measurements, for a policy", command_attest },
    { { "quote", "explain" }, "judge a TDX quote offline and say why", command_quote_explain },
    { { "policy", "check" }, "read a policy as a broker does", command_policy_check },
    { { "policy", "test" }, "judge a caller by a policy and say why", command_policy_test },
    { { "collateral", "fetch" }, "fetch collateral to verify quotes", command_collateral_fetch },
    { { "collateral", "show" },
      "show how old collateral is, and whether it is valid",
      command_collateral_show },
    { { "csi" }, "use a volume by hand, as kubelet does", ctl_csi },
};

static void print_commands(FILE *out, const char *group)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (!group || strcmp(commands[i].words[0], group) == 0)
            fprintf(out, "  %-10s %-9s  %s\n", commands[i].words[0],
                    commands[i].words[1] ? commands[i].words[1] : "...", commands[i].help);
}

static void print_help(void)
{
    puts("tdvolctl: administration of tdvol.\n"
         "\n"
         "Usage: tdvolctl COMMAND [OPTIONS]; each command has its own --help.\n");
    print_commands(stdout, NULL);
    puts("\n  --version         print the version");
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (commands[i].words[1] && strcmp(commands[i].words[0], word) == 0)
            return true;
    return false;
}

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* "volume", "volume --help", "volume --no-such": what there is to choose from. */
static int explain_group(int argc, char *const *argv)
{
    bool is_asked = argc == 3 && is_help(argv[2]);
    FILE *out = is_asked ? stdout : stderr;

    if (argc > 2 && !is_asked)
        fprintf(out, "tdvolctl: no such command: %s %s\n\n", argv[1], argv[2]);
    fprintf(out, "Usage: tdvolctl %s COMMAND [OPTIONS]; each command has its own --help.\n\n",
            argv[1]);
    print_commands(out, argv[1]);
    return is_asked ? COMMAND_DONE : COMMAND_USAGE;
}

/* How many words of the row the command line begins with; 0 when it is another command. */
static int words_matched(const struct command *c, int argc, char *const *argv)
{
    int n = c->words[1] ? 2 : 1;

    for (int i = 0; i < n; i++)
        if (i + 1 >= argc || strcmp(argv[i + 1], c->words[i]) != 0)
            return 0;
    return n;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;

    if (!secret_harden_process(&err)) {
        fprintf(stderr, "tdvolctl: %s\n", err.text);
        return COMMAND_FAILED;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        int n = words_matched(&commands[i], argc, argv);

        if (n > 0)
            return commands[i].run(argc - n, argv + n);
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tdvolctl " TDVOL_RELEASE);
        return COMMAND_DONE;
    }
    if (argc > 1 && is_group(argv[1]))
        return explain_group(argc, argv);
    if (argc > 1 && !is_help(argv[1])) {
        fprintf(stderr, "tdvolctl: no such command: %s (see --help)\n", argv[1]);
        return COMMAND_USAGE;
    }
    print_help();
    return argc > 1 ? COMMAND_DONE : COMMAND_USAGE;
}
