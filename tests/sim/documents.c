/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that write files: pki, collateral, quote. */
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "tests/sim/collateral_options.h"
#include "tests/sim/command.h"
#include "tests/sim/td_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DAY = 24 * 3600, PATH_LEN_MAX = 4096 };

const char *const collateral_ca_names[] = {
    [PCK_CA_PLATFORM] = "platform", [PCK_CA_PROCESSOR] = "processor", NULL
};
const char *const collateral_status_names[] = { "UpToDate",
                                                "SWHardeningNeeded",
                                                "ConfigurationNeeded",
                                                "ConfigurationAndSWHardeningNeeded",
                                                "OutOfDate",
                                                "OutOfDateConfigurationNeeded",
                                                "Revoked",
                                                NULL };

bool collateral_plan_make(const struct collateral_options *options, struct collateral_plan *out,
                          struct error *err)
{
    struct sim_tcb tcb = sim_tcb_default();

    if (options->fmspc && !hex_decode(options->fmspc, tcb.fmspc, FMSPC_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--fmspc: \"%.40s\" is not 12 hex digits",
                         options->fmspc);
    if (tcb.n_levels > ARRAY_LEN(out->levels))
        return error_set(err, ERROR_INTERNAL,
                         "the default TCB has more levels than a plan has room for");
    memcpy(out->levels, tcb.levels, tcb.n_levels * sizeof(tcb.levels[0]));
    out->levels[0].status = collateral_status_names[options->status];
    tcb.levels = out->levels;
    tcb.ca = (enum pck_ca)options->ca;
    tcb.tcb_evaluation_number = tcb.qe_evaluation_number = (uint32_t)options->evaluation;
    if (options->issued != 0)
        tcb.issued = tcb.crl_issued = (int64_t)options->issued;
    tcb.next_update = tcb.crl_next_update = tcb.issued + (int64_t)options->days * DAY;
    tcb.crl_number = (uint32_t)options->crl_number;
    out->tcb = tcb;
    return true;
}

static bool run_pki(int argc, char *const *argv, struct error *err)
{
    struct option_list rest = { .n = 0 };
    const char *dir = NULL;
    char path[PATH_LEN_MAX];

    if (!option_parse(NULL, 0, NULL, argc, argv, &rest, err) ||
        !command_one_argument(&rest, "folder", &dir, err) || !file_make_dirs(dir, 0700, err))
        return false;
    (void)snprintf(path, sizeof(path), "%s/sim-pki.pem", dir);
    if (access(path, F_OK) == 0)
        return error_set(err, ERROR_ALREADY_EXISTS,
                         "%s exists: remove the folder first; what it signed becomes invalid",
                         path);
    struct sim_pki *pki = sim_pki_new();
    sim_pki_save(pki, dir);
    sim_pki_free(pki);
    return true;
}

const struct command command_pki = {
    .name = "pki",
    .usage = "DIR",
    .help = "make a root, CAs and a signer of TCB data",
    .lesson = "Makes certificates like Intel's, with new keys: DIR/sim-pki.pem has them all, with\n"
              "their keys; DIR/root.der is the root that a test build can be told to trust. Other\n"
              "commands keep the keys of machines in the same folder. It has no options.",
    .run = run_pki,
};

struct write_options {
    const char *pki, *out;
    struct collateral_options facts;
};

static const struct option collateral_table[] = {
    OPTION_TEXT_ROW("pki", struct write_options, pki, "DIR", "Folder made by tdvol-sim pki.",
                    .required = true),
    OPTION_TEXT_ROW("out", struct write_options, out, "DIR", "Folder to write to.",
                    .required = true),
    OPTION_CHOICE_ROW("ca", struct write_options, facts.ca, collateral_ca_names,
                      "CA whose revocation list is written; default: platform."),
    COLLATERAL_OPTION_ROWS(struct write_options, facts),
};

static bool write_set(const struct collateral_set *set, const char *dir, struct error *err)
{
    const struct collateral_source *s = &set->source;
    const struct {
        const char *name;
        struct bytes_view content;
    } files[] = {
        { "root_ca_crl.der", s->root_ca_crl },
        { "pck_crl.der", s->pck_crl },
        { "pck_crl_issuer_chain.pem", s->pck_crl_chain },
        { "tcb_info.json", s->tcb_info },
        { "tcb_info.sig.hex", s->tcb_info_signature_hex },
        { "tcb_info_response.json", set->tcb_info_response },
        { "tcb_info_issuer_chain.pem", s->tcb_info_chain },
        { "qe_identity.json", s->qe_identity },
        { "qe_identity.sig.hex", s->qe_identity_signature_hex },
        { "qe_identity_response.json", set->qe_identity_response },
        { "qe_identity_issuer_chain.pem", s->qe_identity_chain },
    };

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[PATH_LEN_MAX];

        (void)snprintf(path, sizeof(path), "%s/%s", dir, files[i].name);
        if (!file_write(path, 0644, files[i].content.bytes, files[i].content.len, err))
            return false;
    }
    return true;
}

static bool run_collateral(int argc, char *const *argv, struct error *err)
{
    struct write_options options = { .facts = COLLATERAL_OPTIONS_INIT };
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };
    struct collateral_plan plan;

    if (!option_parse(collateral_table, ARRAY_LEN(collateral_table), &options, argc, argv, NULL,
                      err) ||
        !collateral_plan_make(&options.facts, &plan, err) ||
        !file_make_dirs(options.out, 0755, err))
        return false;
    struct sim_pki *pki = sim_pki_load(options.pki);
    sim_collateral(pki, &plan.tcb, &set);
    sim_pki_free(pki);
    return write_set(&set, options.out, err);
}

const struct command command_collateral = {
    .name = "collateral",
    .usage = "--pki DIR --out DIR [OPTIONS]",
    .help = "write what Intel would publish about a platform",
    .lesson =
        "Writes revocation lists, TCB info, QE identity and their signers' chains: the files\n"
        "that \"tdvolctl quote explain --collateral DIR\" reads. TCB info and QE identity are\n"
        "written twice, as the signed object with its signature and as the whole answer.",
    .table = collateral_table,
    .n = ARRAY_LEN(collateral_table),
    .run = run_collateral,
};

struct quote_options {
    const char *pki, *td, *report_data, *out;
};

static const struct option quote_table[] = {
    OPTION_TEXT_ROW("pki", struct quote_options, pki, "DIR",
                    "Folder made by tdvol-sim pki; the machine's key is kept there too.",
                    .required = true),
    OPTION_TEXT_ROW("report-data", struct quote_options, report_data, "HEX",
                    "REPORTDATA that the quote holds, 128 hex digits.", .required = true),
    OPTION_TEXT_ROW("td", struct quote_options, td, "FILE",
                    "JSON file that describes the TD; default: a TD without debug."),
    OPTION_TEXT_ROW("out", struct quote_options, out, "FILE",
                    "File to write the quote to; default: standard output."),
};

static bool run_quote(int argc, char *const *argv, struct error *err)
{
    struct quote_options options = { .td = NULL };
    auto_td_file struct td_file file = { .event_log = NULL };
    auto_free uint8_t *quote = calloc(1, QUOTE_LEN_MAX);

    if (!quote)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    if (!option_parse(quote_table, ARRAY_LEN(quote_table), &options, argc, argv, NULL, err))
        return false;
    if (!td_file_read(options.td, &file, err))
        return false;
    if (!hex_decode(options.report_data, file.td.report_data, REPORT_DATA_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT, "--report-data is not 128 hex digits");
    struct sim_machine *machine = sim_machine_kept(options.pki, &file.platform);
    size_t len = sim_quote(machine, &file.td, &sim_quoting_default, quote);
    sim_machine_free(machine);
    return options.out ? file_write(options.out, 0644, quote, len, err)
                       : fd_write_all(STDOUT_FILENO, quote, len, err);
}

const struct command command_quote = {
    .name = "quote",
    .usage = "--pki DIR --report-data HEX [OPTIONS]",
    .help = "write one quote",
    .lesson = "Writes a quote as the machine's quoting enclave would sign it. Quotes of the same\n"
              "platform come from one machine: its PCK certificate is made once and kept.\n"
              "\n" TD_FILE_LESSON,
    .table = quote_table,
    .n = ARRAY_LEN(quote_table),
    .run = run_quote,
};
