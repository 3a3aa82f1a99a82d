/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/identity.h"
#include "broker/caller.h"
#include "ctl/pki.h"
#include "tests/unit/test.h"

#define NOW 5000ull

static struct authority *ours;
static struct pki_trust *trust;
static struct attested_sessions *sessions;
static struct claim_source_binding sources[2];
static struct arena arena;

static uint64_t still_ms(void)
{
    return 1;
}

static int setup(void **state)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(authority_new("ours", 10, &ours, &err));
    assert_ok(authority_export(ours, &pair, &err));
    assert_ok(pki_trust_new(pair.certificate_pem, &trust, &err));
    assert_ok(attested_sessions_new(4, still_ms, &sessions, &err));
    sources[0] = (struct claim_source_binding){ &claim_source_certificate, trust };
    sources[1] = (struct claim_source_binding){ &claim_source_evidence, sessions };
    arena_init(&arena, 1 << 20);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_wipe(&arena);
    attested_sessions_free(&sessions);
    pki_trust_free(&trust);
    authority_free(&ours);
    return 0;
}

static bool gather(const char *pem, struct caller *out, struct error *err)
{
    const struct rpc_peer peer = { .certificate_pem = pem };
    const struct rpc_call call = { .arena = &arena, .peer = &peer };

    auto_claim_query struct claim_query query = { .call = &call, .now_ms = NOW };

    return caller_gather(sources, 2, &query, out, err);
}

static void issue(const char *cn, int days, struct certificate_pair *out)
{
    const struct certificate_request request = { .common_name = cn, .days = days };
    struct error err = ERROR_INIT;

    assert_ok(authority_issue(ours, &request, out, &err));
}

static void put_session(const uint8_t *key, uint64_t until_ms, bool has_proofs)
{
    struct attested_session a = { .has_token = has_proofs,
                                  .has_owner = has_proofs,
                                  .until_ms = until_ms };
    struct error err = ERROR_INIT;

    memcpy(a.client_key_sha256, key, sizeof(a.client_key_sha256));
    a.tee.kind = TEE_TDX;
    a.tee.td.mrtd[0] = 0x4d;
    assert_ok(attested_sessions_put(sessions, &a, NOW, &err));
}

static void a_certificate_of_the_ca_is_a_claim(void **state UNUSED)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    struct caller caller;
    struct error err = ERROR_INIT;

    issue("node-1", 1, &pair);
    assert_ok(gather(pair.certificate_pem, &caller, &err));
    assert_ok(caller_check_known(&caller, &err));
    assert_string_equal(caller.who.certificate->common_name, "node-1");
    assert_null(caller.who.tee);
    assert_null(caller.attested);
}

/* A self-signed certificate, as a TD has before it attests, and an expired certificate of the
 * CA. */
static void of_other_certificates_nothing_is_known(void **state UNUSED)
{
    auto_identity struct identity self = { .certificate_pem = NULL };
    auto_certificate_pair struct certificate_pair expired = { .certificate_pem = NULL };
    struct caller caller;
    struct error err = ERROR_INIT;

    assert_ok(identity_new("node", &self, &err));
    assert_ok(gather(self.certificate_pem, &caller, &err));
    assert_null(caller.who.certificate);
    assert_refused(ERROR_UNAUTHENTICATED, caller_check_known(&caller, &err));
    assert_string_equal(err.reason, "NotAttested");
    issue("node", -1, &expired);
    err = (struct error)ERROR_INIT;
    assert_ok(gather(expired.certificate_pem, &caller, &err));
    assert_refused(ERROR_UNAUTHENTICATED, caller_check_known(&caller, &err));
    assert_contains(err.text, "expired");
}

static void a_session_is_a_claim_until_it_ends(void **state UNUSED)
{
    auto_identity struct identity td = { .certificate_pem = NULL };
    struct caller caller;
    struct error err = ERROR_INIT;

    assert_ok(identity_new("node", &td, &err));
    put_session(td.key_sha256, NOW + 1, false);
    assert_ok(gather(td.certificate_pem, &caller, &err));
    assert_ok(caller_check_known(&caller, &err));
    assert_int_equal(caller.who.tee->td.mrtd[0], 0x4d);
    assert_ptr_equal(principal_td(&caller.who), &caller.who.tee->td);
    assert_non_null(caller.attested);
    assert_null(caller.who.token);
    assert_null(caller.who.owner);
    put_session(td.key_sha256, NOW + 1, true);
    assert_ok(gather(td.certificate_pem, &caller, &err));
    assert_non_null(caller.who.token);
    assert_non_null(caller.who.owner);
    put_session(td.key_sha256, NOW, false);
    assert_ok(gather(td.certificate_pem, &caller, &err));
    assert_refused(ERROR_UNAUTHENTICATED, caller_check_known(&caller, &err));
    assert_contains(err.text, "session has expired");
    assert_string_equal(err.reason, "NotAttested");
}

static void both_claims_may_come_together(void **state UNUSED)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    uint8_t key[KEY_SHA256_LEN];
    struct caller caller;
    struct error err = ERROR_INIT;

    issue("node-1", 1, &pair);
    assert_ok(key_sha256_of_certificate(pair.certificate_pem, key, &err));
    put_session(key, NOW + 1, false);
    assert_ok(gather(pair.certificate_pem, &caller, &err));
    assert_non_null(caller.who.certificate);
    assert_non_null(caller.who.tee);
}

/* Each source asks for the certificate, but it is read only once. */
static bool ask_twice(void *state, struct claim_query *query, struct caller *out, struct error *err)
{
    const struct pki_client *first = claim_query_client(query, err);
    const X509 **seen = state;

    (void)out;
    assert_non_null(first);
    assert_true(!*seen || *seen == first->certificate);
    *seen = first->certificate;
    assert_ptr_equal(claim_query_client(query, err), first);
    return true;
}

static void a_certificate_is_read_once_for_all_sources(void **state UNUSED)
{
    static const struct claim_source asking = { .gather = ask_twice };
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    const X509 *seen = NULL;
    const struct claim_source_binding both[] = { { &asking, &seen }, { &asking, &seen } };
    struct rpc_peer peer = { .certificate_pem = NULL };
    const struct rpc_call call = { .arena = &arena, .peer = &peer };
    auto_claim_query struct claim_query query = { .call = &call, .now_ms = NOW };
    struct caller caller;
    struct error err = ERROR_INIT;

    issue("node", 1, &pair);
    peer.certificate_pem = pair.certificate_pem;
    assert_ok(caller_gather(both, ARRAY_LEN(both), &query, &caller, &err));
    assert_non_null(seen);
}

static void no_certificate_rubbish_and_resumption_are_unauthenticated(void **state UNUSED)
{
    static const char *const bad[] = { NULL, "", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n" };
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    struct rpc_peer peer = { .session_reused = true };
    const struct rpc_call call = { .arena = &arena, .peer = &peer };
    auto_claim_query struct claim_query query = { .call = &call, .now_ms = NOW };
    struct caller caller;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_UNAUTHENTICATED, gather(bad[i], &caller, &err));
    issue("node", 1, &pair);
    peer.certificate_pem = pair.certificate_pem;
    assert_refused(ERROR_UNAUTHENTICATED, caller_gather(sources, 2, &query, &caller, &err));
    assert_contains(err.text, "resumed");
}

static void rates_count_by_address_and_by_network_of_ipv6(void **state UNUSED)
{
    const struct {
        const char *address, *network;
    } rows[] = {
        { "10.0.0.1", "10.0.0.1" },
        { "2001:db8::1", "20010db800000000" },
        { "2001:db8:0:0:ffff::2", "20010db800000000" },
        { "::ffff:10.0.0.1", "::ffff:10.0.0.1" },
        { NULL, "" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct rpc_peer peer = { .address = rows[i].address };
        char out[CALLER_NETWORK_LEN];

        caller_network(&peer, out);
        assert_string_equal(out, rows[i].network);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_certificate_of_the_ca_is_a_claim),
        cmocka_unit_test(of_other_certificates_nothing_is_known),
        cmocka_unit_test(a_session_is_a_claim_until_it_ends),
        cmocka_unit_test(both_claims_may_come_together),
        cmocka_unit_test(a_certificate_is_read_once_for_all_sources),
        cmocka_unit_test(no_certificate_rubbish_and_resumption_are_unauthenticated),
        cmocka_unit_test(rates_count_by_address_and_by_network_of_ipv6),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
