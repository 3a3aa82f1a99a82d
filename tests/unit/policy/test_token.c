/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/token.h"
#include "tests/unit/attest/issuer.h"
#include "tests/unit/test.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#define CLAIMS "\"iss\":\"https://k8s\",\"sub\":\"system:serviceaccount:a:b\",\"exp\":2000"
#define GOOD   "{" CLAIMS ",\"aud\":[\"tdvol\"]}"

/* One issuer with an RSA and an EC key, kids r and e. */
struct issuer {
    EVP_PKEY *rsa, *ec;
    struct token_keys keys;
};

static int make_issuer(void **state)
{
    struct issuer *i = calloc(1, sizeof(*i));
    struct error err = ERROR_INIT;

    assert_non_null(i);
    i->rsa = rsa_key(2048);
    i->ec = ec_key("P-256");
    char *first = jwk_of(i->rsa, "r", ",\"use\":\"sig\",\"alg\":\"RS256\"");
    char *second = jwk_of(i->ec, "e", ""), *all = jwks_of(first, second);
    assert_ok(token_keys_parse(all, strlen(all), &i->keys, &err));
    assert_int_equal(i->keys.n, 2);
    free(first);
    free(second);
    free(all);
    *state = i;
    return 0;
}

static int free_issuer(void **state)
{
    struct issuer *i = *state;

    token_keys_free(&i->keys);
    EVP_PKEY_free(i->rsa);
    EVP_PKEY_free(i->ec);
    free(i);
    return 0;
}

/* reason NULL: the token must be accepted. */
static void assert_token(const struct issuer *i, const char *token, size_t len, const char *reason,
                         const char *part)
{
    struct token_claims claims = { .until = -7 };
    struct error err = ERROR_INIT;
    bool ok = token_verify(token, len, &i->keys, &claims, &err);

    if (!reason) {
        if (!ok)
            fail_msg("%s: %s", err.reason, err.text);
        return;
    }
    if (ok)
        fail_msg("accepted; wanted %s, %s: %s", reason, part, token);
    assert_int_equal(err.code, ERROR_DENIED);
    if (strcmp(err.reason, reason) != 0)
        fail_msg("%s instead of %s: %s", err.reason, reason, err.text);
    assert_contains(err.text, part);
    assert_int_equal(claims.until, -7);
}

static void assert_made(const struct issuer *i, const char *header, const char *payload,
                        EVP_PKEY *key, const char *reason, const char *part)
{
    char *token = token_of(header, payload, key);

    assert_token(i, token, strlen(token), reason, part);
    free(token);
}

static void a_good_token_gives_its_claims(void **state)
{
    const struct issuer *i = *state;
    struct token_claims claims;
    struct error err = ERROR_INIT;
    char *token = token_of("{\"alg\":\"RS256\",\"kid\":\"r\"}",
                           "{" CLAIMS ",\"aud\":[\"x\",\"tdvol\"],\"nbf\":1000,\"iat\":900,"
                           "\"kubernetes.io\":{\"node\":{\"name\":\"n-1\",\"uid\":\"u\"}}}",
                           i->rsa);

    assert_ok(token_verify(token, strlen(token), &i->keys, &claims, &err));
    assert_string_equal(claims.issuer, "https://k8s");
    assert_string_equal(claims.subject, "system:serviceaccount:a:b");
    assert_string_equal(claims.node, "n-1");
    assert_int_equal(claims.n_audiences, 2);
    assert_string_equal(claims.audiences[1], "tdvol");
    assert_int_equal(claims.not_before, 1000);
    assert_int_equal(claims.until, 2000);
    assert_memory_equal(claims.key_sha256, i->keys.keys[0].sha256, 32);
    free(token);

    token = token_of("{\"alg\":\"ES256\",\"typ\":\"JWT\"}",
                     "{" CLAIMS ",\"aud\":\"tdvol\",\"iat\":900}", i->ec);
    assert_ok(token_verify(token, strlen(token), &i->keys, &claims, &err));
    assert_string_equal(claims.node, "");
    assert_int_equal(claims.n_audiences, 1);
    assert_int_equal(claims.not_before, 900);
    assert_memory_equal(claims.key_sha256, i->keys.keys[1].sha256, 32);
    free(token);
}

static void an_algorithm_that_is_not_named_is_refused(void **state)
{
    static const char *const headers[] = {
        "{\"alg\":\"none\"}",   "{\"alg\":\"None\"}",  "{\"alg\":\"HS256\"}", "{\"alg\":\"RS384\"}",
        "{\"alg\":\"PS256\"}",  "{\"alg\":\"ES384\"}", "{\"alg\":\"rs256\"}", "{\"alg\":\"EdDSA\"}",
        "{\"alg\":\"RS256 \"}", "{\"alg\":7}",         "{\"alg\":null}",      "{}",
    };
    const struct issuer *i = *state;

    for (size_t h = 0; h < ARRAY_LEN(headers); h++)
        assert_made(i, headers[h], GOOD, i->rsa, "TokenAlgorithm", "neither RS256 nor ES256");
}

static void a_signature_by_another_key_or_type_is_refused(void **state)
{
    const struct issuer *i = *state;
    EVP_PKEY *rsa = rsa_key(2048), *ec = ec_key("P-256");

    assert_made(i, "{\"alg\":\"RS256\"}", GOOD, rsa, "TokenSignature", "not signed by");
    assert_made(i, "{\"alg\":\"RS256\",\"kid\":\"r\"}", GOOD, rsa, "TokenSignature", "not signed");
    assert_made(i, "{\"alg\":\"ES256\",\"kid\":\"e\"}", GOOD, ec, "TokenSignature", "not signed");
    /* the right key under the other algorithm's name */
    assert_made(i, "{\"alg\":\"ES256\"}", GOOD, i->rsa, "TokenSignature", "not signed by");
    assert_made(i, "{\"alg\":\"RS256\"}", GOOD, i->ec, "TokenSignature", "not signed by");
    /* a known key id chooses the key; an unknown one does not */
    assert_made(i, "{\"alg\":\"RS256\",\"kid\":\"e\"}", GOOD, i->rsa, "TokenSignature", "not");
    assert_made(i, "{\"alg\":\"RS256\",\"kid\":\"new\"}", GOOD, i->rsa, NULL, NULL);
    EVP_PKEY_free(rsa);
    EVP_PKEY_free(ec);
}

/* The public key as an HMAC key: the classic confusion. */
static void an_hmac_under_the_public_key_is_no_signature(void **state)
{
    const struct issuer *i = *state;
    uint8_t *der = NULL, mac[32];
    int len = i2d_PUBKEY(i->rsa, &der);
    char *h = base64url_of("{\"alg\":\"HS256\"}", 15), *p = base64url_of(GOOD, strlen(GOOD));
    char *input = NULL, *token = NULL;

    assert_true(asprintf(&input, "%s.%s", h, p) > 0);
    assert_non_null(HMAC(EVP_sha256(), der, len, (const uint8_t *)input, strlen(input), mac, NULL));
    char *s = base64url_of(mac, sizeof(mac));
    assert_true(asprintf(&token, "%s.%s", input, s) > 0);
    assert_token(i, token, strlen(token), "TokenAlgorithm", "neither");
    OPENSSL_free(der);
    free(h);
    free(p);
    free(s);
    free(input);
    free(token);
}

static void a_changed_byte_is_noticed(void **state)
{
    const struct issuer *i = *state;
    EVP_PKEY *const signers[] = { i->rsa, i->ec };
    static const char *const headers[] = { "{\"alg\":\"RS256\"}", "{\"alg\":\"ES256\"}" };

    for (size_t k = 0; k < ARRAY_LEN(signers); k++) {
        char *token = token_of(headers[k], GOOD, signers[k]);

        for (size_t at = 0; token[at]; at++) {
            struct token_claims claims;
            struct error err = ERROR_INIT;
            const char kept = token[at];

            token[at] = kept == 'A' ? 'B' : 'A';
            if (token_verify(token, strlen(token), &i->keys, &claims, &err))
                fail_msg("byte %zu of %s", at, token);
            token[at] = kept;
        }
        assert_token(i, token, strlen(token), NULL, NULL);
        free(token);
    }
}

static void a_token_of_another_form_is_refused(void **state)
{
    const struct issuer *i = *state;
    char *token = token_of("{\"alg\":\"ES256\"}", GOOD, i->ec), *longer = NULL;
    static char big[TOKEN_LEN_MAX + 1];
    size_t len = strlen(token);

    assert_token(i, "", 0, "TokenMalformed", "is empty");
    assert_token(i, ".", 1, "TokenMalformed", "three parts");
    assert_token(i, "..", 2, "TokenMalformed", "three parts");
    assert_token(i, "a.b", 3, "TokenMalformed", "three parts");
    assert_token(i, "a.b.", 4, "TokenMalformed", "three parts");
    assert_token(i, "a.b.c.d", 7, "TokenMalformed", "three parts");
    assert_token(i, token, len - 1, "TokenMalformed", "base64url");
    assert_token(i, token, len - 2, "TokenSignature", "not signed"); /* 63 bytes */
    assert_true(asprintf(&longer, "%s=", token) > 0);
    assert_token(i, longer, len + 1, "TokenMalformed", "base64url");
    longer[len] = '\n';
    assert_token(i, longer, len + 1, "TokenMalformed", "base64url");
    longer[len] = '\0';
    assert_token(i, longer, len + 1, "TokenMalformed", "base64url"); /* NUL within the length */
    longer[len] = '.';
    assert_token(i, longer, len + 1, "TokenMalformed", "three parts");
    for (size_t k = 0; k < sizeof(big); k++)
        big[k] = 'A';
    assert_token(i, big, sizeof(big), "TokenMalformed", "longer than 16384");
    free(token);
    free(longer);
}

#define DEEP "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"

static void a_bad_header_is_refused(void **state)
{
    static const struct {
        const char *header, *part;
    } rows[] = {
        { "[]", "not a JSON object" },
        { "{\"alg\":\"RS256\"", "not a JSON object" },
        { "{\"alg\":\"RS256\"} x", "not a JSON object" },
        { "{\"alg\":\"RS256\",\"alg\":\"RS256\"}", "not a JSON object" },
        { "{\"alg\":\"RS256\",\"typ\":\"at+jwt\"}", "typ is not JWT" },
        { "{\"alg\":\"RS256\",\"typ\":7}", "typ is not JWT" },
        { "{\"alg\":\"RS256\",\"crit\":[\"b64\"],\"b64\":false}", "critical" },
        { "{\"alg\":\"RS256\",\"crit\":[]}", "critical" },
        { "{\"alg\":\"RS256\",\"kid\":7}", "kid is not" },
        { "{\"alg\":\"RS256\",\"kid\":\"r\\u0000\"}", "not a JSON object" },
    };
    const struct issuer *i = *state;
    char long_kid[400];

    for (size_t h = 0; h < ARRAY_LEN(rows); h++)
        assert_made(i, rows[h].header, GOOD, i->rsa, "TokenMalformed", rows[h].part);
    assert_made(i, "{\"alg\":\"RS256\",\"x\":" DEEP "}", GOOD, i->rsa, "TokenMalformed", "JSON");
    (void)snprintf(long_kid, sizeof(long_kid), "{\"alg\":\"RS256\",\"kid\":\"%0300d\"}", 0);
    assert_made(i, long_kid, GOOD, i->rsa, "TokenMalformed", "kid is not");
}

static void bad_claims_are_refused_though_signed(void **state)
{
    static const struct {
        const char *payload, *part;
    } rows[] = {
        { "[]", "not a JSON object" },
        { "{" CLAIMS "}", "aud is neither" },
        { "{" CLAIMS ",\"aud\":[]}", "aud is neither" },
        { "{" CLAIMS ",\"aud\":7}", "aud is neither" },
        { "{" CLAIMS ",\"aud\":\"\"}", "aud is not a string" },
        { "{" CLAIMS ",\"aud\":[7]}", "aud is not a string" },
        { "{" CLAIMS ",\"aud\":[\"a\",\"b\",\"c\",\"d\",\"tdvol\"]}", "aud is neither" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"iss\":\"other\"}", "each key once" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"nbf\":\"1\"}", "nbf is not" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"nbf\":1.5}", "nbf is not" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"iat\":-1}", "iat is not" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"nbf\":9223372036854775807}", "nbf is not" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"nbf\":99223372036854775807}", "not a JSON object" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"kubernetes.io\":7}", "must be objects" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"kubernetes.io\":{\"node\":\"n\"}}", "must be objects" },
        { "{" CLAIMS ",\"aud\":\"tdvol\",\"kubernetes.io\":{\"node\":{}}}", "node/name is not" },
        { "{" CLAIMS ",\"aud\":\"tdvol\\u0000\"}", "not a JSON object" },
        { "{" CLAIMS ",\"aud\":\"tdvol\xff\"}", "not a JSON object" },
        { "{\"iss\":\"i\",\"sub\":\"s\",\"aud\":\"a\"}", "exp is not" },
        { "{\"iss\":\"i\",\"sub\":\"s\",\"aud\":\"a\",\"exp\":\"9\"}", "exp is not" },
        { "{\"iss\":\"i\",\"sub\":\"s\",\"aud\":\"a\",\"exp\":1e9}", "exp is not" },
        { "{\"iss\":\"i\",\"sub\":\"s\",\"aud\":\"a\",\"exp\":-1}", "exp is not" },
        { "{\"iss\":\"i\",\"aud\":\"a\",\"exp\":9}", "sub is not" },
        { "{\"iss\":\"\",\"sub\":\"s\",\"aud\":\"a\",\"exp\":9}", "iss is not" },
        { "{\"iss\":[\"i\"],\"sub\":\"s\",\"aud\":\"a\",\"exp\":9}", "iss is not" },
    };
    const struct issuer *i = *state;
    char text[600];

    for (size_t k = 0; k < ARRAY_LEN(rows); k++)
        assert_made(i, "{\"alg\":\"ES256\"}", rows[k].payload, i->ec, "TokenMalformed",
                    rows[k].part);
    (void)snprintf(text, sizeof(text), "{\"iss\":\"%0256d\",\"sub\":\"s\",\"aud\":\"a\",\"exp\":9}",
                   0);
    assert_made(i, "{\"alg\":\"ES256\"}", text, i->ec, "TokenMalformed", "iss is not");
}

static void assert_keys_refused(const char *json, const char *part)
{
    struct token_keys keys = { .n = 77 };
    struct error err = ERROR_INIT;

    if (token_keys_parse(json, strlen(json), &keys, &err))
        fail_msg("accepted: %s", json);
    assert_int_equal(err.code, ERROR_INVALID_ARGUMENT);
    assert_contains(err.text, part);
    assert_int_equal(keys.n, 77);
}

#define X "\"x\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\""
#define Y "\"y\":\"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM\""

static void a_bad_key_set_is_refused(void **state)
{
    static const struct {
        const char *json, *part;
    } rows[] = {
        { "", "not a JSON Web Key Set" },
        { "[]", "must be a JSON object" },
        { "{}", "1 to 16 keys" },
        { "{\"keys\":[]}", "1 to 16 keys" },
        { "{\"keys\":[7]}", "key 1: kty is neither" },
        { "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "kty is neither" },
        { "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}", "kty is neither" },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "less than 2048" },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQ==\",\"e\":\"AQAB\"}]}", "n is missing" },
        { "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\"}]}", "e is missing" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\"," X "," Y "}]}", "not on curve P-256" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "}]}", "y is missing" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X ",\"y\":\"AAAA\"}]}", "not a point" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X
          ",\"y\":\"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4\"}]}",
          "not a point" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"d\":\"AAAA\"}]}",
          "private key" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"alg\":\"RS256\"}]}",
          "alg is not" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"kid\":7}]}", "kid is not" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"use\":\"enc\"}]}",
          "no key is for signatures" },
        { "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\"," X "," Y ",\"key_ops\":[\"sign\"]}]}",
          "no key is for signatures" },
        { "{\"keys\":[],\"keys\":[]}", "duplicate" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_keys_refused(rows[i].json, rows[i].part);
}

static void a_weak_rsa_key_is_refused_and_a_key_for_another_use_left_out(void **state)
{
    const struct issuer *i = *state;
    EVP_PKEY *weak = rsa_key(1024);
    char *bad = jwk_of(weak, "", ""), *sig = jwk_of(i->ec, "", "");
    char *enc = jwk_of(i->rsa, "", ",\"use\":\"enc\""), *all = jwks_of(bad, NULL);
    struct token_keys keys = { .n = 0 };
    struct error err = ERROR_INIT;

    assert_keys_refused(all, "less than 2048 bits");
    free(all);
    all = jwks_of(enc, sig);
    assert_ok(token_keys_parse(all, strlen(all), &keys, &err));
    assert_int_equal(keys.n, 1);
    assert_false(keys.keys[0].is_rsa);
    assert_memory_equal(keys.keys[0].sha256, i->keys.keys[1].sha256, 32);
    token_keys_free(&keys);
    EVP_PKEY_free(weak);
    free(bad);
    free(sig);
    free(enc);
    free(all);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_token_gives_its_claims),
        cmocka_unit_test(an_algorithm_that_is_not_named_is_refused),
        cmocka_unit_test(a_signature_by_another_key_or_type_is_refused),
        cmocka_unit_test(an_hmac_under_the_public_key_is_no_signature),
        cmocka_unit_test(a_changed_byte_is_noticed),
        cmocka_unit_test(a_token_of_another_form_is_refused),
        cmocka_unit_test(a_bad_header_is_refused),
        cmocka_unit_test(bad_claims_are_refused_though_signed),
        cmocka_unit_test(a_bad_key_set_is_refused),
        cmocka_unit_test(a_weak_rsa_key_is_refused_and_a_key_for_another_use_left_out),
    };

    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_issuer, free_issuer);
}
