/* SPDX-License-Identifier: Apache-2.0 */
#include "store/seal.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

static const struct record_key key = { .id = { 1, 2, 3, 4 }, .generation = 1 };

static void a_wrapped_secret_comes_back(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret one = SECRET_INIT;
    auto_secret struct secret again = SECRET_INIT;
    struct store_key wrapped;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_KEY_LEN, &err));
    assert_ok(seal_make(&master, "t", &key, &wrapped, &err));
    assert_ok(seal_unwrap(&master, "t", &wrapped, &one, &err));
    assert_ok(seal_unwrap(&master, "t", &wrapped, &again, &err));
    assert_int_equal(one.len, VOLUME_SECRET_LEN);
    assert_true(secret_is_equal(&one, &again));
}

/* A wrapped secret does not open when a byte of it, its key id, its generation or its tenant was
 * changed. */
static void a_changed_or_moved_one_is_refused(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret other = SECRET_INIT;
    auto_secret struct secret out = SECRET_INIT;
    struct store_key wrapped, bad;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&other, SEAL_KEY_LEN, &err));
    assert_ok(seal_make(&master, "t", &key, &wrapped, &err));
    for (size_t i = 0; i < sizeof(wrapped.wrapped); i++) {
        bad = wrapped;
        bad.wrapped[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    }
    for (size_t i = 0; i < RECORD_ID_LEN; i++) {
        bad = wrapped;
        bad.key.id[i] ^= 1;
        assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    }
    bad = wrapped;
    bad.key.generation = 2;
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "t", &bad, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&other, "t", &wrapped, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "u", &wrapped, &out, &err));
    assert_refused(ERROR_DATA_LOSS, seal_unwrap(&master, "", &wrapped, &out, &err));
    assert_null(out.bytes);
}

static void marks_tell_master_keys_apart(void **state)
{
    auto_secret struct secret master = SECRET_INIT;
    auto_secret struct secret other = SECRET_INIT;
    uint8_t one[STORE_MARK_LEN], again[STORE_MARK_LEN], two[STORE_MARK_LEN];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(secret_random(&master, SEAL_KEY_LEN, &err));
    assert_ok(secret_random(&other, SEAL_KEY_LEN, &err));
    assert_ok(seal_mark(&master, one, &err));
    assert_ok(seal_mark(&master, again, &err));
    assert_ok(seal_mark(&other, two, &err));
    assert_memory_equal(one, again, sizeof(one));
    assert_memory_not_equal(one, two, sizeof(one));
    assert_memory_not_equal(one, master.bytes, sizeof(one));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrapped_secret_comes_back),
        cmocka_unit_test(a_changed_or_moved_one_is_refused),
        cmocka_unit_test(marks_tell_master_keys_apart),
    };

    return RUN_TESTS(tests);
}
