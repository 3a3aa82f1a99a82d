/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/quote.h"

#include "attest/reason.h"
#include "base/digest.h"
#include "base/reader.h"

#include <string.h>

enum {
    HEADER_LEN = 48,
    BODY10_LEN = 584,
    BODY15_LEN = 648,
    QUOTE_LEN_MIN = 1226, /* version 4 with only its fixed parts */
    BODY_TYPE_TD10 = 2,
    BODY_TYPE_TD15 = 3,
    BODY_TYPE_TD15_EX = 4, /* has fields about migration that no policy here can judge yet */
    KEY_TYPE_ECDSA_P256 = 2,
    CERT_DATA_QE_REPORT = 6,
    CERT_DATA_PCK_CHAIN = 5,
    QE_AUTH_LEN_MAX = 1024,
};
#define TEE_TYPE_TDX 0x81u

static const uint8_t intel_vendor_id[16] = { 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                             0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07 };

static bool parse_header(const uint8_t *h, struct quote *out, struct error *err)
{
    out->version = u16le(h);
    if (out->version != 4 && out->version != 5)
        return attest_refuse(err, REASON_QUOTE_VERSION, "quote version is %u, must be 4 or 5",
                             out->version);
    if (u16le(h + 2) != KEY_TYPE_ECDSA_P256)
        return attest_refuse(err, REASON_QUOTE_KEY_TYPE,
                             "attestation key type %u is not ECDSA P-256 (2)", u16le(h + 2));
    if (u32le(h + 4) != TEE_TYPE_TDX)
        return attest_refuse(err, REASON_QUOTE_TEE_TYPE, "TEE type 0x%x is not TDX (0x81)",
                             u32le(h + 4));
    if (memcmp(h + 12, intel_vendor_id, sizeof(intel_vendor_id)) != 0)
        return attest_refuse(err, REASON_QUOTE_VENDOR, "the quoting enclave's vendor is not Intel");
    return true;
}

static bool body_len(const uint8_t *descriptor, struct quote *out, size_t *len, struct error *err)
{
    uint32_t size = u32le(descriptor + 2);

    out->body_type = u16le(descriptor);
    if (out->body_type == BODY_TYPE_TD15_EX)
        return attest_refuse(err, REASON_QUOTE_BODY_EXTENDED,
                             "a TD report 1.5 Ex (body type 4) is not supported: configure the "
                             "quoting service to make type 3");
    if (out->body_type != BODY_TYPE_TD10 && out->body_type != BODY_TYPE_TD15)
        return attest_refuse(err, REASON_QUOTE_BODY_TYPE,
                             "body type %u is not a TD report 1.0 (2) or 1.5 (3)", out->body_type);
    *len = out->body_type == BODY_TYPE_TD10 ? BODY10_LEN : BODY15_LEN;
    if (size != *len)
        return attest_refuse(err, REASON_QUOTE_BODY_SIZE,
                             "body size is %u, but body type %u has %zu bytes", size,
                             out->body_type, *len);
    return true;
}

static void read_td_report(const uint8_t *b, bool is_15, struct td_report *td)
{
    *td = (struct td_report){
        .tee_tcb_svn = b,
        .mrseam = b + 16,
        .mrsignerseam = b + 64,
        .seam_attributes = b + 112,
        .td_attributes = u64le(b + 120),
        .xfam = u64le(b + 128),
        .mrtd = b + 136,
        .mrconfigid = b + 184,
        .mrowner = b + 232,
        .mrownerconfig = b + 280,
        .rtmr = { b + 328, b + 376, b + 424, b + 472 },
        .report_data = b + 520,
        .tee_tcb_svn2 = is_15 ? b + 584 : NULL,
        .mrservicetd = is_15 ? b + 600 : NULL,
    };
}

static void read_qe_report(const uint8_t *b, struct qe_report *qe)
{
    *qe = (struct qe_report){
        .bytes = b,
        .miscselect = b + 16,
        .attributes = b + 48,
        .mrsigner = b + 128,
        .isv_prod_id = u16le(b + 256),
        .isv_svn = u16le(b + 258),
        .report_data = b + 320,
    };
}

static bool lengths(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_QUOTE_LENGTHS, "the lengths inside the quote disagree: %s",
                         what);
}

/* Parses certification data of type 5: the PCK chain. It must end where its parent ends. */
static bool parse_pck_chain(struct byte_reader *r, struct quote *out, struct error *err)
{
    const uint8_t *head = NULL, *data = NULL;

    if (!byte_reader_take(r, 6, &head))
        return lengths(err, "inner certification data");
    if (u16le(head) != CERT_DATA_PCK_CHAIN)
        return attest_refuse(err, REASON_QUOTE_NO_PCK_CHAIN,
                             "certification data type %u is not a PCK chain (5)", u16le(head));
    if (u32le(head + 2) != r->left || !byte_reader_take(r, r->left, &data))
        return lengths(err, "PCK chain");
    out->pck_chain_pem = (const char *)data;
    out->pck_chain_len = u32le(head + 2);
    return true;
}

/* Parses certification data of type 6: QE report, its signature, authentication data, PCK chain. */
static bool parse_qe(struct byte_reader *r, struct quote *out, struct error *err)
{
    const uint8_t *report = NULL, *auth_len = NULL;

    if (!byte_reader_take(r, QE_REPORT_LEN, &report) ||
        !byte_reader_take(r, P256_SIGNATURE_LEN, &out->qe_signature) ||
        !byte_reader_take(r, 2, &auth_len))
        return lengths(err, "QE report");
    read_qe_report(report, &out->qe);
    out->qe_auth_len = u16le(auth_len);
    if (out->qe_auth_len > QE_AUTH_LEN_MAX ||
        !byte_reader_take(r, out->qe_auth_len, &out->qe_auth_data))
        return lengths(err, "QE authentication data");
    return parse_pck_chain(r, out, err);
}

static bool parse_auth(struct byte_reader *r, struct quote *out, struct error *err)
{
    const uint8_t *head = NULL;

    if (!byte_reader_take(r, P256_SIGNATURE_LEN, &out->signature) ||
        !byte_reader_take(r, P256_POINT_LEN, &out->attestation_key) ||
        !byte_reader_take(r, 6, &head))
        return lengths(err, "signature data");
    if (u16le(head) != CERT_DATA_QE_REPORT)
        return attest_refuse(err, REASON_QUOTE_CERT_DATA_TYPE,
                             "outer certification data type %u is not a QE report (6)",
                             u16le(head));
    if (u32le(head + 2) != r->left)
        return lengths(err, "outer certification data");
    return parse_qe(r, out, err);
}

/* Some platforms pad quotes with zeros. Other bytes are refused, because nothing signs them. */
static bool check_trailing(const struct byte_reader *r, struct error *err)
{
    return bytes_are_zero(r->at, r->left) ||
           attest_refuse(err, REASON_QUOTE_TRAILING_BYTES,
                         "%zu bytes follow the quote and are not all zero", r->left);
}

bool quote_parse(const uint8_t *bytes, size_t len, struct quote *out, struct error *err)
{
    struct byte_reader r = { bytes, len };
    struct quote quote = { .body_type = BODY_TYPE_TD10 };
    const uint8_t *part = NULL;
    size_t td_len = BODY10_LEN;

    if (len < QUOTE_LEN_MIN)
        return attest_refuse(err, REASON_QUOTE_TOO_SHORT, "a quote has at least %d bytes, not %zu",
                             QUOTE_LEN_MIN, len);
    if (len > QUOTE_LEN_MAX)
        return attest_refuse(err, REASON_QUOTE_TOO_LONG, "a quote has at most %u bytes, not %zu",
                             QUOTE_LEN_MAX, len);
    if (!byte_reader_take(&r, HEADER_LEN, &part) || !parse_header(part, &quote, err))
        return false;
    if (quote.version == 5 &&
        (!byte_reader_take(&r, 6, &part) || !body_len(part, &quote, &td_len, err)))
        return false;
    if (!byte_reader_take(&r, td_len, &part))
        return lengths(err, "TD report");
    read_td_report(part, quote.body_type == BODY_TYPE_TD15, &quote.td);
    quote.signed_bytes = bytes;
    quote.signed_len = len - r.left;

    if (!byte_reader_take(&r, 4, &part))
        return lengths(err, "signature length");
    struct byte_reader auth = { r.at, u32le(part) };
    if (!byte_reader_take(&r, auth.left, &part))
        return lengths(err, "signature data is longer than the quote");
    if (!parse_auth(&auth, &quote, err) || !check_trailing(&r, err))
        return false;
    *out = quote;
    return true;
}

/* The PCK chain is a quote's last part. */
bool quote_sha256(const struct quote *quote, uint8_t out[static 32], struct error *err)
{
    const uint8_t *end = (const uint8_t *)quote->pck_chain_pem + quote->pck_chain_len;

    return sha256(quote->signed_bytes, (size_t)(end - quote->signed_bytes), out, err);
}
