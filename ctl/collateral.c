/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/option.h"
#include "ctl/command.h"

#include <stdio.h>
#include <string.h>

/* "tdvolctl collateral fetch": from a PCS or PCCS into one file, for brokers without a network. */

#define QUOTE_FILE_MAX ((size_t)1024 * 1024)

static const char *const ca_names[] = { "platform", "processor", NULL };

struct fetch_options {
    struct option_list fmspc, quotes;
    int ca;
    const char *pccs, *pccs_ca, *out;
    bool early;
};

static const struct option fetch_table[] = {
    OPTION_LIST_ROW("quote", struct fetch_options, quotes, "FILE",
                    "A quote of the platform. It says which collateral the platform needs."),
    OPTION_LIST_ROW("fmspc", struct fetch_options, fmspc, "HEX",
                    "The kind of platform, 12 hex digits."),
    OPTION_CHOICE_ROW("ca", struct fetch_options, ca, ca_names,
                      "Who issued the PCK certificates of --fmspc: platform (default; all TDX "
                      "machines so far) or processor."),
    OPTION_TEXT_ROW("pccs", struct fetch_options, pccs, "URL",
                    "Ask this PCCS; default: Intel's own service."),
    OPTION_TEXT_ROW("pccs-ca", struct fetch_options, pccs_ca, "FILE",
                    "The CA certificates of --pccs, PEM; default: the system's."),
    OPTION_BOOL_ROW("early", struct fetch_options, early,
                    "Fetch the newest TCB data at once, not after Intel's grace period."),
    OPTION_TEXT_ROW("out", struct fetch_options, out, "BUNDLE",
                    "The file to write. An old file is replaced only when all was fetched.",
                    .required = true),
};

/* What to fetch, and what was fetched. */
struct fetching {
    struct pcs_options pcs;
    struct {
        uint8_t fmspc[FMSPC_LEN];
        enum pck_ca ca;
    } wanted[2 * OPTION_LIST_MAX];
    size_t n;
    struct collateral_set sets[2 * OPTION_LIST_MAX];
    size_t n_sets;
};

static void fetching_free(struct fetching *f)
{
    for (size_t i = 0; i < f->n_sets; i++)
        collateral_set_free(&f->sets[i]);
}

static void want(struct fetching *f, const uint8_t *fmspc, enum pck_ca ca)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->wanted[i].ca == ca && memcmp(f->wanted[i].fmspc, fmspc, FMSPC_LEN) == 0)
            return;
    memcpy(f->wanted[f->n].fmspc, fmspc, FMSPC_LEN);
    f->wanted[f->n++].ca = ca;
}

static bool want_quote(struct fetching *f, const char *path, struct error *err)
{
    auto_free char *bytes = NULL;
    size_t len = 0;
    struct quote quote;
    uint8_t fmspc[FMSPC_LEN];
    enum pck_ca ca = PCK_CA_PLATFORM;

    if (!file_read(path, QUOTE_FILE_MAX, &bytes, &len, err))
        return false;
    if (!quote_parse((const uint8_t *)bytes, len, &quote, err) ||
        !collateral_set_needed(&quote, fmspc, &ca, err))
        return error_wrap(err, "%s", path);
    want(f, fmspc, ca);
    return true;
}

static bool want_all(struct fetching *f, const struct fetch_options *options, struct error *err)
{
    uint8_t fmspc[FMSPC_LEN];

    for (size_t i = 0; i < options->quotes.n; i++)
        if (!want_quote(f, options->quotes.items[i], err))
            return false;
    for (size_t i = 0; i < options->fmspc.n; i++) {
        if (!hex_decode(options->fmspc.items[i], fmspc, FMSPC_LEN))
            return error_set(err, ERROR_INVALID_ARGUMENT, "--fmspc: \"%s\" is not 12 hex digits",
                             options->fmspc.items[i]);
        want(f, fmspc, options->ca == 0 ? PCK_CA_PLATFORM : PCK_CA_PROCESSOR);
    }
    return f->n > 0 ||
           error_set(err, ERROR_INVALID_ARGUMENT, "nothing to fetch: give --quote or --fmspc");
}

static bool fetch_all(struct fetching *f, struct error *err)
{
    for (size_t i = 0; i < f->n; i++) {
        char hex[2 * FMSPC_LEN + 1];

        hex_encode(f->wanted[i].fmspc, FMSPC_LEN, hex);
        if (!pcs_fetch(&f->pcs, f->wanted[i].fmspc, f->wanted[i].ca, &f->sets[i], err))
            return error_wrap(err, "platform %s", hex);
        f->n_sets++;
        printf("fetched %s, %s CA\n", hex, pck_ca_name(f->wanted[i].ca));
    }
    return true;
}

static bool write_bundle(const struct fetching *f, const char *path, struct error *err)
{
    const struct collateral_set *sets[2 * OPTION_LIST_MAX];
    auto_free char *text = NULL;

    for (size_t i = 0; i < f->n_sets; i++)
        sets[i] = &f->sets[i];
    return collateral_bundle_print(sets, f->n_sets, &text, err) &&
           file_write(path, 0644, text, strlen(text), err);
}

static bool fetch(const struct fetch_options *options, struct error *err)
{
    CLEANUP(fetching_free)
    struct fetching f = { .pcs = { .url = options->pccs ? options->pccs : PCS_URL_INTEL,
                                   .ca_file = options->pccs_ca,
                                   .early = options->early } };

    if (!want_all(&f, options, err) || !pcs_init(err))
        return false;
    bool ok = fetch_all(&f, err) && write_bundle(&f, options->out, err);

    pcs_done();
    if (ok)
        printf("%s: %zu set%s, not verified yet (see tdvolctl collateral show)\n", options->out,
               f.n_sets, f.n_sets == 1 ? "" : "s");
    return ok;
}

static void print_help(void)
{
    puts(
        "Fetches collateral to verify quotes (TCB info, QE identity, revocation lists) into one\n"
        "file, for brokers that cannot reach Intel or a PCCS. A broker verifies what it reads.\n"
        "\n"
        "Usage: tdvolctl collateral fetch (--quote FILE | --fmspc HEX)... --out BUNDLE [OPTIONS]\n");
    option_print_help(fetch_table, ARRAY_LEN(fetch_table));
}

int command_collateral_fetch(int argc, char *const *argv)
{
    struct fetch_options options = { .ca = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(fetch_table, ARRAY_LEN(fetch_table), &options, argc, argv, NULL, &err)) {
        fprintf(stderr, "tdvolctl: collateral fetch: %s (see --help)\n", err.text);
        return COMMAND_USAGE;
    }
    if (!fetch(&options, &err)) {
        fprintf(stderr, "tdvolctl: collateral fetch: %s\n", err.text);
        return err.code == ERROR_INVALID_ARGUMENT ? COMMAND_USAGE : COMMAND_FAILED;
    }
    return COMMAND_DONE;
}
