/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "blockd/relay.h"
#include "tests/sim/sim.h"

/*
 * A broker in a simulated TD, as far as it shows evidence, and the policy that it fits. A test changes
 * one thing. Functions end the process when they fail.
 */
struct vouching {
    struct sim_pki *pki;
    struct sim_platform platform;
    struct sim_machine *machine;
    struct sim_td td;
    struct sim_tcb tcb;
    char *bundle; /* the collateral; "" when the broker has none */
    char *policy; /* that the default TD fits */
};

void vouching_make(struct vouching *v);
void vouching_free(struct vouching *v);
/* The collateral again, from tcb. */
void vouching_publish(struct vouching *v);
/* Over this nonce, as of the broker with this key. The caller frees it. */
void vouching_show(struct vouching *v, const uint8_t *nonce, const uint8_t *key_sha256,
                   struct broker_evidence *out);
