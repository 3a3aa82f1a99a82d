/* SPDX-License-Identifier: Apache-2.0 */
#include "ctl/explanation.h"

#include "attest/trust_root.h"
#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { QUOTE_FILE_MAX = 64 * 1024 * 1024 };

bool explanation_use_test_root(const char *path, struct error *err)
{
    if (!path)
        return true;
#ifdef TDVOL_SIMULATOR
    if (!trust_root_load_test(path, err))
        return false;
    fprintf(stderr, "tdvolctl: %s: %s\n", TRUST_ROOT_TEST_WARNING, path);
    return true;
#else
    return error_set(err, ERROR_UNIMPLEMENTED, "this build does not accept a test root");
#endif
}

void steps_start(struct steps *steps, bool json)
{
    *steps = (struct steps){
        .json = json, .list = json_array(), .advisories = json_array(), .tcb_status = ""
    };
}

void steps_end(struct steps *steps)
{
    json_decref(steps->list);
    json_decref(steps->advisories);
    *steps = (struct steps){ .list = NULL };
}

void steps_add(struct steps *steps, const char *rule, const char *name, bool ok, const char *detail)
{
    if (steps->json)
        (void)json_array_append_new(steps->list,
                                    json_pack("{ss*, ss, sb, ss*}", "rule", rule, "step", name,
                                              "ok", ok, "detail", detail));
    else
        printf("  %-7s %s%s%s\n", ok ? "ok" : "REFUSED", name, detail ? ": " : "",
               detail ? detail : "");
}

static void steps_on_verify(void *cookie, const char *name, bool ok, const char *detail,
                            const struct verified_quote *so_far)
{
    struct steps *steps = cookie;
    const struct advisories *advisories = &so_far->tcb.advisories;

    if (strcmp(name, VERIFY_STEP_STRUCTURE) == 0 && ok)
        steps->quote = so_far->quote;
    /* the TCB level is known even when it is the reason for a refusal */
    if (strcmp(name, VERIFY_STEP_TCB) == 0) {
        steps->tcb_status = tcb_status_name(so_far->tcb.status);
        for (size_t i = 0; i < advisories->n; i++)
            (void)json_array_append_new(steps->advisories, json_string(advisories->ids[i]));
    }
    steps_add(steps, NULL, name, ok, detail);
}

void explained_quote_free(struct explained_quote *quote)
{
    collateral_free(&quote->collateral);
    free(quote->bytes);
    quote->bytes = NULL;
}

/* The folder of a path, for files that lie beside it. */
static void folder_of(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');

    (void)snprintf(out, size, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
}

bool explained_quote_load(const char *quote_path, const char *collateral_folder,
                          struct explained_quote *out, struct error *err)
{
    char folder[4096];

    if (!file_read(quote_path, QUOTE_FILE_MAX, &out->bytes, &out->len, err))
        return false;
    folder_of(quote_path, folder, sizeof(folder));
    return collateral_load_folder(collateral_folder ? collateral_folder : folder,
                                  trust_root_default, &out->collateral, err);
}

static bool lend(void *cookie, const struct quote *quote, const struct collateral **out,
                 struct error *err)
{
    (void)quote, (void)err;
    *out = cookie;
    return true;
}

static void take_back(void *cookie, const struct collateral *collateral)
{
    (void)cookie, (void)collateral;
}

bool explained_quote_verify(const struct explained_quote *quote, struct bytes_view event_log,
                            int64_t now, struct steps *steps, struct tee_claims *out,
                            struct error *err)
{
    const struct verify_trace trace = { .step = steps_on_verify, .cookie = steps };
    const struct verifier_request request = {
        .quote = { (const uint8_t *)quote->bytes, quote->len },
        .event_log = event_log,
        .lender = { lend, take_back, (void *)(uintptr_t)&quote->collateral },
        .now = now,
        .trace = &trace,
    };

    return verifier_tdx.verify(&request, out, err);
}
