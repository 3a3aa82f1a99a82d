/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define DATE "2025-05-14T00:00:00Z"

/* --- documents that Intel would not sign --- */

struct edit {
    const char *name, *from, *to;
    const char *reason;
};

static void judge_edits(const struct edit *edits, size_t n,
                        void (*edit)(struct scene *s, const char *from, const char *to,
                                     EVP_PKEY *key))
{
    for (size_t i = 0; i < n; i++) {
        auto_scene struct scene *s = scene_new();

        edit(s, edits[i].from, edits[i].to, NULL);
        expect_verdict(edits[i].name, scene_judge(s), edits[i].reason);
    }
}

#define FIRST_SVN \
    "\"sgxtcbcomponents\":[{\"svn\":3,\"category\":\"BIOS\",\"type\":\"Early Microcode Update\"}"

static void tcb_info_of_another_kind_is_refused(void **state)
{
    static const struct edit edits[] = {
        { "unchanged", "\"TDX\"", "\"TDX\"", "" },
        { "unknown member", "\"id\":\"TDX\"", "\"id\":\"TDX\",\"new\":[{\"x\":1}]", "" },
        { "lower-case FMSPC", "A0C06F000000", "a0c06f000000", "" },
        { "of SGX", "\"id\":\"TDX\"", "\"id\":\"SGX\"", "CollateralKind" },
        { "without id", "\"id\":\"TDX\",", "", "CollateralKind" },
        { "version 2", "\"version\":3", "\"version\":2", "CollateralKind" },
        { "version 4", "\"version\":3", "\"version\":4", "CollateralKind" },
        { "type 1", "\"tcbType\":0", "\"tcbType\":1", "CollateralKind" },
        { "of another FMSPC", "A0C06F000000", "A0C06F000001", "FmspcMismatch" },
        { "of another PCEID", "\"pceId\":\"0000\"", "\"pceId\":\"0001\"", "PceidMismatch" },
        { "FMSPC of 5 bytes", "A0C06F000000", "A0C06F0000", "CollateralMalformed" },
        { "FMSPC of 7 bytes", "A0C06F000000", "A0C06F00000000", "CollateralMalformed" },
        { "FMSPC not hex", "A0C06F000000", "A0C06F00000G", "CollateralMalformed" },
        { "no evaluation number", "\"tcbEvaluationDataNumber\":18,", "", "CollateralMalformed" },
        { "evaluation number 18.0", "Number\":18", "Number\":18.0", "CollateralMalformed" },
        { "evaluation number -1", "Number\":18", "Number\":-1", "CollateralMalformed" },
        { "evaluation number as text", "Number\":18", "Number\":\"18\"", "CollateralMalformed" },
        { "another evaluation number", "Number\":18", "Number\":17", "CollateralMixed" },
    };

    (void)state;
    judge_edits(edits, ARRAY_LEN(edits), scene_edit_tcb_info);
}

static void wrong_numbers_of_levels_are_refused(void **state)
{
    static const struct edit edits[] = {
        { "15 components", FIRST_SVN ",", "\"sgxtcbcomponents\":[", "CollateralMalformed" },
        { "17 components", "\"sgxtcbcomponents\":[", "\"sgxtcbcomponents\":[{\"svn\":0},",
          "CollateralMalformed" },
        { "15 TDX components",
          "\"tdxtcbcomponents\":[{\"svn\":5,\"category\":\"OS/VMM\",\"type\":"
          "\"TDX Module\"},",
          "\"tdxtcbcomponents\":[", "CollateralMalformed" },
        { "no TDX components", "\"tdxtcbcomponents\"", "\"tdxtcbcomponent\"",
          "CollateralMalformed" },
        { "no PCE SVN", "\"pcesvn\":13,", "", "CollateralMalformed" },
        { "PCE SVN 65536", "\"pcesvn\":13", "\"pcesvn\":65536", "CollateralMalformed" },
        { "SVN 256", "[{\"svn\":3,", "[{\"svn\":256,", "CollateralMalformed" },
        { "SVN -1", "[{\"svn\":3,", "[{\"svn\":-1,", "CollateralMalformed" },
        { "SVN 3.0", "[{\"svn\":3,", "[{\"svn\":3.0,", "CollateralMalformed" },
        { "SVN as text", "[{\"svn\":3,", "[{\"svn\":\"3\",", "CollateralMalformed" },
        { "SVN too long", "[{\"svn\":3,", "[{\"svn\":99999999999999999999,",
          "CollateralMalformed" },
        { "SVN is NaN", "[{\"svn\":3,", "[{\"svn\":NaN,", "CollateralMalformed" },
    };

    (void)state;
    judge_edits(edits, ARRAY_LEN(edits), scene_edit_tcb_info);
}

static void wrong_statuses_dates_and_modules_are_refused(void **state)
{
    static const struct edit edits[] = {
        { "unknown status", "UpToDate", "Fine", "CollateralMalformed" },
        { "status in another case", "UpToDate", "uptodate", "CollateralMalformed" },
        { "module that needs configuration", "UpToDate", "ConfigurationNeeded",
          "CollateralMalformed" },
        { "module that needs hardening", "UpToDate", "SWHardeningNeeded", "CollateralMalformed" },
        { "module relaunched", "UpToDate", "TDRelaunchAdvised", "CollateralMalformed" },
        { "no status", ",\"tcbStatus\":\"UpToDate\"", "", "CollateralMalformed" },
        { "no date", "\"tcbDate\":\"" DATE "\",", "", "CollateralMalformed" },
        { "date without time", DATE, "2025-05-14", "CollateralMalformed" },
        { "date with an offset", DATE, "2025-05-14T00:00:00+01:00", "CollateralMalformed" },
        { "month 13", DATE, "2025-13-14T00:00:00Z", "CollateralMalformed" },
        { "module id TDX_3", "TDX_03", "TDX_3", "CollateralMalformed" },
        { "module id TDX_00", "TDX_03", "TDX_00", "CollateralMalformed" },
        { "module id TDX_003", "TDX_03", "TDX_003", "CollateralMalformed" },
        { "module id twice", "TDX_01", "TDX_03", "CollateralMalformed" },
        { "only other modules", "TDX_03", "TDX_02", "TdxModuleUnknown" },
        { "module without levels", "\"tcbLevels\":[{\"tcb\":{\"isvsvn\":5}",
          "\"tcbLevel\":[{\"tcb\":{\"isvsvn\":5}", "CollateralMalformed" },
        { "module signed by another", "TDX_03\",\"mrsigner\":\"0", "TDX_03\",\"mrsigner\":\"1",
          "TdxModuleSigner" },
        { "unversioned module signed by another", "tdxModule\":{\"mrsigner\":\"0",
          "tdxModule\":{\"mrsigner\":\"1", "" },
        { "module's signer of 95 digits", "TDX_03\",\"mrsigner\":\"0", "TDX_03\",\"mrsigner\":\"",
          "CollateralMalformed" },
        { "module attributes that the TD's module lacks",
          "\"attributes\":\"0000000000000000\",\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\"",
          "\"attributes\":\"0100000000000000\",\"attributesMask\":\"FFFFFFFFFFFFFFFF\",\"tcbLevels\"",
          "TdxModuleAttributes" },
        { "no unversioned module", "\"tdxModule\":", "\"tdxModul\":", "CollateralMalformed" },
        { "no levels", "\"tcbLevels\":[{\"tcb\":{\"sgx", "\"tcbLevel\":[{\"tcb\":{\"sgx",
          "CollateralMalformed" },
    };

    (void)state;
    judge_edits(edits, ARRAY_LEN(edits), scene_edit_tcb_info);
}

static void text_that_is_not_strict_json_is_refused(void **state)
{
    static const struct edit edits[] = {
        { "a key twice", "\"version\":3", "\"version\":3,\"version\":3", "CollateralMalformed" },
        { "FMSPC twice", "\"pceId\"", "\"fmspc\":\"A0C06F000000\",\"pceId\"",
          "CollateralMalformed" },
        { "an inner key twice", "\"pcesvn\":13", "\"pcesvn\":13,\"pcesvn\":0",
          "CollateralMalformed" },
        { "wrong UTF-8", "\"id\":\"TDX\"", "\"id\":\"TDX\",\"x\":\"\xff\xfe\"",
          "CollateralMalformed" },
        { "overlong UTF-8", "\"id\":\"TDX\"", "\"id\":\"TDX\",\"x\":\"\xc0\x80\"",
          "CollateralMalformed" },
        { "NUL in a string", "\"id\":\"TDX\"", "\"id\":\"TDX\",\"x\":\"\\u0000\"",
          "CollateralMalformed" },
        { "a comment", "{\"id\"", "{/**/\"id\"", "CollateralMalformed" },
        { "one comma too many", "{\"id\"", "{,\"id\"", "CollateralMalformed" },
        { "more than one object", "{\"id\":\"TDX\"", "{},{\"id\":\"TDX\"", "CollateralMalformed" },
        { "an array", "{\"id\":\"TDX\"", "[],{\"id\":\"TDX\"", "CollateralMalformed" },
    };

    (void)state;
    judge_edits(edits, ARRAY_LEN(edits), scene_edit_tcb_info);
}

static void wrong_qe_identity_is_refused(void **state)
{
    static const struct edit edits[] = {
        { "unchanged", "TD_QE", "TD_QE", "" },
        { "of SGX's QE", "TD_QE", "QE", "CollateralKind" },
        { "of the QVE", "TD_QE", "QVE", "CollateralKind" },
        { "version 1", "\"version\":2", "\"version\":1", "CollateralKind" },
        { "version 3", "\"version\":2", "\"version\":3", "CollateralKind" },
        { "another evaluation number", "Number\":18", "Number\":17", "CollateralMixed" },
        { "another signer", "DC9E2A7C", "DC9E2A7D", "QeIdentity" },
        { "another product", "\"isvprodid\":2", "\"isvprodid\":1", "QeIdentity" },
        { "other attributes", "\"11000000", "\"15000000", "" }, /* MODE64BIT is not in the mask */
        { "provisioning attribute", "\"11000000", "\"31000000", "QeIdentity" },
        { "MISCSELECT", "\"miscselect\":\"00000000", "\"miscselect\":\"01000000", "QeIdentity" },
        { "MISCSELECT out of the mask", "\"miscselectMask\":\"FFFFFFFF",
          "\"miscselectMask\":\"00000000", "" },
        { "short MISCSELECT", "\"miscselect\":\"00000000", "\"miscselect\":\"000000",
          "CollateralMalformed" },
        { "short mask", "FBFFFFFFFFFFFFFF0000000000000000", "FBFFFFFFFFFFFFFF",
          "CollateralMalformed" },
        { "short signer", "DC9E2A7C", "DC9E2A", "CollateralMalformed" },
        { "product 65538", "\"isvprodid\":2", "\"isvprodid\":65538", "CollateralMalformed" },
        { "SVN 65540", "\"isvsvn\":4", "\"isvsvn\":65540", "CollateralMalformed" },
        { "no SVN", "\"isvsvn\":4", "\"isvsv\":4", "CollateralMalformed" },
        { "unknown status", "UpToDate", "Fine", "CollateralMalformed" },
        { "configuration needed", "UpToDate", "ConfigurationNeeded", "CollateralMalformed" },
        { "below its lowest level", "\"isvsvn\":4", "\"isvsvn\":5", "TcbNotSupported" },
        { "out of date", "UpToDate", "OutOfDate", "TcbOutOfDate" },
        { "revoked", "UpToDate", "Revoked", "TcbRevoked" },
        { "no levels", "tcbLevels", "tcbLevel", "CollateralMalformed" },
        { "a key twice", "\"isvprodid\":2", "\"isvprodid\":2,\"isvprodid\":2",
          "CollateralMalformed" },
    };

    (void)state;
    judge_edits(edits, ARRAY_LEN(edits), scene_edit_qe_identity);
}

static void quoting_enclave_in_debug_mode_is_refused_under_any_mask(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->quoting.attributes[0] |= 2;
    scene_sign(s);
    scene_edit_qe_identity(s, "FBFFFFFFFFFFFFFF", "0000000000000000", NULL);
    expect_verdict("mask of zeros", scene_judge(s), "QeDebug");
}

/* The depth of arrays in an unknown member. The document itself is one level. */
static void deep_json_is_refused(void **state)
{
    static const struct {
        size_t depth;
        const char *reason;
    } cases[] = { { 31, "" }, { 32, "CollateralMalformed" }, { 100000, "CollateralMalformed" } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        size_t depth = cases[i].depth;
        auto_free char *deep = calloc(2 * depth + 32, 1);

        assert_non_null(deep);
        size_t at = (size_t)snprintf(deep, 32, "\"id\":\"TDX\",\"[[\\\"[\":");
        for (size_t d = 0; d < 2 * depth; d++)
            deep[at++] = d < depth ? '[' : ']';
        scene_edit_tcb_info(s, "\"id\":\"TDX\"", deep, NULL);
        expect_verdict("depth", scene_judge(s), cases[i].reason);
    }
}

/* --- signatures --- */

static void documents_signed_by_others_are_refused(void **state)
{
    static const struct {
        const char *name;
        const char *who; /* l PCK leaf, c Platform CA, r root, t TCB signer */
        bool chain_too;  /* its certificate is shown as the signer's */
        const char *reason;
    } cases[] = {
        { "TCB signer", "t", true, "" },
        { "PCK key, TCB signer shown", "l", false, "CollateralSignature" },
        { "PCK certificate", "l", true, "CollateralSigner" },
        { "Platform CA, TCB signer shown", "c", false, "CollateralSignature" },
        { "Platform CA", "c", true, "CollateralSigner" },
        { "root, TCB signer shown", "r", false, "CollateralSignature" },
        { "root certificate", "r", true, "CollateralSigner" },
    };

    (void)state;
    for (size_t n = 0; n < 2 * ARRAY_LEN(cases); n++) {
        size_t i = n / 2;
        auto_scene struct scene *s = scene_new();
        const struct sim_identity *who = cases[i].who[0] == 'l'   ? &s->machine->pck
                                         : cases[i].who[0] == 'c' ? &s->pki->pck_ca[0]
                                         : cases[i].who[0] == 'r' ? &s->pki->root
                                                                  : &s->pki->tcb_signer;
        X509 *const certs[] = { who->cert, s->pki->root.cert };
        auto_free char *pem = sim_pem(certs, ARRAY_LEN(certs));
        struct bytes_view chain = { (const uint8_t *)pem, strlen(pem) };

        if (n % 2 == 0) {
            scene_edit_tcb_info(s, "TDX", "TDX", who->key);
            if (cases[i].chain_too)
                s->set.source.tcb_info_chain = chain;
        } else {
            scene_edit_qe_identity(s, "TD_QE", "TD_QE", who->key);
            if (cases[i].chain_too)
                s->set.source.qe_identity_chain = chain;
        }
        expect_verdict(cases[i].name, scene_judge(s), cases[i].reason);
    }
}

enum {
    BELOW_CA,
    OTHER_ROOT,
    ROOT_AGAIN,
    IS_CA,
    NO_SIGNING,
    CRITICAL,
    EXPIRED,
    FUTURE,
    LONG_CHAIN,
    NAME
};

/* A chain with another form of the TCB signer's certificate, for the same key. */
static char *signer_chain(struct scene *s, int what)
{
    struct sim_cert form = sim_cert_form(SIM_TCB_SIGNER, PCK_CA_PLATFORM);
    const struct sim_cert root_form = sim_cert_form(SIM_ROOT, PCK_CA_PLATFORM);
    const struct sim_identity *issuer = what == BELOW_CA ? &s->pki->pck_ca[0] : &s->pki->root;
    struct sim_pki *other = sim_pki_new();

    form.common_name = what == NAME ? "Intel SGX PCK Certificate" : form.common_name;
    form.basic_constraints = what == IS_CA ? "critical,CA:TRUE" : form.basic_constraints;
    form.key_usage = what == NO_SIGNING ? "critical,keyAgreement" : form.key_usage;
    form.unknown_critical = what == CRITICAL;
    form.until = what == EXPIRED ? s->now - 1 : form.until;
    form.from = what == FUTURE ? s->now + 60 : form.from;
    X509 *signer = sim_cert_make(&form, s->pki->tcb_signer.key, issuer);
    X509 *again = sim_cert_make(&root_form, s->pki->root.key, NULL);
    X509 *const certs[] = { signer,
                            what == OTHER_ROOT   ? other->root.cert
                            : what == ROOT_AGAIN ? again
                                                 : s->pki->root.cert,
                            s->pki->root.cert };
    char *pem = sim_pem(certs, what == LONG_CHAIN ? 3 : 2);
    X509_free(signer);
    X509_free(again);
    sim_pki_free(other);
    return pem;
}

static void signers_of_another_form_are_refused(void **state)
{
    static const struct {
        const char *name;
        int what;
        const char *reason;
    } cases[] = {
        { "unchanged", -1, "" },
        { "another name", NAME, "CollateralSigner" },
        { "below the PCK CA", BELOW_CA, "CollateralSigner" },
        { "below another root", OTHER_ROOT, "PckRootUnknown" },
        { "root signed again", ROOT_AGAIN, "PckRootUnknown" },
        { "a CA", IS_CA, "CollateralSigner" },
        { "may not sign", NO_SIGNING, "CollateralSigner" },
        { "unknown critical extension", CRITICAL, "PckChainUntrusted" },
        { "expired", EXPIRED, "CollateralExpired" },
        { "not yet valid", FUTURE, "CollateralNotYetValid" },
        { "one certificate too many", LONG_CHAIN, "PckChainMalformed" },
    };

    (void)state;
    for (size_t n = 0; n < 2 * ARRAY_LEN(cases); n++) {
        size_t i = n / 2;
        auto_scene struct scene *s = scene_new();
        auto_free char *pem = signer_chain(s, cases[i].what);
        struct bytes_view chain = { (const uint8_t *)pem, strlen(pem) };

        if (n % 2 == 0)
            s->set.source.tcb_info_chain = chain;
        else
            s->set.source.qe_identity_chain = chain;
        expect_verdict(cases[i].name, scene_judge(s), cases[i].reason);
    }
}

/* The document changed after it was signed, as when a cache prints it again. */
static void documents_that_are_printed_again_are_refused(void **state)
{
    static const struct edit edits[] = {
        { "space added", "\"version\":3", "\"version\": 3", "CollateralSignature" },
        { "line end added", "{\"id\"", "{\n\"id\"", "CollateralSignature" },
        { "keys in another order", "\"id\":\"TDX\",\"version\":3", "\"version\":3,\"id\":\"TDX\"",
          "CollateralSignature" },
        { "number as a fraction", "\"version\":3", "\"version\":3.0", "CollateralSignature" },
        { "escape", "\"OS/VMM\"", "\"OS\\/VMM\"", "CollateralSignature" },
        { "unicode escape", "\"TDX\"", "\"T\\u0044X\"", "CollateralSignature" },
        { "case of hex", "A0C06F", "a0C06F", "CollateralSignature" },
        { "level added", "\"pcesvn\":13", "\"pcesvn\":12", "CollateralSignature" },
        { "a key twice", "\"version\":3", "\"version\":3,\"version\":3", "CollateralSignature" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
        auto_scene struct scene *s = scene_new();
        struct bytes_view signature = s->set.source.tcb_info_signature_hex;

        scene_edit_tcb_info(s, edits[i].from, edits[i].to, NULL);
        s->set.source.tcb_info_signature_hex = signature;
        expect_verdict(edits[i].name, scene_judge(s), edits[i].reason);
    }
}

static void wrong_document_signatures_are_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct collateral_source *source = &s->set.source;
    const struct bytes_view good = source->tcb_info_signature_hex;
    char *hex = arena_printf(&s->set.memory, "%.*s0000", (int)good.len, (const char *)good.bytes);
    const struct bytes_view other = source->qe_identity_signature_hex;

    (void)state;
    source->tcb_info_signature_hex = other;
    expect_verdict("of the other document", scene_judge(s), "CollateralSignature");
    for (size_t len = 0; len <= 132; len++) {
        source->tcb_info_signature_hex = (struct bytes_view){ (const uint8_t *)hex, len };
        expect_verdict("digits", scene_judge(s), len == 128 ? "" : "CollateralSignature");
    }
    source->tcb_info_signature_hex = (struct bytes_view){ (const uint8_t *)hex, 128 };
    for (size_t i = 0; i < 128; i++) {
        char was = hex[i];

        hex[i] = was == '0' ? '1' : '0';
        expect_verdict("another digit", scene_judge(s), "CollateralSignature");
        hex[i] = i % 2 == 0 ? 'g' : '\0';
        expect_verdict("not a digit", scene_judge(s), "CollateralSignature");
        hex[i] = was;
    }
    for (size_t i = 0; i < 128; i++)
        hex[i] = (char)toupper(hex[i]);
    expect_verdict("upper case", scene_judge(s), "");
    for (size_t i = 0; i < 64; i++)
        hex[i] = '0';
    expect_verdict("r = 0", scene_judge(s), "CollateralSignature");
}

static void responses_of_another_form_are_refused(void **state)
{
    static const char *const good = "{\"tcbInfo\":{\"a\":1},\"signature\":\"%0128d\"}";
    static const struct edit cases[] = {
        { "unchanged", "", "", "" },
        { "line end after it", "\"}", "\"}\n", "" },
        { "QE identity", "tcbInfo", "enclaveIdentity", "CollateralMalformed" },
        { "space before it", "{\"tcb", " {\"tcb", "CollateralMalformed" },
        { "space inside", "\"signature\":", "\"signature\": ", "CollateralMalformed" },
        { "member after it", "\"}", "\",\"x\":1}", "CollateralMalformed" },
        { "text after it", "\"}", "\"}x", "CollateralMalformed" },
        { "another key", "signature", "sign", "CollateralMalformed" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char text[512], edited[512];
        struct bytes_view object, signature;
        struct error err = ERROR_INIT;

        (void)snprintf(text, sizeof(text), good, 0);
        const char *at = strstr(text, cases[i].from);
        assert_non_null(at);
        (void)snprintf(edited, sizeof(edited), "%.*s%s%s", (int)(at - text), text, cases[i].to,
                       at + strlen(cases[i].from));
        bool ok = collateral_split_response(
            "tcbInfo", (struct bytes_view){ (const uint8_t *)edited, strlen(edited) }, &object,
            &signature, &err);
        expect_verdict(cases[i].name, ok ? "" : err.reason, cases[i].reason);
        if (ok)
            assert_memory_equal(object.bytes, "{\"a\":1}", object.len);
    }
}

/* A second tcbInfo either belongs to the signed bytes, or breaks the form of the response. */
static void second_tcb_info_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct collateral_source *source = &s->set.source;
    struct error err = ERROR_INIT;
    char *twice =
        arena_printf(&s->set.memory, "{\"tcbInfo\":{},\"tcbInfo\":%.*s,\"signature\":\"%.*s\"}",
                     (int)source->tcb_info.len, (const char *)source->tcb_info.bytes,
                     (int)source->tcb_info_signature_hex.len,
                     (const char *)source->tcb_info_signature_hex.bytes);

    (void)state;
    assert_true(collateral_split_response(
        "tcbInfo", (struct bytes_view){ (const uint8_t *)twice, strlen(twice) }, &source->tcb_info,
        &source->tcb_info_signature_hex, &err));
    expect_verdict("twice", scene_judge(s), "CollateralSignature");
}

/* --- dates --- */

static void documents_are_valid_only_within_their_dates(void **state)
{
    auto_scene struct scene *s = scene_new();
    const struct {
        const char *name;
        int64_t now;
        const char *reason;
    } cases[] = {
        { "a second before", s->tcb.issued - 1, "CollateralNotYetValid" },
        { "first second", s->tcb.issued, "" },
        { "last second", s->tcb.next_update, "" },
        { "a second after", s->tcb.next_update + 1, "CollateralExpired" },
        { "long ago", 0, "CollateralNotYetValid" },
        { "far away", INT64_MAX, "CollateralExpired" },
    };

    (void)state;
    s->tcb.crl_issued -= 1000;
    s->tcb.crl_next_update += 1000;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        s->now = cases[i].now;
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
    }
}

/* Moves both dates of one document by a hundred years. */
static void dates_of_both_documents_count(void **state)
{
    static const char *const dates[][2] = {
        { "\"issueDate\":\"20", "\"issueDate\":\"19" },
        { "\"nextUpdate\":\"20", "\"nextUpdate\":\"19" },
        { "\"nextUpdate\":\"20", "\"nextUpdate\":\"21" },
        { "\"issueDate\":\"20", "\"issueDate\":\"21" },
    };

    (void)state;
    for (int future = 0; future < 2; future++)
        for (int qe = 0; qe < 2; qe++) {
            auto_scene struct scene *s = scene_new();

            for (size_t i = 2 * (size_t)future; i < 2 * (size_t)future + 2; i++)
                (qe ? scene_edit_qe_identity : scene_edit_tcb_info)(s, dates[i][0], dates[i][1],
                                                                    NULL);
            expect_verdict(qe ? "QE identity" : "TCB info", scene_judge(s),
                           future ? "CollateralNotYetValid" : "CollateralExpired");
        }
}

static void next_update_before_the_issue_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    s->tcb.next_update = s->tcb.issued - 1;
    expect_verdict("before", scene_run(s), "CollateralMalformed");
    s->tcb.next_update = s->tcb.issued;
    s->now = s->tcb.issued;
    expect_verdict("the same second", scene_run(s), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tcb_info_of_another_kind_is_refused),
        cmocka_unit_test(wrong_numbers_of_levels_are_refused),
        cmocka_unit_test(wrong_statuses_dates_and_modules_are_refused),
        cmocka_unit_test(text_that_is_not_strict_json_is_refused),
        cmocka_unit_test(wrong_qe_identity_is_refused),
        cmocka_unit_test(quoting_enclave_in_debug_mode_is_refused_under_any_mask),
        cmocka_unit_test(deep_json_is_refused),
        cmocka_unit_test(documents_signed_by_others_are_refused),
        cmocka_unit_test(signers_of_another_form_are_refused),
        cmocka_unit_test(documents_that_are_printed_again_are_refused),
        cmocka_unit_test(wrong_document_signatures_are_refused),
        cmocka_unit_test(responses_of_another_form_are_refused),
        cmocka_unit_test(second_tcb_info_is_refused),
        cmocka_unit_test(documents_are_valid_only_within_their_dates),
        cmocka_unit_test(dates_of_both_documents_count),
        cmocka_unit_test(next_update_before_the_issue_is_refused),
    };

    return RUN_TESTS(tests);
}
