/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"
#include "master/kbs_answer.h"
#include "tests/unit/attest/vectors.h"
#include "tests/unit/test.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define NONCE    "Tw/XpFPgq04oJ45UPNWl+x1p1Te2NP8oPW0vkXM0yos="
#define ID_32    "0123456789abcdef0123456789abcdef"
#define ZEROS_32 "00000000000000000000000000000000"

static struct error err;

static bool challenge(const char *text, struct kbs_challenge *out)
{
    return kbs_read_challenge(text, strlen(text), out, &err);
}

static void challenges_give_their_nonce(void **state UNUSED)
{
    static const char *const rows[] = {
        "{\"nonce\":\"" NONCE "\",\"extra-params\":\"\"}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":{}}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":null}",
        "{\"nonce\":\"" NONCE "\"}",
        "{\"extra-params\":{\"selected-hash-algorithm\":\"sha384\"},\"nonce\":\"" NONCE "\"}",
    };
    struct kbs_challenge one;
    uint8_t data[KBS_REPORT_LEN], first[KBS_REPORT_LEN];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_ok(challenge(rows[i], &one));
        assert_string_equal(one.nonce, NONCE);
        assert_ok(kbs_report_data(&one, "{}", i == 0 ? first : data, &err));
        if (i > 0)
            assert_memory_equal(data, first, sizeof(data));
    }
}

/* SHA-256, -384 and -512 over {"additional-evidence":"","nonce":"...","tee-pubkey":{}}. */
static void report_data_is_the_hash_that_the_server_selects(void **state UNUSED)
{
    static const struct {
        const char *name;
        size_t len;
    } rows[] = { { "sha256", 32 }, { "sha384", 48 }, { "sha512", 64 } };
    static const char runtime[] =
        "{\"additional-evidence\":\"\",\"nonce\":\"" NONCE "\",\"tee-pubkey\":{}}";
    struct kbs_challenge one;
    char text[256];

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t data[KBS_REPORT_LEN], wanted[KBS_REPORT_LEN] = { 0 };

        (void)snprintf(text, sizeof(text),
                       "{\"nonce\":\"" NONCE
                       "\",\"extra-params\":{\"selected-hash-algorithm\":\"%s\"}}",
                       rows[i].name);
        assert_ok(challenge(text, &one));
        assert_ok(kbs_report_data(&one, "{}", data, &err));
        if (i == 0)
            assert_ok(sha256(runtime, strlen(runtime), wanted, &err));
        else if (i == 1)
            assert_ok(sha384(runtime, strlen(runtime), wanted, &err));
        else
            assert_ok(sha512(runtime, strlen(runtime), wanted, &err));
        assert_memory_equal(data, wanted, sizeof(data));
    }
}

static void what_is_no_challenge_is_refused(void **state UNUSED)
{
    static const char *const rows[] = {
        "",
        "[]",
        "<html>",
        "{}",
        "{\"nonce\":5}",
        "{\"nonce\":\"\"}",
        "{\"nonce\":\"Tw/XpFPgq04oJ45UPNWl+w==\"}",                     /* 16 bytes */
        "{\"nonce\":\"Tw/XpFPgq04oJ45UPNWl+x1p1Te2NP8oPW0vkXM0yos\"}",  /* no padding */
        "{\"nonce\":\"Tw_XpFPgq04oJ45UPNWl-x1p1Te2NP8oPW0vkXM0yos=\"}", /* base64url */
        "{\"nonce\":\"Tw/XpFPgq04oJ45UPNWl+x1p1Te2NP8oPW0vkXM0yot=\"}", /* unused bits */
        "{\"nonce\":\"Tw/XpFPgq04oJ45UPNWl+x1p1Te2NP8oPW0vkXM\\\",\\\"\"}",
        "{\"nonce\":\"" NONCE "\",\"nonce\":\"" NONCE "\"}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":{\"selected-hash-algorithm\":\"md5\"}}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":{\"selected-hash-algorithm\":\"SHA384\"}}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":{\"selected-hash-algorithm\":5}}",
        "{\"nonce\":\"" NONCE "\",\"extra-params\":[]}",
    };
    struct kbs_challenge one = { .hash = NULL };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(ERROR_FAILED_PRECONDITION, challenge(rows[i], &one));
        assert_contains(err.text, "is this a KBS");
        assert_null(one.hash);
    }
}

static void cookie_is_one_pair_and_nothing_else(void **state UNUSED)
{
    static const char *const good[] = {
        "kbs-session-id=0123456789abcdef0123456789abcdef; Expires=Sun, 29 Nov 2026 12:00:00 GMT",
        "kbs-session-id=0123456789abcdef0123456789abcdef",
    };
    static const char *const bad[] = {
        NULL,
        "",
        "kbs-session-id=",
        "kbs-session-id=;",
        "other=1",
        " kbs-session-id=1",
        "kbs-session-id=a b",
        "kbs-session-id=a\r\nX-Other: b",
        "kbs-session-id=a,b=c",
        "kbs-session-id=\"a\"",
        "KBS-SESSION-ID=a",
        "kbs-session-id=\xC3\xA4",
        "kbs-session-id=" ID_32 ID_32 ID_32 ID_32 "0",
    };
    char cookie[KBS_COOKIE_MAX];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_ok(kbs_read_cookie(good[i], cookie, &err));
        assert_string_equal(cookie, "kbs-session-id=0123456789abcdef0123456789abcdef");
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_FAILED_PRECONDITION, kbs_read_cookie(bad[i], cookie, &err));
}

static void acceptance_has_a_token(void **state UNUSED)
{
    static const char *const bad[] = { "",
                                       "{}",
                                       "{\"token\":\"\"}",
                                       "{\"token\":5}",
                                       "x",
                                       "[]",
                                       "{\"token\":\"a\",\"token\":\"b\"}" };

    assert_ok(kbs_read_acceptance("{\"token\":\"opaque\"}", 18, &err));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_refused(ERROR_FAILED_PRECONDITION,
                       kbs_read_acceptance(bad[i], strlen(bad[i]), &err));
}

#define REFUSAL(word, detail)                                                 \
    "{\"type\":\"https://github.com/confidential-containers/kbs/errors/" word \
    "\",\"detail\":\"" detail "\"}"

static void each_refusal_says_what_it_means(void **state UNUSED)
{
    static const struct {
        long status;
        const char *body;
        enum error_code code;
        const char *why;
    } rows[] = {
        { 401, REFUSAL("PolicyDeny", "no"), ERROR_UNAVAILABLE, "resource policy" },
        { 401, REFUSAL("AttestationError", "verify"), ERROR_UNAVAILABLE, "this TD's evidence" },
        { 401, REFUSAL("AttestationError", "Session not found"), ERROR_ABORTED, "the session" },
        { 401, REFUSAL("AttestationError", "the session is expired"), ERROR_ABORTED,
          "the session" },
        { 401, REFUSAL("TokenNotFound", ""), ERROR_ABORTED, "the session" },
        { 401, REFUSAL("TokenVerifierError", ""), ERROR_ABORTED, "token" },
        { 401, REFUSAL("PluginInternalError", "a"), ERROR_UNAVAILABLE, "no such resource" },
        { 401, REFUSAL("RvpsError", "words"), ERROR_UNAVAILABLE, "it refuses (RvpsError: words)" },
        { 401,
          REFUSAL("AttestationError",
                  "RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: expect =0.2.0 "
                  "while the request is 0.4.0"),
          ERROR_FAILED_PRECONDITION, "another version of the protocol than 0.4.0: RCAR" },
        { 404, REFUSAL("PluginNotFound", ""), ERROR_FAILED_PRECONDITION, "serves no resources" },
        { 404, REFUSAL("InvalidRequestPath", ""), ERROR_FAILED_PRECONDITION, "no such path" },
        { 404, "<html>", ERROR_FAILED_PRECONDITION, "is this a KBS" },
        { 401, "<html>", ERROR_UNAVAILABLE, "status 401, and says nothing of a KBS" },
        { 403, "", ERROR_UNAVAILABLE, "status 403" },
        { 401, "{\"type\":5,\"detail\":[]}", ERROR_UNAVAILABLE, "status 401" },
        { 301, "", ERROR_FAILED_PRECONDITION, "redirects (status 301)" },
        { 307, "", ERROR_FAILED_PRECONDITION, "redirects" },
        { 429, "", ERROR_UNAVAILABLE, "not ready" },
        { 503, REFUSAL("PolicyDeny", ""), ERROR_UNAVAILABLE, "not ready (status 503)" },
        { 204, "", ERROR_UNAVAILABLE, "status 204" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_refused(rows[i].code,
                       kbs_failed(rows[i].status, rows[i].body, strlen(rows[i].body), &err));
        assert_contains(err.text, rows[i].why);
    }
}

/* The text goes into logs and into statuses, which are UTF-8. */
static void words_of_the_server_are_cut_and_cleaned(void **state UNUSED)
{
    static const char body[] = REFUSAL("Odd\\n\\u0007Word", "line\\nother \\u00e4 \\\"q\\\"");
    char large[4096] = "{\"type\":\"a/B\",\"detail\":\"";
    size_t len = strlen(large);

    assert_refused(ERROR_UNAVAILABLE, kbs_failed(401, body, strlen(body), &err));
    assert_string_equal(err.text, "it refuses (Odd??Word: line?other ?? \"q\")");
    while (len < sizeof(large) - 3)
        large[len++] = 'a';
    memcpy(large + len, "\"}", 3);
    assert_refused(ERROR_UNAVAILABLE, kbs_failed(401, large, len + 2, &err));
    assert_true(strlen(err.text) < 256);
}

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));

    assert_non_null(text);
    return text;
}

static void vector_of_the_protocol_has_the_same_report_data(void **state UNUSED)
{
    static const char below[] = "kbs/kbs_0.4.0_p256.json";
    uint8_t data[KBS_REPORT_LEN];
    char hex[2 * KBS_REPORT_LEN + 1];
    struct kbs_challenge one;
    size_t len = 0;

    if (!vectors_path(below))
        skip_because("there is no vector: see TDVOL_VECTORS in vectors.h");
    char *file = vector_file(below, &len);
    json_t *json = json_loadb(file, len, 0, NULL);
    char *answer = json_dumps(json_object_get(json, "challenge"), 0);
    char *jwk = json_dumps(json_object_get(json, "tee_jwk"), JSON_COMPACT | JSON_SORT_KEYS);
    assert_ok(challenge(answer, &one));
    assert_ok(kbs_report_data(&one, jwk, data, &err));
    hex_encode(data, sizeof(data), hex);
    assert_string_equal(hex, text_of(json, "report_data_64"));
    assert_string_equal(hex + 96, ZEROS_32);
    free(jwk);
    free(answer);
    json_decref(json);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(challenges_give_their_nonce),
        cmocka_unit_test(report_data_is_the_hash_that_the_server_selects),
        cmocka_unit_test(what_is_no_challenge_is_refused),
        cmocka_unit_test(cookie_is_one_pair_and_nothing_else),
        cmocka_unit_test(acceptance_has_a_token),
        cmocka_unit_test(each_refusal_says_what_it_means),
        cmocka_unit_test(words_of_the_server_are_cut_and_cleaned),
        cmocka_unit_test(vector_of_the_protocol_has_the_same_report_data),
    };

    return RUN_TESTS(tests);
}
