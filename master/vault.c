/* SPDX-License-Identifier: Apache-2.0 */
#include "master/vault.h"

#include "attest/https.h"
#include "attest/json.h"
#include "base/digest.h"
#include "base/file.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_MAX   1024u
#define WRAPPED_MAX 1024u
#define ANSWER_MAX  (64u * 1024)
#define TIMEOUT_MS  5000u
#define PREFIX      "vault:v"

enum { STATUS_OK = 200, STATUS_FORBIDDEN = 403, STATUS_TOO_MANY = 429 };

bool vault_options_check(const struct vault_options *options, struct error *err)
{
    if (!options->token || !options->wrapped)
        return error_set(err, ERROR_INVALID_ARGUMENT, "vault: needs %s",
                         options->token ? "--wrapped-key" : "--vault-token");
    return https_check_base(options->url, err);
}

/* --- what is sent --- */

static bool is_plain(const struct secret *text)
{
    for (size_t i = 0; i < text->len; i++)
        if (text->bytes[i] <= ' ' || text->bytes[i] >= 0x7f || strchr("\"\\", text->bytes[i]))
            return false;
    return text->len > 0;
}

/* The text of a file, without a line end. */
static bool read_text(const char *path, size_t max, struct secret *out, struct error *err)
{
    auto_secret struct secret text = SECRET_INIT;

    if (!file_read_private(path, max, &text, err))
        return false;
    while (text.len > 0 && strchr("\r\n", text.bytes[text.len - 1]))
        text.len--;
    if (!is_plain(&text))
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s has something else than one word",
                         path);
    *out = secret_take(&text);
    return true;
}

static bool make_body(const char *path, struct secret *out, struct error *err)
{
    auto_secret struct secret wrapped = SECRET_INIT, body = SECRET_INIT;

    if (!read_text(path, WRAPPED_MAX, &wrapped, err) || !secret_alloc(&body, WRAPPED_MAX + 32, err))
        return false;
    if (wrapped.len < strlen(PREFIX) || memcmp(wrapped.bytes, PREFIX, strlen(PREFIX)) != 0)
        return error_set(
            err, ERROR_FAILED_PRECONDITION,
            "%s is not what Vault's transit engine makes: it begins with " PREFIX "1:", path);
    body.len = (size_t)snprintf((char *)body.bytes, body.len, "{\"ciphertext\":\"%.*s\"}",
                                (int)wrapped.len, (const char *)wrapped.bytes);
    *out = secret_take(&body);
    return true;
}

static bool make_header(const char *path, struct secret *out, struct error *err)
{
    static const char name[] = "X-Vault-Token: ";
    auto_secret struct secret token = SECRET_INIT, header = SECRET_INIT;

    if (!read_text(path, TOKEN_MAX, &token, err) ||
        !secret_alloc(&header, sizeof(name) + token.len, err))
        return false;
    memcpy(header.bytes, name, sizeof(name) - 1);
    memcpy(header.bytes + sizeof(name) - 1, token.bytes, token.len); /* a NUL follows */
    *out = secret_take(&header);
    return true;
}

/* --- what is answered --- */

static bool check_status(long status, const char *url, struct error *err)
{
    if (status == STATUS_OK)
        return true;
    if (status == STATUS_FORBIDDEN)
        return error_set(err, ERROR_UNAVAILABLE,
                         "%s: Vault refuses the token (status 403): is it expired, and may its "
                         "policy update this path?",
                         url);
    if (status == STATUS_TOO_MANY || status >= 500)
        return error_set(err, ERROR_UNAVAILABLE,
                         "%s: Vault is not ready (status %ld): it may be sealed itself", url,
                         status);
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s: Vault answers with status %ld: is this the path of decrypt and of the "
                     "key that wrapped the file?",
                     url, status);
}

static bool take_plain(const char *base64, struct secret *out, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT;
    size_t len = strlen(base64), max = len / 4 * 3 + 3;

    if (len == 0 || len > 2 * MASTER_KEY_TEXT_MAX)
        return false;
    return secret_alloc(&plain, max, err) && base64_decode(base64, len, plain.bytes, &plain.len) &&
           master_key_take(&plain, out, err);
}

static bool read_answer(const uint8_t *body, size_t len, struct secret *out)
{
    auto_json json_t *answer = NULL;
    struct error ignored = ERROR_INIT;

    if (!json_read_object(body, len, &answer, &ignored)) /* its text may quote the key */
        return false;
    json_t *plain = json_object_get(json_object_get(answer, "data"), "plaintext");
    if (!json_is_string(plain))
        return false;
    bool ok = take_plain(json_string_value(plain), out, &ignored);
    bytes_wipe((void *)(uintptr_t)json_string_value(plain), json_string_length(plain));
    return ok;
}

bool vault_unwrap(const struct vault_options *options, struct secret *out, struct error *err)
{
    const struct https_options https_options = { .ca_file = options->ca_file,
                                                 .timeout_ms = TIMEOUT_MS,
                                                 .body_max = ANSWER_MAX,
                                                 .is_secret = true };
    auto_secret struct secret body = SECRET_INIT, header = SECRET_INIT;
    auto_https struct https *https = NULL;
    size_t len = 0;

    if (!make_body(options->wrapped, &body, err) || !make_header(options->token, &header, err) ||
        !https_new(&https_options, &https, err))
        return false;
    const char *const headers[] = { (const char *)header.bytes, "Content-Type: application/json" };
    const struct https_call call = {
        .url = options->url,
        .body = body.bytes,
        .body_len = body.len,
        .headers = headers,
        .n_headers = ARRAY_LEN(headers),
    };
    if (!https_send(https, &call, err) || !check_status(https_status(https), options->url, err))
        return false;
    const uint8_t *answer = https_body(https, &len);
    return read_answer(answer, len, out) ||
           error_set(err, ERROR_FAILED_PRECONDITION,
                     "%s: Vault's answer is not a master key: encrypt its 32 bytes, or its 64 hex "
                     "digits",
                     options->url);
}
