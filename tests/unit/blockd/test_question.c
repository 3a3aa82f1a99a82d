/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/blockd/lying_front.h"
#include "tests/unit/test.h"

#include <stdlib.h>
#include <time.h>

/* What a worker accepts from the front: only what the broker signed for its question. */

#define CONVERSATIONS 10000

static struct error err;
static struct deeds deeds;

static void run_script(enum block_operation operation, bool is_ready, struct front_script script)
{
    static const uint8_t choices[64] = { 0 };

    script.bytes = choices;
    script.len = sizeof(choices);
    lying_front_run(operation, is_ready, false, &script, &deeds, &err);
}

/* The front tells these lies, one for each question. */
static void run(enum block_operation operation, bool is_ready, const enum lie *lies, size_t n)
{
    run_script(operation, is_ready, (struct front_script){ .lies = lies, .n_lies = n });
}

static void an_honest_conversation_gets_everything(void **state UNUSED)
{
    run(BLOCK_STAGE, false, NULL, 0);
    assert_int_equal(err.code, ERROR_NONE);
    assert_true(deeds.opened && deeds.formatted);
    assert_int_equal(deeds.changes, 4);
    run(BLOCK_STAGE, true, NULL, 0);
    assert_int_equal(err.code, ERROR_NONE);
    assert_true(deeds.opened && !deeds.formatted);
    run(BLOCK_EXPAND, true, NULL, 0);
    assert_true(deeds.grown);
    run(BLOCK_UNSTAGE, true, NULL, 0);
    assert_int_equal(deeds.changes, 1);
}

static void no_lie_about_an_opening_is_accepted(void **state UNUSED)
{
    static const struct {
        enum lie lie;
        enum error_code code;
    } rows[] = {
        { LIE_REPLAY, ERROR_DENIED },
        { LIE_OTHER_QUESTION, ERROR_DENIED },
        { LIE_OTHER_NONCE, ERROR_DENIED },
        { LIE_OTHER_VOLUME, ERROR_INTERNAL },
        { LIE_OTHER_BOOT, ERROR_FAILED_PRECONDITION },
        { LIE_OTHER_KEY, ERROR_DENIED },
        { LIE_OTHER_SECRET, ERROR_DENIED },
        { LIE_OWN_SIGNATURE, ERROR_DENIED },
        { LIE_MIXED, ERROR_DENIED },
        { LIE_UNSIGNED, ERROR_DENIED },
        { LIE_FORGED_RECORD, ERROR_DENIED },
        { LIE_CLOSED, ERROR_CANCELLED },
        { LIE_SHORT, ERROR_INVALID_ARGUMENT },
    };

    run(BLOCK_STAGE, true, NULL, 0); /* something to replay */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        run(BLOCK_STAGE, true, &rows[i].lie, 1);
        if (err.code != rows[i].code)
            fail_msg("lie %d: %s: %s", (int)rows[i].lie, error_code_name(err.code), err.text);
        assert_false(deeds.opened || deeds.formatted || deeds.changes > 0);
    }
}

static void no_lie_about_a_change_is_accepted(void **state UNUSED)
{
    static const enum lie lies[] = { LIE_REPLAY,        LIE_OTHER_QUESTION, LIE_OTHER_NONCE,
                                     LIE_OTHER_VOLUME,  LIE_OWN_SIGNATURE,  LIE_MIXED,
                                     LIE_FORGED_RECORD, LIE_UNSIGNED };

    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        const enum lie script[] = { LIE_NONE, lies[i] };

        run(BLOCK_STAGE, false, script, 2);
        assert_int_not_equal(err.code, ERROR_NONE);
        assert_true(deeds.opened);
        assert_int_equal(deeds.changes, 0);
        run(BLOCK_EXPAND, true, &lies[i], 1);
        assert_false(deeds.grown);
        run(BLOCK_UNSTAGE, true, &lies[i], 1);
        assert_int_equal(deeds.changes, 0);
    }
}

/* Whoever makes a worker believe in a lease that is over has two nodes write at once. */
static void no_lie_about_a_lease_is_accepted(void **state UNUSED)
{
    static const enum lie lies[] = { LIE_REPLAY,        LIE_OTHER_QUESTION, LIE_OTHER_NONCE,
                                     LIE_OTHER_VOLUME,  LIE_OWN_SIGNATURE,  LIE_MIXED,
                                     LIE_FORGED_RECORD, LIE_UNSIGNED,       LIE_REFUSE };

    run(BLOCK_RENEW, true, NULL, 0);
    assert_int_equal(err.code, ERROR_NONE);
    assert_true(deeds.renewed && deeds.opened);
    run_script(BLOCK_RENEW, true, (struct front_script){ .contested = true });
    assert_true(deeds.renewed && deeds.opened);
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        run(BLOCK_RENEW, true, &lies[i], 1);
        assert_int_not_equal(err.code, ERROR_NONE);
        assert_false(deeds.renewed || deeds.opened);
    }
    run(BLOCK_RENEW, false, NULL, 0); /* nobody has it open */
    assert_false(deeds.renewed || deeds.opened);
}

static void an_answer_too_many_is_no_answer_to_the_next_question(void **state UNUSED)
{
    static const enum lie twice[] = { LIE_TWICE };

    run(BLOCK_STAGE, false, twice, 1);
    assert_int_equal(err.code, ERROR_DENIED);
    assert_true(deeds.opened);
    assert_int_equal(deeds.changes, 0);
}

/* The broker signs it, because a front may grow a volume. But this worker has built on another size. */
static void a_record_that_grew_meanwhile_is_refused(void **state UNUSED)
{
    static const enum lie grown[] = { LIE_NONE, LIE_NONE, LIE_NONE, LIE_GROWN };

    run(BLOCK_STAGE, true, grown, 4);
    assert_int_equal(err.code, ERROR_INTERNAL);
    assert_contains(err.text, "spec");
    run(BLOCK_STAGE, true, grown + 2, 2); /* the proof of OPENED is for the version before */
    assert_int_equal(err.code, ERROR_ABORTED);
}

/* Any node can format this volume next. So only the worker can say that it does no longer. */
static void only_the_worker_gives_its_format_up(void **state UNUSED)
{
    static const enum lie lies[] = { LIE_NONE, LIE_GIVES_UP, LIE_GIVES_UP };
    const struct front_script fails = { .lies = lies, .n_lies = 1, .format_fails = true };
    const struct front_script bent = { .lies = lies, .n_lies = 2, .format_fails = true };

    run_script(BLOCK_STAGE, false, fails);
    assert_int_equal(err.code, ERROR_NONE);
    assert_true(deeds.gave_up);
    run(BLOCK_STAGE, false, lies, 3); /* the front is refused, and the worker goes on */
    assert_true(deeds.formatted);
    assert_true(deeds.changes > 0);
    run_script(BLOCK_STAGE, false, bent);
    assert_true(deeds.gave_up);
}

/* The broker gave 2.1 s, of which 2 s are kept free. */
static void an_answer_held_back_takes_from_the_time_to_format(void **state UNUSED)
{
    static const enum lie late[] = { LIE_LATE };

    run(BLOCK_STAGE, false, late, 1);
    assert_int_equal(err.code, ERROR_ABORTED);
    assert_false(deeds.opened || deeds.formatted);
}

/* xorshift64* (Vigna 2016): the same seed gives the same lies. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1d;
}

static void ten_thousand_conversations_get_nothing_that_was_not_signed(void **state UNUSED)
{
    static const enum block_operation operations[] = { BLOCK_STAGE, BLOCK_STAGE, BLOCK_UNSTAGE,
                                                       BLOCK_EXPAND };
    const char *wanted = getenv("TDVOL_SEED"), *count = getenv("TDVOL_CONVERSATIONS");
    uint64_t seed = (uint64_t)time(NULL), n = CONVERSATIONS;
    uint8_t bytes[64];
    const struct front_script script = { .bytes = bytes, .len = sizeof(bytes) };

    assert_true((!wanted || parse_u64(wanted, &seed)) && (!count || parse_u64(count, &n)));
    print_message("# TDVOL_SEED=%llu\n", (unsigned long long)seed);
    seed = seed * 2 + 1;
    for (uint64_t i = 0; i < n; i++) {
        for (size_t k = 0; k < sizeof(bytes); k++)
            bytes[k] = (uint8_t)(next_random(&seed) >> 32);
        uint64_t how = next_random(&seed) >> 32;

        lying_front_run(operations[how % 4], how & 16, (how & 96) == 0, &script, &deeds, &err);
    }
    print_message("# accepted %zu answers, refused in %zu conversations\n", lying_front_accepted,
                  lying_front_refused);
    assert_true(lying_front_accepted > n / 4 && lying_front_refused > n / 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_honest_conversation_gets_everything),
        cmocka_unit_test(no_lie_about_an_opening_is_accepted),
        cmocka_unit_test(no_lie_about_a_change_is_accepted),
        cmocka_unit_test(no_lie_about_a_lease_is_accepted),
        cmocka_unit_test(an_answer_too_many_is_no_answer_to_the_next_question),
        cmocka_unit_test(a_record_that_grew_meanwhile_is_refused),
        cmocka_unit_test(only_the_worker_gives_its_format_up),
        cmocka_unit_test(an_answer_held_back_takes_from_the_time_to_format),
        cmocka_unit_test(ten_thousand_conversations_get_nothing_that_was_not_signed),
    };

    return RUN_TESTS(tests);
}
