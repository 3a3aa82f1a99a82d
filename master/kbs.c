/* SPDX-License-Identifier: Apache-2.0 */
#include "master/kbs.h"

#include "attest/attester.h"
#include "attest/https.h"
#include "attest/json.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "master/jwe.h"
#include "master/kbs_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEE           "tdx"
#define ANSWER_MAX    (64u * 1024)
#define TIMEOUT_MS    4000u  /* of one request */
#define QUOTE_MS      15000u /* a TD makes about one quote per second */
#define EVENT_LOG_MAX (512u * 1024)
#define URL_MAX       512u
#define HEADER_MAX    (KBS_COOKIE_MAX + 16)
#define PATH_PARTS    3

enum { STATUS_OK = 200 };

/* One handshake. */
struct kbs_exchange {
    const struct kbs_options *options;
    struct https *https;
    struct kbs_challenge challenge;
    char cookie[HEADER_MAX]; /* a whole header line; no secret: it gives what only our key opens */
    struct jwe_key key;
    char jwk[JWE_JWK_LEN];
    struct evidence evidence;
};

static void exchange_end(struct kbs_exchange *x)
{
    https_free(&x->https);
    jwe_key_wipe(&x->key);
    evidence_free(&x->evidence);
}
#define auto_exchange CLEANUP(exchange_end)

/* --- the address --- */

static bool is_part(const char *part, size_t len)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

    if (len == 0 || !memchr(first, part[0], sizeof(first) - 1))
        return false;
    for (size_t i = 1; i < len; i++)
        if (part[i] != '.' && !memchr(first, part[i], sizeof(first) - 1))
            return false;
    return true;
}

/* Finds the path, which begins with a slash. NULL unless it has exactly three parts that the KBS takes. */
static const char *find_path(const char *url)
{
    const char *host = strstr(url, "://"), *path = host ? strchr(host + 3, '/') : NULL;
    const char *at = path;

    for (int i = 0; at && i < PATH_PARTS; i++) {
        size_t len = *at == '/' ? strcspn(at + 1, "/") : 0;

        if (!is_part(at + 1, len))
            return NULL;
        at += 1 + len;
    }
    return at && *at == '\0' ? path : NULL;
}

bool kbs_options_check(const struct kbs_options *options, struct error *err)
{
    if (!https_check_base(options->url, err))
        return false;
    return (strlen(options->url) < URL_MAX / 2 && find_path(options->url)) ||
           error_set(err, ERROR_INVALID_ARGUMENT,
                     "%s: an address of a KBS's resource is https://HOST/REPOSITORY/TYPE/TAG, with "
                     "letters, digits, -, _ and . in the three names",
                     options->url);
}

/* --- requests --- */

static bool wrap_kbs(const struct kbs_exchange *x, struct error *err)
{
    return error_wrap(err, "%s: the KBS", x->options->url);
}

/* call: without the address, which is the KBS's with this path. */
static bool ask(struct kbs_exchange *x, const char *path, const struct https_call *call,
                struct error *err)
{
    const char *resource = find_path(x->options->url);
    char url[URL_MAX];

    (void)snprintf(url, sizeof(url), "%.*s/kbs/v0/%s", (int)(resource - x->options->url),
                   x->options->url, path);
    struct https_call whole = *call;
    whole.url = url;
    if (!https_send(x->https, &whole, err))
        return false;
    size_t len = 0;
    const uint8_t *body = https_body(x->https, &len);
    if (https_status(x->https) == STATUS_OK)
        return true;
    (void)kbs_failed(https_status(x->https), body, len, err);
    return wrap_kbs(x, err);
}

static bool take_challenge(struct kbs_exchange *x, struct error *err)
{
    static const char request[] = "{\"version\":\"" KBS_PROTOCOL "\",\"tee\":\"" TEE
                                  "\",\"extra-params\":{\"supported-hash-algorithms\":"
                                  "[\"sha256\",\"sha384\",\"sha512\"]}}";
    static const char *const headers[] = { "Content-Type: application/json" };
    const struct https_call call = {
        .body = request, .body_len = sizeof(request) - 1, .headers = headers, .n_headers = 1
    };
    char cookie[KBS_COOKIE_MAX];
    size_t len = 0;

    if (!ask(x, "auth", &call, err))
        return false;
    const uint8_t *body = https_body(x->https, &len);
    if (!kbs_read_challenge(body, len, &x->challenge, err) ||
        !kbs_read_cookie(https_header(x->https, "Set-Cookie"), cookie, err))
        return wrap_kbs(x, err);
    (void)snprintf(x->cookie, sizeof(x->cookie), "Cookie: %s", cookie);
    return true;
}

/* --- evidence --- */

static bool collect(struct kbs_exchange *x, struct error *err)
{
    const struct attester_options options = { .tsm_root = x->options->tsm_root,
                                              .event_log = x->options->event_log,
                                              .deadline_ms = clock_now_ms() + QUOTE_MS };
    uint8_t report_data[KBS_REPORT_LEN];

    _Static_assert(KBS_REPORT_LEN == REPORT_DATA_LEN, "a quote has room for it");
    if (!jwe_key_generate(&x->key, err))
        return false;
    jwe_key_text(&x->key, x->jwk);
    if (!kbs_report_data(&x->challenge, x->jwk, report_data, err))
        return false;
    attester_tdx.sweep(&options);
    return attester_tdx.collect(&options, report_data, &x->evidence, err) ||
           error_wrap(err, "collect a quote for the KBS");
}

/* The KBS compares the log with the quote: one that does not fit is worth less than none. */
static bool has_good_log(const struct evidence *evidence)
{
    if (!evidence->event_log)
        return false;
    if (evidence->log_fault.code == ERROR_NONE && evidence->event_log_len <= EVENT_LOG_MAX)
        return true;
    log_warning("the event log is not sent to the KBS",
                TEXT("why", evidence->log_fault.code == ERROR_NONE ? "it is too large"
                                                                   : evidence->log_fault.text));
    return false;
}

static json_t *base64_json(const uint8_t *bytes, size_t len)
{
    auto_free char *text = malloc(BASE64_LEN(len) + 1);

    if (!text)
        return NULL;
    base64_encode(bytes, len, text);
    return json_string(text);
}

/* NULL without memory: json_pack() fails on a NULL of ours, and releases the rest. */
static char *make_attestation(const struct kbs_exchange *x)
{
    json_t *jwk = json_loads(x->jwk, 0, NULL);
    json_t *quote = base64_json(x->evidence.quote, x->evidence.quote_len);
    json_t *log = has_good_log(&x->evidence)
                      ? base64_json(x->evidence.event_log, x->evidence.event_log_len)
                      : json_null();
    auto_json json_t *all = json_pack("{s:n, s:{s:s, s:o}, s:{s:{s:o, s:o}, s:s}}", "init-data",
                                      "runtime-data", "nonce", x->challenge.nonce, "tee-pubkey",
                                      jwk, "tee-evidence", "primary_evidence", "quote", quote,
                                      "cc_eventlog", log, "additional_evidence", "");

    return all ? json_dumps(all, JSON_COMPACT) : NULL;
}

static bool attest(struct kbs_exchange *x, struct error *err)
{
    const char *const headers[] = { x->cookie, "Content-Type: application/json" };
    size_t len = 0;

    auto_free char *text = make_attestation(x);
    if (!text)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the evidence");
    const struct https_call call = {
        .body = text, .body_len = strlen(text), .headers = headers, .n_headers = ARRAY_LEN(headers)
    };
    if (!ask(x, "attest", &call, err))
        return false;
    const uint8_t *body = https_body(x->https, &len);
    return kbs_read_acceptance(body, len, err) || wrap_kbs(x, err);
}

/* --- the resource --- */

static bool is_zero(const struct secret *key)
{
    uint8_t all = 0;

    for (size_t i = 0; i < key->len; i++)
        all |= key->bytes[i];
    return all == 0;
}

static bool open_resource(struct kbs_exchange *x, struct secret *out, struct error *err)
{
    auto_secret struct secret plain = SECRET_INIT, key = SECRET_INIT;
    struct error why = ERROR_INIT;
    size_t len = 0;
    const uint8_t *body = https_body(x->https, &len);

    if (!jwe_open(&x->key, body, len, &plain, &why)) {
        if (why.code != ERROR_INVALID_ARGUMENT && why.code != ERROR_DENIED) {
            *err = why;
            return false;
        }
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "its answer is not the resource, encrypted to this TD: %s", why.text);
    }
    if (!master_key_take(&plain, &key, &why) || is_zero(&key))
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the resource is no master key: store its 32 bytes, or its 64 hex digits");
    *out = secret_take(&key);
    return true;
}

static bool take_resource(struct kbs_exchange *x, struct secret *out, struct error *err)
{
    const char *const headers[] = { x->cookie };
    const struct https_call call = { .headers = headers, .n_headers = ARRAY_LEN(headers) };
    char path[URL_MAX];

    (void)snprintf(path, sizeof(path), "resource%s", find_path(x->options->url));
    return ask(x, path, &call, err) && (open_resource(x, out, err) || wrap_kbs(x, err));
}

static bool run(const struct kbs_options *options, struct secret *out, struct error *err)
{
    const struct https_options https = { .ca_file = options->ca_file,
                                         .timeout_ms = TIMEOUT_MS,
                                         .body_max = ANSWER_MAX };
    auto_exchange struct kbs_exchange x = { .options = options, .key = JWE_KEY_INIT };

    return https_new(&https, &x.https, err) && take_challenge(&x, err) && collect(&x, err) &&
           attest(&x, err) && take_resource(&x, out, err);
}

/* A session that ended in between is made once more; a second loss is the server's fault. */
bool kbs_fetch(const struct kbs_options *options, struct secret *out, struct error *err)
{
    if (run(options, out, err))
        return true;
    if (err->code == ERROR_ABORTED && run(options, out, err))
        return true;
    if (err->code == ERROR_ABORTED)
        err->code = ERROR_UNAVAILABLE;
    return false;
}
