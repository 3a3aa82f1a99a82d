/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "tests/sim/sim.h"
#include "tests/unit/attest/fake_pcs.h"
#include "tests/unit/test.h"

#include <stdio.h>
#include <stdlib.h>

#define TIMEOUT_MS 300

static struct sim_pki *pki;
static struct collateral_set published;
static struct fake_pcs *pcs;

static int set_up(void **state UNUSED)
{
    struct sim_tcb tcb = sim_tcb_default();
    struct error err = ERROR_INIT;

    pki = sim_pki_new();
    sim_collateral(pki, &tcb, &published);
    return pcs_init(&err) ? 0 : -1;
}

static int tear_down(void **state UNUSED)
{
    collateral_set_free(&published);
    sim_pki_free(pki);
    pcs_done();
    return 0;
}

static int start(void **state UNUSED)
{
    pcs = fake_pcs_start();
    fake_pcs_serve(pcs, &published);
    return 0;
}

static int stop(void **state UNUSED)
{
    fake_pcs_stop(pcs);
    return 0;
}

static bool fetch(bool early, struct collateral_set *out, struct error *err)
{
    const struct pcs_options options = { .url = pcs->url,
                                         .early = early,
                                         .timeout_ms = TIMEOUT_MS };

    return pcs_fetch(&options, sim_platform_default.fmspc, PCK_CA_PLATFORM, out, err);
}

static void assert_verifies(const struct collateral_set *set)
{
    auto_collateral struct collateral verified = { .root = NULL };
    struct error err = ERROR_INIT;

    assert_ok(collateral_load(&set->source, sim_pki_root(pki), &verified, &err));
}

static void a_set_is_fetched_whole(void **state UNUSED)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PROCESSOR };
    struct error err = ERROR_INIT;

    assert_ok(fetch(false, &set, &err));
    assert_verifies(&set);
    assert_int_equal(set.ca, PCK_CA_PLATFORM);
    assert_memory_equal(set.fmspc, sim_platform_default.fmspc, FMSPC_LEN);
    assert_int_equal(atomic_load(&pcs->requests), 4);
}

/* --- one answer is wrong --- */

struct fault {
    const char *path;          /* the request's path begins with it */
    struct fake_answer answer; /* its set members replace those of the good answer */
    enum error_code code;
    const char *says;
};

static void spoil(void *cookie, const char *path, struct fake_answer *answer)
{
    const struct fault *fault = cookie;

    if (strncmp(path, fault->path, strlen(fault->path)) != 0)
        return;
    if (fault->answer.status)
        answer->status = fault->answer.status;
    if (fault->answer.body) {
        answer->body = fault->answer.body;
        answer->len = fault->answer.len;
    }
    if (fault->answer.chain_header)
        answer->chain_header = fault->answer.chain_header;
    if (fault->answer.chain.bytes)
        answer->chain = fault->answer.chain;
    answer->chain_twice = fault->answer.chain_twice;
    answer->extra_headers = fault->answer.extra_headers;
    answer->fault = fault->answer.fault;
}

#define TCB        "/tdx/certification/v4/tcb"
#define QE         "/tdx/certification/v4/qe/identity"
#define PCK_CRL    "/sgx/certification/v4/pckcrl"
#define ROOT       "/sgx/certification/v4/rootcacrl"
#define BODY(text) .body = (text), .len = sizeof(text) - 1
#define VIEW(text)                                \
    {                                             \
        (const uint8_t *)(text), sizeof(text) - 1 \
    }
#define PEM_LIST "-----BEGIN X509 CRL-----\nMIIB\n-----END X509 CRL-----\n"

static const struct fault faults[] = {
    { TCB, { .status = 404 }, ERROR_NOT_FOUND, "404" },
    { TCB, { .status = 410 }, ERROR_UNAVAILABLE, "410" },
    { TCB, { .status = 429 }, ERROR_UNAVAILABLE, "too often" },
    { QE, { .status = 500 }, ERROR_UNAVAILABLE, "500" },
    { QE, { .status = 503 }, ERROR_UNAVAILABLE, "503" },
    { TCB, { .status = 400 }, ERROR_FAILED_PRECONDITION, "400" },
    { TCB, { .status = 401 }, ERROR_FAILED_PRECONDITION, "401" },
    { TCB,
      { .status = 302, .extra_headers = "Location: http://127.0.0.1:1/\r\n" },
      ERROR_FAILED_PRECONDITION,
      "redirects are not followed" },
    { ROOT, { .status = 404 }, ERROR_NOT_FOUND, "root revocation list" },
    { TCB, { .fault = FAKE_HANG }, ERROR_UNAVAILABLE, "imed out" },
    { QE, { .fault = FAKE_CUT }, ERROR_UNAVAILABLE, "QE identity" },
    { TCB,
      { .chain_header = "SGX-TCB-Chain" },
      ERROR_FAILED_PRECONDITION,
      "TCB-Info-Issuer-Chain" },
    { QE, { .chain_twice = true }, ERROR_FAILED_PRECONDITION, "one header" },
    { TCB, { .chain = VIEW("a\x80") }, ERROR_FAILED_PRECONDITION, "percent-encoded" },
    { TCB, { .chain = VIEW("a\0b") }, ERROR_FAILED_PRECONDITION, "percent-encoded" },
    { PCK_CRL, { .chain = VIEW("no PEM") }, ERROR_FAILED_PRECONDITION, "PEM" },
    { PCK_CRL, { BODY(PEM_LIST) }, ERROR_FAILED_PRECONDITION, "PEM" },
    { PCK_CRL, { BODY("") }, ERROR_FAILED_PRECONDITION, "not DER" },
    { PCK_CRL, { BODY("0") }, ERROR_FAILED_PRECONDITION, "" },
    { ROOT, { BODY("3082zz") }, ERROR_FAILED_PRECONDITION, "not DER" },
    { ROOT, { BODY("4142") }, ERROR_FAILED_PRECONDITION, "not DER" },
    { TCB, { BODY("{\"tcbInfo\":{},\"signature\":\"00\"}") }, ERROR_FAILED_PRECONDITION, "" },
    { TCB, { BODY("<html>") }, ERROR_FAILED_PRECONDITION, "tcbInfo" },
    { TCB, { BODY("") }, ERROR_FAILED_PRECONDITION, "tcbInfo" },
};

static void an_error_says_what_is_wrong_with_the_answer(void **state UNUSED)
{
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct collateral_set set = { .ca = PCK_CA_PROCESSOR };
        struct fault fault = faults[i];

        fake_pcs_edit(pcs, spoil, &fault);
        err = (struct error)ERROR_INIT;
        bool done = fetch(false, &set, &err);
        fake_pcs_edit(pcs, NULL, NULL);
        /* only verification refuses a broken list that begins like DER */
        if (done && strcmp(fault.says, "") == 0) {
            collateral_set_free(&set);
            continue;
        }
        if (done || err.code != fault.code)
            fail_msg("fault %zu: %d %s", i, done, err.text);
        assert_contains(err.text, fault.says);
        assert_int_equal(set.ca, PCK_CA_PROCESSOR);
        assert_null(set.memory.blocks);
    }
}

static void an_answer_without_end_is_cut_off(void **state UNUSED)
{
    auto_free char *huge = calloc(1, COLLATERAL_PART_MAX + 1);
    struct fault fault = { TCB, { .body = huge, .len = COLLATERAL_PART_MAX + 1 }, 0, "" };
    struct collateral_set set;
    struct error err = ERROR_INIT;

    fake_pcs_edit(pcs, spoil, &fault);
    assert_refused(ERROR_FAILED_PRECONDITION, fetch(false, &set, &err));
    assert_contains(err.text, "larger than");
    fake_pcs_edit(pcs, NULL, NULL); /* before the answer is freed */
}

static void lists_as_hex_digits_are_read(void **state UNUSED)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };
    const struct bytes_view der = published.source.root_ca_crl;
    auto_free char *hex = malloc(2 * der.len + 2);
    struct fault fault = { ROOT, { .body = hex, .len = 2 * der.len + 1 }, 0, "" };
    struct error err = ERROR_INIT;

    hex_encode(der.bytes, der.len, hex);
    memcpy(hex + 2 * der.len, "\n", 2);
    fake_pcs_edit(pcs, spoil, &fault);
    assert_ok(fetch(false, &set, &err));
    fake_pcs_edit(pcs, NULL, NULL);
    assert_verifies(&set);
}

static void another_platforms_collateral_is_refused(void **state UNUSED)
{
    static const uint8_t other[FMSPC_LEN] = { 1, 2, 3, 4, 5, 6 };
    const struct pcs_options options = { .url = pcs->url, .timeout_ms = TIMEOUT_MS };
    struct collateral_set set;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_FAILED_PRECONDITION,
                   pcs_fetch(&options, other, PCK_CA_PLATFORM, &set, &err));
    assert_contains(err.text, "another platform");
    assert_refused(ERROR_FAILED_PRECONDITION,
                   pcs_fetch(&options, sim_platform_default.fmspc, PCK_CA_PROCESSOR, &set, &err));
}

/* --- early data --- */

struct early {
    int status; /* for early requests to path */
    const char *path;
    unsigned early, standard;
};

static void count_early(void *cookie, const char *path, struct fake_answer *answer)
{
    struct early *e = cookie;

    if (strstr(path, "update=early")) {
        e->early++;
        if (strncmp(path, e->path, strlen(e->path)) == 0)
            answer->status = e->status;
    } else if (strstr(path, "/tdx/")) {
        e->standard++;
    }
}

static void without_early_data_the_standard_data_is_fetched(void **state UNUSED)
{
    static const struct {
        int status;
        const char *path;
        unsigned early, standard;
        enum error_code code;
    } cases[] = {
        { 200, TCB, 2, 0, ERROR_NONE }, { 400, TCB, 1, 2, ERROR_NONE },
        { 404, TCB, 1, 2, ERROR_NONE }, { 410, TCB, 1, 2, ERROR_NONE },
        { 404, QE, 2, 2, ERROR_NONE },  { 500, TCB, 1, 0, ERROR_UNAVAILABLE },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };
        struct early early = { .status = cases[i].status, .path = cases[i].path };
        struct error err = ERROR_INIT;

        fake_pcs_edit(pcs, count_early, &early);
        assert_int_equal(fetch(true, &set, &err), cases[i].code == ERROR_NONE);
        fake_pcs_edit(pcs, NULL, NULL);
        assert_int_equal(err.code == ERROR_NONE || cases[i].code == ERROR_NONE ? ERROR_NONE
                                                                               : err.code,
                         cases[i].code);
        assert_int_equal(early.early, cases[i].early);
        assert_int_equal(early.standard, cases[i].standard);
    }
}

static bool always(void *cookie UNUSED)
{
    return true;
}

static void a_cancelled_fetch_ends(void **state UNUSED)
{
    const struct pcs_options options = { .url = pcs->url, .is_cancelled = always };
    struct collateral_set set;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_CANCELLED,
                   pcs_fetch(&options, sim_platform_default.fmspc, PCK_CA_PLATFORM, &set, &err));
}

static void a_port_without_a_service_is_unavailable(void **state UNUSED)
{
    const struct pcs_options options = { .url = "http://127.0.0.1:1", .timeout_ms = TIMEOUT_MS };
    struct collateral_set set;
    struct error err = ERROR_INIT;

    assert_refused(ERROR_UNAVAILABLE,
                   pcs_fetch(&options, sim_platform_default.fmspc, PCK_CA_PLATFORM, &set, &err));
}

static void only_https_and_loopback_addresses_are_accepted(void **state UNUSED)
{
    static const char *const good[] = { "https://pccs.example:8081", "https://pccs.example/base/",
                                        "http://127.0.0.1:8080", "http://[::1]:8080" };
    static const char *const bad[] = { "",
                                       "pccs.example",
                                       "http://pccs.example",
                                       "http://localhost:8080",
                                       "http://127.0.0.1.example:80",
                                       "http://127.0.0.1@pccs.example/",
                                       "https://user:password@pccs.example",
                                       "https://pccs.example/?a=b",
                                       "https://pccs.example/#a",
                                       "ftp://127.0.0.1/",
                                       "file:///etc/passwd",
                                       "https://" };
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_ok(pcs_options_check(&(struct pcs_options){ .url = good[i] }, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       pcs_options_check(&(struct pcs_options){ .url = bad[i] }, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   pcs_options_check(&(struct pcs_options){ .url = good[0], .ca_file = "" }, &err));
    assert_refused(
        ERROR_INVALID_ARGUMENT,
        pcs_options_check(&(struct pcs_options){ .url = good[0], .root_crl_url = "http://a.b/" },
                          &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   pcs_options_check(&(struct pcs_options){ .url = NULL }, &err));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_set_is_fetched_whole),
        CASE(an_error_says_what_is_wrong_with_the_answer),
        CASE(an_answer_without_end_is_cut_off),
        CASE(lists_as_hex_digits_are_read),
        CASE(another_platforms_collateral_is_refused),
        CASE(without_early_data_the_standard_data_is_fetched),
        CASE(a_cancelled_fetch_ends),
        CASE(a_port_without_a_service_is_unavailable),
        CASE(only_https_and_loopback_addresses_are_accepted),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
