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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_signed_has_label_nonce_and_hash),
    };

    return RUN_TESTS(tests);
}
