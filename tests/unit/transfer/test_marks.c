/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/store_place.h"
#include "transfer/marks.h"

#define EPOCH 1800000000000ull /* ms */

static void a_restore_that_has_not_ended_is_no_store(void **state)
{
    struct store_place *place = *state;
    struct store *store = place->store;
    struct error err = ERROR_INIT;
    uint64_t ms = 7;

    assert_ok(marks_read_restored(store, &ms, &err));
    assert_int_equal(ms, 0);
    assert_ok(store->ops->raise(store, RESTORING_MARK, EPOCH, &ms, &err));
    assert_refused(ERROR_FAILED_PRECONDITION, marks_read_restored(store, &ms, &err));
    assert_contains(err.text, "restore again");
    assert_ok(store->ops->raise(store, RESTORED_MARK, EPOCH, &ms, &err));
    assert_ok(marks_read_restored(store, &ms, &err));
    assert_true(ms == EPOCH);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restore_that_has_not_ended_is_no_store,
                                        store_place_sqlite, store_place_remove),
    };

    return RUN_TESTS(tests);
}
