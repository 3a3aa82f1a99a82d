/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "plugin/inflight.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>

static struct error err;

static void second_taker_is_told_who_is_at_work(void **state UNUSED)
{
    struct inflight *set = NULL;
    struct inflight_hold first = INFLIGHT_HOLD_INIT, second = INFLIGHT_HOLD_INIT;

    assert_ok(inflight_new(1, &set, &err));
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

    assert_ok(inflight_new(1, &race.set, &err));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_often, &race), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(atomic_load(&race.most) <= 2);
    assert_true(atomic_load(&race.taken) > 0);
    inflight_free(race.set);
}

static void *wait_for_v1(void *cookie)
{
    uint64_t start_ms = clock_now_ms();

    assert_true(inflight_wait(cookie, "v1", start_ms + 20000));
    return (void *)(uintptr_t)(clock_now_ms() - start_ms < 10000);
}

static void wait_ends_with_the_operation_or_the_time(void **state UNUSED)
{
    auto_inflight struct inflight_hold hold = INFLIGHT_HOLD_INIT, other = INFLIGHT_HOLD_INIT;
    struct inflight *set = NULL;
    uint64_t start_ms = clock_now_ms();
    pthread_t thread;
    void *is_early = NULL;

    assert_ok(inflight_new(1, &set, &err));
    assert_ok(inflight_take(set, "v1", "NodeUnstageVolume", &hold, &err));
    assert_true(inflight_wait(set, "v1", start_ms + 50));
    assert_true(clock_now_ms() - start_ms >= 50);

    assert_int_equal(pthread_create(&thread, NULL, wait_for_v1, set), 0);
    while (inflight_wait(set, "v2", 0)) /* until the thread has the only place */
        ;
    assert_ok(inflight_take(set, "v2", "x", &other, &err));
    inflight_release(&other);
    assert_false(inflight_wait(set, "v2", UINT64_MAX)); /* another volume does not end the wait */
    inflight_release(&hold);
    assert_int_equal(pthread_join(thread, &is_early), 0);
    assert_non_null(is_early);
    assert_true(inflight_wait(set, "v1", 0));
    inflight_free(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_taker_is_told_who_is_at_work),
        cmocka_unit_test(wait_ends_with_the_operation_or_the_time),
        cmocka_unit_test(two_volumes_have_two_holders_at_most),
    };

    return RUN_TESTS(tests);
}
