/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "base/option.h"
#include "ctl/command.h"
#include "ctl/pki.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CA_DAYS        3652
#define LEAF_DAYS      730
#define MASTER_LEN     ((size_t)32)
#define PATH_BYTES     4096
#define BUILT_IN_NAMES 3

struct init_arguments {
    struct option_list names;
};

static const struct option table[] = {
    OPTION_LIST_ROW("name", struct init_arguments, names, "DNS-OR-IP",
                    "A name under which clients reach the broker, for its certificate. localhost, "
                    "127.0.0.1 and ::1 are always in it."),
};

/* The first policy. It has one tenant. */
static const char policy_text[] =
    "{\n"
    "  \"version\": 1,\n"
    "  \"rules\": [\n"
    "    {\n"
    "      \"name\": \"nodes\",\n"
    "      \"match\": { \"certificate.cn\": \"node\" },\n"
    "      \"tenant\": \"default\",\n"
    "      \"may\": [\"create\", \"open\", \"delete\"],\n"
    "      \"without_attestation\": true,\n"
    "      \"volumes\": [\"*\"],\n"
    "      \"nodes\": [\"*\"]\n"
    "    },\n"
    "    {\n"
    "      \"name\": \"admins\",\n"
    "      \"match\": { \"certificate.cn\": \"admin\" },\n"
    "      \"tenant\": \"default\",\n"
    "      \"may\": [\"admin\", \"unseal\", \"rotate\", \"undelete\"],\n"
    "      \"volumes\": [\"*\"]\n"
    "    }\n"
    "  ]\n"
    "}\n";

static void print_help(void)
{
    puts("Usage: tdvolctl broker init DIR [--name DNS-OR-IP ...]\n"
         "\n"
         "Makes what a broker needs, in the new or empty folder DIR: a CA (ca.crt, ca.key), the\n"
         "broker's certificate (broker.crt, broker.key), one for the nodes and one for you\n"
         "(clients/node.*, clients/admin.*), the master key (master.key) and a policy\n"
         "(policy.json).\n"
         "\n"
         "Options:");
    option_print_help(table, ARRAY_LEN(table));
}

/* --- files --- */

static bool join(const char *dir, const char *name, char out[static PATH_BYTES], struct error *err)
{
    int len = snprintf(out, PATH_BYTES, "%s/%s", dir, name);

    return (len > 0 && len < PATH_BYTES) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "the path %s is too long", dir);
}

static bool put(const char *dir, const char *name, mode_t mode, const void *bytes, size_t len,
                struct error *err)
{
    char path[PATH_BYTES];

    return join(dir, name, path, err) && file_create(path, mode, bytes, len, err);
}

/* "name.crt" and "name.key" */
static bool put_pair(const char *dir, const char *name, const struct certificate_pair *pair,
                     struct error *err)
{
    char file[64];

    (void)snprintf(file, sizeof(file), "%s.crt", name);
    if (!put(dir, file, 0644, pair->certificate_pem, strlen(pair->certificate_pem), err))
        return false;
    (void)snprintf(file, sizeof(file), "%s.key", name);
    return put(dir, file, 0600, pair->private_key_pem.bytes, pair->private_key_pem.len, err);
}

/* A second run would replace the keys of a broker that is in use. */
static bool make_empty_dir(const char *dir, struct error *err)
{
    const struct dirent *entry = NULL;
    bool is_empty = true;

    if (!file_make_dirs(dir, 0700, err))
        return false;
    DIR *folder = opendir(dir);

    if (!folder)
        return error_set_errno(err, errno, "%s", dir);
    while (is_empty && (entry = readdir(folder))) /* NOLINT(concurrency-mt-unsafe): own stream */
        is_empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    closedir(folder);
    return is_empty || error_set(err, ERROR_ALREADY_EXISTS,
                                 "%s is not empty: choose a new folder; nothing was changed", dir);
}

/* --- their contents --- */

static bool put_master_key(const char *dir, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT, text = SECRET_INIT;

    if (!secret_random(&key, MASTER_LEN, err) || !secret_alloc(&text, 2 * MASTER_LEN + 1, err))
        return false;
    hex_encode(key.bytes, key.len, (char *)text.bytes);
    text.bytes[2 * MASTER_LEN] = '\n';
    return put(dir, "master.key", 0600, text.bytes, text.len, err);
}

static bool issue(const struct authority *ca, const char *dir, const char *file,
                  const struct certificate_request *request, struct error *err)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };

    return authority_issue(ca, request, &pair, err) && put_pair(dir, file, &pair, err);
}

static bool make_certificates(const char *dir, const struct init_arguments *options,
                              struct error *err)
{
    const char *names[BUILT_IN_NAMES + OPTION_LIST_MAX] = { "localhost", "127.0.0.1", "::1" };
    const struct certificate_request broker = { .common_name = "tdvol-broker",
                                                .is_server = true,
                                                .names = names,
                                                .n_names = BUILT_IN_NAMES + options->names.n,
                                                .days = LEAF_DAYS };
    const struct certificate_request node = { .common_name = "node", .days = LEAF_DAYS };
    const struct certificate_request admin = { .common_name = "admin", .days = LEAF_DAYS };
    auto_authority struct authority *ca = NULL;
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    char clients[PATH_BYTES];

    for (size_t i = 0; i < options->names.n; i++)
        names[BUILT_IN_NAMES + i] = options->names.items[i];
    return authority_new("tdvol broker CA", CA_DAYS, &ca, err) &&
           issue(ca, dir, "broker", &broker, err) && join(dir, "clients", clients, err) &&
           file_make_dirs(clients, 0700, err) && issue(ca, dir, "clients/node", &node, err) &&
           issue(ca, dir, "clients/admin", &admin, err) && authority_export(ca, &pair, err) &&
           put_pair(dir, "ca", &pair, err);
}

static void print_next_steps(const char *dir)
{
    printf(
        "%s now holds a broker's keys. Next:\n"
        "\n"
        "  1. Move %s/master.key away from here and from the backups of the store.\n"
        "     The store and this key together open every volume. Without the key no volume opens.\n"
        "  2. Move %s/ca.key off this machine: it makes certificates for more clients.\n"
        "  3. Read and adapt %s/policy.json. Recommended: name a recovery certificate in it, see\n"
        "     \"Without the broker\" in docs/recovery.md.\n"
        "  4. Start the broker:\n"
        "       tdvol-broker --dir %s --listen 0.0.0.0:7443 --master-key %s/master.key\n"
        "  5. Ask for its status:\n"
        "       tdvolctl broker status --broker localhost:7443 --broker-ca %s/ca.crt \\\n"
        "         --client-cert %s/clients/admin.crt --client-key %s/clients/admin.key\n"
        "\n"
        "Certificates are valid for 2 years, the CA for 10.\n",
        dir, dir, dir, dir, dir, dir, dir, dir, dir);
}

int command_broker_init(int argc, char *const *argv)
{
    struct init_arguments options = { .names.n = 0 };
    struct option_list rest = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, &rest, &err) || rest.n != 1) {
        fprintf(stderr, "tdvolctl broker init: %s (see --help)\n",
                err.code != ERROR_NONE ? err.text : "exactly one DIR is needed");
        return COMMAND_USAGE;
    }
    const char *dir = rest.items[0];

    if (!make_empty_dir(dir, &err) || !make_certificates(dir, &options, &err) ||
        !put_master_key(dir, &err) ||
        !put(dir, "policy.json", 0644, policy_text, sizeof(policy_text) - 1, &err)) {
        fprintf(stderr, "tdvolctl broker init: %s\n", err.text);
        return COMMAND_FAILED;
    }
    print_next_steps(dir);
    return COMMAND_DONE;
}
