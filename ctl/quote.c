/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/option.h"
#include "ctl/command.h"
#include "ctl/explanation.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* "tdvolctl quote explain": judges one quote offline and says why. */

struct explain_options {
    const char *collateral, *test_root;
    uint64_t at;
    bool json;
};

static const struct option explain_table[] = {
    OPTION_TEXT_ROW("collateral", struct explain_options, collateral, "DIR",
                    "Folder with root_ca_crl.der, pck_crl.der, pck_crl_issuer_chain.pem, "
                    "tcb_info.json, tcb_info.sig.hex, tcb_info_issuer_chain.pem and the same "
                    "three of qe_identity; default: the quote's folder."),
    OPTION_U64_ROW("at", struct explain_options, at, 0, INT64_MAX, "EPOCH",
                   "Judge as of this time, seconds since 1970; default: now."),
    OPTION_BOOL_ROW("json", struct explain_options, json,
                    "Print one JSON object with verdict, reason, tcb_status and advisories."),
    TEST_ROOT_ROW(struct explain_options)
};

static void print_hex(const char *name, const uint8_t *bytes, size_t len)
{
    char text[2 * REPORT_DATA_LEN + 1];

    hex_encode(bytes, len, text);
    printf("  %-14s %s\n", name, text);
}

static void print_claims(const struct td_report *td)
{
    puts("\nWhat it says about the TD (trust it only if accepted):");
    print_hex("MRTD", td->mrtd, MEASUREMENT_LEN);
    for (int i = 0; i < 4; i++) {
        char name[] = "RTMR0";

        name[4] = (char)('0' + i);
        print_hex(name, td->rtmr[i], MEASUREMENT_LEN);
    }
    print_hex("MRCONFIGID", td->mrconfigid, MEASUREMENT_LEN);
    print_hex("MROWNER", td->mrowner, MEASUREMENT_LEN);
    print_hex("MROWNERCONFIG", td->mrownerconfig, MEASUREMENT_LEN);
    printf("  %-14s 0x%llx\n", "TD attributes", (unsigned long long)td->td_attributes);
    printf("  %-14s 0x%llx\n", "XFAM", (unsigned long long)td->xfam);
    print_hex("REPORTDATA", td->report_data, REPORT_DATA_LEN);
}

static void print_verdict(const struct steps *e, bool accepted, const struct error *err)
{
    if (e->json) {
        json_t *out =
            json_pack("{ss, ss, ss, sO, ss, sO}", "verdict", accepted ? "accepted" : "refused",
                      "reason", err->reason, "tcb_status", e->tcb_status, "advisories",
                      e->advisories, "detail", err->text, "steps", e->list);

        (void)json_dumpf(out, stdout, JSON_INDENT(2));
        (void)putchar('\n');
        json_decref(out);
        return;
    }
    printf("\nTCB status: %s\n", e->tcb_status[0] ? e->tcb_status : "not evaluated");
    for (size_t i = 0; i < json_array_size(e->advisories); i++)
        printf("  advisory %s\n", json_string_value(json_array_get(e->advisories, i)));
    if (accepted)
        puts("\nAccepted.");
    else
        printf("\nRefused, %s: %s.\n", err->reason, err->text);
}

/* A refusal is an answer. Any other error means that the quote could not be judged. */
static bool judge(const struct explained_quote *shown, int64_t now, struct steps *e, bool *accepted,
                  struct error *err)
{
    const struct bytes_view no_log = { .bytes = NULL };
    struct tee_claims claims;

    *accepted = explained_quote_verify(shown, no_log, now, e, &claims, err);
    if (*accepted) {
        *accepted = td_claims_check_acceptable(&claims.td, err);
        steps_add(e, NULL, "strict default policy", *accepted, *accepted ? NULL : err->text);
    }
    if (!*accepted && err->code != ERROR_DENIED)
        return false;
    if (!e->json && e->quote.version != 0)
        print_claims(&e->quote.td);
    print_verdict(e, *accepted, err);
    return true;
}

static int undecided(const struct error *err)
{
    fprintf(stderr, "tdvolctl: quote explain: %s\n", err->text);
    return COMMAND_FAILED;
}

/* When the collateral is refused, the quote cannot be verified: then it is refused, too. */
static int explain(const struct explain_options *options, const char *path, struct steps *e)
{
    auto_explained_quote struct explained_quote shown = { .bytes = NULL };
    struct error err = ERROR_INIT;
    bool accepted = false;
    bool is_loaded = explained_quote_load(path, options->collateral, &shown, &err);

    if (!is_loaded && err.code != ERROR_DENIED)
        return undecided(&err);
    if (!e->json)
        printf("%s, %zu bytes\n\n", path, shown.len);
    if (!is_loaded) {
        steps_add(e, NULL, "collateral", false, err.text);
        print_verdict(e, false, &err);
    } else if (!judge(&shown, (int64_t)options->at, e, &accepted, &err))
        return undecided(&err);
    return accepted ? COMMAND_DONE : EXIT_REFUSED;
}

static void print_help(void)
{
    puts("Judges a TDX quote offline, step by step, by the strict default: TCB up to date, no\n"
         "debug mode, no service TD.\n"
         "\n"
         "Usage: tdvolctl quote explain FILE [OPTIONS]\n"
         "\n"
         "Exit code: 0 accepted, 3 refused, 1 it could not be decided.\n");
    option_print_help(explain_table, ARRAY_LEN(explain_table));
}

int command_quote_explain(int argc, char *const *argv)
{
    struct explain_options options = { .at = clock_wall_ms() / 1000 };
    struct option_list files = { .n = 0 };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    if (!option_parse(explain_table, ARRAY_LEN(explain_table), &options, argc, argv, &files, &err))
        return undecided(&err);
    if (files.n != 1) {
        (void)error_set(&err, ERROR_INVALID_ARGUMENT,
                        "give exactly one file with a quote (see --help)");
        return undecided(&err);
    }
    if (!explanation_use_test_root(options.test_root, &err))
        return undecided(&err);
    struct steps e;
    steps_start(&e, options.json);
    int code = explain(&options, files.items[0], &e);
    steps_end(&e);
    return code;
}
