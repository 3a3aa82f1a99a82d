/* SPDX-License-Identifier: Apache-2.0 */
#include "crypt/recovery_token.h"

#include "base/reader.h"

#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>
#include <string.h>

#define PASSPHRASE_LEN VOLUME_SECRET_LEN
#define SERIAL_DIGITS  "0123456789abcdef"

/* --- OpenSSL's objects --- */

static void cms_free(CMS_ContentInfo **cms)
{
    CMS_ContentInfo_free(*cms);
    *cms = NULL;
}
#define auto_cms CLEANUP(cms_free)

static void bios_free(BIO **bio)
{
    BIO_free_all(*bio);
    *bio = NULL;
}
#define auto_bios CLEANUP(bios_free)

static void certificate_free(X509 **certificate)
{
    X509_free(*certificate);
    *certificate = NULL;
}
#define auto_certificate CLEANUP(certificate_free)

static void der_free(uint8_t **der)
{
    OPENSSL_free(*der);
    *der = NULL;
}

/* --- making --- */

/* RSA-OAEP or ECDH, both with SHA-256. PKCS #1 1.5 and SHA-1, which OpenSSL takes by itself, are old. */
static bool set_algorithms(CMS_RecipientInfo *recipient)
{
    EVP_PKEY_CTX *context = CMS_RecipientInfo_get0_pkey_ctx(recipient);

    if (!context)
        return false;
    if (CMS_RecipientInfo_type(recipient) == CMS_RECIPINFO_TRANS)
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
               EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()) == 1 &&
               EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) == 1;
    return CMS_RecipientInfo_type(recipient) == CMS_RECIPINFO_AGREE &&
           EVP_PKEY_CTX_set_ecdh_kdf_md(context, EVP_sha256()) == 1;
}

/* The passphrase goes straight into the cipher: CMS_encrypt() would leave a copy on the stack. */
static bool encrypt(CMS_ContentInfo *cms, const struct secret *passphrase)
{
    auto_bios BIO *chain = CMS_dataInit(cms, NULL);

    return chain &&
           BIO_write(chain, passphrase->bytes, (int)passphrase->len) == (int)passphrase->len &&
           BIO_flush(chain) == 1 && CMS_dataFinal(cms, chain) == 1;
}

static CMS_ContentInfo *make_cms(const struct recovery_certificate *c,
                                 const struct secret *passphrase)
{
    const uint8_t *at = c->der;
    auto_certificate X509 *certificate = d2i_X509(NULL, &at, (long)c->len);
    auto_cms CMS_ContentInfo *cms =
        CMS_encrypt(NULL, NULL, EVP_aes_256_gcm(), CMS_BINARY | CMS_PARTIAL);
    CMS_RecipientInfo *recipient =
        certificate && cms ? CMS_add1_recipient_cert(cms, certificate, CMS_KEY_PARAM) : NULL;

    return recipient && set_algorithms(recipient) && encrypt(cms, passphrase) ? TAKE_PTR(cms)
                                                                              : NULL;
}

bool recovery_token_make(const struct recovery_certificate *certificate,
                         const struct secret *passphrase, struct recovery_token *out,
                         struct error *err)
{
    auto_cms CMS_ContentInfo *cms = make_cms(certificate, passphrase);
    CLEANUP(der_free) uint8_t *der = NULL;
    int len = cms ? i2d_CMS_ContentInfo(cms, &der) : -1;

    if (len <= 0)
        return openssl_error(err, "encrypt to the recovery certificate");
    if (len > RECOVERY_CMS_MAX)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the recovery token has %d bytes, more than %d: name a recovery "
                         "certificate with a shorter issuer",
                         len, RECOVERY_CMS_MAX);
    *out = (struct recovery_token){ .cms_len = (size_t)len };
    memcpy(out->certificate_sha256, certificate->sha256, SHA256_LEN);
    memcpy(out->serial, certificate->serial, sizeof(out->serial));
    memcpy(out->cms, der, (size_t)len);
    return true;
}

/* --- in the header --- */

json_t *recovery_token_json(const struct recovery_token *token)
{
    char certificate[2 * SHA256_LEN + 1], cms[BASE64_LEN(RECOVERY_CMS_MAX) + 1];

    hex_encode(token->certificate_sha256, SHA256_LEN, certificate);
    base64_encode(token->cms, token->cms_len, cms);
    return json_pack("{s:s, s:[s], s:s, s:s, s:s}", "type", RECOVERY_TOKEN_TYPE, "keyslots", "0",
                     "certificate", certificate, "serial", token->serial, "cms", cms);
}

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    return text ? text : "";
}

static bool take_cms(const char *text, struct recovery_token *out)
{
    size_t len = strlen(text);

    /* three bytes more than fit, so that base64_decode() needs no look at the padding */
    uint8_t cms[RECOVERY_CMS_MAX + 3];

    if (len == 0 || len > BASE64_LEN(RECOVERY_CMS_MAX) ||
        !base64_decode(text, len, cms, &out->cms_len) || out->cms_len > RECOVERY_CMS_MAX)
        return false;
    memcpy(out->cms, cms, out->cms_len);
    return true;
}

bool recovery_token_parse(const json_t *json, struct recovery_token *out)
{
    struct recovery_token token = { .cms_len = 0 };
    const char *serial = text_of(json, "serial");
    size_t digits = strlen(serial);

    if (digits == 0 || digits >= sizeof(token.serial) || digits % 2 != 0 ||
        strspn(serial, SERIAL_DIGITS) != digits ||
        !hex_decode(text_of(json, "certificate"), token.certificate_sha256, SHA256_LEN) ||
        bytes_are_zero(token.certificate_sha256, SHA256_LEN) ||
        !take_cms(text_of(json, "cms"), &token))
        return false;
    memcpy(token.serial, serial, digits + 1);
    /* All else must be as it is written, too: names, order of hex digits' case, keyslot. */
    json_t *again = recovery_token_json(&token);
    bool is_same = again && json_equal(json, again);
    json_decref(again);
    if (is_same)
        *out = token;
    return is_same;
}

/* --- opening --- */

struct recovery_key {
    EVP_PKEY *key;
};

struct asking {
    recovery_ask *ask;
    void *cookie;
};

static int ask_passphrase(char *buffer, int size, int writes UNUSED, void *cookie)
{
    const struct asking *asking = cookie;

    return asking->ask ? asking->ask(buffer, size, asking->cookie) : -1;
}

bool recovery_key_read(const struct secret *pem, recovery_ask *ask, void *cookie,
                       struct recovery_key **out, struct error *err)
{
    struct asking asking = { ask, cookie };
    auto_bios BIO *bio = BIO_new_mem_buf(pem->bytes, (int)pem->len);
    auto_recovery_key struct recovery_key *key = calloc(1, sizeof(*key));

    if (!bio || !key)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the recovery key");
    key->key = PEM_read_bio_PrivateKey(bio, NULL, ask_passphrase, &asking);
    ERR_clear_error();
    if (!key->key)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the recovery key is not a private key in PEM, or its passphrase is "
                         "another one");
    *out = TAKE_PTR(key);
    return true;
}

void recovery_key_free(struct recovery_key **key)
{
    if (*key)
        EVP_PKEY_free((*key)->key);
    free(*key);
    *key = NULL;
}

static bool mismatch(struct error *err, const char *what)
{
    ERR_clear_error();
    return error_set_reason(err, ERROR_FAILED_PRECONDITION, "KeyMismatch",
                            "the recovery key does not open the header's token: %s", what);
}

/* Decrypts into *out, which has a byte more than a passphrase, so that a longer text is seen. */
static bool decrypt(CMS_ContentInfo *cms, const struct recovery_key *key, struct secret *out,
                    struct error *err)
{
    auto_bios BIO *chain = NULL;
    size_t len = 0;
    int n = 0;

    if (CMS_decrypt_set1_pkey(cms, key->key, NULL) != 1)
        return mismatch(err, "it is for another key");
    chain = CMS_dataInit(cms, NULL);
    if (!chain)
        return mismatch(err, "it is for another key, or it was changed");
    while (len < out->len && (n = BIO_read(chain, out->bytes + len, (int)(out->len - len))) > 0)
        len += (size_t)n;
    if (n < 0 || BIO_get_cipher_status(chain) != 1 || len != PASSPHRASE_LEN)
        return mismatch(err, "it is for another key, or it was changed");
    out->len = len; /* all of it is wiped: mapped is the size of the memory */
    return true;
}

bool recovery_token_open(const struct recovery_token *token, const struct recovery_key *key,
                         struct secret *passphrase, struct error *err)
{
    const uint8_t *at = token->cms;
    auto_cms CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)token->cms_len);
    auto_secret struct secret out = SECRET_INIT;

    if (!cms || at != token->cms + token->cms_len ||
        OBJ_obj2nid(CMS_get0_type(cms)) != NID_id_smime_ct_authEnvelopedData ||
        sk_CMS_RecipientInfo_num(CMS_get0_RecipientInfos(cms)) != 1)
        return mismatch(err, "it has not the form that tdvol writes");
    if (!secret_alloc(&out, PASSPHRASE_LEN + 1, err) || !decrypt(cms, key, &out, err))
        return false;
    *passphrase = secret_take(&out);
    return true;
}
