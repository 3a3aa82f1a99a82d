/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/file.h"
#include "ctl/broker.h"
#include "ctl/command.h"
#include "master/shares.h"

#include <limits.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* "tdvolctl broker unseal" and "broker split": the master key in people's hands. */

#define M(name)  Tdvol__Keybroker__V1__##name
#define OPEN_MS  120000u /* how long a large store may take to be checked */
#define PAUSE_NS (500 * 1000 * 1000)
#define TEXT_MAX 256u

/* --- unseal --- */

/* A line that is typed, without showing it. */
static bool read_terminal(struct secret *out, struct error *err)
{
    struct termios shown, hidden;

    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return fd_read_secret(STDIN_FILENO, TEXT_MAX, out, err);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH,
                    &hidden); /* before somebody sees the question, and types */
    (void)fputs("Master key, or a share of it (it is not shown): ", stderr);
    bool ok = fd_read_secret_line(STDIN_FILENO, TEXT_MAX, out, err);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &shown);
    (void)fputc('\n', stderr);
    return ok;
}

static bool read_key(const char *path, struct secret *out, struct error *err)
{
    if (path)
        return file_read_private(path, TEXT_MAX, out, err);
    return isatty(STDIN_FILENO) ? read_terminal(out, err)
                                : fd_read_secret(STDIN_FILENO, TEXT_MAX, out, err);
}

static bool ask_status(struct client *client, struct arena *arena,
                       const M(GetStatusResponse) * *out, struct error *err)
{
    static const M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    if (!broker_call(client, "GetStatus", &request.base, arena, &message, err))
        return false;
    *out = (const void *)message;
    return true;
}

/* The broker checks its store first. refused: how many keys it had not taken before this one. */
static bool wait_until_open(struct client *client, struct arena *arena, uint64_t refused,
                            struct error *err)
{
    const struct timespec pause = { .tv_nsec = PAUSE_NS };
    uint64_t until_ms = clock_now_ms() + OPEN_MS;
    const M(GetStatusResponse) *status = NULL;

    for (;;) {
        if (!ask_status(client, arena, &status, err))
            return false;
        if (status->state == TDVOL__KEYBROKER__V1__BROKER_STATE__BROKER_STATE_OPEN)
            return true;
        if (status->keys_refused > refused)
            return error_set(err, ERROR_FAILED_PRECONDITION, "the key was not taken: %s",
                             status->last_refusal);
        if (clock_now_ms() > until_ms)
            return error_set(err, ERROR_FAILED_PRECONDITION, "%s", status->sealed_why);
        (void)nanosleep(&pause, NULL);
    }
}

static bool unseal(const struct broker_options *options, struct client *client, struct arena *arena,
                   struct error *err)
{
    M(UnsealRequest) request = TDVOL__KEYBROKER__V1__UNSEAL_REQUEST__INIT;
    auto_secret struct secret key = SECRET_INIT;
    const M(GetStatusResponse) *before = NULL;
    ProtobufCMessage *message = NULL;

    if (!read_key(options->key_file, &key, err) || !ask_status(client, arena, &before, err))
        return false;
    request.key = (ProtobufCBinaryData){ .len = key.len, .data = key.bytes };
    if (!broker_call(client, "Unseal", &request.base, arena, &message, err))
        return false;
    const M(UnsealResponse) *r = (const void *)message;
    if (r->have < r->need) {
        printf("%u of %u shares are there; the broker needs %u more\n", r->have, r->need,
               r->need - r->have);
        return true;
    }
    if (!wait_until_open(client, arena, before->keys_refused, err))
        return false;
    puts("the broker is open");
    return true;
}

static const struct option unseal_table[] = {
    OPTION_TEXT_ROW("key-file", struct broker_options, key_file, "FILE",
                    "The master key or a share of it, closed to group and others. Default: "
                    "standard input; on a terminal it is asked for, and not shown."),
    BROKER_ROWS,
};

int command_broker_unseal(int argc, char *const *argv)
{
    static const struct broker_command command = {
        .name = "broker unseal",
        .usage =
            "[--key-file FILE] [OPTIONS]\n"
            "\n"
            "Gives a sealed broker its master key, or one of the shares that \"broker split\" made.\n"
            "With the last share the broker opens; this waits for it. The rule of the policy that\n"
            "fits your certificate must have the permission unseal. Each replica is unsealed for\n"
            "itself.",
        .options = unseal_table,
        .n_options = ARRAY_LEN(unseal_table),
        .run = unseal,
    };

    return broker_command_run(&command, argc, argv);
}

/* --- split --- */

struct split_arguments {
    const char *key_file, *out;
    uint64_t shares, needed;
};

static const struct option split_table[] = {
    OPTION_TEXT_ROW("key-file", struct split_arguments, key_file, "FILE",
                    "The master key, 64 hex digits, closed to group and others.", .required = true),
    OPTION_U64_ROW("shares", struct split_arguments, shares, 1, SHARES_MAX, "N",
                   "How many shares to make; default 5."),
    OPTION_U64_ROW("needed", struct split_arguments, needed, 1, SHARES_MAX, "K",
                   "How many of them open the broker; default 3. Fewer say nothing about the key."),
    OPTION_TEXT_ROW("out", struct split_arguments, out, "DIR",
                    "Where to put share-1 to share-N; the folder is made.", .required = true),
};

static bool put_share(const char *dir, unsigned number, const struct secret *text,
                      struct error *err)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof(path), "%s/share-%u", dir, number);

    return ((len > 0 && (size_t)len < sizeof(path)) ||
            error_set(err, ERROR_INVALID_ARGUMENT, "--out: the path is too long")) &&
           file_create(path, 0600, text->bytes, strlen((const char *)text->bytes), err);
}

static bool split(const struct split_arguments *o, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT, key = SECRET_INIT;
    struct secret shares[SHARES_MAX] = { SECRET_INIT };
    unsigned n = (unsigned)o->shares;

    if (!file_read_private(o->key_file, MASTER_KEY_TEXT_MAX, &text, err) ||
        !master_key_parse(&text, &key, err) || !file_make_dirs(o->out, 0700, err) ||
        !shares_split(&key, (unsigned)o->needed, n, shares, err))
        return false;
    bool ok = true;
    for (unsigned i = 0; i < n; i++) {
        ok = ok && put_share(o->out, i + 1, &shares[i], err);
        secret_wipe(&shares[i]);
    }
    return ok;
}

static void print_split_help(void)
{
    puts("Usage: tdvolctl broker split --key-file FILE --out DIR [--shares N] [--needed K]\n"
         "\n"
         "Makes N shares of the master key, of which any K give it back (Shamir). Give each to\n"
         "another person, then destroy the files here, and the master key too when nothing else\n"
         "needs it. \"broker unseal\" takes a share. Runs offline; nothing is sent.\n"
         "\n"
         "Options:");
    option_print_help(split_table, ARRAY_LEN(split_table));
}

int command_broker_split(int argc, char *const *argv)
{
    struct split_arguments options = { .shares = 5, .needed = 3 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_split_help();
        return COMMAND_DONE;
    }
    if (!option_parse(split_table, ARRAY_LEN(split_table), &options, argc, argv, NULL, &err)) {
        fprintf(stderr, "tdvolctl broker split: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    if (!split(&options, &err)) {
        fprintf(stderr, "tdvolctl broker split: %s\n", err.text);
        return err.code == ERROR_INVALID_ARGUMENT ? COMMAND_USAGE : COMMAND_FAILED;
    }
    printf("%s has %u shares now; %u of them open the broker\n", options.out,
           (unsigned)options.shares, (unsigned)options.needed);
    return COMMAND_DONE;
}
