/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/attest.h"

#include "attest/certificate.h"
#include "attest/event_log.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/option.h"
#include "base/reader.h"
#include "ctl/command.h"

#include <stdio.h>
#include <string.h>

#define RTMRS 4

/* --- the description --- */

static json_t *hex_value(const uint8_t *bytes, size_t len)
{
    char text[2 * REPORT_DATA_LEN + 1];

    hex_encode(bytes, len, text);
    return json_string(text);
}

static json_t *measurement(const uint8_t *bytes)
{
    return hex_value(bytes, MEASUREMENT_LEN);
}

static json_t *mask_value(uint64_t mask)
{
    char text[24];

    (void)snprintf(text, sizeof(text), "0x%llx", (unsigned long long)mask);
    return json_string(text);
}

static void warn(json_t *out, const char *text)
{
    (void)json_array_append_new(json_object_get(out, "warnings"), json_string(text));
}

static json_t *describe_image(const struct td_report *td)
{
    return json_pack("{s:[o], s:[o], s:[o], s:[o]}", "mrtd", measurement(td->mrtd), "rtmr1",
                     measurement(td->rtmr[1]), "rtmr2", measurement(td->rtmr[2]), "xfam",
                     mask_value(td->xfam));
}

static json_t *describe_td(const struct quote *quote)
{
    const struct td_report *td = &quote->td;
    bool has_service_td = td->mrservicetd && !bytes_are_zero(td->mrservicetd, MEASUREMENT_LEN);

    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:i, s:o}", "attributes",
                     mask_value(td->td_attributes), "rtmr0", measurement(td->rtmr[0]), "rtmr3",
                     measurement(td->rtmr[3]), "mrconfigid", measurement(td->mrconfigid), "mrowner",
                     measurement(td->mrowner), "mrownerconfig", measurement(td->mrownerconfig),
                     "service_td", has_service_td ? measurement(td->mrservicetd) : json_null(),
                     "quote_version", (int)quote->version, "report_data",
                     hex_value(td->report_data, REPORT_DATA_LEN));
}

static json_t *describe_platform(const struct quote *quote, json_t *out)
{
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    struct pck_platform platform;
    struct error err = ERROR_INIT;
    size_t rest = 0;

    if (!cert_parse_first(quote->pck_chain_pem, quote->pck_chain_len, &chain, &rest, &err) ||
        !cert_read_platform(chain.certs[0], &platform, &err)) {
        warn(out, "the quote's PCK certificate cannot be read: no broker will accept this quote");
        return json_null();
    }
    return json_pack("{s:o, s:o}", "fmspc", hex_value(platform.fmspc, FMSPC_LEN), "id",
                     platform.has_platform_id ? hex_value(platform.platform_id, PLATFORM_ID_LEN)
                                              : json_null());
}

/* Adds for example " RTMR2" to names when that register differs. */
static bool differs(const struct td_report *td, unsigned i, const uint8_t *value, char *names,
                    size_t size)
{
    size_t len = strlen(names);

    if (memcmp(td->rtmr[i], value, MEASUREMENT_LEN) == 0)
        return false;
    (void)snprintf(names + len, size - len, " RTMR%u", i);
    return true;
}

static const char *check_event_log(const struct evidence *evidence, const struct td_report *td,
                                   json_t *out)
{
    uint8_t rtmr[RTMRS][MEASUREMENT_LEN];
    char names[40] = "", text[600];
    struct error err = ERROR_INIT;
    bool is_other = false;

    if (!evidence->event_log)
        return "none";
    if (!event_log_replay(evidence->event_log, evidence->event_log_len, rtmr, &err)) {
        (void)snprintf(text, sizeof(text), "the event log cannot be read: %s", err.text);
        warn(out, text);
        return "malformed";
    }
    for (unsigned i = 0; i < RTMRS; i++)
        is_other |= differs(td, i, rtmr[i], names, sizeof(names));
    if (!is_other)
        return "replays";
    (void)snprintf(text, sizeof(text),
                   "the event log does not replay to the quote's%s: an extension is missing in the "
                   "log, or the log was changed; policy rules with \"event_log\" will refuse this "
                   "TD",
                   names);
    warn(out, text);
    return "differs";
}

/* Kernels from 6.16 on show the registers as files. Earlier kernels do not. */
static const char *check_kernel(const char *folder, const struct td_report *td, json_t *out)
{
    char names[40] = "", text[200];
    bool is_there = false, is_other = false;

    for (unsigned i = 0; i < RTMRS; i++) {
        auto_free char *path = NULL, *bytes = NULL;
        struct error ignored = ERROR_INIT;
        size_t len = 0;

        if (asprintf(&path, "%s/rtmr%u:sha384", folder, i) < 0)
            path = NULL;
        if (!path || !file_read(path, MEASUREMENT_LEN, &bytes, &len, &ignored) ||
            len != MEASUREMENT_LEN)
            continue;
        is_there = true;
        is_other |= differs(td, i, (const uint8_t *)bytes, names, sizeof(names));
    }
    if (!is_there)
        return "none";
    if (!is_other)
        return "same";
    (void)snprintf(text, sizeof(text),
                   "the kernel shows another value of%s than the quote: the register was extended "
                   "after the quote, or the quote is of another TD",
                   names);
    warn(out, text);
    return "differs";
}

static void check_td(const struct td_report *td, json_t *out)
{
    if (bytes_are_zero(td->rtmr[1], MEASUREMENT_LEN) ||
        bytes_are_zero(td->rtmr[2], MEASUREMENT_LEN))
        warn(out, "RTMR1 or RTMR2 is zero: nothing measured the boot loader, the kernel or its "
                  "command line, so that pinned values say nothing about what runs here");
    if (!(td->td_attributes & TD_ATTRIBUTE_SEPT_VE_DISABLE))
        warn(out, "the attribute SEPT_VE_DISABLE is off: rules refuse this TD unless their "
                  "\"attributes\" say otherwise");
    if (td->mrservicetd && !bytes_are_zero(td->mrservicetd, MEASUREMENT_LEN))
        warn(out, "a service TD is bound to this TD: rules must list it in \"service_tds\"");
}

bool attest_describe(const struct evidence *evidence, const char *measurements, json_t **out,
                     struct error *err)
{
    struct quote quote;

    if (!quote_parse(evidence->quote, evidence->quote_len, &quote, err))
        return false;
    json_t *all = json_pack("{s:o, s:o, s:[]}", "image", describe_image(&quote.td), "td",
                            describe_td(&quote), "warnings");
    if (!all)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory");
    check_td(&quote.td, all);
    (void)json_object_set_new(all, "platform", describe_platform(&quote, all));
    (void)json_object_set_new(all, "event_log",
                              json_string(check_event_log(evidence, &quote.td, all)));
    (void)json_object_set_new(all, "kernel",
                              json_string(check_kernel(measurements, &quote.td, all)));
    *out = all;
    return true;
}

/* --- text for people --- */

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "none";
}

static const char *only(const json_t *image, const char *name)
{
    const char *text = json_string_value(json_array_get(json_object_get(image, name), 0));

    return text ? text : "none";
}

static void print_values(const json_t *all)
{
    static const char *const of_td[] = { "rtmr0",   "rtmr3",         "mrconfigid",
                                         "mrowner", "mrownerconfig", "service_td" };
    static const char *const of_image[] = { "mrtd", "rtmr1", "rtmr2", "xfam" };
    const json_t *td = json_object_get(all, "td"), *platform = json_object_get(all, "platform");

    puts("This TD, as its quote describes it:\n");
    for (size_t i = 0; i < ARRAY_LEN(of_image); i++)
        printf("  %-14s %s\n", of_image[i], only(json_object_get(all, "image"), of_image[i]));
    printf("  %-14s %s\n", "attributes", text_of(td, "attributes"));
    for (size_t i = 0; i < ARRAY_LEN(of_td); i++)
        printf("  %-14s %s\n", of_td[i], text_of(td, of_td[i]));
    printf("  %-14s %s\n", "platform", text_of(platform, "id"));
    printf("  %-14s %s\n", "fmspc", text_of(platform, "fmspc"));
    printf("  %-14s %s\n", "event log", text_of(all, "event_log"));
    printf("  %-14s %s\n", "kernel's RTMRs", text_of(all, "kernel"));
}

static void print_for_people(const json_t *all, const char *quote_file)
{
    const json_t *warnings = json_object_get(all, "warnings");

    print_values(all);
    for (size_t i = 0; i < json_array_size(warnings); i++)
        printf("\nWarning: %s.\n", json_string_value(json_array_get(warnings, i)));
    puts("\nReference values. Give them a name under \"images\" in the broker's policy:\n");
    (void)json_dumpf(json_object_get(all, "image"), stdout, JSON_INDENT(2));
    puts(
        "\n\nWhat to do next:\n"
        "  1. Compare them with the values from the image's build, or from a second TD that you\n"
        "     started yourself: this output is only as good as the machine that printed it.\n"
        "  2. Add the image to the policy, and its name to \"images\" of the rule for nodes.\n"
        "  3. The image says what runs, not who owns it: give the rule an \"owner\", for instance\n"
        "     mrconfigid from above if the host sets it. The image leaves out rtmr0, because it\n"
        "     changes with the size of the machine.");
    if (quote_file)
        printf("  4. The quote is in %s; \"tdvolctl quote explain\" judges it.\n", quote_file);
    puts("See docs/attestation.md.");
}

/* --- the command --- */

struct attest_options {
    const char *tsm_root, *event_log, *measurements, *report_data, *out;
    bool json;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("tsm-root", struct attest_options, tsm_root, "DIR",
                    "Folder of configfs-tsm; default " ATTESTER_TSM_ROOT "."),
    OPTION_TEXT_ROW("event-log", struct attest_options, event_log, "FILE",
                    "The firmware's event log; default " ATTESTER_CCEL_PATH "."),
    OPTION_TEXT_ROW(
        "measurements", struct attest_options, measurements, "DIR",
        "Folder with the registers as the kernel shows them; default " ATTEST_MEASUREMENTS "."),
    OPTION_TEXT_ROW("report-data", struct attest_options, report_data, "HEX",
                    "64 bytes in hex, which the quote carries; default random bytes."),
    OPTION_TEXT_ROW("out", struct attest_options, out, "FILE", "Where to write the quote."),
    OPTION_BOOL_ROW("json", struct attest_options, json,
                    "Print one JSON object; its \"image\" goes into a policy's \"images\"."),
};

static bool choose_report_data(const struct attest_options *options,
                               uint8_t out[static REPORT_DATA_LEN], struct error *err)
{
    if (!options->report_data)
        return random_bytes(out, REPORT_DATA_LEN, err);
    return hex_decode(options->report_data, out, REPORT_DATA_LEN) ||
           error_set(err, ERROR_INVALID_ARGUMENT, "--report-data must have %u hex digits",
                     2 * REPORT_DATA_LEN);
}

static bool attest(const struct attest_options *options, struct error *err)
{
    const struct attester_options attester = { .tsm_root = options->tsm_root,
                                               .event_log = options->event_log };
    auto_evidence struct evidence evidence = { .quote = NULL };
    uint8_t report_data[REPORT_DATA_LEN];
    json_t *all = NULL;

    if (!choose_report_data(options, report_data, err) ||
        !attester_tdx.collect(&attester, report_data, &evidence, err) ||
        (options->out && !file_write(options->out, 0644, evidence.quote, evidence.quote_len, err)))
        return false;
    if (!attest_describe(&evidence,
                         options->measurements ? options->measurements : ATTEST_MEASUREMENTS, &all,
                         err))
        return false;
    if (options->json) {
        (void)json_dumpf(all, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else {
        print_for_people(all, options->out);
    }
    json_decref(all);
    return true;
}

static void print_help(void)
{
    puts("Asks this TD for a quote and prints what the quote says: the reference values for a\n"
         "policy. Needs root.\n"
         "\n"
         "Usage: tdvolctl attest [OPTIONS]\n");
    option_print_help(table, ARRAY_LEN(table));
}

int command_attest(int argc, char *const *argv)
{
    struct attest_options options = { .json = false };
    struct error err = ERROR_INIT;

    if (option_wants_help(argc, argv)) {
        print_help();
        return COMMAND_DONE;
    }
    bool parsed = option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, &err);
    if (parsed && attest(&options, &err))
        return COMMAND_DONE;
    fprintf(stderr, "tdvolctl: attest: %s\n", err.text);
    return parsed ? COMMAND_FAILED : COMMAND_USAGE;
}
