/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/attest/scene.h"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

static void revoked_certificates_are_refused(void **state)
{
    static const struct {
        const char *name;
        enum cert_role role;
        const char *reason;
    } cases[] = {
        { "PCK certificate", CERT_PCK_LEAF, "PckCertRevoked" },
        { "its CA", CERT_PCK_PLATFORM_CA, "PckCertRevoked" },
        { "the other CA", CERT_PCK_PROCESSOR_CA, "" },
        { "TCB signer", CERT_TCB_SIGNER, "CollateralSignerRevoked" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        auto_scene struct scene *s = scene_new();
        uint8_t serial[20], others[2][20] = { { 0x40, 1 }, { 0 } };

        if (cases[i].role == CERT_PCK_LEAF)
            sim_machine_serial(s->machine, serial);
        else
            sim_pki_serial(s->pki, cases[i].role, serial);
        memcpy(others[1], serial, sizeof(serial));
        s->tcb.revoked_serials = (const uint8_t(*)[20])others;
        s->tcb.n_revoked = 2;
        expect_verdict(cases[i].name, scene_run(s), cases[i].reason);
        others[1][19] ^= 1;
        expect_verdict("another serial number", scene_run(s), "");
    }
}

static void revocation_counts_for_cached_chains(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct error err = ERROR_INIT;
    uint8_t serial[1][20];

    (void)state;
    assert_true(pck_cache_new(4, &s->cache, &err));
    expect_verdict("before", scene_judge(s), "");
    expect_verdict("again", scene_judge_quote(s, s->quote, s->quote_len), "");
    sim_machine_serial(s->machine, serial[0]);
    s->tcb.revoked_serials = (const uint8_t(*)[20])serial;
    s->tcb.n_revoked = 1;
    scene_publish(s);
    expect_verdict("with new lists", scene_judge(s), "PckCertRevoked");
    pck_cache_free(s->cache);
}

/* --- lists of another kind, instead of the one for each issuer --- */

enum which { ROOT_LIST, PCK_LIST };

static void put_list(struct scene *s, enum which which, struct bytes_view list)
{
    if (which == ROOT_LIST)
        s->set.source.root_ca_crl = list;
    else
        s->set.source.pck_crl = list;
}

static struct sim_list good_list(const struct scene *s, enum which which)
{
    return (struct sim_list){ .issuer = which == ROOT_LIST ? &s->pki->root : &s->pki->pck_ca[0],
                              .from = s->tcb.crl_issued,
                              .until = s->tcb.crl_next_update,
                              .number = 1 };
}

static void as_it_should_be(struct scene *s, struct sim_list *list)
{
    (void)s;
    (void)list;
}
static void expired(struct scene *s, struct sim_list *list)
{
    list->until = s->now - 1;
}
static void of_the_future(struct scene *s, struct sim_list *list)
{
    list->from = s->now + 60;
}
static void without_next_update(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->until = 0;
}
static void without_number(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->number = 0;
}
static void delta(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->delta = true;
}
static void indirect(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->scope = "critical,indirectCRL:TRUE";
}
static void of_cas_only(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->scope = "critical,onlyCA:TRUE";
}
static void of_some_reasons(struct scene *s, struct sim_list *list)
{
    (void)s;
    list->scope = "critical,onlysomereasons:keyCompromise";
}
static void with_critical_entries(struct scene *s, struct sim_list *list)
{
    static const uint8_t serials[][20] = { { 0x40, 1 } };

    (void)s;
    list->serials = serials;
    list->n_serials = 1;
    list->critical_entries = true;
}
static void by_the_wrong_key(struct scene *s, struct sim_list *list)
{
    list->other_key = s->machine->pck.key;
}
static void by_the_processor_ca(struct scene *s, struct sim_list *list)
{
    list->issuer = &s->pki->pck_ca[PCK_CA_PROCESSOR];
}
static void by_the_tcb_signer(struct scene *s, struct sim_list *list)
{
    list->issuer = &s->pki->tcb_signer;
}

static void lists_of_another_kind_are_refused(void **state)
{
    static const struct {
        const char *name;
        void (*change)(struct scene *s, struct sim_list *list);
        const char *root_reason, *pck_reason;
    } cases[] = {
        { "unchanged", as_it_should_be, "", "" },
        { "expired", expired, "CrlExpired", "CrlExpired" },
        { "of the future", of_the_future, "CrlExpired", "CrlExpired" },
        { "without next update", without_next_update, "CrlMalformed", "CrlMalformed" },
        { "without number", without_number, "CrlMalformed", "CrlMalformed" },
        { "delta", delta, "CrlMalformed", "CrlMalformed" },
        { "indirect", indirect, "CrlMalformed", "CrlMalformed" },
        { "of CAs only", of_cas_only, "CrlMalformed", "CrlMalformed" },
        { "of some reasons", of_some_reasons, "CrlMalformed", "CrlMalformed" },
        { "with critical entries", with_critical_entries, "CrlMalformed", "CrlMalformed" },
        { "by the wrong key", by_the_wrong_key, "CrlUntrusted", "CrlUntrusted" },
        { "by the Processor CA", by_the_processor_ca, "CrlIssuer", "CrlIssuer" },
        { "by the TCB signer", by_the_tcb_signer, "CrlIssuer", "CrlIssuer" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        for (enum which which = ROOT_LIST; which <= PCK_LIST; which++) {
            auto_scene struct scene *s = scene_new();
            struct sim_list list = good_list(s, which);
            cases[i].change(s, &list);
            put_list(s, which, sim_list_make(&list, &s->set.memory));
            expect_verdict(cases[i].name, scene_judge(s),
                           which == ROOT_LIST ? cases[i].root_reason : cases[i].pck_reason);
        }
}

/* The name and the signature are the issuer's; the key identifier is that of another key. */
static void lists_that_name_another_key_are_refused(void **state)
{
    (void)state;
    for (enum which which = ROOT_LIST; which <= PCK_LIST; which++) {
        auto_scene struct scene *s = scene_new();
        struct sim_list list = good_list(s, which);
        const struct sim_cert form =
            sim_cert_form(which == ROOT_LIST ? SIM_ROOT : SIM_PCK_CA, PCK_CA_PLATFORM);
        EVP_PKEY *other_key = sim_key_new();
        const struct sim_identity other = {
            sim_cert_make(&form, other_key, which == ROOT_LIST ? NULL : &s->pki->root),
            list.issuer->key
        };

        list.issuer = &other;
        put_list(s, which, sim_list_make(&list, &s->set.memory));
        expect_verdict("another key", scene_judge(s), "CrlIssuer");
        X509_free(other.cert);
        EVP_PKEY_free(other_key);
    }
}

static void list_and_chain_of_no_pck_ca_are_refused(void **state)
{
    auto_scene struct scene *s = scene_new();
    struct sim_list list = good_list(s, PCK_LIST);

    (void)state;
    list.issuer = &s->pki->tcb_signer;
    put_list(s, PCK_LIST, sim_list_make(&list, &s->set.memory));
    s->set.source.pck_crl_chain = s->set.source.tcb_info_chain;
    expect_verdict("the TCB signer's", scene_judge(s), "CrlIssuer");
}

static void lists_of_the_other_ca_are_refused(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    /* list and chain agree with each other, but not with the quote */
    s->tcb.ca = PCK_CA_PROCESSOR;
    expect_verdict("Processor CA's for a Platform certificate", scene_run(s), "CrlIssuer");
}

static struct bytes_view as_pem(struct bytes_view der, struct arena *arena)
{
    const unsigned char *at = der.bytes;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)der.len);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
    long len = BIO_get_mem_data(bio, &text);
    struct bytes_view out = { arena_memdup(arena, text, (size_t)len), (size_t)len };
    BIO_free_all(bio);
    X509_CRL_free(crl);
    return out;
}

static void lists_that_are_not_der_are_refused(void **state)
{
    for (enum which which = ROOT_LIST; which <= PCK_LIST; which++) {
        auto_scene struct scene *s = scene_new();
        const struct bytes_view good =
            which == ROOT_LIST ? s->set.source.root_ca_crl : s->set.source.pck_crl;
        uint8_t longer[4096] = { 0 };
        (void)state;
        expect_verdict("before", scene_judge(s), "");
        put_list(s, which, (struct bytes_view){ NULL, 0 });
        expect_verdict("missing", scene_judge(s), "CrlMalformed");
        put_list(s, which, (struct bytes_view){ good.bytes, 0 });
        expect_verdict("empty", scene_judge(s), "CrlMalformed");
        put_list(s, which, as_pem(good, &s->set.memory));
        expect_verdict("PEM", scene_judge(s), "CrlMalformed");
        memcpy(longer, good.bytes, good.len);
        put_list(s, which, (struct bytes_view){ longer, good.len + 1 });
        expect_verdict("one byte more", scene_judge(s), "CrlMalformed");
        put_list(s, which, s->set.source.tcb_info);
        expect_verdict("JSON", scene_judge(s), "CrlMalformed");
        for (size_t len = 1; len < good.len; len++) {
            put_list(s, which, (struct bytes_view){ good.bytes, len });
            expect_verdict("cut", scene_judge(s), "CrlMalformed");
        }
    }
}

static void every_changed_byte_of_a_list_is_refused(void **state)
{
    auto_scene struct scene *s = scene_new();

    (void)state;
    for (enum which which = ROOT_LIST; which <= PCK_LIST; which++) {
        const struct bytes_view good =
            which == ROOT_LIST ? s->set.source.root_ca_crl : s->set.source.pck_crl;
        uint8_t *bytes = arena_memdup(&s->set.memory, good.bytes, good.len);
        put_list(s, which, (struct bytes_view){ bytes, good.len });
        for (size_t i = 0; i < good.len; i++) {
            bytes[i] ^= (uint8_t)(1u << i % 8);
            if (scene_judge(s)[0] == '\0')
                fail_msg("byte %zu was changed, and the list is accepted", i);
            bytes[i] ^= (uint8_t)(1u << i % 8);
        }
        expect_verdict("after", scene_judge(s), "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoked_certificates_are_refused),
        cmocka_unit_test(revocation_counts_for_cached_chains),
        cmocka_unit_test(lists_of_another_kind_are_refused),
        cmocka_unit_test(lists_that_name_another_key_are_refused),
        cmocka_unit_test(list_and_chain_of_no_pck_ca_are_refused),
        cmocka_unit_test(lists_of_the_other_ca_are_refused),
        cmocka_unit_test(lists_that_are_not_der_are_refused),
        cmocka_unit_test(every_changed_byte_of_a_list_is_refused),
    };

    return RUN_TESTS(tests);
}
