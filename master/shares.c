/* SPDX-License-Identifier: Apache-2.0 */
#include "master/shares.h"

#include "base/digest.h"
#include "base/option.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define PREFIX     "tdvol-share-1"
#define SET_LABEL  "tdvol v1 share set"
#define CHECK_LEN  4u
#define VALUE_HEX  (2 * MASTER_KEY_LEN)
#define SET_HEX    (2 * SHARE_SET_LEN)
#define CHECK_HEX  (2 * CHECK_LEN)
#define N_FIELDS   6u
#define NUMBER_MAX 2u /* digits of a number */

static_assert(sizeof(PREFIX) + SET_HEX + 2 * NUMBER_MAX + VALUE_HEX + CHECK_HEX + N_FIELDS <=
                  SHARE_TEXT_MAX,
              "a share fits");
static_assert(SHARES_MAX < 100, "a number has two digits");

void share_wipe(struct share *share)
{
    secret_wipe(&share->value);
    *share = (struct share)SHARE_INIT;
}

/* --- GF(2^8) --- */

static uint8_t multiply(uint8_t a, uint8_t b)
{
    uint8_t product = 0;

    for (int i = 0; i < 8; i++) {
        product ^= a & (uint8_t) - (b & 1);
        a = (uint8_t)(a << 1) ^ (0x1b & (uint8_t) - (a >> 7));
        b >>= 1;
    }
    return product;
}

/* a^254; a is not 0. */
static uint8_t invert(uint8_t a)
{
    uint8_t power = a;

    for (int i = 0; i < 6; i++)
        power = multiply(multiply(power, power), a); /* a^127 in the end */
    return multiply(power, power);
}

/* The value at x of a polynomial, the coefficient of x^0 first, each a row of MASTER_KEY_LEN bytes. */
static void evaluate(const struct secret *coefficients, unsigned k, uint8_t x, uint8_t *out)
{
    for (size_t byte = 0; byte < MASTER_KEY_LEN; byte++) {
        uint8_t sum = 0;

        for (unsigned i = k; i-- > 0;)
            sum = multiply(sum, x) ^ coefficients->bytes[i * MASTER_KEY_LEN + byte];
        out[byte] = sum;
    }
}

/* By how much the value of a share counts at 0 (Lagrange). Numbers are no secret. */
static uint8_t weight(const struct share *shares, unsigned n, unsigned of)
{
    uint8_t x = (uint8_t)shares[of].number, product = 1;

    for (unsigned i = 0; i < n; i++) {
        uint8_t other = (uint8_t)shares[i].number;

        if (i != of)
            product = multiply(product, multiply(other, invert(other ^ x)));
    }
    return product;
}

/* --- text --- */

static bool make_set(const struct secret *key, uint8_t out[static SHARE_SET_LEN], struct error *err)
{
    uint8_t mac[SHA256_LEN];

    if (!hmac_sha256(key, SET_LABEL, strlen(SET_LABEL), mac, err))
        return false;
    memcpy(out, mac, SHARE_SET_LEN);
    return true;
}

static bool make_check(const char *text, size_t len, char out[static CHECK_HEX + 1],
                       struct error *err)
{
    uint8_t digest[SHA256_LEN];

    if (!sha256(text, len, digest, err))
        return false;
    hex_encode(digest, CHECK_LEN, out);
    return true;
}

static bool write_text(const uint8_t set[static SHARE_SET_LEN], unsigned k, unsigned number,
                       const uint8_t *value, struct secret *out, struct error *err)
{
    auto_secret struct secret made = SECRET_INIT;
    char set_hex[SET_HEX + 1], check[CHECK_HEX + 1];

    if (!secret_alloc(&made, SHARE_TEXT_MAX, err))
        return false;
    char *text = (char *)made.bytes;
    hex_encode(set, SHARE_SET_LEN, set_hex);
    int head = snprintf(text, SHARE_TEXT_MAX, PREFIX ":%s:%u:%u:", set_hex, k, number);
    hex_encode(value, MASTER_KEY_LEN, text + head);
    size_t len = (size_t)head + VALUE_HEX;
    if (!make_check(text, len, check, err))
        return false;
    text[len] = ':';
    memcpy(text + len + 1, check, sizeof(check));
    *out = secret_take(&made);
    return true;
}

bool shares_split(const struct secret *key, unsigned k, unsigned n, struct secret *out,
                  struct error *err)
{
    auto_secret struct secret coefficients = SECRET_INIT, value = SECRET_INIT;
    uint8_t set[SHARE_SET_LEN];

    assert(key->len == MASTER_KEY_LEN);
    if (k < 1 || k > n || n > SHARES_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%u of %u shares: at most %u, and no more are needed than there are", k, n,
                         SHARES_MAX);
    if (!secret_random(&coefficients, k * MASTER_KEY_LEN, err) ||
        !secret_alloc(&value, MASTER_KEY_LEN, err) || !make_set(key, set, err))
        return false;
    memcpy(coefficients.bytes, key->bytes, MASTER_KEY_LEN);
    for (unsigned i = 0; i < n; i++) {
        evaluate(&coefficients, k, (uint8_t)(i + 1), value.bytes);
        if (!write_text(set, k, i + 1, value.bytes, &out[i], err)) {
            while (i-- > 0)
                secret_wipe(&out[i]);
            return false;
        }
    }
    return true;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* A copy without the white space around it, ended by a zero byte. */
static bool trim(const struct secret *text, struct secret *out, struct error *err)
{
    size_t begin = 0, end = text->len;

    while (end > 0 && (is_space(text->bytes[end - 1]) || text->bytes[end - 1] == '\0'))
        end--;
    while (begin < end && is_space(text->bytes[begin]))
        begin++;
    if (begin == end || end - begin >= SHARE_TEXT_MAX)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "this is no share: it begins with " PREFIX ": and has %zu digits",
                         VALUE_HEX);
    if (!secret_alloc(out, SHARE_TEXT_MAX, err))
        return false;
    memcpy(out->bytes, text->bytes + begin, end - begin);
    return true;
}

static bool read_number(const char *text, unsigned *out)
{
    uint64_t number = 0;

    if (!parse_u64(text, &number) || number < 1 || number > SHARES_MAX)
        return false;
    *out = (unsigned)number;
    return true;
}

/* Cuts at the colons. */
static bool cut(char *text, char *fields[static N_FIELDS])
{
    for (size_t n = 0; n < N_FIELDS; n++) {
        fields[n] = strsep(&text, ":");
        if (!fields[n])
            return false;
    }
    return text == NULL;
}

static bool check_typing(const char *text, struct error *err)
{
    const char *colon = strrchr(text, ':');
    char expected[CHECK_HEX + 1] = "";

    if (colon && !make_check(text, (size_t)(colon - text), expected, err))
        return false;
    return (colon && strcmp(colon + 1, expected) == 0) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "the share has a typing error, or is not complete: its last %u digits do not "
                     "fit the rest",
                     CHECK_HEX);
}

bool share_parse(const struct secret *text, struct share *out, struct error *err)
{
    auto_secret struct secret line = SECRET_INIT;
    auto_share struct share share = SHARE_INIT;
    char *fields[N_FIELDS] = { NULL };

    if (!trim(text, &line, err) || !check_typing((const char *)line.bytes, err) ||
        !secret_alloc(&share.value, MASTER_KEY_LEN, err))
        return false;
    if (!cut((char *)line.bytes, fields) || strcmp(fields[0], PREFIX) != 0 ||
        strlen(fields[1]) != SET_HEX || !hex_decode(fields[1], share.set, SHARE_SET_LEN) ||
        !read_number(fields[2], &share.threshold) || !read_number(fields[3], &share.number) ||
        strlen(fields[4]) != VALUE_HEX || !hex_decode(fields[4], share.value.bytes, MASTER_KEY_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "this is no share of this version: a share is a line like " PREFIX
                         ":SET:K:NUMBER:VALUE:CHECK");
    *out = share;
    share.value = (struct secret)SECRET_INIT;
    return true;
}

/* --- combining --- */

static bool check_shares(const struct share *shares, unsigned n, struct error *err)
{
    for (unsigned i = 0; i < n; i++) {
        if (shares[i].threshold != n || memcmp(shares[i].set, shares[0].set, SHARE_SET_LEN) != 0)
            return error_set(err, ERROR_INVALID_ARGUMENT, "the shares do not belong together");
        for (unsigned j = 0; j < i; j++)
            if (shares[i].number == shares[j].number)
                return error_set(err, ERROR_INVALID_ARGUMENT, "share number %u was given twice",
                                 shares[i].number);
    }
    return n > 0 || error_set(err, ERROR_INVALID_ARGUMENT, "there is no share");
}

bool shares_combine(const struct share *shares, unsigned n, struct secret *out, struct error *err)
{
    auto_secret struct secret key = SECRET_INIT;
    uint8_t set[SHARE_SET_LEN];

    if (!check_shares(shares, n, err) || !secret_alloc(&key, MASTER_KEY_LEN, err))
        return false;
    for (unsigned i = 0; i < n; i++) {
        uint8_t factor = weight(shares, n, i);

        for (size_t byte = 0; byte < MASTER_KEY_LEN; byte++)
            key.bytes[byte] ^= multiply(factor, shares[i].value.bytes[byte]);
    }
    if (!make_set(&key, set, err))
        return false;
    if (!bytes_are_equal(set, shares[0].set, SHARE_SET_LEN))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the shares give another key than was split: one of them was changed");
    *out = secret_take(&key);
    return true;
}
