/* SPDX-License-Identifier: Apache-2.0 */
/* Quotes as Intel's quoting enclave makes them. */
#include "base/digest.h"
#include "tests/sim/forge.h"

#include <openssl/core_names.h>
#include <string.h>

enum { BODY_TD10 = 2, BODY_TD15 = 3, BODY_TD15_EX = 4, BODY_TD15_EX_REST = 885 - 648 };

#define MODULE_MAJOR 3
const struct sim_td sim_td_default = {
    .version = 4,
    .body_type = BODY_TD10,
    .tee_tcb_svn = { 5, MODULE_MAJOR, 2 },
    .tee_tcb_svn2 = { 5, MODULE_MAJOR, 2 },
    .mrseam = { 0x5e, 0xa3 },
    .td_attributes = TD_ATTRIBUTE_SEPT_VE_DISABLE,
    .xfam = 0x602e7,
    .mrtd = { 0x4d, 0x01 },
    .rtmr = { { 0x4d, 0x10 }, { 0x4d, 0x11 }, { 0x4d, 0x12 }, { 0 } },
};

const struct sim_quoting sim_quoting_default = {
    .isv_svn = 4,
    .isv_prod_id = 2,
    .mrsigner = { 0xdc, 0x9e, 0x2a, 0x7c, 0x6f, 0x94, 0x8f, 0x17, 0x47, 0x4e, 0x34,
                  0xa7, 0xfc, 0x43, 0xed, 0x03, 0x0f, 0x7c, 0x15, 0x63, 0xf1, 0xba,
                  0xbd, 0xdf, 0x63, 0x40, 0xc8, 0x2e, 0x0e, 0x54, 0xa8, 0xc5 },
    .attributes = { 0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7 },
    .auth_data = { 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                   16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31 },
    .auth_len = 32,
};

struct writer {
    uint8_t *bytes;
    size_t len;
};

static void put(struct writer *w, const void *bytes, size_t len)
{
    SIM_MUST(len <= QUOTE_LEN_MAX - w->len);
    memcpy(w->bytes + w->len, bytes, len);
    w->len += len;
}

static void put_number(struct writer *w, uint64_t n, size_t len)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(n >> (8 * i));
    put(w, bytes, len);
}

static void put_zeros(struct writer *w, size_t len)
{
    SIM_MUST(len <= QUOTE_LEN_MAX - w->len);
    for (size_t i = 0; i < len; i++)
        w->bytes[w->len++] = 0;
}

static void put_header(struct writer *w, const struct sim_td *td,
                       const struct sim_platform *platform)
{
    static const uint8_t vendor[16] = { 0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9,
                                        0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07 };

    put_number(w, td->version, 2);
    put_number(w, 2, 2); /* ECDSA P-256 */
    put_number(w, 0x81, 4);
    put_zeros(w, 4);
    put(w, vendor, sizeof(vendor));
    put(w, platform->platform_id, PLATFORM_ID_LEN);
    put_zeros(w, 4);
}

static void put_body(struct writer *w, const struct sim_td *td, uint16_t body_type)
{
    put(w, td->tee_tcb_svn, TCB_SVN_LEN);
    put(w, td->mrseam, MEASUREMENT_LEN);
    put(w, td->mrsignerseam, MEASUREMENT_LEN);
    put(w, td->seam_attributes, sizeof(td->seam_attributes));
    put_number(w, td->td_attributes, 8);
    put_number(w, td->xfam, 8);
    put(w, td->mrtd, MEASUREMENT_LEN);
    put(w, td->mrconfigid, MEASUREMENT_LEN);
    put(w, td->mrowner, MEASUREMENT_LEN);
    put(w, td->mrownerconfig, MEASUREMENT_LEN);
    put(w, td->rtmr, sizeof(td->rtmr));
    put(w, td->report_data, REPORT_DATA_LEN);
    if (body_type == BODY_TD10)
        return;
    put(w, td->tee_tcb_svn2, TCB_SVN_LEN);
    put(w, td->mrservicetd, MEASUREMENT_LEN);
    if (body_type == BODY_TD15_EX)
        put_zeros(w, BODY_TD15_EX_REST);
}

/* Writes x, then y. */
static void point_of(const EVP_PKEY *key, uint8_t out[static P256_POINT_LEN])
{
    uint8_t encoded[1 + P256_POINT_LEN];
    size_t len = 0;

    SIM_MUST(EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, encoded, sizeof(encoded),
                                             &len) == 1 &&
             len == sizeof(encoded));
    memcpy(out, encoded + 1, P256_POINT_LEN);
}

static void put_qe_report(struct writer *w, const struct sim_machine *machine,
                          const struct sim_quoting *q, const uint8_t *point)
{
    static const uint8_t mrenclave[32] = { 0x0e };
    uint8_t bound[P256_POINT_LEN + sizeof(q->auth_data)], digest[SHA256_LEN];
    struct error err = ERROR_INIT;

    memcpy(bound, point, P256_POINT_LEN);
    memcpy(bound + P256_POINT_LEN, q->auth_data, q->auth_len);
    SIM_MUST(sha256(bound, P256_POINT_LEN + q->auth_len, digest, &err));
    put(w, machine->platform.tcb_svn, TCB_SVN_LEN);
    put(w, q->miscselect, sizeof(q->miscselect));
    put_zeros(w, 28);
    put(w, q->attributes, sizeof(q->attributes));
    put(w, mrenclave, sizeof(mrenclave));
    put_zeros(w, 32);
    put(w, q->mrsigner, sizeof(q->mrsigner));
    put_zeros(w, 96);
    put_number(w, q->isv_prod_id, 2);
    put_number(w, q->isv_svn, 2);
    put_zeros(w, 60);
    put(w, digest, sizeof(digest));
    put_number(w, q->report_data_tail ? 1 : 0, 1);
    put_zeros(w, 31);
}

/* Certification data of type 6, which holds type 5. */
static void put_certification(struct writer *w, const struct sim_machine *machine,
                              const struct sim_quoting *q, const uint8_t *point)
{
    const char *pem = q->pck_pem ? q->pck_pem : machine->pck_pem;
    size_t pem_len = strlen(pem) + (q->chain_nul ? 1 : 0);
    size_t inner = QE_REPORT_LEN + P256_SIGNATURE_LEN + 2 + q->auth_len + 6 + pem_len;
    uint8_t signature[P256_SIGNATURE_LEN];

    put_number(w, 6, 2);
    put_number(w, inner, 4);
    put_qe_report(w, machine, q, point);
    sim_sign(q->pck_key ? q->pck_key : machine->pck.key, w->bytes + w->len - QE_REPORT_LEN,
             QE_REPORT_LEN, signature);
    put(w, signature, sizeof(signature));
    put_number(w, q->auth_len, 2);
    put(w, q->auth_data, q->auth_len);
    put_number(w, 5, 2);
    put_number(w, pem_len, 4);
    put(w, pem, pem_len);
}

size_t sim_quote(const struct sim_machine *machine, const struct sim_td *td,
                 const struct sim_quoting *quoting, uint8_t *out)
{
    const uint16_t body_type = td->version == 5 ? td->body_type : BODY_TD10;
    const size_t body_len = body_type == BODY_TD10 ? 584 : body_type == BODY_TD15 ? 648 : 885;
    struct writer w = { out, 0 };
    uint8_t signature[P256_SIGNATURE_LEN], point[P256_POINT_LEN];

    SIM_MUST(quoting->auth_len <= sizeof(quoting->auth_data));
    put_header(&w, td, &machine->platform);
    if (td->version == 5) {
        put_number(&w, body_type, 2);
        put_number(&w, body_len, 4);
    }
    put_body(&w, td, body_type);
    sim_sign(machine->attestation_key, out, w.len, signature);
    point_of(machine->attestation_key, point);
    size_t length_at = w.len;
    put_number(&w, 0, 4);
    put(&w, signature, sizeof(signature));
    put(&w, point, sizeof(point));
    put_certification(&w, machine, quoting, point);
    struct writer length = { out, length_at };
    put_number(&length, w.len - length_at - 4, 4);
    put_zeros(&w, quoting->trailing_zeros);
    return w.len;
}
