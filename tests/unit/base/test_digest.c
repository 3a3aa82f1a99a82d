/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "tests/unit/test.h"

#include <openssl/err.h>
#include <string.h>

static void assert_hex(const void *bytes, size_t len, const char *wanted)
{
    char text[2 * 128 + 1];

    assert_true(len <= 128);
    hex_encode(bytes, len, text);
    assert_string_equal(text, wanted);
}

static void make_secret(struct secret *out, const void *bytes, size_t len)
{
    struct error err = ERROR_INIT;

    assert_ok(secret_alloc(out, len, &err));
    memcpy(out->bytes, bytes, len);
}

/* FIPS 180-2, appendix B. */
#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

static void sha256_gives_the_published_digests(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t digest[SHA256_LEN];

    (void)state;
    assert_ok(sha256("abc", 3, digest, &err));
    assert_hex(digest, SHA256_LEN, ABC_SHA256);
    assert_ok(sha256("", 0, digest, &err));
    assert_hex(digest, SHA256_LEN,
               "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

static void streamed_pieces_give_the_digest_of_the_whole(void **state)
{
    auto_sha256 struct sha256_stream s = { NULL };
    struct error err = ERROR_INIT;
    uint8_t digest[SHA256_LEN];

    (void)state;
    assert_ok(sha256_start(&s, &err));
    assert_ok(sha256_add(&s, "a", 1, &err));
    assert_ok(sha256_add(&s, "", 0, &err));
    assert_ok(sha256_add(&s, "bc", 2, &err));
    assert_ok(sha256_finish(&s, digest, &err));
    assert_null(s.context);
    assert_hex(digest, SHA256_LEN, ABC_SHA256);
    sha256_drop(&s);
    assert_ok(sha256_start(&s, &err)); /* dropped at the end of scope: the leak checker looks */
}

/* RFC 4231, test case 2. */
static void hmac_gives_the_published_code(void **state)
{
    static const char text[] = "what do ya want for nothing?";
    static const char wanted[] = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    auto_secret struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;
    uint8_t code[SHA256_LEN];
    const struct byte_range parts[] = { { text, 5 }, { "", 0 }, { text + 5, sizeof(text) - 6 } };

    (void)state;
    make_secret(&key, "Jefe", 4);
    assert_ok(hmac_sha256(&key, text, sizeof(text) - 1, code, &err));
    assert_hex(code, SHA256_LEN, wanted);
    assert_ok(hmac_sha256_parts(&key, parts, ARRAY_LEN(parts), code, &err));
    assert_hex(code, SHA256_LEN, wanted);
}

static void hmac_without_key_has_the_empty_key(void **state)
{
    struct error err = ERROR_INIT;
    uint8_t code[SHA256_LEN];

    (void)state;
    assert_ok(hmac_sha256_parts(NULL, &(struct byte_range){ "", 0 }, 1, code, &err));
    assert_hex(code, SHA256_LEN,
               "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* RFC 5869, appendix A: cases 1 and 3 (no salt, no info). */
static void hkdf_gives_the_published_keys(void **state)
{
    auto_secret struct secret ikm = SECRET_INIT;
    auto_secret struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;
    uint8_t ikm_bytes[22], salt[13], info[10];

    (void)state;
    assert_true(hex_decode("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", ikm_bytes, 22));
    assert_true(hex_decode("000102030405060708090a0b0c", salt, 13));
    assert_true(hex_decode("f0f1f2f3f4f5f6f7f8f9", info, 10));
    make_secret(&ikm, ikm_bytes, 22);
    assert_ok(hkdf_sha256(&ikm, salt, 13, info, 10, &key, 42, &err));
    assert_hex(
        key.bytes, key.len,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    secret_wipe(&key);
    assert_ok(hkdf_sha256(&ikm, NULL, 0, NULL, 0, &key, 42, &err));
    assert_hex(
        key.bytes, key.len,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
}

static void hkdf_length_out_of_bounds_is_refused(void **state)
{
    auto_secret struct secret ikm = SECRET_INIT;
    auto_secret struct secret key = SECRET_INIT;
    struct error err = ERROR_INIT;

    (void)state;
    make_secret(&ikm, "ikm", 3);
    assert_refused(ERROR_INVALID_ARGUMENT, hkdf_sha256(&ikm, "", 0, "", 0, &key, 0, &err));
    assert_refused(ERROR_INVALID_ARGUMENT, hkdf_sha256(&ikm, "", 0, "", 0, &key, 8161, &err));
    assert_null(key.bytes);
    assert_ok(hkdf_sha256(&ikm, "", 0, "", 0, &key, 8160, &err));
    assert_int_equal(key.len, 8160);
}

static void random_bytes_differ(void **state)
{
    uint8_t a[300] = { 0 }, b[300] = { 0 };
    struct error err = ERROR_INIT;

    (void)state;
    assert_ok(random_bytes(a, sizeof(a), &err));
    assert_ok(random_bytes(b, sizeof(b), &err));
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a + 256, b + 256, sizeof(a) - 256);
}

static void crc32c_gives_the_published_checksums(void **state)
{
    static const uint8_t zeros[32];

    (void)state;
    assert_int_equal(~crc32c("123456789", 9), 0xe3069283);
    assert_int_equal(~crc32c(zeros, sizeof(zeros)), 0x8a9136aa); /* RFC 3720, B.4 */
    assert_int_equal(crc32c("", 0), UINT32_MAX);
}

static void hex_is_read_back(void **state)
{
    uint8_t bytes[4] = { 0 };

    (void)state;
    assert_hex("\x00\xff\x0a\xa0", 4, "00ff0aa0");
    assert_true(hex_decode("00fF0Aa0", bytes, 4));
    assert_memory_equal(bytes, "\x00\xff\x0a\xa0", 4);
    assert_true(hex_decode("", bytes, 0));
}

static void text_that_is_not_exact_hex_is_refused(void **state)
{
    static const char *const bad[] = {
        "", "00", "000000", "000", "00 0", "0x00", "00g0", "-100", "00:0", "\xC3\xA9z0",
    };
    uint8_t bytes[2] = { 7, 7 };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_false(hex_decode(bad[i], bytes, 2));
    assert_int_equal(bytes[0], 7);
    assert_int_equal(bytes[1], 7);
}

/* RFC 4648, section 10, in lower case and without padding. */
static void base64url_is_read_in_one_spelling_only(void **state)
{
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } rows[] = {
        { "", "" },
        { "Zg", "f" },
        { "Zm8", "fo" },
        { "Zm9v", "foo" },
        { "Zm9vYg", "foob" },
        { "Zm9vYmE", "fooba" },
        { "-_-_", "\xfb\xff\xbf" },
        { "Z", NULL },
        { "Zm9vY", NULL },
        { "Zg==", NULL },
        { "Zm8=", NULL },
        { "Zh", NULL },
        { "Zm9", NULL },
        { "Zm9v\n", NULL },
        { "Z g", NULL },
        { "+/+/", NULL },
        { "Zm9v.Zg", NULL },
        { "\xff\xff", NULL },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t out[8] = { 0 };
        size_t len = 77;
        bool ok = base64url_decode(rows[i].text, strlen(rows[i].text), out, sizeof(out), &len);

        assert_int_equal(ok, rows[i].bytes != NULL);
        assert_int_equal(len, ok ? strlen(rows[i].bytes) : 77);
        if (ok)
            assert_memory_equal(out, rows[i].bytes, len);
    }
    uint8_t small[3];
    size_t len = 0;
    assert_true(base64url_decode("Zm9v", 4, small, 3, &len));
    assert_false(base64url_decode("Zm9vYg", 6, small, 3, &len));
    assert_false(base64url_decode("Zm\0v", 4, small, 3, &len));
}

static void base32_gives_the_published_texts(void **state)
{
    static const char *const wanted[] = { "",        "my",       "mzxq",      "mzxw6",
                                          "mzxw6yq", "mzxw6ytb", "mzxw6ytboi" };
    char text[BASE32_LEN(6) + 1];

    (void)state;
    for (size_t len = 0; len <= 6; len++) {
        base32_encode("foobar", len, text);
        assert_string_equal(text, wanted[len]);
        assert_int_equal(strlen(text), BASE32_LEN(len));
    }
}

static void base64_gives_the_published_texts_and_reads_them(void **state)
{
    static const char *const wanted[] = { "",         "Zg==",     "Zm8=",    "Zm9v",
                                          "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy" };
    char text[BASE64_LEN(6) + 1];
    uint8_t back[6];
    size_t back_len = 9;

    (void)state;
    for (size_t len = 0; len <= 6; len++) {
        base64_encode("foobar", len, text);
        assert_string_equal(text, wanted[len]);
        assert_int_equal(strlen(text), BASE64_LEN(len));
        assert_true(base64_decode(text, strlen(text), back, &back_len));
        assert_int_equal(back_len, len);
        assert_memory_equal(back, "foobar", len);
    }
}

static void base64_in_another_spelling_is_refused(void **state)
{
    static const char *const texts[] = { "Zg",   "Zg=",      "Zh==",   "Zm9=",   "Z===",
                                         "====", "Zg==Zg==", "Zm9 ",   "Zm9v\n", "Zm-_",
                                         "=Zm9", "Zg=A",     " Zm9v ", "Zm9vZ" };
    uint8_t out[6];
    size_t len = 77;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(base64_decode(texts[i], strlen(texts[i]), out, &len));
    assert_false(base64_decode("Zm\0v", 4, out, &len));
    assert_int_equal(len, 77);
}

static void openssl_error_empties_the_queue(void **state)
{
    struct error err = ERROR_INIT;

    (void)state;
    ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
    assert_refused(ERROR_INTERNAL, openssl_error(&err, "step"));
    assert_string_equal(err.text, "step: OpenSSL: malloc failure");
    assert_int_equal(ERR_peek_error(), 0);
    assert_refused(ERROR_INTERNAL, openssl_error(&err, "step"));
    assert_string_equal(err.text, "step: OpenSSL: failed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(streamed_pieces_give_the_digest_of_the_whole),
        cmocka_unit_test(hmac_gives_the_published_code),
        cmocka_unit_test(hmac_without_key_has_the_empty_key),
        cmocka_unit_test(hkdf_gives_the_published_keys),
        cmocka_unit_test(hkdf_length_out_of_bounds_is_refused),
        cmocka_unit_test(random_bytes_differ),
        cmocka_unit_test(crc32c_gives_the_published_checksums),
        cmocka_unit_test(hex_is_read_back),
        cmocka_unit_test(text_that_is_not_exact_hex_is_refused),
        cmocka_unit_test(base64url_is_read_in_one_spelling_only),
        cmocka_unit_test(base32_gives_the_published_texts),
        cmocka_unit_test(base64_gives_the_published_texts_and_reads_them),
        cmocka_unit_test(base64_in_another_spelling_is_refused),
        cmocka_unit_test(openssl_error_empties_the_queue),
    };

    return RUN_TESTS(tests);
}
