/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/digest.h"
#include "tests/sim/forge.h"
#include "tests/sim/pccs.h"

#include <inttypes.h>
#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

enum { DAY = 24 * 3600, STALE_DAYS = 60 };

struct pccs_fault {
    const char *name, *help;
    unsigned status; /* instead of 200 */
    enum pccs_transport transport;
    bool is_stale, is_rolled_back;
    void (*encode_list)(struct pccs_answer *answer); /* encodes a revocation list, from DER */
    void (*spoil)(struct pccs_answer *answer, const struct collateral_source *all);
};

static void set_body(struct pccs_answer *answer, const void *bytes, size_t len)
{
    free(answer->body);
    answer->body = malloc(len + 1);
    SIM_MUST(answer->body);
    if (len > 0)
        memcpy(answer->body, bytes, len);
    answer->len = len;
}

static void set_text(struct pccs_answer *answer, unsigned status, const char *text)
{
    answer->status = status;
    answer->type = "text/plain";
    set_body(answer, text, strlen(text));
}

static void set_chain(struct pccs_answer *answer, struct bytes_view chain)
{
    free(answer->chain);
    answer->chain = calloc(chain.len + 1, 1);
    if (answer->chain)
        memcpy(answer->chain, chain.bytes, chain.len);
    SIM_MUST(answer->chain);
}

static void list_as_pem(struct pccs_answer *answer)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    SIM_MUST(bio && PEM_write_bio(bio, "X509 CRL", "", answer->body, (long)answer->len) > 0);
    long len = BIO_get_mem_data(bio, &text);
    set_body(answer, text, (size_t)len);
    answer->type = "application/x-pem-file";
    BIO_free_all(bio);
}

static void list_as_hex(struct pccs_answer *answer)
{
    char *hex = malloc(2 * answer->len + 1);

    SIM_MUST(hex);
    hex_encode(answer->body, answer->len, hex);
    set_body(answer, hex, strlen(hex));
    free(hex);
}

static void cut_in_half(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    answer->len /= 2;
}

static void empty(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    answer->len = 0;
}

static void drop_header(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    answer->chain_header = NULL;
}

/* A chain of this PKI, but another signer's. */
static void swap_header(struct pccs_answer *answer, const struct collateral_source *all)
{
    bool is_list = answer->chain_header && strstr(answer->chain_header, "CRL");

    if (answer->chain_header)
        set_chain(answer, is_list ? all->tcb_info_chain : all->pck_crl_chain);
}

static void break_header(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    static const char words[] = "-----BEGIN CERTIFICATE-----\n%%% no base64\n";

    if (answer->chain_header)
        set_chain(answer, (struct bytes_view){ (const uint8_t *)words, sizeof(words) - 1 });
}

/* Changes one digit in the middle of the signed bytes, or one bit of a list. */
static void forge_body(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    char *number = answer->len > 0 && answer->body[0] == '{'
                       ? memmem(answer->body, answer->len, "tcbEvaluationDataNumber\":", 25)
                       : NULL;

    if (number)
        number[25] = number[25] == '9' ? '8' : '9';
    else if (answer->len > 0)
        answer->body[answer->len / 2] ^= 1;
}

static void html(struct pccs_answer *answer, const struct collateral_source *all UNUSED)
{
    set_text(answer, 200, "<html><body>Please log in.</body></html>\n");
    answer->type = "text/html";
}

static const struct pccs_fault faults[] = {
    { "none", "all is well" },
    { "400", "status 400", .status = 400 },
    { "401", "status 401", .status = 401 },
    { "404", "status 404, as for an unknown FMSPC", .status = 404 },
    { "410", "status 410, as for an evaluation number that is no longer served", .status = 410 },
    { "429", "status 429", .status = 429 },
    { "500", "status 500", .status = 500 },
    { "503", "status 503", .status = 503 },
    { "slow", "answers ms milliseconds late", .transport = PCCS_SLOW },
    { "hang", "does not answer until the fault is changed", .transport = PCCS_HANG },
    { "truncated", "the connection ends after half of the answer", .transport = PCCS_TRUNCATED },
    { "huge", "answers with 64 MiB of spaces", .transport = PCCS_HUGE },
    { "redirect", "302 to a page that has the right answer", .status = 302,
      .transport = PCCS_REDIRECT },
    { "stale", "all was issued 60 days earlier, so normally it has expired", .is_stale = true },
    { "rollback", "evaluation and list numbers are lower by 1", .is_rolled_back = true },
    { "pem-crl", "revocation lists are always PEM", .encode_list = list_as_pem },
    { "hex-crl", "revocation lists are DER in hex, as some PCCS have them",
      .encode_list = list_as_hex },
    { "half", "the body has half of its bytes, and its header gives this length",
      .spoil = cut_in_half },
    { "empty", "the body is empty", .spoil = empty },
    { "html", "the body is a page for humans", .spoil = html },
    { "forged", "the signed data was changed after it was signed", .spoil = forge_body },
    { "no-header", "the header with the issuer chain is missing", .spoil = drop_header },
    { "wrong-header", "the issuer chain is another signer's", .spoil = swap_header },
    { "bad-header", "the issuer chain is not PEM", .spoil = break_header },
};

const struct pccs_fault *pccs_fault_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        if (strcmp(faults[i].name, name) == 0)
            return &faults[i];
    return NULL;
}

const char *pccs_fault_name(const struct pccs_fault *fault)
{
    return fault->name;
}

enum pccs_transport pccs_fault_transport(const struct pccs_fault *fault)
{
    return fault->transport;
}

void pccs_print_faults(void)
{
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        printf("  %-15s  %s\n", faults[i].name, faults[i].help);
}

void pccs_answer_free(struct pccs_answer *answer)
{
    free(answer->chain);
    free(answer->body);
    answer->chain = NULL;
    answer->body = NULL;
}

static const char *argument(const struct pccs_request *request, const char *name)
{
    return request->argument(request->cookie, name);
}

static bool argument_is(const struct pccs_request *request, const char *name, const char *value)
{
    const char *given = argument(request, name);

    return given && strcasecmp(given, value) == 0;
}

static void list_page(const struct pccs_request *request, const struct pccs_fault *fault,
                      bool is_pem_default, struct bytes_view der, struct pccs_answer *out)
{
    out->status = 200;
    out->type = "application/pkix-crl";
    set_body(out, der.bytes, der.len);
    if (fault->encode_list)
        fault->encode_list(out);
    else if (is_pem_default && !argument_is(request, "encoding", "der"))
        list_as_pem(out);
}

static void pck_crl_page(const struct pccs_request *request, const struct pccs_fault *fault,
                         const struct collateral_set *set, struct pccs_answer *out)
{
    if (!argument_is(request, "ca", "platform") && !argument_is(request, "ca", "processor")) {
        set_text(out, 400, "ca must be platform or processor\n");
        return;
    }
    list_page(request, fault, true, set->source.pck_crl, out);
    out->chain_header = "SGX-PCK-CRL-Issuer-Chain";
    set_chain(out, set->source.pck_crl_chain);
}

static void root_crl_page(const struct pccs_request *request, const struct pccs_fault *fault,
                          const struct collateral_set *set, struct pccs_answer *out)
{
    list_page(request, fault, false, set->source.root_ca_crl, out);
}

/* update and tcbEvaluationDataNumber exclude each other; only one number is served. */
static bool is_served(const struct pccs_request *request, uint64_t evaluation,
                      struct pccs_answer *out)
{
    const char *update = argument(request, "update");
    const char *wanted = argument(request, "tcbEvaluationDataNumber");
    uint64_t number = 0;

    if (update && strcmp(update, "early") != 0 && strcmp(update, "standard") != 0)
        set_text(out, 400, "update must be early or standard\n");
    else if (wanted && (update || !parse_u64(wanted, &number)))
        set_text(out, 400, "tcbEvaluationDataNumber must be a number, without update\n");
    else if (wanted && number < evaluation)
        set_text(out, 410, "this tcbEvaluationDataNumber is no longer served\n");
    else if (wanted && number > evaluation)
        set_text(out, 404, "no such tcbEvaluationDataNumber\n");
    else
        return true;
    return false;
}

static void signed_page(const char *header, struct bytes_view response, struct bytes_view chain,
                        struct pccs_answer *out)
{
    out->status = 200;
    out->type = "application/json";
    out->chain_header = header;
    set_body(out, response.bytes, response.len);
    set_chain(out, chain);
}

static void tcb_page(const struct pccs_request *request, const struct pccs_fault *fault UNUSED,
                     const struct collateral_set *set, struct pccs_answer *out)
{
    char fmspc[2 * FMSPC_LEN + 1];
    const char *wanted = argument(request, "fmspc");

    hex_encode(set->fmspc, FMSPC_LEN, fmspc);
    if (!wanted || strlen(wanted) != 2 * FMSPC_LEN)
        set_text(out, 400, "fmspc must be 12 hex digits\n");
    else if (strcasecmp(wanted, fmspc) != 0)
        set_text(out, 404, "no such fmspc\n");
    else
        signed_page("TCB-Info-Issuer-Chain", set->tcb_info_response, set->source.tcb_info_chain,
                    out);
}

static void qe_page(const struct pccs_request *request UNUSED,
                    const struct pccs_fault *fault UNUSED, const struct collateral_set *set,
                    struct pccs_answer *out)
{
    signed_page("SGX-Enclave-Identity-Issuer-Chain", set->qe_identity_response,
                set->source.qe_identity_chain, out);
}

static const struct page {
    const char *path;
    void (*make)(const struct pccs_request *request, const struct pccs_fault *fault,
                 const struct collateral_set *set, struct pccs_answer *out);
} pages[] = {
    { "/sgx/certification/v4/pckcrl", pck_crl_page },
    { "/sgx/certification/v4/rootcacrl", root_crl_page },
    { "/IntelSGXRootCA.der", root_crl_page },
    { "/tdx/certification/v4/tcb", tcb_page },
    { "/tdx/certification/v4/qe/identity", qe_page },
};

static const struct page *find_page(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        if (strcmp(pages[i].path, path) == 0)
            return &pages[i];
    return NULL;
}

static void make_set(const struct sim_pki *pki, const struct collateral_options *options,
                     const struct pccs_fault *fault, enum pck_ca ca, struct collateral_set *out)
{
    struct collateral_plan plan;
    struct error err = ERROR_INIT;

    if (!collateral_plan_make(options, &plan, &err))
        sim_die(err.text); /* the start has checked the options */
    struct sim_tcb *tcb = &plan.tcb;
    tcb->ca = ca;
    if (fault->is_stale) {
        tcb->issued -= STALE_DAYS * DAY;
        tcb->next_update -= STALE_DAYS * DAY;
        tcb->crl_issued -= STALE_DAYS * DAY;
        tcb->crl_next_update -= STALE_DAYS * DAY;
    }
    if (fault->is_rolled_back) {
        tcb->tcb_evaluation_number--;
        tcb->qe_evaluation_number--;
        tcb->crl_number -= tcb->crl_number > 1 ? 1 : 0; /* 0 would mean no number */
    }
    sim_collateral(pki, tcb, out);
}

struct pccs_answer pccs_answer_make(const struct sim_pki *pki,
                                    const struct collateral_options *options,
                                    const struct pccs_fault *fault,
                                    const struct pccs_request *request)
{
    auto_collateral_set struct collateral_set set = { .ca = PCK_CA_PLATFORM };
    struct pccs_answer out = { .status = 404 };
    const struct page *page = find_page(request->path);
    bool is_processor = argument_is(request, "ca", "processor");

    if (!page) {
        set_text(&out, 404, "no such page\n");
        return out;
    }
    if (fault->status != 0) {
        set_text(&out, fault->status, "this is the fault that was set\n");
        return out;
    }
    make_set(pki, options, fault, is_processor ? PCK_CA_PROCESSOR : PCK_CA_PLATFORM, &set);
    if (is_served(request, options->evaluation, &out))
        page->make(request, fault, &set, &out);
    if (fault->spoil && out.status == 200)
        fault->spoil(&out, &set.source);
    return out;
}
