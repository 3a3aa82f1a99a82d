/* SPDX-License-Identifier: Apache-2.0 */
#include "record/proof.h"
#include "tests/unit/record/sample.h"
#include "tests/unit/test.h"

#include <stdio.h>

static struct error err;
static struct secret secret;

static int setup(void **state UNUSED)
{
    if (!secret_alloc(&secret, VOLUME_SECRET_LEN, &err))
        return -1;
    secret.bytes[0] = 1;
    return 0;
}

static int teardown(void **state UNUSED)
{
    secret_wipe(&secret);
    return 0;
}

static void a_front_may_say_little_alone(void **state UNUSED)
{
    static const struct {
        struct record_change change;
        enum proof_kind needed;
    } rows[] = {
        { { .kind = RECORD_CHANGE_READY }, PROOF_SECRET },
        { { .kind = RECORD_CHANGE_OPENED }, PROOF_SECRET },
        { { .kind = RECORD_CHANGE_CLOSED }, PROOF_NONE },
        { { .kind = RECORD_CHANGE_CLOSED, .is_closed = true }, PROOF_CLOSE },
        { { .kind = RECORD_CHANGE_CLOSED, .has_clean_hash = true }, PROOF_CLOSE },
        { { .kind = RECORD_CHANGE_GROWN }, PROOF_NONE },
        { { .kind = RECORD_CHANGE_NEXT_HEADER }, PROOF_SECRET },
        { { .kind = RECORD_CHANGE_ROTATED }, PROOF_SECRET },
        { { .kind = 0 }, PROOF_SECRET },
        { { .kind = RECORD_CHANGE_KIND_COUNT }, PROOF_SECRET },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(proof_needed(NULL, &rows[i].change), rows[i].needed);
}

static void a_format_that_others_may_repeat_is_given_up_by_its_worker(void **state UNUSED)
{
    static const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED };
    struct record r = sample_record();

    for (int phase = RECORD_NEW; phase <= RECORD_ERASED; phase++) {
        r.phase = (enum record_phase)phase;
        (void)snprintf(r.spec.location, sizeof(r.spec.location), "node-1");
        assert_int_equal(proof_needed(&r, &closed), PROOF_NONE);
        r.spec.location[0] = '\0';
        assert_int_equal(proof_needed(&r, &closed),
                         phase == RECORD_FORMATTING ? PROOF_SECRET : PROOF_NONE);
    }
}

static void prove(const struct record *r, uint64_t version, const struct record_change *change,
                  uint8_t out[static PROOF_LEN])
{
    assert_ok(proof_by_secret(&secret, r, version, change, out, &err));
}

static void a_proof_is_for_one_record_version_and_change(void **state UNUSED)
{
    struct record r = sample_record();
    struct record_change change = { .kind = RECORD_CHANGE_OPENED, .open_counter = 7 };
    uint8_t all[6][PROOF_LEN];

    prove(&r, 3, &change, all[0]);
    prove(&r, 4, &change, all[1]);
    change.open_counter = 8;
    prove(&r, 3, &change, all[2]);
    change = (struct record_change){ .kind = RECORD_CHANGE_READY, .attempt = 7 };
    prove(&r, 3, &change, all[3]);
    r.id[15] ^= 1;
    prove(&r, 3, &change, all[4]);
    secret.bytes[31] ^= 1;
    prove(&r, 3, &change, all[5]);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(all[i], all[k], PROOF_LEN);
}

static void a_close_key_is_for_one_opening(void **state UNUSED)
{
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    struct record_change clean = closed;
    struct record r = sample_record();
    uint8_t keys[4][CLOSE_KEY_LEN], proofs[2][PROOF_LEN], by_secret[PROOF_LEN];

    assert_ok(close_key_derive(&secret, &r, keys[0], &err));
    r.open_counter++;
    assert_ok(close_key_derive(&secret, &r, keys[1], &err));
    r.id[0] ^= 1;
    assert_ok(close_key_derive(&secret, &r, keys[2], &err));
    secret.bytes[31] ^= 1;
    assert_ok(close_key_derive(&secret, &r, keys[3], &err));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(keys[i], keys[k], CLOSE_KEY_LEN);
    clean.has_clean_hash = true;
    assert_ok(proof_by_close_key(keys[0], &closed, proofs[0], &err));
    assert_ok(proof_by_close_key(keys[0], &clean, proofs[1], &err));
    assert_memory_not_equal(proofs[0], proofs[1], PROOF_LEN);
    prove(&r, 3, &closed, by_secret);
    assert_memory_not_equal(proofs[0], by_secret, PROOF_LEN);
}

/* Another implementation of the documented steps gave this: HKDF and HMAC of Python's hmac module,
 * over a secret of 32 bytes 01, record id of 16 bytes 02, version 5, CLOSED with is_closed. */
static void values_are_those_of_another_implementation(void **state UNUSED)
{
    static const char close_hex[] =
        "9f2280f9d76e4c16df3262a2b1d650bc01233f959ca0d3b86018ab522b9a370a";
    static const char change_hex[] =
        "5c9a1f1d46adbba0d0033540a61cf3c129691def15e79754062693f78e1fa088";
    const struct record_change closed = { .kind = RECORD_CHANGE_CLOSED, .is_closed = true };
    const struct record_change opened = { .kind = RECORD_CHANGE_OPENED, .open_counter = 6 };
    struct record r = { .open_counter = 6 };
    uint8_t key[CLOSE_KEY_LEN], proof[PROOF_LEN], wanted[PROOF_LEN];

    for (size_t i = 0; i < secret.len; i++)
        secret.bytes[i] = 1;
    for (size_t i = 0; i < sizeof(r.id); i++)
        r.id[i] = 2;
    assert_ok(close_key_derive(&secret, &r, key, &err));
    assert_ok(proof_by_close_key(key, &closed, proof, &err));
    assert_true(hex_decode(close_hex, wanted, sizeof(wanted)));
    assert_memory_equal(proof, wanted, sizeof(wanted));
    prove(&r, 5, &opened, proof);
    assert_true(hex_decode(change_hex, wanted, sizeof(wanted)));
    assert_memory_equal(proof, wanted, sizeof(wanted));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    static const struct CMUnitTest tests[] = {
        CASE(a_front_may_say_little_alone),
        CASE(a_format_that_others_may_repeat_is_given_up_by_its_worker),
        CASE(a_proof_is_for_one_record_version_and_change),
        CASE(a_close_key_is_for_one_opening),
        CASE(values_are_those_of_another_implementation),
    };

    return RUN_TESTS(tests);
}
