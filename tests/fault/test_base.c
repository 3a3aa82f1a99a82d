/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/file.h"
#include "base/option.h"
#include "base/process.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/base/folder.h"
#include "tests/unit/test.h"

#include <string.h>

/* Lets the first, second, ... allocation of call fail, until call succeeds. Each failure must be
 * RESOURCE_EXHAUSTED. Returns how many allocations failed. */
static unsigned fail_each(bool (*call)(struct error *))
{
    for (unsigned n = 1;; n++) {
        struct error err = ERROR_INIT;

        nth_allocation_fails(n);
        bool is_done = call(&err);
        if (!nth_allocation_stop()) {
            assert_ok(is_done);
            return n - 1;
        }
        assert_false(is_done);
        assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
    }
}

static bool fill_arena(struct error *err)
{
    auto_arena struct arena arena = { .limit = 1 << 20 };

    for (int i = 0; i < 200; i++) {
        const char *text = arena_printf(&arena, "%0200d", i);

        if (!text)
            return arena_exhausted(err);
        if (!arena_strdup(&arena, text) || !arena_alloc(&arena, 1))
            return arena_exhausted(err);
    }
    return true;
}

static void arena_hands_every_failure_up(void **state)
{
    (void)state;
    assert_true(fail_each(fill_arena) >= 3);
}

static void arena_goes_on_after_a_failure(void **state)
{
    auto_arena struct arena arena = { .limit = 1 << 20 };

    (void)state;
    nth_allocation_fails(1);
    assert_null(arena_alloc(&arena, 100));
    assert_true(nth_allocation_stop());
    assert_int_equal(arena.used, 0);
    assert_non_null(arena_alloc(&arena, 100));
}

struct sample {
    uint64_t size_bytes;
    struct option_list peers;
};

static bool parse(struct error *err)
{
    static const struct option rows[] = {
        OPTION_U64_ROW("size-bytes", struct sample, size_bytes, 0, 100, "BYTES", "How large."),
        OPTION_LIST_ROW("peer", struct sample, peers, "NAME", "Who may call."),
    };
    char program[] = "prog", size[] = "--size-bytes=7", peer[] = "--peer=a";
    struct sample sample = { 0 };

    return option_parse(rows, ARRAY_LEN(rows), &sample, 3, (char *[]){ program, size, peer }, NULL,
                        err);
}

static void options_need_no_memory(void **state)
{
    (void)state;
    assert_int_equal(fail_each(parse), 0);
}

static bool read_status(struct error *err)
{
    auto_free char *bytes = NULL;
    size_t len = 0;

    return file_read("/proc/self/maps", 1 << 20, &bytes, &len, err);
}

static bool write_file(struct error *err)
{
    return file_write(folder_path("a"), 0600, "x", 1, err);
}

static bool make_dirs(struct error *err)
{
    return file_make_dirs(folder_path("a/b"), 0700, err);
}

static void files_hand_every_failure_up(void **state)
{
    (void)state;
    assert_true(fail_each(read_status) >= 1);
    assert_true(fail_each(write_file) >= 1);
    assert_int_equal(unlink(folder_path("a")), 0);
    assert_true(fail_each(make_dirs) >= 1);
}

static bool run_true(struct error *err)
{
    struct process_result result;

    return process_run((const char *const[]){ "true", NULL }, 0, &result, err);
}

static void processes_hand_every_failure_up(void **state)
{
    (void)state;
    assert_true(fail_each(run_true) >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_hands_every_failure_up),
        cmocka_unit_test(arena_goes_on_after_a_failure),
        cmocka_unit_test(options_need_no_memory),
        cmocka_unit_test_setup_teardown(files_hand_every_failure_up, folder_make, folder_remove),
        cmocka_unit_test(processes_hand_every_failure_up),
    };

    return RUN_TESTS(tests);
}
