/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/ccel.h"

#include "attest/event_log.h"
#include "base/digest.h"
#include "base/file.h"
#include "tests/sim/command.h"
#include "tests/sim/td_file.h"

#include <stdio.h>
#include <string.h>

/* TCG PC Client Platform Firmware Profile, "crypto agile" log; registers are numbered as in the CCEL table. */
enum {
    EV_NO_ACTION = 3,
    EV_EVENT_TAG = 6,
    ALGORITHM_SHA384 = 0x000c,
    AREA_STEP = 4096, /* the area is longer than its log */
};

static void put_u16(FILE *out, uint16_t value)
{
    (void)fputc(value & 0xff, out);
    (void)fputc(value >> 8, out);
}

static void put_u32(FILE *out, uint32_t value)
{
    put_u16(out, (uint16_t)value);
    put_u16(out, (uint16_t)(value >> 16));
}

/* The first event has the form of old logs and says which digests all others carry. */
static void put_spec_id(FILE *out)
{
    static const uint8_t no_digest[20];
    static const char signature[16] = "Spec ID Event03";
    enum { SPEC_ID_LEN = 16 + 4 + 4 + 4 + 4 + 1 };

    put_u32(out, 1);
    put_u32(out, EV_NO_ACTION);
    (void)fwrite(no_digest, 1, sizeof(no_digest), out);
    put_u32(out, SPEC_ID_LEN);
    (void)fwrite(signature, 1, sizeof(signature), out);
    put_u32(out, 0);          /* platform class: client */
    put_u32(out, 0x02000200); /* version 2.0 without errata, 64-bit integers */
    put_u32(out, 1);          /* algorithms */
    put_u16(out, ALGORITHM_SHA384);
    put_u16(out, SHA384_LEN);
    (void)fputc(0, out); /* no vendor data */
}

static bool put_event(FILE *out, uint32_t index, uint32_t type, const json_t *text,
                      struct error *err)
{
    uint8_t digest[SHA384_LEN] = { 0 };
    size_t len = json_string_length(text);

    if (type != EV_NO_ACTION && !sha384(json_string_value(text), len, digest, err))
        return false;
    put_u32(out, index);
    put_u32(out, type);
    put_u32(out, 1);
    put_u16(out, ALGORITHM_SHA384);
    (void)fwrite(digest, 1, sizeof(digest), out);
    put_u32(out, (uint32_t)len);
    (void)fwrite(json_string_value(text), 1, len, out);
    return true;
}

/* "rtmr0" is register 1 of the log. */
static uint32_t register_index(const json_t *name)
{
    static const char *const names[] = { "rtmr0", "rtmr1", "rtmr2", "rtmr3" };

    for (uint32_t i = 0; json_is_string(name) && i < ARRAY_LEN(names); i++)
        if (strcmp(json_string_value(name), names[i]) == 0)
            return i + 1;
    return 0;
}

static bool put_events(FILE *out, const json_t *events, struct error *err)
{
    for (size_t i = 0; i < json_array_size(events); i++) {
        json_t *event = json_array_get(events, i), *text = json_object_get(event, "text");
        json_t *type = json_object_get(event, "type");
        uint32_t index = register_index(json_object_get(event, "register"));
        json_int_t number = type ? json_integer_value(type) : EV_EVENT_TAG;
        size_t members = type ? 3 : 2;

        if (index == 0 || !json_is_string(text) || json_object_size(event) != members ||
            (type && !json_is_integer(type)) || number < 0 || number > UINT32_MAX)
            return error_set(err, ERROR_INVALID_ARGUMENT,
                             "event %zu is not {\"register\": \"rtmr0\" to \"rtmr3\", \"type\": "
                             "NUMBER, \"text\": TEXT}",
                             i + 1);
        if (!put_event(out, index, (uint32_t)number, text, err))
            return false;
    }
    return true;
}

bool ccel_make(const json_t *events, uint8_t **out, size_t *len, struct error *err)
{
    auto_free char *bytes = NULL;
    size_t n = 0;

    if (!json_is_array(events) || json_array_size(events) > EVENT_COUNT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT, "events is not a list of at most %u entries",
                         EVENT_COUNT_MAX);
    FILE *log = open_memstream(&bytes, &n);
    if (!log)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for an event log");
    put_spec_id(log);
    bool ok = put_events(log, events, err);
    put_u32(log, UINT32_MAX);
    while (ftell(log) % AREA_STEP != 0)
        (void)fputc(0xff, log);
    bool written = ferror(log) == 0;
    written = fclose(log) == 0 && written;
    if (!ok)
        return false;
    if (!written || n > EVENT_LOG_LEN_MAX)
        return error_set(err, ERROR_OUT_OF_RANGE, "the event log is longer than %u bytes",
                         EVENT_LOG_LEN_MAX);
    *out = (uint8_t *)TAKE_PTR(bytes);
    *len = n;
    return true;
}

struct ccel_options {
    const char *td, *out;
};

static const struct option table[] = {
    OPTION_TEXT_ROW("td", struct ccel_options, td, "FILE",
                    "JSON file that describes the TD, with its events.", .required = true),
    OPTION_TEXT_ROW("out", struct ccel_options, out, "FILE", "File to write the log area to.",
                    .required = true),
};

static bool run(int argc, char *const *argv, struct error *err)
{
    auto_td_file struct td_file file = { .event_log = NULL };
    struct ccel_options options = { .td = NULL };

    if (!option_parse(table, ARRAY_LEN(table), &options, argc, argv, NULL, err) ||
        !td_file_read(options.td, &file, err))
        return false;
    if (!file.event_log)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s: has no events", options.td);
    if (!file_write(options.out, 0644, file.event_log, file.event_log_len, err))
        return false;
    for (int i = 0; i < 4; i++) {
        char hex[2 * MEASUREMENT_LEN + 1];

        hex_encode(file.td.rtmr[i], MEASUREMENT_LEN, hex);
        printf("%s \"rtmr%d\": \"%s\"", i == 0 ? "{" : ",\n ", i, hex);
    }
    puts(" }");
    return true;
}

const struct command command_ccel = {
    .name = "ccel",
    .usage = "--td FILE --out FILE",
    .help = "write the firmware's event log of a TD",
    .lesson =
        "Writes what a guest finds in /sys/firmware/acpi/tables/data/CCEL, with one SHA-384\n"
        "digest for each event, and prints the RTMRs that it replays to. Quotes made with the\n"
        "same description have these RTMRs.\n"
        "\n" TD_FILE_LESSON,
    .table = table,
    .n = ARRAY_LEN(table),
    .run = run,
};
