/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/statement.h"
#include "audit/audit_verify.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/* Whole calls: what the broker says about itself, and who is told. */

#define M(name) Tdvol__Keybroker__V1__##name

static struct fixture f;
static struct arena arena;
static struct error err;
static uint8_t nonce[STATEMENT_NONCE_LEN + 1] = { 4, 5, 6 };

static int setup(void **state)
{
    (void)state;
    fixture_start(&f);
    arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_wipe(&arena);
    fixture_stop(&f);
    return 0;
}

static const M(GetStatementResponse) * call(const char *client, size_t nonce_len)
{
    M(GetStatementRequest) request = TDVOL__KEYBROKER__V1__GET_STATEMENT_REQUEST__INIT;

    request.nonce = (ProtobufCBinaryData){ nonce_len, nonce };
    return fixture_call(&f, &arena, client, "GetStatement", &request.base, &err);
}

static bool check_signature(const M(GetStatementResponse) * answer)
{
    auto_broker_trust struct broker_trust trust = { .names = { 1, { "localhost" } } };
    struct broker_signature signature = { .len = (uint32_t)answer->signature.len,
                                          .certificates_len = (uint32_t)answer->certificates.len };
    uint8_t bytes[STATEMENT_SIGNED_LEN];

    memcpy(signature.bytes, answer->signature.data, signature.len);
    memcpy(signature.certificates, answer->certificates.data, signature.certificates_len);
    assert_ok(broker_trust_read_ca(&trust, f.end.ca_pem, &err));
    assert_ok(statement_signed(nonce, answer->statement.data, answer->statement.len, bytes, &err));
    return broker_signature_check(&trust, &signature, bytes, sizeof(bytes), NULL, &err);
}

static void it_says_where_the_log_ends_and_signs_it(void **state UNUSED)
{
    static char replica[] = "r7";
    const struct rpc_limits limits = { 65536, 256, 0 };
    ProtobufCMessage *message = NULL;

    f.broker.replica = replica;
    const M(GetStatementResponse) *answer = call("admin", STATEMENT_NONCE_LEN);

    assert_non_null(answer);
    assert_true(check_signature(answer));
    assert_ok(rpc_decode(&tdvol__keybroker__v1__statement__descriptor, &limits,
                         (struct rpc_bytes){ answer->statement.data, answer->statement.len },
                         &arena, &message, &err));
    const M(Statement) *statement = (const void *)message;

    assert_string_equal(statement->replica, "r7");
    assert_string_equal(statement->policy_hash, policy_hash(f.broker.policy));
    assert_true(statement->time_ms == NOW);
    assert_int_equal(statement->n_heads, 1);
    assert_int_equal(statement->heads[0]->seq, fixture_audit_lines(&f));
    assert_int_equal(statement->heads[0]->chain.len, AUDIT_CHAIN_ID_LEN);

    auto_audit_files struct audit_files set = { .n = 0 };
    struct audit_known_head head = { .seq = 0 };
    auto_audit_verification struct audit_verification v = { .heads = &head, .n_heads = 1 };
    const struct audit_teller teller = { .tell = NULL };

    hex_encode(statement->heads[0]->hash.data, SHA256_LEN, head.hash);
    assert_ok(audit_files_add(&set, f.audit_path, &err));
    assert_ok(audit_files_order(&set, &teller, &err));
    assert_ok(audit_verify(&v, &set, &err));
    assert_int_equal(head.log, 0);
    assert_int_equal(v.logs[0].after_head, 0);
}

static void a_changed_statement_or_nonce_is_not_signed(void **state UNUSED)
{
    const M(GetStatementResponse) *answer = call("admin", STATEMENT_NONCE_LEN);

    assert_non_null(answer);
    answer->statement.data[answer->statement.len - 1] ^= 1;
    assert_false(check_signature(answer));
    answer->statement.data[answer->statement.len - 1] ^= 1;
    assert_true(check_signature(answer));
    nonce[0] ^= 1;
    assert_false(check_signature(answer));
    nonce[0] ^= 1;
}

static void others_are_not_told(void **state UNUSED)
{
    uint64_t before = fixture_audit_lines(&f);

    assert_null(call("node", STATEMENT_NONCE_LEN));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_int_equal(fixture_audit_lines(&f), before + 1);
    assert_non_null(call("admin", STATEMENT_NONCE_LEN));
    assert_int_equal(fixture_audit_lines(&f), before + 1);
}

static void a_nonce_of_another_length_is_refused(void **state UNUSED)
{
    static const size_t lengths[] = { 0, STATEMENT_NONCE_LEN - 1, STATEMENT_NONCE_LEN + 1 };

    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        assert_null(call("admin", lengths[i]));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_says_where_the_log_ends_and_signs_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_changed_statement_or_nonce_is_not_signed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(others_are_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_nonce_of_another_length_is_refused, setup, teardown),
    };

    return RUN_TESTS(tests);
}
