/* SPDX-License-Identifier: Apache-2.0 */
#include "keys/evidence_request.h"
#include "tests/unit/csi/fake.h"
#include "tests/unit/test.h"

/* Evidence from a worker, and which evidence is refused. */

static struct error err;
static const struct binding binding = {
    .nonce = { 1 },
    .client_key_sha256 = { 2 },
    .broker_key_sha256 = { 3 },
    .sealing_key_sha256 = { 99 }, /* not read */
};
static struct evidence evidence;
static uint8_t key[HPKE_PUBLIC_LEN];

static bool attest(struct fake *fake)
{
    const struct workers blocks = { .run = fake_run, .cookie = fake };

    evidence = (struct evidence){ .quote = NULL };
    bool done = workers_collect_evidence(&blocks, NULL, &binding, 0, &evidence, key, &err);
    assert_true(done || (!evidence.quote && !evidence.event_log));
    return done;
}

static int make(void **state)
{
    struct fake *fake = fake_new();

    fake->sealing_public_key[0] = 77;
    key[0] = 0;
    *state = fake;
    return 0;
}

static int drop(void **state)
{
    evidence_free(&evidence);
    fake_free(*state);
    return 0;
}

static void quote_comes_back_with_the_key_it_speaks_for(void **state)
{
    assert_ok(attest(*state));
    assert_int_equal(evidence.quote_len, FAKE_QUOTE_LEN);
    assert_null(evidence.event_log);
    assert_int_equal(key[0], 77);
}

static void worker_gets_the_binding_but_no_volume(void **state)
{
    struct fake *fake = *state;

    assert_ok(attest(fake));
    assert_int_equal(fake->last.operation, BLOCK_ATTEST);
    assert_string_equal(fake->last.volume_id, "");
    assert_memory_equal(fake->last.attest.nonce, binding.nonce, BINDING_LEN);
    assert_memory_equal(fake->last.attest.client_key_sha256, binding.client_key_sha256,
                        BINDING_LEN);
    assert_memory_equal(fake->last.attest.broker_key_sha256, binding.broker_key_sha256,
                        BINDING_LEN);
}

static void event_log_comes_back_whole(void **state)
{
    struct fake *fake = *state;

    fake->event_log_len = ATTESTER_EVENT_LOG_MAX;
    assert_ok(attest(fake));
    assert_int_equal(evidence.event_log_len, ATTESTER_EVENT_LOG_MAX);
    assert_true(evidence.event_log[0] == 1 && evidence.event_log[5001] == 2);
}

static void event_log_without_end_is_refused(void **state)
{
    struct fake *fake = *state;

    fake->event_log_len = ATTESTER_EVENT_LOG_MAX + 1;
    assert_refused(ERROR_INTERNAL, attest(fake));
    assert_int_equal(key[0], 0);
}

static void refuse_fault(struct fake *fake, enum error_code code)
{
    fake->fault = (struct fake_fault){ .at = "ATTEST", .code = code, .reason = ATTESTER_REASON };
    assert_refused(code, attest(fake));
    assert_string_equal(err.reason, "QuoteUnavailable");
}

static void worker_s_refusal_keeps_code_and_reason(void **state)
{
    refuse_fault(*state, ERROR_UNAVAILABLE);
    refuse_fault(*state, ERROR_FAILED_PRECONDITION);
}

static void worker_that_did_not_answer_in_time_means_no_quote(void **state)
{
    struct fake *fake = *state;

    fake->fault = (struct fake_fault){ .at = "ATTEST", .code = ERROR_DEADLINE_EXCEEDED };
    assert_refused(ERROR_UNAVAILABLE, attest(fake));
    assert_string_equal(err.reason, "QuoteUnavailable");
}

/* --- workers that break the protocol --- */

static bool send_nothing(void *cookie UNUSED, const struct block_run *run UNUSED,
                         struct block_result *out, struct error *run_err UNUSED)
{
    *out = (struct block_result){ .already = false };
    return true;
}

static void success_without_a_quote_is_refused(void **state UNUSED)
{
    const struct workers blocks = { .run = send_nothing };

    assert_refused(ERROR_INTERNAL,
                   workers_collect_evidence(&blocks, NULL, &binding, 0, &evidence, key, &err));
}

static bool send_endless_quote(void *cookie UNUSED, const struct block_run *run,
                               struct block_result *out, struct error *run_err)
{
    static const struct block_data data = { .part = BLOCK_DATA_QUOTE, .len = BLOCK_DATA_MAX };
    size_t sent = 0;

    *out = (struct block_result){ .already = false };
    while (run->hooks->data(run->hook_cookie, &data, run_err))
        sent += data.len;
    assert_int_equal(sent, QUOTE_LEN_MAX);
    return false;
}

static void quote_without_end_is_refused(void **state UNUSED)
{
    const struct workers blocks = { .run = send_endless_quote };

    assert_refused(ERROR_INTERNAL,
                   workers_collect_evidence(&blocks, NULL, &binding, 0, &evidence, key, &err));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = {
        CASE(quote_comes_back_with_the_key_it_speaks_for),
        CASE(worker_gets_the_binding_but_no_volume),
        CASE(event_log_comes_back_whole),
        CASE(event_log_without_end_is_refused),
        CASE(worker_s_refusal_keeps_code_and_reason),
        CASE(worker_that_did_not_answer_in_time_means_no_quote),
        CASE(success_without_a_quote_is_refused),
        CASE(quote_without_end_is_refused),
    };

    return RUN_TESTS(tests);
}
