/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "audit/audit_heads.h"
#include "ctl/broker.h"
#include "ctl/explanation.h"

/* What "audit verify" and "verify check" share: the judgement of audit logs, step by step. */
struct audit_judgement {
    struct steps *steps;
    struct audit_files files; /* not ordered yet */
    struct audit_heads heads; /* none: what they would prove is not proven */
    struct secret *roots;     /* likewise; the caller's */
    size_t n_roots;
    bool allow_restarts, complete; /* see the options */
    json_t *logs;                  /* out, and below: for each log an object is added */
    struct audit_verification result;
    bool is_refused;
    uint64_t lines;
};
MUST_USE bool audit_judge(struct audit_judgement *v, struct error *err);
void audit_judgement_done(struct audit_judgement *v);

/* Reads files with master or audit keys; *n: how many were read, also after an error. */
MUST_USE bool audit_read_keys(const struct option_list *paths, struct secret *out, size_t *n,
                              struct error *err);

/* What GetStatement answered. */
MUST_USE bool audit_statement_decode(const ProtobufCBinaryData *bytes, struct arena *arena,
                                     const Tdvol__Keybroker__V1__Statement **out,
                                     struct error *err);
MUST_USE bool audit_statement_heads(const Tdvol__Keybroker__V1__Statement *statement,
                                    struct audit_heads *heads, struct error *err);
