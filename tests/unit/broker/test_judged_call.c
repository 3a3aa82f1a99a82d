/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "tests/unit/broker/evidence.h"

/* Proofs that a policy wants beside the quote: when a client attests, and in its session. */

#define M(name) Tdvol__Keybroker__V1__##name

#define ONES_16 "1111111111111111"
#define ONES    ONES_16 ONES_16 ONES_16 ONES_16 ONES_16 ONES_16 /* a measurement */
#define TOKEN_OWNER                                                                            \
    "\"owner\":{\"token\":{\"issuer\":\"i\",\"audience\":\"a\",\"subjects\":[\"s\"],\"keys\":" \
    "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","                                            \
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                                   \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}}},"

static enum error_code attest(struct evidence_scene *w, const char *token, const char *certificate,
                              struct error *err)
{
    static struct evidence_try try;

    evidence_prepare(&w->e, &w->td, &try);
    try.owner_token = token;
    try.owner_certificate = certificate;
    (void)evidence_attest(&w->e, &w->td, &try, err);
    return err->code;
}

/* The code of a call that any rule allows. */
static enum error_code status(struct evidence_scene *w, struct error *err)
{
    M(GetStatusRequest) request = TDVOL__KEYBROKER__V1__GET_STATUS_REQUEST__INIT;

    (void)evidence_call(&w->e, &w->td, "GetStatus", &request.base, err);
    return err->code;
}

/* A node sends all proofs that it has, also those that the policy does not need. */
static void a_proof_that_no_rule_wants_counts_as_not_shown(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    assert_int_equal(attest(w, "e30.e30.AAAA", "not even PEM", &err), ERROR_NONE);
    assert_int_equal(status(w, &err), ERROR_NONE);
    auto_free char *line = evidence_last_line(&w->e);
    assert_null(strstr(line, "token_"));
    assert_null(strstr(line, "owner"));
}

static void a_proof_that_a_rule_wants_must_be_right(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    evidence_set_policy(&w->e, NULL, TOKEN_OWNER);
    assert_int_equal(attest(w, NULL, NULL, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "OwnerMissing");
    assert_int_equal(attest(w, "e30.e30.AAAA", NULL, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "TokenAlgorithm");
    assert_int_equal(attest(w, NULL, "no rule wants this", &err), ERROR_DENIED);
    assert_string_equal(err.reason, "OwnerMissing");
}

/* The client may have the proof that the new policy wants: no rule wanted it before. */
static void a_session_that_lacks_a_proof_by_now_may_attest_anew(void **state)
{
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    assert_int_equal(attest(w, NULL, NULL, &err), ERROR_NONE);
    evidence_set_policy(&w->e, NULL, TOKEN_OWNER);
    assert_int_equal(status(w, &err), ERROR_UNAUTHENTICATED);
    assert_string_equal(err.reason, "OwnerMissing");
    auto_free char *line = evidence_last_line(&w->e);
    assert_contains(line, "the rule wants a token");
    evidence_set_policy(&w->e, NULL, "\"owner\":{\"mrowner\":[\"" ONES "\"]},");
    assert_int_equal(status(w, &err), ERROR_DENIED);
    assert_string_equal(err.reason, "OwnerMismatch");
}

/* --- a store that makes a change and does not say so, and then takes no audit line --- */

static const struct store_ops *good_ops;

static bool swap_without_answer(struct store *store, const struct store_change *change,
                                struct error *err)
{
    return good_ops->swap(store, change, err) &&
           error_set(err, ERROR_UNAVAILABLE, "it may have been made, or not");
}

static bool put_no_head(struct store *store, const struct store_head *head, struct error *err)
{
    (void)store, (void)head;
    return error_set(err, ERROR_INTERNAL, "no head is taken");
}

/* Whoever made space for the volume would remove it, if the code said that nothing was made. */
static void a_lost_answer_stays_open_when_its_line_is_not_written(void **state)
{
    static char v[] = "v", other[] = "w";
    struct evidence_scene *w = *state;
    struct store *store = w->e.f.broker.store;
    struct store_ops bad = *store->ops;
    struct error err = ERROR_INIT;

    assert_int_equal(attest(w, NULL, NULL, &err), ERROR_NONE);
    good_ops = store->ops;
    bad.swap = swap_without_answer;
    bad.put_head = put_no_head;
    store->ops = &bad;
    assert_null(evidence_create(&w->e, &w->td, v, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_contains(err.text, "it may have been made, or not");
    assert_contains(err.text, "no head is taken");
    /* A refusal that decides is not given without its line. */
    assert_int_equal(evidence_open(&w->e, &w->td, other, w->td.sealing.public_key, &err),
                     ERROR_INTERNAL);
    assert_contains(err.text, "audit log: no head is taken");
    store->ops = good_ops;
    assert_non_null(evidence_create(&w->e, &w->td, v, &err));
}

/* --- a tenant that makes and deletes records without end --- */

static void a_tenant_makes_as_many_records_a_minute_as_its_rule_says(void **state)
{
    static char ids[][3] = { "v0", "v1", "v2", "v3", "v4" };
    struct evidence_scene *w = *state;
    struct error err = ERROR_INIT;

    evidence_set_policy(&w->e, NULL, "\"limits\":{\"creates_per_minute\":3},");
    assert_int_equal(attest(w, NULL, NULL, &err), ERROR_NONE);
    for (int i = 0; i < 3; i++) {
        assert_non_null(evidence_create(&w->e, &w->td, ids[i], &err));
        evidence_erase(&w->e, &w->td, ids[i]);
    }
    assert_null(evidence_create(&w->e, &w->td, ids[3], &err));
    assert_int_equal(err.code, ERROR_RESOURCE_EXHAUSTED);
    assert_contains(err.text, "more than 3 volumes and snapshots a minute");
    assert_null(evidence_create(&w->e, &w->td, ids[0], &err)); /* an erased one is new, too */
    fixture_now_ms += 20000;
    assert_non_null(evidence_create(&w->e, &w->td, ids[3], &err));
    assert_non_null(evidence_create(&w->e, &w->td, ids[3], &err)); /* it is there already */
    assert_null(evidence_create(&w->e, &w->td, ids[4], &err));
    /* Opening has a rate of its own. */
    assert_int_equal(evidence_open(&w->e, &w->td, ids[3], w->td.sealing.public_key, &err),
                     ERROR_NONE);
}

static bool list_until_nobody_waits(struct store *store, const struct store_filter *filter,
                                    bool (*visit)(void *cookie, const struct record *r),
                                    void *cookie, struct error *err)
{
    struct rpc_call *call = filter->cookie;

    assert_true(store_check_wanted(filter, err));
    call->deadline_ms = clock_now_ms(); /* and this is it */
    return good_ops->list(store, filter, visit, cookie, err) && store_check_wanted(filter, err);
}

static void a_list_ends_with_its_call(void **state)
{
    static char d[] = "d";
    struct evidence_scene *w = *state;
    struct store *store = w->e.f.broker.store;
    struct store_ops timed = *store->ops;
    M(ListRecordsRequest) request = TDVOL__KEYBROKER__V1__LIST_RECORDS_REQUEST__INIT;
    struct error err = ERROR_INIT;

    request.driver = d;
    assert_int_equal(attest(w, NULL, NULL, &err), ERROR_NONE);
    good_ops = store->ops;
    timed.list = list_until_nobody_waits;
    store->ops = &timed;
    assert_null(evidence_call(&w->e, &w->td, "ListRecords", &request.base, &err));
    store->ops = good_ops;
    assert_int_equal(err.code, ERROR_CANCELLED);
    assert_non_null(evidence_call(&w->e, &w->td, "ListRecords", &request.base, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, evidence_set_up, evidence_tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        CASE(a_proof_that_no_rule_wants_counts_as_not_shown),
        CASE(a_proof_that_a_rule_wants_must_be_right),
        CASE(a_session_that_lacks_a_proof_by_now_may_attest_anew),
        CASE(a_tenant_makes_as_many_records_a_minute_as_its_rule_says),
        CASE(a_list_ends_with_its_call),
        CASE(a_lost_answer_stays_open_when_its_line_is_not_written),
    };

    return RUN_TESTS(tests);
}
