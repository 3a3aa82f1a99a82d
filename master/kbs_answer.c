/* SPDX-License-Identifier: Apache-2.0 */
#include "master/kbs_answer.h"

#include "attest/json.h"
#include "base/digest.h"

#include <stdio.h>
#include <string.h>

#define COOKIE_NAME "kbs-session-id="
#define ID_MAX      128u /* of the session */
#define DETAIL_MAX  200u /* bytes of the server's own words that are passed on */
#define WORD_MAX    40u

enum {
    STATUS_REDIRECT = 300,
    STATUS_REQUEST = 400,
    STATUS_NOT_FOUND = 404,
    STATUS_TOO_MANY = 429,
    STATUS_SERVER = 500
};

struct kbs_hash {
    const char *name; /* as the server names it */
    size_t len;
    bool (*make)(const void *bytes, size_t len, uint8_t *out, struct error *err);
};

static bool make_sha256(const void *bytes, size_t len, uint8_t *out, struct error *err)
{
    return sha256(bytes, len, out, err);
}

static bool make_sha384(const void *bytes, size_t len, uint8_t *out, struct error *err)
{
    return sha384(bytes, len, out, err);
}

static bool make_sha512(const void *bytes, size_t len, uint8_t *out, struct error *err)
{
    return sha512(bytes, len, out, err);
}

static const struct kbs_hash hashes[] = {
    { "sha384", SHA384_LEN, make_sha384 },
    { "sha256", SHA256_LEN, make_sha256 },
    { "sha512", SHA512_LEN, make_sha512 },
};

/* --- good answers --- */

static bool no_answer(struct error *err, const char *what)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s: is this a KBS, and of protocol " KBS_PROTOCOL "?", what);
}

/* "extra-params" is "" or an object, which may name the hash. */
static const struct kbs_hash *find_hash(const json_t *challenge)
{
    const json_t *extra = json_object_get(challenge, "extra-params");
    const json_t *named = json_object_get(extra, "selected-hash-algorithm");

    if (!json_is_object(extra))
        return !extra || json_is_null(extra) || json_is_string(extra) ? &hashes[0] : NULL;
    for (size_t i = 0; json_is_string(named) && i < ARRAY_LEN(hashes); i++)
        if (strcmp(json_string_value(named), hashes[i].name) == 0)
            return &hashes[i];
    return named ? NULL : &hashes[0];
}

bool kbs_read_challenge(const void *body, size_t len, struct kbs_challenge *out, struct error *err)
{
    auto_json json_t *challenge = NULL;
    struct error ignored = ERROR_INIT; /* its text quotes the answer */
    uint8_t nonce[KBS_NONCE_DIGITS];
    size_t nonce_len = 0;

    if (!json_read_object(body, len, &challenge, &ignored))
        return no_answer(err, "its challenge cannot be read");
    const json_t *text = json_object_get(challenge, "nonce");
    if (!json_is_string(text) || json_string_length(text) != KBS_NONCE_DIGITS ||
        !base64_decode(json_string_value(text), KBS_NONCE_DIGITS, nonce, &nonce_len) ||
        nonce_len != KBS_NONCE_LEN)
        return no_answer(err, "its nonce is not 32 bytes in base64");
    const struct kbs_hash *hash = find_hash(challenge);
    if (!hash)
        return no_answer(err, "it selects a hash that is not among those offered");
    (void)snprintf(out->nonce, sizeof(out->nonce), "%s", json_string_value(text));
    out->hash = hash;
    return true;
}

bool kbs_report_data(const struct kbs_challenge *challenge, const char *jwk,
                     uint8_t out[static KBS_REPORT_LEN], struct error *err)
{
    char text[KBS_RUNTIME_MAX];
    uint8_t digest[KBS_REPORT_LEN] = { 0 };
    int len = snprintf(text, sizeof(text),
                       "{\"additional-evidence\":\"\",\"nonce\":\"%s\",\"tee-pubkey\":%s}",
                       challenge->nonce, jwk);

    if (len < 0 || (size_t)len >= sizeof(text))
        return error_set(err, ERROR_INTERNAL, "the runtime data is too long");
    if (!challenge->hash->make(text, (size_t)len, digest, err))
        return false;
    memcpy(out, digest, sizeof(digest));
    return true;
}

/* The value goes into a header of ours, so it has nothing that could end the header. */
bool kbs_read_cookie(const char *header, char out[static KBS_COOKIE_MAX], struct error *err)
{
    static const char id_chars[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
    const size_t name_len = strlen(COOKIE_NAME);

    if (!header || strncmp(header, COOKIE_NAME, name_len) != 0)
        return no_answer(err, "its challenge comes without the one cookie of a session");
    size_t len = strspn(header + name_len, id_chars);
    if (len == 0 || len > ID_MAX || !memchr(";", header[name_len + len], 2))
        return no_answer(err, "its session has no name of letters and digits");
    (void)snprintf(out, KBS_COOKIE_MAX, "%.*s", (int)(name_len + len), header);
    return true;
}

bool kbs_read_acceptance(const void *body, size_t len, struct error *err)
{
    auto_json json_t *answer = NULL;
    struct error ignored = ERROR_INIT;

    if (!json_read_object(body, len, &answer, &ignored) ||
        json_string_length(json_object_get(answer, "token")) == 0)
        return no_answer(err, "its answer to the evidence has no token");
    return true;
}

/* --- refusals --- */

/* The words of errors at https://github.com/confidential-containers/trustee, kbs/src/error.rs. */
static const struct refusal {
    const char *word;
    enum error_code code;
    const char *meaning;
} refusals[] = {
    { "AttestationError", ERROR_UNAVAILABLE, "it does not accept this TD's evidence" },
    { "PolicyDeny", ERROR_UNAVAILABLE, "its resource policy does not give the key to this TD" },
    { "PluginInternalError", ERROR_UNAVAILABLE, "it has no such resource, or cannot read it" },
    { "TokenNotFound", ERROR_ABORTED, "it does not know the session any more" },
    { "TokenVerifierError", ERROR_ABORTED, "it does not accept the session's token" },
    { "InvalidRequestPath", ERROR_FAILED_PRECONDITION, "it knows no such path" },
    { "PluginNotFound", ERROR_FAILED_PRECONDITION, "it serves no resources" },
};

/* What may go into logs and statuses: printable ASCII, and not much of it. */
static void clean(const char *text, char *out, size_t size)
{
    size_t len = strnlen(text, size - 1);

    memcpy(out, text, len);
    out[len] = '\0';
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c >= 0x7f)
            *c = '?';
}

static void read_refusal(const void *body, size_t len, char word[static WORD_MAX],
                         char detail[static DETAIL_MAX])
{
    auto_json json_t *answer = NULL;
    struct error ignored = ERROR_INIT;

    if (!json_read_object(body, len, &answer, &ignored))
        return;
    const char *type = json_string_value(json_object_get(answer, "type"));
    const char *text = json_string_value(json_object_get(answer, "detail"));
    const char *slash = type ? strrchr(type, '/') : NULL;
    if (slash)
        clean(slash + 1, word, WORD_MAX);
    if (text)
        clean(text, detail, DETAIL_MAX);
}

static bool refused(const char *word, const char *detail, struct error *err)
{
    if (strstr(detail, "Version Mismatch"))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "it speaks another version of the protocol than " KBS_PROTOCOL ": %s",
                         detail);
    if (strcmp(word, "AttestationError") == 0 && strstr(detail, "ession") &&
        (strstr(detail, "not found") || strstr(detail, "expired")))
        word = "TokenNotFound";
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++)
        if (strcmp(refusals[i].word, word) == 0)
            return error_set(err, refusals[i].code, "%s (%s: %s)", refusals[i].meaning, word,
                             detail);
    return error_set(err, ERROR_UNAVAILABLE, "it refuses (%s: %s)", word, detail);
}

bool kbs_failed(long status, const void *body, size_t len, struct error *err)
{
    char word[WORD_MAX] = "", detail[DETAIL_MAX] = "";

    if (status == STATUS_TOO_MANY || status >= STATUS_SERVER)
        return error_set(err, ERROR_UNAVAILABLE, "it is not ready (status %ld)", status);
    if (status >= STATUS_REDIRECT && status < STATUS_REQUEST)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "it redirects (status %ld), which is not followed: give the address of "
                         "the KBS itself",
                         status);
    read_refusal(body, len, word, detail);
    if (word[0])
        return refused(word, detail, err);
    if (status == STATUS_NOT_FOUND)
        return no_answer(err, "it answers with status 404");
    return error_set(err, ERROR_UNAVAILABLE,
                     "it answers with status %ld, and says nothing of a KBS: is something in front "
                     "of it?",
                     status);
}
