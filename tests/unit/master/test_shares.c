/* SPDX-License-Identifier: Apache-2.0 */
#include "master/shares.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <string.h>

static struct error err;

static struct secret random_key(void)
{
    struct secret key = SECRET_INIT;

    assert_ok(secret_random(&key, MASTER_KEY_LEN, &err));
    return key;
}

static struct secret text_of(const char *text)
{
    struct secret out = SECRET_INIT;

    assert_ok(secret_alloc(&out, strlen(text) + 1, &err));
    memcpy(out.bytes, text, strlen(text));
    return out;
}

static void wipe_all(struct secret *texts)
{
    for (unsigned i = 0; i < SHARES_MAX; i++)
        secret_wipe(&texts[i]);
}

/* The shares with these numbers, from 1. */
static bool combine(struct secret *texts, const unsigned *numbers, unsigned n, struct secret *out)
{
    struct share shares[SHARES_MAX] = { SHARE_INIT };

    for (unsigned i = 0; i < n; i++)
        assert_ok(share_parse(&texts[numbers[i] - 1], &shares[i], &err));
    bool ok = shares_combine(shares, n, out, &err);
    for (unsigned i = 0; i < n; i++)
        share_wipe(&shares[i]);
    return ok;
}

static void any_k_shares_give_the_key_back(void **state UNUSED)
{
    static const unsigned sizes[][2] = { { 1, 1 }, { 1, 3 }, { 2, 3 }, { 3, 5 }, { 5, 5 } };

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        auto_secret struct secret key = random_key();
        struct secret texts[SHARES_MAX] = { SECRET_INIT };
        unsigned k = sizes[i][0], n = sizes[i][1];

        assert_ok(shares_split(&key, k, n, texts, &err));
        for (unsigned subset = 1; subset < 1u << n; subset++) {
            auto_secret struct secret found = SECRET_INIT;
            unsigned numbers[SHARES_MAX], count = 0;

            for (unsigned bit = 0; bit < n; bit++)
                if (subset & 1u << bit)
                    numbers[count++] = bit + 1;
            if (count != k)
                continue;
            assert_ok(combine(texts, numbers, k, &found));
            assert_memory_equal(found.bytes, key.bytes, MASTER_KEY_LEN);
        }
        wipe_all(texts);
    }
}

static void largest_split_works_in_any_order(void **state UNUSED)
{
    auto_secret struct secret key = random_key(), found = SECRET_INIT;
    struct secret texts[SHARES_MAX] = { SECRET_INIT };
    unsigned numbers[SHARES_MAX];

    assert_ok(shares_split(&key, SHARES_MAX, SHARES_MAX, texts, &err));
    for (unsigned i = 0; i < SHARES_MAX; i++)
        numbers[i] = SHARES_MAX - i;
    assert_ok(combine(texts, numbers, SHARES_MAX, &found));
    assert_memory_equal(found.bytes, key.bytes, MASTER_KEY_LEN);
    wipe_all(texts);
}

/* Made by hand: f(x) = key + c * x over GF(2^8), of which 0x53 * 0xca = 1 is FIPS 197's example. */
static void known_shares_give_the_known_key(void **state UNUSED)
{
    auto_secret struct secret key = SECRET_INIT;
    struct secret texts[SHARES_MAX] = { SECRET_INIT };
    struct share one = SHARE_INIT, two = SHARE_INIT;

    assert_ok(secret_alloc(&key, MASTER_KEY_LEN, &err));
    for (size_t i = 0; i < MASTER_KEY_LEN; i++)
        key.bytes[i] = (uint8_t)i;
    assert_ok(shares_split(&key, 2, 2, texts, &err));
    assert_ok(share_parse(&texts[0], &one, &err));
    assert_ok(share_parse(&texts[1], &two, &err));
    for (size_t i = 0; i < MASTER_KEY_LEN; i++) {
        uint8_t c = one.value.bytes[i] ^ key.bytes[i]; /* f(1) = key + c */
        uint8_t twice = (uint8_t)(c << 1) ^ (c & 0x80 ? 0x1b : 0);

        assert_int_equal(two.value.bytes[i], key.bytes[i] ^ twice);
    }
    share_wipe(&one);
    share_wipe(&two);
    wipe_all(texts);
}

static void fewer_shares_say_nothing(void **state UNUSED)
{
    auto_secret struct secret key = random_key();
    struct secret first[SHARES_MAX] = { SECRET_INIT }, second[SHARES_MAX] = { SECRET_INIT };

    assert_ok(shares_split(&key, 2, 3, first, &err));
    assert_ok(shares_split(&key, 2, 3, second, &err));
    for (unsigned i = 0; i < 3; i++) { /* new coefficients each time */
        assert_string_not_equal((char *)first[i].bytes, (char *)second[i].bytes);
        assert_memory_equal(first[i].bytes, second[i].bytes,
                            strlen("tdvol-share-1:0123456789abcdef"));
    }
    wipe_all(first);
    wipe_all(second);
}

static void impossible_splits_are_refused(void **state UNUSED)
{
    static const unsigned sizes[][2] = { { 0, 1 }, { 2, 1 }, { 1, SHARES_MAX + 1 }, { 0, 0 } };
    auto_secret struct secret key = random_key();
    struct secret texts[SHARES_MAX + 1] = { SECRET_INIT };

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       shares_split(&key, sizes[i][0], sizes[i][1], texts, &err));
}

static void each_changed_character_is_noticed(void **state UNUSED)
{
    auto_secret struct secret key = random_key();
    struct secret texts[SHARES_MAX] = { SECRET_INIT };

    assert_ok(shares_split(&key, 2, 2, texts, &err));
    char *text = (char *)texts[0].bytes;
    for (size_t i = 0; i < strlen(text); i++) {
        auto_share struct share share = SHARE_INIT;
        char kept = text[i];

        text[i] = kept == '7' ? '8' : '7';
        assert_refused(ERROR_INVALID_ARGUMENT, share_parse(&texts[0], &share, &err));
        text[i] = kept;
    }
    wipe_all(texts);
}

static void white_space_around_a_share_is_left_out(void **state UNUSED)
{
    auto_secret struct secret key = random_key();
    struct secret texts[SHARES_MAX] = { SECRET_INIT };
    auto_share struct share share = SHARE_INIT;
    char line[SHARE_TEXT_MAX + 8];

    assert_ok(shares_split(&key, 1, 1, texts, &err));
    (void)snprintf(line, sizeof(line), " \t%s\r\n", (char *)texts[0].bytes);
    auto_secret struct secret text = text_of(line);
    assert_ok(share_parse(&text, &share, &err));
    assert_memory_equal(share.value.bytes, key.bytes, MASTER_KEY_LEN); /* of one, it is the key */
    wipe_all(texts);
}

static void what_is_no_share_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        " ",
        ":",
        ":::::",
        "tdvol-share-1",
        "tdvol-share-1:::::",
        "0123456789012345678901234567890123456789012345678901234567890123",
    };

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        auto_secret struct secret text = text_of(bad[i]);
        auto_share struct share share = SHARE_INIT;

        assert_refused(ERROR_INVALID_ARGUMENT, share_parse(&text, &share, &err));
        assert_null(share.value.bytes);
    }
    auto_secret struct secret huge = SECRET_INIT;
    auto_share struct share share = SHARE_INIT;
    assert_ok(secret_alloc(&huge, 100000, &err));
    for (size_t i = 0; i < huge.len; i++)
        huge.bytes[i] = ':';
    assert_refused(ERROR_INVALID_ARGUMENT, share_parse(&huge, &share, &err));
}

static void wrong_company_is_noticed(void **state UNUSED)
{
    auto_secret struct secret key = random_key(), other = random_key(), found = SECRET_INIT;
    struct secret texts[SHARES_MAX] = { SECRET_INIT }, others[SHARES_MAX] = { SECRET_INIT };
    struct share shares[3] = { SHARE_INIT };

    assert_ok(shares_split(&key, 2, 3, texts, &err));
    assert_ok(shares_split(&other, 2, 3, others, &err));
    assert_false(combine(texts, (unsigned[]){ 1, 1 }, 2, &found));
    assert_contains(err.text, "number 1 was given twice");
    assert_false(combine(texts, (unsigned[]){ 1 }, 1, &found));
    assert_false(combine(texts, (unsigned[]){ 1, 2, 3 }, 3, &found));
    assert_refused(ERROR_INVALID_ARGUMENT, shares_combine(shares, 0, &found, &err));
    assert_ok(share_parse(&texts[0], &shares[0], &err));
    assert_ok(share_parse(&others[1], &shares[1], &err));
    assert_refused(ERROR_INVALID_ARGUMENT, shares_combine(shares, 2, &found, &err));
    memcpy(shares[1].set, shares[0].set, SHARE_SET_LEN); /* as a liar would make it */
    assert_refused(ERROR_INVALID_ARGUMENT, shares_combine(shares, 2, &found, &err));
    assert_contains(err.text, "another key than was split");
    assert_null(found.bytes);
    share_wipe(&shares[0]);
    share_wipe(&shares[1]);
    wipe_all(texts);
    wipe_all(others);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_k_shares_give_the_key_back),
        cmocka_unit_test(largest_split_works_in_any_order),
        cmocka_unit_test(known_shares_give_the_known_key),
        cmocka_unit_test(fewer_shares_say_nothing),
        cmocka_unit_test(impossible_splits_are_refused),
        cmocka_unit_test(each_changed_character_is_noticed),
        cmocka_unit_test(white_space_around_a_share_is_left_out),
        cmocka_unit_test(what_is_no_share_is_refused),
        cmocka_unit_test(wrong_company_is_noticed),
    };

    return RUN_TESTS(tests);
}
