/* SPDX-License-Identifier: Apache-2.0 */
#include "record/answer.h"
#include "tests/unit/test.h"

static void fill(uint8_t *bytes, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = value;
}

/* The layout is that of proto/keybroker.proto; other implementations depend on it. */
static void the_layout_is_the_documented_one(void **state UNUSED)
{
    static struct answer_bytes out;
    struct answer_question question = { .kind = ANSWER_OPEN_READ_ONLY };
    struct sealed_secret secret;
    size_t at = 0;

    fill(question.nonce, sizeof(question.nonce), 0xaa);
    fill(question.subject, sizeof(question.subject), 0xbb);
    fill(secret.bytes, sizeof(secret.bytes), 0xcc);
    answer_encode(&question, "record", 6, &secret, &out);
    assert_int_equal(out.len, 32 + 4 + 32 + 32 + 4 + 4 + 6 + SEALED_SECRET_LEN);
    assert_memory_equal(out.bytes, "tdvol v1 answer to a worker\0\0\0\0", 32);
    at += 32;
    assert_memory_equal(out.bytes + at, "\0\0\0\3", 4);
    at += 4;
    assert_memory_equal(out.bytes + at, question.nonce, 32);
    at += 32;
    assert_memory_equal(out.bytes + at, question.subject, 32);
    at += 32;
    assert_memory_equal(out.bytes + at, "\0\0\0\6\0\0\0", 7);
    assert_int_equal(out.bytes[at + 7], SEALED_SECRET_LEN);
    at += 8;
    assert_memory_equal(out.bytes + at, "record", 6);
    assert_memory_equal(out.bytes + at + 6, secret.bytes, SEALED_SECRET_LEN);
}

static void every_part_makes_other_bytes(void **state UNUSED)
{
    static struct answer_bytes all[7];
    struct answer_question question = { .kind = ANSWER_OPEN };
    struct sealed_secret secret = { .bytes = { 1 } };

    answer_encode(&question, "ab", 2, &secret, &all[0]);
    question.kind = ANSWER_OPEN_READ_ONLY;
    answer_encode(&question, "ab", 2, &secret, &all[1]);
    question.nonce[31] = 1;
    answer_encode(&question, "ab", 2, &secret, &all[2]);
    question.subject[31] = 1;
    answer_encode(&question, "ab", 2, &secret, &all[3]);
    answer_encode(&question, "a", 1, &secret, &all[4]);
    secret.bytes[SEALED_SECRET_LEN - 1] = 1;
    answer_encode(&question, "ab", 2, &secret, &all[5]);
    answer_encode(&question, "ab", 2, NULL, &all[6]);
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        for (size_t k = 0; k < i; k++)
            assert_false(all[i].len == all[k].len &&
                         memcmp(all[i].bytes, all[k].bytes, all[i].len) == 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_is_the_documented_one),
        cmocka_unit_test(every_part_makes_other_bytes),
    };

    return RUN_TESTS(tests);
}
