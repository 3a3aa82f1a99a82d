/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/verify.h"
#include "tests/sim/forge.h"
#include "tests/unit/test.h"

/*
 * A simulated platform, a quote of it and the collateral for it: all right at first. A test changes
 * the one thing that is its subject, before the scene is judged.
 */
struct scene {
    struct sim_pki *pki;
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
    struct verified_quote verified;
    struct error err;
};

/* The PKI is made once for all scenes of the program. */
struct scene *scene_new(void);
void scene_free(struct scene **s);
#define auto_scene CLEANUP(scene_free)

void scene_replace_machine(struct scene *s);
void scene_sign(struct scene *s);    /* quote from machine, td and quoting */
void scene_publish(struct scene *s); /* set from tcb */

/* "" when collateral and quote are accepted by the strict default, else the reason's word. The
 * first loads the set anew; the second takes the collateral that is loaded. */
const char *scene_judge(struct scene *s);
const char *scene_judge_quote(struct scene *s, const uint8_t *quote, size_t len);

/* scene_sign, scene_publish, scene_judge. */
const char *scene_run(struct scene *s);

/* Both documents with from replaced by to (once; it must be there), signed by key; NULL: by the TCB
 * signer. */
void scene_edit_tcb_info(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
void scene_edit_qe_identity(struct scene *s, const char *from, const char *to, EVP_PKEY *key);
