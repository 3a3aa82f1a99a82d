/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/statement.h"
#include "tests/unit/test.h"

/* Computed with Python's hashlib. */
static void what_is_signed_has_label_nonce_and_hash(void **state)
{
    (void)state;
    static const uint8_t nonce[STATEMENT_NONCE_LEN] = { 1, [31] = 2 };
    uint8_t out[STATEMENT_SIGNED_LEN];
    char text[2 * STATEMENT_SIGNED_LEN + 1];
    struct error err = ERROR_INIT;

    assert_ok(statement_signed(nonce, "abc", 3, out, &err));
    hex_encode(out, sizeof(out), text);
    assert_string_equal(text, "7464766f6c2076312073746174656d656e740000000000000000000000000000"
                              "0100000000000000000000000000000000000000000000000000000000000002"
                              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void a_quote_is_over_label_nonce_and_key(void **state)
{
    (void)state;
    static const uint8_t nonce[STATEMENT_NONCE_LEN] = { 1, [31] = 2 }, key[SHA256_LEN] = { 3 };
    uint8_t out[SHA512_LEN];
    char text[2 * SHA512_LEN + 1];
    struct error err = ERROR_INIT;

    assert_ok(statement_report_data(nonce, key, out, &err));
    hex_encode(out, sizeof(out), text);
    assert_string_equal(text, "ccc4371d0adfd604ea1fd04bc4614ed7993cb122b171217236313afefc87d6ac"
                              "dea9842e216b94091e9171a58152e3dbb7c0aa8ee73952c579d0781d60bc7143");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_signed_has_label_nonce_and_hash),
        cmocka_unit_test(a_quote_is_over_label_nonce_and_key),
    };

    return RUN_TESTS(tests);
}
