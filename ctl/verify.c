/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/verify.h"

#include "attest/json.h"
#include "audit/audit_files.h"
#include "base/file.h"
#include "ctl/broker.h"
#include "ctl/command.h"
#include "policy/policy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "tdvolctl verify make": collects what a broker says and what it wrote, for somebody else. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

#define ARENA_BYTES    ((size_t)16 * 1024 * 1024)
#define PART_BYTES_MAX ((size_t)16 * 1024 * 1024)
#define BLOCK_BYTES    65536

static const struct option make_table[] = {
    OPTION_TEXT_ROW("nonce", struct broker_options, verify.nonce, "HEX",
                    "64 hex digits from whoever will check the bundle: they show that it was made "
                    "after that. Default: random."),
    OPTION_TEXT_ROW("policy", struct broker_options, verify.policy, "FILE",
                    "Add the broker's policy."),
    OPTION_TEXT_ROW("collateral", struct broker_options, verify.collateral, "FOLDER",
                    "Add Intel's collateral for the broker's quote, as for \"tdvolctl quote "
                    "explain\". Otherwise whoever checks must have it."),
    OPTION_BOOL_ROW("no-quote", struct broker_options, verify.no_quote,
                    "The broker runs in no TD: make the bundle without its quote."),
    BROKER_ROWS,
};

struct make {
    const struct broker_options *options;
    const char *folder;
    struct client *client;
    struct arena arena;
    uint8_t nonce[STATEMENT_NONCE_LEN];
    struct audit_files logs;
};

bool bundle_path(const char *folder, const char *name, char out[static BUNDLE_PATH_BYTES],
                 struct error *err)
{
    int len = snprintf(out, BUNDLE_PATH_BYTES, "%s/%s", folder, name);

    return (len > 0 && len < BUNDLE_PATH_BYTES) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "%s: the path is too long", folder);
}

static bool put(const struct make *m, const char *name, const void *bytes, size_t len,
                struct error *err)
{
    char path[BUNDLE_PATH_BYTES];

    return bundle_path(m->folder, name, path, err) && file_create(path, 0600, bytes, len, err);
}

static bool make_folder(const struct make *m, const char *name, struct error *err)
{
    char path[BUNDLE_PATH_BYTES];

    if (!bundle_path(m->folder, name, path, err))
        return false;
    return mkdir(path, 0700) == 0 || error_set_errno(err, errno, "%s", path);
}

/* --- what the broker says --- */

static char *base64_of(const struct make *m, const ProtobufCBinaryData *bytes)
{
    char *text = arena_alloc(&((struct make *)(uintptr_t)m)->arena, BASE64_LEN(bytes->len) + 1);

    if (text)
        base64_encode(bytes->data, bytes->len, text);
    return text;
}

static bool put_statement(struct make *m, struct error *err)
{
    M(GetStatementRequest) request = TDVOL__KEYBROKER__V1__GET_STATEMENT_REQUEST__INIT;
    ProtobufCMessage *message = NULL;
    char nonce[2 * STATEMENT_NONCE_LEN + 1];

    request.nonce = (ProtobufCBinaryData){ sizeof(m->nonce), m->nonce };
    if (!broker_call(m->client, "GetStatement", &request.base, &m->arena, &message, err))
        return false;
    const M(GetStatementResponse) *r = (const void *)message;

    hex_encode(m->nonce, sizeof(m->nonce), nonce);
    auto_json json_t *json =
        json_pack("{si, ss, ss*, ss*, ss*}", "version", 1, "nonce", nonce, "statement",
                  base64_of(m, &r->statement), "signature", base64_of(m, &r->signature),
                  "certificates", base64_of(m, &r->certificates));
    auto_free char *text = json_dumps(json, JSON_INDENT(2));

    return text ? put(m, BUNDLE_STATEMENT, text, strlen(text), err) : arena_exhausted(err);
}

static bool put_quote(struct make *m, struct error *err)
{
    M(GetEvidenceRequest) request = TDVOL__KEYBROKER__V1__GET_EVIDENCE_REQUEST__INIT;
    ProtobufCMessage *message = NULL;

    if (m->options->verify.no_quote)
        return true;
    request.nonce = (ProtobufCBinaryData){ sizeof(m->nonce), m->nonce };
    if (!broker_call(m->client, "GetEvidence", &request.base, &m->arena, &message, err))
        return error_wrap(err, "the broker's own quote (--no-quote does without)");
    const M(GetEvidenceResponse) *r = (const void *)message;

    return put(m, BUNDLE_QUOTE, r->quote.data, r->quote.len, err) &&
           (r->event_log.len == 0 ||
            put(m, BUNDLE_EVENT_LOG, r->event_log.data, r->event_log.len, err));
}

/* --- files --- */

static bool put_file(const struct make *m, const char *name, const char *source, struct error *err)
{
    auto_free char *bytes = NULL;
    size_t len = 0;

    return file_read(source, PART_BYTES_MAX, &bytes, &len, err) && put(m, name, bytes, len, err);
}

/* Only what can be collateral: files that are not hidden. */
static bool put_collateral(const struct make *m, struct error *err)
{
    const char *folder = m->options->verify.collateral;
    char source[BUNDLE_PATH_BYTES], name[512];
    const struct dirent *entry = NULL;
    struct stat st;

    if (!folder)
        return true;
    auto_dir DIR *dir = opendir(folder);
    if (!dir)
        return error_set_errno(err, errno, "%s", folder);
    if (!make_folder(m, BUNDLE_COLLATERAL, err))
        return false;
    while ((entry = readdir(dir)) != NULL) { /* NOLINT(concurrency-mt-unsafe): one thread */
        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(name, sizeof(name), BUNDLE_COLLATERAL "/%s", entry->d_name);
        if (!bundle_path(folder, entry->d_name, source, err))
            return false;
        if (stat(source, &st) == 0 && S_ISREG(st.st_mode) && !put_file(m, name, source, err))
            return false;
    }
    return true;
}

static bool copy_bytes(const struct audit_file *file, int fd, struct error *err)
{
    auto_free uint8_t *block = malloc(BLOCK_BYTES);

    if (!block)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    for (uint64_t at = 0; at < file->size;) {
        uint64_t left = file->size - at;
        size_t len = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;

        if (!fd_pread_all(file->fd, block, len, (off_t)at, err) ||
            !fd_write_all(fd, block, len, err))
            return false;
        at += len;
    }
    return fsync(fd) == 0 || error_set_errno(err, errno, "sync");
}

/* Names do not count, and those of several brokers are the same. */
static bool put_log(const struct make *m, size_t i, struct error *err)
{
    char name[64], path[BUNDLE_PATH_BYTES];

    (void)snprintf(name, sizeof(name), BUNDLE_LOGS "/%04zu.jsonl", i);
    if (!bundle_path(m->folder, name, path, err))
        return false;
    auto_close int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return error_set_errno(err, errno, "%s", path);
    return copy_bytes(&m->logs.files[i], fd, err) || error_wrap(err, "%s", m->logs.files[i].path);
}

/* The broker was asked first: its logs have at least what it said. */
static bool put_logs(struct make *m, struct error *err)
{
    const struct option_list *rest = &m->options->rest;

    for (size_t i = 1; i < rest->n; i++)
        if (!audit_files_add(&m->logs, rest->items[i], err))
            return false;
    if (!make_folder(m, BUNDLE_LOGS, err))
        return false;
    for (size_t i = 0; i < m->logs.n; i++)
        if (!put_log(m, i, err))
            return false;
    return true;
}

/* --- the command --- */

static bool start(struct make *m, struct broker_options *o, struct error *err)
{
    if (!o->verify.nonce
            ? !random_bytes(m->nonce, sizeof(m->nonce), err)
            : !hex_decode(o->verify.nonce, m->nonce, sizeof(m->nonce)) &&
                  !error_set(err, ERROR_INVALID_ARGUMENT, "--nonce must have %d hex digits",
                             2 * STATEMENT_NONCE_LEN))
        return false;
    if (!broker_connect(o, &m->client, err))
        return false;
    return mkdir(m->folder, 0700) == 0 || error_set_errno(err, errno, "%s", m->folder);
}

static bool make(struct make *m, struct broker_options *o, struct error *err)
{
    return start(m, o, err) && put_statement(m, err) && put_quote(m, err) &&
           (!o->verify.policy || put_file(m, BUNDLE_POLICY, o->verify.policy, err)) &&
           put_collateral(m, err) && put_logs(m, err);
}

static void print_help(void)
{
    puts(
        "Makes a bundle, a new folder, with what a broker proves about itself and the audit logs.\n"
        "Somebody else can check it without any network: see \"tdvolctl verify check\".\n"
        "\n"
        "Usage: tdvolctl verify make BUNDLE FILE|FOLDER... [OPTIONS]\n"
        "\n"
        "FILE and FOLDER are the logs, as for \"tdvolctl audit verify\". Needs the permission\n"
        "audit or admin. The bundle holds no keys, but all that the logs and the policy say.\n");
    option_print_help(make_table, ARRAY_LEN(make_table));
}

int command_verify_make(int argc, char *const *argv)
{
    struct broker_options options = { .json = false };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    bool ok = option_parse(make_table, ARRAY_LEN(make_table), &options, argc, argv, &options.rest,
                           &err) &&
              (options.rest.n >= 2 ||
               error_set(&err, ERROR_INVALID_ARGUMENT, "give the folder to make, and the logs"));

    if (!ok) {
        fprintf(stderr, "tdvolctl verify make: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    struct make m = { .options = &options,
                      .folder = options.rest.items[0],
                      .arena = { .limit = ARENA_BYTES } };

    ok = make(&m, &options, &err);
    if (ok)
        printf("%s: made, with %zu files of audit logs\n", m.folder, m.logs.n);
    else
        fprintf(stderr, "tdvolctl verify make: %s: %s\n", error_code_name(err.code), err.text);
    audit_files_close(&m.logs);
    arena_wipe(&m.arena);
    client_free(m.client);
    return ok ? COMMAND_DONE : COMMAND_FAILED;
}
