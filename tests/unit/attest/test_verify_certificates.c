/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"
#include "tests/unit/attest/vectors.h"

#include <openssl/core_names.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

/* One change to a good scene; prepare is called before the quote is signed. */
struct change {
    const char *name;
    void (*prepare)(struct scene *s);
    const char *reason;
};

static void judge_changes(const struct change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        auto_scene struct scene *s = scene_new();

        changes[i].prepare(s);
        expect_verdict(changes[i].name, scene_run(s), changes[i].reason);
    }
}

static void replaced(char **text, const char *from, const char *to)
{
    char *at = strstr(*text, from), *out = NULL;

    assert_non_null(at);
    assert_true(asprintf(&out, "%.*s%s%s", (int)(at - *text), *text, to, at + strlen(from)) > 0);
    free(*text);
    *text = out;
}

static struct sim_cert leaf_form(struct scene *s, uint8_t sgx[static SIM_SGX_MAX])
{
    struct sim_cert form = sim_cert_form(SIM_PCK_LEAF, s->platform.ca);

    form.sgx = (struct bytes_view){ sgx, sim_sgx_extension(&s->platform, NULL, sgx) };
    form.n_sgx = 1;
    return form;
}

/* --- order and number of certificates --- */

/* The chain as a string: l leaf, c CA, r root, p the Processor CA, o another machine's leaf. */
static void use_order(struct scene *s, const char *order)
{
    struct sim_machine *other = sim_machine_new(s->pki, &s->platform);
    X509 *certs[8] = { NULL };
    size_t n = 0;

    for (; order[n]; n++)
        certs[n] = order[n] == 'l'   ? s->machine->pck.cert
                   : order[n] == 'o' ? other->pck.cert
                   : order[n] == 'r' ? s->pki->root.cert
                   : order[n] == 'p' ? s->pki->pck_ca[PCK_CA_PROCESSOR].cert
                                     : s->pki->pck_ca[PCK_CA_PLATFORM].cert;
    scene_use_certs(s, certs, n);
    sim_machine_free(other);
}

static void chains_of_another_order_are_refused(void **state)
{
    static const struct {
        const char *order, *reason;
    } cases[] = {
        { "lcr", "" },
        { "clr", "PckChainOrder" },
        { "rcl", "PckChainOrder" },
        { "ccr", "PckChainOrder" },
        { "llr", "PckChainOrder" },
        { "lcc", "PckChainOrder" },
        { "lrr", "PckChainOrder" },
        { "lpr", "PckChainUntrusted" },
        { "lc", "PckChainMalformed" },
        { "l", "PckChainMalformed" },
        { "lr", "PckChainMalformed" },
        { "r", "PckChainMalformed" },
        { "lcrr", "PckChainMalformed" },
        { "llcr", "PckChainMalformed" },
        { "lccr", "PckChainMalformed" },
        { "ocr", "QeReportSignature" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();

        use_order(s, cases[i].order);
        expect_verdict(cases[i].order, scene_run(s), cases[i].reason);
    }
}

/* --- the text --- */

#define END_BEGIN "-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----"
static void other_spellings_of_a_chain_are_refused(void **state)
{
    static const struct {
        const char *name, *from, *to;
    } cases[] = {
        { "text between", END_BEGIN,
          "-----END CERTIFICATE-----\nCA:\n-----BEGIN CERTIFICATE-----" },
        { "empty line between", END_BEGIN,
          "-----END CERTIFICATE-----\n\n-----BEGIN CERTIFICATE-----" },
        { "space between", END_BEGIN, "-----END CERTIFICATE----- \n-----BEGIN CERTIFICATE-----" },
        { "nothing between", END_BEGIN, "-----END CERTIFICATE----------BEGIN CERTIFICATE-----" },
        { "CR LF between", END_BEGIN, "-----END CERTIFICATE-----\r\n-----BEGIN CERTIFICATE-----" },
        { "text before", "-----BEGIN", "leaf\n-----BEGIN" },
        { "trusted certificate", "BEGIN CERTIFICATE", "BEGIN TRUSTED CERTIFICATE" },
        { "old name", "BEGIN CERTIFICATE", "BEGIN X509 CERTIFICATE" },
        { "CR LF", "CERTIFICATE-----\nMII", "CERTIFICATE-----\r\nMII" },
        { "space in base64", "\nMII", "\nM II" },
        { "longer line", "\nMII", "\n\nMII" },
        { "header", "\nMII", "\nProc-Type: 4,CLEAR\n\nMII" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        char *pem = strdup(s->machine->pck_pem);

        replaced(&pem, cases[i].from, cases[i].to);
        scene_use_chain(s, pem);
        expect_verdict(cases[i].name, scene_run(s), "PckChainMalformed");
    }
}

static void one_nul_may_follow_a_chain_and_none_be_inside(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->quoting.chain_nul = true;
    expect_verdict("one NUL after it", scene_run(s), "");
    s->quote[s->quote_len - 2] = '\0';
    expect_verdict("two NULs after it", scene_judge_quote(s, s->quote, s->quote_len),
                   "PckChainMalformed");
    scene_sign(s);
    const uint8_t *end = memmem(s->quote, s->quote_len, END_BEGIN, sizeof(END_BEGIN) - 1);
    assert_non_null(end);
    s->quote[end - s->quote + 25] = '\0';
    expect_verdict("between", scene_judge_quote(s, s->quote, s->quote_len), "PckChainMalformed");
    scene_sign(s);
    s->quote[AT_CHAIN + 40] = '\0';
    expect_verdict("inside", scene_judge_quote(s, s->quote, s->quote_len), "PckChainMalformed");
}

/* --- roots --- */

static void attackers_whole_chain(struct scene *s)
{
    const struct sim_pki *trusted = s->pki;
    struct trust_root root = s->root;

    scene_own_pki(s);
    s->pki = (struct sim_pki *)(uintptr_t)trusted;
    s->root = root;
}

/* Names, extensions and root are right; only the signatures are an attacker's. */
static void attackers_chain_to_the_real_root(struct scene *s)
{
    attackers_whole_chain(s);
    X509 *const certs[] = { s->machine->pck.cert, s->own_pki->pck_ca[PCK_CA_PLATFORM].cert,
                            s->pki->root.cert };
    scene_use_certs(s, certs, ARRAY_LEN(certs));
}

static void attackers_leaf_below_the_real_ca(struct scene *s)
{
    attackers_whole_chain(s);
    X509 *const certs[] = { s->machine->pck.cert, s->pki->pck_ca[PCK_CA_PLATFORM].cert,
                            s->pki->root.cert };
    scene_use_certs(s, certs, ARRAY_LEN(certs));
}

static void root_signed_again(struct scene *s)
{
    const struct sim_cert form = sim_cert_form(SIM_ROOT, PCK_CA_PLATFORM);
    X509 *root = sim_cert_make(&form, s->pki->root.key, NULL);
    X509 *const certs[] = { s->machine->pck.cert, s->pki->pck_ca[PCK_CA_PLATFORM].cert, root };

    scene_use_certs(s, certs, ARRAY_LEN(certs));
    X509_free(root);
}

/* The CA in the chain made the signature, but the leaf names another issuer. */
static void leaf_of_the_other_ca_by_name(struct scene *s)
{
    const struct sim_identity mixed = { s->pki->pck_ca[PCK_CA_PROCESSOR].cert,
                                        s->pki->pck_ca[PCK_CA_PLATFORM].key };
    uint8_t sgx[SIM_SGX_MAX];
    const struct sim_cert form = leaf_form(s, sgx);
    X509 *leaf = sim_cert_make(&form, s->machine->pck.key, &mixed);
    X509 *const certs[] = { leaf, s->pki->pck_ca[PCK_CA_PLATFORM].cert, s->pki->root.cert };

    scene_use_certs(s, certs, ARRAY_LEN(certs));
    X509_free(leaf);
}

static void chains_to_another_root_are_refused(void **state)
{
    static const struct change changes[] = {
        { "same names, all keys an attacker's", attackers_whole_chain, "PckRootUnknown" },
        { "the real root after it", attackers_chain_to_the_real_root, "PckChainUntrusted" },
        { "the real CA and root after it", attackers_leaf_below_the_real_ca, "PckChainUntrusted" },
        { "another CA's by name", leaf_of_the_other_ca_by_name, "PckChainUntrusted" },
        { "root's key, another certificate", root_signed_again, "PckRootUnknown" },
    };

    (void)state;
    judge_changes(changes, ARRAY_LEN(changes));
}

static void real_and_simulated_do_not_mix(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct vector_set real;

    (void)state;
    NEEDS_VECTORS;
    vector_set_load("A-v4-uptodate-b0c06f", &real);
    expect_verdict("before", scene_judge(s), "");
    expect_verdict("real quote, simulated collateral",
                   scene_judge_quote(s, (const uint8_t *)real.quote, real.quote_len),
                   "PckRootUnknown");
    vector_set_free(&real);
}

/* --- the certificates' own form --- */

enum { BY_SHA1, BY_SHA384, NO_SGX, TWO_SGX, CRITICAL, EXPIRED, FUTURE, A_CA, NO_SIGNING, NAME };

static void change_form(struct sim_cert *form, int what, int64_t now)
{
    form->digest = what == BY_SHA1 ? EVP_sha1() : what == BY_SHA384 ? EVP_sha384() : form->digest;
    form->n_sgx = what == NO_SGX ? 0 : what == TWO_SGX ? 2 : 1;
    form->unknown_critical = what == CRITICAL;
    form->until = what == EXPIRED ? now - 1 : form->until;
    form->from = what == FUTURE ? now + 60 : form->from;
    form->basic_constraints = what == A_CA ? "critical,CA:TRUE" : form->basic_constraints;
    form->key_usage = what == NO_SIGNING ? "critical,keyAgreement" : form->key_usage;
    form->common_name = what == NAME ? "Intel SGX PCK Certificates" : form->common_name;
}

static void leaves_of_another_form_are_refused(void **state)
{
    static const struct {
        const char *name;
        int what;
        const char *reason;
    } cases[] = {
        { "unchanged", -1, "" },
        { "SHA-1", BY_SHA1, "PckKeyType" },
        { "SHA-384", BY_SHA384, "PckKeyType" },
        { "no SGX extension", NO_SGX, "PckExtension" },
        { "two SGX extensions", TWO_SGX, "PckExtension" },
        { "unknown critical extension", CRITICAL, "PckChainUntrusted" },
        { "expired", EXPIRED, "PckCertExpired" },
        { "not yet valid", FUTURE, "PckCertExpired" },
        { "is a CA", A_CA, "PckChainUntrusted" },
        { "may not sign", NO_SIGNING, "PckChainUntrusted" },
        { "another name", NAME, "PckChainOrder" },
    };

    (void)state;
    for (size_t n = 0; n < 2 * ARRAY_LEN(cases); n++) {
        size_t i = n / 2;
        auto_scene struct scene *s = scene_new();
        uint8_t sgx[SIM_SGX_MAX];
        struct sim_cert form = leaf_form(s, sgx);

        change_form(&form, cases[i].what, s->now);
        scene_use_leaf(s, &form, NULL, n % 2 == 1);
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
    }
}

static EVP_PKEY *p256_written_as(const char *param, const char *how)
{
    EVP_PKEY *key = sim_key_new();

    assert_int_equal(EVP_PKEY_set_utf8_string_param(key, param, how), 1);
    return key;
}

static void leaves_with_other_keys_are_refused(void **state)
{
    struct {
        const char *name;
        EVP_PKEY *key;
    } cases[] = {
        { "RSA", EVP_RSA_gen(2048) },
        { "P-384", EVP_EC_gen("P-384") },
        { "secp256k1", EVP_EC_gen("secp256k1") },
        { "compressed point",
          p256_written_as(OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "compressed") },
        { "explicit parameters", p256_written_as(OSSL_PKEY_PARAM_EC_ENCODING, "explicit") },
    };

    (void)state;
    for (size_t n = 0; n < 2 * ARRAY_LEN(cases); n++) {
        size_t i = n / 2;
        auto_scene struct scene *s = scene_new();
        uint8_t sgx[SIM_SGX_MAX];
        const struct sim_cert form = leaf_form(s, sgx);

        scene_use_leaf(s, &form, cases[i].key, n % 2 == 1);
        if (i >= 3) /* the key is right, only its encoding is wrong */
            s->quoting.pck_key = cases[i].key;
        expect_verdict(cases[i].name, scene_run(s), "PckKeyType");
    }
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        EVP_PKEY_free(cases[i].key);
}

/* The signed algorithm field says SHA-384. The outer field and the signature are SHA-256. */
static X509 *with_another_inner_algorithm(const X509 *cert, EVP_PKEY *issuer_key)
{
    static const uint8_t sha256_oid[] = { 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02 };
    unsigned char *der = NULL, *tbs = NULL, signature[128];
    size_t signature_len = sizeof(signature);
    const ASN1_BIT_STRING *bits = NULL;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int len = i2d_X509(cert, &der);

    assert_true(len > 0);
    uint8_t *oid = memmem(der, (size_t)len, sha256_oid, sizeof(sha256_oid));
    assert_non_null(oid);
    oid[sizeof(sha256_oid) - 1] = 3;
    const unsigned char *at = der;
    X509 *out = d2i_X509(NULL, &at, len);
    assert_non_null(out);
    int tbs_len = i2d_re_X509_tbs(out, &tbs);
    assert_true(tbs_len > 0);
    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, issuer_key), 1);
    assert_int_equal(EVP_DigestSign(ctx, signature, &signature_len, tbs, (size_t)tbs_len), 1);
    X509_get0_signature(&bits, NULL, out);
    assert_int_equal(
        ASN1_BIT_STRING_set((ASN1_BIT_STRING *)(uintptr_t)bits, signature, (int)signature_len), 1);
    EVP_MD_CTX_free(ctx);
    OPENSSL_free(tbs);
    OPENSSL_free(der);
    return out;
}

static void algorithms_that_disagree_are_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    const struct sim_identity *ca = &s->pki->pck_ca[PCK_CA_PLATFORM];
    X509 *leaf = with_another_inner_algorithm(s->machine->pck.cert, ca->key);
    X509 *const certs[] = { leaf, ca->cert, s->pki->root.cert };

    (void)state;
    assert_int_equal(X509_get_signature_nid(leaf), NID_ecdsa_with_SHA256);
    scene_use_certs(s, certs, ARRAY_LEN(certs));
    expect_verdict("inner and outer differ", scene_run(s), "PckChainUntrusted");
    X509_free(leaf);
}

/* --- the CA between leaf and root --- */

static void cas_of_another_form_are_refused(void **state)
{
    static const struct {
        const char *name, *basic_constraints, *key_usage;
        int64_t from, until; /* from now; 0: as usual */
        bool critical;
        const char *reason;
    } cases[] = {
        { .name = "unchanged", .reason = "" },
        { "no CA", "critical,CA:FALSE", NULL, 0, 0, false, "PckChainUntrusted" },
        { "may not sign certificates", NULL, "critical,cRLSign", 0, 0, false, "PckChainUntrusted" },
        { "may not sign lists", NULL, "critical,keyCertSign", 0, 0, false, "PckChainUntrusted" },
        { "a signer's usage", NULL, "critical,digitalSignature", 0, 0, false, "PckChainUntrusted" },
        { "expired", NULL, NULL, 0, -1, false, "PckCertExpired" },
        { "not yet valid", NULL, NULL, 60, 0, false, "PckCertExpired" },
        { "unknown critical extension", NULL, NULL, 0, 0, true, "PckChainUntrusted" },
    };

    (void)state;
    /* first in quote and collateral; then only in the quote, with the true CA in the collateral */
    for (size_t n = 0; n < 2 * ARRAY_LEN(cases); n++) {
        auto_scene struct scene *s = scene_new();
        size_t i = n % ARRAY_LEN(cases);
        struct sim_cert form = sim_cert_form(SIM_PCK_CA, PCK_CA_PLATFORM);

        if (cases[i].basic_constraints)
            form.basic_constraints = cases[i].basic_constraints;
        if (cases[i].key_usage)
            form.key_usage = cases[i].key_usage;
        form.from = cases[i].from ? s->now + cases[i].from : form.from;
        form.until = cases[i].until ? s->now + cases[i].until : form.until;
        form.unknown_critical = cases[i].critical;
        scene_own_pki(s);
        if (n < ARRAY_LEN(cases)) {
            scene_replace_cert(s, &s->own_pki->pck_ca[0], &form, &s->pki->root);
        } else {
            X509 *ca = sim_cert_make(&form, s->pki->pck_ca[0].key, &s->pki->root);
            X509 *const certs[] = { s->machine->pck.cert, ca, s->pki->root.cert };

            scene_use_certs(s, certs, ARRAY_LEN(certs));
            X509_free(ca);
        }
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
    }
}

static void root_that_allows_no_ca_below_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct sim_cert form = sim_cert_form(SIM_ROOT, PCK_CA_PLATFORM);

    (void)state;
    scene_own_pki(s);
    form.basic_constraints = "critical,CA:TRUE,pathlen:0";
    scene_replace_cert(s, &s->own_pki->root, &form, NULL);
    expect_verdict("path length", scene_run(s), "PckChainUntrusted");
}

static void root_out_of_its_dates_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct sim_cert form = sim_cert_form(SIM_ROOT, PCK_CA_PLATFORM);

    (void)state;
    scene_own_pki(s);
    form.until = s->now - 1;
    scene_replace_cert(s, &s->own_pki->root, &form, NULL);
    expect_verdict("expired", scene_run(s), "CollateralExpired");
    form = sim_cert_form(SIM_ROOT, PCK_CA_PLATFORM);
    form.from = s->now + 60;
    scene_replace_cert(s, &s->own_pki->root, &form, NULL);
    expect_verdict("not yet valid", scene_run(s), "CollateralNotYetValid");
}

/* --- the SGX extension --- */

static void wrong_sgx_extensions_are_refused(void **state)
{
    static const uint8_t svn_256[] = { 2, 2, 1, 0 }, svn_negative[] = { 2, 1, 0xff };
    static const uint8_t svn_padded[] = { 2, 2, 0, 5 }, svn_empty[] = { 2, 0 };
    static const uint8_t svn_octets[] = { 4, 1, 5 }, svn_and_more[] = { 2, 1, 5, 5, 0 };
    static const uint8_t pce_65536[] = { 2, 3, 1, 0, 0 },
                         fmspc_5[] = { 4, 5, 0xa0, 0xc0, 0x6f, 0, 0 };
    static const uint8_t fmspc_7[] = { 4, 7, 0xa0, 0xc0, 0x6f, 0, 0, 0, 0 };
    static const uint8_t fmspc_text[] = { 12, 6, 0xa0, 0xc0, 0x6f, 0, 0, 0 };
    static const uint8_t type_3[] = { 10, 1, 3 }, type_integer[] = { 2, 1, 1 };
    static const uint8_t pceid_1[] = { 4, 1, 0 }, id_15[17] = { 4, 15 };
    static const uint8_t nothing[] = { 5, 0 }, flag_2[] = { 1, 2, 0xff, 0xff };
    static const uint8_t unknown[] = { 0x30, 0x0e, 6,    10,   0x2a, 0x86, 0x48, 0x86,
                                       0xf8, 0x4d, 0x01, 0x0d, 0x01, 9,    5,    0 };
    static const uint8_t foreign[] = { 0x30, 0x07, 6, 3, 0x55, 0x04, 0x03, 5, 0 };
    static const struct {
        const char *name;
        struct sim_sgx_edit edit;
    } cases[] = {
        { "PPID missing", { .at = { 1, 0 }, .drop = true } },
        { "TCB missing", { .at = { 2, 0 }, .drop = true } },
        { "PCEID missing", { .at = { 3, 0 }, .drop = true } },
        { "FMSPC missing", { .at = { 4, 0 }, .drop = true } },
        { "type missing", { .at = { 5, 0 }, .drop = true } },
        { "PPID twice", { .at = { 1, 0 }, .twice = true } },
        { "TCB twice", { .at = { 2, 0 }, .twice = true } },
        { "FMSPC twice", { .at = { 4, 0 }, .twice = true } },
        { "platform id twice", { .at = { 6, 0 }, .twice = true } },
        { "configuration twice", { .at = { 7, 0 }, .twice = true } },
        { "15 components", { .at = { 2, 16 }, .drop = true } },
        { "component twice", { .at = { 2, 1 }, .twice = true } },
        { "PCE SVN missing", { .at = { 2, 17 }, .drop = true } },
        { "CPU SVN missing", { .at = { 2, 18 }, .drop = true } },
        { "component 256", { .at = { 2, 1 }, .value = svn_256, .value_len = 4 } },
        { "component -1", { .at = { 2, 1 }, .value = svn_negative, .value_len = 3 } },
        { "component padded", { .at = { 2, 1 }, .value = svn_padded, .value_len = 4 } },
        { "component empty", { .at = { 2, 1 }, .value = svn_empty, .value_len = 2 } },
        { "component of octets", { .at = { 2, 1 }, .value = svn_octets, .value_len = 3 } },
        { "bytes after a component", { .at = { 2, 1 }, .value = svn_and_more, .value_len = 5 } },
        { "PCE SVN 65536", { .at = { 2, 17 }, .value = pce_65536, .value_len = 5 } },
        { "CPU SVN of 15 bytes", { .at = { 2, 18 }, .value = id_15, .value_len = 17 } },
        { "TCB is nothing", { .at = { 2, 0 }, .value = nothing, .value_len = 2 } },
        { "FMSPC of 5 bytes", { .at = { 4, 0 }, .value = fmspc_5, .value_len = 7 } },
        { "FMSPC of 7 bytes", { .at = { 4, 0 }, .value = fmspc_7, .value_len = 9 } },
        { "FMSPC as text", { .at = { 4, 0 }, .value = fmspc_text, .value_len = 8 } },
        { "PCEID of one byte", { .at = { 3, 0 }, .value = pceid_1, .value_len = 3 } },
        { "type 3", { .at = { 5, 0 }, .value = type_3, .value_len = 3 } },
        { "type as integer", { .at = { 5, 0 }, .value = type_integer, .value_len = 3 } },
        { "platform id of 15 bytes", { .at = { 6, 0 }, .value = id_15, .value_len = 17 } },
        { "flag of two bytes", { .at = { 7, 1 }, .value = flag_2, .value_len = 4 } },
        { "unknown member", { .tail = unknown, .tail_len = sizeof(unknown) } },
        { "foreign member", { .tail = foreign, .tail_len = sizeof(foreign) } },
        { "half a member", { .tail = unknown, .tail_len = 5 } },
        { "trailing zero", { .tail = nothing + 1, .tail_len = 1 } },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        uint8_t sgx[SIM_SGX_MAX];
        struct sim_cert form = leaf_form(s, sgx);

        form.sgx.len = sim_sgx_extension(&s->platform, &cases[i].edit, sgx);
        scene_use_leaf(s, &form, NULL, false);
        expect_verdict(cases[i].name, scene_run(s), "PckExtension");
    }
}

static void bytes_after_the_sgx_extension_are_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    uint8_t sgx[SIM_SGX_MAX] = { 0 };
    struct sim_cert form = leaf_form(s, sgx);

    (void)state;
    form.sgx.len++;
    scene_use_leaf(s, &form, NULL, false);
    expect_verdict("one more byte", scene_run(s), "PckExtension");
    form.sgx.len -= 2;
    scene_use_leaf(s, &form, NULL, false);
    expect_verdict("one byte less", scene_run(s), "PckExtension");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chains_of_another_order_are_refused),
        cmocka_unit_test(other_spellings_of_a_chain_are_refused),
        cmocka_unit_test(one_nul_may_follow_a_chain_and_none_be_inside),
        cmocka_unit_test(chains_to_another_root_are_refused),
        cmocka_unit_test(real_and_simulated_do_not_mix),
        cmocka_unit_test(leaves_of_another_form_are_refused),
        cmocka_unit_test(leaves_with_other_keys_are_refused),
        cmocka_unit_test(algorithms_that_disagree_are_refused),
        cmocka_unit_test(cas_of_another_form_are_refused),
        cmocka_unit_test(root_that_allows_no_ca_below_is_refused),
        cmocka_unit_test(root_out_of_its_dates_is_refused),
        cmocka_unit_test(wrong_sgx_extensions_are_refused),
        cmocka_unit_test(bytes_after_the_sgx_extension_are_refused),
    };

    return RUN_TESTS(tests);
}
