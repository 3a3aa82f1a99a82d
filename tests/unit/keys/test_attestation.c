/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "keys/attestation.h"
#include "tests/unit/base/folder.h"
#include "tests/unit/csi/site.h"
#include "tests/unit/test.h"

/* One attestation: what it sends, and which answers it refuses. */

static struct site site;
static struct domain domain;
static struct identity other;
static struct attestation attestation;
static struct attested attested;
static struct error err;

static int set_up(void **state)
{
    site_make(&site);
    domain_make(&domain);
    assert_ok(identity_new("other", &other, &err));
    attestation = domain_attestation(&domain);
    attested = (struct attested){ .expires_ms = 99 };
    return folder_make(state);
}

static int tear_down(void **state)
{
    site_free(&site);
    domain_free(&domain);
    identity_wipe(&other);
    return folder_remove(state);
}

static bool attest(void)
{
    const struct broker_route route = site_route(&site, "broker:1");

    err = (struct error)ERROR_INIT;
    bool done = attestation_run(&attestation, &route, &attested, &err);
    assert_true(done || attested.expires_ms == 99); /* written on success only */
    return done;
}

static void write_text(const char *path, const char *text)
{
    assert_ok(file_write(path, 0600, text, strlen(text), &err));
}

static void quote_speaks_for_both_keys_and_the_nonce(void **state UNUSED)
{
    uint64_t before_ms = clock_now_ms();

    assert_ok(attest()); /* the site compares the binding */
    assert_string_equal(attested.tenant, "tenant-a");
    assert_string_equal(attested.rule, "rule-1");
    assert_memory_equal(attested.broker_key_sha256, site.key.key_sha256, KEY_SHA256_LEN);
    assert_true(attested.expires_ms >= before_ms + site.life_ms);
    assert_true(attested.expires_ms <= clock_now_ms() + site.life_ms);
    assert_int_equal(site.sealing_key, 5);
    assert_int_equal(site.token_len + site.certificate_len + site.event_log_len, 0);
}

/* --- the broker --- */

static void relayed_challenge_is_refused_before_a_quote(void **state UNUSED)
{
    site.shown_pem = other.certificate_pem;
    assert_refused(ERROR_UNAVAILABLE, attest());
    assert_string_equal(err.reason, "BrokerKeyMismatch");
    assert_int_equal(domain.n_quotes, 0);
}

static void server_without_a_certificate_is_refused(void **state UNUSED)
{
    site.shows_nothing = true;
    assert_refused(ERROR_UNAVAILABLE, attest());
    assert_int_equal(domain.n_quotes, 0);
}

static void session_from_another_server_is_refused(void **state UNUSED)
{
    site.attest_pem = other.certificate_pem;
    assert_refused(ERROR_UNAVAILABLE, attest());
    assert_string_equal(err.reason, "BrokerKeyMismatch");
}

static void only_a_pinned_key_is_accepted(void **state UNUSED)
{
    attestation.pins.n = 1;
    memcpy(attestation.pins.sha256[0], other.key_sha256, KEY_SHA256_LEN);
    assert_refused(ERROR_UNAVAILABLE, attest());
    assert_contains(err.text, "--broker-key-sha256");
    assert_string_equal(err.reason, "BrokerKeyMismatch");
    assert_int_equal(domain.n_quotes, 0);
    attestation.pins.n = 2;
    memcpy(attestation.pins.sha256[1], site.key.key_sha256, KEY_SHA256_LEN);
    assert_ok(attest());
}

static void pins_are_hex_of_one_length(void **state UNUSED)
{
    static const char *const bad[] = { "", "00", "zz", "not hex" };
    char good[2 * KEY_SHA256_LEN + 1], longer[2 * KEY_SHA256_LEN + 3];
    struct broker_pins pins = { .n = 77 };
    struct option_list list = { .n = 2 };

    hex_encode(site.key.key_sha256, KEY_SHA256_LEN, good);
    list.items[0] = good;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        list.items[1] = bad[i];
        assert_refused(ERROR_INVALID_ARGUMENT, broker_pins_parse(&list, &pins, &err));
        assert_int_equal(pins.n, 77);
    }
    (void)snprintf(longer, sizeof(longer), "%s00", good);
    list.items[1] = longer;
    assert_refused(ERROR_INVALID_ARGUMENT, broker_pins_parse(&list, &pins, &err));
    list.items[1] = good;
    assert_ok(broker_pins_parse(&list, &pins, &err));
    assert_int_equal(pins.n, 2);
    assert_memory_equal(pins.sha256[1], site.key.key_sha256, KEY_SHA256_LEN);
}

static const char *distorted;

static void distort(struct site *s UNUSED, struct arena *arena UNUSED, const char *method,
                    ProtobufCMessage *answer)
{
    Tdvol__Keybroker__V1__GetChallengeResponse *challenge = (void *)answer;
    Tdvol__Keybroker__V1__AttestResponse *session = (void *)answer;
    bool is_challenge = strcmp(method, "GetChallenge") == 0;

    if (is_challenge && strcmp(distorted, "nonce") == 0)
        challenge->nonce.len--;
    else if (is_challenge && strcmp(distorted, "no nonce") == 0)
        challenge->nonce = (ProtobufCBinaryData){ .len = 0 };
    else if (is_challenge && strcmp(distorted, "key") == 0)
        challenge->broker_key_sha256.len--;
    else if (!is_challenge && strcmp(distorted, "no life") == 0)
        session->remaining_ms = 0;
    else if (!is_challenge && strcmp(distorted, "eternal") == 0)
        session->remaining_ms = UINT64_MAX;
}

static void malformed_answers_are_refused(void **state UNUSED)
{
    static const char *const what[] = { "nonce", "no nonce", "key", "no life", "eternal" };

    site.distort = distort;
    for (size_t i = 0; i < ARRAY_LEN(what); i++) {
        distorted = what[i];
        assert_refused(ERROR_INTERNAL, attest());
    }
    distorted = "";
    assert_ok(attest());
}

static void nonce_that_is_good_for_ever_does_not_make_it_wait_for_ever(void **state UNUSED)
{
    site.nonce_ms = UINT64_MAX;
    assert_ok(attest());
}

/* --- refusals --- */

static void word_of_a_refusal_is_kept(void **state UNUSED)
{
    site_fail(&site, (struct site_fault){ "Attest", ERROR_DENIED, "TcbOutOfDate", "too old", 1 });
    assert_refused(ERROR_DENIED, attest());
    assert_string_equal(err.reason, "TcbOutOfDate");
    assert_contains(err.text, "too old");
}

static void failed_attestation_is_not_read_as_no_such_volume(void **state UNUSED)
{
    static const enum error_code codes[] = { ERROR_NOT_FOUND,        ERROR_ALREADY_EXISTS,
                                             ERROR_INVALID_ARGUMENT, ERROR_OUT_OF_RANGE,
                                             ERROR_UNIMPLEMENTED,    ERROR_DATA_LOSS };

    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        site_fail(&site, (struct site_fault){ "GetChallenge", codes[i], NULL, NULL, 1 });
        assert_refused(ERROR_FAILED_PRECONDITION, attest());
    }
}

static void machine_without_quotes_says_so(void **state UNUSED)
{
    domain.fault = (struct site_fault){ "", ERROR_FAILED_PRECONDITION, "QuoteUnavailable",
                                        "no configfs-tsm here", 1 };
    assert_refused(ERROR_FAILED_PRECONDITION, attest());
    assert_string_equal(err.reason, "QuoteUnavailable");
    assert_contains(err.text, "no configfs-tsm here");
    assert_int_equal(site.n_attests, 0);
}

/* --- the owner --- */

static void token_is_read_anew_each_time(void **state UNUSED)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s", folder_path("token"));
    attestation.owner_token = path;
    write_text(path, "first.token.x\n");
    assert_ok(attest());
    assert_string_equal(site.token, "first.token.x");
    write_text(path, "second.token.x");
    assert_ok(attest());
    assert_string_equal(site.token, "second.token.x");
}

static void token_that_is_missing_empty_or_too_large_is_an_error(void **state UNUSED)
{
    char path[PATH_MAX];
    auto_free char *large = calloc(1, OWNER_TOKEN_MAX + 2);

    assert_non_null(large);
    for (size_t i = 0; i <= OWNER_TOKEN_MAX; i++)
        large[i] = 'x';
    (void)snprintf(path, sizeof(path), "%s", folder_path("token"));
    attestation.owner_token = path;
    assert_refused(ERROR_FAILED_PRECONDITION, attest());
    assert_contains(err.text, "--owner-token");
    write_text(path, "\n\n");
    assert_refused(ERROR_FAILED_PRECONDITION, attest());
    write_text(path, large);
    assert_refused(ERROR_FAILED_PRECONDITION, attest());
    assert_contains(err.text, "--owner-token");
    assert_int_equal(site.n_challenges, 0); /* fails before the broker is asked */
}

static void owner_certificate_is_sent_when_it_is_for_our_key(void **state UNUSED)
{
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s", folder_path("owner.crt"));
    attestation.owner_certificate = path;
    assert_ok(attest()); /* not signed yet */
    assert_int_equal(site.certificate_len, 0);
    write_text(path, other.certificate_pem); /* for the key of an earlier process */
    assert_ok(attest());
    assert_int_equal(site.certificate_len, 0);
    write_text(path, domain.identity.certificate_pem);
    assert_ok(attest());
    assert_int_equal(site.certificate_len, strlen(domain.identity.certificate_pem));
    write_text(path, "no certificate");
    attested.expires_ms = 99;
    assert_refused(ERROR_FAILED_PRECONDITION, attest());
    assert_contains(err.text, "--owner-certificate");
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(quote_speaks_for_both_keys_and_the_nonce),
        CASE(relayed_challenge_is_refused_before_a_quote),
        CASE(server_without_a_certificate_is_refused),
        CASE(session_from_another_server_is_refused),
        CASE(only_a_pinned_key_is_accepted),
        CASE(pins_are_hex_of_one_length),
        CASE(malformed_answers_are_refused),
        CASE(nonce_that_is_good_for_ever_does_not_make_it_wait_for_ever),
        CASE(word_of_a_refusal_is_kept),
        CASE(failed_attestation_is_not_read_as_no_such_volume),
        CASE(machine_without_quotes_says_so),
        CASE(token_is_read_anew_each_time),
        CASE(token_that_is_missing_empty_or_too_large_is_an_error),
        CASE(owner_certificate_is_sent_when_it_is_for_our_key),
    };

    return RUN_TESTS(tests);
}
