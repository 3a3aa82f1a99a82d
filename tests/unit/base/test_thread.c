/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/thread.h"
#include "tests/unit/test.h"

struct shared {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_set;
    char name[16];
};

static void *set_it(void *cookie)
{
    struct shared *s = cookie;

    pthread_mutex_lock(&s->lock);
    s->is_set = true;
    (void)pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int setup(void **state)
{
    static struct shared s;

    s = (struct shared){ .is_set = false };
    pthread_mutex_init(&s.lock, NULL);
    condition_init(&s.changed);
    *state = &s;
    return 0;
}

static int teardown(void **state)
{
    struct shared *s = *state;

    (void)pthread_cond_destroy(&s->changed);
    (void)pthread_mutex_destroy(&s->lock);
    return 0;
}

static void a_thread_wakes_a_wait_without_limit(void **state)
{
    struct shared *s = *state;
    pthread_t thread;
    struct error err = ERROR_INIT;

    pthread_mutex_lock(&s->lock);
    assert_ok(thread_start(&thread, "setter", set_it, s, &err));
    while (!s->is_set)
        condition_wait_until(&s->changed, &s->lock, UINT64_MAX);
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

struct counted {
    struct stoppable loop;
    unsigned rounds;
    bool has_returned;
};

static void *work(void *cookie)
{
    struct counted *c = cookie;

    pthread_mutex_lock(&c->loop.lock);
    while (!c->loop.is_ending) {
        c->rounds++;
        (void)pthread_cond_broadcast(&c->loop.changed);
        condition_wait_until(&c->loop.changed, &c->loop.lock, UINT64_MAX);
    }
    pthread_mutex_unlock(&c->loop.lock);
    c->has_returned = true;
    return NULL;
}

static void a_thread_that_waits_without_limit_is_stopped(void **state UNUSED)
{
    struct counted c = { .rounds = 0 };
    struct error err = ERROR_INIT;

    assert_ok(stoppable_start(&c.loop, "waits", work, &c, &err));
    pthread_mutex_lock(&c.loop.lock);
    while (c.rounds == 0)
        condition_wait_until(&c.loop.changed, &c.loop.lock, UINT64_MAX);
    pthread_mutex_unlock(&c.loop.lock);
    assert_false(c.has_returned);
    stoppable_stop(&c.loop);
    assert_true(c.has_returned);
}

static void waiting_ends_at_its_time_on_the_monotonic_clock(void **state)
{
    struct shared *s = *state;
    uint64_t until_ms = clock_now_ms() + 30;

    pthread_mutex_lock(&s->lock);
    while (clock_now_ms() < until_ms)
        condition_wait_until(&s->changed, &s->lock, until_ms);
    condition_wait_until(&s->changed, &s->lock, 0); /* a time long ago */
    pthread_mutex_unlock(&s->lock);
    assert_false(s->is_set);
}

static void *read_name(void *cookie)
{
    struct shared *s = cookie;

    pthread_mutex_lock(&s->lock); /* waits until the starter has set the name */
    assert_int_equal(pthread_getname_np(pthread_self(), s->name, sizeof(s->name)), 0);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void a_thread_has_its_name(void **state)
{
    struct shared *s = *state;
    pthread_t thread;
    struct error err = ERROR_INIT;

    pthread_mutex_lock(&s->lock);
    assert_ok(thread_start(&thread, "fifteen-letters", read_name, s, &err));
    pthread_mutex_unlock(&s->lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(s->name, "fifteen-letters");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thread_wakes_a_wait_without_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_ends_at_its_time_on_the_monotonic_clock, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_thread_has_its_name, setup, teardown),
        cmocka_unit_test(a_thread_that_waits_without_limit_is_stopped),
    };

    return RUN_TESTS(tests);
}
