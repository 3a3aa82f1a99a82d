/* SPDX-License-Identifier: Apache-2.0 */
#include "csi/inflight.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>

static struct error err;

static void second_taker_is_told_who_is_at_work(void **state UNUSED)
{
    struct inflight *set = NULL;
    struct inflight_hold first = INFLIGHT_HOLD_INIT, second = INFLIGHT_HOLD_INIT;

    assert_ok(inflight_new(&set, &err));
    assert_ok(inflight_take(set, "v1", "NodeStageVolume", &first, &err));
    assert_refused(ERROR_ABORTED, inflight_take(set, "v1", "DeleteVolume", &second, &err));
    assert_contains(err.text, "NodeStageVolume");
    assert_ok(inflight_take(set, "v2", "DeleteVolume", &second, &err));
    inflight_release(&first);
    inflight_release(&first);
    assert_ok(inflight_take(set, "v1", "DeleteVolume", &first, &err));
    inflight_release(&first);
    inflight_release(&second);
    inflight_free(set);
    inflight_free(NULL);
}

struct race {
    struct inflight *set;
    atomic_int inside, most, taken;
};

static void *take_often(void *cookie)
{
    struct race *race = cookie;

    for (int i = 0; i < 2000; i++) {
        auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT;
        struct error busy = ERROR_INIT;

        if (!inflight_take(race->set, i % 2 ? "v1" : "v2", "x", &hold, &busy))
            continue;
        int now = atomic_fetch_add(&race->inside, 1) + 1;
        if (now > atomic_load(&race->most))
            atomic_store(&race->most, now);
        (void)atomic_fetch_add(&race->taken, 1);
        (void)atomic_fetch_sub(&race->inside, 1);
    }
    return NULL;
}

static void two_volumes_have_two_holders_at_most(void **state UNUSED)
{
    struct race race = { .set = NULL };
    pthread_t threads[4];

    assert_ok(inflight_new(&race.set, &err));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_often, &race), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(atomic_load(&race.most) <= 2);
    assert_true(atomic_load(&race.taken) > 0);
    inflight_free(race.set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_taker_is_told_who_is_at_work),
        cmocka_unit_test(two_volumes_have_two_holders_at_most),
    };

    return RUN_TESTS(tests);
}
