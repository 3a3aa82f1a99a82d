/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/claims.h"
#include "tests/sim/forge.h"
#include "tests/unit/test.h"

/*
 * A simulated platform, a quote from it and the collateral for it. At first everything is right. A
 * test changes one thing, and then has the scene judged.
 */
struct scene {
    struct sim_pki *pki, *own_pki; /* own_pki: NULL, or this scene's own; freed with it */
    char *own_chain;               /* NULL, or the same as quoting.pck_pem; freed with the scene */
    struct sim_platform platform;
    struct sim_machine *machine; /* scene_replace_machine makes it again, from platform */
    struct sim_td td;
    struct sim_quoting quoting;
    struct sim_tcb tcb;
    struct trust_root root;
    int64_t now;
    struct pck_cache *cache; /* NULL: none */
    uint8_t quote[QUOTE_LEN_MAX];
    size_t quote_len;
    struct collateral_set set;    /* made by scene_publish from tcb */
    struct collateral collateral; /* loaded by scene_judge from set */
    bool is_verified; /* quote_verify accepted it; the strict default may have refused it */
    struct verified_quote verified;
    struct error err;
};

/* The PKI is made once for all scenes of the program. */
struct scene *scene_new(void);
void scene_free(struct scene **s);
#define auto_scene CLEANUP(scene_free)

/* Gives the scene its own PKI, which the test may change. Makes the machine again. */
void scene_own_pki(struct scene *s);
/* Makes another certificate for the key of the PCK CA or the root in the scene's own PKI. Without
 * an issuer it is self-signed. Makes the machine again. */
void scene_replace_cert(struct scene *s, struct sim_identity *whose, const struct sim_cert *form,
                        const struct sim_identity *issuer);
void scene_replace_machine(struct scene *s);

/* Sets the quote's chain. scene_use_chain takes ownership of pem. */
void scene_use_chain(struct scene *s, char *pem);
void scene_use_certs(struct scene *s, X509 *const *certs, size_t n);
/* Uses a chain with a PCK certificate of this form, which the platform's CA issued for key (NULL:
 * the machine's key). With another_ca the chain has a second certificate of that CA. */
void scene_use_leaf(struct scene *s, const struct sim_cert *form, EVP_PKEY *key, bool another_ca);
void scene_sign(struct scene *s);    /* makes quote from machine, td and quoting */
void scene_publish(struct scene *s); /* makes set from tcb */

/* Return "" when the strict default accepts collateral and quote, otherwise the reason's word.
 * scene_judge loads the set again; scene_judge_quote uses the loaded collateral. */
const char *scene_judge(struct scene *s);
const char *scene_judge_quote(struct scene *s, const uint8_t *quote, size_t len);

/* Offsets in a version 4 quote of scene_sign. In version 5 all offsets after the header are 6
 * higher, and those after the TD report 64 more with a TD report 1.5. */
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

/* Signs the QE report of a version 4 quote again, after its attestation key was changed. */
void scene_resign_qe(struct scene *s);

/* Ends the test with the case's name when the verdict is not the wanted verdict. */
void expect_verdict(const char *name, const char *verdict, const char *wanted);

/* scene_sign, scene_publish, scene_judge. */
const char *scene_run(struct scene *s);

/* Replaces from, which must be there, by to once in the document. Signs it with key; NULL: the TCB
 * signer's. */
void scene_edit_tcb_info(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
void scene_edit_qe_identity(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
