/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"
#include "base/option.h"
#include "ctl/command.h"
#include "ctl/size.h"
#include "migrate/migration.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What fits into locked memory at once. cryptsetup takes key files of up to 8 MiB. */
#define KEY_BYTES_MAX (SECRET_LEN_MAX - 1)

struct copy_in_options {
    const char *from, *to, *key_file;
    bool dry_run, no_verify, overwrite;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("from", struct copy_in_options, from, "DEVICE",
                    "The old disk, encrypted, as a block device. It is only read.",
                    .required = true),
    OPTION_TEXT_ROW("key-file", struct copy_in_options, key_file, "FILE",
                    "The bytes that open it, as cryptsetup --key-file takes them. Closed to group "
                    "and others. - is stdin.",
                    .required = true),
    OPTION_TEXT_ROW("to", struct copy_in_options, to, "DEVICE",
                    "The new volume, as tdvol gives it to a pod as a raw block device.",
                    .required = true),
    OPTION_BOOL_ROW("dry-run", struct copy_in_options, dry_run,
                    "Only check header, key and sizes, and what the new volume holds."),
    OPTION_BOOL_ROW("no-verify", struct copy_in_options, no_verify,
                    "Do not read both volumes again and compare them."),
    OPTION_BOOL_ROW("overwrite", struct copy_in_options, overwrite,
                    "The new volume holds something that nobody needs. A new volume with "
                    "integrity none needs this, too: it holds noise."),
};

static atomic_bool stop;

static void handle_signal(int number)
{
    (void)number;
    atomic_store(&stop, true);
}

/* The layers over the old disk shall be removed before this process ends. */
static bool catch_signals(struct error *err)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    struct sigaction action = { .sa_handler = handle_signal };

    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (sigaction(numbers[i], &action, NULL) != 0)
            return error_set_errno(err, errno, "catch signals");
    return true;
}

static bool read_key(const char *path, struct secret *out, struct error *err)
{
    return strcmp(path, "-") == 0 ? fd_read_secret(STDIN_FILENO, KEY_BYTES_MAX, out, err)
                                  : file_read_private(path, KEY_BYTES_MAX, out, err);
}

static void print_result(const struct copy_in_options *options,
                         const struct migration_result *result)
{
    char bytes[SIZE_TEXT_LEN], written[SIZE_TEXT_LEN];

    size_text(result->bytes, bytes);
    size_text(result->written, written);
    if (options->dry_run)
        printf("%s can be copied: %s. Of %s: %s. Nothing was written.\n", options->from, bytes,
               options->to, result->advice);
    else
        printf("%s has all %s of %s now; %s were written%s.\n", options->to, bytes, options->from,
               written, options->no_verify ? "" : ", and all was read again");
}

static bool copy_in(const struct copy_in_options *options, struct error *err)
{
    auto_secret struct secret passphrase = SECRET_INIT;
    struct migration_result result = { .bytes = 0 };
    const struct migration migration = {
        .from = options->from,
        .to = options->to,
        .passphrase = &passphrase,
        .dry_run = options->dry_run,
        .no_verify = options->no_verify,
        .overwrite = options->overwrite,
        .stop = &stop,
        .catch_signals = catch_signals,
    };

    if (geteuid() != 0)
        return error_set(err, ERROR_FAILED_PRECONDITION, "this needs root, for device-mapper");
    if (!read_key(options->key_file, &passphrase, err) || !migration_run(&migration, &result, err))
        return false;
    print_result(options, &result);
    return true;
}

static void print_help(void)
{
    puts("Copies a LUKS2 volume that tdvol did not make, such as one of Constellation or of\n"
         "cryptsetup, into a volume of tdvol. Runs as root where both disks are, with nothing\n"
         "mounted; docs/migration.md has the manifest of a Job.\n"
         "\n"
         "Usage: tdvolctl volume copy-in --from DEVICE --key-file FILE --to DEVICE [OPTIONS]\n"
         "\n"
         "The old disk is not changed: not even the journal of dm-integrity is replayed on it.\n"
         "Only blocks that differ are written, so after any interruption the same command goes\n"
         "on. The beginning of the volume is written last: a copy that is not complete has no\n"
         "file system and cannot be mounted. When the old disk has integrity (HMAC), each\n"
         "sector is checked; the first one that is not right ends the copy.\n");
    option_print_help(table, ARRAY_LEN(table));
    puts("\nExit codes: 0 done, 1 failed or stopped, 2 wrong usage.");
}

int command_volume_copy_in(int argc, char *const *argv)
{
    struct copy_in_options options = { .from = NULL };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, &err)) {
        fprintf(stderr, "tdvolctl: volume copy-in: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    if (!copy_in(&options, &err)) {
        fprintf(stderr, "tdvolctl: volume copy-in: %s\n", err.text);
        return err.code == ERROR_INVALID_ARGUMENT ? COMMAND_USAGE : COMMAND_FAILED;
    }
    return COMMAND_DONE;
}
