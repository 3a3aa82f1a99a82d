/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/attested_session.h"
#include "tests/unit/test.h"

#include <pthread.h>

#define START 1000000000ull

static uint64_t steady_now_ms;

static uint64_t steady_ms(void)
{
    return steady_now_ms;
}

static struct attested_sessions *fresh(size_t max)
{
    struct attested_sessions *all = NULL;
    struct error err = ERROR_INIT;

    assert_ok(attested_sessions_new(max, steady_ms, &all, &err));
    return all;
}

static struct attested_session session(uint8_t number, uint64_t until_ms)
{
    struct attested_session a = { .client_key_sha256 = { number },
                                  .sealing_key_sha256 = { number, 1 } };

    a.since_ms = START;
    a.until_ms = until_ms;
    a.tee.td.mrtd[0] = number;
    return a;
}

static void put(struct attested_sessions *all, uint8_t number, uint64_t until_ms)
{
    const struct attested_session a = session(number, until_ms);
    struct error err = ERROR_INIT;

    assert_ok(attested_sessions_put(all, &a, START, &err));
}

static enum attested_session_state find(struct attested_sessions *all, uint8_t number,
                                        uint64_t now_ms)
{
    const uint8_t key[ATTESTED_KEY_LEN] = { number };
    struct attested_session found = { .until_ms = 1 };
    enum attested_session_state state = attested_sessions_find(all, key, now_ms, &found);

    if (state == ATTESTED_SESSION_GOOD) {
        assert_memory_equal(found.client_key_sha256, key, sizeof(key));
        assert_int_equal(found.tee.td.mrtd[0], number);
    } else {
        assert_int_equal(found.until_ms, 1); /* untouched */
    }
    return state;
}

static void each_key_has_its_own_session(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(4);

    put(all, 1, START + 10);
    put(all, 2, START + 10);
    assert_int_equal(find(all, 1, START), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 2, START), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 3, START), ATTESTED_SESSION_NONE);
}

static void a_session_ends_at_its_time(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(4);

    put(all, 1, START + 10);
    assert_int_equal(find(all, 1, START + 9), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 1, START + 10), ATTESTED_SESSION_EXPIRED);
    assert_int_equal(find(all, 1, START + 10), ATTESTED_SESSION_NONE);
    assert_int_equal(attested_sessions_count(all), 0);
}

static void a_clock_set_back_ends_it_too(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(4);

    put(all, 1, START + 10);
    assert_int_equal(find(all, 1, START - 60000), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 1, START - 60001), ATTESTED_SESSION_EXPIRED);
}

static void a_clock_set_back_within_it_does_not_make_it_last(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(4);

    put(all, 1, START + 1000);
    steady_now_ms += 999;
    assert_int_equal(find(all, 1, START + 999), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 1, START), ATTESTED_SESSION_GOOD);
    steady_now_ms += 1;
    assert_int_equal(find(all, 1, START), ATTESTED_SESSION_EXPIRED);
}

static void the_same_key_again_replaces_it(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(1);
    struct attested_session again = session(1, START + 50), found;
    struct error err = ERROR_INIT;

    put(all, 1, START + 10);
    again.sealing_key_sha256[0] = 0xee;
    assert_ok(attested_sessions_put(all, &again, START, &err));
    assert_int_equal(attested_sessions_count(all), 1);
    assert_int_equal(attested_sessions_find(all, again.client_key_sha256, START + 20, &found),
                     ATTESTED_SESSION_GOOD);
    assert_int_equal(found.sealing_key_sha256[0], 0xee);
}

static void a_full_table_refuses_and_makes_room_from_what_expired(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(3);
    struct attested_session more = session(9, START + 100);
    struct error err = ERROR_INIT;

    put(all, 1, START + 10);
    put(all, 2, START + 20);
    put(all, 3, START + 30);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, attested_sessions_put(all, &more, START, &err));
    assert_int_equal(find(all, 9, START), ATTESTED_SESSION_NONE);
    assert_ok(attested_sessions_put(all, &more, START + 20, &err));
    assert_int_equal(attested_sessions_count(all), 2);
    assert_int_equal(find(all, 3, START + 20), ATTESTED_SESSION_GOOD);
    assert_int_equal(find(all, 9, START + 20), ATTESTED_SESSION_GOOD);
}

static void *use(void *cookie)
{
    struct attested_sessions *all = cookie;

    for (unsigned i = 0; i < 2000; i++) {
        struct attested_session a = session((uint8_t)(i % 7), START + 1 + i % 5);
        struct attested_session found;
        struct error err = ERROR_INIT;

        (void)!attested_sessions_put(all, &a, START + i % 5, &err);
        if (attested_sessions_find(all, a.client_key_sha256, START + i % 3, &found) ==
            ATTESTED_SESSION_GOOD)
            assert_int_equal(found.tee.td.mrtd[0], found.client_key_sha256[0]);
    }
    return NULL;
}

static void many_threads_see_whole_sessions(void **state UNUSED)
{
    auto_attested_sessions struct attested_sessions *all = fresh(5);
    pthread_t threads[4];

    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use, all), 0);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_true(attested_sessions_count(all) <= 5);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_has_its_own_session),
        cmocka_unit_test(a_session_ends_at_its_time),
        cmocka_unit_test(a_clock_set_back_ends_it_too),
        cmocka_unit_test(a_clock_set_back_within_it_does_not_make_it_last),
        cmocka_unit_test(the_same_key_again_replaces_it),
        cmocka_unit_test(a_full_table_refuses_and_makes_room_from_what_expired),
        cmocka_unit_test(many_threads_see_whole_sessions),
    };

    return RUN_TESTS(tests);
}
