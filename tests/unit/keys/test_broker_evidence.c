/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/broker_evidence.h"
#include "tests/unit/test.h"

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

static struct error err;
static uint8_t quote[] = "quote", event_log[] = "log", collateral[] = "collateral";

static M(GetEvidenceResponse) answer_of(size_t quote_len, size_t log_len, size_t collateral_len)
{
    M(GetEvidenceResponse) answer = TDVOL__KEYBROKER__V1__GET_EVIDENCE_RESPONSE__INIT;

    answer.quote = (ProtobufCBinaryData){ quote_len, quote };
    answer.event_log = (ProtobufCBinaryData){ log_len, event_log };
    answer.collateral = (ProtobufCBinaryData){ collateral_len, collateral };
    return answer;
}

static void the_request_has_the_workers_nonce_and_the_brokers_key(void **state UNUSED)
{
    static const uint8_t key[KEY_SHA256_LEN] = { 5 };
    const struct relay_question question = { .nonce = { 9 } };
    const struct relay relay = { &question, NULL };
    const M(GetEvidenceRequest) request = broker_evidence_request(&relay, key);

    assert_int_equal(request.nonce.len, ANSWER_NONCE_LEN);
    assert_memory_equal(request.nonce.data, question.nonce, ANSWER_NONCE_LEN);
    assert_int_equal(request.key_sha256.len, KEY_SHA256_LEN);
    assert_memory_equal(request.key_sha256.data, key, KEY_SHA256_LEN);
}

static void the_parts_follow_each_other(void **state UNUSED)
{
    const M(GetEvidenceResponse) all = answer_of(5, 3, 10), only = answer_of(5, 0, 0);
    struct broker_evidence out = { .bytes = NULL };

    assert_ok(broker_evidence_take(&all, &out, &err));
    assert_memory_equal(out.bytes, "quotelogcollateral", 18);
    assert_int_equal(out.size.quote, 5);
    assert_int_equal(out.size.event_log, 3);
    assert_int_equal(out.size.collateral, 10);
    broker_evidence_free(&out);
    assert_ok(broker_evidence_take(&only, &out, &err));
    assert_int_equal(broker_evidence_len(&out.size), 5);
    broker_evidence_free(&out);
}

/* Lengths alone decide: nothing is read. */
static void parts_out_of_bounds_are_refused(void **state UNUSED)
{
    const M(GetEvidenceResponse) wrong[] = {
        answer_of(0, 3, 10),
        answer_of(QUOTE_LEN_MAX + 1, 0, 0),
        answer_of(5, EVENT_LOG_LEN_MAX + 1, 0),
        answer_of(5, 0, BROKER_COLLATERAL_MAX + 1),
        answer_of(5, 0, ((size_t)1 << 32) + 1),
    };
    struct broker_evidence out = { .bytes = NULL };

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_refused(ERROR_INTERNAL, broker_evidence_take(&wrong[i], &out, &err));
        assert_null(out.bytes);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_request_has_the_workers_nonce_and_the_brokers_key),
        cmocka_unit_test(the_parts_follow_each_other),
        cmocka_unit_test(parts_out_of_bounds_are_refused),
    };

    return RUN_TESTS(tests);
}
