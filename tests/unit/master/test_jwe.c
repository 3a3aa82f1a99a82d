/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "master/jwe.h"
#include "tests/unit/attest/vectors.h"
#include "tests/unit/test.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Made by another implementation, with keys that are hashes of texts. */
#define PRIVATE "03d0ae971cb87e8b0dfe7e96adc733c2aa9894aa5b274a90c7ce0d884f337186"
#define PUBLIC                                                         \
    "ca7754edfcf55ec87335dcd6d61456f1b637734414875ece1b89ef1abc59e4ff" \
    "2c02a9a18c30b19d63dfe894e7812bb08efe53298ef9079627a535e2dbfa64cd"
#define OWN_X      "yndU7fz1XshzNdzW1hRW8bY3c0QUh17OG4nvGrxZ5P8"
#define OWN_Y      "LAKpoYwwsZ1j3-iU54ErsI7-UymO-QeWJ6U14tv6ZM0"
#define X          "WlqbQnXzRsFTJGzOdw7IqTzIeKyDdZoVI_fAgFK_TK8"
#define Y          "9iKwODy01lYNwgxdeZmnejmTvwo7L2wjhBvhdHqdFDo"
#define EPK        "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y "\"}"
#define HEADER     "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\",\"epk\":" EPK "}"
#define WRAPPED    "vkM7mUFWOMFx9QW_vtahPtpD5bNFjL67DdhjmZqLQe4QSqZzthpLHw"
#define IV         "CrMGgjA1Zhu426Ic"
#define CIPHERTEXT "uHRhP01rQAB4qN2L-9v8Hhi-J2dEnDWcNlWFa4rUuwY"
#define TAG        "sh2G2m-yRzPQQddVmf_qgg"
#define PLAIN      "thirty-two bytes of a master key"
#define TEXT_MAX   4096

static struct error err;

static struct jwe_key key_of(const char *private_hex, const char *public_hex)
{
    struct jwe_key key = JWE_KEY_INIT;
    uint8_t number[32];

    assert_ok(secret_alloc(&key.private_key, sizeof(number), &err));
    assert_true(hex_decode(private_hex, number, sizeof(number)));
    for (size_t i = 0; i < sizeof(number); i++) /* in this machine's order */
        key.private_key.bytes[i] = number[sizeof(number) - 1 - i];
    assert_true(hex_decode(public_hex, key.public_key, sizeof(key.public_key)));
    return key;
}

static void encode_url(const char *text, char *out)
{
    base64_encode(text, strlen(text), out);
    for (char *c = out; *c; c++)
        if (*c == '+')
            *c = '-';
        else if (*c == '/')
            *c = '_';
    out[strcspn(out, "=")] = '\0';
}

/* The message with another header, in plain text. */
static const char *with_header(const char *header)
{
    static char text[TEXT_MAX];
    char encoded[TEXT_MAX / 2];

    encode_url(header, encoded);
    (void)snprintf(text, sizeof(text),
                   "{\"protected\":\"%s\",\"encrypted_key\":\"" WRAPPED "\",\"iv\":\"" IV
                   "\",\"ciphertext\":\"" CIPHERTEXT "\",\"tag\":\"" TAG "\"}",
                   encoded);
    return text;
}

/* The message with one piece of its text replaced. */
static const char *with(const char *piece, const char *replacement)
{
    static char text[TEXT_MAX];
    const char *good = with_header(HEADER), *at = strstr(good, piece);

    assert_non_null(at);
    (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, replacement,
                   at + strlen(piece));
    return text;
}

static bool opens(const char *text, struct secret *out)
{
    struct jwe_key key = key_of(PRIVATE, PUBLIC);
    bool ok = jwe_open(&key, text, strlen(text), out, &err);

    jwe_key_wipe(&key);
    assert_null(key.private_key.bytes);
    return ok;
}

static void message_of_another_implementation_opens(void **state UNUSED)
{
    auto_secret struct secret plain = SECRET_INIT;

    assert_ok(opens(with_header(HEADER), &plain));
    assert_int_equal(plain.len, strlen(PLAIN));
    assert_memory_equal(plain.bytes, PLAIN, strlen(PLAIN));
}

static void public_key_is_canonical_text(void **state UNUSED)
{
    struct jwe_key key = key_of(PRIVATE, PUBLIC);
    char text[JWE_JWK_LEN];

    jwe_key_text(&key, text);
    assert_string_equal(text, "{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-256\",\"kty\":\"EC\","
                              "\"x\":\"" OWN_X "\",\"y\":\"" OWN_Y "\"}");
    jwe_key_wipe(&key);
}

static void each_key_is_new(void **state UNUSED)
{
    auto_jwe_key struct jwe_key one = JWE_KEY_INIT, two = JWE_KEY_INIT;

    assert_ok(jwe_key_generate(&one, &err));
    assert_ok(jwe_key_generate(&two, &err));
    assert_int_equal(one.private_key.len, 32);
    assert_memory_not_equal(one.private_key.bytes, two.private_key.bytes, 32);
    assert_memory_not_equal(one.public_key, two.public_key, sizeof(one.public_key));
}

static void message_to_another_key_is_refused(void **state UNUSED)
{
    auto_jwe_key struct jwe_key other = JWE_KEY_INIT;
    auto_secret struct secret plain = SECRET_INIT;
    const char *text = with_header(HEADER);

    assert_ok(jwe_key_generate(&other, &err));
    assert_refused(ERROR_DENIED, jwe_open(&other, text, strlen(text), &plain, &err));
    assert_null(plain.bytes);
}

/* What the sender signs over is what was sent, not what it means. */
static void same_header_in_another_order_is_refused(void **state UNUSED)
{
    auto_secret struct secret plain = SECRET_INIT;

    assert_refused(
        ERROR_DENIED,
        opens(with_header("{\"enc\":\"A256GCM\",\"alg\":\"ECDH-ES+A256KW\",\"epk\":" EPK "}"),
              &plain));
    assert_refused(
        ERROR_DENIED,
        opens(with_header("{\"alg\":\"ECDH-ES+A256KW\", \"enc\":\"A256GCM\",\"epk\":" EPK "}"),
              &plain));
}

#define ALG_ENC "\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256GCM\""

static void headers_that_are_weaker_or_unknown_are_refused(void **state UNUSED)
{
    static const struct {
        const char *header, *why;
    } rows[] = {
        { "{\"alg\":\"dir\",\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"none\",\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"RSA1_5\",\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"ECDH-ES\",\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"ECDH-ES+A128KW\",\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A128GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":\"ECDH-ES+A256KW\",\"enc\":\"A256CBC-HS512\",\"epk\":" EPK "}", "alg and enc" },
        { "{\"alg\":5,\"enc\":\"A256GCM\",\"epk\":" EPK "}", "alg and enc" },
        { "{" ALG_ENC "}", "other members" },
        { "{" ALG_ENC ",\"epk\":" EPK ",\"zip\":\"DEF\"}", "other members" },
        { "{" ALG_ENC ",\"epk\":" EPK ",\"crit\":[]}", "other members" },
        { "{" ALG_ENC ",\"epk\":" EPK ",\"apu\":\"QQ\"}", "other members" },
        { "{" ALG_ENC ",\"kid\":\"1\"}", "other members" },
        { "{" ALG_ENC ",\"alg\":\"dir\",\"epk\":" EPK "}", "no header" },
        { "[]", "no header" },
        { "", "no header" },
        { "{" ALG_ENC ",\"epk\":\"\"}", "no key" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y
          "\"}}",
          "no key" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"OKP\",\"x\":\"" X "\",\"y\":\"" Y
          "\"}}",
          "no key" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\"}}", "no key" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" Y
          "\",\"d\":\"AA\"}}",
          "no key" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "\",\"y\":\"" X
          "\"}}",
          "not on the curve" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\","
          "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
          "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}}",
          "not on the curve" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"AAAA\",\"y\":\"" Y "\"}}",
          "x is not 32 bytes" },
        { "{" ALG_ENC ",\"epk\":{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"" X "AAAA\",\"y\":\"" Y
          "\"}}",
          "x is not 32 bytes" },
    };
    auto_secret struct secret plain = SECRET_INIT;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT, opens(with_header(rows[i].header), &plain));
        assert_contains(err.text, rows[i].why);
        assert_null(plain.bytes);
    }
}

static void malformed_messages_are_refused(void **state UNUSED)
{
    static const struct {
        const char *piece, *replacement, *why;
    } rows[] = {
        { "{\"protected", "{\"aad\":\"QQ\",\"protected", "exactly the members" },
        { "{\"protected", "{\"header\":{},\"protected", "exactly the members" },
        { "{\"protected", "{\"protected\":\"QQ\",\"protected", "exactly the members" },
        { "{\"protected", "{\"recipients", "exactly the members" },
        { ",\"tag\":\"" TAG "\"", "", "exactly the members" },
        { "\"}", "\"}x", "exactly the members" },
        { "\"" IV "\"", "7", "iv is not 12" },
        { IV, "CrMGgjA1Zhu426I", "iv is not 12" },
        { IV, "CrMGgjA1Zhu426IcAAAA", "iv is not 12" },
        { WRAPPED, "vkM7mUFWOMFx9QW_vtahPtpD5bNFjL67DdhjmZqLQe4QSqZzthpL",
          "encrypted_key is not 40" },
        { WRAPPED, WRAPPED "AA", "encrypted_key is not 40" },
        { TAG, "sh2G2m-yRzPQQddVmf_q", "tag is not 16" },
        { TAG, "sh2G2m-yRzPQQddVmf_qgh", "tag is not 16" }, /* unused bits */
        { TAG, TAG "==", "tag is not 16" },
        { TAG, "sh2G2m+yRzPQQddVmf/qgg", "tag is not 16" },
        { TAG, " " TAG, "tag is not 16" },
        { CIPHERTEXT, "", "ciphertext is not 1" },
    };
    auto_secret struct secret plain = SECRET_INIT;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_INVALID_ARGUMENT,
                       opens(with(rows[i].piece, rows[i].replacement), &plain));
        assert_contains(err.text, rows[i].why);
    }
    char large[JWE_PLAIN_MAX * 2];
    for (size_t i = 0; i < sizeof(large); i++)
        large[i] = i + 1 < sizeof(large) ? 'A' : '\0';
    assert_refused(ERROR_INVALID_ARGUMENT, opens(with(CIPHERTEXT, large), &plain));
    assert_refused(ERROR_INVALID_ARGUMENT, opens("", &plain));
    assert_refused(ERROR_INVALID_ARGUMENT, opens("null", &plain));
}

static void changed_bytes_are_refused(void **state UNUSED)
{
    static const struct {
        const char *piece, *replacement;
    } rows[] = {
        { WRAPPED, "wkM7mUFWOMFx9QW_vtahPtpD5bNFjL67DdhjmZqLQe4QSqZzthpLHw" },
        { IV, "DrMGgjA1Zhu426Ic" },
        { CIPHERTEXT, "vHRhP01rQAB4qN2L-9v8Hhi-J2dEnDWcNlWFa4rUuwY" },
        { CIPHERTEXT, "uHRhP01rQAB4qN2L-9v8Hhi-J2dEnDWcNlWFa4rUuw" },
        { TAG, "th2G2m-yRzPQQddVmf_qgg" },
    };
    auto_secret struct secret plain = SECRET_INIT;

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_DENIED, opens(with(rows[i].piece, rows[i].replacement), &plain));
        assert_null(plain.bytes);
    }
}

/* --- the public vector of the KBS protocol, where it is --- */

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    assert_non_null(text);
    return text;
}

static void vector_of_the_protocol_opens(void **state UNUSED)
{
    static const char below[] = "kbs/kbs_0.4.0_p256.json";
    auto_secret struct secret plain = SECRET_INIT;
    uint8_t public_key[2 * JWE_COORDINATE_LEN];
    char public_hex[4 * JWE_COORDINATE_LEN + 1];
    size_t len = 0, n = 0;

    if (!vectors_path(below))
        skip_because("there is no vector: see TDVOL_VECTORS in vectors.h");
    char *file = vector_file(below, &len);
    json_t *json = json_loadb(file, len, 0, NULL), *jwk = json_object_get(json, "tee_jwk");
    const char *x = text_of(jwk, "x"), *y = text_of(jwk, "y");
    assert_true(base64url_decode(x, strlen(x), public_key, 32, &n) && n == 32);
    assert_true(base64url_decode(y, strlen(y), public_key + 32, 32, &n) && n == 32);
    hex_encode(public_key, sizeof(public_key), public_hex);
    struct jwe_key key = key_of(text_of(json, "tee_private_key_hex"), public_hex);
    char *message = json_dumps(json_object_get(json, "jwe_response"), 0);
    assert_ok(jwe_open(&key, message, strlen(message), &plain, &err));
    assert_int_equal(plain.len, strlen(text_of(json, "plaintext")));
    assert_memory_equal(plain.bytes, text_of(json, "plaintext"), plain.len);
    free(message);
    jwe_key_wipe(&key);
    json_decref(json);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message_of_another_implementation_opens),
        cmocka_unit_test(public_key_is_canonical_text),
        cmocka_unit_test(each_key_is_new),
        cmocka_unit_test(message_to_another_key_is_refused),
        cmocka_unit_test(same_header_in_another_order_is_refused),
        cmocka_unit_test(headers_that_are_weaker_or_unknown_are_refused),
        cmocka_unit_test(malformed_messages_are_refused),
        cmocka_unit_test(changed_bytes_are_refused),
        cmocka_unit_test(vector_of_the_protocol_opens),
    };

    return RUN_TESTS(tests);
}
