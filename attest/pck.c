/* SPDX-License-Identifier: Apache-2.0 */
/* Intel's PCK certificate extension: SEQUENCE OF SEQUENCE { OID, value } below one OID. */
#include "attest/certificate.h"
#include "attest/reason.h"

#include <openssl/objects.h>
#include <string.h>

#define SGX_EXTENSION_OID "1.2.840.113741.1.13.1"

enum {
    TAG_BOOLEAN = 0x01,
    TAG_INTEGER = 0x02,
    TAG_OCTETS = 0x04,
    TAG_OID = 0x06,
    TAG_ENUMERATED = 0x0a,
    TAG_SEQUENCE = 0x30,
};

/* DER of 1.2.840.113741.1.13.1; the OIDs of members have one or two more bytes. */
static const uint8_t base_oid[] = { 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01 };

struct der {
    const uint8_t *at;
    size_t left;
};

static bool bad(struct error *err, const char *what)
{
    return attest_refuse(err, REASON_PCK_EXTENSION, "the PCK certificate's SGX extension: %s",
                         what);
}

/* Takes one value with this tag. Its length is definite, minimally encoded, and below 64 KiB. */
static bool der_take(struct der *in, uint8_t tag, struct der *value)
{
    size_t len = 0, head = 2;

    if (in->left < 2 || in->at[0] != tag)
        return false;
    len = in->at[1];
    if (len == 0x81 && in->left >= 3 && in->at[2] >= 0x80) {
        len = in->at[2];
        head = 3;
    } else if (len == 0x82 && in->left >= 4 && in->at[2] != 0) {
        len = (size_t)in->at[2] << 8 | in->at[3];
        head = 4;
    } else if (len >= 0x80) {
        return false;
    }
    if (len > in->left - head)
        return false;
    *value = (struct der){ in->at + head, len };
    in->at += head + len;
    in->left -= head + len;
    return true;
}

/* Takes SEQUENCE { OID below base_oid, any value }. member gets the OID's last bytes, value what
 * follows the OID. */
static bool take_member(struct der *in, size_t depth, uint8_t member[2], struct der *value)
{
    struct der pair, oid;

    if (!der_take(in, TAG_SEQUENCE, &pair) || !der_take(&pair, TAG_OID, &oid) ||
        oid.left != sizeof(base_oid) + depth || memcmp(oid.at, base_oid, sizeof(base_oid)) != 0)
        return false;
    memcpy(member, oid.at + sizeof(base_oid), depth);
    *value = pair;
    return true;
}

static bool whole(struct der *in, uint8_t tag, struct der *value)
{
    return der_take(in, tag, value) && in->left == 0;
}

/* Reads a non-negative INTEGER or ENUMERATED up to max, minimally encoded. */
static bool read_number(struct der *in, uint8_t tag, uint32_t max, uint32_t *out)
{
    struct der v;
    uint32_t n = 0;

    if (!whole(in, tag, &v) || v.left < 1 || v.left > 3 || v.at[0] >= 0x80 ||
        (v.left > 1 && v.at[0] == 0 && v.at[1] < 0x80))
        return false;
    for (size_t i = 0; i < v.left; i++)
        n = n << 8 | v.at[i];
    *out = n;
    return n <= max;
}

static bool read_octets(struct der *in, uint8_t *out, size_t len)
{
    struct der v;

    if (!whole(in, TAG_OCTETS, &v) || v.left != len)
        return false;
    memcpy(out, v.at, len);
    return true;
}

static bool parse_tcb(struct der value, struct pck_platform *out, struct error *err)
{
    struct der list;
    uint32_t seen = 0, n = 0;
    uint8_t cpu_svn[TCB_SVN_LEN];

    if (!whole(&value, TAG_SEQUENCE, &list))
        return bad(err, "TCB is not a sequence");
    while (list.left > 0) {
        uint8_t id[2];
        struct der v;

        if (!take_member(&list, 2, id, &v) || id[0] != 2 || id[1] < 1 || id[1] > 18 ||
            (seen & 1u << id[1]))
            return bad(err, "a TCB member is unknown or repeated");
        seen |= 1u << id[1];
        if (id[1] == 18 ? !read_octets(&v, cpu_svn, sizeof(cpu_svn))
                        : !read_number(&v, TAG_INTEGER, id[1] == 17 ? 65535 : 255, &n))
            return bad(err, "a TCB number is out of range");
        if (id[1] <= 16)
            out->tcb_svn[id[1] - 1] = (uint8_t)n;
        else if (id[1] == 17)
            out->pce_svn = (uint16_t)n;
    }
    return seen == 0x7fffe || bad(err, "TCB members are missing");
}

static bool parse_configuration(struct der value, struct error *err)
{
    struct der list;
    uint32_t seen = 0;

    if (!whole(&value, TAG_SEQUENCE, &list))
        return bad(err, "configuration is not a sequence");
    while (list.left > 0) {
        uint8_t id[2];
        struct der v, flag;

        if (!take_member(&list, 2, id, &v) || id[0] != 7 || id[1] < 1 || id[1] > 3 ||
            (seen & 1u << id[1]) || !whole(&v, TAG_BOOLEAN, &flag) || flag.left != 1)
            return bad(err, "a configuration member is unknown, repeated or not a BOOLEAN");
        seen |= 1u << id[1];
    }
    return true;
}

static bool parse_member(uint8_t id, struct der v, struct pck_platform *out, struct error *err)
{
    uint8_t ppid[16];
    uint32_t n = 0;
    bool ok = false;

    switch (id) {
    case 1:
        ok = read_octets(&v, ppid, sizeof(ppid));
        break;
    case 2:
        return parse_tcb(v, out, err);
    case 3:
        ok = read_octets(&v, out->pceid, sizeof(out->pceid));
        break;
    case 4:
        ok = read_octets(&v, out->fmspc, sizeof(out->fmspc));
        break;
    case 5:
        ok = read_number(&v, TAG_ENUMERATED, 2, &n);
        out->sgx_type = (uint8_t)n;
        break;
    case 6:
        ok = read_octets(&v, out->platform_id, sizeof(out->platform_id));
        out->has_platform_id = ok;
        break;
    case 7:
        return parse_configuration(v, err);
    default:
        break;
    }
    return ok || bad(err, "a member has the wrong type or length");
}

bool pck_extension_parse(const uint8_t *der, size_t len, struct pck_platform *out,
                         struct error *err)
{
    struct der in = { der, len }, list;
    struct pck_platform platform = { .pce_svn = 0 };
    uint32_t seen = 0;
    const uint32_t required = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5;

    if (!whole(&in, TAG_SEQUENCE, &list))
        return bad(err, "it is not one sequence");
    while (list.left > 0) {
        uint8_t id[2];
        struct der v;

        if (!take_member(&list, 1, id, &v) || id[0] < 1 || id[0] > 7 || (seen & 1u << id[0]))
            return bad(err, "a member is unknown or repeated");
        seen |= 1u << id[0];
        if (!parse_member(id[0], v, &platform, err))
            return false;
    }
    if ((seen & required) != required)
        return bad(err, "PPID, TCB, PCEID, FMSPC or SGX type is missing");
    *out = platform;
    return true;
}

bool cert_read_platform(const X509 *leaf, struct pck_platform *out, struct error *err)
{
    ASN1_OBJECT *oid = OBJ_txt2obj(SGX_EXTENSION_OID, 1);
    int at = oid ? X509_get_ext_by_OBJ(leaf, oid, -1) : -1;
    bool twice = at >= 0 && X509_get_ext_by_OBJ(leaf, oid, at) >= 0;

    ASN1_OBJECT_free(oid);
    if (at < 0 || twice)
        return bad(err, at < 0 ? "it is missing" : "it is there twice");
    const ASN1_OCTET_STRING *value = X509_EXTENSION_get_data(X509_get_ext(leaf, at));
    return pck_extension_parse(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value), out,
                               err);
}
