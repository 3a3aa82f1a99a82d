/* SPDX-License-Identifier: Apache-2.0 */
#include "base/metrics.h"
#include "tests/unit/test.h"

#include <stdlib.h>

static const struct histogram_family families[] = { { "one_seconds", "First" },
                                                    { "two_seconds", "Second" } };

/* What a print function writes. */
#define PAGE(print, object)                         \
    __extension__({                                 \
        char *text_ = NULL;                         \
        size_t len_ = 0;                            \
        FILE *out_ = open_memstream(&text_, &len_); \
        assert_non_null(out_);                      \
        print(object, out_);                        \
        assert_int_equal(fclose(out_), 0);          \
        text_;                                      \
    })

static void calls_fall_into_the_buckets_of_their_family(void **state UNUSED)
{
    struct histograms *h = NULL;
    struct error err = ERROR_INIT;

    assert_ok(histograms_new(families, 2, &h, &err));
    histograms_observe(h, 0, "A", ERROR_NONE, 100);
    histograms_observe(h, 0, "A", ERROR_NONE, 101);
    histograms_observe(h, 1, "A", ERROR_ABORTED, 700000);
    auto_free char *text = PAGE(histograms_print, h);
#define LABELS "{method_name=\"A\",grpc_status_code=\"OK\""
    assert_contains(text, "# HELP one_seconds First, by method and status.\n"
                          "# TYPE one_seconds histogram\n");
    assert_contains(text, "one_seconds_bucket" LABELS ",le=\"0.1\"} 1\n");
    assert_contains(text, "one_seconds_bucket" LABELS ",le=\"0.25\"} 2\n");
    assert_contains(text, "one_seconds_sum" LABELS "} 0.201\n");
    assert_contains(text, "two_seconds_bucket{method_name=\"A\",grpc_status_code=\"ABORTED\","
                          "le=\"600\"} 0\n");
    assert_contains(text, "two_seconds_count{method_name=\"A\",grpc_status_code=\"ABORTED\"} 1\n");
    histograms_free(h);
}

static void a_counter_counts_each_value(void **state UNUSED)
{
    struct counter *c = NULL;
    struct error err = ERROR_INIT;

    assert_ok(counter_new("things_total", "kind", "Things", &c, &err));
    counter_add(c, "a");
    counter_add(c, "b");
    counter_add(c, "a");
    auto_free char *text = PAGE(counter_print, c);
    assert_string_equal(text, "# HELP things_total Things.\n# TYPE things_total counter\n"
                              "things_total{kind=\"a\"} 2\nthings_total{kind=\"b\"} 1\n");
    counter_free(c);
}

static void values_that_are_not_words_are_counted_as_other(void **state UNUSED)
{
    static const char *const bad[] = { "", "a b", "a\"} 1\nb{c=\"", "a\\", "\xc3\xa4" };
    struct counter *c = NULL;
    struct error err = ERROR_INIT;

    assert_ok(counter_new("things_total", "kind", "Things", &c, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        counter_add(c, bad[i]);
    auto_free char *text = PAGE(counter_print, c);
    assert_string_equal(text, "# HELP things_total Things.\n# TYPE things_total counter\n"
                              "things_total{kind=\"Other\"} 5\n");
    counter_free(c);
}

static void values_beyond_the_limit_are_counted_as_other(void **state UNUSED)
{
    struct counter *c = NULL;
    struct error err = ERROR_INIT;
    char value[16];

    assert_ok(counter_new("things_total", "kind", "Things", &c, &err));
    for (int i = 0; i < COUNTER_VALUES_MAX + 5; i++) {
        (void)snprintf(value, sizeof(value), "v%d", i);
        counter_add(c, value);
    }
    counter_add(c, "v0");
    auto_free char *text = PAGE(counter_print, c);
    assert_contains(text, "{kind=\"v0\"} 2\n");
    assert_contains(text, "{kind=\"v98\"} 1\n");
    assert_contains(text, "{kind=\"Other\"} 5\n");
    assert_null(strstr(text, "v99"));
    counter_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_fall_into_the_buckets_of_their_family),
        cmocka_unit_test(a_counter_counts_each_value),
        cmocka_unit_test(values_that_are_not_words_are_counted_as_other),
        cmocka_unit_test(values_beyond_the_limit_are_counted_as_other),
    };

    return RUN_TESTS(tests);
}
