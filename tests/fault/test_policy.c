/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"
#include "base/file.h"
#include "policy/policy.h"
#include "tests/fault/nth_allocation.h"
#include "tests/unit/test.h"

#include <jansson.h>
#include <openssl/crypto.h>

/* A policy with all members. Each allocation fails in turn: ours, those of the arena, of jansson and
 * of OpenSSL. No policy may be read in part. */

static unsigned at, count;
static bool has_failed;
static bool arenas, objects, keys; /* whose allocations count */

static bool is_due(bool is_counted)
{
    if (!is_counted || at == 0 || ++count != at)
        return false;
    has_failed = true;
    return true;
}

/* NOLINTBEGIN(readability-identifier-naming): the linker's names */
void *__real_arena_alloc(struct arena *arena, size_t len);
void *__wrap_arena_alloc(struct arena *arena, size_t len);
char *__real_arena_strdup(struct arena *arena, const char *text);
char *__wrap_arena_strdup(struct arena *arena, const char *text);
/* NOLINTEND(readability-identifier-naming) */

void *__wrap_arena_alloc(struct arena *arena, size_t len)
{
    return is_due(arenas) ? NULL : __real_arena_alloc(arena, len);
}

char *__wrap_arena_strdup(struct arena *arena, const char *text)
{
    return is_due(arenas) ? NULL : __real_arena_strdup(arena, text);
}

static void *json_alloc(size_t len)
{
    return is_due(objects) ? NULL : malloc(len);
}

static void *crypto_alloc(size_t len, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_due(keys) ? NULL : malloc(len);
}

static void *crypto_realloc(void *old, size_t len, const char *file, int line)
{
    (void)file;
    (void)line;
    return is_due(keys) ? NULL : realloc(old, len);
}

static void crypto_free(void *bytes, const char *file, int line)
{
    (void)file;
    (void)line;
    free(bytes);
}

static char *text;
static size_t text_len;

static int read_text(void **state)
{
    const char *root = getenv("TDVOL_SOURCE_ROOT");
    char path[512];
    struct error err = ERROR_INIT;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/policy/everything", root ? root : ".");
    assert_ok(file_read(path, POLICY_BYTES_MAX, &text, &text_len, &err));
    return 0;
}

static int free_text(void **state)
{
    (void)state;
    free(text);
    return 0;
}

/* A whole policy, or an error and nothing. */
static bool parses(void)
{
    struct policy *policy = NULL;
    struct error err = ERROR_INIT;
    bool ok = policy_parse(text, text_len, &policy, &err);

    if (ok) {
        assert_int_equal(policy_rule_count(policy), 4);
    } else {
        assert_null(policy);
        assert_int_not_equal(err.code, ERROR_NONE);
        assert_string_not_equal(err.text, "");
    }
    policy_free(&policy);
    return ok;
}

/* Lets each allocation fail in turn. Returns how many there were. */
static unsigned fail_each(bool must_fail)
{
    for (unsigned n = 1;; n++) {
        at = n;
        count = 0;
        has_failed = false;
        bool ok = parses();
        at = 0;
        if (!has_failed) {
            assert_true(ok);
            return n - 1;
        }
        if (must_fail)
            assert_false(ok);
    }
}

static void our_own_memory_may_end_anywhere(void **state)
{
    (void)state;
    arenas = true;
    assert_true(fail_each(true) > 50);
    arenas = false;
    nth_allocation_fails(1); /* the policy itself */
    assert_false(parses());
    assert_true(nth_allocation_stop());
}

static void the_parsers_memory_may_end_anywhere(void **state)
{
    (void)state;
    json_set_alloc_funcs(json_alloc, free);
    objects = true;
    assert_true(fail_each(true) > 200);
    objects = false;
    json_set_alloc_funcs(malloc, free);
}

/* OpenSSL has allocations that it can do without. */
static void openssls_memory_may_end_anywhere(void **state)
{
    (void)state;
    assert_true(parses()); /* its own tables, made once */
    keys = true;
    assert_true(fail_each(false) > 200);
    keys = false;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_own_memory_may_end_anywhere),
        cmocka_unit_test(the_parsers_memory_may_end_anywhere),
        cmocka_unit_test(openssls_memory_may_end_anywhere),
    };

    if (CRYPTO_set_mem_functions(crypto_alloc, crypto_realloc, crypto_free) != 1)
        return 1;
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, read_text, free_text);
}
