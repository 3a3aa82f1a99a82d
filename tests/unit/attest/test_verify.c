/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/claims.h"
#include "attest/reason.h"
#include "tests/unit/attest/vectors.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SET_A "A-v4-uptodate-b0c06f"
#define SET_C "C-v5-td15-uptodate-90c06f"

/* The verdict of the strict default; "" when accepted. */
static const char *judge(const struct vector_set *set, const void *quote, size_t len, int64_t now,
                         struct pck_cache *cache)
{
    static struct error err;
    struct quote parsed;
    struct verified_quote verified;
    struct tee_claims claims;
    const struct verify_request request = {
        .quote = &parsed, .collateral = &set->collateral, .now = now, .cache = cache
    };

    err = (struct error)ERROR_INIT;
    if (quote_parse(quote, len, &parsed, &err) && quote_verify(&request, &verified, &err) &&
        tee_claims_from_td(&verified, &set->collateral, NULL, 0, &claims, &err) &&
        td_claims_check_acceptable(&claims.td, &err))
        return "";
    assert_int_equal(err.code, ERROR_DENIED);
    assert_true(err.reason[0] != '\0' && err.text[0] != '\0');
    return err.reason;
}

/* Counts the vectors, so that no new one is overlooked. */
static size_t count_files(const char *below)
{
    DIR *folder = opendir(vectors_path(below));
    size_t n = 0;

    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
        n += entry->d_name[0] != '.';
    (void)closedir(folder);
    return n;
}

static void real_quotes_give_their_verdicts(void **state)
{
    static const struct {
        const char *name, *reason;
    } sets[] = {
        { SET_A, "" },
        { SET_C, "" },
        { "D-v5-td15-outofdate-servicetd-90c06f", "TcbOutOfDate" },
        { "E-v5-td15-tcb-notsupported-90c06f", "TcbNotSupported" },
        { "F-v4-DEBUG-td-50806f", "TdDebug" },
        { "X1-fmspc-mismatch", "FmspcMismatch" },
    };

    (void)state;
    NEEDS_VECTORS;
    assert_int_equal(count_files("quotes"), ARRAY_LEN(sets));
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        struct vector_set set;

        vector_set_load(sets[i].name, &set);
        assert_string_equal(judge(&set, set.quote, set.quote_len, set.check_time, NULL),
                            sets[i].reason);
        assert_int_equal(set.is_accepted, sets[i].reason[0] == '\0');
        assert_int_equal(set.collateral.tcb.evaluation_number, set.evaluation_number);
        assert_string_equal(judge(&set, set.quote, set.quote_len, time(NULL), NULL),
                            "CollateralExpired");
        assert_string_equal(judge(&set, set.quote, set.quote_len, 1500000000, NULL),
                            "CollateralNotYetValid");
        vector_set_free(&set);
    }
}

/* Keeps the status that the TCB step found, also for quotes that it refuses. */
static void keep_status(void *cookie, const char *name, bool ok, const char *detail,
                        const struct verified_quote *so_far)
{
    const char **status = cookie;

    (void)ok;
    (void)detail;
    if (strcmp(name, VERIFY_STEP_TCB) == 0)
        *status = tcb_status_name(so_far->tcb.status);
}

static void real_quotes_have_their_tcb_status(void **state)
{
    static const char *const names[] = {
        SET_A,
        SET_C,
        "D-v5-td15-outofdate-servicetd-90c06f",
        "E-v5-td15-tcb-notsupported-90c06f",
        "F-v4-DEBUG-td-50806f",
        "X1-fmspc-mismatch",
    };

    (void)state;
    NEEDS_VECTORS;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *status = "n/a";
        const struct verify_trace trace = { keep_status, &status };
        struct error err = ERROR_INIT;
        struct quote quote;
        struct verified_quote verified;
        struct vector_set set;

        vector_set_load(names[i], &set);
        assert_ok(quote_parse((const uint8_t *)set.quote, set.quote_len, &quote, &err));
        const struct verify_request request = {
            .quote = &quote, .collateral = &set.collateral, .now = set.check_time, .trace = &trace
        };
        (void)!quote_verify(&request, &verified, &err);
        assert_string_equal(status, set.tcb_status);
        vector_set_free(&set);
    }
}

/* Turns [root, leaf] into [leaf, root], in place. */
static void leaf_first(struct bytes_view chain)
{
    static const char begin[] = "-----BEGIN";
    char *text = (char *)(uintptr_t)chain.bytes;
    const char *leaf = strstr(text + 1, begin);

    assert_non_null(leaf);
    size_t root_len = (size_t)(leaf - text), leaf_len = chain.len - root_len;
    auto_free char *root = strndup(text, root_len);
    memmove(text, leaf, leaf_len);
    memcpy(text + leaf_len, root, root_len);
}

/* Under Intel's root for tests everything is right except the root. */
static void intels_test_root_is_no_root(void **state)
{
    static const char *const files[] = { "rootCaCrl.der",    "intermediateCaCrl.der",
                                         "pckSignChain.pem", "tcbSignChain.pem",
                                         "tcbInfo.json",     "qeIdentity.json",
                                         "quote.dat" };
    enum { ROOT_CRL, PCK_CRL, PCK_CHAIN, SIGNER, TCB_INFO, QE_IDENTITY, QUOTE, FILES };
    struct bytes_view views[FILES];
    struct collateral_source source = { .root_ca_crl = { .len = 0 } };
    auto_collateral struct collateral collateral = { .root = NULL };
    struct error err = ERROR_INIT;
    struct vector_set a;

    (void)state;
    NEEDS_VECTORS;
    for (size_t i = 0; i < FILES; i++) {
        char below[64];

        (void)snprintf(below, sizeof(below), "intel-test-root/%s", files[i]);
        views[i].bytes = (const uint8_t *)vector_file(below, &views[i].len);
    }
    source.root_ca_crl = views[ROOT_CRL];
    source.pck_crl = views[PCK_CRL];
    source.pck_crl_chain = views[PCK_CHAIN];
    leaf_first(views[SIGNER]);
    source.tcb_info_chain = source.qe_identity_chain = views[SIGNER];
    assert_ok(collateral_split_response("tcbInfo", views[TCB_INFO], &source.tcb_info,
                                        &source.tcb_info_signature_hex, &err));
    assert_ok(collateral_split_response("enclaveIdentity", views[QE_IDENTITY], &source.qe_identity,
                                        &source.qe_identity_signature_hex, &err));
    assert_refused(ERROR_DENIED, collateral_load(&source, &trust_root_intel, &collateral, &err));
    assert_string_equal(err.reason, "PckRootUnknown");
    vector_set_load(SET_A, &a);
    /* its certificates are DER, but quotes of machines have PEM */
    assert_string_equal(judge(&a, views[QUOTE].bytes, views[QUOTE].len, a.check_time, NULL),
                        "PckChainMalformed");
    vector_set_free(&a);
    for (size_t i = 0; i < FILES; i++)
        free((void *)(uintptr_t)views[i].bytes);
}

static void dates_are_valid_at_both_edges_and_not_beyond(void **state)
{
    struct vector_set set;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load(SET_C, &set);
    int64_t first = set.collateral.tcb.issue_date, last = collateral_next_update(&set.collateral);
    assert_string_equal(judge(&set, set.quote, set.quote_len, first, NULL), "");
    assert_string_equal(judge(&set, set.quote, set.quote_len, first - 1, NULL),
                        "CollateralNotYetValid");
    assert_string_equal(judge(&set, set.quote, set.quote_len, last, NULL), "");
    assert_string_not_equal(judge(&set, set.quote, set.quote_len, last + 1, NULL), "");
    vector_set_free(&set);
}

static void mutated_quotes_are_refused_with_a_fitting_reason(void **state)
{
    static const struct {
        const char *file, *reason;
    } cases[] = {
        { "n01-empty", "QuoteTooShort" },
        { "n02-trunc-47", "QuoteTooShort" },
        { "n03-trunc-1019", "QuoteTooShort" },
        { "n04-trunc-auth", "QuoteLengths" },
        { "n05-version3", "QuoteVersion" },
        { "n06-version6", "QuoteVersion" },
        { "n07-version5-v4body", "QuoteBodyType" },
        { "n08-akt-p384", "QuoteKeyType" },
        { "n09-tee-sgx", "QuoteTeeType" },
        { "n10-tee-unknown", "QuoteTeeType" },
        { "n11-vendor", "QuoteVendor" },
        { "n12-userdata", "QuoteSignature" },
        { "n13-reserved8", "QuoteSignature" },
        { "n14-mrtd", "QuoteSignature" },
        { "n15-reportdata", "QuoteSignature" },
        { "n16-debugbit", "QuoteSignature" },
        { "n17-sig", "QuoteSignature" },
        { "n18-sig-zero", "QuoteSignature" },
        { "n19-sig-s-order", "QuoteSignature" },
        { "n20-ak-offcurve", "QeReportData" },
        { "n21-ak-zero", "QeReportData" },
        { "n22-outer-type5", "QuoteCertDataType" },
        { "n23-outer-len-short", "QuoteLengths" },
        { "n24-outer-len-huge", "QuoteLengths" },
        { "n30-inner-type6", "QuoteNoPckChain" },
        { "n31-inner-type1", "QuoteNoPckChain" },
        { "n32-inner-len-huge", "QuoteLengths" },
        { "n33-authlen-total-huge", "QuoteLengths" },
        { "n34-authlen-slack", "QuoteLengths" },
        { "n35-trailing-nonzero", "QuoteTrailingBytes" },
        { "n42-v5-bodytype-2", "QuoteBodySize" },
        { "n43-v5-bodytype-9", "QuoteBodyType" },
        { "n44-v5-bodytype-1", "QuoteBodyType" },
        { "n45-v5-size-0", "QuoteBodySize" },
        { "n46-v5-size-huge", "QuoteBodySize" },
        { "n47-v5-bodytype4", "QuoteBodyExtended" },
    };
    struct vector_set a, c;

    (void)state;
    NEEDS_VECTORS;
    assert_int_equal(count_files("negative"), ARRAY_LEN(cases));
    vector_set_load(SET_A, &a);
    vector_set_load(SET_C, &c);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char below[64];
        size_t len = 0;

        (void)snprintf(below, sizeof(below), "negative/%s.bin", cases[i].file);
        char *bytes = vector_file(below, &len);
        const struct vector_set *set = strncmp(cases[i].file, "n4", 2) == 0 ? &c : &a;
        assert_string_equal(judge(set, bytes, len, set->check_time, NULL), cases[i].reason);
        assert_string_not_equal(judge(set, bytes, len, time(NULL), NULL), "");
        free(bytes);
    }
    vector_set_free(&a);
    vector_set_free(&c);
}

static void every_flipped_byte_is_refused(void **state)
{
    static const char flips[] = { 0x01, 0x07, 0x20, (char)0x80 };
    struct error err = ERROR_INIT;
    struct pck_cache *cache = NULL; /* each flip then costs two signatures, not a whole path */
    struct vector_set set;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load(SET_C, &set);
    assert_true(pck_cache_new(1, &cache, &err));
    assert_string_equal(judge(&set, set.quote, set.quote_len, set.check_time, cache), "");
    for (size_t i = 0; i < set.quote_len; i++) {
        char was = set.quote[i];

        set.quote[i] = (char)(was ^ flips[i % ARRAY_LEN(flips)]);
        if (judge(&set, set.quote, set.quote_len, set.check_time, cache)[0] == '\0')
            fail_msg("byte %zu was changed, and the quote is accepted", i);
        set.quote[i] = was;
    }
    pck_cache_free(cache);
    vector_set_free(&set);
}

static void every_prefix_is_refused(void **state)
{
    struct vector_set set;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load(SET_A, &set);
    size_t whole = set.quote_len;
    while (whole > 0 && set.quote[whole - 1] == '\0')
        whole--;
    for (size_t len = 0; len < whole; len++) {
        char *exact = malloc(len + 1); /* so that a sanitizer sees a read past the end */

        assert_non_null(exact);
        memcpy(exact, set.quote, len);
        assert_string_not_equal(judge(&set, exact, len, set.check_time, NULL), "");
        free(exact);
    }
    vector_set_free(&set);
}

static void cached_chain_changes_no_verdict(void **state)
{
    struct vector_set a, c;
    struct pck_cache *cache = NULL;
    struct error err = ERROR_INIT;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load(SET_A, &a);
    vector_set_load(SET_C, &c);
    assert_true(pck_cache_new(1, &cache, &err));
    for (int round = 0; round < 3; round++) {
        assert_string_equal(judge(&a, a.quote, a.quote_len, a.check_time, cache), "");
        assert_string_equal(judge(&c, c.quote, c.quote_len, c.check_time, cache), "");
        assert_string_equal(judge(&c, a.quote, a.quote_len, c.check_time, cache), "FmspcMismatch");
        a.quote[200] ^= 1;
        assert_string_equal(judge(&a, a.quote, a.quote_len, a.check_time, cache), "QuoteSignature");
        a.quote[200] ^= 1;
        assert_string_equal(judge(&a, a.quote, a.quote_len, time(NULL), cache),
                            "CollateralExpired");
    }
    pck_cache_free(cache);
    vector_set_free(&a);
    vector_set_free(&c);
}

static void signature_of_another_quote_does_not_fit(void **state)
{
    struct vector_set c, d;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load(SET_C, &c);
    vector_set_load("D-v5-td15-outofdate-servicetd-90c06f", &d);
    memcpy(c.quote + 702, d.quote + 702, c.quote_len - 702);
    assert_string_equal(judge(&c, c.quote, c.quote_len, c.check_time, NULL), "QuoteSignature");
    vector_set_free(&c);
    vector_set_free(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_quotes_give_their_verdicts),
        cmocka_unit_test(real_quotes_have_their_tcb_status),
        cmocka_unit_test(intels_test_root_is_no_root),
        cmocka_unit_test(dates_are_valid_at_both_edges_and_not_beyond),
        cmocka_unit_test(mutated_quotes_are_refused_with_a_fitting_reason),
        cmocka_unit_test(every_flipped_byte_is_refused),
        cmocka_unit_test(every_prefix_is_refused),
        cmocka_unit_test(cached_chain_changes_no_verdict),
        cmocka_unit_test(signature_of_another_quote_does_not_fit),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
