/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/broker/evidence.h"

#include <stdio.h>

/* Who gets the broker's own quote, and how often. This machine is no TD: whoever may have one is told
 * that there is none. */

#define M(name) Tdvol__Keybroker__V1__##name /* generated message types */

static struct error err;

static enum error_code ask(struct evidence_scene *s, const struct evidence_client *client,
                           size_t nonce_len)
{
    M(GetEvidenceRequest) request = TDVOL__KEYBROKER__V1__GET_EVIDENCE_REQUEST__INIT;
    uint8_t nonce[64] = { 1 };

    s->e.f.broker.tsm_root = "/nonexistent";
    request.nonce = (ProtobufCBinaryData){ nonce_len, nonce };
    (void)evidence_call(&s->e, client, "GetEvidence", &request.base, &err);
    return err.code;
}

static void a_client_without_a_session_is_answered(void **state)
{
    struct evidence_scene *s = *state;

    assert_int_equal(ask(s, &s->td, 32), ERROR_FAILED_PRECONDITION);
    assert_string_equal(err.reason, "QuoteUnavailable");
    assert_int_equal(ask(s, &s->td, 31), ERROR_INVALID_ARGUMENT);
    s->e.session_reused = true;
    assert_int_equal(ask(s, &s->td, 32), ERROR_UNAUTHENTICATED);
    s->e.session_reused = false;
}

static void one_network_gets_a_few(void **state)
{
    struct evidence_scene *s = *state;

    for (int i = 0; i < 4; i++)
        assert_int_equal(ask(s, &s->td, 32), ERROR_FAILED_PRECONDITION);
    assert_int_equal(ask(s, &s->td, 32), ERROR_RESOURCE_EXHAUSTED);
    assert_contains(err.text, "this address");
    s->e.address = "10.7.0.1";
    assert_int_equal(ask(s, &s->td, 32), ERROR_FAILED_PRECONDITION);
}

static void strangers_from_many_networks_leave_some_to_who_has_a_session(void **state)
{
    struct evidence_scene *s = *state;
    struct evidence_client stranger;
    struct evidence_try t;
    char address[32];

    evidence_prepare(&s->e, &s->td, &t);
    assert_non_null(evidence_attest(&s->e, &s->td, &t, &err));
    evidence_client_new(&stranger);
    s->e.address = address;
    for (int i = 0; i < 10; i++) {
        (void)snprintf(address, sizeof(address), "10.8.%d.1", i);
        assert_int_equal(ask(s, &stranger, 32), ERROR_FAILED_PRECONDITION);
    }
    (void)snprintf(address, sizeof(address), "10.9.0.1");
    assert_int_equal(ask(s, &stranger, 32), ERROR_RESOURCE_EXHAUSTED);
    assert_contains(err.text, "new clients");
    assert_int_equal(ask(s, &s->td, 32), ERROR_FAILED_PRECONDITION);
    evidence_client_wipe(&stranger);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, evidence_set_up, evidence_tear_down)
    static const struct CMUnitTest tests[] = {
        CASE(a_client_without_a_session_is_answered),
        CASE(one_network_gets_a_few),
        CASE(strangers_from_many_networks_leave_some_to_who_has_a_session),
    };

    return RUN_TESTS(tests);
}
