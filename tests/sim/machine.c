/* SPDX-License-Identifier: Apache-2.0 */
/* One machine: its PCK certificate with Intel's SGX extension. */
#include "tests/sim/forge.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

const struct sim_platform sim_platform_default = {
    .fmspc = { 0xa0, 0xc0, 0x6f, 0x00, 0x00, 0x00 },
    .tcb_svn = { 3, 3, 2, 2, 4, 1, 0, 5 },
    .pce_svn = 13,
    .sgx_type = 1,
    .ca = PCK_CA_PLATFORM,
    .platform_id = { 0x51, 0x6d, 0xb0, 0xc5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 },
};

enum { TAG_BOOLEAN = 1, TAG_INTEGER = 2, TAG_OCTETS = 4, TAG_OID = 6, TAG_ENUMERATED = 10 };
enum { TAG_SEQUENCE = 0x30 };

struct der {
    uint8_t bytes[SIM_SGX_MAX];
    size_t len;
};

static void put(struct der *d, const void *bytes, size_t len)
{
    SIM_MUST(len <= sizeof(d->bytes) - d->len);
    if (len > 0)
        memcpy(d->bytes + d->len, bytes, len);
    d->len += len;
}

static void put_value(struct der *d, uint8_t tag, const void *bytes, size_t len)
{
    const uint8_t short_head[] = { tag, (uint8_t)len };
    const uint8_t middle_head[] = { tag, 0x81, (uint8_t)len };
    const uint8_t long_head[] = { tag, 0x82, (uint8_t)(len >> 8), (uint8_t)len };

    if (len < 0x80)
        put(d, short_head, sizeof(short_head));
    else if (len < 0x100)
        put(d, middle_head, sizeof(middle_head));
    else
        put(d, long_head, sizeof(long_head));
    put(d, bytes, len);
}

static void put_number(struct der *d, uint8_t tag, uint32_t n)
{
    const uint8_t bytes[] = { 0, (uint8_t)(n >> 8), (uint8_t)n };
    size_t skip = 0;

    while (skip < 2 && bytes[skip] == 0 && bytes[skip + 1] < 0x80)
        skip++;
    put_value(d, tag, bytes + skip, sizeof(bytes) - skip);
}

/* SEQUENCE { OID of the member, value }, changed by edit when edit names this member. */
static void put_member(struct der *list, uint8_t id, uint8_t sub, const struct der *value,
                       const struct sim_sgx_edit *edit)
{
    const uint8_t oid[] = { 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, id, sub };
    bool is_meant = edit && edit->at[0] == id && edit->at[1] == sub;
    struct der pair = { .len = 0 };

    put_value(&pair, TAG_OID, oid, sub == 0 ? sizeof(oid) - 1 : sizeof(oid));
    if (is_meant && edit->value)
        put(&pair, edit->value, edit->value_len);
    else
        put(&pair, value->bytes, value->len);
    for (int i = is_meant && edit->drop ? 2 : 0; i < (is_meant && edit->twice ? 2 : 1); i++)
        put_value(list, TAG_SEQUENCE, pair.bytes, pair.len);
}

static void put_octets(struct der *list, uint8_t id, const uint8_t *bytes, size_t len,
                       const struct sim_sgx_edit *edit)
{
    struct der value = { .len = 0 };

    put_value(&value, TAG_OCTETS, bytes, len);
    put_member(list, id, 0, &value, edit);
}

static void put_tcb(struct der *list, const struct sim_platform *p, const struct sim_sgx_edit *edit)
{
    struct der members = { .len = 0 }, all = { .len = 0 };

    for (uint8_t i = 1; i <= TCB_SVN_LEN + 2; i++) {
        struct der value = { .len = 0 };

        if (i <= TCB_SVN_LEN)
            put_number(&value, TAG_INTEGER, p->tcb_svn[i - 1]);
        else if (i == TCB_SVN_LEN + 1)
            put_number(&value, TAG_INTEGER, p->pce_svn);
        else
            put_value(&value, TAG_OCTETS, p->tcb_svn, TCB_SVN_LEN);
        put_member(&members, 2, i, &value, edit);
    }
    put_value(&all, TAG_SEQUENCE, members.bytes, members.len);
    put_member(list, 2, 0, &all, edit);
}

static void put_configuration(struct der *list, const struct sim_sgx_edit *edit)
{
    static const uint8_t yes[] = { 0xff };
    struct der members = { .len = 0 }, all = { .len = 0 }, value = { .len = 0 };

    put_value(&value, TAG_BOOLEAN, yes, sizeof(yes));
    for (uint8_t i = 1; i <= 3; i++)
        put_member(&members, 7, i, &value, edit);
    put_value(&all, TAG_SEQUENCE, members.bytes, members.len);
    put_member(list, 7, 0, &all, edit);
}

size_t sim_sgx_extension(const struct sim_platform *p, const struct sim_sgx_edit *edit,
                         uint8_t out[static SIM_SGX_MAX])
{
    struct der list = { .len = 0 }, all = { .len = 0 }, type = { .len = 0 };
    uint8_t ppid[SHA256_DIGEST_LENGTH];

    SIM_MUST(SHA256(p->platform_id, sizeof(p->platform_id), ppid));
    put_number(&type, TAG_ENUMERATED, p->sgx_type);
    put_octets(&list, 1, ppid, 16, edit);
    put_tcb(&list, p, edit);
    put_octets(&list, 3, p->pceid, sizeof(p->pceid), edit);
    put_octets(&list, 4, p->fmspc, sizeof(p->fmspc), edit);
    put_member(&list, 5, 0, &type, edit);
    if (p->ca == PCK_CA_PLATFORM) { /* certificates of the processor CA have neither */
        put_octets(&list, 6, p->platform_id, sizeof(p->platform_id), edit);
        put_configuration(&list, edit);
    }
    if (edit && edit->tail)
        put(&list, edit->tail, edit->tail_len);
    put_value(&all, TAG_SEQUENCE, list.bytes, list.len);
    memcpy(out, all.bytes, all.len);
    return all.len;
}

struct sim_machine *sim_machine_new(const struct sim_pki *pki, const struct sim_platform *platform)
{
    struct sim_machine *machine = calloc(1, sizeof(*machine));
    const struct sim_identity *ca = &pki->pck_ca[platform->ca];
    struct sim_cert form = sim_cert_form(SIM_PCK_LEAF, platform->ca);
    uint8_t sgx[SIM_SGX_MAX];

    SIM_MUST(machine);
    machine->platform = *platform;
    form.sgx = (struct bytes_view){ sgx, sim_sgx_extension(platform, NULL, sgx) };
    form.n_sgx = 1;
    machine->pck.key = sim_key_new();
    machine->pck.cert = sim_cert_make(&form, machine->pck.key, ca);
    machine->attestation_key = sim_key_new();
    X509 *const chain[] = { machine->pck.cert, ca->cert, pki->root.cert };
    machine->pck_pem = sim_pem(chain, ARRAY_LEN(chain));
    return machine;
}

void sim_machine_free(struct sim_machine *machine)
{
    if (!machine)
        return;
    X509_free(machine->pck.cert);
    EVP_PKEY_free(machine->pck.key);
    EVP_PKEY_free(machine->attestation_key);
    free(machine->pck_pem);
    free(machine);
}

static void serial_of(const X509 *cert, uint8_t out[static 20])
{
    BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);

    SIM_MUST(n && BN_bn2binpad(n, out, 20) == 20);
    BN_free(n);
}

void sim_machine_serial(const struct sim_machine *machine, uint8_t out[static 20])
{
    serial_of(machine->pck.cert, out);
}

void sim_pki_serial(const struct sim_pki *pki, enum cert_role role, uint8_t out[static 20])
{
    const X509 *const certs[] = {
        [CERT_ROOT] = pki->root.cert,
        [CERT_PCK_PLATFORM_CA] = pki->pck_ca[PCK_CA_PLATFORM].cert,
        [CERT_PCK_PROCESSOR_CA] = pki->pck_ca[PCK_CA_PROCESSOR].cert,
        [CERT_TCB_SIGNER] = pki->tcb_signer.cert,
    };

    SIM_MUST((size_t)role < ARRAY_LEN(certs) && certs[role]);
    serial_of(certs[role], out);
}
