/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/event_log.h"
#include "ctl/attest.h"
#include "tests/unit/attest/vectors.h"
#include "tests/unit/base/folder.h"

#include <fcntl.h>

/* What "tdvolctl attest" says about a TD, for unsigned quotes and for a real one. */

#define QUOTE_LEN  1226
#define BODY       48
#define ATTRIBUTES (BODY + 120)
#define XFAM       (BODY + 128)
#define MRTD       (BODY + 136)
#define RTMR(i)    (BODY + 328 + 48 * (i))

static struct error err;
static uint8_t quote[QUOTE_LEN];
static struct evidence evidence;
static json_t *said;

/* Little-endian. */
static void put(size_t at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        quote[at + i] = (uint8_t)(value >> (8 * i));
}

static void fill(size_t at, uint8_t value)
{
    for (size_t i = 0; i < MEASUREMENT_LEN; i++)
        quote[at + i] = value;
}

static int make(void **state)
{
    static const uint8_t vendor[16] = { 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                        0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07 };

    for (size_t i = 0; i < QUOTE_LEN; i++)
        quote[i] = 0;
    put(0, 4, 2);
    put(2, 2, 2);
    put(4, 0x81, 4);
    memcpy(quote + 12, vendor, sizeof(vendor));
    put(632, QUOTE_LEN - 636, 4);
    put(764, 6, 2);
    put(766, QUOTE_LEN - 770, 4);
    put(1220, 5, 2);
    put(ATTRIBUTES, TD_ATTRIBUTE_SEPT_VE_DISABLE, 8);
    put(XFAM, 0x602e7, 8);
    fill(MRTD, 0xa0);
    for (size_t i = 0; i < 4; i++)
        fill(RTMR(i), (uint8_t)(0xb0 + i));
    evidence = (struct evidence){ .quote = quote, .quote_len = QUOTE_LEN };
    said = NULL;
    return folder_make(state);
}

static int drop(void **state)
{
    json_decref(said);
    return folder_remove(state);
}

static void describe(void)
{
    json_decref(said);
    said = NULL;
    assert_ok(attest_describe(&evidence, folder, &said, &err));
}

static const char *text(const char *name)
{
    return json_string_value(json_object_get(said, name));
}

static bool warns(const char *part)
{
    size_t i;
    json_t *warning;

    json_array_foreach(json_object_get(said, "warnings"), i, warning)
    {
        if (strstr(json_string_value(warning), part))
            return true;
    }
    return false;
}

static void write_register(unsigned i, size_t len)
{
    char name[] = "rtmr0:sha384";

    name[4] = (char)('0' + i);
    auto_close int fd = open(folder_path(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, quote + RTMR(i), len), (ssize_t)len);
}

static void image_has_the_form_that_policies_want(void **state UNUSED)
{
    static const char *const names[] = { "mrtd", "rtmr1", "rtmr2" };
    static const uint8_t bytes[] = { 0xa0, 0xb1, 0xb2 };

    describe();
    json_t *image = json_object_get(said, "image");

    assert_int_equal(json_object_size(image), 4);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        json_t *values = json_object_get(image, names[i]);
        char wanted[2 * MEASUREMENT_LEN + 1];

        for (size_t k = 0; k < MEASUREMENT_LEN; k++)
            (void)snprintf(wanted + 2 * k, 3, "%02x", bytes[i]);
        assert_int_equal(json_array_size(values), 1);
        assert_string_equal(json_string_value(json_array_get(values, 0)), wanted);
    }
    assert_string_equal(json_string_value(json_array_get(json_object_get(image, "xfam"), 0)),
                        "0x602e7");
}

static void ordinary_td_gives_a_warning_for_its_certificate_only(void **state UNUSED)
{
    describe();
    assert_int_equal(json_array_size(json_object_get(said, "warnings")), 1);
    assert_true(warns("PCK certificate"));
    assert_true(json_is_null(json_object_get(said, "platform")));
    assert_string_equal(text("event_log"), "none");
    assert_string_equal(text("kernel"), "none");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(said, "td"), "attributes")),
        "0x10000000");
}

static void registers_that_were_not_extended_are_warned_of(void **state UNUSED)
{
    fill(RTMR(2), 0);
    describe();
    assert_true(warns("RTMR1 or RTMR2 is zero"));
}

static void attribute_that_rules_refuse_is_warned_of(void **state UNUSED)
{
    put(ATTRIBUTES, 0, 8);
    describe();
    assert_true(warns("SEPT_VE_DISABLE"));
}

static void kernel_s_registers_are_compared(void **state UNUSED)
{
    for (unsigned i = 0; i < 4; i++)
        write_register(i, MEASUREMENT_LEN);
    describe();
    assert_string_equal(text("kernel"), "same");
    fill(RTMR(2), 0xff);
    fill(RTMR(3), 0xff);
    describe();
    assert_string_equal(text("kernel"), "differs");
    assert_true(warns("another value of RTMR2 RTMR3 than"));
}

static void registers_of_another_length_do_not_count(void **state UNUSED)
{
    fill(RTMR(1), 1);
    write_register(1, MEASUREMENT_LEN - 1);
    describe();
    assert_string_equal(text("kernel"), "none");
}

static void event_log_that_cannot_be_read_is_warned_of(void **state UNUSED)
{
    uint8_t log[3] = { 1, 2, 3 };

    evidence.event_log = log;
    evidence.event_log_len = sizeof(log);
    describe();
    assert_string_equal(text("event_log"), "malformed");
    assert_true(warns("the event log cannot be read"));
}

static void real_evidence_is_described(void **state UNUSED)
{
    size_t log_len = 0, quote_len = 0;

    NEEDS_VECTORS;
    auto_free char *log = vector_file("eventlog/ccel_ccel_data.dat", &log_len);
    auto_free char *bytes = vector_file("eventlog/ccel_cos-113-tdx-quote.dat", &quote_len);
    evidence = (struct evidence){ (uint8_t *)bytes, quote_len, (uint8_t *)log, log_len };
    describe();
    json_t *platform = json_object_get(said, "platform");

    assert_string_equal(text("event_log"), "replays");
    assert_int_equal(strlen(json_string_value(json_object_get(platform, "fmspc"))), 12);
    assert_int_equal(strlen(json_string_value(json_object_get(platform, "id"))), 32);
    assert_false(warns("PCK"));
}

static void log_of_another_td_differs(void **state UNUSED)
{
    size_t log_len = 0;

    NEEDS_VECTORS;
    auto_free char *log = vector_file("eventlog/ccel_ccel_data.dat", &log_len);
    evidence.event_log = (uint8_t *)log;
    evidence.event_log_len = log_len;
    describe();
    assert_string_equal(text("event_log"), "differs");
    assert_true(warns("RTMR0 RTMR1 RTMR2 RTMR3"));
}

static void a_quote_that_is_cut_is_refused(void **state UNUSED)
{
    evidence.quote_len = 1000;
    assert_false(attest_describe(&evidence, folder, &said, &err));
    assert_null(said);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        CASE(image_has_the_form_that_policies_want),
        CASE(ordinary_td_gives_a_warning_for_its_certificate_only),
        CASE(registers_that_were_not_extended_are_warned_of),
        CASE(attribute_that_rules_refuse_is_warned_of),
        CASE(kernel_s_registers_are_compared),
        CASE(registers_of_another_length_do_not_count),
        CASE(event_log_that_cannot_be_read_is_warned_of),
        CASE(real_evidence_is_described),
        CASE(log_of_another_td_differs),
        CASE(a_quote_that_is_cut_is_refused),
    };

    return RUN_TESTS(tests);
}
