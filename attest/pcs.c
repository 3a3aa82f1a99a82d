/* SPDX-License-Identifier: Apache-2.0 */
/* The client for Intel's PCS and for a PCCS. */
#include "attest/collateral_set.h"
#include "attest/https.h"
#include "base/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_HEADER_MAX ((size_t)64 * 1024)
#define URL_MAX          2048

enum { STATUS_OK = 200, STATUS_BAD_REQUEST = 400, STATUS_NOT_FOUND = 404, STATUS_GONE = 410 };

struct pcs_client {
    const struct pcs_options *options;
    struct https_options https_options;
    struct https *https;
};

static void client_free(struct pcs_client *c)
{
    https_free(&c->https);
}

bool pcs_init(struct error *err)
{
    return https_init(err);
}

void pcs_done(void)
{
    https_done();
}

bool pcs_options_check(const struct pcs_options *options, struct error *err)
{
    if (options->ca_file && options->ca_file[0] == '\0')
        return error_set(err, ERROR_INVALID_ARGUMENT, "the name of the CA file is empty");
    return https_check_base(options->url, err) &&
           (!options->root_crl_url || https_check_base(options->root_crl_url, err));
}

static bool client_open(struct pcs_client *c, struct error *err)
{
    const struct pcs_options *o = c->options;

    c->https_options = (struct https_options){ .ca_file = o->ca_file,
                                               .timeout_ms = o->timeout_ms,
                                               .body_max = COLLATERAL_PART_MAX,
                                               .is_cancelled = o->is_cancelled,
                                               .cookie = o->cookie };
    return https_new(&c->https_options, &c->https, err) ||
           error_wrap(err, "a request for collateral");
}

static bool check_status(const struct pcs_client *c, const char *url, struct error *err)
{
    enum error_code code = ERROR_FAILED_PRECONDITION;
    const char *advice = "this is not the answer of a PCS of version 4";
    long status = https_status(c->https);

    if (status == STATUS_OK)
        return true;
    if (status == STATUS_NOT_FOUND) {
        code = ERROR_NOT_FOUND;
        advice = "the service does not know this platform or path";
    } else if (status == STATUS_GONE || status == 429 || status >= 500) {
        code = ERROR_UNAVAILABLE;
        advice =
            status == 429 ? "the service was asked too often; try again later" : "try again later";
    } else if (status >= 300 && status < 400) {
        advice = "redirects are not followed; use the address that it leads to";
    }
    return error_set(err, code, "%s: HTTP status %ld: %s", url, status, advice);
}

static bool get(struct pcs_client *c, const char *url, struct error *err)
{
    const struct https_call call = { .url = url };

    return https_send(c->https, &call, err) && check_status(c, url, err);
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
    const char *value = https_header(c->https, name);
    size_t len = 0;

    if (!value || strlen(value) > CHAIN_HEADER_MAX)
        return error_set(err, ERROR_FAILED_PRECONDITION,
                         "the service's answer must have exactly one header %s; is this a PCS of "
                         "version 4?",
                         name);
    auto_free char *pem = malloc(strlen(value) + 1);
    if (!pem)
        return error_set(err, ERROR_RESOURCE_EXHAUSTED, "no memory for the answer");
    if (!percent_decode(value, pem, &len) || len == 0)
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
    size_t len = 0;
    const uint8_t *body = https_body(c->https, &len);

    if (len > 0 && body[0] == der_sequence)
        return keep(arena, body, len, out, err);
    while (len > 0 && body[len - 1] == '\n')
        len--;
    if (len < 2 || len % 2 != 0)
        return no_der(err);
    auto_free char *digits = text_of_bytes(body, len);
    uint8_t *der = arena_alloc(arena, len / 2);
    if (!digits || !der)
        return arena_exhausted(err);
    if (!hex_decode(digits, der, len / 2) || der[0] != der_sequence)
        return no_der(err);
    *out = (struct bytes_view){ der, len / 2 };
    return true;
}

/* A whole answer. */
static bool keep_body(struct pcs_client *c, struct arena *arena, struct bytes_view *out,
                      struct error *err)
{
    size_t len = 0;
    const uint8_t *body = https_body(c->https, &len);

    return keep(arena, body, len, out, err);
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
        !keep_body(c, &set->memory, &set->tcb_info_response, err) ||
        !keep_chain(c, "TCB-Info-Issuer-Chain", &set->memory, &set->source.tcb_info_chain, err))
        return error_wrap(err, "TCB info");
    (void)snprintf(query, sizeof(query), "%s%s", early ? "?" : "", update);
    if (!get_below(c, "/tdx/certification/v4/qe/identity", query, err) ||
        !keep_body(c, &set->memory, &set->qe_identity_response, err) ||
        !keep_chain(c, "SGX-Enclave-Identity-Issuer-Chain", &set->memory,
                    &set->source.qe_identity_chain, err))
        return error_wrap(err, "QE identity");
    return true;
}

/* A PCCS may not know the word "early", or may not have early data. Standard data is better than
 * none. */
static bool refuses_early(const struct pcs_client *c)
{
    long status = https_status(c->https);

    return status == STATUS_BAD_REQUEST || status == STATUS_NOT_FOUND || status == STATUS_GONE;
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
