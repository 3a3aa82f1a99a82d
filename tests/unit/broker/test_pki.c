/* SPDX-License-Identifier: Apache-2.0 */
#include "broker/pki.h"
#include "ctl/pki.h"
#include "tests/unit/test.h"

#include <time.h>

/* Our CA and a foreign CA. The certificates are made as "tdvolctl broker init" makes them. */
#define NOT_DER "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
#define UMLAUT  "n\303\266de"

static struct authority *ours, *foreign;

static int setup(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(authority_new("ours", 10, &ours, &err));
    assert_ok(authority_new("foreign", 10, &foreign, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    authority_free(&ours);
    authority_free(&foreign);
    return 0;
}

static void issue(const struct authority *ca, const char *cn, bool is_server, int days,
                  struct certificate_pair *out)
{
    const struct certificate_request request = { .common_name = cn,
                                                 .is_server = is_server,
                                                 .days = days };
    struct error err = ERROR_INIT;

    assert_ok(authority_issue(ca, &request, out, &err));
}

static struct pki_trust *trust_in(const struct authority *ca)
{
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    struct pki_trust *trust = NULL;
    struct error err = ERROR_INIT;

    assert_ok(authority_export(ca, &pair, &err));
    assert_ok(pki_trust_new(pair.certificate_pem, &trust, &err));
    return trust;
}

static bool verify(const struct pki_trust *trust, const char *pem, struct certificate_claims *out,
                   struct error *err)
{
    auto_pki_client struct pki_client client = { .certificate = NULL };

    return pki_client_read(pem, &client, err) && pki_verify_client(trust, &client, out, err);
}

static void a_client_of_the_ca_is_known_by_name_and_digest(void **state)
{
    auto_pki_trust struct pki_trust *trust = trust_in(ours);
    auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
    struct certificate_claims out;
    struct error err = ERROR_INIT;

    (void)state;
    issue(ours, "node-1", false, 1, &pair);
    assert_ok(verify(trust, pair.certificate_pem, &out, &err));
    assert_string_equal(out.common_name, "node-1");
    assert_int_equal(strlen(out.sha256), 64);
}

static void others_are_unauthenticated(void **state)
{
    auto_pki_trust struct pki_trust *trust = trust_in(ours);
    const struct {
        const struct authority *ca;
        bool is_server;
        int days;
        const char *part;
    } rows[] = {
        { foreign, false, 1, "unable to get local issuer" },
        { ours, false, -1, "expired" },
        { ours, true, 1, "purpose" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
        struct certificate_claims out;
        struct error err = ERROR_INIT;

        issue(rows[i].ca, "node", rows[i].is_server, rows[i].days, &pair);
        assert_refused(ERROR_UNAUTHENTICATED, verify(trust, pair.certificate_pem, &out, &err));
        assert_contains(err.text, rows[i].part);
    }
}

static void what_is_no_certificate_is_unauthenticated(void **state)
{
    static const char *const bad[] = { "", "x", "-----BEGIN CERTIFICATE-----\n", NOT_DER };
    auto_pki_trust struct pki_trust *trust = trust_in(ours);
    struct certificate_claims out;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_UNAUTHENTICATED, verify(trust, bad[i], &out, &err));
}

/* Control characters, spaces and other scripts cannot be told apart in a policy or a log. */
static void a_strange_common_name_is_no_claim(void **state)
{
    static const char *const names[] = { "a b", "a\nb", UMLAUT };
    auto_pki_trust struct pki_trust *trust = trust_in(ours);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        auto_certificate_pair struct certificate_pair pair = { .certificate_pem = NULL };
        struct certificate_claims out;
        struct error err = ERROR_INIT;

        issue(ours, names[i], false, 1, &pair);
        assert_ok(verify(trust, pair.certificate_pem, &out, &err));
        assert_string_equal(out.common_name, "");
    }
}

static void a_list_without_good_certificates_is_refused(void **state)
{
    static const char *const bad[] = { "", "rubbish", NOT_DER };
    struct pki_trust *trust = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT, pki_trust_new(bad[i], &trust, &err));
}

static void a_server_needs_its_own_key_and_good_dates(void **state)
{
    auto_certificate_pair struct certificate_pair good = { .certificate_pem = NULL };
    auto_certificate_pair struct certificate_pair other = { .certificate_pem = NULL };
    auto_certificate_pair struct certificate_pair old = { .certificate_pem = NULL };
    auto_secret struct secret rubbish = SECRET_INIT;
    struct error err = ERROR_INIT;
    int64_t until = 0, now = (int64_t)time(NULL);

    (void)state;
    issue(ours, "broker", true, 1, &good);
    issue(ours, "broker", true, 1, &other);
    issue(ours, "broker", true, -1, &old);
    assert_ok(secret_alloc(&rubbish, 10, &err));
    assert_ok(pki_check_server(good.certificate_pem, &good.private_key_pem, &until, &err));
    assert_in_range(until, now + 86400 - 600, now + 86400 + 600);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   pki_check_server(good.certificate_pem, &other.private_key_pem, &until, &err));
    assert_contains(err.text, "does not belong");
    assert_refused(ERROR_FAILED_PRECONDITION,
                   pki_check_server(old.certificate_pem, &old.private_key_pem, &until, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   pki_check_server(good.certificate_pem, &rubbish, &until, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   pki_check_server("rubbish", &good.private_key_pem, &until, &err));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_of_the_ca_is_known_by_name_and_digest),
        cmocka_unit_test(others_are_unauthenticated),
        cmocka_unit_test(what_is_no_certificate_is_unauthenticated),
        cmocka_unit_test(a_strange_common_name_is_no_claim),
        cmocka_unit_test(a_list_without_good_certificates_is_refused),
        cmocka_unit_test(a_server_needs_its_own_key_and_good_dates),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, setup, teardown);
}
