/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "attest/identity.h"
#include "base/hpke.h"
#include "broker/attest_service.h"
#include "tests/sim/sim.h"
#include "tests/unit/broker/fixture.h"

#include "keybroker.pb-c.h"

/*
 * A broker with the collateral of a simulated platform, and Trust Domains on that platform that
 * attest to the broker. The policy has one image, the simulated default, and one rule for it.
 */
struct evidence_world {
    struct fixture f;
    struct claim_source_binding sources[2];
    struct sim_pki *pki;
    struct sim_machine *machine;
    struct collaterals *collaterals;
    struct arena arena; /* of all answers */
    char bundle_path[96], cache_path[96];
    const char *address; /* of the peer; "10.0.0.1" at first */
    bool session_reused;
};

/* The rule has tenant "td", volumes "*", nodes "*" and extra, such as "\"limits\":{...},". Without
 * "owner" in extra it accepts any owner. */
void evidence_start(struct evidence_world *w, const char *extra);
void evidence_stop(struct evidence_world *w);
void evidence_set_policy(struct evidence_world *w, const char *mrtd_hex, const char *extra);
/* Writes new collateral for the platform to the bundle. */
void evidence_publish(struct evidence_world *w, const struct sim_tcb *tcb);

struct evidence_client { /* a TD with both of its keys */
    struct identity identity;
    struct hpke_key_pair sealing;
    struct sim_td td;
};
void evidence_client_new(struct evidence_client *c);
void evidence_client_wipe(struct evidence_client *c);

/* NULL: refused, err says why. The answer is in the world's arena. */
const void *evidence_call(struct evidence_world *w, const struct evidence_client *c,
                          const char *method, const ProtobufCMessage *request, struct error *err);

/* One try to attest. The simulator signs quote; a test may then change it. */
struct evidence_try {
    uint8_t nonce[32], broker_key[32], sealing_key[32];
    uint8_t quote[QUOTE_LEN_MAX];
    size_t quote_len;
    uint8_t *event_log;
    size_t event_log_len;
    const char *tee, *owner_token, *owner_certificate; /* the last two may be NULL */
};
/* Asks for a nonce and makes the quote over everything. */
void evidence_prepare(struct evidence_world *w, struct evidence_client *c,
                      struct evidence_try *out);
void evidence_sign(struct evidence_world *w, struct evidence_client *c, struct evidence_try *t);
const Tdvol__Keybroker__V1__AttestResponse *evidence_attest(struct evidence_world *w,
                                                            const struct evidence_client *c,
                                                            struct evidence_try *t,
                                                            struct error *err);

/* The last line of the audit log; the caller frees it. */
char *evidence_last_line(struct evidence_world *w);

/* Calls of an attested client for a volume of driver "d", from node "n1" and boot "b1". */
const Tdvol__Keybroker__V1__CreateRecordResponse *evidence_create(struct evidence_world *w,
                                                                  const struct evidence_client *c,
                                                                  char *volume_id,
                                                                  struct error *err);
enum error_code evidence_open(struct evidence_world *w, const struct evidence_client *c,
                              char *volume_id, const uint8_t *sealing_key, struct error *err);
void evidence_erase(struct evidence_world *w, const struct evidence_client *c, char *volume_id);

/* One of each, for cmocka: *state is a struct evidence_scene. */
struct evidence_scene {
    struct evidence_world e;
    struct evidence_client td;
    struct evidence_try try;
};
int evidence_set_up(void **state);
int evidence_tear_down(void **state);
