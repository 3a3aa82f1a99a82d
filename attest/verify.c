/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/verify.h"

#include "attest/reason.h"
#include "base/digest.h"
#include "base/reader.h"

#include <string.h>

/* SGX report attributes: bit 1 of the flags is DEBUG. */
#define SGX_ATTRIBUTE_DEBUG 0x02

/* What the steps share. */
struct work {
    const struct verify_request *request;
    const struct collateral *collateral;
    struct verified_quote result;
    EVP_PKEY *leaf_key;
};

static bool masked_equal(const uint8_t *have, const uint8_t *want, const uint8_t *mask, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((have[i] & mask[i]) != (want[i] & mask[i]))
            return false;
    return true;
}

static bool step_collateral(struct work *w, struct error *err)
{
    w->result.tcb_evaluation_number = w->collateral->tcb.evaluation_number;
    w->result.qe_evaluation_number = w->collateral->qe.evaluation_number;
    return collateral_check_dates(w->collateral, w->request->now, err);
}

static bool check_roles(const struct cert_chain *chain, struct error *err)
{
    enum cert_role ca = cert_role_of(chain->certs[1]);

    if (cert_role_of(chain->certs[0]) != CERT_PCK_LEAF ||
        (ca != CERT_PCK_PLATFORM_CA && ca != CERT_PCK_PROCESSOR_CA) ||
        cert_role_of(chain->certs[2]) != CERT_ROOT)
        return attest_refuse(err, REASON_PCK_CHAIN_ORDER,
                             "the chain must be PCK certificate, PCK CA, root CA, in this order");
    return true;
}

/* True when the quote's chain has the same CA and root as the collateral. They were verified
 * with the collateral and need not be decoded and verified again. */
static bool is_known_ca(const struct work *w, size_t leaf_end)
{
    const struct quote *quote = &w->result.quote;
    const struct bytes_view *known = &w->collateral->pck_ca_pem;
    const char *pem = quote->pck_chain_pem + leaf_end;
    size_t len = quote->pck_chain_len - leaf_end, known_len = known->len;

    if (len > 0 && pem[len - 1] == '\0')
        len--;
    if (len > 0 && pem[len - 1] == '\n')
        len--;
    if (known_len > 0 && known->bytes[known_len - 1] == '\n')
        known_len--;
    return len == known_len && memcmp(pem, known->bytes, len) == 0;
}

/* Checks the whole path of a chain whose CA certificate differs from the collateral's.
 * cert_chain_verify does not check the purpose of the PCK certificate; cert_verify_issued does. */
static bool verify_whole_chain(const struct work *w, struct cert_chain *chain, struct error *err)
{
    const struct quote *quote = &w->result.quote;
    const struct cert_trust trust = { .root = w->collateral->root,
                                      .root_crl = w->collateral->root_crl,
                                      .ca_crl = w->collateral->pck_crl };

    cert_chain_free(chain);
    return cert_chain_parse(quote->pck_chain_pem, quote->pck_chain_len, 3, chain, err) &&
           check_roles(chain, err) && cert_chain_verify(chain, &trust, err) &&
           cert_verify_issued(chain->certs[0], chain->certs[1], trust.ca_crl, err);
}

static bool verify_leaf(const struct work *w, const struct cert_chain *leaf, struct error *err)
{
    if (cert_role_of(leaf->certs[0]) != CERT_PCK_LEAF)
        return attest_refuse(err, REASON_PCK_CHAIN_ORDER,
                             "the chain does not begin with a PCK certificate");
    return cert_verify_issued(leaf->certs[0], w->collateral->pck_ca.certs[0],
                              w->collateral->pck_crl, err);
}

/* Checks everything about a chain that does not depend on the time. */
static bool verify_chain(const struct work *w, struct pck_entry *out, struct error *err)
{
    const struct quote *quote = &w->result.quote;
    auto_cert_chain struct cert_chain chain = { .n = 0 };
    struct pck_entry entry = { .validity = w->collateral->pck_ca_dates };
    size_t leaf_end = 0;

    if (!cert_parse_first(quote->pck_chain_pem, quote->pck_chain_len, &chain, &leaf_end, err))
        return false;
    if (!(is_known_ca(w, leaf_end) ? verify_leaf(w, &chain, err)
                                   : verify_whole_chain(w, &chain, err)))
        return false;
    if (!cert_read_platform(chain.certs[0], &entry.platform, err) ||
        !p256_key_of(chain.certs[0], &entry.key, err))
        return false;
    cert_chain_narrow(&chain, &entry.validity);
    *out = entry;
    return true;
}

static bool find_chain(const struct work *w, struct pck_entry *out, struct error *err)
{
    const struct quote *quote = &w->result.quote;
    struct pck_cache *cache = w->request->cache;
    uint64_t generation = w->collateral->generation;
    uint8_t digest[SHA256_LEN];

    if (!cache)
        return verify_chain(w, out, err);
    if (!sha256(quote->pck_chain_pem, quote->pck_chain_len, digest, err))
        return false;
    if (pck_cache_find(cache, digest, generation, out))
        return true;
    if (!verify_chain(w, out, err))
        return false;
    pck_cache_add(cache, digest, generation, out);
    return true;
}

static bool step_pck_chain(struct work *w, struct error *err)
{
    struct pck_entry entry;

    if (!find_chain(w, &entry, err))
        return false;
    w->leaf_key = entry.key;
    w->result.platform = entry.platform;
    if (!validity_has(&entry.validity, w->request->now))
        return attest_refuse(err, REASON_PCK_CERT_EXPIRED,
                             "a certificate of the PCK chain is expired or not valid yet");
    return true;
}

static bool step_platform(struct work *w, struct error *err)
{
    const struct pck_platform *platform = &w->result.platform;
    char have[2 * FMSPC_LEN + 1], want[2 * FMSPC_LEN + 1];

    if (memcmp(platform->fmspc, w->collateral->tcb.fmspc, FMSPC_LEN) != 0) {
        hex_encode(platform->fmspc, FMSPC_LEN, have);
        hex_encode(w->collateral->tcb.fmspc, FMSPC_LEN, want);
        return attest_refuse(err, REASON_FMSPC_MISMATCH,
                             "the platform's FMSPC is %s, but the TCB info is for %s", have, want);
    }
    if (memcmp(platform->pceid, w->collateral->tcb.pceid, PCEID_LEN) != 0)
        return attest_refuse(err, REASON_PCEID_MISMATCH,
                             "the TCB info is for another provisioning enclave (PCEID)");
    return true;
}

static bool step_qe_report(struct work *w, struct error *err)
{
    const struct quote *q = &w->result.quote;
    uint8_t bound[P256_POINT_LEN + 1024], digest[SHA256_LEN];

    if (!p256_signature_is_valid(w->leaf_key, q->qe_signature, q->qe.bytes, QE_REPORT_LEN))
        return attest_refuse(err, REASON_QE_REPORT_SIGNATURE,
                             "the quoting enclave's report is not signed by the PCK key");
    memcpy(bound, q->attestation_key, P256_POINT_LEN);
    memcpy(bound + P256_POINT_LEN, q->qe_auth_data, q->qe_auth_len);
    if (!sha256(bound, P256_POINT_LEN + q->qe_auth_len, digest, err))
        return false;
    if (memcmp(digest, q->qe.report_data, SHA256_LEN) != 0 ||
        !bytes_are_zero(q->qe.report_data + SHA256_LEN, REPORT_DATA_LEN - SHA256_LEN))
        return attest_refuse(err, REASON_QE_REPORT_DATA,
                             "the quoting enclave's report does not bind this attestation key");
    return true;
}

static bool step_qe_identity(struct work *w, struct error *err)
{
    const struct qe_report *qe = &w->result.quote.qe;
    const struct qe_identity *id = &w->collateral->qe;

    if (qe->attributes[0] & SGX_ATTRIBUTE_DEBUG)
        return attest_refuse(err, REASON_QE_DEBUG, "the quoting enclave is in debug mode");
    if (!masked_equal(qe->miscselect, id->miscselect, id->miscselect_mask,
                      sizeof(id->miscselect)) ||
        !masked_equal(qe->attributes, id->attributes, id->attributes_mask,
                      sizeof(id->attributes)) ||
        memcmp(qe->mrsigner, id->mrsigner, sizeof(id->mrsigner)) != 0 ||
        qe->isv_prod_id != id->isv_prod_id)
        return attest_refuse(err, REASON_QE_IDENTITY,
                             "the quoting enclave does not match the QE identity");
    return true;
}

static bool step_signature(struct work *w, struct error *err)
{
    const struct quote *q = &w->result.quote;
    auto_pkey EVP_PKEY *key = NULL;

    if (!p256_key_from_point(q->attestation_key, &key, err))
        return false;
    if (!p256_signature_is_valid(key, q->signature, q->signed_bytes, q->signed_len))
        return attest_refuse(err, REASON_QUOTE_SIGNATURE,
                             "the quote is not signed by its attestation key");
    return true;
}

/* One TEE_TCB_SVN names one module. The running module may differ from the module at launch. */
static bool check_module(const struct work *w, const uint8_t *svn, struct error *err)
{
    const struct tdx_module_identity *id = tcb_module_identity(&w->collateral->tcb, svn);
    const struct td_report *td = &w->result.quote.td;

    if (!id)
        return attest_refuse(err, REASON_TDX_MODULE_UNKNOWN,
                             "the TCB info has no TDX module of major version %u", svn[1]);
    if (memcmp(td->mrsignerseam, id->mrsigner, MEASUREMENT_LEN) != 0)
        return attest_refuse(err, REASON_TDX_MODULE_SIGNER,
                             "the TDX module's signer is not the signer in the TCB info");
    if (!masked_equal(td->seam_attributes, id->attributes, id->attributes_mask, 8) ||
        !bytes_are_zero(td->seam_attributes, 8))
        return attest_refuse(err, REASON_TDX_MODULE_ATTRIBUTES,
                             "the TDX module has attributes that the TCB info does not allow");
    return true;
}

static bool step_module(struct work *w, struct error *err)
{
    const struct td_report *td = &w->result.quote.td;

    return check_module(w, td->tee_tcb_svn, err) &&
           (!td->tee_tcb_svn2 || check_module(w, td->tee_tcb_svn2, err));
}

static bool step_tcb(struct work *w, struct error *err)
{
    const struct quote *q = &w->result.quote;

    tcb_evaluate(&w->collateral->tcb, &w->collateral->qe, &w->result.platform, q->td.tee_tcb_svn,
                 q->td.tee_tcb_svn2, q->qe.isv_svn, &w->result.tcb);
    if (w->result.tcb.status == TCB_NOT_SUPPORTED)
        return attest_refuse(err, REASON_TCB_NOT_SUPPORTED,
                             "the platform is below every TCB level that Intel supports");
    if (w->result.tcb.status == TCB_REVOKED)
        return attest_refuse(err, REASON_TCB_REVOKED, "the platform's TCB level is revoked");
    return true;
}

static bool step_debug(struct work *w, struct error *err)
{
    if (w->result.quote.td.td_attributes & TD_ATTRIBUTE_DEBUG)
        return attest_refuse(err, REASON_TD_DEBUG,
                             "the TD runs in debug mode: its host can read its memory");
    return true;
}

/* No step interprets the quote before its signature is verified. */
static const struct {
    const char *name;
    bool (*run)(struct work *w, struct error *err);
} steps[] = {
    { "collateral is current", step_collateral },
    { "PCK certificate chain", step_pck_chain },
    { "quoting enclave's report", step_qe_report },
    { "signature of the quote", step_signature },
    { "platform matches TCB info", step_platform },
    { "quoting enclave's identity", step_qe_identity },
    { "TDX module's identity", step_module },
    { VERIFY_STEP_TCB, step_tcb },
    { "no debug mode", step_debug },
};

bool quote_verify(const struct verify_request *request, struct verified_quote *out,
                  struct error *err)
{
    struct work w = { .request = request,
                      .collateral = request->collateral,
                      .result = { .quote = *request->quote } };
    const struct verify_trace *trace = request->trace;
    bool ok = true;

    for (size_t i = 0; i < ARRAY_LEN(steps) && ok; i++) {
        ok = steps[i].run(&w, err);
        if (trace)
            trace->step(trace->cookie, steps[i].name, ok, ok ? NULL : err->text, &w.result);
    }
    EVP_PKEY_free(w.leaf_key);
    if (ok)
        *out = w.result;
    return ok;
}

enum attest_reason tcb_status_reason(enum tcb_status status)
{
    static const enum attest_reason reasons[TCB_STATUS_COUNT] = {
        [TCB_SW_HARDENING_NEEDED] = REASON_TCB_SW_HARDENING_NEEDED,
        [TCB_CONFIGURATION_NEEDED] = REASON_TCB_CONFIGURATION_NEEDED,
        [TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED] = REASON_TCB_CONFIGURATION_NEEDED,
        [TCB_OUT_OF_DATE] = REASON_TCB_OUT_OF_DATE,
        [TCB_OUT_OF_DATE_CONFIGURATION_NEEDED] = REASON_TCB_OUT_OF_DATE,
        [TCB_REVOKED] = REASON_TCB_REVOKED,
        [TCB_RELAUNCH_ADVISED] = REASON_TCB_RELAUNCH_ADVISED,
        [TCB_RELAUNCH_ADVISED_CONFIGURATION_NEEDED] = REASON_TCB_RELAUNCH_ADVISED,
        [TCB_NOT_SUPPORTED] = REASON_TCB_NOT_SUPPORTED,
    };

    return reasons[status];
}
