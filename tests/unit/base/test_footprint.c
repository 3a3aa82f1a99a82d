/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "base/file.h"
#include "base/footprint.h"
#include "tests/unit/test.h"

/* "RssFile:\t    1234 kB" */
static unsigned long file_kib(void)
{
    struct error err = ERROR_INIT;
    auto_free char *text = NULL;
    size_t len = 0;
    unsigned long kib = 0;

    assert_ok(file_read("/proc/self/status", 65536, &text, &len, &err));
    const char *line = strstr(text, "RssFile:");
    assert_non_null(line);
    for (line += strcspn(line, "0123456789"); *line >= '0' && *line <= '9'; line++)
        kib = kib * 10 + (unsigned long)(*line - '0');
    return kib;
}

static void program_becomes_smaller_and_still_works(void **state UNUSED)
{
    struct error err = ERROR_INIT;
    uint8_t before[SHA256_LEN], after[SHA256_LEN];

    assert_ok(sha256("x", 1, before, &err));
    unsigned long large = file_kib();
    footprint_settle();
    unsigned long small = file_kib();
    assert_ok(sha256("x", 1, after, &err));
    assert_memory_equal(before, after, SHA256_LEN);
    if (small >= large)
        fail_msg("%lu KiB of files before, %lu after", large, small);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(program_becomes_smaller_and_still_works),
    };

    return RUN_TESTS(tests);
}
