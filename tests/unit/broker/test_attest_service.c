/* SPDX-License-Identifier: Apache-2.0 */
#include "record/encoding.h"
#include "tests/unit/broker/evidence.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

/* Attestation against a broker that really verifies. Each case makes one thing wrong. */

#define M(name) Tdvol__Keybroker__V1__##name

/* The prepared try is refused with this code and word. */
#define refused(code_, word)                                                            \
    do {                                                                                \
        struct error err_ = ERROR_INIT;                                                 \
        if (evidence_attest(&w->e, &w->td, &w->try, &err_) || err_.code != (code_) ||   \
            strcmp(err_.reason, word) != 0)                                             \
            fail_msg("%s, %s: %s", error_code_name(err_.code), err_.reason, err_.text); \
    } while (0)

static void prepare(struct evidence_scene *w)
{
    evidence_prepare(&w->e, &w->td, &w->try);
}

static const M(AttestResponse) * attest(struct evidence_scene *w)
{
    struct error err = ERROR_INIT;

    prepare(w);
    const M(AttestResponse) *answer = evidence_attest(&w->e, &w->td, &w->try, &err);

    if (!answer)
        fail_msg("%s, %s: %s", error_code_name(err.code), err.reason, err.text);
    return answer;
}

/* The code of a call that any rule allows. */
static enum error_code status(struct evidence_scene *w, const struct evidence_client *c,
                              struct error *err)
{
    M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;

    (void)evidence_call(&w->e, c, "GetStatus", &request.base, err);
    return err->code;
}

static void assert_not_attested(struct evidence_scene *w, const struct evidence_client *c)
{
    struct error err = ERROR_INIT;

    assert_int_equal(status(w, c, &err), ERROR_UNAUTHENTICATED);
    assert_string_equal(err.reason, "NotAttested");
}

static size_t count_lines(struct evidence_scene *w)
{
    return fixture_audit_lines(&w->e.f);
}

/* --- success --- */

static char vol[] = "v", vol2[] = "v2";

static void a_td_that_attested_gets_keys_for_its_sealing_key_alone(void **state)
{
    struct evidence_scene *w = *state;
    struct hpke_key_pair other;
    struct error err = ERROR_INIT;

    assert_not_attested(w, &w->td);
    const M(AttestResponse) *answer = attest(w);

    assert_string_equal(answer->tenant, "td");
    assert_string_equal(answer->rule, "tds");
    assert_int_equal(answer->remaining_ms, 900000);
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE);
    const M(CreateRecordResponse) *made = evidence_create(&w->e, &w->td, vol, &err);

    assert_non_null(made);
    struct record r;

    assert_ok(record_decode(made->record.data, made->record.len, &r, &err));
    assert_string_equal(r.tenant, "td");
    assert_ok(hpke_generate(&other, false, &err));
    assert_int_equal(evidence_open(&w->e, &w->td, vol, other.public_key, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "SealingKey");
    assert_int_equal(evidence_open(&w->e, &w->td, vol, w->td.sealing.public_key, &err), ERROR_NONE);
    hpke_key_pair_wipe(&other);
}

static void the_line_has_what_was_proven(void **state)
{
    struct evidence_scene *w = *state;

    (void)attest(w);
    auto_free char *line = evidence_last_line(&w->e);

    assert_contains(
        line, "\"method\":\"Attest\",\"decision\":\"allow\",\"code\":\"OK\",\"tenant\":\"td\","
              "\"rule\":\"tds\",\"image\":\"image-1\",\"peer\":\"10.0.0.1\",\"client_key\":\"");
    assert_contains(line, "\"quote_sha256\":\"");
    assert_contains(line, "\"policy_revision\":\"r1\"");
    assert_contains(line, "\"collateral_sha256\":\"");
    assert_contains(line, "\"mrtd\":\"4d01");
    assert_contains(line, "\"fmspc\":\"a0c06f000000\",\"platform\":\"516db0c5");
    assert_contains(line, "\"tcb_status\":\"UpToDate\",\"tcb_evaluation\":");
}

static void assert_last_line_names(struct evidence_scene *w, const char *quote_sha256)
{
    auto_free char *line = evidence_last_line(&w->e);
    char wanted[128];

    (void)snprintf(wanted, sizeof(wanted), "\"quote_sha256\":\"%s\"", quote_sha256);
    assert_contains(line, wanted);
}

/* The name must be the same for accepted and refused quotes, and in later lines. */
static void zeros_that_a_host_appends_do_not_change_a_quote_s_name(void **state)
{
    struct evidence_scene *w = *state;
    uint8_t digest[SHA256_LEN];
    char name[2 * SHA256_LEN + 1];
    struct error err = ERROR_INIT;

    for (unsigned is_refused = 0; is_refused < 2; is_refused++) {
        prepare(w);
        w->try.quote[w->try.quote_len - 1] ^= (uint8_t)is_refused;
        assert_ok(sha256(w->try.quote, w->try.quote_len, digest, &err));
        hex_encode(digest, sizeof(digest), name);
        bytes_wipe(w->try.quote + w->try.quote_len, 100);
        w->try.quote_len += 100;
        assert_int_equal(!evidence_attest(&w->e, &w->td, &w->try, &err), is_refused);
        assert_last_line_names(w, name);
        if (!is_refused) {
            assert_non_null(evidence_create(&w->e, &w->td, vol, &err));
            assert_last_line_names(w, name);
        }
    }
}

/* Without an audit line there is no session. The log cannot grow, as on a full disk. */
static void a_session_that_is_not_on_record_is_none(void **state)
{
    const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY }, tight = { 0, RLIM_INFINITY };
    struct evidence_scene *w = *state;

    prepare(w);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    refused(ERROR_UNAVAILABLE, "");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_not_attested(w, &w->td);
}

/* --- nonces and keys --- */

static void a_nonce_is_good_for_one_try_also_a_failed_one(void **state)
{
    struct evidence_scene *w = *state;

    (void)attest(w);
    refused(ERROR_UNAUTHENTICATED, "NonceUsed");
    prepare(w);
    w->try.quote[w->try.quote_len / 2] ^= 1;
    assert_null(evidence_attest(&w->e, &w->td, &w->try, &(struct error)ERROR_INIT));
    w->try.quote[w->try.quote_len / 2] ^= 1;
    refused(ERROR_UNAUTHENTICATED, "NonceUsed");
}

static void a_nonce_expires(void **state)
{
    struct evidence_scene *w = *state;

    prepare(w);
    fixture_now_ms += CHALLENGE_MS;
    refused(ERROR_UNAUTHENTICATED, "NonceExpired");
}

static void a_quote_is_for_one_nonce_client_key_sealing_key_and_broker(void **state)
{
    struct evidence_scene *w = *state;
    static struct evidence_try before;

    prepare(w); /* the quote of an older try, with a fresh nonce */
    before = w->try;
    prepare(w);
    memcpy(w->try.quote, before.quote, before.quote_len);
    refused(ERROR_DENIED, "ReportData");

    prepare(w);
    w->try.sealing_key[5] ^= 1;
    refused(ERROR_DENIED, "ReportData");

    prepare(w); /* made for another broker */
    w->try.broker_key[0] ^= 1;
    evidence_sign(&w->e, &w->td, &w->try);
    refused(ERROR_DENIED, "ReportData");
    assert_not_attested(w, &w->td);
}

/* A thief between TD and broker has all messages of the TD, but not its key. */
static void a_relayed_quote_is_worth_nothing(void **state)
{
    struct evidence_scene *w = *state;
    struct evidence_client thief;
    static struct evidence_try own;
    struct error err = ERROR_INIT;

    evidence_client_new(&thief);
    prepare(w);
    assert_null(evidence_attest(&w->e, &thief, &w->try, &err));
    assert_string_equal(err.reason, "NonceUnknown");
    evidence_prepare(&w->e, &thief, &own); /* the TD makes a quote for the thief's nonce */
    memcpy(w->try.nonce, own.nonce, sizeof(own.nonce));
    evidence_sign(&w->e, &w->td, &w->try);
    assert_null(evidence_attest(&w->e, &thief, &w->try, &err));
    assert_string_equal(err.reason, "ReportData");
    assert_not_attested(w, &thief);
    (void)attest(w); /* the TD itself can still attest */
    assert_not_attested(w, &thief);
    evidence_client_wipe(&thief);
}

static void resumed_sessions_and_peers_without_certificate_are_refused(void **state)
{
    struct evidence_scene *w = *state;
    M(GetChallengeRequest) request = TDVOL__KEYBROKER__V1__GET_CHALLENGE_REQUEST__INIT;
    struct evidence_client nobody = { .identity = { .certificate_pem = NULL } };
    struct error err = ERROR_INIT;

    prepare(w);
    w->e.session_reused = true;
    refused(ERROR_UNAUTHENTICATED, "");
    assert_null(evidence_call(&w->e, &w->td, "GetChallenge", &request.base, &err));
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
    w->e.session_reused = false;
    assert_null(evidence_call(&w->e, &nobody, "GetChallenge", &request.base, &err));
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
    assert_null(evidence_attest(&w->e, &nobody, &w->try, &err));
    assert_int_equal(err.code, ERROR_UNAUTHENTICATED);
}

/* --- what the quote says --- */

static void a_debug_td_is_refused(void **state)
{
    struct evidence_scene *w = *state;

    w->td.td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    prepare(w);
    refused(ERROR_DENIED, "TdDebug");
}

/* The policy's details stay in the audit log. The client gets one sentence and one word. */
static void another_image_is_denied_with_one_word(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    w->td.td.mrtd[3] ^= 1;
    prepare(w);
    assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
    assert_int_equal(err.code, ERROR_DENIED);
    assert_string_equal(err.text, "the broker's policy does not allow this");
    assert_string_equal(err.reason, "Measurement");
    auto_free char *line = evidence_last_line(&w->e);

    assert_contains(line,
                    "\"decision\":\"deny\",\"code\":\"PERMISSION_DENIED\",\"reason\":\"rule tds");
    assert_contains(line, "\"word\":\"Measurement\"");
    assert_contains(line, "\"mrtd\":\"4d010001");
}

static void an_old_platform_verifies_but_the_policy_denies(void **state)
{
    struct evidence_scene *w = *state;

    w->td.td.tee_tcb_svn[0] = 4;
    w->td.td.tee_tcb_svn2[0] = 4;
    prepare(w);
    struct error err = ERROR_INIT;

    assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
    assert_int_equal(err.code, ERROR_DENIED);
    auto_free char *line = evidence_last_line(&w->e);

    assert_contains(line, "\"tcb_status\":\"OutOfDate\"");
    assert_string_equal(err.reason, "TcbOutOfDate");
}

static void an_event_log_that_replays_to_something_else_is_refused(void **state)
{
    static uint8_t rubbish[100] = { 1 };
    struct evidence_scene *w = *state;

    prepare(w);
    w->try.event_log = rubbish;
    w->try.event_log_len = sizeof(rubbish);
    refused(ERROR_DENIED, "EventLogMalformed");
}

static void rubbish_of_every_length_is_refused(void **state)
{
    struct evidence_scene *w = *state;

    prepare(w);
    size_t len = w->try.quote_len;

    for (size_t i = 0; i < len; i += 997) {
        fixture_now_ms += 1000;
        prepare(w);
        w->try.quote_len = i;
        struct error err = ERROR_INIT;

        assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_true(err.reason[0] != '\0');
    }
}

/* --- the life of a session --- */

static void a_session_ends_and_attesting_again_starts_another(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    (void)attest(w);
    fixture_now_ms += 899999;
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE);
    fixture_now_ms += 1;
    assert_not_attested(w, &w->td);
    (void)attest(w);
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE);
}

static void a_session_does_not_outlive_its_collateral(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    w->e.f.broker.session_ms = (uint64_t)90 * 24 * 3600 * 1000;
    const M(AttestResponse) *answer = attest(w);

    assert_true(answer->remaining_ms < (uint64_t)31 * 24 * 3600 * 1000);
    fixture_now_ms += answer->remaining_ms - 1;
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE);
    fixture_now_ms += 1;
    assert_not_attested(w, &w->td);
    fixture_now_ms += 1000;
    prepare(w);
    assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
    assert_int_equal(err.code, ERROR_DENIED);
}

static void another_policy_counts_for_open_sessions_at_once(void **state)
{
    char mrtd[97];
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < 96; i++)
        mrtd[i] = 'a';
    mrtd[96] = '\0';
    (void)attest(w);
    evidence_set_policy(&w->e, mrtd, "");
    assert_int_equal(status(w, &w->td, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "Measurement");
    evidence_set_policy(&w->e, NULL, "");
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE);
}

/* --- requests --- */

static void requests_of_a_wrong_form_are_invalid(void **state)
{
    struct evidence_scene *w = *state;
    M(AttestRequest) request = TDVOL__KEYBROKER__V1__ATTEST_REQUEST__INIT;
    static char tdx[] = "tdx";
    static uint8_t bytes[OWNER_CHAIN_LEN_MAX + 1];
    struct error err = ERROR_INIT;

    prepare(w);
    w->try.tee = "snp";
    refused(ERROR_INVALID_ARGUMENT, "");
    {
        auto_free char *line = evidence_last_line(&w->e);

        assert_contains(line, "the known ones are tdx");
    }
    w->try.tee = "";
    refused(ERROR_INVALID_ARGUMENT, "");
    for (int i = 0; i < 4; i++) {
        fixture_now_ms += 1000;
        request.tee = tdx;
        request.nonce = (ProtobufCBinaryData){ i == 0 ? 31 : 32, bytes };
        request.sealing_public_key = (ProtobufCBinaryData){ i == 1 ? 33 : 32, bytes };
        request.owner_token = (ProtobufCBinaryData){ i == 2 ? TOKEN_LEN_MAX + 1 : 0, bytes };
        request.owner_certificate = (ProtobufCBinaryData){ i == 3 ? sizeof(bytes) : 0, bytes };
        assert_null(evidence_call(&w->e, &w->td, "Attest", &request.base, &err));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    }
    w->try.tee = "tdx"; /* none of these tries used the nonce up */
    assert_non_null(evidence_attest(&w->e, &w->td, &w->try, &err));
}

static void without_collateral_the_options_are_named(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    w->e.f.broker.collaterals = NULL;
    prepare(w);
    assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_contains(err.text, "--collateral-bundle");
}

static void a_platform_without_collateral_is_told_so(void **state)
{
    struct evidence_scene *w = *state;
    struct sim_platform platform = sim_platform_default;
    struct error err = ERROR_INIT;

    platform.fmspc[0] ^= 1;
    sim_machine_free(w->e.machine);
    w->e.machine = sim_machine_new(w->e.pki, &platform);
    prepare(w);
    assert_null(evidence_attest(&w->e, &w->td, &w->try, &err));
    assert_int_equal(err.code, ERROR_FAILED_PRECONDITION);
    assert_string_equal(err.reason, "CollateralMissing");
}

/* --- floods --- */

static void when_all_places_are_taken_the_nonce_stays_good(void **state)
{
    struct evidence_scene *w = *state;
    size_t lines = 0;

    prepare(w);
    lines = count_lines(w);
    atomic_store(&w->e.f.broker.verifications, w->e.f.broker.verifications_max);
    refused(ERROR_UNAVAILABLE, "");
    assert_int_equal(count_lines(w), lines);
    atomic_store(&w->e.f.broker.verifications, 0);
    assert_non_null(evidence_attest(&w->e, &w->td, &w->try, &(struct error)ERROR_INIT));
    assert_int_equal(atomic_load(&w->e.f.broker.verifications), 0);
}

static void an_address_that_sends_rubbish_is_slowed_down_and_no_other(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;
    size_t lines = 0;
    int n = 0;

    prepare(w);
    w->try.quote_len = 5;
    do {
        (void)evidence_attest(&w->e, &w->td, &w->try, &err);
        n++;
    } while (err.code != ERROR_RESOURCE_EXHAUSTED && n < 100);
    assert_int_equal(n, 5); /* one nonce; five tokens for each failure */
    lines = count_lines(w);
    for (int i = 0; i < 50; i++) {
        refused(ERROR_RESOURCE_EXHAUSTED, "");
    }
    assert_int_equal(count_lines(w), lines);
    w->e.address = "10.0.0.2";
    (void)attest(w);
    w->e.address = "10.0.0.1";
    assert_int_equal(status(w, &w->td, &err), ERROR_NONE); /* attested: not slowed down */
    fixture_now_ms += 1000;
    (void)attest(w);
}

/* Each call is refused, but only some cost a disk write, for which other calls wait. */
static void of_a_strangers_flood_the_log_has_a_part(void **state)
{
    struct evidence_scene *w = *state;
    size_t lines = count_lines(w);

    for (int i = 0; i < 100; i++)
        assert_not_attested(w, &w->td);
    assert_int_equal(count_lines(w), lines + 20);
    fixture_now_ms += 100;
    assert_not_attested(w, &w->td);
    assert_int_equal(count_lines(w), lines + 21);
    (void)attest(w); /* the client may still attest */
}

static void a_network_of_ipv6_is_one_address(void **state)
{
    struct evidence_scene *w = *state;
    M(GetChallengeRequest) request = TDVOL__KEYBROKER__V1__GET_CHALLENGE_REQUEST__INIT;
    char address[64];
    struct error err = ERROR_INIT;
    unsigned n = 0;

    w->e.address = address;
    do {
        (void)snprintf(address, sizeof(address), "2001:db8:0:1::%x", n + 1);
        (void)evidence_call(&w->e, &w->td, "GetChallenge", &request.base, &err);
    } while (err.code == ERROR_NONE && ++n < 100);
    assert_int_equal(n, 20);
    (void)snprintf(address, sizeof(address), "2001:db8:0:2::1");
    assert_non_null(evidence_call(&w->e, &w->td, "GetChallenge", &request.base, &err));
}

/* --- limits of the rule --- */

static void a_tenant_opens_as_often_as_its_rule_says(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    evidence_set_policy(&w->e, NULL, "\"limits\":{\"opens_per_minute\":3},");
    (void)attest(w);
    assert_non_null(evidence_create(&w->e, &w->td, vol, &err));
    for (int i = 0; i < 3; i++)
        assert_int_equal(evidence_open(&w->e, &w->td, vol, w->td.sealing.public_key, &err),
                         ERROR_NONE);
    assert_int_equal(evidence_open(&w->e, &w->td, vol, w->td.sealing.public_key, &err),
                     ERROR_RESOURCE_EXHAUSTED);
    fixture_now_ms += 20000;
    assert_int_equal(evidence_open(&w->e, &w->td, vol, w->td.sealing.public_key, &err), ERROR_NONE);
}

static void a_tenant_has_as_many_records_as_its_rule_says(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    evidence_set_policy(&w->e, NULL, "\"limits\":{\"records\":1},");
    (void)attest(w);
    assert_non_null(evidence_create(&w->e, &w->td, vol, &err));
    assert_non_null(
        evidence_create(&w->e, &w->td, vol, &err)); /* the same request again: no new record */
    assert_null(evidence_create(&w->e, &w->td, vol2, &err));
    assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
    assert_string_equal(err.reason, RECORD_LIMIT_REASON);
    evidence_erase(&w->e, &w->td, vol);
    assert_non_null(evidence_create(&w->e, &w->td, vol2, &err));
    assert_null(evidence_create(&w->e, &w->td, vol,
                                &err)); /* an erased name counts again when it is created again */
    evidence_erase(&w->e, &w->td, vol2);
    assert_non_null(evidence_create(&w->e, &w->td, vol, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, evidence_set_up, evidence_tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_td_that_attested_gets_keys_for_its_sealing_key_alone),
        CASE(the_line_has_what_was_proven),
        CASE(zeros_that_a_host_appends_do_not_change_a_quote_s_name),
        CASE(a_session_that_is_not_on_record_is_none),
        CASE(a_nonce_is_good_for_one_try_also_a_failed_one),
        CASE(a_nonce_expires),
        CASE(a_quote_is_for_one_nonce_client_key_sealing_key_and_broker),
        CASE(a_relayed_quote_is_worth_nothing),
        CASE(resumed_sessions_and_peers_without_certificate_are_refused),
        CASE(a_debug_td_is_refused),
        CASE(another_image_is_denied_with_one_word),
        CASE(an_old_platform_verifies_but_the_policy_denies),
        CASE(an_event_log_that_replays_to_something_else_is_refused),
        CASE(rubbish_of_every_length_is_refused),
        CASE(a_session_ends_and_attesting_again_starts_another),
        CASE(a_session_does_not_outlive_its_collateral),
        CASE(another_policy_counts_for_open_sessions_at_once),
        CASE(requests_of_a_wrong_form_are_invalid),
        CASE(without_collateral_the_options_are_named),
        CASE(a_platform_without_collateral_is_told_so),
        CASE(when_all_places_are_taken_the_nonce_stays_good),
        CASE(an_address_that_sends_rubbish_is_slowed_down_and_no_other),
        CASE(of_a_strangers_flood_the_log_has_a_part),
        CASE(a_network_of_ipv6_is_one_address),
        CASE(a_tenant_opens_as_often_as_its_rule_says),
        CASE(a_tenant_has_as_many_records_as_its_rule_says),
    };

    (void)signal(SIGXFSZ, SIG_IGN);
    return RUN_TESTS(tests);
}
