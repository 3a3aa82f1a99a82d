/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/collateral_set.h"
#include "base/digest.h"
#include "tests/unit/attest/vectors.h"

#include <stdio.h>
#include <stdlib.h>

/* Uses data that Intel published; skipped when the vectors are missing. */
#define VECTOR     "quotes/A-v4-uptodate-b0c06f"
#define VECTOR_TWO "quotes/C-v5-td15-uptodate-90c06f"

static struct collateral_set load(const char *folder)
{
    struct collateral_set set = { .ca = PCK_CA_PROCESSOR };
    struct error err = ERROR_INIT;

    assert_ok(collateral_set_read_folder(vectors_path(folder), &set, &err));
    return set;
}

static char *print(const struct collateral_set *const *sets, size_t n)
{
    struct error err = ERROR_INIT;
    char *text = NULL;

    assert_ok(collateral_bundle_print(sets, n, &text, &err));
    return text;
}

static void assert_same(struct bytes_view a, struct bytes_view b)
{
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.bytes, b.bytes, a.len);
}

static void assert_same_set(const struct collateral_set *a, const struct collateral_set *b)
{
    assert_memory_equal(a->fmspc, b->fmspc, FMSPC_LEN);
    assert_int_equal(a->ca, b->ca);
    assert_same(a->tcb_info_response, b->tcb_info_response);
    assert_same(a->qe_identity_response, b->qe_identity_response);
    assert_same(a->source.root_ca_crl, b->source.root_ca_crl);
    assert_same(a->source.pck_crl, b->source.pck_crl);
    assert_same(a->source.pck_crl_chain, b->source.pck_crl_chain);
    assert_same(a->source.tcb_info, b->source.tcb_info);
    assert_same(a->source.tcb_info_signature_hex, b->source.tcb_info_signature_hex);
    assert_same(a->source.tcb_info_chain, b->source.tcb_info_chain);
    assert_same(a->source.qe_identity, b->source.qe_identity);
    assert_same(a->source.qe_identity_chain, b->source.qe_identity_chain);
}

struct walk {
    const struct collateral_set *want[2];
    size_t n;
    bool refuse;
};

static bool compare(void *cookie, const struct collateral_set *set, struct error *err)
{
    auto_collateral struct collateral verified = { .root = NULL };
    struct walk *walk = cookie;

    if (walk->refuse)
        return error_set(err, ERROR_CANCELLED, "enough");
    assert_true(walk->n < ARRAY_LEN(walk->want));
    assert_same_set(set, walk->want[walk->n++]);
    return collateral_load(&set->source, &trust_root_intel, &verified, err);
}

static bool ignore(void *cookie, const struct collateral_set *set, struct error *err)
{
    (void)cookie;
    (void)set;
    (void)err;
    return true;
}

static void a_bundle_gives_back_what_was_put_in(void **state)
{
    (void)state;
    NEEDS_VECTORS;
    auto_collateral_set struct collateral_set a = load(VECTOR);
    auto_collateral_set struct collateral_set b = load(VECTOR_TWO);
    const struct collateral_set *const sets[] = { &a, &b };
    struct walk walk = { .want = { &a, &b } };
    struct error err = ERROR_INIT;
    auto_free char *text = print(sets, 2);

    assert_ok(collateral_bundle_walk(text, strlen(text), compare, &walk, &err));
    assert_int_equal(walk.n, 2);
    walk.refuse = true;
    assert_refused(ERROR_CANCELLED,
                   collateral_bundle_walk(text, strlen(text), compare, &walk, &err));
}

static void a_folder_is_labelled_by_what_it_holds(void **state)
{
    static const uint8_t fmspc[FMSPC_LEN] = { 0xb0, 0xc0, 0x6f };
    struct collateral_set missing = { .ca = PCK_CA_PROCESSOR };
    struct error err = ERROR_INIT;

    (void)state;
    NEEDS_VECTORS;
    auto_collateral_set struct collateral_set set = load(VECTOR);
    assert_memory_equal(set.fmspc, fmspc, FMSPC_LEN);
    assert_int_equal(set.ca, PCK_CA_PLATFORM);
    assert_refused(ERROR_NOT_FOUND, collateral_set_read_folder("/nonexistent", &missing, &err));
    assert_null(missing.memory.blocks);
}

/* One edit of a good bundle, and a part of the error text. */
struct edit {
    const char *find, *replace, *says;
};

static void assert_edit_refused(const char *text, const struct edit *edit)
{
    struct error err = ERROR_INIT;
    const char *at = strstr(text, edit->find);
    auto_free char *changed = NULL;

    assert_non_null(at); /* the bundle must have the text that is edited */
    assert_true(at && asprintf(&changed, "%.*s%s%s", (int)(at - text), text, edit->replace,
                               at + strlen(edit->find)) > 0);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   collateral_bundle_walk(changed, strlen(changed), ignore, NULL, &err));
    assert_contains(err.text, edit->says);
}

static void a_changed_bundle_is_refused(void **state)
{
    static const struct edit edits[] = {
        { "\"version\": 1", "\"version\": 2", "version" },
        { "\"version\": 1", "\"version\": \"1\"", "version" },
        { "\"version\": 1", "\"version\": 1, \"version\": 1", "duplicate" },
        { "\"version\": 1", "\"version\": 1, \"more\": 1", "sets" },
        { "\"sets\"", "\"Sets\"", "sets" },
        { "\"b0c06f000000\"", "\"b0c06f00000\"", "fmspc" },
        { "\"b0c06f000000\"", "\"b0c06f000001\"", "not the same" },
        { "\"b0c06f000000\"", "17", "fmspc" },
        { "\"ca\": \"platform\"", "\"ca\": \"processor\"", "not the same" },
        { "\"ca\": \"platform\"", "\"ca\": \"root\"", "platform or processor" },
        { "\"ca\": \"platform\"", "\"ca\": \"platform\", \"x\": 1", "members" },
        { "\"ca\": \"platform\"", "\"ca\": \"platform\", \"ca\": \"platform\"", "duplicate" },
        { "\"root_ca_crl\": \"", "\"root_ca_crl\": \"=", "root_ca_crl" },
        { "\"root_ca_crl\": \"", "\"root_ca_crl\": \" ", "root_ca_crl" },
        { "\"pck_crl\": \"", "\"pck_crl\": \"AA==", "pck_crl" },
        { "\"pck_crl\"", "\"pck_crt\"", "pck_crl" },
        { "-----BEGIN CERTIFICATE", "-----BEGIN RELIEF", "certificate" },
        { "{\\\"tcbInfo\\\":", "{ \\\"tcbInfo\\\":", "tcbInfo" },
        { "\\\"fmspc\\\":\\\"B0", "\\\"fmspc\\\":\\\"ZZ", "fmspc" },
        { "{\\\"enclaveIdentity\\\":", "{\\\"enclaveIdentitx\\\":", "enclaveIdentity" },
    };

    (void)state;
    NEEDS_VECTORS;
    auto_collateral_set struct collateral_set set = load(VECTOR);
    const struct collateral_set *const sets[] = { &set };
    auto_free char *text = print(sets, 1);
    for (size_t i = 0; i < ARRAY_LEN(edits); i++)
        assert_edit_refused(text, &edits[i]);
}

static void texts_that_are_no_bundle_are_refused(void **state)
{
    static const char *const texts[] = { "",
                                         "{",
                                         "[]",
                                         "{}",
                                         "{\"version\":1}",
                                         "{\"version\":1,\"sets\":{}}",
                                         "{\"version\":1,\"sets\":[1]}",
                                         "{\"version\":1,\"sets\":[{}]}",
                                         "{\"version\":1,\"sets\":[]} x" };
    struct error err = ERROR_INIT;
    static const char empty[] = "{\"version\":1,\"sets\":[]}";

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_refused(ERROR_INVALID_ARGUMENT,
                       collateral_bundle_walk(texts[i], strlen(texts[i]), ignore, NULL, &err));
    assert_refused(ERROR_INVALID_ARGUMENT,
                   collateral_bundle_walk(empty, COLLATERAL_BUNDLE_MAX + 1, ignore, NULL, &err));
    assert_ok(collateral_bundle_walk(empty, strlen(empty), ignore, NULL, &err));
}

static void a_set_that_is_there_twice_is_refused(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    NEEDS_VECTORS;
    auto_collateral_set struct collateral_set set = load(VECTOR);
    const struct collateral_set *const sets[] = { &set, &set };
    auto_free char *text = print(sets, 2);
    assert_refused(ERROR_INVALID_ARGUMENT,
                   collateral_bundle_walk(text, strlen(text), ignore, NULL, &err));
    assert_contains(err.text, "twice");
}

static void a_quote_says_which_set_it_needs(void **state)
{
    static const uint8_t wanted[FMSPC_LEN] = { 0xb0, 0xc0, 0x6f };
    struct error err = ERROR_INIT;
    uint8_t fmspc[FMSPC_LEN] = { 0 };
    enum pck_ca ca = PCK_CA_PROCESSOR;
    struct quote quote;
    size_t len = 0;

    (void)state;
    NEEDS_VECTORS;
    auto_free char *bytes = vector_file(VECTOR "/quote.bin", &len);
    assert_ok(quote_parse((const uint8_t *)bytes, len, &quote, &err));
    assert_ok(collateral_set_needed(&quote, fmspc, &ca, &err));
    assert_memory_equal(fmspc, wanted, FMSPC_LEN);
    assert_int_equal(ca, PCK_CA_PLATFORM);
    /* from its second certificate on, the chain begins with a CA */
    const char *second = strstr(quote.pck_chain_pem + 1, "-----BEGIN");
    quote.pck_chain_len -= (size_t)(second - quote.pck_chain_pem);
    quote.pck_chain_pem = second;
    assert_refused(ERROR_DENIED, collateral_set_needed(&quote, fmspc, &ca, &err));
    assert_string_equal(err.reason, "PckChainOrder");
}

/* Turns the last byte of the first certificate's signature; its PEM stays canonical. */
static void spoil_leaf(char *pem)
{
    char *end = strstr(pem, "-----END");

    for (end--; *end == '\n' || *end == '='; end--)
        ;
    end -= 8; /* stays clear of the bits that must be zero before the padding */
    *end = *end == 'A' ? 'B' : 'A';
}

static void a_chain_is_genuine_only_up_to_the_root(void **state)
{
    static const struct trust_root other = { .sha256 = { 1 } };
    struct error err = ERROR_INIT;
    struct quote quote;
    size_t len = 0;

    (void)state;
    NEEDS_VECTORS;
    auto_free char *bytes = vector_file(VECTOR "/quote.bin", &len);
    assert_ok(quote_parse((const uint8_t *)bytes, len, &quote, &err));
    assert_ok(quote_chain_check_genuine(&quote, &trust_root_intel, &err));
    assert_refused(ERROR_DENIED, quote_chain_check_genuine(&quote, &other, &err));
    assert_string_equal(err.reason, "PckRootUnknown");
    spoil_leaf(bytes + (quote.pck_chain_pem - bytes));
    assert_refused(ERROR_DENIED, quote_chain_check_genuine(&quote, &trust_root_intel, &err));
    quote.pck_chain_len -= 20;
    assert_refused(ERROR_DENIED, quote_chain_check_genuine(&quote, &trust_root_intel, &err));
    assert_string_equal(err.reason, "PckChainMalformed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bundle_gives_back_what_was_put_in),
        cmocka_unit_test(a_folder_is_labelled_by_what_it_holds),
        cmocka_unit_test(a_changed_bundle_is_refused),
        cmocka_unit_test(texts_that_are_no_bundle_are_refused),
        cmocka_unit_test(a_set_that_is_there_twice_is_refused),
        cmocka_unit_test(a_quote_says_which_set_it_needs),
        cmocka_unit_test(a_chain_is_genuine_only_up_to_the_root),
    };

    return RUN_TESTS(tests);
}
