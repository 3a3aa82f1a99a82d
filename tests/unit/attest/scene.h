/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"
#include "tests/sim/forge.h"
#include "tests/unit/test.h"

/*
 * A simulated platform, a quote of it and the collateral for it: all right at first. A test changes
 * the one thing that is its subject, before the scene is judged.
 */
struct scene {
    struct sim_pki *pki, *own_pki; /* own_pki: NULL, or the one that pki is then */
    char *own_chain;               /* NULL, or what quoting.pck_pem is then */
    struct sim_platform platform;
    struct sim_machine *machine; /* made anew from platform by scene_replace_machine */
    struct sim_td td;
    struct sim_quoting quoting;
    struct sim_tcb tcb;
    struct trust_root root;
    int64_t now;
    struct pck_cache *cache; /* NULL: none */
    uint8_t quote[QUOTE_LEN_MAX];
    size_t quote_len;
    struct collateral_set set;    /* what scene_publish made of tcb */
    struct collateral collateral; /* what scene_judge loaded of it */
    bool is_verified; /* quote_verify itself said yes, whatever the strict default says */
    struct verified_quote verified;
    struct error err;
};

/* The PKI is made once for all scenes of the program. */
struct scene *scene_new(void);
void scene_free(struct scene **s);
#define auto_scene CLEANUP(scene_free)

/* A PKI that the test may change; the machine is made anew. */
void scene_own_pki(struct scene *s);
/* Another certificate for the PCK CA's key or the root's, in that own PKI; self-signed without an
 * issuer. The machine is made anew. */
void scene_replace_cert(struct scene *s, struct sim_identity *whose, const struct sim_cert *form,
                        const struct sim_identity *issuer);
void scene_replace_machine(struct scene *s);

/* The quote's chain; the scene owns it from now on. */
void scene_use_chain(struct scene *s, char *pem);
void scene_use_certs(struct scene *s, X509 *const *certs, size_t n);
/* A PCK certificate of this form, below the platform's CA, for the key of its own or another. With
 * another_ca the chain goes on with a second certificate of that CA. */
void scene_use_leaf(struct scene *s, const struct sim_cert *form, EVP_PKEY *key, bool another_ca);
void scene_sign(struct scene *s);    /* quote from machine, td and quoting */
void scene_publish(struct scene *s); /* set from tcb */

/* "" when collateral and quote are accepted by the strict default, else the reason's word. The
 * first loads the set anew; the second takes the collateral that is loaded. */
const char *scene_judge(struct scene *s);
const char *scene_judge_quote(struct scene *s, const uint8_t *quote, size_t len);

/* Where things are in a version 4 quote of scene_sign; in version 5 all behind the header is 6 bytes
 * further (and 64 more with a TD report 1.5). */
enum {
    AT_BODY = 48,
    AT_AUTH_LEN = 632,
    AT_SIGNATURE = 636,
    AT_KEY = 700,
    AT_OUTER_TYPE = 764,
    AT_OUTER_LEN = 766,
    AT_QE_REPORT = 770,
    AT_QE_SIGNATURE = 1154,
    AT_QE_AUTH_LEN = 1218,
    AT_QE_AUTH = 1220,
    AT_INNER_TYPE = 1252, /* with 32 bytes of authentication data */
    AT_INNER_LEN = 1254,
    AT_CHAIN = 1258,
};

/* Signs the QE report of a version 4 quote anew, after the attestation key in it was changed. */
void scene_resign_qe(struct scene *s);

/* Ends the test, naming the case, when the verdict is not the wanted one. */
void expect_verdict(const char *name, const char *verdict, const char *wanted);

/* scene_sign, scene_publish, scene_judge. */
const char *scene_run(struct scene *s);

/* Both documents with from replaced by to (once; it must be there), signed by key; NULL: by the TCB
 * signer. */
void scene_edit_tcb_info(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
void scene_edit_qe_identity(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
