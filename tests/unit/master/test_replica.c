/* SPDX-License-Identifier: Apache-2.0 */
#include "master/replica.h"
#include "tests/unit/test.h"

#include <string.h>

static struct error err;
static struct hpke_key_pair pair;
static struct secret key;
static struct replica_binding binding;

static int set_up(void **state UNUSED)
{
    assert_ok(hpke_generate(&pair, false, &err));
    assert_ok(secret_random(&key, MASTER_KEY_LEN, &err));
    for (size_t i = 0; i < REPLICA_NONCE_LEN; i++)
        binding.nonce[i] = (uint8_t)i;
    return 0;
}

static int tear_down(void **state UNUSED)
{
    hpke_key_pair_wipe(&pair);
    secret_wipe(&key);
    return 0;
}

static void key_arrives_whole(void **state UNUSED)
{
    auto_secret struct secret out = SECRET_INIT;
    uint8_t sealed[REPLICA_SEALED_LEN];

    assert_ok(replica_seal(pair.public_key, &binding, &key, sealed, &err));
    assert_ok(replica_open(&pair, &binding, sealed, sizeof(sealed), &out, &err));
    assert_int_equal(out.len, MASTER_KEY_LEN);
    assert_memory_equal(out.bytes, key.bytes, key.len);
}

static void each_changed_byte_is_refused(void **state UNUSED)
{
    auto_secret struct secret out = SECRET_INIT;
    uint8_t sealed[REPLICA_SEALED_LEN];

    assert_ok(replica_seal(pair.public_key, &binding, &key, sealed, &err));
    for (size_t i = 0; i < sizeof(sealed); i++) {
        sealed[i] ^= 1;
        assert_refused(ERROR_DENIED,
                       replica_open(&pair, &binding, sealed, sizeof(sealed), &out, &err));
        sealed[i] ^= 1;
    }
    assert_refused(ERROR_DENIED,
                   replica_open(&pair, &binding, sealed, sizeof(sealed) - 1, &out, &err));
    assert_refused(ERROR_DENIED, replica_open(&pair, &binding, NULL, 0, &out, &err));
    assert_null(out.bytes);
}

static void answer_to_another_question_or_broker_is_refused(void **state UNUSED)
{
    auto_secret struct secret out = SECRET_INIT;
    struct replica_binding nonce = binding, broker = binding;
    uint8_t sealed[REPLICA_SEALED_LEN];

    nonce.nonce[31] ^= 1;
    broker.broker_key_sha256[0] ^= 1;
    assert_ok(replica_seal(pair.public_key, &binding, &key, sealed, &err));
    assert_refused(ERROR_DENIED, replica_open(&pair, &nonce, sealed, sizeof(sealed), &out, &err));
    assert_refused(ERROR_DENIED, replica_open(&pair, &broker, sealed, sizeof(sealed), &out, &err));
}

static void another_key_pair_opens_nothing(void **state UNUSED)
{
    struct hpke_key_pair other auto_hpke_key_pair = { .private_key = SECRET_INIT };
    auto_secret struct secret out = SECRET_INIT;
    uint8_t sealed[REPLICA_SEALED_LEN];

    assert_ok(hpke_generate(&other, false, &err));
    assert_ok(replica_seal(pair.public_key, &binding, &key, sealed, &err));
    assert_refused(ERROR_DENIED,
                   replica_open(&other, &binding, sealed, sizeof(sealed), &out, &err));
}

/* What is no volume's secret cannot be taken for one, nor the other way round. */
static void secret_for_another_purpose_is_refused(void **state UNUSED)
{
    static const char other[] = "tdvol v1 volume secret";
    auto_secret struct secret out = SECRET_INIT;
    uint8_t sealed[REPLICA_SEALED_LEN];

    assert_ok(hpke_seal(pair.public_key, other, strlen(other), &binding, sizeof(binding), &key,
                        sealed, sizeof(sealed), &err));
    assert_refused(ERROR_DENIED, replica_open(&pair, &binding, sealed, sizeof(sealed), &out, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(key_arrives_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_changed_byte_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(answer_to_another_question_or_broker_is_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_key_pair_opens_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(secret_for_another_purpose_is_refused, set_up, tear_down),
    };

    return RUN_TESTS(tests);
}
