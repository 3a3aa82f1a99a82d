/* SPDX-License-Identifier: Apache-2.0 */
/* Certificate revocation lists. */
#include "attest/certificate.h"
#include "attest/reason.h"

#include <openssl/x509v3.h>

void crl_free_at(X509_CRL **crl)
{
    X509_CRL_free(*crl);
    *crl = NULL;
}

static bool entries_are_plain(X509_CRL *crl)
{
    const STACK_OF(X509_REVOKED) *entries = X509_CRL_get_REVOKED(crl);

    for (int i = 0; i < sk_X509_REVOKED_num(entries); i++)
        if (X509_REVOKED_get_ext_by_critical(sk_X509_REVOKED_value(entries, i), 1, -1) >= 0)
            return false;
    return true;
}

/* True for a complete list of one issuer, as Intel makes them. A delta list, or a list for only
 * some certificates or reasons, would hide the other revocations. */
static bool is_whole_list(X509_CRL *crl)
{
    size_t numbers = 0;

    for (int i = 0; i < X509_CRL_get_ext_count(crl); i++) {
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(X509_CRL_get_ext(crl, i)));

        if (nid != NID_crl_number && nid != NID_authority_key_identifier)
            return false;
        numbers += nid == NID_crl_number;
    }
    return numbers == 1 && entries_are_plain(crl);
}

bool crl_parse(const uint8_t *der, size_t len, X509_CRL **out, struct error *err)
{
    const unsigned char *at = der;
    auto_crl X509_CRL *crl = NULL;

    if (len > 0 && len <= INT32_MAX)
        crl = d2i_X509_CRL(NULL, &at, (long)len);
    if (!crl || at != der + len)
        return attest_refuse(err, REASON_CRL_MALFORMED,
                             "a certificate revocation list is not DER, or bytes follow it");
    if (!X509_CRL_get0_nextUpdate(crl))
        return attest_refuse(err, REASON_CRL_MALFORMED,
                             "a certificate revocation list has no next update");
    if (!is_whole_list(crl))
        return attest_refuse(
            err, REASON_CRL_MALFORMED,
            "a certificate revocation list has no number, or is not a complete list");
    *out = TAKE_PTR(crl);
    return true;
}

bool crl_number(const X509_CRL *crl, uint64_t *out, struct error *err)
{
    int critical = 0;
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(crl, NID_crl_number, &critical, NULL);
    uint64_t value = 0;
    bool ok = number && ASN1_INTEGER_get_uint64(&value, number) == 1 && value <= INT64_MAX;

    ASN1_INTEGER_free(number);
    if (!ok)
        return attest_refuse(err, REASON_CRL_MALFORMED,
                             "a certificate revocation list has no number below 2^63");
    *out = value;
    return true;
}

/* False when the list names another key than the issuer's, or cannot be read. */
static bool names_key_of(const X509_CRL *crl, X509 *issuer)
{
    int critical = 0;
    AUTHORITY_KEYID *id = X509_CRL_get_ext_d2i(crl, NID_authority_key_identifier, &critical, NULL);
    bool ok = critical == -1;

    /* X509_check_akid knows the issuer's identifier only after OpenSSL has read the extensions. */
    if (id)
        ok = (X509_get_extension_flags(issuer) & EXFLAG_INVALID) == 0 &&
             X509_check_akid(issuer, id) == X509_V_OK;

    AUTHORITY_KEYID_free(id);
    return ok;
}

bool crl_check_issued(const X509_CRL *crl, X509 *issuer, struct error *err)
{
    auto_pkey EVP_PKEY *key = NULL;

    if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0 ||
        !names_key_of(crl, issuer))
        return attest_refuse(err, REASON_CRL_ISSUER,
                             "the PCK revocation list and its issuer chain do not belong together");
    if (!p256_key_of(issuer, &key, err))
        return false;
    return X509_CRL_verify((X509_CRL *)(uintptr_t)crl, key) == 1 ||
           attest_refuse(err, REASON_CRL_UNTRUSTED,
                         "the PCK revocation list is not signed by its issuer");
}
