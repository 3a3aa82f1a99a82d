/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "broker/broker.h"
#include "lifecycle/lifecycle.h"
#include "tests/unit/record/broker_end.h"
#include "tests/unit/test.h"

/* Records in each phase, and a broker without network. The text of a client's certificate is its
 * name: "node", "controller", "admin", ... The client CA did not sign "self" and PEM texts. */

#define MIB   (1024ull * 1024)
#define GIB   (1024 * MIB)
#define NOW   1000000ull
#define LIMIT 600000ull /* of a format attempt */

extern const struct record_fresh fixture_fresh;
extern const struct record_keeping fixture_not_kept;
struct volume_spec fixture_spec(void);
/* The spec as CreateRecord takes it, in a buffer of the fixture. */
ProtobufCBinaryData fixture_spec_bytes(const struct volume_spec *spec);
struct record_holder fixture_holder(const char *node, const char *boot_id);
/* Tenant t, driver d, volume v, version 7. READY and DELETING are formatted; no lease. */
struct record fixture_record(enum record_phase phase);

struct fixture {
    struct broker broker;
    struct secret master;
    struct broker_end end; /* whose certificate and key the broker has */
    char dir[64];          /* temporary; holds audit.jsonl */
    char audit_path[96];
};
void fixture_start(struct fixture *f); /* memory store, open; the log has the line "begun" */
/* Checks the whole log with its key; returns the number of its last line. */
uint64_t fixture_audit_lines(const struct fixture *f);
extern uint64_t fixture_now_ms; /* of both clocks; fixture_start sets it to NOW */
void fixture_stop(struct fixture *f);

/* One whole call of a client, by the name of its certificate. Returns the answer, in the arena; NULL
 * with *why. */
const void *fixture_call(struct fixture *f, struct arena *arena, const char *client,
                         const char *method, const ProtobufCMessage *request, struct error *why);

extern const struct claim_source fixture_source;
