/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#include "base/digest.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct sim_pki *shared_pki;

static void drop_pki(void)
{
    sim_pki_free(shared_pki);
}

struct scene *scene_new(void)
{
    struct scene *s = calloc(1, sizeof(*s));

    assert_non_null(s);
    if (!shared_pki) {
        shared_pki = sim_pki_new();
        (void)atexit(drop_pki);
    }
    s->pki = shared_pki;
    s->platform = sim_platform_default;
    s->td = sim_td_default;
    s->quoting = sim_quoting_default;
    s->tcb = sim_tcb_default();
    s->root = *sim_pki_root(shared_pki);
    s->now = time(NULL);
    scene_replace_machine(s);
    scene_sign(s);
    scene_publish(s);
    return s;
}

void scene_free(struct scene **slot)
{
    struct scene *s = *slot;

    *slot = NULL;
    if (!s)
        return;
    collateral_free(&s->collateral);
    collateral_set_free(&s->set);
    sim_machine_free(s->machine);
    sim_pki_free(s->own_pki);
    free(s->own_chain);
    free(s);
}

void scene_own_pki(struct scene *s)
{
    sim_pki_free(s->own_pki);
    s->pki = s->own_pki = sim_pki_new();
    s->root = *sim_pki_root(s->pki);
    scene_replace_machine(s);
}

void scene_replace_cert(struct scene *s, struct sim_identity *whose, const struct sim_cert *form,
                        const struct sim_identity *issuer)
{
    X509 *cert = sim_cert_make(form, whose->key, issuer);

    X509_free(whose->cert);
    whose->cert = cert;
    if (whose == &s->own_pki->root)
        assert_true(cert_sha256(cert, s->root.sha256, &s->err));
    scene_replace_machine(s);
}

void scene_use_chain(struct scene *s, char *pem)
{
    free(s->own_chain);
    s->quoting.pck_pem = s->own_chain = pem;
}

void scene_use_certs(struct scene *s, X509 *const *certs, size_t n)
{
    scene_use_chain(s, sim_pem(certs, n));
}

void scene_use_leaf(struct scene *s, const struct sim_cert *form, EVP_PKEY *key, bool another_ca)
{
    const struct sim_identity *ca = &s->pki->pck_ca[s->platform.ca];
    const struct sim_cert ca_form = sim_cert_form(SIM_PCK_CA, s->platform.ca);
    X509 *leaf = sim_cert_make(form, key ? key : s->machine->pck.key, ca);
    X509 *second = sim_cert_make(&ca_form, ca->key, &s->pki->root);
    X509 *const certs[] = { leaf, another_ca ? second : ca->cert, s->pki->root.cert };

    scene_use_certs(s, certs, ARRAY_LEN(certs));
    X509_free(leaf);
    X509_free(second);
}

void scene_replace_machine(struct scene *s)
{
    sim_machine_free(s->machine);
    s->machine = sim_machine_new(s->pki, &s->platform);
}

void scene_sign(struct scene *s)
{
    s->quote_len = sim_quote(s->machine, &s->td, &s->quoting, s->quote);
}

void scene_publish(struct scene *s)
{
    collateral_set_free(&s->set);
    sim_collateral(s->pki, &s->tcb, &s->set);
}

/* A refusal must have a reason and a text, so that the caller can show and count it. */
static const char *reason_of(const struct error *err)
{
    if (err->code != ERROR_DENIED || err->reason[0] == '\0' || err->text[0] == '\0')
        fail_msg("a refusal without a reason: %s: %s", error_code_name(err->code), err->text);
    return err->reason;
}

const char *scene_judge_quote(struct scene *s, const uint8_t *quote, size_t len)
{
    struct quote parsed;
    struct tee_claims claims;
    const struct verify_request request = {
        .quote = &parsed, .collateral = &s->collateral, .now = s->now, .cache = s->cache
    };

    s->err = (struct error)ERROR_INIT;
    s->is_verified =
        quote_parse(quote, len, &parsed, &s->err) && quote_verify(&request, &s->verified, &s->err);
    if (s->is_verified &&
        tee_claims_from_td(&s->verified, &s->collateral, NULL, 0, &claims, &s->err) &&
        td_claims_check_acceptable(&claims.td, &s->err))
        return "";
    return reason_of(&s->err);
}

const char *scene_judge(struct scene *s)
{
    collateral_free(&s->collateral);
    s->err = (struct error)ERROR_INIT;
    if (!collateral_load(&s->set.source, &s->root, &s->collateral, &s->err))
        return reason_of(&s->err);
    return scene_judge_quote(s, s->quote, s->quote_len);
}

void scene_resign_qe(struct scene *s)
{
    uint8_t bound[P256_POINT_LEN + 1024];
    uint8_t *report = s->quote + AT_QE_REPORT;

    memcpy(bound, s->quote + AT_KEY, P256_POINT_LEN);
    memcpy(bound + P256_POINT_LEN, s->quoting.auth_data, s->quoting.auth_len);
    assert_true(sha256(bound, P256_POINT_LEN + s->quoting.auth_len, report + 320, &s->err));
    sim_sign(s->machine->pck.key, report, QE_REPORT_LEN, s->quote + AT_QE_SIGNATURE);
}

void expect_verdict(const char *name, const char *verdict, const char *wanted)
{
    if (strcmp(verdict, wanted) != 0)
        fail_msg("%s: the verdict is \"%s\", wanted \"%s\"", name, verdict, wanted);
}

const char *scene_run(struct scene *s)
{
    scene_sign(s);
    scene_publish(s);
    return scene_judge(s);
}

/* Returns text with from replaced by to, in the arena. */
static const char *edited(struct arena *arena, struct bytes_view text, const char *from,
                          const char *to)
{
    const uint8_t *at = memmem(text.bytes, text.len, from, strlen(from));

    if (!at)
        fail_msg("\"%s\" is not in the document", from);
    size_t before = (size_t)(at - text.bytes), skip = before + strlen(from);
    const char *out = arena_printf(arena, "%.*s%s%.*s", (int)before, (const char *)text.bytes, to,
                                   (int)(text.len - skip), (const char *)text.bytes + skip);
    assert_non_null(out);
    return out;
}

void scene_edit_tcb_info(struct scene *s, const char *from, const char *to, EVP_PKEY *key)
{
    struct collateral_source *source = &s->set.source;

    s->set.tcb_info_response = sim_response(
        &s->set.memory, "tcbInfo", edited(&s->set.memory, source->tcb_info, from, to),
        key ? key : s->pki->tcb_signer.key, &source->tcb_info, &source->tcb_info_signature_hex);
}

void scene_edit_qe_identity(struct scene *s, const char *from, const char *to, EVP_PKEY *key)
{
    struct collateral_source *source = &s->set.source;

    s->set.qe_identity_response = sim_response(
        &s->set.memory, "enclaveIdentity", edited(&s->set.memory, source->qe_identity, from, to),
        key ? key : s->pki->tcb_signer.key, &source->qe_identity,
        &source->qe_identity_signature_hex);
}
