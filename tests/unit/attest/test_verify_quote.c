/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#include <openssl/bn.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t p256_order[32] = { 0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00,
                                        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                        0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84,
                                        0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51 };

/* Overwrites some bytes of a version 4 or 5 quote. */
struct overwrite {
    const char *name;
    size_t at, len;
    uint8_t bytes[8];
    const char *reason;
};

static void judge_overwritten(uint16_t version, const struct overwrite *cases, size_t n)
{
    auto_scene struct scene *s = scene_new();

    s->td.version = version;
    s->td.body_type = 3;
    for (size_t i = 0; i < n; i++) {
        expect_verdict("before", scene_run(s), "");
        memcpy(s->quote + cases[i].at, cases[i].bytes, cases[i].len);
        expect_verdict(cases[i].name, scene_judge_quote(s, s->quote, s->quote_len),
                       cases[i].reason);
    }
}

static void wrong_structure_is_refused(void **state)
{
    static const struct overwrite cases[] = {
        { "version 0", 0, 2, { 0, 0 }, "QuoteVersion" },
        { "version 1", 0, 2, { 1, 0 }, "QuoteVersion" },
        { "version 2", 0, 2, { 2, 0 }, "QuoteVersion" },
        { "version 3 (SGX)", 0, 8, { 3, 0, 2, 0, 0, 0, 0, 0 }, "QuoteVersion" },
        { "version 6", 0, 2, { 6, 0 }, "QuoteVersion" },
        { "version 65535", 0, 2, { 0xff, 0xff }, "QuoteVersion" },
        { "version 4 called 5", 0, 2, { 5, 0 }, "QuoteBodyType" },
        { "key type 0", 2, 2, { 0, 0 }, "QuoteKeyType" },
        { "key type 1", 2, 2, { 1, 0 }, "QuoteKeyType" },
        { "key type 3 (P-384)", 2, 2, { 3, 0 }, "QuoteKeyType" },
        { "TEE type 0 (SGX)", 4, 4, { 0 }, "QuoteTeeType" },
        { "TEE type 0x80", 4, 4, { 0x80 }, "QuoteTeeType" },
        { "TEE type -1", 4, 4, { 0xff, 0xff, 0xff, 0xff }, "QuoteTeeType" },
        { "another vendor", 12, 1, { 0x92 }, "QuoteVendor" },
        { "another vendor's last byte", 27, 1, { 0x06 }, "QuoteVendor" },
        { "outer type 1", AT_OUTER_TYPE, 2, { 1, 0 }, "QuoteCertDataType" },
        { "outer type 2", AT_OUTER_TYPE, 2, { 2, 0 }, "QuoteCertDataType" },
        { "outer type 3", AT_OUTER_TYPE, 2, { 3, 0 }, "QuoteCertDataType" },
        { "outer type 4", AT_OUTER_TYPE, 2, { 4, 0 }, "QuoteCertDataType" },
        { "outer type 5", AT_OUTER_TYPE, 2, { 5, 0 }, "QuoteCertDataType" },
        { "outer type 7", AT_OUTER_TYPE, 2, { 7, 0 }, "QuoteCertDataType" },
        { "outer length 0", AT_OUTER_LEN, 4, { 0 }, "QuoteLengths" },
        { "outer length short", AT_OUTER_LEN, 2, { 0xc8, 0x01 }, "QuoteLengths" },
        { "outer length huge", AT_OUTER_LEN, 4, { 0xff, 0xff, 0xff, 0xff }, "QuoteLengths" },
        { "signature length 0", AT_AUTH_LEN, 4, { 0 }, "QuoteLengths" },
        { "signature length huge", AT_AUTH_LEN, 4, { 0xff, 0xff, 0xff, 0xff }, "QuoteLengths" },
        { "signature length wraps", AT_AUTH_LEN, 4, { 0, 0, 0, 0x80 }, "QuoteLengths" },
        { "QE data of 65535 bytes", AT_QE_AUTH_LEN, 2, { 0xff, 0xff }, "QuoteLengths" },
        { "QE data of 1025 bytes", AT_QE_AUTH_LEN, 2, { 0x01, 0x04 }, "QuoteLengths" },
        { "QE data one byte longer", AT_QE_AUTH_LEN, 2, { 33, 0 }, "QuoteNoPckChain" },
        { "QE data of no bytes", AT_QE_AUTH_LEN, 2, { 0, 0 }, "QuoteNoPckChain" },
        { "inner type 1", AT_INNER_TYPE, 2, { 1, 0 }, "QuoteNoPckChain" },
        { "inner type 2", AT_INNER_TYPE, 2, { 2, 0 }, "QuoteNoPckChain" },
        { "inner type 3", AT_INNER_TYPE, 2, { 3, 0 }, "QuoteNoPckChain" },
        { "inner type 4", AT_INNER_TYPE, 2, { 4, 0 }, "QuoteNoPckChain" },
        { "inner type 6", AT_INNER_TYPE, 2, { 6, 0 }, "QuoteNoPckChain" },
        { "inner type 7", AT_INNER_TYPE, 2, { 7, 0 }, "QuoteNoPckChain" },
        { "inner length 0", AT_INNER_LEN, 4, { 0 }, "QuoteLengths" },
        { "inner length short", AT_INNER_LEN, 1, { 0 }, "QuoteLengths" },
        { "inner length huge", AT_INNER_LEN, 4, { 0xff, 0xff, 0xff, 0xff }, "QuoteLengths" },
    };

    (void)state;
    judge_overwritten(4, cases, ARRAY_LEN(cases));
}

static void wrong_version_5_body_is_refused(void **state)
{
    static const struct overwrite cases[] = {
        { "called version 4", 0, 2, { 4, 0 }, "QuoteLengths" },
        { "type 0", 48, 2, { 0, 0 }, "QuoteBodyType" },
        { "type 1 (SGX)", 48, 6, { 1, 0, 0x80, 1, 0, 0 }, "QuoteBodyType" },
        { "type 2 with the length of 3", 48, 2, { 2, 0 }, "QuoteBodySize" },
        { "type 4 with the length of 3", 48, 2, { 4, 0 }, "QuoteBodyExtended" },
        { "type 9", 48, 2, { 9, 0 }, "QuoteBodyType" },
        { "type 3 + 256", 48, 2, { 3, 1 }, "QuoteBodyType" },
        { "length 0", 50, 4, { 0, 0, 0, 0 }, "QuoteBodySize" },
        { "length 584", 50, 4, { 0x48, 0x02, 0, 0 }, "QuoteBodySize" },
        { "length 647", 50, 4, { 0x87, 0x02, 0, 0 }, "QuoteBodySize" },
        { "length 649", 50, 4, { 0x89, 0x02, 0, 0 }, "QuoteBodySize" },
        { "length huge", 50, 4, { 0xff, 0xff, 0xff, 0xff }, "QuoteBodySize" },
    };

    (void)state;
    judge_overwritten(5, cases, ARRAY_LEN(cases));
}

static void extended_td_report_has_its_own_reason(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->td.version = 5;
    s->td.body_type = 4;
    expect_verdict("whole and signed", scene_run(s), "QuoteBodyExtended");
}

static void lengths_off_by_one_are_refused(void **state)
{
    static const size_t places[] = { AT_AUTH_LEN, AT_OUTER_LEN, AT_INNER_LEN };
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->quoting.trailing_zeros = 70; /* room for a length that is too long */
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        for (int step = -1; step <= 1; step += 2) {
            expect_verdict("before", scene_run(s), "");
            s->quote[places[i]] = (uint8_t)(s->quote[places[i]] + step);
            expect_verdict("off by one", scene_judge_quote(s, s->quote, s->quote_len),
                           "QuoteLengths");
        }
}

static void lengths_of_the_whole_are_limited(void **state)
{
    static const size_t too_short[] = { 0, 1, 47, 48, 631, 632, 1019, 1225 };
    enum { LONG = 1024 * 1024 };
    auto_scene struct scene *s = scene_new();
    auto_free uint8_t *padded = calloc(1, LONG);

    (void)state;
    assert_non_null(padded);
    expect_verdict("before", scene_judge(s), "");
    for (size_t i = 0; i < ARRAY_LEN(too_short); i++)
        expect_verdict("too short", scene_judge_quote(s, s->quote, too_short[i]), "QuoteTooShort");
    memcpy(padded, s->quote, s->quote_len);
    expect_verdict("16 KiB", scene_judge_quote(s, padded, QUOTE_LEN_MAX), "");
    expect_verdict("16 KiB + 1", scene_judge_quote(s, padded, QUOTE_LEN_MAX + 1), "QuoteTooLong");
    expect_verdict("1 MiB", scene_judge_quote(s, padded, LONG), "QuoteTooLong");
    for (size_t at = s->quote_len; at < QUOTE_LEN_MAX; at += 997) {
        padded[at] = 1;
        expect_verdict("trailing byte", scene_judge_quote(s, padded, at + 1), "QuoteTrailingBytes");
        expect_verdict("byte in the padding", scene_judge_quote(s, padded, QUOTE_LEN_MAX),
                       "QuoteTrailingBytes");
        padded[at] = 0;
    }
}

static void bytes_that_are_no_quote_are_refused(void **state)
{
    /* the first word of a TDREPORT (1024 bytes) is its type, 0x81 */
    static uint8_t report[1024] = { 0x81 };
    auto_scene struct scene *s = scene_new();
    uint8_t *noise = s->quote;

    (void)state;
    expect_verdict("before", scene_judge(s), "");
    size_t len = s->quote_len;
    expect_verdict("TDREPORT", scene_judge_quote(s, report, sizeof(report)), "QuoteTooShort");
    for (size_t i = 0; i < len; i++)
        noise[i] = 0;
    expect_verdict("zeros", scene_judge_quote(s, noise, len), "QuoteVersion");
    for (size_t i = 0; i < len; i++)
        noise[i] = 0xff;
    expect_verdict("ones", scene_judge_quote(s, noise, len), "QuoteVersion");
    scene_sign(s);
    for (size_t round = 0; round < 20000; round++) {
        /* the header is good, and in every second round the lengths up to the QE report, too */
        size_t good = round % 2 == 0 ? AT_BODY : AT_QE_REPORT;

        assert_int_equal(RAND_bytes(noise + good, (int)(len - good)), 1);
        if (scene_judge_quote(s, noise, len)[0] == '\0')
            fail_msg("a quote of random bytes is accepted");
    }
}

/* --- signatures --- */

enum half { KEPT, ZERO, ORDER, ONES, OTHER_HALF, FLIPPED };

static void change_half(uint8_t out[32], enum half how, const uint8_t other[32])
{
    static const uint8_t zero[32];
    uint8_t ones[32];

    for (size_t i = 0; i < sizeof(ones); i++)
        ones[i] = 0xff;
    if (how == FLIPPED)
        out[31] ^= 1;
    else if (how != KEPT)
        memcpy(out,
               how == ZERO    ? zero
               : how == ORDER ? p256_order
               : how == ONES  ? ones
                              : other,
               32);
}

static void wrong_signatures_are_refused(void **state)
{
    static const struct {
        const char *name;
        enum half r, s;
    } cases[] = {
        { "r = 0", ZERO, KEPT },        { "s = 0", KEPT, ZERO },
        { "r = s = 0", ZERO, ZERO },    { "r = n", ORDER, KEPT },
        { "s = n", KEPT, ORDER },       { "r = s = n", ORDER, ORDER },
        { "all ones", ONES, ONES },     { "swapped", OTHER_HALF, OTHER_HALF },
        { "r changed", FLIPPED, KEPT }, { "s changed", KEPT, FLIPPED },
    };
    static const struct {
        size_t at;
        const char *reason;
    } places[] = { { AT_SIGNATURE, "QuoteSignature" }, { AT_QE_SIGNATURE, "QeReportSignature" } };
    auto_scene struct scene *s = scene_new();

    (void)state;
    for (size_t p = 0; p < ARRAY_LEN(places); p++)
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
            uint8_t *r = s->quote + places[p].at, was[64];

            expect_verdict("before", scene_run(s), "");
            memcpy(was, r, sizeof(was));
            change_half(r, cases[i].r, was + 32);
            change_half(r + 32, cases[i].s, was);
            expect_verdict(cases[i].name, scene_judge_quote(s, s->quote, s->quote_len),
                           places[p].reason);
        }
}

static void negate(uint8_t half[32])
{
    BIGNUM *n = BN_bin2bn(p256_order, sizeof(p256_order), NULL);
    BIGNUM *value = BN_bin2bn(half, 32, NULL);

    assert_int_equal(BN_sub(value, n, value), 1);
    assert_int_equal(BN_bn2binpad(value, half, 32), 32);
    BN_free(value);
    BN_free(n);
}

/* ECDSA accepts both s and n - s, so neither may change a verdict. */
static void negated_s_gives_the_same_verdict(void **state)
{
    static const size_t places[] = { AT_SIGNATURE, AT_QE_SIGNATURE };
    auto_scene struct scene *s = scene_new();

    (void)state;
    for (int debug = 0; debug < 2; debug++)
        for (size_t p = 0; p < ARRAY_LEN(places); p++) {
            const char *wanted = debug ? "TdDebug" : "";

            s->td.td_attributes |= debug ? TD_ATTRIBUTE_DEBUG : 0;
            expect_verdict("s", scene_run(s), wanted);
            negate(s->quote + places[p] + 32);
            expect_verdict("n - s", scene_judge_quote(s, s->quote, s->quote_len), wanted);
        }
}

static void wrong_attestation_key_is_refused(void **state)
{
    static const struct {
        const char *name;
        enum half x, y;
    } cases[] = {
        { "zero", ZERO, ZERO },
        { "coordinates above the field", ONES, ONES },
        { "x above the field", ONES, KEPT },
        { "off the curve", KEPT, FLIPPED },
        { "swapped", OTHER_HALF, OTHER_HALF },
    };
    auto_scene struct scene *s = scene_new(), *other = scene_new();
    uint8_t *key = s->quote + AT_KEY, was[P256_POINT_LEN];

    (void)state;
    expect_verdict("before", scene_judge(s), "");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        scene_sign(s);
        memcpy(was, key, sizeof(was));
        change_half(key, cases[i].x, was + 32);
        change_half(key + 32, cases[i].y, was);
        expect_verdict(cases[i].name, scene_judge_quote(s, s->quote, s->quote_len), "QeReportData");
        scene_resign_qe(s);
        expect_verdict(cases[i].name, scene_judge_quote(s, s->quote, s->quote_len),
                       "AttestationKey");
    }
    scene_sign(s);
    memcpy(key, other->quote + AT_KEY, P256_POINT_LEN);
    expect_verdict("another key", scene_judge_quote(s, s->quote, s->quote_len), "QeReportData");
    scene_resign_qe(s);
    expect_verdict("another key, bound", scene_judge_quote(s, s->quote, s->quote_len),
                   "QuoteSignature");
}

static void forged_debug_bit_breaks_the_signature(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->td.td_attributes |= TD_ATTRIBUTE_DEBUG;
    expect_verdict("debug", scene_run(s), "TdDebug");
    s->quote[AT_BODY + 120] &= 0xfe;
    expect_verdict("forged", scene_judge_quote(s, s->quote, s->quote_len), "QuoteSignature");
}

static void parts_of_another_quote_do_not_fit(void **state)
{
    auto_scene struct scene *s = scene_new(), *other = scene_new();

    (void)state;
    other->td.report_data[0] ^= 1;
    scene_sign(other);
    expect_verdict("before", scene_judge(s), "");
    memcpy(s->quote + AT_SIGNATURE, other->quote + AT_SIGNATURE, 64);
    expect_verdict("another's signature", scene_judge_quote(s, s->quote, s->quote_len),
                   "QuoteSignature");
    memcpy(other->quote, s->quote, AT_AUTH_LEN);
    expect_verdict("another's signature data", scene_judge_quote(s, other->quote, other->quote_len),
                   "QuoteSignature");
}

/* --- the quoting enclave --- */

static void quoting_enclave_of_someone_else_is_refused(void **state)
{
    enum { TAIL, SIGNER, PRODUCT, MISCSELECT, ATTRIBUTES, DEBUG, MODE64, KINDS };
    static const struct {
        const char *name, *reason;
    } cases[KINDS] = {
        [TAIL] = { "report data is not zero after the digest", "QeReportData" },
        [SIGNER] = { "attacker's MRSIGNER", "QeIdentity" },
        [PRODUCT] = { "another product", "QeIdentity" },
        [MISCSELECT] = { "MISCSELECT", "QeIdentity" },
        [ATTRIBUTES] = { "provisioning key", "QeIdentity" },
        [DEBUG] = { "debug", "QeDebug" },
        [MODE64] = { "MODE64BIT, which the mask leaves open", "" },
    };

    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        auto_scene struct scene *s = scene_new();

        s->quoting.report_data_tail = kind == TAIL;
        s->quoting.mrsigner[31] ^= kind == SIGNER ? 1 : 0;
        s->quoting.isv_prod_id = kind == PRODUCT ? 1 : 2;
        s->quoting.miscselect[0] = kind == MISCSELECT ? 1 : 0;
        s->quoting.attributes[0] ^= kind == ATTRIBUTES ? 0x20
                                    : kind == DEBUG    ? 0x02
                                    : kind == MODE64   ? 0x04
                                                       : 0;
        expect_verdict(cases[kind].name, scene_run(s), cases[kind].reason);
    }
}

static void changed_quoting_enclave_report_breaks_its_signature(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    expect_verdict("before", scene_judge(s), "");
    for (size_t i = 0; i < QE_REPORT_LEN; i++) {
        s->quote[AT_QE_REPORT + i] ^= 0x10;
        expect_verdict("QE report", scene_judge_quote(s, s->quote, s->quote_len),
                       "QeReportSignature");
        s->quote[AT_QE_REPORT + i] ^= 0x10;
    }
    for (size_t i = 0; i < 32; i++) {
        s->quote[AT_QE_AUTH + i] ^= 0x10;
        expect_verdict("QE data", scene_judge_quote(s, s->quote, s->quote_len), "QeReportData");
        s->quote[AT_QE_AUTH + i] ^= 0x10;
    }
}

/* --- every byte --- */

static void every_changed_byte_is_refused(void **state)
{
    static const uint16_t forms[][2] = { { 4, 2 }, { 5, 3 } };
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t f = 0; f < ARRAY_LEN(forms); f++) {
        auto_scene struct scene *s = scene_new();

        s->td.version = forms[f][0];
        s->td.body_type = forms[f][1];
        s->quoting.trailing_zeros = 70;
        s->quoting.chain_nul = true;
        assert_true(pck_cache_new(1, &s->cache, &err));
        expect_verdict("before", scene_run(s), "");
        size_t body_end = forms[f][0] == 4 ? 632 : 702;
        for (size_t i = 0; i < s->quote_len; i++) {
            s->quote[i] ^= (uint8_t)(1u << i % 8);
            const char *reason = scene_judge_quote(s, s->quote, s->quote_len);
            if (reason[0] == '\0')
                fail_msg("byte %zu of version %u was changed, and the quote is accepted", i,
                         forms[f][0]);
            if (i >= 54 && i < body_end)
                expect_verdict("TD report", reason, "QuoteSignature");
            s->quote[i] ^= (uint8_t)(1u << i % 8);
        }
        expect_verdict("after", scene_judge_quote(s, s->quote, s->quote_len), "");
        pck_cache_free(s->cache);
    }
}

static void every_beginning_of_a_quote_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    size_t len = 0;

    (void)state;
    expect_verdict("before", scene_judge(s), "");
    for (len = 0; len < s->quote_len; len++) {
        uint8_t *exact = malloc(len + 1); /* so that a sanitizer sees a read past the end */

        assert_non_null(exact);
        memcpy(exact, s->quote, len);
        if (scene_judge_quote(s, exact, len)[0] == '\0')
            fail_msg("the first %zu bytes are accepted", len);
        free(exact);
    }
    expect_verdict("all of it", scene_judge_quote(s, s->quote, len), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_structure_is_refused),
        cmocka_unit_test(wrong_version_5_body_is_refused),
        cmocka_unit_test(extended_td_report_has_its_own_reason),
        cmocka_unit_test(lengths_off_by_one_are_refused),
        cmocka_unit_test(lengths_of_the_whole_are_limited),
        cmocka_unit_test(bytes_that_are_no_quote_are_refused),
        cmocka_unit_test(wrong_signatures_are_refused),
        cmocka_unit_test(negated_s_gives_the_same_verdict),
        cmocka_unit_test(wrong_attestation_key_is_refused),
        cmocka_unit_test(forged_debug_bit_breaks_the_signature),
        cmocka_unit_test(parts_of_another_quote_do_not_fit),
        cmocka_unit_test(quoting_enclave_of_someone_else_is_refused),
        cmocka_unit_test(changed_quoting_enclave_report_breaks_its_signature),
        cmocka_unit_test(every_changed_byte_is_refused),
        cmocka_unit_test(every_beginning_of_a_quote_is_refused),
    };

    return RUN_TESTS(tests);
}
