/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/csi.h"

#include "ctl/csi_call.h"
#include "ctl/message.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define CSI_ARENA_BYTES ((size_t)8 << 20)
#define TEXT_OPTION(name, field, value, help, ...) \
    OPTION_TEXT_ROW(name, struct csi_arguments, field, value, help, __VA_ARGS__)
#define LIST_OPTION(name, field, value, help) \
    OPTION_LIST_ROW(name, struct csi_arguments, field, value, help)

#define COMMON_OPTIONS                                                                            \
    TEXT_OPTION("endpoint", endpoint, "SOCKET",                                                   \
                "The plugin's socket, unix:///PATH; default: $CSI_ENDPOINT.", .required = false), \
        OPTION_U64_ROW("timeout", struct csi_arguments, timeout_s, 1, 3600, "SECONDS",            \
                       "Longest wait for each call; default 120."),                               \
        OPTION_BOOL_ROW("json", struct csi_arguments, json, "Print the answer as JSON.")

#define CAPABILITY_OPTIONS                                                                         \
    OPTION_BOOL_ROW("block", struct csi_arguments, block, "Raw block device, no file system."),    \
        TEXT_OPTION("fs-type", fs_type, "TYPE",                                                    \
                    "File system: ext4 or xfs; default: the plugin's choice.", .required = false), \
        OPTION_CHOICE_ROW("access-mode", struct csi_arguments, access_mode, csi_access_modes,      \
                          "How the volume is used; default single-node-writer."),                  \
        LIST_OPTION("mount-flag", mount_flags, "FLAG", "Mount option.")

#define SIZE_OPTION(need)                                                                 \
    TEXT_OPTION("size", size, "SIZE", "The size that the pod sees, at least: 1Gi, 64Mi.", \
                .required = (need))
#define LIMIT_OPTION                                                                    \
    TEXT_OPTION("limit", limit, "SIZE", "The largest size allowed; default: no limit.", \
                .required = false)
#define PARAMETER_OPTION \
    LIST_OPTION("parameter", parameters, "KEY=VALUE", "StorageClass parameter.")
#define SEGMENT_OPTION LIST_OPTION("segment", segments, "KEY=VALUE", "Topology segment.")
#define CONTEXT_OPTION \
    LIST_OPTION("context", context, "KEY=VALUE", "Volume context as create returned it.")
#define STAGING_OPTION(need)                                                         \
    TEXT_OPTION("staging", staging, "PATH", "Staging folder; created when missing.", \
                .required = (need))
#define TARGET_OPTION \
    TEXT_OPTION("target", target, "PATH", "Where the pod sees the volume.", .required = true)
#define PATH_OPTION(need)                                                         \
    TEXT_OPTION("path", path, "PATH", "Where the volume is published or staged.", \
                .required = (need))
#define PAGE_OPTIONS                                                                      \
    OPTION_U64_ROW("max", struct csi_arguments, max_entries, 0, INT32_MAX, "N",           \
                   "Entries per page; default: all."),                                    \
        TEXT_OPTION("token", starting_token, "TOKEN", "next_token of the previous page.", \
                    .required = false)

static const struct option create_options[] = {
    SIZE_OPTION(false),
    LIMIT_OPTION,
    PARAMETER_OPTION,
    CAPABILITY_OPTIONS,
    TEXT_OPTION("from-snapshot", from_snapshot, "ID", "Restore this snapshot.", .required = false),
    TEXT_OPTION("from-volume", from_volume, "ID", "Clone this volume.", .required = false),
    SEGMENT_OPTION,
    COMMON_OPTIONS
};
static const struct option plain_options[] = { COMMON_OPTIONS };
static const struct option list_options[] = { PAGE_OPTIONS, COMMON_OPTIONS };
static const struct option expand_options[] = { SIZE_OPTION(true),  LIMIT_OPTION,
                                                PATH_OPTION(false), STAGING_OPTION(false),
                                                CAPABILITY_OPTIONS, COMMON_OPTIONS };
static const struct option capacity_options[] = { PARAMETER_OPTION, SEGMENT_OPTION,
                                                  COMMON_OPTIONS };
static const struct option snapshot_create_options[] = {
    TEXT_OPTION("volume", volume, "ID", "The volume to copy.", .required = true), COMMON_OPTIONS
};
static const struct option snapshot_list_options[] = {
    TEXT_OPTION("volume", volume, "ID", "Only snapshots of this volume.", .required = false),
    PAGE_OPTIONS, COMMON_OPTIONS
};
static const struct option stage_options[] = { STAGING_OPTION(true), CAPABILITY_OPTIONS,
                                               CONTEXT_OPTION, COMMON_OPTIONS };
static const struct option unstage_options[] = { STAGING_OPTION(true), COMMON_OPTIONS };
static const struct option publish_options[] = { STAGING_OPTION(true),
                                                 TARGET_OPTION,
                                                 OPTION_BOOL_ROW("read-only", struct csi_arguments,
                                                                 read_only, "Publish read-only."),
                                                 CAPABILITY_OPTIONS,
                                                 CONTEXT_OPTION,
                                                 COMMON_OPTIONS };
static const struct option unpublish_options[] = { TARGET_OPTION, COMMON_OPTIONS };
static const struct option stats_options[] = { PATH_OPTION(true), STAGING_OPTION(false),
                                               COMMON_OPTIONS };
static const struct option health_options[] = { PATH_OPTION(false), STAGING_OPTION(false),
                                                COMMON_OPTIONS };

static const struct csi_command {
    const char *name;
    const char *operand; /* NULL: none; "[...]": may be left out */
    const char *help;
    const struct option *options;
    size_t n_options;
    csi_run *run;
} commands[] = {
#define COMMAND(name, operand, table, run, help)          \
    {                                                     \
        name, operand, help, table, ARRAY_LEN(table), run \
    }
    COMMAND("info", NULL, plain_options, csi_info,
            "Name and version of the plugin, id of its node."),
    COMMAND("capabilities", NULL, plain_options, csi_capabilities, "What the plugin can do."),
    COMMAND("probe", NULL, plain_options, csi_probe, "Whether the plugin is ready."),
    COMMAND("capacity", NULL, capacity_options, csi_capacity, "Free space for new volumes."),
    COMMAND("create", "NAME", create_options, csi_create,
            "Creates a volume; the same NAME again gives the same volume."),
    COMMAND("get", "ID", plain_options, csi_get, "Shows one volume."),
    COMMAND("list", NULL, list_options, csi_list, "Lists the volumes."),
    COMMAND("expand", "ID", expand_options, csi_expand,
            "Grows a volume; with --path also where it is in use on this node."),
    COMMAND("delete", "ID", plain_options, csi_delete, "Deletes a volume and its key."),
    COMMAND("snapshot create", "NAME", snapshot_create_options, csi_snapshot_create,
            "Takes a snapshot of a volume."),
    COMMAND("snapshot get", "ID", plain_options, csi_snapshot_get, "Shows one snapshot."),
    COMMAND("snapshot list", NULL, snapshot_list_options, csi_snapshot_list,
            "Lists the snapshots."),
    COMMAND("snapshot delete", "ID", plain_options, csi_snapshot_delete, "Deletes a snapshot."),
    COMMAND("stage", "ID", stage_options, csi_stage,
            "Opens the volume on this node and mounts it at the staging folder."),
    COMMAND("publish", "ID", publish_options, csi_publish, "Shows a staged volume to a pod."),
    COMMAND("unpublish", "ID", unpublish_options, csi_unpublish, "Takes a volume away from a pod."),
    COMMAND("unstage", "ID", unstage_options, csi_unstage, "Unmounts and closes the volume."),
    COMMAND("stats", "ID", stats_options, csi_stats, "Bytes and inodes, used and free."),
    COMMAND("health", "[ID]", health_options, csi_health,
            "What is wrong with one volume, or with all volumes and the node's storage."),
#undef COMMAND
};

static const char overview_text[] =
    "tdvolctl csi: drives a CSI plugin by hand, as kubelet and the sidecars do.\n"
    "\n"
    "usage: tdvolctl csi COMMAND [OPERAND] [OPTIONS]\n"
    "       tdvolctl csi COMMAND --help\n"
    "\n";
static const char example_text[] =
    "\n"
    "example: create a volume, write a file in it, and delete the volume\n"
    "\n"
    "    export CSI_ENDPOINT=unix:///run/tdvol/csi.sock\n"
    "    tdvolctl csi create demo --size 1Gi --parameter integrity=aegis128\n"
    "    id=...                                # the volume.volume_id that it printed\n"
    "    tdvolctl csi stage $id --staging /mnt/staging\n"
    "    tdvolctl csi publish $id --staging /mnt/staging --target /mnt/demo\n"
    "    echo hello > /mnt/demo/file\n"
    "    tdvolctl csi stats $id --path /mnt/demo\n"
    "    tdvolctl csi snapshot create before --volume $id\n"
    "    tdvolctl csi unpublish $id --target /mnt/demo\n"
    "    tdvolctl csi unstage $id --staging /mnt/staging\n"
    "    tdvolctl csi delete $id\n"
    "\n"
    "Exit code: 0 done, 1 the plugin refused or could not be reached, 2 wrong usage.\n";

static void print_overview(void)
{
    (void)fputs(overview_text, stdout);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const struct csi_command *c = &commands[i];
        char left[32];

        (void)snprintf(left, sizeof(left), "%s %s", c->name, c->operand ? c->operand : "");
        (void)printf("  %-22s %s\n", left, c->help);
    }
    (void)fputs(example_text, stdout);
}

static void print_command_help(const struct csi_command *command)
{
    (void)printf("usage: tdvolctl csi %s%s%s [OPTIONS]\n\n%s\n\n", command->name,
                 command->operand ? " " : "", command->operand ? command->operand : "",
                 command->help);
    option_print_help(command->options, command->n_options);
}

/* "snapshot create" has two words; *words is how many of argv the name takes. */
static const struct csi_command *find_command(int argc, char *const *argv, int *words)
{
    char two[64] = "";

    if (argc > 1)
        (void)snprintf(two, sizeof(two), "%s %s", argv[0], argv[1]);
    for (size_t i = 0; argc > 0 && i < ARRAY_LEN(commands); i++) {
        *words = strchr(commands[i].name, ' ') ? 2 : 1;
        if (strcmp(*words == 2 ? two : argv[0], commands[i].name) == 0)
            return &commands[i];
    }
    return NULL;
}

static bool check_operand(const struct csi_command *command, const struct csi_arguments *args,
                          struct error *err)
{
    const size_t most = command->operand ? 1 : 0;
    const size_t least = command->operand && command->operand[0] != '[' ? 1 : 0;

    if (args->rest.n < least)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is missing", command->operand);
    if (args->rest.n > most)
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"%s\" is one operand too many",
                         args->rest.items[most]);
    return true;
}

static bool parse(const struct csi_command *command, int argc, char *const *argv,
                  struct csi_arguments *args, struct error *err)
{
    if (!option_parse(command->options, command->n_options, args, argc, argv, &args->rest, err) ||
        !check_operand(command, args, err))
        return false;
    if (!args->endpoint)
        args->endpoint = getenv("CSI_ENDPOINT");
    if (!args->endpoint || !*args->endpoint)
        return error_set(
            err, ERROR_INVALID_ARGUMENT,
            "the plugin's socket is missing: give --endpoint unix:///PATH or set CSI_ENDPOINT");
    return true;
}

/* CSI and gRPC write "unix:///path". A bare path is accepted, too. */
static bool connect_to(const char *endpoint, struct client **out, struct error *err)
{
    char target[256];
    const int len =
        snprintf(target, sizeof(target), "%s%s", endpoint[0] == '/' ? "unix:" : "", endpoint);

    if (strncmp(target, "unix:", 5) != 0 || len >= (int)sizeof(target))
        return error_set(err, ERROR_INVALID_ARGUMENT, "\"%s\" is not unix:///PATH, or too long",
                         endpoint);
    return client_new(target, NULL, out, err);
}

static int report(const struct csi_command *command, const struct csi_arguments *args,
                  const struct csi_session *session, const struct error *err)
{
    const bool is_usage = !session->has_called && err->code == ERROR_INVALID_ARGUMENT;

    if (is_usage) {
        (void)fprintf(stderr, "tdvolctl csi %s: %s; see --help\n", command->name, err->text);
        return EXIT_USAGE;
    }
    (void)fprintf(stderr, "tdvolctl csi %s: %s: %s\n", command->name, error_code_name(err->code),
                  err->text);
    if (args->json) {
        json_t *out =
            json_pack("{s:s, s:s}", "code", error_code_name(err->code), "message", err->text);

        (void)json_dumpf(out, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(out);
    }
    return EXIT_FAILED;
}

static void show(const struct csi_arguments *args, const json_t *answer)
{
    if (!args->json) {
        message_print(answer);
        return;
    }
    (void)json_dumpf(answer, stdout, JSON_INDENT(2));
    (void)putchar('\n');
}

static int run(const struct csi_command *command, int argc, char *const *argv)
{
    struct csi_arguments args = { .timeout_s = 120 };
    auto_arena struct arena arena = { 0 };
    struct csi_session session = { .args = &args, .arena = &arena };
    struct error err = ERROR_INIT;
    json_t *answer = NULL;

    arena_init(&arena, CSI_ARENA_BYTES);
    if (parse(command, argc, argv, &args, &err) && connect_to(args.endpoint, &session.client, &err))
        answer = command->run(&session, &err);
    client_free(session.client);
    if (!answer)
        return report(command, &args, &session, &err);
    show(&args, answer);
    json_decref(answer);
    return EXIT_DONE;
}

int ctl_csi(int argc, char *const *argv)
{
    int words = 0;
    const struct csi_command *command = find_command(argc - 1, argv + 1, &words);

    if (command && option_wants_help(argc, argv)) {
        print_command_help(command);
        return EXIT_DONE;
    }
    if (command)
        return run(command, argc - words, argv + words);
    if (argc < 2 || option_wants_help(argc, argv)) {
        print_overview();
        return argc < 2 ? EXIT_USAGE : EXIT_DONE;
    }
    (void)fprintf(stderr, "tdvolctl csi: there is no command \"%s\"; see tdvolctl csi --help\n",
                  argv[1]);
    return EXIT_USAGE;
}
