/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "master/replica.h"
#include "tests/unit/broker/evidence.h"

#include <stdio.h>
#include <string.h>

/* Who gets the master key, and what it is sealed to. */

#define M(name) Tdvol__Keybroker__V1__##name

#define OWNER 0x11 /* each byte of MROWNER */

static struct error err;

/* May: the permissions of the image's rule, as JSON. */
static void set_policy(struct evidence_world *w, const char *may)
{
    const struct sim_td *td = &sim_td_default;
    char text[2048], mrtd[97], rtmr1[97], rtmr2[97], owner[97];
    uint8_t owner_bytes[48];
    auto_policy struct policy *policy = NULL;

    for (size_t i = 0; i < sizeof(owner_bytes); i++)
        owner_bytes[i] = OWNER;
    hex_encode(owner_bytes, sizeof(owner_bytes), owner);
    hex_encode(td->mrtd, sizeof(td->mrtd), mrtd);
    hex_encode(td->rtmr[1], sizeof(td->rtmr[1]), rtmr1);
    hex_encode(td->rtmr[2], sizeof(td->rtmr[2]), rtmr2);
    int len = snprintf(
        text, sizeof(text),
        "{\"version\":1,\"images\":{\"i\":{\"mrtd\":[\"%s\"],\"rtmr1\":[\"%s\"],\"rtmr2\":[\"%s\"]}},"
        "\"rules\":[{\"name\":\"replicas\",\"td\":{\"images\":[\"i\"]},"
        "\"owner\":{\"mrowner\":[\"%s\"]},\"tenant\":\"t\",\"may\":[%s],\"volumes\":[\"*\"]},"
        "{\"name\":\"admin\",\"match\":{\"certificate.cn\":\"admin\"},\"tenant\":\"t\","
        "\"may\":[\"admin\",\"unseal\",\"rotate\"],\"volumes\":[\"*\"]}]}",
        mrtd, rtmr1, rtmr2, owner, may);

    assert_ok(policy_parse(text, (size_t)len, &policy, &err));
    broker_set_policy(&w->f.broker, &policy);
}

static int set_up(void **state)
{
    int result = evidence_set_up(state);
    struct evidence_scene *w = *state;

    for (size_t i = 0; i < sizeof(w->td.td.mrowner); i++)
        w->td.td.mrowner[i] = OWNER;
    set_policy(&w->e, "\"replicate\"");
    return result;
}

static void attest(struct evidence_scene *w)
{
    evidence_prepare(&w->e, &w->td, &w->try);
    err = (struct error)ERROR_INIT;
    if (!evidence_attest(&w->e, &w->td, &w->try, &err))
        fail_msg("%s", err.text);
}

struct question {
    uint8_t nonce[REPLICA_NONCE_LEN], key[HPKE_PUBLIC_LEN];
    size_t nonce_len, key_len;
};

static struct question question_of(const struct evidence_scene *w)
{
    struct question q = { .nonce_len = REPLICA_NONCE_LEN, .key_len = HPKE_PUBLIC_LEN };

    assert_ok(random_bytes(q.nonce, sizeof(q.nonce), &err));
    memcpy(q.key, w->td.sealing.public_key, sizeof(q.key));
    return q;
}

static const M(ReplicateResponse) * ask(struct evidence_scene *w, struct question *q)
{
    M(ReplicateRequest) request = TDVOL__KEYBROKER__V1__REPLICATE_REQUEST__INIT;

    request.nonce = (ProtobufCBinaryData){ q->nonce_len, q->nonce };
    request.sealing_public_key = (ProtobufCBinaryData){ q->key_len, q->key };
    err = (struct error)ERROR_INIT;
    return evidence_call(&w->e, &w->td, "Replicate", &request.base, &err);
}

static void attested_replica_gets_the_key_for_its_question(void **state)
{
    struct evidence_scene *w = *state;
    struct replica_binding binding;
    auto_secret struct secret key = SECRET_INIT;

    attest(w);
    struct question q = question_of(w);
    const M(ReplicateResponse) *answer = ask(w, &q);
    assert_non_null(answer);
    memcpy(binding.broker_key_sha256, w->try.broker_key, sizeof(binding.broker_key_sha256));
    memcpy(binding.nonce, q.nonce, sizeof(binding.nonce));
    assert_ok(replica_open(&w->td.sealing, &binding, answer->sealed_key.data,
                           answer->sealed_key.len, &key, &err));
    assert_memory_equal(key.bytes, w->e.f.master.bytes, MASTER_KEY_LEN);
    auto_free char *line = evidence_last_line(&w->e);
    assert_contains(line, "\"method\":\"Replicate\"");
    assert_contains(line, "\"decision\":\"allow\"");
    assert_contains(line, "\"quote_sha256\"");
    assert_contains(line, "\"rule\":\"replicas\"");
}

static void without_evidence_nobody_gets_it(void **state)
{
    struct evidence_scene *w = *state;
    struct question q = question_of(w);

    assert_null(ask(w, &q));
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
    assert_string_equal(err.reason, "NotAttested");
}

static void other_permissions_do_not_give_it(void **state)
{
    struct evidence_scene *w = *state;

    set_policy(&w->e, "\"admin\",\"unseal\",\"rotate\"");
    attest(w);
    struct question q = question_of(w);
    assert_null(ask(w, &q));
    assert_int_equal(err.code, ERROR_DENIED);
    auto_free char *line = evidence_last_line(&w->e);
    assert_contains(line, "\"decision\":\"deny\"");
}

/* Each call is judged anew. */
static void policy_that_changed_since_ends_it(void **state)
{
    struct evidence_scene *w = *state;
    struct question q = question_of(w);

    attest(w);
    assert_non_null(ask(w, &q));
    set_policy(&w->e, "\"rotate\"");
    assert_null(ask(w, &q));
    assert_int_equal(err.code, ERROR_DENIED);
}

static void key_is_sealed_to_the_attested_key_alone(void **state)
{
    struct evidence_scene *w = *state;

    attest(w);
    struct question q = question_of(w);
    q.key[0] ^= 1;
    assert_null(ask(w, &q));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_string_equal(err.reason, "SealingKey");
    q = question_of(w);
    q.key_len--;
    assert_null(ask(w, &q));
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
}

static void question_without_a_nonce_is_refused(void **state)
{
    static const size_t lengths[] = { 0, REPLICA_NONCE_LEN - 1 };
    struct evidence_scene *w = *state;

    attest(w);
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct question q = question_of(w);

        q.nonce_len = lengths[i];
        assert_null(ask(w, &q));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, evidence_tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(attested_replica_gets_the_key_for_its_question),
        CASE(without_evidence_nobody_gets_it),
        CASE(other_permissions_do_not_give_it),
        CASE(policy_that_changed_since_ends_it),
        CASE(key_is_sealed_to_the_attested_key_alone),
        CASE(question_without_a_nonce_is_refused),
    };

    return RUN_TESTS(tests);
}
