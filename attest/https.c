/* SPDX-License-Identifier: Apache-2.0 */
#include "attest/https.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <tdvol_config.h>

#define TIMEOUT_DEFAULT_MS 10000L
#define URL_MAX            2048

/* One answer's body, as it comes in. */
struct body {
    struct secret secret; /* when answers are secret: all of body_max */
    uint8_t *bytes;       /* otherwise: as much as came */
    size_t len;
    bool is_too_large, is_out_of_memory;
};

struct https {
    const struct https_options *options;
    CURL *handle;
    char problem[CURL_ERROR_SIZE];
    long status;
    struct body body;
};

static void url_free_at(CURLU **url)
{
    curl_url_cleanup(*url);
    *url = NULL;
}

static void curl_free_at(char **text)
{
    curl_free(*text);
    *text = NULL;
}

static void list_free_at(struct curl_slist **list)
{
    for (struct curl_slist *line = *list; line; line = line->next)
        bytes_wipe(line->data, strlen(line->data)); /* a token may be in it */
    curl_slist_free_all(*list);
    *list = NULL;
}

bool https_init(struct error *err)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ||
           error_set(err, ERROR_INTERNAL, "cannot start libcurl");
}

void https_done(void)
{
    curl_global_cleanup();
}

/* --- addresses --- */

/* Only addresses count, because a name could resolve to any machine. */
static bool host_is_loopback(const char *host)
{
    return strcmp(host, "[::1]") == 0 ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
}

static bool check_url(const char *text, bool *is_loopback, struct error *err)
{
    CLEANUP(url_free_at) CURLU *url = curl_url();
    CLEANUP(curl_free_at) char *scheme = NULL;
    CLEANUP(curl_free_at) char *host = NULL;

    if (!text || strlen(text) > URL_MAX / 2 || !url ||
        curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        return error_set(err, ERROR_INVALID_ARGUMENT, "%s is not an address like https://HOST:PORT",
                         text ? text : "\"\"");
    *is_loopback = strcmp(scheme, "http") == 0 && host_is_loopback(host);
    if (strcmp(scheme, "https") != 0 && !*is_loopback)
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s: use https://; http:// is allowed only to 127.0.0.0/8 or [::1]", text);
    return true;
}

bool https_check_url(const char *url, struct error *err)
{
    bool is_loopback = false;

    return check_url(url, &is_loopback, err);
}

static bool has_part(CURLU *url, CURLUPart part)
{
    CLEANUP(curl_free_at) char *text = NULL;

    return curl_url_get(url, part, &text, 0) == CURLUE_OK;
}

bool https_check_base(const char *url, struct error *err)
{
    CLEANUP(url_free_at) CURLU *parts = curl_url();

    if (!https_check_url(url, err))
        return false;
    /* A user name or password would be logged, and callers add paths and queries. */
    if (!parts || curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK ||
        has_part(parts, CURLUPART_USER) || has_part(parts, CURLUPART_PASSWORD) ||
        has_part(parts, CURLUPART_QUERY) || has_part(parts, CURLUPART_FRAGMENT))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "%s: the address must have no user, query or fragment", url);
    return true;
}

/* --- the handle --- */

static bool make_room(struct https *h, size_t more)
{
    struct body *body = &h->body;

    if (h->options->is_secret)
        return true;
    uint8_t *grown = realloc(body->bytes, body->len + more + 1);

    body->is_out_of_memory = !grown;
    if (grown)
        body->bytes = grown;
    return grown != NULL;
}

static uint8_t *body_bytes(const struct https *h)
{
    return h->options->is_secret ? h->body.secret.bytes : h->body.bytes;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *cookie)
{
    struct https *h = cookie;
    struct body *body = &h->body;
    size_t len = size * n;

    body->is_too_large = len > h->options->body_max - body->len;
    if (body->is_too_large || !make_room(h, len))
        return CURL_WRITEFUNC_ERROR;
    memcpy(body_bytes(h) + body->len, bytes, len);
    body->len += len;
    body_bytes(h)[body->len] = '\0';
    return len;
}

static int on_progress(void *cookie, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    const struct https_options *options = cookie;

    (void)down_total, (void)down, (void)up_total, (void)up;
    return options->is_cancelled && options->is_cancelled(options->cookie) ? 1 : 0;
}

static bool set_text(CURL *handle, CURLoption option, const char *value)
{
    return curl_easy_setopt(handle, option, value) == CURLE_OK;
}

static bool set_long(CURL *handle, CURLoption option, long value)
{
    return curl_easy_setopt(handle, option, value) == CURLE_OK;
}

static bool set_callbacks(struct https *h)
{
    CURL *c = h->handle;

    return curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->problem) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_WRITEDATA, h) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_XFERINFODATA, h->options) == CURLE_OK &&
           set_long(c, CURLOPT_NOPROGRESS, 0);
}

static bool set_limits(struct https *h)
{
    uint32_t timeout_ms = h->options->timeout_ms;
    CURL *c = h->handle;
    long ms = timeout_ms > 0 && timeout_ms < INT32_MAX ? (long)timeout_ms : TIMEOUT_DEFAULT_MS;

    return set_long(c, CURLOPT_TIMEOUT_MS, ms) && set_long(c, CURLOPT_CONNECTTIMEOUT_MS, ms) &&
           set_long(c, CURLOPT_NOSIGNAL, 1) && set_long(c, CURLOPT_FOLLOWLOCATION, 0) &&
           set_long(c, CURLOPT_SSL_VERIFYPEER, 1) && set_long(c, CURLOPT_SSL_VERIFYHOST, 2) &&
           set_long(c, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2) &&
           set_text(c, CURLOPT_USERAGENT, "tdvol/" TDVOL_VERSION);
}

/* With a CA file, only the CAs in it are trusted, not the system's. */
static bool set_trust(struct https *h)
{
    return !h->options->ca_file || (set_text(h->handle, CURLOPT_CAINFO, h->options->ca_file) &&
                                    set_text(h->handle, CURLOPT_CAPATH, NULL));
}

bool https_new(const struct https_options *options, struct https **out, struct error *err)
{
    auto_https struct https *h = calloc(1, sizeof(*h));

    if (!h)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "out of memory");
    h->options = options;
    if (options->is_secret && !secret_alloc(&h->body.secret, options->body_max + 1, err))
        return false;
    h->handle = curl_easy_init();
    if (!h->handle || !set_callbacks(h) || !set_limits(h) || !set_trust(h))
        return error_set(err, ERROR_INTERNAL, "cannot prepare a request");
    *out = TAKE_PTR(h);
    return true;
}

void https_free(struct https **https)
{
    struct https *h = *https;

    if (!h)
        return;
    curl_easy_cleanup(h->handle);
    secret_wipe(&h->body.secret);
    free(h->body.bytes);
    free(h);
    *https = NULL;
}

/* --- calls --- */

/* Says why the transfer ended without a whole answer. */
static bool transfer_failed(const struct https *h, CURLcode code, const char *url,
                            struct error *err)
{
    if (h->body.is_too_large)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s: the answer is larger than %zu bytes",
                         url, h->options->body_max);
    if (h->body.is_out_of_memory)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "%s: no memory for the answer", url);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return error_set(err, ERROR_CANCELLED, "%s: the request was cancelled", url);
    return error_set(err, ERROR_UNAVAILABLE, "%s: %s", url,
                     h->problem[0] ? h->problem : curl_easy_strerror(code));
}

static bool make_headers(const struct https_call *call, struct curl_slist **out)
{
    for (size_t i = 0; i < call->n_headers; i++) {
        struct curl_slist *longer = curl_slist_append(*out, call->headers[i]);

        if (!longer)
            return false;
        *out = longer;
    }
    return true;
}

static bool set_method(struct https *h, const struct https_call *call)
{
    CURL *c = h->handle;

    if (!call->body)
        return set_long(c, CURLOPT_HTTPGET, 1);
    return set_long(c, CURLOPT_POST, 1) &&
           curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)call->body_len) == CURLE_OK &&
           curl_easy_setopt(c, CURLOPT_POSTFIELDS, call->body) == CURLE_OK;
}

bool https_send(struct https *https, const struct https_call *call, struct error *err)
{
    struct https *h = https;
    CLEANUP(list_free_at) struct curl_slist *headers = NULL;
    bool is_loopback = false;

    h->status = 0;
    h->body.len = 0;
    h->body.is_too_large = h->body.is_out_of_memory = false;
    h->problem[0] = '\0';
    if (!check_url(call->url, &is_loopback, err))
        return false;
    if (!make_headers(call, &headers) || !set_text(h->handle, CURLOPT_URL, call->url) ||
        !set_text(h->handle, CURLOPT_PROTOCOLS_STR, is_loopback ? "http" : "https") ||
        !set_text(h->handle, CURLOPT_NOPROXY, is_loopback ? "*" : NULL) || !set_method(h, call) ||
        curl_easy_setopt(h->handle, CURLOPT_HTTPHEADER, headers) != CURLE_OK)
        return error_set(err, ERROR_INTERNAL, "cannot prepare a request");
    CURLcode code = curl_easy_perform(h->handle);
    (void)curl_easy_setopt(h->handle, CURLOPT_HTTPHEADER, NULL);
    if (code != CURLE_OK)
        return transfer_failed(h, code, call->url, err);
    (void)curl_easy_getinfo(h->handle, CURLINFO_RESPONSE_CODE, &h->status);
    return true;
}

long https_status(const struct https *https)
{
    return https->status;
}

const uint8_t *https_body(const struct https *https, size_t *len)
{
    static const uint8_t nothing[1] = { 0 };

    *len = https->body.len;
    return *len > 0 ? body_bytes(https) : nothing;
}

const char *https_header(const struct https *https, const char *name)
{
    struct curl_header *header = NULL;

    return curl_easy_header(https->handle, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK &&
                   header->amount == 1
               ? header->value
               : NULL;
}
