/* SPDX-License-Identifier: Apache-2.0 */
#include "record/sealing.h"
#include "tests/unit/base/secret_equal.h"
#include "tests/unit/test.h"

/* info and aad are built from proto/keybroker.proto here, as another implementation would do it. */
static void a_released_secret_opens_for_its_record_alone(void **state)
{
    static const char info[] = "tdvol v1 volume secret";
    auto_hpke_key_pair struct hpke_key_pair node = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    auto_secret struct secret out = SECRET_INIT;
    struct record r = { .id = { 5, 6 }, .key = { .id = { 7, 8 }, .generation = 0x01020304 } };
    struct sealed_secret sealed;
    uint8_t aad[36];
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&node, false, &err));
    assert_ok(secret_random(&plain, VOLUME_SECRET_LEN, &err));
    assert_ok(secret_seal(&r, &plain, node.public_key, &sealed, &err));
    memcpy(aad, r.id, 16);
    memcpy(aad + 16, r.key.id, 16);
    memcpy(aad + 32, (const uint8_t[]){ 1, 2, 3, 4 }, 4);
    assert_ok(hpke_open(&node, info, sizeof(info) - 1, aad, sizeof(aad), sealed.bytes,
                        sizeof(sealed.bytes), &out, &err));
    assert_true(secret_is_equal(&plain, &out));
    secret_wipe(&out);
    aad[0] ^= 1; /* another record */
    assert_refused(ERROR_DENIED, hpke_open(&node, info, sizeof(info) - 1, aad, sizeof(aad),
                                           sealed.bytes, sizeof(sealed.bytes), &out, &err));
}

static void what_was_sealed_is_unsealed_for_the_same_record_and_key_alone(void **state)
{
    auto_hpke_key_pair struct hpke_key_pair node = { .private_key = SECRET_INIT };
    auto_hpke_key_pair struct hpke_key_pair other = { .private_key = SECRET_INIT };
    auto_secret struct secret plain = SECRET_INIT;
    auto_secret struct secret out = SECRET_INIT;
    const struct record r = { .id = { 5 }, .key = { .id = { 7 }, .generation = 1 } };
    static struct record wrong[3];
    struct sealed_secret sealed;
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(hpke_generate(&node, false, &err));
    assert_ok(hpke_generate(&other, false, &err));
    assert_ok(secret_random(&plain, VOLUME_SECRET_LEN, &err));
    assert_ok(secret_seal(&r, &plain, node.public_key, &sealed, &err));
    wrong[0] = wrong[1] = wrong[2] = r;
    wrong[0].id[0] = 6;
    wrong[1].key.id[0] = 8;
    wrong[2].key.generation = 2;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_refused(ERROR_DENIED, secret_unseal(&wrong[i], &sealed, &node, &out, &err));
    assert_refused(ERROR_DENIED, secret_unseal(&r, &sealed, &other, &out, &err));
    sealed.bytes[0] ^= 1;
    assert_refused(ERROR_DENIED, secret_unseal(&r, &sealed, &node, &out, &err));
    sealed.bytes[0] ^= 1;
    assert_ok(secret_unseal(&r, &sealed, &node, &out, &err));
    assert_true(secret_is_equal(&plain, &out));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_released_secret_opens_for_its_record_alone),
        cmocka_unit_test(what_was_sealed_is_unsealed_for_the_same_record_and_key_alone),
    };

    return RUN_TESTS(tests);
}
