/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>

static void memory_is_zero_and_aligned(void **state)
{
    auto_arena struct arena arena = { .limit = 1 << 20 };

    (void)state;
    for (size_t len = 1; len < 6000; len += 37) {
        const uint8_t *bytes = arena_alloc(&arena, len);

        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % _Alignof(max_align_t), 0);
        for (size_t i = 0; i < len; i++)
            assert_int_equal(bytes[i], 0);
    }
}

static void pieces_do_not_overlap(void **state)
{
    auto_arena struct arena arena = { .limit = 1 << 20 };
    char *texts[500];

    (void)state;
    for (int i = 0; i < 500; i++) {
        texts[i] = arena_printf(&arena, "%d-%0*d", i, i, 7);
        assert_non_null(texts[i]);
    }
    for (int i = 0; i < 500; i++) {
        char wanted[600];

        (void)snprintf(wanted, sizeof(wanted), "%d-%0*d", i, i, 7);
        assert_string_equal(texts[i], wanted);
    }
}

static void limit_is_exact(void **state)
{
    auto_arena struct arena arena = { .limit = 64 };

    (void)state;
    assert_null(arena_alloc(&arena, 65));
    assert_non_null(arena_alloc(&arena, 64));
    assert_null(arena_alloc(&arena, 1));
    assert_null(arena_alloc(&arena, 0));
    arena_wipe(&arena);
    assert_non_null(arena_alloc(&arena, 64));
}

static void absurd_lengths_are_refused(void **state)
{
    auto_arena struct arena arena = { .limit = SIZE_MAX };

    (void)state;
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 15));
    assert_null(arena_alloc(&arena, PTRDIFF_MAX));
    assert_null(arena.blocks);
}

static void copies_are_whole_and_own(void **state)
{
    auto_arena struct arena arena = { .limit = 4096 };
    char text[] = "text";

    (void)state;
    char *copy = arena_strdup(&arena, text);
    text[0] = 'n';
    assert_string_equal(copy, "text");
    assert_null(arena_strdup(&arena, NULL));
    assert_memory_equal(arena_memdup(&arena, "a\0b", 3), "a\0b", 3);
    assert_non_null(arena_memdup(&arena, NULL, 0));
}

static void secret_arena_uses_locked_pages_and_gives_them_back(void **state)
{
    auto_arena struct arena arena = { .limit = 1 << 20, .secret = true };

    (void)state;
    for (int i = 0; i < 100; i++) {
        char *text = arena_printf(&arena, "%0*d", 1000, i);

        assert_non_null(text);
    }
    assert_non_null(arena_alloc(&arena, 200000));
    assert_null(arena_alloc(&arena, (1 << 20) - 1)); /* beyond the limit */
    arena_wipe(&arena);
    assert_null(arena.blocks);
    assert_int_equal(arena.used, 0);
}

static void exhaustion_is_named(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_refused(ERROR_RESOURCE_EXHAUSTED, arena_exhausted(&err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zero_and_aligned),
        cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(limit_is_exact),
        cmocka_unit_test(absurd_lengths_are_refused),
        cmocka_unit_test(copies_are_whole_and_own),
        cmocka_unit_test(secret_arena_uses_locked_pages_and_gives_them_back),
        cmocka_unit_test(exhaustion_is_named),
    };

    return RUN_TESTS(tests);
}
