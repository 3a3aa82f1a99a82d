/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/challenge.h"
#include "tests/unit/test.h"

#include <pthread.h>
#include <stdatomic.h>

static uint64_t time_ms;

static uint64_t now_ms(void)
{
    return time_ms;
}

static const uint8_t alice[CHALLENGE_KEY_LEN] = { 1 }, bob[CHALLENGE_KEY_LEN] = { 2 };

static struct challenges *fresh(size_t used_max)
{
    struct challenges *c = NULL;
    struct error err = ERROR_INIT;

    time_ms = 1000000;
    assert_ok(challenges_new(used_max, now_ms, &c, &err));
    return c;
}

static void make(struct challenges *c, uint8_t *nonce)
{
    struct error err = ERROR_INIT;

    assert_ok(challenge_make(c, alice, nonce, &err));
}

#define assert_reason(word, call)                    \
    do {                                             \
        assert_refused(ERROR_UNAUTHENTICATED, call); \
        assert_string_equal(err.reason, word);       \
    } while (0)

static void a_nonce_is_good_once(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8);
    uint8_t one[CHALLENGE_LEN], two[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    make(c, one);
    make(c, two);
    assert_memory_not_equal(one, two, sizeof(one));
    assert_true(challenge_is_open(c, alice, one));
    assert_false(challenge_is_open(c, bob, one));
    assert_ok(challenge_use(c, alice, one, &err));
    assert_false(challenge_is_open(c, alice, one));
    assert_reason("NonceUsed", challenge_use(c, alice, one, &err));
    assert_ok(challenge_use(c, alice, two, &err));
}

static void a_nonce_of_another_key_or_process_is_unknown(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8), *other = fresh(8);
    uint8_t nonce[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    make(c, nonce);
    assert_reason("NonceUnknown", challenge_use(c, bob, nonce, &err));
    assert_reason("NonceUnknown", challenge_use(other, alice, nonce, &err));
    assert_ok(challenge_use(c, alice, nonce, &err)); /* the refused calls did not use it up */
}

static void each_changed_bit_makes_it_unknown(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8);
    uint8_t nonce[CHALLENGE_LEN], zeros[CHALLENGE_LEN] = { 0 };
    struct error err = ERROR_INIT;

    make(c, nonce);
    for (size_t i = 0; i < 8 * CHALLENGE_LEN; i++) {
        nonce[i / 8] ^= (uint8_t)(1u << i % 8);
        assert_reason("NonceUnknown", challenge_use(c, alice, nonce, &err));
        nonce[i / 8] ^= (uint8_t)(1u << i % 8);
    }
    assert_reason("NonceUnknown", challenge_use(c, alice, zeros, &err));
    assert_ok(challenge_use(c, alice, nonce, &err));
}

static void it_expires_after_its_time_and_not_before(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8);
    uint8_t one[CHALLENGE_LEN], two[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    make(c, one);
    make(c, two);
    time_ms += CHALLENGE_MS - 1;
    assert_ok(challenge_use(c, alice, one, &err));
    time_ms++;
    assert_false(challenge_is_open(c, alice, two));
    assert_reason("NonceExpired", challenge_use(c, alice, two, &err));
    assert_reason("NonceExpired", challenge_use(c, alice, one, &err));
}

static void one_from_the_future_is_not_good(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8);
    uint8_t nonce[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    make(c, nonce);
    time_ms--;
    assert_reason("NonceExpired", challenge_use(c, alice, nonce, &err));
}

static void a_clock_that_was_set_back_makes_none_good_again(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(8);
    uint8_t nonce[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    make(c, nonce);
    time_ms += 1000;
    assert_ok(challenge_use(c, alice, nonce, &err));
    time_ms -= 500;
    assert_reason("NonceUsed", challenge_use(c, alice, nonce, &err));
}

/* A used nonce is remembered until it expires. A full memory refuses, and never forgets a nonce
 * early. */
static void a_full_memory_refuses_until_the_oldest_is_out_of_date(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(4);
    uint8_t used[4][CHALLENGE_LEN], more[CHALLENGE_LEN], again[CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 4; i++) {
        make(c, used[i]);
        assert_ok(challenge_use(c, alice, used[i], &err));
        time_ms += 10;
    }
    time_ms += CHALLENGE_MS - 41; /* 1 ms before the first one expires */
    make(c, more);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, challenge_use(c, alice, more, &err));
    for (size_t i = 0; i < 4; i++)
        assert_reason("NonceUsed", challenge_use(c, alice, used[i], &err));
    time_ms++;
    assert_ok(challenge_use(c, alice, more, &err));
    make(c, again);
    assert_refused(ERROR_RESOURCE_EXHAUSTED, challenge_use(c, alice, again, &err));
    for (size_t i = 1; i < 4; i++)
        assert_reason("NonceUsed", challenge_use(c, alice, used[i], &err));
}

static void many_rounds_forget_what_is_old_and_nothing_else(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(64);
    uint8_t nonces[64][CHALLENGE_LEN];
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 2000; i++) {
        uint8_t *nonce = nonces[i % 64];

        make(c, nonce);
        assert_ok(challenge_use(c, alice, nonce, &err));
        for (size_t k = i > 50 ? i - 50 : 0; k <= i; k++)
            assert_reason("NonceUsed", challenge_use(c, alice, nonces[k % 64], &err));
        time_ms += CHALLENGE_MS / 63;
    }
}

struct race {
    struct challenges *challenges;
    const uint8_t *nonce;
    atomic_uint winners;
    pthread_barrier_t start;
};

static void *run(void *cookie)
{
    struct race *race = cookie;
    struct error err = ERROR_INIT;

    (void)pthread_barrier_wait(&race->start);
    if (challenge_use(race->challenges, alice, race->nonce, &err))
        atomic_fetch_add(&race->winners, 1);
    return NULL;
}

static void of_many_tries_at_once_one_wins(void **state UNUSED)
{
    auto_challenges struct challenges *c = fresh(64);
    uint8_t nonce[CHALLENGE_LEN];
    pthread_t threads[8];

    for (size_t round = 0; round < 50; round++) {
        struct race race = { .challenges = c, .nonce = nonce };

        make(c, nonce);
        pthread_barrier_init(&race.start, NULL, ARRAY_LEN(threads));
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
            assert_int_equal(pthread_create(&threads[i], NULL, run, &race), 0);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
            pthread_join(threads[i], NULL);
        pthread_barrier_destroy(&race.start);
        assert_int_equal(atomic_load(&race.winners), 1);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nonce_is_good_once),
        cmocka_unit_test(a_nonce_of_another_key_or_process_is_unknown),
        cmocka_unit_test(each_changed_bit_makes_it_unknown),
        cmocka_unit_test(it_expires_after_its_time_and_not_before),
        cmocka_unit_test(one_from_the_future_is_not_good),
        cmocka_unit_test(a_clock_that_was_set_back_makes_none_good_again),
        cmocka_unit_test(a_full_memory_refuses_until_the_oldest_is_out_of_date),
        cmocka_unit_test(many_rounds_forget_what_is_old_and_nothing_else),
        cmocka_unit_test(of_many_tries_at_once_one_wins),
    };

    return RUN_TESTS(tests);
}
