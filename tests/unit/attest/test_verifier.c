/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/verifier.h"
#include "base/secret.h"
#include "tests/unit/attest/scene.h"

/* A scene as a verifier sees it: bytes go in, claims come out. test_verify*.c test how quotes are
 * judged. */

struct lender {
    struct scene *scene;
    unsigned lent, back;
    bool refuses;
};

static bool lend(void *cookie, const struct quote *quote, const struct collateral **out,
                 struct error *err)
{
    struct lender *l = cookie;

    assert_memory_equal(quote->td.mrtd, l->scene->td.mrtd, MEASUREMENT_LEN);
    if (l->refuses)
        return error_set(err, ERROR_UNAVAILABLE, "not today");
    l->lent++;
    *out = &l->scene->collateral;
    return true;
}

static void take_back(void *cookie, const struct collateral *collateral)
{
    struct lender *l = cookie;

    assert_ptr_equal(collateral, &l->scene->collateral);
    l->back++;
}

static struct verifier_request request_of(struct lender *l)
{
    return (struct verifier_request){ .quote = { l->scene->quote, l->scene->quote_len },
                                      .lender = { lend, take_back, l },
                                      .now = l->scene->now };
}

static bool verify(const struct verifier_request *request, struct tee_claims *out,
                   struct error *err)
{
    *err = (struct error)ERROR_INIT;
    return verifier_tdx.verify(request, out, err);
}

static void a_verifier_is_found_by_its_name(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    assert_ptr_equal(verifier_find("tdx", &err), &verifier_tdx);
    assert_int_equal(err.code, ERROR_NONE);
}

static void an_unknown_tee_is_refused_and_the_known_are_named(void **state UNUSED)
{
    static const char *const unknown[] = { "", "snp", "TDX", "tdx ", "td" };

    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        struct error err = ERROR_INIT;

        assert_null(verifier_find(unknown[i], &err));
        assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
        assert_contains(err.text, unknown[i]);
        assert_contains(err.text, "the known ones are tdx");
    }
}

static void a_good_quote_gives_claims_of_its_kind(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s };
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    const struct verifier_request request = request_of(&lender);
    assert_ok(verify(&request, &claims, &err));
    assert_int_equal(claims.kind, TEE_TDX);
    assert_memory_equal(tee_claims_td(&claims)->mrtd, s->td.mrtd, MEASUREMENT_LEN);
    assert_int_equal(lender.lent, 1);
    assert_int_equal(lender.back, 1);
    claims.kind = 0;
    assert_null(tee_claims_td(&claims));
}

static void zeros_after_a_quote_do_not_change_its_hash(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s };
    struct tee_claims plain, padded;
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    struct verifier_request request = request_of(&lender);
    assert_ok(verify(&request, &plain, &err));
    bytes_wipe(s->quote + s->quote_len, 100);
    request.quote.len += 100;
    assert_ok(verify(&request, &padded, &err));
    assert_memory_equal(plain.quote_sha256, padded.quote_sha256, 32);
}

static void a_quote_over_other_report_data_is_refused(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s };
    uint8_t wanted[REPORT_DATA_LEN];
    struct tee_claims claims = { .td.xfam = 77 };
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    memcpy(wanted, s->td.report_data, sizeof(wanted));
    struct verifier_request request = request_of(&lender);
    request.report_data = wanted;
    for (size_t i = 0; i < sizeof(wanted); i++) {
        wanted[i] ^= 1;
        assert_refused(ERROR_DENIED, verify(&request, &claims, &err));
        assert_string_equal(err.reason, "ReportData");
        wanted[i] ^= 1;
    }
    assert_int_equal(claims.td.xfam, 77);
    assert_int_equal(lender.back, sizeof(wanted));
    assert_ok(verify(&request, &claims, &err));
}

static void bytes_that_are_no_quote_need_no_collateral(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s };
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    s->quote[0] = 9;
    const struct verifier_request request = request_of(&lender);
    assert_refused(ERROR_DENIED, verify(&request, &claims, &err));
    assert_string_equal(err.reason, "QuoteVersion");
    assert_int_equal(lender.lent, 0);
}

static void an_error_of_the_lender_is_returned(void **state UNUSED)
{
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s, .refuses = true };
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    const struct verifier_request request = request_of(&lender);
    assert_refused(ERROR_UNAVAILABLE, verify(&request, &claims, &err));
    assert_string_equal(err.text, "not today");
    assert_int_equal(lender.back, 0);
}

static void a_refused_quote_gives_its_collateral_back(void **state UNUSED)
{
    static const uint8_t no_log[300] = { 0xff };
    auto_scene struct scene *s = scene_new();
    struct lender lender = { .scene = s };
    struct tee_claims claims;
    struct error err = ERROR_INIT;

    assert_string_equal(scene_run(s), "");
    struct verifier_request request = request_of(&lender);
    request.event_log = (struct bytes_view){ no_log, sizeof(no_log) };
    assert_refused(ERROR_DENIED, verify(&request, &claims, &err));
    assert_string_equal(err.reason, "EventLogMalformed");
    s->quote[AT_SIGNATURE] ^= 1;
    assert_refused(ERROR_DENIED, verify(&request, &claims, &err));
    assert_string_equal(err.reason, "QuoteSignature");
    assert_int_equal(lender.lent, 2);
    assert_int_equal(lender.back, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_verifier_is_found_by_its_name),
        cmocka_unit_test(an_unknown_tee_is_refused_and_the_known_are_named),
        cmocka_unit_test(a_good_quote_gives_claims_of_its_kind),
        cmocka_unit_test(zeros_after_a_quote_do_not_change_its_hash),
        cmocka_unit_test(a_quote_over_other_report_data_is_refused),
        cmocka_unit_test(bytes_that_are_no_quote_need_no_collateral),
        cmocka_unit_test(an_error_of_the_lender_is_returned),
        cmocka_unit_test(a_refused_quote_gives_its_collateral_back),
    };

    return RUN_TESTS(tests);
}
