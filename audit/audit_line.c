/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/audit_line.h"

#include <string.h>

#define HEX_LEN    (AUDIT_HASH_TEXT - 1)
#define MAC_BEGIN  ",\"mac\":\""
#define MAC_END    "\"}"
#define SUFFIX_LEN (sizeof(MAC_BEGIN) - 1 + HEX_LEN + sizeof(MAC_END) - 1)
#define DIGITS_MAX 18 /* of a number: less than 2^63 */

/* --- keys --- */

void audit_chain_wipe(struct audit_chain *chain)
{
    secret_wipe(&chain->key);
    secret_wipe(&chain->after);
}

struct audit_chain audit_chain_none(void)
{
    struct audit_chain chain = { .seq = 0 };

    for (size_t i = 0; i < HEX_LEN; i++)
        chain.hash[i] = '0';
    return chain;
}

bool audit_chain_begin(struct audit_chain *chain, const struct secret *root,
                       const uint8_t id[static AUDIT_CHAIN_ID_LEN], uint64_t first,
                       struct error *err)
{
    static const char label[] = "tdvol v1 audit chain";
    const struct byte_range parts[] = { { label, sizeof(label) - 1 }, { id, AUDIT_CHAIN_ID_LEN } };
    auto_secret struct secret key = SECRET_INIT;

    if (!secret_alloc(&key, SHA256_LEN, err) ||
        !hmac_sha256_parts(root, parts, ARRAY_LEN(parts), key.bytes, err))
        return false;
    secret_wipe(&chain->key);
    chain->key = secret_take(&key);
    memcpy(chain->id, id, AUDIT_CHAIN_ID_LEN);
    chain->first = first;
    return true;
}

bool audit_chain_derive(struct audit_chain *chain, struct error *err)
{
    static const char label[] = "tdvol v1 audit next";

    return (chain->after.bytes || secret_alloc(&chain->after, SHA256_LEN, err)) &&
           hmac_sha256(&chain->key, label, sizeof(label) - 1, chain->after.bytes, err);
}

void audit_chain_advance(struct audit_chain *chain)
{
    struct secret old = chain->key;

    chain->key = chain->after;
    bytes_wipe(old.bytes, old.len);
    chain->after = old;
}

/* --- reading --- */

struct reader {
    const char *at, *end;
};

static bool skip(struct reader *r, const char *text)
{
    size_t len = strlen(text);

    if ((size_t)(r->end - r->at) < len || memcmp(r->at, text, len) != 0)
        return false;
    r->at += len;
    return true;
}

static bool number(struct reader *r, uint64_t *out)
{
    const char *begin = r->at;

    *out = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9' && r->at - begin < DIGITS_MAX)
        *out = *out * 10 + (uint64_t)(*r->at++ - '0');
    return r->at > begin;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool hex(struct reader *r, size_t n, const char **out)
{
    *out = r->at;
    while (n > 0 && r->at < r->end && is_hex(*r->at)) {
        r->at++;
        n--;
    }
    return n == 0;
}

static bool time_text(struct reader *r)
{
    while (r->at < r->end && *r->at != '"' && *r->at != '\\')
        r->at++;
    return skip(r, "\"");
}

static bool read_event(struct reader *r, struct audit_line *out)
{
    static const struct {
        const char *text;
        enum audit_event event;
    } rows[] = {
        { "\"torn\"", AUDIT_TORN },
        { "\"begun\"", AUDIT_BEGUN },
        { "\"rotated\"", AUDIT_ROTATED },
        { "\"restarted\"", AUDIT_RESTARTED },
    };
    const char *id = NULL;
    char text[2 * AUDIT_CHAIN_ID_LEN + 1] = "";

    out->event = AUDIT_OTHER;
    for (size_t i = 0; i < ARRAY_LEN(rows) && out->event == AUDIT_OTHER; i++)
        if (skip(r, rows[i].text))
            out->event = rows[i].event;
    if (out->event < AUDIT_BEGUN)
        return true;
    if (!skip(r, ",\"chain\":\"") || !hex(r, sizeof(text) - 1, &id) || !skip(r, "\",\"first\":") ||
        !number(r, &out->first))
        return false;
    memcpy(text, id, sizeof(text) - 1);
    return hex_decode(text, out->id, sizeof(out->id)) && out->first > 0;
}

static bool read_mac(const char *text, size_t len, struct audit_line *out)
{
    struct reader r = { text + len - SUFFIX_LEN, text + len };

    out->signed_len = len - SUFFIX_LEN;
    return skip(&r, MAC_BEGIN) && hex(&r, HEX_LEN, &out->mac) && skip(&r, MAC_END);
}

bool audit_line_read(const char *text, size_t len, struct audit_line *out)
{
    struct audit_line line = { .seq = 0 };

    if (len < SUFFIX_LEN || !read_mac(text, len, &line))
        return false;
    struct reader r = { text, text + line.signed_len };

    if (!skip(&r, "{\"seq\":") || !number(&r, &line.seq) || !skip(&r, ",\"time\":\"") ||
        !time_text(&r) || !skip(&r, ",\"prev\":\"") || !hex(&r, HEX_LEN, &line.prev) ||
        !skip(&r, "\",\"event\":") || !read_event(&r, &line) || line.seq == 0)
        return false;
    *out = line;
    return true;
}

/* --- MACs and hashes --- */

static bool make_mac(const struct audit_chain *chain, const char *text, size_t len,
                     char out[static AUDIT_HASH_TEXT], struct error *err)
{
    uint8_t mac[SHA256_LEN];

    if (!hmac_sha256(&chain->key, text, len, mac, err))
        return false;
    hex_encode(mac, sizeof(mac), out);
    return true;
}

bool audit_line_sign(const struct audit_chain *chain, char *text, size_t *len, size_t size,
                     struct error *err)
{
    char mac[AUDIT_HASH_TEXT];
    size_t signed_len = *len - 1; /* without the bracket that closes the object */

    if (signed_len + SUFFIX_LEN > size)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "the line is too long");
    if (!make_mac(chain, text, signed_len, mac, err))
        return false;
    char *at = text + signed_len;

    memcpy(at, MAC_BEGIN, sizeof(MAC_BEGIN) - 1);
    memcpy(at + sizeof(MAC_BEGIN) - 1, mac, HEX_LEN);
    memcpy(at + sizeof(MAC_BEGIN) - 1 + HEX_LEN, MAC_END, sizeof(MAC_END) - 1);
    *len = signed_len + SUFFIX_LEN;
    return true;
}

bool audit_line_verify(const struct audit_chain *chain, const char *text,
                       const struct audit_line *line, bool *is_good, struct error *err)
{
    char mac[AUDIT_HASH_TEXT];

    if (!make_mac(chain, text, line->signed_len, mac, err))
        return false;
    *is_good = bytes_are_equal(mac, line->mac, HEX_LEN);
    return true;
}

bool audit_line_hash(const char *text, size_t len, char out[static AUDIT_HASH_TEXT],
                     struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!sha256(text, len, digest, err))
        return false;
    hex_encode(digest, sizeof(digest), out);
    return true;
}
