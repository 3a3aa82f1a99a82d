/* SPDX-License-Identifier: Apache-2.0 */
/* What Intel's PCS would publish: revocation lists, TCB info version 3, QE identity version 2. */
#include "base/digest.h"
#include "tests/sim/forge.h"

#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HOUR = 3600, DAY = 24 * HOUR, SET_MAX = 8 * 1024 * 1024 };

#define NO_SIGNER                                                        \
    "\"mrsigner\":\"000000000000000000000000000000000000000000000000000" \
    "000000000000000000000000000000000000000000000\","                   \
    "\"attributes\":\"0000000000000000\",\"attributesMask\":\"FFFFFFFFFFFFFFFF\""

static const struct sim_level default_levels[] = {
    { .sgx = { 3, 3, 2, 2, 4, 1, 0, 5 },
      .tdx = { 5, 0, 2 },
      .pce_svn = 13,
      .date = "2025-05-14T00:00:00Z",
      .status = "UpToDate" },
    { .sgx = { 2, 2, 2, 2, 3, 1, 0, 5 },
      .tdx = { 5, 0, 2 },
      .pce_svn = 13,
      .date = "2024-03-13T00:00:00Z",
      .status = "OutOfDate",
      .advisories = { "INTEL-SA-01036", "INTEL-SA-01079" } },
    { .sgx = { 2, 2, 2, 2, 3, 1, 0, 5 },
      .tdx = { 5, 0, 2 },
      .pce_svn = 5,
      .date = "2018-01-04T00:00:00Z",
      .status = "OutOfDate",
      .advisories = { "INTEL-SA-00106", "INTEL-SA-00115", "INTEL-SA-01036" } },
};
static const struct sim_level default_module_levels[] = {
    { .isv_svn = 5, .date = "2025-05-14T00:00:00Z", .status = "UpToDate" },
    { .isv_svn = 2, .date = "2023-08-09T00:00:00Z", .status = "OutOfDate" },
};
static const struct sim_level default_qe_levels[] = {
    { .isv_svn = 4, .date = "2024-03-13T00:00:00Z", .status = "UpToDate" },
};
static const struct sim_module default_modules[] = {
    { "TDX_03", default_module_levels, ARRAY_LEN(default_module_levels) },
    { "TDX_01", default_module_levels, ARRAY_LEN(default_module_levels) },
};

struct sim_tcb sim_tcb_default(void)
{
    struct sim_tcb tcb = {
        .ca = PCK_CA_PLATFORM,
        .crl_number = 1,
        .tcb_evaluation_number = 18,
        .qe_evaluation_number = 18,
        .levels = default_levels,
        .n_levels = ARRAY_LEN(default_levels),
        .qe_levels = default_qe_levels,
        .n_qe_levels = ARRAY_LEN(default_qe_levels),
        .modules = default_modules,
        .n_modules = ARRAY_LEN(default_modules),
    };

    memcpy(tcb.fmspc, sim_platform_default.fmspc, FMSPC_LEN);
    memcpy(tcb.pceid, sim_platform_default.pceid, PCEID_LEN);
    tcb.issued = tcb.crl_issued = time(NULL) - HOUR;
    tcb.next_update = tcb.crl_next_update = tcb.issued + 30 * DAY;
    return tcb;
}

/* --- JSON, compact and in Intel's order --- */

static void put_date(FILE *out, const char *key, int64_t when)
{
    char text[32];
    struct tm tm;
    time_t t = when;

    SIM_MUST(gmtime_r(&t, &tm) && strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
    (void)fprintf(out, "\"%s\":\"%s\",", key, text);
}

/* Intel names some of the components. No reader uses the names. */
static void put_components(FILE *out, const char *key, const uint8_t *svn, const char *const *words,
                           size_t n_words)
{
    (void)fprintf(out, "\"%s\":[", key);
    for (size_t i = 0; i < TCB_SVN_LEN; i++)
        (void)fprintf(out, "%s{\"svn\":%u%s}", i == 0 ? "" : ",", svn[i],
                      i < n_words && words[i] ? words[i] : "");
    (void)fputc(']', out);
}

static void put_platform_tcb(FILE *out, const struct sim_level *level)
{
    static const char *const sgx[] = {
        ",\"category\":\"BIOS\",\"type\":\"Early Microcode Update\"",
        ",\"category\":\"OS/VMM\",\"type\":\"SGX Late Microcode Update\"",
        ",\"category\":\"OS/VMM\",\"type\":\"TXT SINIT\"",
        ",\"category\":\"BIOS\"",
        ",\"category\":\"BIOS\"",
        ",\"category\":\"BIOS\"",
        NULL,
        ",\"category\":\"OS/VMM\",\"type\":\"SEAMLDR ACM\"",
    };
    static const char *const tdx[] = {
        ",\"category\":\"OS/VMM\",\"type\":\"TDX Module\"",
        ",\"category\":\"OS/VMM\",\"type\":\"TDX Module\"",
        ",\"category\":\"OS/VMM\",\"type\":\"TDX Late Microcode Update\"",
    };

    put_components(out, "sgxtcbcomponents", level->sgx, sgx, ARRAY_LEN(sgx));
    (void)fprintf(out, ",\"pcesvn\":%u,", level->pce_svn);
    put_components(out, "tdxtcbcomponents", level->tdx, tdx, ARRAY_LEN(tdx));
}

static void put_isv_tcb(FILE *out, const struct sim_level *level)
{
    (void)fprintf(out, "\"isvsvn\":%u", level->isv_svn);
}

static void put_levels(FILE *out, const struct sim_level *levels, size_t n,
                       void (*put_tcb)(FILE *out, const struct sim_level *level))
{
    (void)fputs("\"tcbLevels\":[", out);
    for (size_t i = 0; i < n; i++) {
        const struct sim_level *level = &levels[i];

        (void)fprintf(out, "%s{\"tcb\":{", i == 0 ? "" : ",");
        put_tcb(out, level);
        (void)fprintf(out, "},\"tcbDate\":\"%s\",\"tcbStatus\":\"%s\"", level->date, level->status);
        for (size_t j = 0; j < ARRAY_LEN(level->advisories) && level->advisories[j]; j++)
            (void)fprintf(out, "%s\"%s\"", j == 0 ? ",\"advisoryIDs\":[" : ",",
                          level->advisories[j]);
        (void)fputs(level->advisories[0] ? "]}" : "}", out);
    }
    (void)fputc(']', out);
}

static void put_modules(FILE *out, const struct sim_tcb *tcb)
{
    if (tcb->n_modules == 0)
        return;
    (void)fputs(",\"tdxModuleIdentities\":[", out);
    for (size_t i = 0; i < tcb->n_modules; i++) {
        (void)fprintf(out, "%s{\"id\":\"%s\"," NO_SIGNER ",", i == 0 ? "" : ",",
                      tcb->modules[i].id);
        put_levels(out, tcb->modules[i].levels, tcb->modules[i].n_levels, put_isv_tcb);
        (void)fputc('}', out);
    }
    (void)fputc(']', out);
}

static void put_hex(FILE *out, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        (void)fprintf(out, "%02X", bytes[i]);
}

static void put_tcb_info(FILE *out, const struct sim_tcb *tcb)
{
    (void)fputs("{\"id\":\"TDX\",\"version\":3,", out);
    put_date(out, "issueDate", tcb->issued);
    put_date(out, "nextUpdate", tcb->next_update);
    (void)fputs("\"fmspc\":\"", out);
    put_hex(out, tcb->fmspc, FMSPC_LEN);
    (void)fputs("\",\"pceId\":\"", out);
    put_hex(out, tcb->pceid, PCEID_LEN);
    (void)fprintf(out,
                  "\",\"tcbType\":0,\"tcbEvaluationDataNumber\":%u,\"tdxModule\":{" NO_SIGNER "}",
                  tcb->tcb_evaluation_number);
    put_modules(out, tcb);
    (void)fputc(',', out);
    put_levels(out, tcb->levels, tcb->n_levels, put_platform_tcb);
    (void)fputc('}', out);
}

static void put_qe_identity(FILE *out, const struct sim_tcb *tcb)
{
    (void)fputs("{\"id\":\"TD_QE\",\"version\":2,", out);
    put_date(out, "issueDate", tcb->issued);
    put_date(out, "nextUpdate", tcb->next_update);
    (void)fprintf(out, "\"tcbEvaluationDataNumber\":%u,", tcb->qe_evaluation_number);
    (void)fputs("\"miscselect\":\"00000000\",\"miscselectMask\":\"FFFFFFFF\","
                "\"attributes\":\"11000000000000000000000000000000\","
                "\"attributesMask\":\"FBFFFFFFFFFFFFFF0000000000000000\",\"mrsigner\":\"",
                out);
    put_hex(out, sim_quoting_default.mrsigner, sizeof(sim_quoting_default.mrsigner));
    (void)fprintf(out, "\",\"isvprodid\":%u,", sim_quoting_default.isv_prod_id);
    put_levels(out, tcb->qe_levels, tcb->n_qe_levels, put_isv_tcb);
    (void)fputc('}', out);
}

/* What print writes, as text in the arena. */
static const char *printed(void (*print)(FILE *out, const struct sim_tcb *tcb),
                           const struct sim_tcb *tcb, struct arena *arena)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    SIM_MUST(out);
    print(out, tcb);
    SIM_MUST(fclose(out) == 0);
    char *kept = arena_strdup(arena, text);
    SIM_MUST(kept);
    free(text);
    return kept;
}

static struct bytes_view view_of(const char *text)
{
    return (struct bytes_view){ (const uint8_t *)text, strlen(text) };
}

struct bytes_view sim_response(struct arena *arena, const char *name, const char *object,
                               EVP_PKEY *key, struct bytes_view *object_out,
                               struct bytes_view *signature_hex)
{
    uint8_t signature[P256_SIGNATURE_LEN];
    char hex[2 * P256_SIGNATURE_LEN + 1];

    sim_sign(key, object, strlen(object), signature);
    hex_encode(signature, sizeof(signature), hex);
    char *text = arena_printf(arena, "{\"%s\":%s,\"signature\":\"%s\"}", name, object, hex);
    SIM_MUST(text);
    const size_t head = strlen(name) + 4;
    *object_out = (struct bytes_view){ (const uint8_t *)text + head, strlen(object) };
    *signature_hex =
        (struct bytes_view){ (const uint8_t *)text + strlen(text) - strlen(hex) - 2, strlen(hex) };
    return view_of(text);
}

/* --- revocation lists --- */

static void list_add(X509_CRL *crl, const struct sim_list *list, const uint8_t serial[static 20])
{
    X509_REVOKED *revoked = X509_REVOKED_new();
    BIGNUM *n = BN_bin2bn(serial, 20, NULL);
    ASN1_INTEGER *number = BN_to_ASN1_INTEGER(n, NULL);
    ASN1_TIME *date = ASN1_TIME_set(NULL, list->from);
    ASN1_ENUMERATED *reason = ASN1_ENUMERATED_new();

    SIM_MUST(revoked && number && date && reason &&
             ASN1_ENUMERATED_set(reason, CRL_REASON_KEY_COMPROMISE) == 1);
    SIM_MUST(X509_REVOKED_set_serialNumber(revoked, number) == 1 &&
             X509_REVOKED_set_revocationDate(revoked, date) == 1 &&
             X509_REVOKED_add1_ext_i2d(revoked, NID_crl_reason, reason, list->critical_entries,
                                       0) == 1 &&
             X509_CRL_add0_revoked(crl, revoked) == 1);
    ASN1_ENUMERATED_free(reason);
    ASN1_TIME_free(date);
    ASN1_INTEGER_free(number);
    BN_free(n);
}

static void list_extend(X509_CRL *crl, const struct sim_list *list)
{
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    X509V3_CTX ctx;

    SIM_MUST(number && ASN1_INTEGER_set(number, list->number) == 1);
    if (list->number > 0)
        SIM_MUST(X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1);
    if (list->delta)
        SIM_MUST(X509_CRL_add1_ext_i2d(crl, NID_delta_crl, number, 1, 0) == 1);
    ASN1_INTEGER_free(number);
    X509V3_set_ctx(&ctx, list->issuer->cert, NULL, NULL, crl, 0);
    const struct {
        int nid;
        const char *value;
    } others[] = {
        { NID_authority_key_identifier, "keyid:always" },
        { NID_issuing_distribution_point, list->scope },
    };
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (!others[i].value)
            continue;
        X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, others[i].nid, others[i].value);
        SIM_MUST(extension && X509_CRL_add_ext(crl, extension, -1) == 1);
        X509_EXTENSION_free(extension);
    }
}

struct bytes_view sim_list_make(const struct sim_list *list, struct arena *arena)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *from = ASN1_TIME_set(NULL, list->from), *until = ASN1_TIME_set(NULL, list->until);
    unsigned char *der = NULL;

    SIM_MUST(crl && from && until && X509_CRL_set_version(crl, X509_CRL_VERSION_2) == 1);
    SIM_MUST(X509_CRL_set_issuer_name(crl, X509_get_subject_name(list->issuer->cert)) == 1);
    SIM_MUST(X509_CRL_set1_lastUpdate(crl, from) == 1);
    if (list->until != 0)
        SIM_MUST(X509_CRL_set1_nextUpdate(crl, until) == 1);
    for (size_t i = 0; i < list->n_serials; i++)
        list_add(crl, list, list->serials[i]);
    list_extend(crl, list);
    SIM_MUST(X509_CRL_sort(crl) == 1 &&
             X509_CRL_sign(crl, list->other_key ? list->other_key : list->issuer->key,
                           EVP_sha256()) > 0);
    int len = i2d_X509_CRL(crl, &der);
    SIM_MUST(len > 0);
    struct bytes_view out = { arena_memdup(arena, der, (size_t)len), (size_t)len };
    SIM_MUST(out.bytes);
    OPENSSL_free(der);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    X509_CRL_free(crl);
    return out;
}

static struct bytes_view chain_of(const struct sim_identity *first, const struct sim_pki *pki,
                                  struct arena *arena)
{
    X509 *const certs[] = { first->cert, pki->root.cert };
    char *pem = sim_pem(certs, ARRAY_LEN(certs));
    char *kept = arena_strdup(arena, pem);

    SIM_MUST(kept);
    free(pem);
    return view_of(kept);
}

void sim_collateral(const struct sim_pki *pki, const struct sim_tcb *tcb,
                    struct collateral_set *out)
{
    struct collateral_set set = { .ca = tcb->ca };
    struct collateral_source *s = &set.source;
    struct sim_list list = { .issuer = &pki->root,
                             .from = tcb->crl_issued,
                             .until = tcb->crl_next_update,
                             .number = tcb->crl_number,
                             .serials = tcb->revoked_serials,
                             .n_serials = tcb->n_revoked };

    arena_init(&set.memory, SET_MAX);
    memcpy(set.fmspc, tcb->fmspc, FMSPC_LEN);
    s->root_ca_crl = sim_list_make(&list, &set.memory);
    list.issuer = &pki->pck_ca[tcb->ca];
    s->pck_crl = sim_list_make(&list, &set.memory);
    s->pck_crl_chain = chain_of(list.issuer, pki, &set.memory);
    s->tcb_info_chain = s->qe_identity_chain = chain_of(&pki->tcb_signer, pki, &set.memory);
    set.tcb_info_response =
        sim_response(&set.memory, "tcbInfo", printed(put_tcb_info, tcb, &set.memory),
                     pki->tcb_signer.key, &s->tcb_info, &s->tcb_info_signature_hex);
    set.qe_identity_response =
        sim_response(&set.memory, "enclaveIdentity", printed(put_qe_identity, tcb, &set.memory),
                     pki->tcb_signer.key, &s->qe_identity, &s->qe_identity_signature_hex);
    *out = set;
}
