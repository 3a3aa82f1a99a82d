/* SPDX-License-Identifier: Apache-2.0 */
/* The client for Intel's PCS and for a PCCS. Only this file uses libcurl. */
#include "attest/collateral_set.h"
#include "base/digest.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tdvol_config.h>

#define TIMEOUT_DEFAULT_MS 10000L
#define CHAIN_HEADER_MAX   ((size_t)64 * 1024)
#define URL_MAX            2048

enum { STATUS_OK = 200, STATUS_BAD_REQUEST = 400, STATUS_NOT_FOUND = 404, STATUS_GONE = 410 };

/* One answer's body, as it comes in. */
struct body {
    uint8_t *bytes;
    size_t len;
    bool is_too_large, is_out_of_memory;
};

struct pcs_client {
    const struct pcs_options *options;
    CURL *handle;
    char problem[CURL_ERROR_SIZE];
    long status; /* of the last answer; 0: there was none */
    struct body body;
};

static void client_free(struct pcs_client *c)
{
    curl_easy_cleanup(c->handle);
    free(c->body.bytes);
    *c = (struct pcs_client){ .status = 0 };
}

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

bool pcs_init(struct error *err)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ||
           error_set(err, ERROR_INTERNAL, "cannot start libcurl");
}

void pcs_done(void)
{
    curl_global_cleanup();
}

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

static bool has_part(CURLU *url, CURLUPart part)
{
    CLEANUP(curl_free_at) char *text = NULL;

    return curl_url_get(url, part, &text, 0) == CURLUE_OK;
}

/* A user name or password would be logged, and this file adds paths and queries itself. */
static bool check_base(const char *text, struct error *err)
{
    CLEANUP(url_free_at) CURLU *url = curl_url();
    bool is_loopback = false;

    if (!check_url(text, &is_loopback, err))
        return false;
    if (!url || curl_url_set(url, CURLUPART_URL, text, 0) != CURLUE_OK ||
        has_part(url, CURLUPART_USER) || has_part(url, CURLUPART_PASSWORD) ||
        has_part(url, CURLUPART_QUERY) || has_part(url, CURLUPART_FRAGMENT))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "a collateral service's address must have no user, query or fragment");
    return true;
}

bool pcs_options_check(const struct pcs_options *options, struct error *err)
{
    if (options->ca_file && options->ca_file[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "the name of the CA file is empty");
    return check_base(options->url, err) &&
           (!options->root_crl_url || check_base(options->root_crl_url, err));
}

static size_t on_body(char *bytes, size_t size, size_t n, void *cookie)
{
    struct body *body = cookie;
    size_t len = size * n;

    body->is_too_large = len > COLLATERAL_PART_MAX - body->len;
    if (body->is_too_large)
        return CURL_WRITEFUNC_ERROR;
    uint8_t *grown = realloc(body->bytes, body->len + len + 1);
    body->is_out_of_memory = !grown;
    if (!grown)
        return CURL_WRITEFUNC_ERROR;
    body->bytes = grown;
    memcpy(body->bytes + body->len, bytes, len);
    body->len += len;
    return len;
}

static int on_progress(void *cookie, curl_off_t down_total, curl_off_t down, curl_off_t up_total,
                       curl_off_t up)
{
    const struct pcs_options *options = cookie;

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

static bool set_callbacks(struct pcs_client *c)
{
    CURL *h = c->handle;

    return curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->problem) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_WRITEDATA, &c->body) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress) == CURLE_OK &&
           curl_easy_setopt(h, CURLOPT_XFERINFODATA, c->options) == CURLE_OK &&
           set_long(h, CURLOPT_NOPROGRESS, 0);
}

static bool set_limits(struct pcs_client *c)
{
    uint32_t timeout_ms = c->options->timeout_ms;
    CURL *h = c->handle;
    long ms = timeout_ms > 0 && timeout_ms < INT32_MAX ? (long)timeout_ms : TIMEOUT_DEFAULT_MS;

    return set_long(h, CURLOPT_TIMEOUT_MS, ms) && set_long(h, CURLOPT_CONNECTTIMEOUT_MS, ms) &&
           set_long(h, CURLOPT_NOSIGNAL, 1) && set_long(h, CURLOPT_FOLLOWLOCATION, 0) &&
           set_long(h, CURLOPT_SSL_VERIFYPEER, 1) && set_long(h, CURLOPT_SSL_VERIFYHOST, 2) &&
           set_long(h, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2) &&
           set_text(h, CURLOPT_USERAGENT, "tdvol/" TDVOL_VERSION);
}

/* With a CA file, only the CAs in it are trusted, not the system's. */
static bool set_trust(struct pcs_client *c)
{
    return !c->options->ca_file || (set_text(c->handle, CURLOPT_CAINFO, c->options->ca_file) &&
                                    set_text(c->handle, CURLOPT_CAPATH, NULL));
}

static bool client_open(struct pcs_client *c, struct error *err)
{
    c->handle = curl_easy_init();
    return (c->handle && set_callbacks(c) && set_limits(c) && set_trust(c)) ||
           error_set(err, ERROR_INTERNAL, "cannot prepare a request for collateral");
}

/* Says why the transfer ended without a whole answer. */
static bool transfer_failed(const struct pcs_client *c, CURLcode code, const char *url,
                            struct error *err)
{
    if (c->body.is_too_large)
        return error_set(err, ERROR_FAILED_PRECONDITION, "%s: the answer is larger than %zu bytes",
                         url, COLLATERAL_PART_MAX);
    if (c->body.is_out_of_memory)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "%s: no memory for the answer", url);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return error_set(err, ERROR_CANCELLED, "%s: the request was cancelled", url);
    return error_set(err, ERROR_UNAVAILABLE, "%s: %s", url,
                     c->problem[0] ? c->problem : curl_easy_strerror(code));
}

static bool check_status(const struct pcs_client *c, const char *url, struct error *err)
{
    enum error_code code = ERROR_FAILED_PRECONDITION;
    const char *advice = "this is not the answer of a PCS of version 4";

    if (c->status == STATUS_OK)
        return true;
    if (c->status == STATUS_NOT_FOUND) {
        code = ERROR_NOT_FOUND;
        advice = "the service does not know this platform or path";
    } else if (c->status == STATUS_GONE || c->status == 429 || c->status >= 500) {
        code = ERROR_UNAVAILABLE;
        advice = c->status == 429 ? "the service was asked too often; try again later"
                                  : "try again later";
    } else if (c->status >= 300 && c->status < 400) {
        advice = "redirects are not followed; use the address that it leads to";
    }
    return error_set(err, code, "%s: HTTP status %ld: %s", url, c->status, advice);
}

/* The body stays in c->body, the headers in the handle. */
static bool get(struct pcs_client *c, const char *url, struct error *err)
{
    bool is_loopback = false;

    c->status = 0;
    c->body.len = 0;
    c->body.is_too_large = c->body.is_out_of_memory = false;
    c->problem[0] = '\0';
    if (!check_url(url, &is_loopback, err))
        return false;
    if (!set_text(c->handle, CURLOPT_URL, url) ||
        !set_text(c->handle, CURLOPT_PROTOCOLS_STR, is_loopback ? "http" : "https") ||
        !set_text(c->handle, CURLOPT_NOPROXY, is_loopback ? "*" : NULL))
        return error_set(err, ERROR_INTERNAL, "cannot prepare a request for collateral");
    CURLcode code = curl_easy_perform(c->handle);
    if (code != CURLE_OK)
        return transfer_failed(c, code, url, err);
    (void)curl_easy_getinfo(c->handle, CURLINFO_RESPONSE_CODE, &c->status);
    return check_status(c, url, err);
}

static bool keep(struct arena *arena, const void *bytes, size_t len, struct bytes_view *out,
                 struct error *err)
{
    const uint8_t *copy = arena_memdup(arena, bytes, len);

    if (!copy)
        return arena_exhausted(err);
    *out = (struct bytes_view){ copy, len };
    return true;
}

static bool percent_decode(const char *text, char *out, size_t *out_len)
{
    size_t len = 0;

    for (; *text; text++) {
        uint8_t byte = (uint8_t)*text;

        if (*text == '%') {
            char digits[3] = "";

            memcpy(digits, text + 1, strnlen(text + 1, 2));
            if (!hex_decode(digits, &byte, 1))
                return false;
            text += 2;
        }
        if (byte == '\0' || byte >= 0x7f)
            return false;
        out[len++] = (char)byte;
    }
    *out_len = len;
    return true;
}

/* Keeps the chain of a signer, which is percent-encoded in a header. */
static bool keep_chain(struct pcs_client *c, const char *name, struct arena *arena,
                       struct bytes_view *out, struct error *err)
{
    struct curl_header *header = NULL;
    size_t len = 0;

    if (curl_easy_header(c->handle, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK ||
        header->amount != 1 || strlen(header->value) > CHAIN_HEADER_MAX)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the service's answer must have exactly one header %s; is this a PCS of "
                         "version 4?",
                         name);
    auto_free char *pem = malloc(strlen(header->value) + 1);
    if (!pem)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the answer");
    if (!percent_decode(header->value, pem, &len) || len == 0)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the service's header %s is not percent-encoded PEM", name);
    return keep(arena, pem, len, out, err);
}

static bool no_der(struct error *err)
{
    return error_set(err, ERROR_FAILED_PRECONDITION,
                     "the service's revocation list is not DER (PEM is refused): use a service "
                     "that supports encoding=der");
}

/* Keeps a list that is DER, or DER as hex digits, which some versions of PCCS send. */
static bool keep_list(struct pcs_client *c, struct arena *arena, struct bytes_view *out,
                      struct error *err)
{
    const uint8_t der_sequence = 0x30;
    struct body *body = &c->body;

    if (body->len > 0 && body->bytes[0] == der_sequence)
        return keep(arena, body->bytes, body->len, out, err);
    while (body->len > 0 && body->bytes[body->len - 1] == '\n')
        body->len--;
    if (body->len < 2 || body->len % 2 != 0)
        return no_der(err);
    body->bytes[body->len] = '\0'; /* on_body leaves room for this byte */
    uint8_t *der = arena_alloc(arena, body->len / 2);
    if (!der)
        return arena_exhausted(err);
    if (!hex_decode((const char *)body->bytes, der, body->len / 2) || der[0] != der_sequence)
        return no_der(err);
    *out = (struct bytes_view){ der, body->len / 2 };
    return true;
}

static bool get_below(struct pcs_client *c, const char *path, const char *query, struct error *err)
{
    const char *base = c->options->url;
    size_t base_len = strlen(base);
    char url[URL_MAX];

    while (base_len > 0 && base[base_len - 1] == '/')
        base_len--;
    int len = snprintf(url, sizeof(url), "%.*s%s%s", (int)base_len, base, path, query);
    if (len < 0 || (size_t)len >= sizeof(url))
        return error_set(err, ERROR_INVALID_ARGUMENT,
                         "the collateral service's address is too long");
    return get(c, url, err);
}

static bool fetch_lists(struct pcs_client *c, struct collateral_set *set, struct error *err)
{
    const char *root_url = c->options->root_crl_url;
    char query[64];

    (void)snprintf(query, sizeof(query), "?ca=%s&encoding=der", pck_ca_name(set->ca));
    if (!get_below(c, "/sgx/certification/v4/pckcrl", query, err) ||
        !keep_list(c, &set->memory, &set->source.pck_crl, err) ||
        !keep_chain(c, "SGX-PCK-CRL-Issuer-Chain", &set->memory, &set->source.pck_crl_chain, err))
        return error_wrap(err, "PCK revocation list");
    if (!root_url && strcmp(c->options->url, PCS_URL_INTEL) == 0)
        root_url = PCS_ROOT_CRL_INTEL;
    if (!(root_url ? get(c, root_url, err)
                   : get_below(c, "/sgx/certification/v4/rootcacrl", "", err)) ||
        !keep_list(c, &set->memory, &set->source.root_ca_crl, err))
        return error_wrap(err, "root revocation list");
    return true;
}

/* Fetches both documents together, because they must be from one TCB recovery. */
static bool fetch_documents(struct pcs_client *c, bool early, struct collateral_set *set,
                            struct error *err)
{
    const char *update = early ? "update=early" : "";
    char fmspc[2 * FMSPC_LEN + 1], query[64];

    hex_encode(set->fmspc, FMSPC_LEN, fmspc);
    (void)snprintf(query, sizeof(query), "?fmspc=%s%s%s", fmspc, early ? "&" : "", update);
    if (!get_below(c, "/tdx/certification/v4/tcb", query, err) ||
        !keep(&set->memory, c->body.bytes, c->body.len, &set->tcb_info_response, err) ||
        !keep_chain(c, "TCB-Info-Issuer-Chain", &set->memory, &set->source.tcb_info_chain, err))
        return error_wrap(err, "TCB info");
    (void)snprintf(query, sizeof(query), "%s%s", early ? "?" : "", update);
    if (!get_below(c, "/tdx/certification/v4/qe/identity", query, err) ||
        !keep(&set->memory, c->body.bytes, c->body.len, &set->qe_identity_response, err) ||
        !keep_chain(c, "SGX-Enclave-Identity-Issuer-Chain", &set->memory,
                    &set->source.qe_identity_chain, err))
        return error_wrap(err, "QE identity");
    return true;
}

/* A PCCS may not know the word "early", or may not have early data. Standard data is better than
 * none. */
static bool refuses_early(const struct pcs_client *c)
{
    return c->status == STATUS_BAD_REQUEST || c->status == STATUS_NOT_FOUND ||
           c->status == STATUS_GONE;
}

static bool fetch(struct pcs_client *c, struct collateral_set *set, struct error *err)
{
    bool early = c->options->early;

    if (!fetch_documents(c, early, set, err)) {
        if (!early || !refuses_early(c) || !fetch_documents(c, false, set, err))
            return false;
    }
    return fetch_lists(c, set, err);
}

bool pcs_fetch(const struct pcs_options *options, const uint8_t fmspc[static FMSPC_LEN],
               enum pck_ca ca, struct collateral_set *out, struct error *err)
{
    CLEANUP(client_free) struct pcs_client c = { .options = options };
    auto_collateral_set struct collateral_set set = { .ca = ca };

    arena_init(&set.memory, COLLATERAL_SET_MAX);
    memcpy(set.fmspc, fmspc, FMSPC_LEN);
    if (!pcs_options_check(options, err) || !client_open(&c, err) || !fetch(&c, &set, err))
        return error_wrap(err, "fetch collateral");
    if (!collateral_set_label(&set, err)) {
        err->code = ERROR_FAILED_PRECONDITION;
        return error_wrap(err, "fetch collateral from %s", options->url);
    }
    if (memcmp(set.fmspc, fmspc, FMSPC_LEN) != 0 || set.ca != ca)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "%s answers with another platform's collateral", options->url);
    *out = set;
    set = (struct collateral_set){ .ca = ca };
    return true;
}
