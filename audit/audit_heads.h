/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "ctl/broker.h"

#include "audit/audit_verify.h"

/* Where the audit logs of brokers end: from a broker, or from files that "audit heads" made. */
struct audit_heads {
    struct audit_known_head *heads;
    size_t n;
};
void audit_heads_free(struct audit_heads *heads);
#define auto_audit_heads CLEANUP(audit_heads_free)

/* Both add to what there is. A broker over etcd knows the heads of all its replicas. */
MUST_USE bool audit_heads_ask(struct broker_options *options, struct audit_heads *heads,
                              struct error *err);
MUST_USE bool audit_heads_read(const char *path, struct audit_heads *heads, struct error *err);
