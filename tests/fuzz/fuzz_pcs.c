/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/authority.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/attest/fake_pcs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The answers of a PCS, over a real connection. The first byte chooses one of four requests, and what
 * the rest of the input replaces in its answer: the value of the header that has the signer's chain,
 * the body, all headers, or the status and the body. Without a rest nothing is replaced.
 */

enum part { CHAIN, BODY, HEADERS, STATUS, PARTS };
enum { REQUESTS = 4, INPUT_MAX = 16384 };

static const struct {
    const char *path, *header;
} requests[REQUESTS] = {
    { "/tdx/certification/v4/tcb", "TCB-Info-Issuer-Chain" },
    { "/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain" },
    { "/sgx/certification/v4/pckcrl", "SGX-PCK-CRL-Issuer-Chain" },
    { "/sgx/certification/v4/rootcacrl", "X-None" },
};

struct change {
    unsigned request;
    enum part part;
    const uint8_t *bytes;
    size_t len;
    char headers[INPUT_MAX + 64];
};

static void edit(void *cookie, const char *path, struct fake_answer *answer)
{
    struct change *c = cookie;
    const char *header = requests[c->request].header;

    if (c->len == 0 ||
        strncmp(path, requests[c->request].path, strlen(requests[c->request].path)) != 0)
        return;
    if (c->part == STATUS) {
        answer->status = 100 + c->bytes[0] * 2;
        c->bytes++;
        c->len--;
    }
    if (c->part == BODY || c->part == STATUS) {
        answer->body = c->bytes;
        answer->len = c->len;
        return;
    }
    (void)snprintf(c->headers, sizeof(c->headers), "%s%s%.*s\r\n", c->part == CHAIN ? header : "",
                   c->part == CHAIN ? ": " : "", (int)c->len, (const char *)c->bytes);
    answer->extra_headers = c->headers;
    answer->chain_header = NULL;
}

static void check_chain(struct bytes_view chain)
{
    if (chain.len == 0)
        abort();
    for (size_t i = 0; i < chain.len; i++)
        if (chain.bytes[i] == 0 || chain.bytes[i] >= 0x7f)
            abort();
}

static void check_set(const struct collateral_set *set)
{
    const struct collateral_source *s = &set->source;
    auto_collateral struct collateral loaded = { .root = NULL };
    struct error err = ERROR_INIT;

    check_chain(s->pck_crl_chain);
    check_chain(s->tcb_info_chain);
    check_chain(s->qe_identity_chain);
    if (s->pck_crl.len < 1 || s->pck_crl.bytes[0] != 0x30 || s->root_ca_crl.len < 1 ||
        s->root_ca_crl.bytes[0] != 0x30 || set->ca != PCK_CA_PLATFORM)
        abort();
    if (!collateral_load(s, sim_pki_root(authority_pki()), &loaded, &err) &&
        (err.code != ERROR_DENIED || err.reason[0] == '\0'))
        abort();
}

static struct fake_pcs *service(struct change *change)
{
    static struct fake_pcs *pcs;
    static struct collateral_set good;
    const struct sim_tcb tcb = sim_tcb_default();
    struct error err = ERROR_INIT;

    if (pcs)
        return pcs;
    if (!pcs_init(&err))
        abort();
    sim_collateral(authority_pki(), &tcb, &good);
    pcs = fake_pcs_start();
    fake_pcs_serve(pcs, &good);
    fake_pcs_edit(pcs, edit, change);
    return pcs;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static struct change change;
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PROCESSOR };
    struct error err = ERROR_INIT;

    if (len == 0 || len > INPUT_MAX)
        return 0;
    change.request = bytes[0] % REQUESTS;
    change.part = bytes[0] / REQUESTS % PARTS;
    change.bytes = bytes + 1;
    change.len = len - 1;
    const struct pcs_options options = { .url = service(&change)->url, .timeout_ms = 2000 };
    if (pcs_fetch(&options, sim_platform_default.fmspc, PCK_CA_PLATFORM, &set, &err))
        check_set(&set);
    else if (err.code == ERROR_NONE || err.text[0] == '\0' || len == 1)
        abort();
    return 0;
}
